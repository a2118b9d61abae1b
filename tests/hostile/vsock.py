"""virtio-vsock. Where nothing on the host listens, what is asked for is refused by RST; some cases have a listener."""
import contextlib
import socket
import struct

from script import Cell
from virtio import ADFO, NEEDS_RESET, QUEUE_NOTIFY, STATUS, WRITE, Device

HOST, GUEST, NOBODYS_PORT = 2, 3, 9999
STREAM = 1
REQUEST, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST = range(1, 8)
HEADER_SIZE = 44


def header(op, kind=STREAM, source=GUEST, to=HOST, length=0, flags=0, buf_alloc=65536, fwd_cnt=0, port=NOBODYS_PORT,
           own=1024):
    return struct.pack("<QQIIIHHIII", source, to, own, port, length, kind, op, flags, buf_alloc, fwd_cnt)


class Vsock(Device):
    """rx, tx and event queue, of which tx is attacked."""

    device_id = 19
    main_name = "vsock"
    queues = 3
    attack_queue = 1
    config = struct.pack("<Q", GUEST)

    def __init__(self, index, name):
        super().__init__(index, name)
        self.rx = self.queue[0]
        self.listener = self.peer = None

    # A program of the host's, for one case at a time. What is left of the last one goes as the next begins.

    def listen(self, vm, port):
        self.close()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.settimeout(10)
        self.listener.bind(f"{vm.directory}/{self.name}.sock_{port}")
        self.listener.listen()

    def at_peer(self, act):
        """Calls act with the host's end of the guest's connection."""
        self.peer, _ = self.listener.accept()
        self.peer.settimeout(10)
        with contextlib.suppress(BrokenPipeError):  # the guest takes no more
            act(self.peer)

    def close(self):
        for end in (self.listener, self.peer):
            if end:
                end.close()
        self.listener = self.peer = None

    def option(self):
        return ["--vsock", f"{self.name}.sock,cid={GUEST}"]

    def receive(self, b, length=4096):
        """Offers the one buffer of rx, again."""
        b.write(self.rx.desc, self.rx.data, 8).write(self.rx.desc + 8, length | WRITE << 32, 8)
        b.write(self.rx.data + 28, 0, 4).add(self.rx.avail + 2, 1, 2).write(self.reg(QUEUE_NOTIFY), 0)

    def send(self, driver, packet, length=HEADER_SIZE):
        driver.b.blob(self.q.headers, packet)
        driver.chain([(self.q.headers, length, 0)]).send(0).completed()

    def good(self, driver):
        """A connection to a port where nobody listens."""
        self.receive(driver.b)
        self.send(driver, header(REQUEST))
        driver.b.wait(self.rx.used + 2, Cell(self.rx.avail + 2), 2)
        driver.b.expect(self.rx.data + 30, RST, 2).expect(self.rx.data + 16, NOBODYS_PORT)

    def junk(self, driver, table=None):
        driver.b.fill(self.q.headers, 48)
        driver.chain([(self.q.headers, HEADER_SIZE, 0)], table=table)

    def unharmed(self, driver):
        """After whatever was sent, in the same life, a connection is still refused as it should be."""
        driver.b.expect(self.reg(STATUS), ADFO, mask=ADFO | NEEDS_RESET)
        self.good(driver)
