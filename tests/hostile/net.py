"""virtio-net on a socket that speaks passt's protocol: what the guest sends comes back from the host."""
import collections
import socket
import struct
import threading

from script import Block, Cell, new_cell
from virtio import QUEUE_NOTIFY, WRITE, Device

HEADER_SIZE, FRAME_SIZE = 12, 64
WAITING_MAX = 16  # frames that the host keeps for a guest that takes none


class Echo:
    """The host's side: a frame is its length, 32 bits in network order, and that many bytes."""

    def __init__(self):
        self.ours, self.monitors = socket.socketpair()
        for end in (self.ours, self.monitors):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        self.waiting = collections.deque(maxlen=WAITING_MAX)
        self.more = threading.Semaphore(0)
        for target in (self.read, self.write):
            threading.Thread(target=target, daemon=True).start()

    def read(self):
        with self.ours.makefile("rb") as stream:
            try:
                while len(size := stream.read(4)) == 4:
                    self.waiting.append(size + stream.read(struct.unpack(">I", size)[0]))
                    self.more.release()
            except OSError:
                pass
        self.waiting.append(None)
        self.more.release()

    def write(self):
        try:
            while True:
                self.more.acquire()
                frame = self.waiting.popleft() if self.waiting else b""
                if frame is None:
                    break
                self.ours.sendall(frame)
        except OSError:
            pass

    def close(self):
        self.ours.shutdown(socket.SHUT_RDWR)
        self.ours.close()


class Net(Device):
    """rx and tx queue, of which tx is attacked."""

    device_id = 1
    main_name = "net"
    queues = 2
    attack_queue = 1
    MAC, MRG_RXBUF, F_STATUS = 1 << 5, 1 << 15, 1 << 16
    offered = MAC | MRG_RXBUF | F_STATUS
    config = bytes.fromhex("020000000001") + struct.pack("<HHH", 1, 1, 0)

    def __init__(self, index, name):
        super().__init__(index, name)
        self.rx = self.queue[0]
        self.echo = None
        self.mark = new_cell()
        self.search = self.make_search()

    def open(self):
        self.echo = Echo()
        return [self.echo.monitors.fileno()]

    def opened(self):
        self.echo.monitors.close()

    def close(self):
        self.echo.close()

    def option(self):
        return ["-n", f"fd={self.echo.monitors.fileno()},id={self.name},mac=02:00:00:00:00:01"]

    def frame(self, b, number=0):
        """A frame at headers, with a number of 64 bits in it."""
        at = self.q.headers + HEADER_SIZE
        b.fill(self.q.headers, HEADER_SIZE + FRAME_SIZE + 4).write(at, 0xFFFFFFFF).write(at + 4, 0xFFFF, 2)
        b.write(at + 6, 2, 8).write(at + 12, 0xB588, 2).write(at + 16, number, 8)

    def make_search(self):
        """Subroutine: receives until the frame with the number in mark comes, or 500 others have."""
        b, rx, count, found = Block(), self.rx, new_cell(), Block().done()
        b.write(count, 0, 8)
        start = b.here()
        b.write(rx.desc, rx.data, 8).write(rx.desc + 8, 4096 | WRITE << 32, 8)
        b.add(rx.avail + 2, 1, 2).write(self.reg(QUEUE_NOTIFY), 0).wait(rx.used + 2, Cell(rx.avail + 2), 2)
        b.branch(rx.data + HEADER_SIZE + 16, Cell(self.mark), found, 8)
        return b.op("loop", addr=count, value=start, count=500).done()

    def good(self, driver):
        """A frame goes out and comes back."""
        b = driver.b
        b.add(self.mark, 0x0101010101010101, 8)
        self.frame(b, Cell(self.mark))
        driver.chain([(self.q.headers, HEADER_SIZE + FRAME_SIZE, 0)]).send(0).completed()
        b.call(self.search).expect(self.rx.data + HEADER_SIZE + 16, Cell(self.mark), 8)

    def junk(self, driver, table=None):
        self.frame(driver.b)
        driver.chain([(self.q.headers, HEADER_SIZE + FRAME_SIZE, 0)], table=table)
