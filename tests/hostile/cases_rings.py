"""Abuse of the rings, G19 to G34. Most is true of any device; the rest is in terms of a drive."""
from cases_registers import bad_addresses, raw_queue
from script import Cell
from suite import family
from virtio import (ADFO, CHAIN_MAX, EVENT_IDX, INDIRECT, INDIRECT_DESC, NEXT, NEEDS_RESET, RAM_SIZE, STATUS, TRANSPORT,
                    VERSION_1, WRITE, Device, Drive)

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SOME_SIZES = (2, 8, 256)


def events(dev, on):
    """The features, with or without EVENT_IDX."""
    return (dev.offered | TRANSPORT) & ~(0 if on else EVENT_IDX)


def comma(event_idx):
    return ", EVENT_IDX" if event_idx else ""


def ways():
    for event_idx in (False, True):
        for indirect in (False, True):
            yield event_idx, indirect, f"{'indirect' if indirect else 'direct'}{comma(event_idx)}"


def one_more(d):
    """Head 0 once more, for a loop; all of the available ring is 0."""
    d.b.add(d.q.avail + 2, 1, 2)
    d.notify()
    d.b.wait(d.q.used + 2, Cell(d.q.avail + 2), 2)


@family(Device)
def loops(suite, dev):
    for size in SIZES:
        for event_idx, indirect, way in ways():
            table, entries = (dev.q.table, max(size, 2)) if indirect else (None, size)
            entries = min(entries, CHAIN_MAX)
            for length in dict.fromkeys((1, 2, entries - 1, entries)):
                if not 0 < length <= entries:
                    continue
                with suite.case(dev, f"loop of {length} descriptors, queue of {size}, {way}", "G19") as d:
                    d.up(size, events(dev, event_idx))
                    for i in range(entries):
                        d.desc(i, d.q.data, 16, NEXT, (i + 1) % length if i < length else 0, table)
                    if indirect:
                        d.desc(0, table, 16 * entries, INDIRECT)
                    d.send(0).broken()
            with suite.case(dev, f"loop of writable descriptors, queue of {size}, {way}", "G19") as d:
                d.up(size, events(dev, event_idx))
                d.desc(0, d.q.data, 16, NEXT | WRITE, 0, table)
                if indirect:
                    d.desc(0, table, 16, INDIRECT)
                d.send(0).broken()


def beyond(size):
    return dict.fromkeys((size, size + 1, 2 * size, 255, 256, 257, 0x7FFF, 0x8000, 0x8000 + size, 0xFFFE, 0xFFFF))


@family(Device)
def indices_out_of_range(suite, dev):
    for size in (1, 2, 8, 64, 256):
        for index in beyond(size):
            if index < size:
                continue
            with suite.case(dev, f"available head {index:#x}, queue of {size}", "G20") as d:
                d.up(size).send(index).broken()
            for indirect in (False, True):
                way = "indirect" if indirect else "direct"
                with suite.case(dev, f"next descriptor {index:#x}, queue of {size}, {way}", "G20") as d:
                    d.up(size)
                    if indirect:
                        d.desc(0, d.q.data, 16, NEXT, index, d.q.table)
                        d.desc(0, d.q.table, 16 * min(size, 128), INDIRECT)
                    else:
                        d.desc(0, d.q.data, 16, NEXT, index)
                    d.send(0).broken()


@family(Device)
def available_index(suite, dev):
    for size in SIZES:
        jumps = (size + 1, size + 2, 2 * size, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF)
        for jump in dict.fromkeys(jumps):
            for event_idx in (False, True):
                name = f"available index jumps by {jump:#x}, queue of {size}{comma(event_idx)}"
                with suite.case(dev, name, "G21") as d:
                    dev.junk(d)
                    d.up(size, events(dev, event_idx)).publish(jump).notify().broken()
    for size in (4, 8, 256):
        for back in (1, 2, 3, 4):
            with suite.case(dev, f"available index goes back by {back}, queue of {size}", "G21") as d:
                d.up(size)
                dev.junk(d)
                for _ in range(4):
                    d.send(0).completed()
                d.publish(d.idx - back).notify().broken()


@family(Device, every=True)
def index_wrap(suite, dev):
    """The indices run on over 65535, which is not a multiple of anything but powers of two."""
    with suite.case(dev, "both indices wrap at 65535", "G21", ("slow",)) as d:
        d.up(256)
        dev.junk(d)
        d.b.fill(d.q.avail + 8, 512 - 8, 0)
        d.b.loop(65535, lambda: one_more(d))
        d.idx = d.done = 65535
        d.healthy()
        dev.good(d)


@family(Drive)
def same_head_twice(suite, dev):
    for size in (2, 4, 8, 64, 256):
        for times in dict.fromkeys((2, 3, size)):
            if times > size:
                continue
            for indirect in (False, True):
                way = "indirect" if indirect else "direct"
                with suite.case(dev, f"one head {times} times, queue of {size}, {way}", "G22") as d:
                    d.up(size).header(Drive.IN, 1)
                    buffers = [(d.q.headers, 16, 0), (d.q.data, 4096, WRITE), (d.q.status, 1, WRITE)]
                    if not indirect and size < 4:
                        buffers[1:] = [(d.q.data, 4097, WRITE)]
                    d.place(buffers, indirect).offer(*[0] * times).publish().notify()
                    d.b.wait(dev.reg(STATUS), NEEDS_RESET, mask=NEEDS_RESET)
                    suite.settle(d)
                    d.b.expect(d.q.used + 2, 0, 2, 0xFFFE)  # at most one completion
    for delay in range(0, 12):
        with suite.case(dev, f"one head again while it is in flight, later by {delay}", "G22") as d:
            d.up(8).header(Drive.IN, 0).chain(d.buffers(Drive.IN, 0x20000)).send(0)
            for _ in range(delay):
                d.get(STATUS, 0, mask=0)
            d.send(0)
            suite.settle(d)
            d.b.expect(d.q.used + 2, 0, 2, 0xFFFC)  # two at the most


PARTS = ("header", "data in", "data out", "status", "indirect table")


@family(Drive)
def buffer_addresses(suite, dev):
    for part in PARTS:
        for name, addr in bad_addresses(dev, 512, 1).items():
            with suite.case(dev, f"{part} {name}", "G23") as d:
                d.up()
                kind = Drive.OUT if part == "data out" else Drive.IN
                d.header(kind, 0)
                if part == "indirect table":
                    d.chain(d.buffers(kind, 512), table=d.q.table).desc(0, addr, 512, INDIRECT)
                else:
                    buffers = d.buffers(kind, 512)
                    n = PARTS.index(part) - (part in ("data out", "status"))
                    buffers[n] = (addr, 512, buffers[n][2])
                    d.chain(buffers)
                d.send(0).broken()
    for length in (1, 2, 511, 513, 4096, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFF000, 0xFFFFFFFF):
        for indirect in (False, True):
            way = "indirect" if indirect else "direct"
            with suite.case(dev, f"data of {length:#x} bytes at the end of RAM, {way}", "G23") as d:
                d.up().header(Drive.IN, 0)
                buffers = d.buffers(Drive.IN, length, data=RAM_SIZE - length + 1 if length < 0x20000 else RAM_SIZE - 1)
                d.place(buffers, indirect).send(0).broken()
    for back in (512, 1024, 4096, 65536):
        with suite.case(dev, f"the last {back} bytes of RAM as data", "G23") as d:
            d.up().header(Drive.IN, 4).chain(d.buffers(Drive.IN, back, data=RAM_SIZE - back)).send(0).completed()
            d.answered(Drive.OK).used_is(0, back + 1)
            d.b.expect(RAM_SIZE - 8, dev.PATTERN + 3 + back // 512, 8)


@family(Drive)
def empty_descriptors(suite, dev):
    """Length 0, anywhere: framing does not matter (2.7.4.3); what is left when they are left out decides."""
    q = dev.q
    full = [(q.headers, 16, 0), (q.data, 512, WRITE), (q.status, 1, WRITE)]
    for indirect in (False, True):
        way = "indirect" if indirect else "direct"
        for at in range(4):
            for addr in (q.data, 0, RAM_SIZE, 0xC0000000, (1 << 64) - 1):
                with suite.case(dev, f"empty descriptor at {addr:#x} as number {at}, {way}", "G24") as d:
                    empty = (addr, 0, WRITE if at > 1 else 0)
                    d.up().header(Drive.IN, 1).place(full[:at] + [empty] + full[at:], indirect).send(0).completed()
                    d.answered(Drive.OK).used_is(0, 513)
        for at in range(3):
            with suite.case(dev, f"descriptor {at} emptied, {way}", "G24") as d:
                some = list(full)
                some[at] = (some[at][0], 0, some[at][2])
                d.up().header(Drive.IN, 1).place(some, indirect).send(0).completed()
                if at == 1:
                    d.answered(Drive.OK).used_is(0, 1)
                else:  # no header; or the last byte of the data is the status, and 511 bytes are no sectors
                    d.used_is(0, 0)
        with suite.case(dev, f"only empty descriptors, {way}", "G24") as d:
            d.up().place([(q.headers, 0, 0)] * 3, indirect).send(0).broken()
        with suite.case(dev, f"only empty writable descriptors, {way}", "G24") as d:
            d.up().place([(q.headers, 0, WRITE)] * 3, indirect).send(0).broken()
        with suite.case(dev, f"126 empty descriptors in a request, {way}", "G24") as d:
            d.up().header(Drive.IN, 1).place(full[:1] + [(q.data, 0, WRITE)] * 125 + full[1:], indirect).send(0)
            d.completed().answered(Drive.OK).used_is(0, 513)


@family(Drive)
def large_chains(suite, dev):
    q, most = dev.q, RAM_SIZE - 0x100000
    for number in (2, 63, 64, 65, 68, 69, 70, 100, 126):
        for flags, kind in ((0, "readable"), (WRITE, "writable")):
            with suite.case(dev, f"{number} times {most:#x} bytes, {kind}", "G25") as d:
                d.up().header(Drive.OUT if flags == 0 else Drive.IN, 0)
                d.indirect([(q.headers, 16, 0)] + [(0, most, flags)] * number + [(q.status, 1, WRITE)]).send(0)
                if number * most > 1 << 32:
                    d.broken()
                else:
                    d.completed().answered(Drive.IOERR)
    for number in (127, 128, 129, 200, 255, 256):
        for indirect in (False, True):
            way = "indirect" if indirect else "direct"
            with suite.case(dev, f"chain of {number} descriptors, {way}", "G25") as d:
                d.up().header(Drive.IN, 0)
                d.place([(q.headers, 16, 0)] + [(q.data, 512, WRITE)] * (number - 2) + [(q.status, 1, WRITE)], indirect)
                d.send(0)
                if number <= CHAIN_MAX:
                    d.completed().answered(Drive.OK).used_is(0, 512 * (number - 2) + 1)
                else:
                    d.broken()


@family(Drive)
def overlaps(suite, dev):
    q = dev.q
    for kind, flags, name in ((Drive.IN, WRITE, "reads into"), (Drive.OUT, 0, "writes from")):
        for number in (2, 16, 126):
            for step in (0, 1, 256):
                with suite.case(dev, f"{number} {name} one page, {step} bytes apart", "G26") as d:
                    d.up().header(kind, 1024)
                    data = [(q.data + step * n, 512, flags) for n in range(number)]
                    d.indirect([(q.headers, 16, 0)] + data + [(q.status, 1, WRITE)]).send(0).completed()
                    d.answered(Drive.OK)
    for name, addr in {"its header": q.headers, "its status": q.status - 256, "the descriptors": q.desc,
                       "the available ring": q.avail, "the used ring": q.used, "its indirect table": q.table}.items():
        for indirect in (False, True):
            way = "indirect" if indirect else "direct"
            with suite.case(dev, f"reads over {name}, {way}", "G26") as d:
                d.up().header(Drive.IN, 1024).place(d.buffers(Drive.IN, 512, data=addr & ~511), indirect).send(0)
                suite.settle(d)


@family(Drive)
def orders(suite, dev):
    """Every order of readable and writable in chains of one to five descriptors of 8, 16, 1, 1 or 512 bytes."""
    q = dev.q
    for number in range(1, 6):
        for bits in range(1 << number):
            flags = [WRITE if bits >> n & 1 else 0 for n in range(number)]
            name = "".join("W" if f else "R" for f in flags)
            for indirect in (False, True):
                way = "indirect" if indirect else "direct"
                with suite.case(dev, f"chain {name}, {way}", "G27") as d:
                    d.up().header(Drive.GET_ID, 0)
                    d.place([(q.headers + 8 * n, 8, f) for n, f in enumerate(flags)], indirect).send(0)
                    legal = flags == sorted(flags) and WRITE in flags
                    if legal:
                        d.completed()
                    else:
                        d.broken()
    for length in (2, 3, 16, 512, 4096):
        with suite.case(dev, f"status descriptor of {length} bytes", "G27") as d:
            d.up().header(Drive.GET_ID, 0).chain([(q.headers, 16, 0), (q.data, length, WRITE)]).send(0).completed()
            d.b.expect(q.data + length - 1, Drive.OK, 1)


@family(Drive)
def framing(suite, dev):
    """Headers, data and status cut into descriptors in any way."""
    q = dev.q

    def check(d, buffers, indirect, length=512):
        d.up().header(Drive.IN, 1).place(buffers, indirect).send(0).completed().answered(Drive.OK)
        d.used_is(0, length + 1)
        d.b.expect(q.data, dev.PATTERN + 1, 8).expect(q.data + length - 8, dev.PATTERN + length // 512, 8)

    data, status = [(q.data, 512, WRITE)], [(q.status, 1, WRITE)]
    for indirect in (False, True):
        way = "indirect" if indirect else "direct"
        for cut in range(1, 16):
            with suite.case(dev, f"header cut after {cut} bytes, {way}", "G28") as d:
                check(d, [(q.headers, cut, 0), (q.headers + cut, 16 - cut, 0)] + data + status, indirect)
        for piece in (1, 2, 4, 8):
            with suite.case(dev, f"header in pieces of {piece}, {way}", "G28") as d:
                check(d, [(q.headers + at, piece, 0) for at in range(0, 16, piece)] + data + status, indirect)
        for cut in (1, 7, 255, 256, 511):
            with suite.case(dev, f"data cut after {cut} bytes, {way}", "G28") as d:
                halves = [(q.data, cut, WRITE), (q.data + cut, 512 - cut, WRITE)]
                check(d, [(q.headers, 16, 0)] + halves + status, indirect)
        for piece in (8, 16, 64, 100):
            with suite.case(dev, f"data in pieces of {piece}, {way}", "G28") as d:
                pieces = [(q.data + at, min(piece, 512 - at), WRITE) for at in range(0, 512, piece)]
                check(d, [(q.headers, 16, 0)] + pieces + status, indirect)
        for length in (512, 1024, 4096):
            with suite.case(dev, f"{length} bytes of data and the status in one, {way}", "G28") as d:
                d.up().header(Drive.IN, 1)
                d.place([(q.headers, 16, 0), (q.data, length + 1, WRITE)], indirect).send(0).completed()
                d.b.expect(q.data + length, Drive.OK, 1).expect(q.data, dev.PATTERN + 1, 8)
                d.used_is(0, length + 1)
        with suite.case(dev, f"header and data to write in one, {way}", "G28") as d:
            d.up().header(Drive.OUT, 1024).place([(q.headers, 16 + 512, 0)] + status, indirect).send(0).completed()


@family(Device)
def indirect_tables(suite, dev):
    q = dev.q
    with suite.case(dev, "indirect, not negotiated", "G29") as d:
        dev.junk(d, q.table)
        d.up(features=(dev.offered | TRANSPORT) & ~INDIRECT_DESC)
        d.desc(0, q.table, 48, INDIRECT).send(0).broken()
    for length in list(range(0, 16)) + [17, 24, 31, 33, 47, 16 * 128 + 1, 16 * 129, 16 * 256, 16 * 257, 0x8000,
                                        0x100000, 0x7FFFFFF0, 0xFFFFFFF0, 0xFFFFFFFF]:
        for event_idx in (False, True):
            with suite.case(dev, f"indirect table of {length:#x} bytes{comma(event_idx)}", "G29") as d:
                dev.junk(d, q.table)
                d.up(features=events(dev, event_idx)).desc(0, q.table, length, INDIRECT).send(0).broken()
    for flags, name in ((NEXT, "with NEXT"), (NEXT | WRITE, "with NEXT and WRITE")):
        for following in (0, 1, 0xFFFF):
            with suite.case(dev, f"indirect descriptor {name}, next {following:#x}", "G29") as d:
                dev.junk(d, q.table)
                d.up().desc(0, q.table, 48, INDIRECT | flags, following).send(0).broken()
    for depth in range(0, 4):
        with suite.case(dev, f"indirect in an indirect table, as number {depth}", "G29") as d:
            dev.junk(d, q.table + 0x1000)
            d.up().chain([(q.data, 0, 0)] * depth + [(q.table + 0x1000, 48, INDIRECT)], table=q.table)
            d.desc(0, q.table, 16 * (depth + 1), INDIRECT).send(0).broken()
    with suite.case(dev, "indirect table that is its own", "G29") as d:
        d.up().desc(0, q.desc, 16, INDIRECT).send(0).broken()


@family(Drive)
def good_indirect_tables(suite, dev):
    q = dev.q
    for flag in (0, WRITE):
        for depth in (0, 1, 2, 4, 16):
            with suite.case(dev, f"indirect after {depth} direct ones, flags {flag}", "G29") as d:
                d.up().header(Drive.IN, 1)
                piece = 16 // (depth or 1)
                direct = [(q.headers + piece * n, piece, 0) for n in range(depth)]
                d.chain(direct + [(q.table, 0, 0)])
                rest = d.buffers(Drive.IN, 512)[1 if depth else 0 :]
                d.indirect(rest, head=depth, flags=flag).send(0).completed().answered(Drive.OK).used_is(0, 513)
    for shift in (1, 2, 3, 4, 8, 15):
        with suite.case(dev, f"indirect table at an odd address, {shift}", "G29") as d:
            d.up().header(Drive.IN, 1).indirect(d.buffers(Drive.IN, 512), table=q.table + shift)
            d.send(0).completed().answered(Drive.OK).used_is(0, 513)


@family(Drive)
def rings_over_each_other(suite, dev):
    """The device writes to the given address: only the guest is hurt."""
    q = dev.q
    for name, at in {"the descriptors": q.desc, "the available ring": q.avail, "the header": q.headers,
                     "the data": q.data, "the status": q.status & ~3}.items():
        for idx in (1, 2, 255):
            with suite.case(dev, f"used ring over {name}, {idx} requests", "G31") as d:
                d.b.call(dev.features_ok(VERSION_1)).call(dev.set_up_queues(256)).call(dev.features_ok(VERSION_1))
                raw_queue(d, 256, used=at).put(STATUS, ADFO)
                d.header(Drive.IN, 1).chain(d.buffers(Drive.IN, 512)).publish(idx).notify()
                suite.settle(d)


@family(Device)
def event_words(suite, dev):
    """Whatever the driver asks for as the next event, its requests are completed."""
    values = (0, 1, 2, 3, 254, 255, 256, 257, 0x7FFF, 0x8000, 0x8001, 0xFFFE, 0xFFFF)
    for size in SOME_SIZES:
        for event_idx in (False, True):
            for value in values:
                name = f"used_event and flags {value:#x}, queue of {size}{comma(event_idx)}"
                with suite.case(dev, name, "G32") as d:
                    d.up(max(size, 4), events(dev, event_idx))
                    dev.junk(d)
                    d.b.write(d.q.avail, value, 2).write(d.q.avail + 4 + 2 * d.size, value, 2)
                    d.b.write(d.q.used, value, 2).write(d.q.used + 4 + 8 * d.size, value, 2)
                    for _ in range(5):
                        d.send(0).completed()
                    d.healthy()


@family(Device)
def never_reaped(suite, dev):
    for number in (300, 3000):
        for event_idx in (False, True):
            name = f"{number} requests, nothing reaped{comma(event_idx)}"
            with suite.case(dev, name, "G33", ("slow",) if number > 1000 else ()) as d:
                d.up(16, events(dev, event_idx))
                dev.junk(d)
                d.b.fill(d.q.avail + 8, 32, 0)
                d.b.loop(number, lambda d=d: one_more(d))
                d.healthy()


@family(Drive)
def refused_then_good(suite, dev):
    """Ten queues full of requests that are refused; then, without a reset, a good one: no slot was lost."""
    q = dev.q
    refused = {
        "beyond the end": lambda d: d.header(Drive.IN, 1 << 40).chain(d.buffers(Drive.IN, 512)),
        "of an unknown type": lambda d: d.header(99, 0).chain(d.buffers(Drive.IN, 512)),
        "with half a header": lambda d: d.header(Drive.IN, 0).chain([(q.headers, 8, 0), (q.status, 1, WRITE)]),
        "of half a sector": lambda d: d.header(Drive.IN, 0).chain(d.buffers(Drive.IN, 100)),
    }
    for name, make in refused.items():
        for size in (4, 16, 256):
            with suite.case(dev, f"{10 * size} requests {name}, then a good one, queue of {size}", "G34") as d:
                d.up(size)
                make(d)
                d.b.loop(10 * size, lambda d=d: one_more(d))
                d.idx = d.done = 10 * size
                d.healthy()
                dev.good(d)
