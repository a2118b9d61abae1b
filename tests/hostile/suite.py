"""The collection of cases: what all share, before and after, and the states that a device can be attacked in."""
import contextlib
import os
import tempfile

from script import AT_REST, Block, Case, Cell
from virtio import AD, ADF, ADFO, FAILED, STATUS, TRANSPORT, A, Drive, Driver
from net import Net
from vsock import Vsock

FAMILIES = []


def family(kind, every=False):
    """Marks a function that adds cases for one device of this class: each one's first, or every one."""

    def mark(function):
        FAMILIES.append((kind, every, function))
        return function

    return mark


def direct_options():
    """Those of a drive with direct I/O, where the file system of the images has it; tmpfs has not before Linux 6.5."""
    with tempfile.NamedTemporaryFile(prefix="mayfly-hostile-") as file:
        try:
            os.close(os.open(file.name, os.O_RDWR | os.O_DIRECT))
        except OSError:
            return ""
    return ":direct"


def standard_devices():
    return [
        Drive(0, "target"),
        Drive(1, "canary"),
        Drive(2, "readonly", read_only=True),
        Drive(3, "empty", sectors=0),
        Drive(4, "overlay", layer_max=256 << 10),
        Drive(5, "direct", options=direct_options()),
        Net(6, "net"),
        Vsock(7, "vsock"),
    ]


class Suite:
    def __init__(self, devices=None):
        self.devices = devices or standard_devices()
        self.cases = []
        self.canary_device = next(dev for dev in self.devices if dev.name == "canary")
        self.canary = self.make_canary()

    def make_canary(self):
        """Subroutine: a device that nobody attacks, up all the time, still works and has seen no reset."""
        dev, b = self.canary_device, Block()
        b.expect(dev.reg(STATUS), ADFO)
        b.write(dev.q.status, Drive.PENDING, 1).write(dev.q.data, 0, 8)
        b.add(dev.q.avail + 2, 1, 2).write(dev.reg(0x050), 0)
        b.wait(dev.q.used + 2, Cell(dev.q.avail + 2), 2)
        b.expect(dev.q.status, 0, 1).expect(dev.q.data, dev.PATTERN + 3, 8)
        return b.done()

    def start(self):
        """Subroutine: everything is reset but the canary, which is up; its descriptors are those of one request."""
        dev, b = self.canary_device, Block()
        for other in self.devices:
            b.call(other.reset())
        b.call(dev.bring_up(256, dev.offered | TRANSPORT))
        driver = Driver(b, dev)
        driver.header(Drive.IN, 3).chain(driver.buffers(Drive.IN, 512))
        return b.call(self.canary).done()

    @contextlib.contextmanager
    def case(self, dev, name, row, tags=()):
        """Adds what is written to the driver that it gives; afterwards the monitor is at rest, and the device and the canary
        work."""
        case = Case(f"{dev.name}: {name}", row, tags)
        yield Driver(case, dev)
        case.sync(AT_REST).call(dev.usable()).call(self.canary).done()
        self.cases.append(case)

    @contextlib.contextmanager
    def ending(self, name, row, statuses, tags=()):
        """A case that ends the VM, with one of these statuses of mayfly."""
        case = Case(f"vm: {name}", row, tags)
        case.ending = frozenset(statuses)
        yield case
        case.done()
        self.cases.append(case)

    @staticmethod
    def driver(block, dev):
        return Driver(block, dev)

    def settle(self, driver):
        """Waits until the devices' loop has seen what was notified before."""
        driver.b.call(self.canary).call(self.canary)

    def build(self):
        for kind, every, function in FAMILIES:
            for dev in self.devices:
                if dev is not self.canary_device and isinstance(dev, kind) and (every or dev.main):
                    function(self, dev)
        names = [case.name for case in self.cases]
        assert len(names) == len(set(names)), [n for n in names if names.count(n) > 1][:5]
        return self.cases


def to_broken(d):
    """An available index that is ahead by more than the queue's size."""
    d.up(8).b.write(d.q.avail + 2, 9, 2)
    d.notify().broken()


STATES = {
    "reset": lambda d: d.b.call(d.dev.reset()),
    "acknowledged": lambda d: d.b.call(d.dev.reset()).write(d.dev.reg(STATUS), A),
    "driver": lambda d: d.b.call(d.dev.reset()).write(d.dev.reg(STATUS), AD),
    "features-ok": lambda d: d.b.call(d.dev.features_ok(d.dev.offered | TRANSPORT)),
    "live": lambda d: d.up(),
    "broken": to_broken,
    "failed": lambda d: d.up().put(STATUS, ADFO | FAILED),
}
STATUS_OF = {"reset": 0, "acknowledged": A, "driver": AD, "features-ok": ADF, "live": ADFO, "broken": ADFO | 0x40,
             "failed": ADFO | FAILED}
