"""The script that tests/guest/hostile.S interprets: operations, subroutines, cases, and their assembly into bytes.

A Block is a list of operations; what it refers to is placed, and given an address, when it is assembled. A Case is a
Block with a name: what is done to a device and what must come of it. Both end with done(). assemble() makes one script
of many cases.
"""
import struct

SCRIPT = 0x2000000
SCRIPT_MAX = 0x1000000
OP_SIZE = 32
# In the order of the payload's table.
OPS = ("end write add expect branch wait fill copy out in outs ins call return loop fence "
       "case print sync ap join jump halt undefined").split()
CODE = {name: i for i, name in enumerate(OPS)}
LOG2 = {1: 0, 2: 1, 4: 2, 8: 3}
FORMAT = "<BBHIQQQ"
AT_REST = 0xffff  # a number of a sync: the host sees to it that all threads of the monitor come to rest
U64 = (1 << 64) - 1
TICKS = 1024  # of about 5 ms: how long anything that has to happen may take


class Cell(int):
    """An address where the address, or the value, of an operation is to be found when it is run."""


class Block:
    """A list of operations: (name, width, count, addr, value, mask); count and value may be Blocks or labels."""

    cells = 0x300000  # where the next counter is; see new_cell

    def __init__(self):
        self.ops = []
        self.at = None  # address, when it is placed

    def op(self, name, width=4, addr=0, value=0, mask=U64, count=0):
        self.ops.append((name, width, count, addr, value, mask))
        return self

    def write(self, addr, value, width=4):
        return self.op("write", width, addr, value)

    def add(self, addr, value, width=4):
        return self.op("add", width, addr, value)

    def expect(self, addr, value, width=4, mask=U64):
        return self.op("expect", width, addr, value, mask & ((1 << 8 * width) - 1))

    def wait(self, addr, value, width=4, mask=U64, ticks=TICKS):
        return self.op("wait", width, addr, value, mask & ((1 << 8 * width) - 1), ticks)

    def branch(self, addr, value, to, width=4, mask=U64):
        return self.op("branch", width, addr, value, mask & ((1 << 8 * width) - 1), to)

    def jump(self, to):
        return self.branch(SCRIPT, 0, to, width=1, mask=0)

    def fill(self, addr, size, value=0):
        """Fills size bytes, a multiple of 8, with a value of 64 bits."""
        return self.op("fill", 8, addr, value, count=size // 8)

    def copy(self, to, source, count, width=8):
        return self.op("copy", width, to, source, count=count)

    def blob(self, addr, data):
        """Writes any bytes."""
        data += bytes(-len(data) % 4)
        at = 0
        while at < len(data):
            width = 8 if len(data) - at >= 8 else 4
            self.write(addr + at, int.from_bytes(data[at : at + width], "little"), width)
            at += width
        return self

    def out(self, port, value, width=1):
        return self.op("out", width, port, value)

    def inp(self, port, value=0, mask=0, width=1):
        return self.op("in", width, port, value, mask)

    def call(self, block):
        return self.op("call", value=block)

    def loop(self, count, body):
        """Runs body, a function that adds operations, count times."""
        start = len(self.ops)
        body()
        return self.op("loop", addr=new_cell(), value=("label", self, start), count=count)

    def done(self):
        """The end of a subroutine or case."""
        return self.op("return")

    def fence(self):
        return self.op("fence")

    def sync(self, number):
        """Waits until the host has done its part, hook number."""
        return self.op("sync", count=number)

    def text(self, text):
        return self.op("print", value=int.from_bytes(text.encode(), "little"))

    def here(self):
        return ("label", self, len(self.ops))


def new_cell():
    """The address of 8 bytes of zeros that nobody else uses."""
    Block.cells += 8
    return Block.cells - 8


class Case(Block):
    """One attack. row: its kind, see README.md. tags: "slow", "cpus2" (needs two vCPUs), "alone" (in its own VM)."""

    def __init__(self, name, row, tags=()):
        super().__init__()
        self.name, self.row, self.tags = name, row, frozenset(tags)
        self.hooks = {}
        self.ending = None  # exit statuses that are right, for a case that ends the VM
        self.command = None  # words: the VM is started for a command, whose init the case pretends to be
        self.prepare = None  # called with the directory of the images before the VM starts

    def hook(self, function):
        """The host runs function(vm) here while the guest waits."""
        number = len(self.hooks) + 1
        self.hooks[number] = function
        return self.sync(number)


def resolve(value):
    if isinstance(value, Block):
        return value.at
    if isinstance(value, tuple):
        return value[1].at + OP_SIZE * value[2]
    return value


def pack(op):
    name, width, count, addr, value, mask = op
    flags = isinstance(addr, Cell) | isinstance(value, Cell) << 1
    count, value = resolve(count), resolve(value)
    return struct.pack(FORMAT, CODE[name], LOG2[width], flags, count, addr & U64, value & U64, mask & U64)


def references(op):
    for value in (op[2], op[4]):
        if isinstance(value, Block):
            yield value
        elif isinstance(value, tuple):
            yield value[1]


def place(block):
    """Gives a block and all that it refers to, and so on, an address. Returns them in order."""
    placed, todo, at = {}, [block], SCRIPT
    while todo:
        block = todo.pop()
        if block in placed:
            continue
        placed[block] = True
        block.at = at
        at += OP_SIZE * len(block.ops)
        for op in block.ops:
            todo += references(op)
    assert at < SCRIPT + SCRIPT_MAX
    return list(placed)


def assemble(cases, prologue, recover):
    """One script of many cases, as bytes. recover is called when a case has failed, before the next one is tried."""
    main = Block().call(prologue).sync(0)
    for number, case in enumerate(cases):
        failed = Block()
        main.op("case", count=number, value=failed)
        main.call(case).sync(AT_REST).text("o\n")
        failed.call(recover).text("x\n").jump(main.here())
    main.op("case", count=len(cases), value=main).sync(0).op("end")
    return b"".join(pack(op) for block in place(main) for op in block.ops)


def assemble_alone(case, prologue):
    """One case that the host does not hear of: what it comes to is the VM's status. One that fails crashes."""
    failed = Block().op("undefined")
    main = Block().call(prologue).op("case", value=failed).call(case).op("end")
    return b"".join(pack(op) for block in place(main) for op in block.ops)
