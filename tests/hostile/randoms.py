"""Random scripts: the same seed gives the same one.

What a device may write to stays inside its part of guest memory, so that whatever the script asks of it, the script, the
payload and the canary survive; the rest is as wild as it comes.
"""
import random

from script import AT_REST, Case
from suite import STATES
from virtio import (
    INDIRECT,
    NEXT,
    QUEUE_AVAIL,
    QUEUE_DESC,
    QUEUE_NUM,
    QUEUE_READY,
    QUEUE_SEL,
    QUEUE_USED,
    RAM_SIZE,
    STATUS,
    TRANSPORT,
    WRITE,
    Driver,
)

ACTIONS = 600
EDGES = (0, 1, 2, 3, 4, 7, 8, 15, 16, 0x1F, 0x40, 0x7F, 0x80, 0xFF, 0x100, 0x101, 0x7FFF, 0x8000, 0xFFFF, 0x10000)
EDGES += (0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
LENGTHS = (0, 1, 2, 15, 16, 17, 20, 511, 512, 513, 1024, 4096, 4097, 65536)
HUGE = LENGTHS + (0x10000000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
PLACES = (0, 0x1000, 0x2000, 0x4000, 0x10000, 0x20000)
REGISTERS = list(range(0, 0x100, 4))


class Monkey:
    """Drives one device at random."""

    def __init__(self, rng, driver):
        self.rng, self.d, self.q, self.dev = rng, driver, driver.q, driver.dev
        self.weights = {
            self.request: 6,
            self.descriptor: 6,
            self.publish: 4,
            self.driver_notify: 6,
            self.register: 3,
            self.any_width: 1,
            self.state: 2,
            self.queue_registers: 1,
            self.noise: 1,
            self.flip: 2,
            self.config: 1,
        }

    def act(self):
        self.rng.choices(list(self.weights), self.weights.values())[0]()

    def address(self):
        """In this device's own memory, or none."""
        rng, base = self.rng, self.dev.base
        if rng.random() < 0.8:
            return self.q.desc + rng.choice(PLACES) + rng.choice((0, 0, 0, 1, 8, 16, 511))
        nowhere = (RAM_SIZE, RAM_SIZE - 1, RAM_SIZE - 512, 0xC0000000, base, 1 << 32, 1 << 63, (1 << 64) - 16)
        return rng.choice(nowhere + (rng.getrandbits(64) | 1 << 63,))

    def request(self):
        """A drive's, more or less right."""
        rng, q, slot = self.rng, self.q, self.rng.randrange(16)
        kind = rng.choice((0, 0, 0, 1, 1, 4, 8, 11, 13, rng.choice(EDGES)))
        self.d.header(kind, rng.choice((0, 1, 1000, 2046, 2047, 2048, rng.getrandbits(64))), slot)
        buffers = self.d.buffers(kind, rng.choice(LENGTHS), slot, q.data + 0x1000 * slot)
        if rng.random() < 0.1:
            rng.shuffle(buffers)
        if rng.random() < 0.3:
            self.d.indirect(buffers, head=3 * slot, table=q.table + 0x100 * slot)
        else:
            self.d.chain(buffers, first=3 * slot)
        self.d.offer(3 * slot)
        if rng.random() < 0.7:
            self.d.publish().notify()

    def descriptor(self):
        rng = self.rng
        table = rng.choice((None, None, self.q.table))
        flags = rng.choice((0, NEXT, WRITE, NEXT | WRITE, INDIRECT, INDIRECT | NEXT, rng.getrandbits(16)))
        following = rng.choice((rng.randrange(64), 0xFFFF))
        self.d.desc(rng.randrange(48), self.address(), rng.choice(HUGE), flags, following, table)

    def publish(self):
        rng = self.rng
        self.d.offer(rng.choice((rng.randrange(48), rng.randrange(48), rng.choice(EDGES) & 0xFFFF)))
        self.d.publish(self.d.idx + rng.choice((0, 0, 0, 0, 1, 2, rng.getrandbits(16) if rng.random() < 0.1 else 0)))

    def driver_notify(self):
        self.d.notify(self.rng.choice((0, 0, 0, 0, 1, self.rng.choice(EDGES))))

    def register(self):
        self.d.put(self.rng.choice(REGISTERS[:0x80 // 4] + REGISTERS[0xB0 // 4 :]), self.rng.choice(EDGES))

    def any_width(self):
        width = self.rng.choice((1, 2, 8))
        self.d.put(self.rng.randrange(0xFF8), self.rng.getrandbits(8 * width), width)

    def state(self):
        rng = self.rng
        if rng.random() < 0.1:
            self.d.put(STATUS, rng.choice(EDGES))
        else:
            size = rng.choice((1, 2, 4, 8, 64, 256))
            self.d.up(size, (self.dev.offered | TRANSPORT) & ~(rng.choice((0, 0, 1, 2, 3)) << 28))

    def queue_registers(self):
        rng = self.rng
        STATES["features-ok"](self.d)
        self.d.put(QUEUE_SEL, 0).put(QUEUE_NUM, rng.choice((1, 2, 8, 256, rng.choice(EDGES))))
        for reg in (QUEUE_DESC, QUEUE_AVAIL, QUEUE_USED):
            addr = self.address() & ~rng.choice((0, 15, 15, 15))
            self.d.put(reg, addr & 0xFFFFFFFF).put(reg + 4, addr >> 32 & 0xFFFFFFFF)
        self.d.put(QUEUE_READY, 1).put(STATUS, 15)

    def noise(self):
        at = self.rng.choice((self.q.desc, self.q.avail, self.q.used, self.q.table))
        for _ in range(8):
            self.d.b.write(at + self.rng.randrange(0, 0x800, 8), self.rng.getrandbits(64) | 1 << 63 | 1 << 47, 8)

    def flip(self):
        """Rewrites what was just published, a few times."""
        at, width = self.q.desc + 16 * self.rng.randrange(48), self.rng.choice((2, 4))
        at += self.rng.choice((12, 14)) if width == 2 else 8
        for _ in range(4):
            self.d.b.write(at, self.rng.choice(EDGES if width == 2 else HUGE), width)

    def config(self):
        width = self.rng.choice((1, 2, 4, 8))
        self.d.b.expect(self.dev.reg(self.rng.randrange(0x1000 - width)), 0, width, 0)


def script(suite, seed):
    """One case of many random acts on all devices but the canary; then they, and it, must work."""
    rng = random.Random(seed)
    case = Case(f"random script, seed {seed}", "random")
    devices = [dev for dev in suite.devices if dev is not suite.canary_device]
    monkeys = [Monkey(rng, Driver(case, dev)) for dev in devices]
    for _ in range(ACTIONS):
        rng.choices(monkeys, [4] + [1] * (len(monkeys) - 1))[0].act()
    case.sync(AT_REST)
    for dev in devices:
        case.call(dev.usable())
    return case.call(suite.canary).done()
