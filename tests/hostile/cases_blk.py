"""Abuse of a drive's requests, G14, G35 to G40, G51 and G52, and of its image from outside, H4, H5 and H20."""
import os
import signal

from suite import family
from virtio import ADFO, CONFIG, INDIRECT, QUEUE_NOTIFY, STATUS, TRANSPORT, WRITE, Drive, Driver

U64 = (1 << 64) - 1
DISCARD, WRITE_ZEROES, SECURE_ERASE = 11, 13, 14
MIB, GIB = 1 << 20, 1 << 30
LARGE = 0x3000000  # 16 MiB of guest memory


@family(Drive, every=True)
def sectors(suite, dev):
    """IOERR beyond the end, and nothing is written but the status, which counts if there is no data before it."""
    end = dev.sectors
    edges = [end, end + 1, end + 7, 2 * end + 1, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 32) + 1]
    edges += [(1 << 54) - 1, 1 << 54, 1 << 55, (1 << 55) + 1, (1 << 55) - 1, 1 << 62]
    edges += [(1 << 63) - 1, 1 << 63, U64 - 1, U64]
    for kind, name in ((Drive.IN, "read"), (Drive.OUT, "write")):
        for sector in dict.fromkeys(edges):
            for length in (512, 4096, 65536):
                with suite.case(dev, f"{name} {length} bytes at sector {sector:#x}", "G35") as d:
                    d.up().b.fill(d.q.data, 512, 0x1111)
                    d.request(kind, sector, length, status=Drive.IOERR, used_len=kind)
                    d.b.expect(d.q.data, 0x1111, 8)
        for length in (1024, 4096, 65536):
            if length // 512 <= end:
                with suite.case(dev, f"{name} {length} bytes over the end", "G35") as d:
                    d.up().request(kind, end - length // 512 + 1, length, status=Drive.IOERR, used_len=kind)
        if end:
            with suite.case(dev, f"{name} the last sector", "G35") as d:
                right = Drive.IOERR if dev.read_only and kind == Drive.OUT else Drive.OK
                d.up().request(kind, end - 1, 512, status=right)


@family(Drive)
def lengths(suite, dev):
    odd = [1, 2, 3, 8, 15, 16, 17, 100, 255, 256, 257, 500, 510, 511, 513, 514, 520, 767, 1000, 1023, 1025, 1536 + 1]
    odd += [4095, 4097, 65535, 65537, 0x3FFFF]
    for kind, name in ((Drive.IN, "read"), (Drive.OUT, "write")):
        for length in odd:
            for indirect in (False, True):
                way = "indirect" if indirect else "direct"
                with suite.case(dev, f"{name} of {length} bytes, {way}", "G35") as d:
                    d.up().request(kind, 1024, length, status=Drive.IOERR, used_len=kind, indirect=indirect)
        for length in (0, 512, 1024, 65536, 0x40000):
            with suite.case(dev, f"{name} of {length} bytes, which is fine", "G35") as d:
                d.up().request(kind, 1024, length, status=Drive.OK)


@family(Drive, every=True)
def types(suite, dev):
    known = {Drive.IN, Drive.OUT, Drive.T_FLUSH, Drive.GET_ID, DISCARD, WRITE_ZEROES, SECURE_ERASE}
    kinds = [kind for kind in range(0, 40) if kind not in known]
    kinds += [1 << bit for bit in range(6, 32)] + [(1 << 32) - 1 - n for n in range(4)]
    kinds += [0x80000000 | kind for kind in sorted(known)] + [0x100 | kind for kind in sorted(known)]
    for kind in dict.fromkeys(kinds):
        with suite.case(dev, f"request type {kind:#x}", "G36") as d:
            d.up()
            for length in (0, 512):
                d.request(kind, 0, length, status=Drive.UNSUPP)


@family(Drive, every=True)
def write_to_read_only(suite, dev):
    if not dev.read_only:
        return
    for length in (0, 512, 4096, 0x20000):
        for sector in (0, 1, 1000, dev.sectors - 256):
            with suite.case(dev, f"write {length} bytes at sector {sector}", "G37") as d:
                d.up().request(Drive.OUT, sector, length, status=Drive.IOERR)
    # A driver that does not accept F_RO, or none of the features, may no more.
    for features, name in ((dev.offered & ~Drive.RO, "all but F_RO"), (0, "none")):
        for kind in (Drive.OUT, DISCARD, WRITE_ZEROES):
            length = 512 if kind == Drive.OUT else 16
            with suite.case(dev, f"request type {kind} of a driver that accepts {name} of the features", "G37") as d:
                d.up(features=features | TRANSPORT).b.fill(d.q.data, 512).write(d.q.data + 8, 8)
                d.request(kind, 0, length, status=Drive.IOERR)
    for kind in (DISCARD, WRITE_ZEROES, SECURE_ERASE):
        for length in (16, 32, 512):
            with suite.case(dev, f"request type {kind} with {length} bytes", "G37") as d:
                d.up().b.fill(d.q.data, 512).write(d.q.data + 8, 8)
                d.request(kind, 0, length)
                d.answered(None)


@family(Drive, every=True)
def segments(suite, dev):
    """Discard and write zeroes: one segment, in range, with flags that are known; and a good one does what it says."""
    end = dev.sectors
    ranges = {"a sector": (1024, 1), "nothing": (1024, 0), "nothing, at the end": (end, 0), "over the end": (end - 1, 2),
              "nothing, beyond the end": (end + 1, 0), "beyond": (1 << 40, 1), "that overflows": (U64, 2),
              "of 2^32 - 1": (0, 0xFFFFFFFF), "whose bytes overflow": (1 << 55, 1)}
    for kind, name in ((DISCARD, "discard"), (WRITE_ZEROES, "write zeroes"), (SECURE_ERASE, "secure erase")):
        for where, (sector, number) in ranges.items():
            for flags in (0, 1, 2, 0xFFFFFFFF):
                with suite.case(dev, f"{name} {where}, flags {flags:#x}", "G38") as d:
                    d.up().b.write(d.q.data, sector % (1 << 64), 8).write(d.q.data + 8, number | flags << 32, 8)
                    d.request(kind, 0, 16, status=trim_status(dev, kind, sector, number, flags))
        for length in (0, 1, 8, 15, 17, 32, 16 * 64, 16 * 256, 16 * 256 + 8, 0x10000):
            with suite.case(dev, f"{name} with {length} bytes of segments", "G38") as d:
                d.up().b.fill(d.q.data, 0x10000)
                d.request(kind, 0, length, status=Drive.UNSUPP if kind == SECURE_ERASE else Drive.IOERR)
    if end == 0 or dev.read_only:
        return
    for cut in (1, 8, 12):
        with suite.case(dev, f"discard, its segment cut after {cut} bytes", "G38") as d:
            d.up().header(DISCARD, 0).b.write(d.q.data, 1024, 8).write(d.q.data + 8, 8, 8)
            d.chain([(d.q.headers, 16, 0), (d.q.data, cut, 0), (d.q.data + cut, 16 - cut, 0), (d.q.status, 1, WRITE)])
            d.send(0).completed().answered(Drive.OK)
    for flags in (0, 1):
        with suite.case(dev, f"zeroes that are written are read, flags {flags}", "G38") as d:
            d.up().b.fill(d.q.data, 1536, U64)
            d.request(Drive.OUT, 1500, 1536, status=Drive.OK)
            d.b.write(d.q.data, 1501, 8).write(d.q.data + 8, 1 | flags << 32, 8)
            d.request(WRITE_ZEROES, 0, 16, status=Drive.OK).request(Drive.IN, 1500, 1536, status=Drive.OK)
            for at, value in ((504, U64), (512, 0), (1016, 0), (1024, U64)):
                d.b.expect(d.q.data + at, value, 8)


def trim_status(dev, kind, sector, number, flags):
    if kind == SECURE_ERASE:
        return Drive.UNSUPP
    if dev.read_only:
        return Drive.IOERR
    if flags & ~(1 if kind == WRITE_ZEROES else 0):
        return Drive.UNSUPP
    most = Drive.ZEROES_MAX if kind == WRITE_ZEROES else Drive.DISCARD_MAX
    return Drive.OK if sector >= 0 and sector + number <= dev.sectors and number <= most else Drive.IOERR


@family(Drive, every=True)
def flushes(suite, dev):
    with suite.case(dev, "1,000 flushes", "G39", ("slow",)) as d:
        d.up(16)
        d.header(Drive.T_FLUSH, 0).chain(d.buffers(Drive.T_FLUSH, 0))
        d.b.fill(d.q.avail + 8, 32)
        cell = d.q.avail + 2
        d.b.loop(1000, lambda: d.b.add(cell, 1, 2).write(dev.reg(QUEUE_NOTIFY), 0))
        suite.settle(d)
        d.b.expect(dev.reg(STATUS), ADFO, mask=ADFO)
    for length in (1, 512, 4096):
        for flags in (0, WRITE):
            with suite.case(dev, f"flush with {length} bytes of data{', writable' if flags else ''}", "G39") as d:
                d.up().header(Drive.T_FLUSH, 0)
                d.chain([(d.q.headers, 16, 0), (d.q.data, length, flags), (d.q.status, 1, WRITE)]).send(0).completed()
                d.answered(None)
    for sector in (1, 1 << 40, U64):
        with suite.case(dev, f"flush with sector {sector:#x}", "G39") as d:
            d.up().request(Drive.T_FLUSH, sector, 0, status=Drive.OK)


@family(Drive, every=True)
def identities(suite, dev):
    """At most 20 bytes are written."""
    for length in (0, 1, 2, 19, 20, 21, 32, 512, 4096):
        for indirect in (False, True):
            way = "indirect" if indirect else "direct"
            with suite.case(dev, f"GET_ID into {length} bytes, {way}", "G40") as d:
                d.up().b.fill(d.q.data, 8192, U64)
                d.request(Drive.GET_ID, 0, length, status=Drive.OK, indirect=indirect,
                          used_len=length + 1 if length <= 20 else 20)
                if length:
                    d.b.expect(d.q.data, ord(dev.name[0]), 1)
                d.b.expect(d.q.data + min(length, 20), 0xFF, 1).expect(d.q.data + length, 0xFF, 1)
    for cut in (1, 8, 19):
        with suite.case(dev, f"GET_ID into 20 bytes, cut after {cut}", "G40") as d:
            d.up().header(Drive.GET_ID, 0).b.fill(d.q.data, 64, U64)
            d.chain([(d.q.headers, 16, 0), (d.q.data, cut, WRITE), (d.q.data + cut, 20 - cut, WRITE),
                     (d.q.status, 1, WRITE)]).send(0).completed().answered(Drive.OK).used_is(0, 21)


@family(Drive)
def reset_in_flight(suite, dev):
    """When the write of 0 to Status returns, nothing is in flight: the guest uses the pages for something else."""
    q, mark = dev.q, 0x7777777777777777
    for number in (1, 2, 8, 32, 64, 85):
        for length in (512, 2048):
            for kind, name in ((Drive.IN, "reads"), (Drive.OUT, "writes"), (Drive.T_FLUSH, "flushes")):
                with suite.case(dev, f"reset with {number} {name} of {length} bytes in flight", "G14") as d:
                    d.up()
                    for n in range(number):
                        d.header(kind, 1024 + n, slot=n)
                        flags = WRITE if kind == Drive.IN else 0
                        data = [] if kind == Drive.T_FLUSH else [(q.data + length * n, length, flags)]
                        d.chain([(q.headers + 16 * n, 16, 0)] + data + [(q.status + n, 1, WRITE)], first=3 * n)
                    d.offer(*[3 * n for n in range(number)]).publish().notify()
                    d.b.call(dev.reset()).fill(q.data, length * number, mark).fill(q.status, 96, mark)
                    suite.settle(d)
                    for n in range(0, number, 7):
                        d.b.expect(q.data + length * n, mark, 8)
                    for n in range(0, min(number, 96), 8):
                        d.b.expect(q.status + n, mark, 8)
    for number in (2, 10, 50):
        with suite.case(dev, f"{number} resets, each with a request in flight", "G14") as d:
            for _ in range(number):
                d.up().header(Drive.IN, 0).chain(d.buffers(Drive.IN, 0x20000)).send(0).b.call(dev.reset())


def send_often(d, buffers, number):
    """So many requests that are the same, by one indirect table."""
    d.chain(buffers, table=d.q.table)
    for head in range(number):
        d.desc(head, d.q.table, 16 * len(buffers), INDIRECT)
    return d.offer(*range(number)).publish().notify()


def send_large_reads(d, number):
    """Each reads 1 GiB, into the same 16 MiB again and again."""
    buffers = [(d.q.headers, 16, 0)] + [(LARGE, 16 * MIB, WRITE)] * 64 + [(d.q.status, 1, WRITE)]
    send_often(d.up().header(Drive.IN, 0), buffers, number)


@family(Drive)
def large_reads(suite, dev):
    """What a request asks for is no reason to keep others waiting: other devices, a reset, the end."""

    def enlarge(directory):
        os.truncate(f"{directory}/{dev.name}.img", GIB)  # a hole, so it costs the host nothing

    with suite.case(dev, "100 reads of 1 GiB: others go on, and a reset is soon done", "G51", ("alone",)) as d:
        d.b.prepare = enlarge
        send_large_reads(d, 100)
        for _ in range(5):
            suite.settle(d)
        d.b.hook(lambda vm: vm.mark()).call(dev.reset()).hook(lambda vm: vm.took_less(2))
    with suite.ending(f"SIGTERM during 100 reads of 1 GiB of {dev.name}", "G51", {-signal.SIGTERM}) as case:
        case.prepare = enlarge
        driver = Driver(case, dev)
        send_large_reads(driver, 100)
        suite.settle(driver)
        case.hook(lambda vm: vm.ends_within(signal.SIGTERM, 1.5))


@family(Drive, every=True)
def layer_limit(suite, dev):
    """An overlay's memory is the host's: what is discarded, and cut off, is no leave to write."""
    if not dev.layer_max:
        return

    def discard_all(d, number=1):
        d.header(DISCARD, 0).b.write(d.q.data, 0, 8).write(d.q.data + 8, dev.sectors, 8)
        return send_often(d, d.buffers(DISCARD, 16), number)

    def attack(d):
        discard_all(d.up(), 200).b.call(dev.reset())
        d.up()
        for at in range(0, dev.layer_max + 1, 65536):
            d.request(Drive.OUT, at // 512, 65536, status=Drive.OK if at < dev.layer_max else Drive.IOERR)

    with suite.case(dev, "discards that a reset cuts off, then writes beyond the limit", "G52") as d:
        discard_all(d.up()).completed().answered(Drive.OK)  # what cases before have left anywhere
        d.b.loop(50, lambda: attack(d))
        d.b.hook(lambda vm: vm.layer_is_within(dev.layer_max))
        discard_all(d).completed().answered(Drive.OK)  # room for what comes after


@family(Drive)
def from_outside(suite, dev):
    """What happens to the image while the guest runs."""

    def image(vm):
        return f"{vm.directory}/{dev.name}.img"

    with suite.case(dev, "its image is cut short, and is whole again", "H4", ("alone",)) as d:
        d.up().request(Drive.IN, 1000, 512, status=Drive.OK)
        d.b.hook(lambda vm: os.truncate(image(vm), 512 * 100))
        d.request(Drive.IN, 1000, 512, status=Drive.IOERR)
        d.request(Drive.IN, 99, 1024, status=Drive.IOERR).request(Drive.IN, 10, 512, status=Drive.OK)
        d.b.hook(lambda vm: os.truncate(image(vm), 512 * dev.sectors))
        d.request(Drive.IN, 1000, 512, status=Drive.OK)
    with suite.case(dev, "its image grows: what is beyond its old end stays out of reach", "H4", ("alone",)) as d:
        d.up().b.hook(lambda vm: os.truncate(image(vm), 1024 * dev.sectors))
        d.request(Drive.IN, dev.sectors, 512, status=Drive.IOERR).get(CONFIG, dev.sectors)
    with suite.case(dev, "its image is deleted", "H4", ("alone",)) as d:
        d.up().b.hook(lambda vm: os.unlink(image(vm)))
        dev.good(d)
    with suite.case(dev, "the monitor is stopped and continues", "H20", ("alone",)) as d:
        d.up().header(Drive.IN, 0).chain(d.buffers(Drive.IN, 0x20000)).send(0)
        d.b.hook(lambda vm: vm.stop_and_go())
        d.completed().answered(Drive.OK)
    with suite.case(dev, "files may not grow: RLIMIT_FSIZE", "H5", ("alone",)) as d:
        d.up().b.hook(lambda vm: vm.limit_file_size(512 * 100))
        d.request(Drive.OUT, 1000, 512, status=Drive.IOERR).request(Drive.OUT, 10, 512, status=Drive.OK)
        d.b.hook(lambda vm: vm.limit_file_size(-1))
    with suite.case(dev, "a broken device costs no CPU time", "G25", ("alone",)) as d:
        d.up(8).publish(9).notify().broken()
