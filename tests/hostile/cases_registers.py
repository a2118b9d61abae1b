"""Abuse of the register window, G1 to G13 and G18."""
from suite import STATES, STATUS_OF, family
from virtio import (A, AD, ADF, ADFO, CONFIG, CONFIG_GENERATION, DEVICE_FEATURES, DEVICE_FEATURES_SEL, DEVICE_ID,
                    DRIVER_FEATURES, DRIVER_FEATURES_SEL, DRIVER_OK, FAILED, FEATURES_OK, INTERRUPT_ACK,
                    INTERRUPT_STATUS, MAGIC, NEEDS_RESET, QUEUE_AVAIL, QUEUE_DESC, QUEUE_NOTIFY, QUEUE_NUM,
                    QUEUE_NUM_MAX, QUEUE_READY, QUEUE_SEL, QUEUE_SIZE_MAX, QUEUE_USED, RAM_SIZE, STATUS, TRANSPORT,
                    VENDOR_ID, VERSION, VERSION_1, WINDOW, Device)

U32 = 0xFFFFFFFF
QUEUE_REGISTERS = [QUEUE_NUM] + [reg + half for reg in (QUEUE_DESC, QUEUE_AVAIL, QUEUE_USED) for half in (0, 4)]
READ_ONLY = [MAGIC, VERSION, DEVICE_ID, VENDOR_ID, DEVICE_FEATURES, QUEUE_NUM_MAX, INTERRUPT_STATUS, CONFIG_GENERATION]
WRITE_ONLY = [DEVICE_FEATURES_SEL, DRIVER_FEATURES, DRIVER_FEATURES_SEL, QUEUE_SEL, QUEUE_NOTIFY, INTERRUPT_ACK]
WRITE_ONLY += QUEUE_REGISTERS
DEFINED = set(READ_ONLY + WRITE_ONLY + [QUEUE_READY, STATUS]) | set(range(0xAC, 0xC0, 4))
UNDEFINED = [reg for reg in range(0, 0x100, 4) if reg not in DEFINED]


def still(d, state):
    """Nothing has changed; where it is live, without a reset it still works."""
    d.get(STATUS, STATUS_OF[state])
    if state == "live":
        d.dev.good(d)


@family(Device)
def wrong_widths(suite, dev):
    for state in ("reset", "live", "broken"):
        for reg in range(0, 0x100, 4):
            with suite.case(dev, f"wrong widths at {reg:#05x}, {state}", "G1") as d:
                STATES[state](d)
                for at in range(4):
                    d.get(reg + at, 0, 1).put(reg + at, 0xFF, 1)
                    if at < 3:
                        d.get(reg + at, 0, 2).put(reg + at, 0xFFFF, 2)
                    if at:
                        d.get(reg + at, 0, 4).put(reg + at, U32, 4)
                    if reg + at <= 0xF8:
                        d.get(reg + at, 0, 8).put(reg + at, 0, 8)
                still(d, state)


@family(Device)
def read_only_registers(suite, dev):
    known = {MAGIC: 0x74726976, VERSION: 2, DEVICE_ID: dev.device_id, QUEUE_NUM_MAX: QUEUE_SIZE_MAX}
    for state in STATES:
        for reg in READ_ONLY:
            with suite.case(dev, f"write to the read-only register {reg:#05x}, {state}", "G2") as d:
                STATES[state](d)
                for value in (0, 1, 0x80000000, U32):
                    d.put(reg, value)
                    if reg in known:
                        d.put(QUEUE_SEL, 0).get(reg, known[reg])
                still(d, state)
        for reg in WRITE_ONLY:
            with suite.case(dev, f"read of the write-only register {reg:#05x}, {state}", "G2") as d:
                STATES[state](d)
                d.get(reg, 0)
                still(d, state)


@family(Device)
def undefined_registers(suite, dev):
    for state in ("reset", "features-ok", "live"):
        for reg in UNDEFINED:
            with suite.case(dev, f"undefined register {reg:#05x}, {state}", "G2") as d:
                STATES[state](d)
                for value in (0, 1, U32):
                    d.put(reg, value).get(reg, 0)
                still(d, state)


@family(Device)
def window_edges(suite, dev):
    last = suite.devices[-1].base + WINDOW
    edges = {"the window": dev.base + WINDOW, "the last window": last, "the first window": suite.devices[0].base,
             "RAM": RAM_SIZE, "the config space": dev.reg(CONFIG), "the IOAPIC's": 0xFEC00000}
    for name, edge in edges.items():
        for width in (2, 4, 8):
            with suite.case(dev, f"accesses of {width} bytes across an edge of {name}", "G3") as d:
                d.up()
                for back in range(1, width):
                    d.b.expect(edge - back, 0, width, 0)
                    d.b.write(edge - back, (1 << 64) - 1, width)
                d.healthy()


@family(Device)
def queue_select(suite, dev):
    n = dev.queues
    sels = [n, n + 1, n + 2, n + 7, 31, 32, 63, 64, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x10000 + n, 0x1000000]
    sels += [0x7FFFFFFF, 0x80000000, 0x80000000 + n, U32 - n, U32 - 1, U32]
    for sel in dict.fromkeys(sels):
        for state in ("features-ok", "live"):
            with suite.case(dev, f"QueueSel {sel:#x}, {state}", "G4") as d:
                STATES[state](d)
                d.put(QUEUE_SEL, sel).get(QUEUE_NUM_MAX, 0).get(QUEUE_READY, 0)
                for reg in QUEUE_REGISTERS + [QUEUE_READY]:
                    for value in (0, 1, U32):
                        d.put(reg, value)
                d.get(QUEUE_READY, 0).get(QUEUE_NUM_MAX, 0)
                still(d, state)


def raw_queue(d, size=8, **instead):
    """Queue registers, of queue attack_queue, from FEATURES_OK; addresses by name instead of the right ones."""
    d.put(QUEUE_SEL, d.dev.attack_queue).put(QUEUE_NUM, size)
    for name, reg in (("desc", QUEUE_DESC), ("avail", QUEUE_AVAIL), ("used", QUEUE_USED)):
        addr = instead.get(name, getattr(d.q, name))
        d.put(reg, addr & U32).put(reg + 4, addr >> 32)
    return d.put(QUEUE_READY, 1)


@family(Device)
def queue_size(suite, dev):
    sizes = list(range(0, 35)) + [48, 63, 64, 65, 96, 127, 128, 129, 192, 255, 256, 257, 384, 511, 512, 1024, 0x4000]
    sizes += [0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x10001, 0x10008, 0x10100, 0x80000000, 0x80000008, U32 - 7, U32]
    for size in sizes:
        good = size and size <= QUEUE_SIZE_MAX and not size & (size - 1)
        with suite.case(dev, f"QueueNum {size:#x}", "G5") as d:
            STATES["features-ok"](d)
            if good:
                d.size = size
                d.b.call(dev.set_up_queues(size))
                d.put(STATUS, ADFO).healthy()
                if size > 2:
                    dev.good(d)
            else:
                raw_queue(d, size).get(QUEUE_READY, 0).get(STATUS, ADF | NEEDS_RESET)
                d.put(STATUS, ADFO | NEEDS_RESET).get(STATUS, ADF | NEEDS_RESET)


def bad_addresses(dev, size, align):
    """Where a range of size bytes is not RAM, by name."""
    bad = {f"unaligned by {n}": dev.q.data + n for n in range(1, align)}
    bad.update({
        "at the end of RAM": RAM_SIZE,
        "one step over the end of RAM": (RAM_SIZE - size) // align * align + align,
        "above RAM": RAM_SIZE + 0x100000,
        "in the gap": 0xC0000000,
        "in the device's own window": dev.base,
        "in its own config space": dev.base + CONFIG,
        "in the IOAPIC": 0xFEC00000,
        "in the local APIC": 0xFEE00000,
        "below 4 GiB": 0x100000000 - 16,
        "at 4 GiB": 0x100000000,
        "at 2^32 over RAM": 0x100000000 + dev.q.data,
        "at 2^40": 1 << 40,
        "at 2^52": 1 << 52,
        "at 2^63": 1 << 63,
        "at 2^63 over RAM": (1 << 63) + dev.q.data,
        "at the top": (1 << 64) - 16,
        "wrapping to 0": ((1 << 64) - size) // align * align + align * (size > align),
        "sign-extended": 0xFFFFFFFF80000000,
    })
    return bad


@family(Device)
def ring_addresses(suite, dev):
    for ring, size, align in (("desc", 16 * 8, 16), ("avail", 6 + 2 * 8, 2), ("used", 6 + 8 * 8, 4)):
        for name, addr in bad_addresses(dev, size, align).items():
            with suite.case(dev, f"{ring} ring {name}", "G6") as d:
                STATES["features-ok"](d)
                raw_queue(d, **{ring: addr}).get(QUEUE_READY, 0).get(STATUS, ADF | NEEDS_RESET)


@family(Device)
def ring_overlaps(suite, dev):
    q = dev.q
    overlaps = {
        "all at one place": {"avail": q.desc, "used": q.desc},
        "used over desc": {"used": q.desc},
        "avail over used": {"avail": q.used},
        "avail over desc": {"avail": q.desc},
        "used 4 bytes into avail": {"used": q.avail + 4},
        "at address 0": {"desc": 0, "avail": 0x200000},
        "at the last bytes of RAM": {"used": RAM_SIZE - 72},
    }
    for name, addrs in overlaps.items():
        with suite.case(dev, f"rings overlap: {name}", "G6") as d:
            dev.junk(d)
            STATES["features-ok"](d)
            raw_queue(d, **addrs).get(QUEUE_READY, 1).put(STATUS, ADFO)
            for idx in (1, 2, 0):
                d.b.write(addrs.get("avail", q.avail) + 2, idx, 2)
                d.notify()
            suite.settle(d)


@family(Device)
def rewritten_queue_registers(suite, dev):
    for state in ("ready", "live"):
        for reg in QUEUE_REGISTERS + [QUEUE_READY]:
            for value in (0, 1, 2, 0x8000, 0x80000000, U32):
                if state == "ready" and reg == QUEUE_READY and value == 0:
                    continue  # legal
                with suite.case(dev, f"register {reg:#05x} := {value:#x} when the queue is {state}", "G7") as d:
                    if state == "live":
                        d.up()
                    else:
                        STATES["features-ok"](d)
                        d.b.call(dev.set_up_queues(d.size))
                    d.put(QUEUE_SEL, dev.attack_queue).put(reg, value).get(QUEUE_READY, 1)
                    if state == "ready":
                        d.put(STATUS, ADFO)
                    d.healthy()
                    dev.good(d)


@family(Device)
def queues_out_of_turn(suite, dev):
    """Only from FEATURES_OK to DRIVER_OK, and without NEEDS_RESET or FAILED, can a queue be set up."""
    for state in STATES:
        if state == "features-ok":
            continue
        with suite.case(dev, f"a queue is set up, {state}", "G7") as d:
            STATES[state](d)
            ready = 1 if state in ("live", "broken", "failed") else 0
            raw_queue(d).get(QUEUE_READY, ready).put(QUEUE_READY, 0).get(QUEUE_READY, ready)
            still(d, state)


@family(Device)
def bad_notifications(suite, dev):
    beyond = [dev.queues, dev.queues + 1, 255, 256, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, U32]
    for state in STATES:
        for value in ([] if state == "live" else list(range(dev.queues))) + beyond:
            with suite.case(dev, f"QueueNotify {value:#x}, {state}", "G8") as d:
                STATES[state](d)
                for _ in range(3):
                    d.notify(value)
                suite.settle(d)
                still(d, state)
    with suite.case(dev, "QueueNotify of a queue that is not ready, live", "G8") as d:
        STATES["features-ok"](d)
        dev.junk(d)
        d.b.write(d.q.avail + 2, 1, 2)
        d.put(STATUS, ADFO).notify()
        suite.settle(d)
        d.healthy()


# What must come of a write to Status, said another way than the monitor does.
STEPS = {0: (A, AD), A: (AD,), AD: (ADF,), ADF: (ADFO,), ADFO: ()}


def next_status(status, value):
    """The model: Status after a write of value, the queues and features being fine."""
    if value == 0:
        return 0
    needs = status & NEEDS_RESET
    before, after = status & ~NEEDS_RESET, value & ~NEEDS_RESET
    if before & FAILED:
        return status
    if after == before | FAILED:
        return after | needs
    return after if not needs and after in STEPS[before] else status


def reach(d, status):
    """Brings the device to any status that can be."""
    d.b.call(d.dev.reset())
    steps = status & ~(FAILED | NEEDS_RESET)
    if steps in (ADF, ADFO):
        d.b.call(d.dev.features_ok(VERSION_1))
        if status & NEEDS_RESET and steps == ADF:
            raw_queue(d, 3)
        elif steps == ADFO:
            d.b.call(d.dev.set_up_queues(d.size))
            d.put(STATUS, ADFO)
            if status & NEEDS_RESET:
                d.b.write(d.q.avail + 2, 0x8000, 2)
                d.notify()
                d.b.wait(d.dev.reg(STATUS), ADFO | NEEDS_RESET)
    elif steps:
        d.put(STATUS, steps)
        if steps == AD:
            d.put(DRIVER_FEATURES_SEL, 1).put(DRIVER_FEATURES, VERSION_1 >> 32)
    if status & FAILED:
        d.put(STATUS, status)
    return d.get(STATUS, status)


@family(Device)
def status_transitions(suite, dev):
    """All 256 writes, from each status."""
    reachable = [s | f for s in (0, A, AD, ADF, ADFO) for f in (0, FAILED)]
    reachable += [s | NEEDS_RESET | f for s in (ADF, ADFO) for f in (0, FAILED)]
    for status in reachable:
        for high in range(0, 256, 16):
            with suite.case(dev, f"Status {status:#04x} -> {high:#04x} to {high + 15:#04x}", "G9") as d:
                reach(d, status)
                for value in range(high, high + 16):
                    expected = next_status(status, value)
                    d.put(STATUS, value).get(STATUS, expected)
                    if expected != status:
                        reach(d, status)
        with suite.case(dev, f"Status {status:#04x} -> more than 8 bits", "G9") as d:
            for value in (0x100, 0x101, 0x10F, 0x8000, 0x10000 + ADF, 0x80000000 + ADFO, U32):
                reach(d, status).put(STATUS, value).get(STATUS, status)


@family(Device)
def refused_features(suite, dev):
    offered = dev.offered | TRANSPORT

    def try_features(d, features, beyond=()):
        d.b.call(dev.reset())
        d.put(STATUS, AD)
        for half in (0, 1):
            d.put(DRIVER_FEATURES_SEL, half).put(DRIVER_FEATURES, features >> 32 * half & U32)
        for sel, value in beyond:
            d.put(DRIVER_FEATURES_SEL, sel).put(DRIVER_FEATURES, value)
        d.put(STATUS, ADF).get(STATUS, AD)
        d.put(STATUS, ADFO).get(STATUS, AD)

    for bit in range(64):
        if not offered >> bit & 1:
            with suite.case(dev, f"feature {bit}, which is not offered", "G10") as d:
                d.put(DEVICE_FEATURES_SEL, bit // 32).get(DEVICE_FEATURES, 0, mask=1 << bit % 32)
                try_features(d, VERSION_1 | 1 << bit)
    with suite.case(dev, "all features but VERSION_1", "G10") as d:
        try_features(d, offered & ~VERSION_1)
    with suite.case(dev, "no features", "G10") as d:
        try_features(d, 0)
    for sel in (2, 3, 31, 32, 0x7FFFFFFF, 0x80000000, 0x80000001, U32):
        with suite.case(dev, f"features by DriverFeaturesSel {sel:#x}", "G10") as d:
            d.put(DEVICE_FEATURES_SEL, sel).get(DEVICE_FEATURES, 0)
            for value in (1, U32):
                try_features(d, offered, [(sel, value)])


@family(Device)
def accepted_features(suite, dev):
    """Any subset of what is offered, with VERSION_1, is fine, and the device works with it."""
    optional = [bit for bit in range(64) if (dev.offered | TRANSPORT) >> bit & 1 and bit != 32]
    for number in range(1 << min(len(optional), 6)):
        features = VERSION_1 | sum(1 << bit for n, bit in enumerate(optional) if number >> n & 1)
        with suite.case(dev, f"works with features {features:#x}", "G10") as d:
            dev.good(d.up(features=features))


@family(Device)
def late_features(suite, dev):
    for state in ("features-ok", "live", "broken", "failed"):
        for sel in (0, 1, 2):
            with suite.case(dev, f"DriverFeatures written with sel {sel}, {state}", "G11") as d:
                STATES[state](d)
                for value in (0, U32):
                    d.put(DRIVER_FEATURES_SEL, sel).put(DRIVER_FEATURES, value)
                if state == "features-ok":
                    d.b.call(dev.set_up_queues(d.size))
                    d.put(STATUS, ADFO)
                    dev.good(d)
                else:
                    still(d, state)


@family(Device)
def config_space(suite, dev):
    """Every offset in every width; beyond its end are zeros; writes change nothing."""
    config = dev.config + bytes(0x1000)
    offsets = list(range(0, len(dev.config) + 12)) + [0x80, 0xFF, 0x100, 0x7FF, 0xDFF, 0xEF8]
    for state in ("reset", "driver", "live", "broken"):
        for at in offsets:
            with suite.case(dev, f"config space at {at:#x}, {state}", "G12") as d:
                STATES[state](d)
                for width in (1, 2, 4, 8):
                    wanted = int.from_bytes(config[at : at + width], "little")
                    d.get(CONFIG + at, wanted, width).put(CONFIG + at, (1 << 64) - 1, width)
                    d.get(CONFIG + at, wanted, width)
                still(d, state)


@family(Device)
def acknowledgements(suite, dev):
    for state in STATES:
        for value in (1, 2, 3, 4, 0x80000000, U32):
            with suite.case(dev, f"InterruptACK {value:#x}, {state}", "G13") as d:
                STATES[state](d)
                for _ in range(4):
                    d.put(INTERRUPT_ACK, value)
                d.get(INTERRUPT_STATUS, 0, mask=value)
                still(d, state)


@family(Device)
def string_accesses(suite, dev):
    for width in (1, 2, 4, 8):
        for name, offset, size in (("registers", 0, 0x70), ("config space", CONFIG, 0x60), ("its end", 0xFC0, 0x80)):
            with suite.case(dev, f"string reads of {width} bytes: {name}", "G18") as d:
                d.up().b.copy(d.q.data, dev.reg(offset), size // width, width)
                if offset == CONFIG:
                    data = dev.config + bytes(size)
                    for at in range(0, size, 8):
                        d.b.expect(d.q.data + at, int.from_bytes(data[at : at + 8], "little"), 8)
                d.healthy()
            with suite.case(dev, f"string writes of {width} bytes: {name}", "G18") as d:
                d.up().b.fill(d.q.data, size, 0x0101010101010101)
                d.b.copy(dev.reg(offset), d.q.data, size // width, width)
                d.b.expect(dev.reg(STATUS), ADFO, mask=ADFO)
