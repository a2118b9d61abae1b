"""A payload that pretends to be init, G53: it connects from privileged ports, and says what no init would.

Its VM is started for a command, so nothing of it is heard but the status that the monitor ends with.
"""
import contextlib
import struct

from suite import family
from virtio import STATUS
from vsock import REQUEST, RESPONSE, RST, RW, SHUTDOWN, Vsock, header

CONTROL_PORT, STREAM_PORT = 0x6D660000, 0x6D680000
HELLO, MARK, STARTED, EXIT, FAILED = 1, 2, 3, 4, 5
PAYLOAD_MAX, COMMANDS_MAX = 1 << 17, 64
FAILURE = 125
U32 = (1 << 32) - 1


def message(kind, number=0, value=0, flags=0, payload=b"", length=None):
    return struct.pack("<5I", kind, number, value, flags, len(payload) if length is None else length) + payload


class Init:
    """What init does by vsock, for a driver of that."""

    def __init__(self, dev, d):
        self.dev, self.d, self.own = dev, d, 900

    def packet(self, op, port, own, data=b"", flags=0):
        self.d.b.blob(self.dev.q.headers, header(op, port=port, own=own, length=len(data), flags=flags) + data)
        self.d.chain([(self.dev.q.headers, 44 + len(data), 0)]).send(0).completed()

    def connect(self, port, answer=RESPONSE, own=None):
        """Takes the next port of its own, or that. The answer is the next packet that comes."""
        if own is None:
            own, self.own = self.own, self.own + 1
        self.dev.receive(self.d.b)
        self.packet(REQUEST, port, own)
        self.d.b.wait(self.dev.rx.data + 30, answer, 2)
        return port, own

    def say(self, connection, data):
        self.packet(RW, *connection, data)

    def say_last(self, connection, data):
        """On which the monitor closes the connection."""
        self.dev.receive(self.d.b)
        self.say(connection, data)
        self.d.b.wait(self.dev.rx.data + 30, SHUTDOWN, 2)

    def close(self, connection):
        self.dev.receive(self.d.b)
        self.packet(SHUTDOWN, *connection, flags=3)
        self.d.b.wait(self.dev.rx.data + 30, RST, 2)


@contextlib.contextmanager
def pretends(suite, dev, name, statuses):
    """A case in which init has connected, has said HELLO, and has opened and closed the command's output."""
    with suite.ending(f"init {name}", "G53", statuses) as case:
        case.command = ["true"]
        d = suite.driver(case, dev).up()
        init = Init(dev, d)
        control = init.connect(CONTROL_PORT)
        init.say(control, message(HELLO, value=1))
        for stream in (1, 2):
            init.close(init.connect(STREAM_PORT + stream))
        yield init, control


def stay(init):
    """Until the monitor ends the VM, or else for some seconds: then the case has failed, and the guest crashes."""
    init.d.b.wait(init.dev.reg(STATUS), 0xBAD)


@family(Vsock)
def statuses(suite, dev):
    for value in (0, 7, 255, 256, 0x107, 0x7FFFFFFF, 0x80000000, U32):
        with pretends(suite, dev, f"says EXIT with {value:#x}", {value & 0xFF}) as (init, control):
            init.say(control, message(EXIT, value=value))
            stay(init)
    with pretends(suite, dev, "says EXIT again and again", {7}) as (init, control):
        init.say(control, b"".join(message(EXIT, value=v) for v in (7, 8, 9)) + message(FAILED))
        stay(init)


@family(Vsock)
def made_up(suite, dev):
    """What means nothing changes nothing: the status that is said last is the command's."""
    numbers = (1, 2, COMMANDS_MAX - 1, COMMANDS_MAX, COMMANDS_MAX + 1, 0x4000, 0x7FFFFFFF, 0x80000000, U32)
    with pretends(suite, dev, "tells of commands that nobody runs", {5}) as (init, control):
        for kind in (STARTED, EXIT):
            init.say(control, b"".join(message(kind, n, U32, U32, b"x") for n in numbers))
        init.say(control, message(EXIT, value=5))
        stay(init)
    with pretends(suite, dev, "sends marks that there are not", {5}) as (init, control):
        init.say(control, b"".join(message(MARK, value=v) for v in (3, 4, 255, 256, 0x7FFFFFFF, 0x80000000, U32)))
        init.say(control, message(EXIT, value=5))
        stay(init)
    with pretends(suite, dev, "sends messages of every type", {5}) as (init, control):
        types = [t for t in range(40) if t not in (EXIT, FAILED)] + [0x100, 0x80000000, U32]
        init.say(control, b"".join(message(t, value=U32, flags=U32, payload=b"\033[2J") for t in types))
        init.say(control, message(EXIT, value=5))
        stay(init)
    with pretends(suite, dev, "sends a message byte by byte", {5}) as (init, control):
        for byte in message(EXIT, value=5, payload=b"why"):
            init.say(control, bytes([byte]))
        stay(init)


@family(Vsock)
def failures(suite, dev):
    with pretends(suite, dev, "says FAILED, with text for a terminal", {FAILURE}) as (init, control):
        init.say(control, message(FAILED, payload=bytes(range(1, 256)) * 8))
        stay(init)
    for length in (PAYLOAD_MAX + 1, 0x7FFFFFFF, 0x80000000, U32 - 19, U32):
        with pretends(suite, dev, f"says that {length:#x} bytes follow", {FAILURE}) as (init, control):
            init.say_last(control, message(MARK, length=length) + message(EXIT, value=5))
    with pretends(suite, dev, "begins a message and resets the machine", {FAILURE}) as (init, control):
        init.say(control, message(EXIT, value=5, payload=b"why")[:-1])
    with pretends(suite, dev, "closes its connection", {FAILURE}) as (init, control):
        init.close(control)


@family(Vsock)
def connections(suite, dev):
    """A connection lent to init is for it alone, once: it continues."""
    with pretends(suite, dev, "connects twice", {5}) as (init, control):
        init.connect(CONTROL_PORT, RST)
        init.say(control, message(EXIT, value=5))
        stay(init)
    with pretends(suite, dev, "opens streams that nobody lent", {5}) as (init, control):
        for port in (STREAM_PORT + 3, STREAM_PORT + 4, STREAM_PORT - 1, CONTROL_PORT - 1, CONTROL_PORT + 1):
            init.connect(port, RST)
        init.say(control, message(EXIT, value=5))
        stay(init)
    with suite.ending("init is a program without privileges", "G53", {FAILURE}) as case:
        case.command = ["true"]
        init = Init(dev, suite.driver(case, dev).up())
        for own in (1024, 65535, 0x80000000, U32):
            init.connect(CONTROL_PORT, RST, own)
