"""Races, between two vCPUs and between a vCPU and the device's loop, and storms: G13, G15, G16, G30."""
from script import Block, Cell
from suite import family
from virtio import (
    AD,
    ADF,
    ADFO,
    CONFIG,
    DRIVER_FEATURES,
    DRIVER_FEATURES_SEL,
    INDIRECT,
    INDIRECT_DESC,
    INTERRUPT_ACK,
    NEEDS_RESET,
    NEXT,
    QUEUE_AVAIL,
    QUEUE_DESC,
    QUEUE_NOTIFY,
    QUEUE_NUM,
    QUEUE_READY,
    QUEUE_SEL,
    QUEUE_USED,
    STATUS,
    VERSION_1,
    WRITE,
    A,
    Device,
    Drive,
)

JOIN_TICKS = 8192
TOP = (1 << 64) - 4096


def race(d, body, other, rounds):
    """The other vCPU runs other while this one runs body, each so many times."""
    second = Block()
    second.loop(rounds, lambda: other(second)).op("end")
    d.b.op("ap", value=second)
    d.b.loop(rounds, lambda: body(d.b))
    d.b.op("join", count=JOIN_TICKS)


def bring_up(b, dev):
    """To DRIVER_OK as Device.bring_up does, but whatever the other side makes of it meanwhile is fine."""
    for value in (0, A, AD):
        b.write(dev.reg(STATUS), value)
    for half, features in enumerate((INDIRECT_DESC, VERSION_1 >> 32)):
        b.write(dev.reg(DRIVER_FEATURES_SEL), half).write(dev.reg(DRIVER_FEATURES), features)
    b.write(dev.reg(STATUS), ADF).write(dev.reg(QUEUE_SEL), dev.attack_queue).write(dev.reg(QUEUE_NUM), 8)
    for reg, addr in ((QUEUE_DESC, dev.q.desc), (QUEUE_AVAIL, dev.q.avail), (QUEUE_USED, dev.q.used)):
        b.write(dev.reg(reg), addr).write(dev.reg(reg + 4), 0)
    b.write(dev.q.avail + 2, 0, 2).write(dev.reg(QUEUE_READY), 1).write(dev.reg(STATUS), ADFO)
    b.write(dev.q.avail + 2, 1, 2).write(dev.reg(QUEUE_NOTIFY), dev.attack_queue)


@family(Device)
def storms(suite, dev):
    with suite.case(dev, "100,000 notifications", "G16", ("slow",)) as d:
        d.up()
        d.b.loop(100000, d.notify)
        d.healthy()
    with suite.case(dev, "100,000 acknowledgements", "G13", ("slow",)) as d:
        d.up()
        d.b.loop(100000, lambda: d.put(INTERRUPT_ACK, 0xFFFFFFFF))
        d.healthy()
    with suite.case(dev, "10,000 resets", "G15", ("slow",)) as d:
        d.b.loop(10000, lambda: d.put(STATUS, 0))
    with suite.case(dev, "1,000 activations", "G15", ("slow",)) as d:
        d.b.loop(1000, d.up)
    with suite.case(dev, "1,000 times broken and reset", "G15", ("slow",)) as d:
        def once():
            d.up(8).b.write(d.q.avail + 2, 0x4000, 2)
            d.notify().b.wait(dev.reg(STATUS), ADFO | NEEDS_RESET)

        d.b.loop(1000, once)


@family(Drive)
def flipped_descriptors(suite, dev):
    """A request is published and its descriptors rewritten at once, as the loop reads them (double fetch)."""
    q = dev.q
    flips = {
        "length of the data": (q.desc + 24, (512, 0xFFFFFFFF), 4),
        "address of the data": (q.desc + 16, (q.data, TOP), 8),
        "flags of the data": (q.desc + 28, (NEXT | WRITE, INDIRECT | NEXT), 2),
        "next": (q.desc + 30, (2, 0xFFFF), 2),
        "length of the header": (q.desc + 8, (16, 0), 4),
        "address of the header": (q.desc, (q.headers, 0xC0000000), 8),
        "status flags": (q.desc + 44, (WRITE, 0), 2),
        "status length": (q.desc + 40, (1, 0), 4),
        "available head": (q.avail + 4, (0, 0xFFFF), 2),
        "available index": (q.avail + 2, (0, 0x4000), 2),
        "request type": (q.headers, (0, 99), 4),
        "sector": (q.headers + 8, (0, 1 << 60), 8),
    }
    for indirect in (False, True):
        for name, (addr, values, width) in flips.items():
            if indirect and q.desc <= addr < q.avail:
                addr += q.table - q.desc
            elif indirect:
                continue
            way = "indirect" if indirect else "direct"

            def flip(b, addr=addr, values=values, width=width):
                for value in values:
                    b.write(addr, value, width)

            def send(d):
                bring_up(d.b, dev)
                d.header(Drive.IN, 1).place(d.buffers(Drive.IN, 512), indirect).b.write(q.avail + 4, 0, 2)
                d.publish(1).notify()

            with suite.case(dev, f"{name} rewritten after each notification, {way}", "G30") as d:
                d.b.loop(20, lambda: (send(d), [flip(d.b) for _ in range(10)]))
            with suite.case(dev, f"{name} rewritten by the other vCPU, {way}", "G30", ("cpus2",)) as d:
                race(d, lambda b: send(d), flip, 200)


@family(Device)
def two_cpus(suite, dev):
    """Two vCPUs at the registers of one device."""
    others = {
        "notifications": lambda b: b.write(dev.reg(QUEUE_NOTIFY), dev.attack_queue),
        "resets": lambda b: b.write(dev.reg(STATUS), 0),
        "reads of Status": lambda b: b.expect(dev.reg(STATUS), 0, mask=0),
        "writes of Status": lambda b: [b.write(dev.reg(STATUS), value) for value in (1, 3, 11, 15, 0x8F)],
        "QueueReady": lambda b: b.write(dev.reg(QUEUE_READY), 0).write(dev.reg(QUEUE_READY), 1),
        "config reads": lambda b: b.expect(dev.reg(CONFIG), 0, 8, 0),
        "acknowledgements": lambda b: b.write(dev.reg(INTERRUPT_ACK), 3),
    }

    for name, other in others.items():
        with suite.case(dev, f"activation on one vCPU, {name} on the other", "G15", ("cpus2",)) as d:
            dev.junk(d)
            race(d, lambda b: bring_up(b, dev), other, 1000)
    with suite.case(dev, "notifications from two vCPUs", "G16", ("cpus2",)) as d:
        d.up()
        dev.junk(d)
        d.b.fill(d.q.avail + 4, 512)
        race(d, lambda b: b.add(d.q.avail + 2, 1, 2).write(dev.reg(QUEUE_NOTIFY), dev.attack_queue).wait(
            d.q.used + 2, Cell(d.q.avail + 2), 2), others["notifications"], 3000)
        d.healthy()
