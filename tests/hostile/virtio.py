"""A virtio-mmio driver that writes scripts: registers, rings, requests; and devices, each with its good request.

Names are those of virtio 1.2. Where the parts of a queue are in guest memory: see Queue.
"""
import functools
import struct

from script import Block, Cell, new_cell

MAGIC, VERSION, DEVICE_ID, VENDOR_ID = 0x000, 0x004, 0x008, 0x00C
DEVICE_FEATURES, DEVICE_FEATURES_SEL, DRIVER_FEATURES, DRIVER_FEATURES_SEL = 0x010, 0x014, 0x020, 0x024
QUEUE_SEL, QUEUE_NUM_MAX, QUEUE_NUM, QUEUE_READY, QUEUE_NOTIFY = 0x030, 0x034, 0x038, 0x044, 0x050
INTERRUPT_STATUS, INTERRUPT_ACK, STATUS = 0x060, 0x064, 0x070
QUEUE_DESC, QUEUE_AVAIL, QUEUE_USED = 0x080, 0x090, 0x0A0  # low word, then high word
SHM_LEN, SHM_BASE, CONFIG_GENERATION, CONFIG = 0x0B0, 0x0B8, 0x0FC, 0x100

A, D, DRIVER_OK, FEATURES_OK, NEEDS_RESET, FAILED = 1, 2, 4, 8, 0x40, 0x80
AD = A | D
ADF = AD | FEATURES_OK
ADFO = ADF | DRIVER_OK

INDIRECT_DESC, EVENT_IDX, VERSION_1 = 1 << 28, 1 << 29, 1 << 32
TRANSPORT = INDIRECT_DESC | EVENT_IDX | VERSION_1

NEXT, WRITE, INDIRECT = 1, 2, 4
QUEUE_SIZE_MAX = 256
CHAIN_MAX = 128

RAM_SIZE = 0x4000000
WINDOW = 0x1000
ATTENTION = 0xFFE40  # a word for each window (docs/guest-interface.md)


class Queue:
    """Where queue number index of device number device is in guest memory."""

    def __init__(self, device, index):
        base = 0x400000 + device * 0x200000 + index * 0x80000
        self.desc, self.avail, self.used = base, base + 0x1000, base + 0x2000
        self.table = base + 0x4000  # indirect tables, 4 KiB each
        self.headers, self.status = base + 0x10000, base + 0x11000
        self.data = base + 0x20000  # 256 KiB
        self.data_size = 0x40000


class Device:
    """One device behind its register window. A subclass knows what a good request is."""

    device_id = 0
    main_name = None  # which of its class is attacked in every way
    queues = 1
    attack_queue = 0  # the queue from driver to device that is attacked
    config = b""  # what its configuration space reads as
    offered = 0  # without TRANSPORT

    def __init__(self, index, name):
        self.index, self.name = index, name
        self.main = name == self.main_name
        self.base = 0xD0000000 + index * WINDOW
        self.queue = [Queue(index, i) for i in range(self.queues)]
        self.q = self.queue[self.attack_queue]

    def reg(self, offset):
        return self.base + offset

    def open(self):
        """Before a VM starts: the descriptors that its monitor inherits."""
        return []

    def opened(self):
        """After it has started."""

    def close(self):
        """After it has ended."""

    def option(self):
        """The monitor's words for it."""
        raise NotImplementedError

    def image(self):
        """What the file behind it holds at the start."""
        return b""

    def good(self, driver):
        """Adds a request that must succeed, to a queue that is up."""
        raise NotImplementedError

    def junk(self, driver, table=None):
        """Adds the descriptors of a chain, from number 0 of a table, which the device completes in some way."""
        raise NotImplementedError

    @functools.lru_cache(maxsize=None)
    def reset(self):
        """Subroutine: resets, and checks that it is complete."""
        b = Block().write(self.reg(STATUS), 0).expect(self.reg(STATUS), 0).expect(self.reg(INTERRUPT_STATUS), 0)
        for i in range(self.queues):
            b.write(self.reg(QUEUE_SEL), i).expect(self.reg(QUEUE_READY), 0)
        return b.done()

    @functools.lru_cache(maxsize=None)
    def features_ok(self, features):
        """Subroutine: from reset to FEATURES_OK."""
        b = Block().call(self.reset())
        for status in (A, AD):
            b.write(self.reg(STATUS), status)
        for half in (0, 1):
            b.write(self.reg(DRIVER_FEATURES_SEL), half)
            b.write(self.reg(DRIVER_FEATURES), features >> 32 * half & 0xFFFFFFFF)
        b.write(self.reg(STATUS), ADF).expect(self.reg(STATUS), ADF)
        return b.done()

    @functools.lru_cache(maxsize=None)
    def set_up_queues(self, size):
        """Subroutine: from FEATURES_OK to queues that are ready."""
        b = Block()
        for i, q in enumerate(self.queue):
            b.fill(q.avail, 0x208).fill(q.used, 0x808)
            b.write(self.reg(QUEUE_SEL), i).write(self.reg(QUEUE_NUM), size)
            for reg, addr in ((QUEUE_DESC, q.desc), (QUEUE_AVAIL, q.avail), (QUEUE_USED, q.used)):
                b.write(self.reg(reg), addr).write(self.reg(reg + 4), 0)
            b.write(self.reg(QUEUE_READY), 1).expect(self.reg(QUEUE_READY), 1)
        return b.done()

    @functools.lru_cache(maxsize=None)
    def bring_up(self, size, features):
        """Subroutine: from anything to DRIVER_OK."""
        b = Block().call(self.features_ok(features)).call(self.set_up_queues(size))
        b.write(self.reg(STATUS), ADFO).expect(self.reg(STATUS), ADFO)
        return b.done()

    @functools.lru_cache(maxsize=None)
    def usable(self):
        """Subroutine: after whatever was done to it, the device works again after a reset."""
        driver = Driver(Block(), self)
        driver.up()
        self.good(driver)
        return driver.b.call(self.reset()).done()


class Drive(Device):
    """virtio-blk on an image in which each word of 8 bytes of sector n is PATTERN + n."""

    device_id = 2
    main_name = "target"
    SECTORS = 2048
    PATTERN = 0x5EC7000000000000
    SEG_MAX, BLK_SIZE, FLUSH, RO, DISCARD, WRITE_ZEROES = 1 << 2, 1 << 6, 1 << 9, 1 << 5, 1 << 13, 1 << 14
    DISCARD_MAX, ZEROES_MAX = 1 << 21, 1 << 17  # sectors
    IN, OUT, T_FLUSH, GET_ID = 0, 1, 4, 8
    OK, IOERR, UNSUPP, PENDING = 0, 1, 2, 0xEE
    SCRATCH = SECTORS - 1  # written to by good()

    def __init__(self, index, name, sectors=SECTORS, read_only=False, options="", layer_max=0):
        super().__init__(index, name)
        self.sectors, self.read_only, self.options, self.layer_max = sectors, read_only, options, layer_max
        if layer_max:
            self.options += f":overlay={layer_max // 1024}K"
        self.offered = self.SEG_MAX | self.BLK_SIZE | (self.RO if read_only else self.DISCARD | self.WRITE_ZEROES)
        if not layer_max:
            self.offered |= self.FLUSH
        self.config = struct.pack("<QIIHBBI", sectors, 0, CHAIN_MAX - 2, 0, 0, 0, 512) + bytes(12)
        self.config += struct.pack("<IIIIIB", self.DISCARD_MAX, 1, 8, self.ZEROES_MAX, 1, 1)

    def option(self):
        return ["-d", f"{self.name}.img:id={self.name}{self.options}" + (":ro" if self.read_only else "")]

    def image(self):
        return b"".join(struct.pack("<Q", self.PATTERN + n) * 64 for n in range(self.sectors))

    def good(self, driver):
        if self.sectors == 0:
            driver.request(self.GET_ID, 0, 20, status=self.OK, used_len=21)
        elif self.read_only:
            driver.request(self.IN, 1, 512, status=self.OK)
            driver.b.expect(self.q.data, self.PATTERN + 1, 8)
        else:
            cell = new_cell()
            driver.b.add(cell, 0x0101010101010101, 8).fill(self.q.data, 512, Cell(cell))
            driver.request(self.OUT, self.SCRATCH, 512, status=self.OK)
            driver.b.fill(self.q.data, 512)
            driver.request(self.IN, self.SCRATCH, 512, status=self.OK)
            for at in (0, 504):
                driver.b.expect(self.q.data + at, Cell(cell), 8)

    def junk(self, driver, table=None):
        driver.header(self.IN, 0)
        driver.chain([(self.q.headers, 16, 0), (self.q.data, 512, WRITE), (self.q.status, 1, WRITE)], table=table)


class Driver:
    """Writes what a driver does with one device, in order, to a block; it knows the queue's state as it goes."""

    def __init__(self, block, device, size=QUEUE_SIZE_MAX):
        self.b, self.dev, self.q, self.size = block, device, device.q, size
        self.idx = 0  # what avail->idx is
        self.done = 0  # what used->idx must be

    def up(self, size=None, features=None):
        """To DRIVER_OK. features are those to accept, all that are offered by default."""
        self.size = size or self.size
        self.idx = self.done = 0
        if features is None:
            features = self.dev.offered | TRANSPORT
        self.b.call(self.dev.bring_up(self.size, features))
        return self

    def put(self, reg, value, width=4):
        self.b.write(self.dev.reg(reg), value, width)
        return self

    def get(self, reg, value, width=4, mask=(1 << 64) - 1):
        self.b.expect(self.dev.reg(reg), value, width, mask)
        return self

    # Rings.

    def desc(self, i, addr, length, flags=0, following=0, table=None):
        at = (self.q.desc if table is None else table) + 16 * i
        self.b.write(at, addr, 8)
        self.b.write(at + 8, length | flags << 32 | following << 48, 8)
        return self

    def chain(self, buffers, first=0, table=None, step=1):
        """Descriptors for buffers, (address, length, flags) each, from number first on."""
        for n, (addr, length, flags) in enumerate(buffers):
            last = n == len(buffers) - 1
            i = first + n * step
            self.desc(i, addr, length, flags | (0 if last else NEXT), 0 if last else i + step, table)
        return self

    def indirect(self, buffers, head=0, table=None, flags=0):
        """The same in an indirect table, with descriptor head for it."""
        table = self.q.table if table is None else table
        self.chain(buffers, table=table)
        return self.desc(head, table, 16 * len(buffers), INDIRECT | flags)

    def place(self, buffers, indirect):
        return self.indirect(buffers) if indirect else self.chain(buffers)

    def offer(self, *heads):
        """Puts heads into the available ring, which is published with publish()."""
        for head in heads:
            self.b.write(self.q.avail + 4 + 2 * (self.idx % self.size), head, 2)
            self.idx = (self.idx + 1) & 0xFFFF
        return self

    def publish(self, idx=None):
        self.idx = self.idx if idx is None else idx & 0xFFFF
        self.b.write(self.q.avail + 2, self.idx, 2)
        return self

    def notify(self, value=None):
        return self.put(QUEUE_NOTIFY, self.dev.attack_queue if value is None else value)

    def send(self, *heads):
        return self.offer(*(heads or (0,))).publish().notify()

    def completed(self, number=1):
        """So many more requests are completed."""
        self.done = (self.done + number) & 0xFFFF
        self.b.wait(self.q.used + 2, self.done, 2)
        return self

    def used_is(self, head, length, back=1):
        at = self.q.used + 4 + 8 * ((self.done - back) % self.size)
        self.b.expect(at, head).expect(at + 4, length)
        return self

    # What must come of it.

    def broken(self):
        """The device has given up, says so, and completes nothing more."""
        self.b.wait(self.dev.reg(STATUS), ADFO | NEEDS_RESET)
        self.b.wait(self.dev.reg(INTERRUPT_STATUS), 2, mask=2)
        attention = ATTENTION + 4 * self.dev.index
        self.b.wait(attention, 1).write(attention, 0)
        self.b.expect(self.q.used + 2, self.done, 2)
        self.notify()
        return self.get(STATUS, ADFO | NEEDS_RESET)

    def healthy(self):
        return self.get(STATUS, ADFO)

    # Requests of a drive.

    def header(self, kind, sector, slot=0):
        at = self.q.headers + 16 * slot
        self.b.write(at, kind, 8).write(at + 8, sector, 8)
        self.b.write(self.q.status + slot, Drive.PENDING, 1)
        return self

    def buffers(self, kind, length, slot=0, data=None):
        """Those of an ordinary request."""
        q = self.q
        flags = 0 if kind in (Drive.OUT, 11, 13) else WRITE
        middle = [(q.data if data is None else data, length, flags)] if length else []
        return [(q.headers + 16 * slot, 16, 0)] + middle + [(q.status + slot, 1, WRITE)]

    def answered(self, status, slot=0):
        """status: the byte, or None for any."""
        if status is None:
            self.b.expect(self.q.status + slot, 0, 1, 0xFC)
        else:
            self.b.expect(self.q.status + slot, status, 1)
        return self

    def request(self, kind, sector, length, status=None, used_len=None, indirect=False):
        """A whole request by descriptors from 0 on, waited for."""
        self.header(kind, sector)
        self.place(self.buffers(kind, length), indirect)
        self.send(0).completed().answered(status)
        if used_len is None and status == Drive.OK:
            used_len = length + 1 if kind == Drive.IN else 1
        return self if used_len is None else self.used_is(0, used_len)
