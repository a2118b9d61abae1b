"""Abuse of what is no virtio device: ports, addresses, serial port, IOAPIC, i8042; and the ends of a VM, C1 to C8."""
from suite import family
from virtio import RAM_SIZE, WINDOW, Drive

U64 = (1 << 64) - 1
COM1, I8042_DATA, I8042_COMMAND = 0x3F8, 0x60, 0x64
IOAPIC = 0xFEC00000
DLAB, LOOPBACK = 0x80, 0x10
ACPI_SLEEP, ACPI_PORTS = 0x600, 3  # sleep control, sleep status, reset
ACPI_S5, ACPI_RESET = 0x34, 1
OURS = set(range(COM1, COM1 + 8)) | set(range(ACPI_SLEEP, ACPI_SLEEP + ACPI_PORTS)) | {I8042_DATA, I8042_COMMAND}


@family(Drive)
def addresses(suite, dev):
    last = suite.devices[-1].base + WINDOW
    nobodys = [RAM_SIZE, RAM_SIZE + 4, 0x20000000, 0x3FFFFFE8, 0xC0000000, 0xCFFFFFE8, last, last + 0x1000, 0xE0000000]
    nobodys += [0xFEBFFFE8, IOAPIC + 0x1000, 0xFEDFFFE8, 0xFFFF0000, 0xFFFFFFF8]
    for addr in nobodys:
        with suite.case(dev, f"guest address {addr:#x}, which is nobody's", "G17") as d:
            for width in (1, 2, 4, 8):
                for shift in (0, 1, 3):
                    if addr + shift + width <= 1 << 32:
                        d.b.expect(addr + shift, U64, width).write(addr + shift, 0, width)
            d.b.fill(d.q.data, 64).copy(d.q.data, addr, 8, 1).expect(d.q.data, U64, 8).copy(addr, d.q.data, 8, 1)


@family(Drive)
def ports(suite, dev):
    for first in range(0, 0x10000, 0x800):
        with suite.case(dev, f"ports {first:#x} to {first + 0x7ff:#x}", "G17", ("slow",)) as d:
            for port in range(first, first + 0x800):
                if port not in OURS and port + 3 not in OURS and port + 1 not in OURS:
                    width = 1 << port % 3
                    d.b.inp(port, 0xFFFFFFFF, (1 << 8 * width) - 1, width).out(port, 0xFF, width)
    known = [0x0, 0x20, 0x21, 0x40, 0x43, 0x61, 0x70, 0x71, 0x80, 0x92, 0xA0, 0xA1, 0xCF8, 0xCFC, 0xCF9, 0x510, 0x604]
    for port in known + [0xB004, 0x1234, 0xFFFF]:
        with suite.case(dev, f"port {port:#x}, which is nobody's", "G17") as d:
            for width in (1, 2, 4):
                d.b.inp(port, 0xFFFFFFFF, (1 << 8 * width) - 1, width).out(port, 0xFFFFFFFF, width).out(port, 0, width)
            d.b.op("outs", addr=port, value=d.q.data, count=5000)
            d.b.op("ins", addr=d.q.data, value=port, count=5000)
            d.b.expect(d.q.data + 4992, U64, 8)


@family(Drive)
def i8042(suite, dev):
    with suite.case(dev, "i8042: every command but the reset", "G49") as d:
        for value in range(256):
            if value != 0xFE:
                d.b.out(I8042_COMMAND, value).out(I8042_DATA, value)
    with suite.case(dev, "i8042: wide and neighbouring accesses", "G49") as d:
        for width in (2, 4):
            for port in range(I8042_DATA, I8042_COMMAND + 1):
                d.b.inp(port, width=width).out(port, 0xFEFEFEFE, width)
        for port in range(I8042_DATA, I8042_COMMAND):
            d.b.inp(port).out(port, 0xFE)


@family(Drive)
def acpi(suite, dev):
    for register in range(ACPI_PORTS):
        with suite.case(dev, f"ACPI register {register}: every value that does not end the VM", "G49") as d:
            for value in range(256):
                ends = (value & 0x3C == ACPI_S5, False, value == ACPI_RESET)[register]
                if not ends:
                    d.b.out(ACPI_SLEEP + register, value).inp(ACPI_SLEEP + register, 0, 0xFF)
            for width in (2, 4):
                d.b.out(ACPI_SLEEP + register, 0x34343434, width).out(ACPI_SLEEP + register, 0x01010101, width)
    for name, register, value in (("power off", 0, ACPI_S5), ("reset", 2, ACPI_RESET)):
        with suite.ending(f"ACPI {name}", "C7", {0}) as b:
            b.out(ACPI_SLEEP + register, value)


@family(Drive)
def serial(suite, dev):
    """Any register of the UART with any value; the console must be as before for the report to get through."""

    def restore(d):
        d.b.out(COM1 + 3, 3).out(COM1 + 1, 0).out(COM1 + 4, 3)

    for register in range(1, 8):
        with suite.case(dev, f"serial register {register}: every value", "G48") as d:
            for value in range(256):
                d.b.out(COM1 + register, value)
                for other in range(1, 8):
                    d.b.inp(COM1 + other)
            restore(d)
    with suite.case(dev, "serial: the divisor, every value", "G48") as d:
        d.b.out(COM1 + 3, DLAB | 3)
        for value in range(256):
            d.b.out(COM1, value).out(COM1 + 1, value).inp(COM1, value, 0xFF).inp(COM1 + 1, value, 0xFF)
        d.b.out(COM1, 1).out(COM1 + 1, 0)
        restore(d)
    with suite.case(dev, "serial: flood in loopback", "G48") as d:
        d.b.out(COM1 + 4, LOOPBACK).op("outs", addr=COM1, value=d.q.data, count=20000)
        for _ in range(100):
            d.b.inp(COM1).inp(COM1 + 5)
        d.b.out(COM1 + 2, 7)
        restore(d)
    with suite.case(dev, "serial: wide accesses", "G48") as d:
        for width in (2, 4):
            for port in range(COM1 - 3, COM1 + 8):
                if not port <= COM1 < port + width:
                    d.b.inp(port, width=width)
        for port in range(COM1 + 1, COM1 + 8):
            d.b.out(port, 0, 2).out(port, 0, 4)
        restore(d)


@family(Drive)
def ioapic(suite, dev):
    for select in (0, 1, 2, 3, 0x0F, 0x10, 0x11, 0x1F, 0x20, 0x3E, 0x3F, 0x40, 0x7F, 0x80, 0xFF):
        with suite.case(dev, f"IOAPIC register {select:#x}", "G17") as d:
            for value in (0, 0x10000, 0xFFFFFFFF):  # the last: masked, in the end
                d.b.write(IOAPIC, select).expect(IOAPIC + 0x10, 0, mask=0).write(IOAPIC + 0x10, value)
            d.b.write(IOAPIC, select | 0xFFFFFF00).write(IOAPIC + 0x10, 0x10000)
    for width in (1, 2, 4, 8):
        with suite.case(dev, f"IOAPIC window, accesses of {width} bytes", "G17") as d:
            for at in list(range(0, 0x60, 3)) + [0xFF8, 0xFFC]:
                d.b.expect(IOAPIC + at, 0, width, 0).write(IOAPIC + at, 0x10000, width)
    with suite.case(dev, "IOAPIC: every pin to every destination, with interrupts coming", "G17") as d:
        d.up()
        for pin in range(24):
            for low in (0, 0x0700 | 0x20, 0x0100, 0x0200, 0x8020, 0xA820):
                d.b.write(IOAPIC, 0x10 + 2 * pin).write(IOAPIC + 0x10, low)
                d.b.write(IOAPIC, 0x11 + 2 * pin).write(IOAPIC + 0x10, 0xFF000000)
                if pin == 5 and low in (0x8020, 0xA820):
                    dev.good(d)
            d.b.write(IOAPIC, 0x10 + 2 * pin).write(IOAPIC + 0x10, 0x10000)


@family(Drive)
def endings(suite, dev):
    """Statuses: 0 reset, 102 crash, 103 KVM's, 104 stopped for good."""
    with suite.ending("i8042 reset", "C7", {0}) as b:
        b.out(I8042_COMMAND, 0xFE)
    with suite.ending("reset with requests in flight", "C7", {0}) as b:
        b.call(dev.bring_up(256, dev.offered | 1 << 32))
        b.write(dev.q.headers, 0, 8).write(dev.q.headers + 8, 0, 8)
        for i, (addr, low, high) in enumerate(((dev.q.headers, 16, 0x10001), (dev.q.data, 0x20000, 0x20003),
                                               (dev.q.status, 1, 2))):
            b.write(dev.q.desc + 16 * i, addr, 8).write(dev.q.desc + 16 * i + 8, low | high << 32, 8)
        b.write(dev.q.avail + 2, 1, 2).write(dev.reg(0x50), 0).out(I8042_COMMAND, 0xFE)
    with suite.ending("triple fault", "C1", {102, 103}) as b:
        b.op("undefined")
    for addr in (0x20000000, dev.base, IOAPIC, 0xFFFFFFF0, RAM_SIZE):
        with suite.ending(f"executes at {addr:#x}", "C2", {102, 103}) as b:
            b.op("jump", addr=addr)
    with suite.ending("executes where nothing is mapped", "C2", {102, 103}) as b:
        b.op("jump", addr=0x50000000)
    with suite.ending("halts with interrupts off", "C6", {104}, ("slow",)) as b:
        b.op("halt")
    with suite.ending("string output to unassigned ports, then reset", "C8", {0}) as b:
        for port in (0x1234, 0xFFFF, 0x80):
            b.op("outs", addr=port, value=dev.q.data, count=100000)
        b.out(I8042_COMMAND, 0xFE)
