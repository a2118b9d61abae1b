"""Abuse of a network interface's frames, G41 to G43: they are sent or dropped, and the next one is sent."""
from net import FRAME_SIZE, HEADER_SIZE, Net
from suite import family
from virtio import ADFO, NEEDS_RESET, STATUS, WRITE

FIELDS = {
    "flags": (0, 1),
    "gso_type": (1, 1),
    "hdr_len": (2, 2),
    "gso_size": (4, 2),
    "csum_start": (6, 2),
    "csum_offset": (8, 2),
    "num_buffers": (10, 2),
}
SIZES = list(range(0, HEADER_SIZE + 16))
SIZES += [60, 1514 + 12, 1515 + 12, 4096, 9000, 65535, 65536, 65547, 65562, 65600, 131072]


@family(Net)
def frame_sizes(suite, dev):
    for size in SIZES:
        for cut in (0, 1, 12):
            if cut < size or cut == 0:
                with suite.case(dev, f"a frame of {size} bytes with the header, cut at {cut}", "G41") as d:
                    d.up()
                    dev.frame(d.b)
                    pieces = [(d.q.headers, cut, 0), (d.q.headers + cut, size - cut, 0)]
                    d.chain(pieces).send(0).completed()
                    d.healthy()
                    dev.good(d)


@family(Net)
def headers(suite, dev):
    for name, (at, width) in FIELDS.items():
        for value in (1, 2, 3, 4, 5, 0x0D, 0x3F, 0x40, 0x7F, 0x80, 0x81, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF):
            if value < 1 << 8 * width:
                with suite.case(dev, f"header with {name} {value:#x}", "G41") as d:
                    d.up()
                    dev.frame(d.b)
                    d.b.write(d.q.headers + at, value, width)
                    d.chain([(d.q.headers, HEADER_SIZE + FRAME_SIZE, 0)]).send(0).completed()
                    d.healthy()
                    dev.good(d)


@family(Net)
def writable_frames(suite, dev):
    for first in (0, WRITE):
        with suite.case(dev, f"a frame that is writable{' wholly' if first else ''}", "G41") as d:
            d.up()
            dev.frame(d.b)
            d.chain([(d.q.headers, HEADER_SIZE, first), (d.q.headers + HEADER_SIZE, FRAME_SIZE, WRITE)]).send(0)
            suite.settle(d)


@family(Net)
def other_senders(suite, dev):
    for mac in (0, 1, 0xFFFFFFFFFFFF, 0x010000000001):
        with suite.case(dev, f"a frame from {mac:#014x}", "G42") as d:
            d.up()
            dev.frame(d.b)
            at = d.q.headers + HEADER_SIZE + 6
            d.b.write(at, mac & 0xFFFFFFFF, 4).write(at + 4, mac >> 32, 2)
            d.chain([(d.q.headers, HEADER_SIZE + FRAME_SIZE, 0)]).send(0).completed()
            d.healthy()


@family(Net)
def receive_buffers(suite, dev):
    """Too small, or not to be written: the frame is dropped or the device broken, and nothing is written beyond."""
    for merge in (False, True):
        features = (dev.offered | 7 << 28 | 1 << 32) & ~(1 << 30) & ~(0 if merge else dev.MRG_RXBUF)
        for size in (0, 1, 11, 12, 13, 26, 63, 64, 75, 76):
            for flags in (0, WRITE):
                name = f"a receive buffer of {size} bytes{'' if flags else ', read-only'}{', merged' if merge else ''}"
                with suite.case(dev, name, "G43") as d:
                    d.up(features=features)
                    d.b.fill(dev.rx.data, 256, 0x7777777777777777)
                    d.b.write(dev.rx.desc, dev.rx.data, 8).write(dev.rx.desc + 8, size | flags << 32, 8)
                    d.b.write(dev.rx.avail + 2, 1, 2)
                    d.notify(0)
                    dev.junk(d)
                    d.send(0)
                    suite.settle(d)
                    d.b.expect(dev.rx.data + (size + 7 & ~7 if flags else 0), 0x7777777777777777, 8)
                    d.b.expect(dev.reg(STATUS), ADFO, mask=0xFF & ~NEEDS_RESET)
