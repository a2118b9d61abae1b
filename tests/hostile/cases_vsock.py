"""Abuse of vsock's packets, G43 to G47: all of them are answered or dropped."""
import itertools
import socket

from suite import family
from virtio import ADFO, NEEDS_RESET, STATUS
from vsock import CREDIT_UPDATE, HEADER_SIZE, REQUEST, RESPONSE, RST, RW, SHUTDOWN, Vsock, header

U32, U64 = (1 << 32) - 1, (1 << 64) - 1


@family(Vsock)
def kinds(suite, dev):
    for op in (0, 2, RST, SHUTDOWN, RW, CREDIT_UPDATE, 7, 8, 9, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF):
        for kind in (0, 1, 2, 3, 7, 0x8000, 0xFFFF):
            with suite.case(dev, f"operation {op} of type {kind}, unasked", "G45" if kind == 1 else "G44") as d:
                d.up()
                dev.send(d, header(op, kind))
                d.healthy()


@family(Vsock)
def addresses(suite, dev):
    cids = (0, 1, 2, 3, 4, 5, 0xFFFF, U32 - 1, U32, U32 + 1, U32 + 3, U32 + 4, 1 << 63, U64)
    for cid in cids:
        for side in ("source", "to"):
            for op in (REQUEST, RW, RST):
                if (side, cid) not in (("source", 3), ("to", 2)):
                    with suite.case(dev, f"operation {op}, {side} {cid:#x}", "G44") as d:
                        d.up()
                        dev.send(d, header(op, **{side: cid}))
                        d.healthy()
    for port in (0, 1, 1023, 0x7FFFFFFF, 0x80000000, U32):
        with suite.case(dev, f"a connection to port {port:#x}", "G45") as d:
            d.up()
            dev.receive(d.b)
            dev.send(d, header(REQUEST, port=port))
            d.b.wait(dev.rx.used + 2, 1, 2).expect(dev.rx.data + 30, RST, 2)


@family(Vsock)
def lengths(suite, dev):
    for length in range(0, HEADER_SIZE):
        with suite.case(dev, f"a header of {length} bytes", "G44") as d:
            d.up()
            if length:
                dev.send(d, header(REQUEST), length)
                dev.unharmed(d)
            else:
                d.chain([(dev.q.headers, 0, 0)]).send(0).completed()
    for claimed in (1, 43, 44, 45, 4096, 65536, 65537, 0x7FFFFFFF, 0x80000000, U32 - 43, U32 - 44, U32):
        for op in (REQUEST, RW, SHUTDOWN, RST):
            for real in (0, 1, 4096):
                with suite.case(dev, f"operation {op} says {claimed:#x} bytes, has {real}", "G44") as d:
                    d.up()
                    dev.send(d, header(op, length=claimed), HEADER_SIZE + real)
                    d.healthy()


@family(Vsock)
def credit(suite, dev):
    for buf_alloc in (0, 1, 0x7FFFFFFF, 0x80000000, U32):
        for fwd_cnt in (0, 1, 0x7FFFFFFF, 0x80000000, U32):
            with suite.case(dev, f"a connection with buf_alloc {buf_alloc:#x}, fwd_cnt {fwd_cnt:#x}", "G46") as d:
                d.up()
                dev.send(d, header(REQUEST, buf_alloc=buf_alloc, fwd_cnt=fwd_cnt))
                dev.send(d, header(CREDIT_UPDATE, buf_alloc=buf_alloc, fwd_cnt=fwd_cnt))
                d.healthy()


@family(Vsock)
def receive_buffers(suite, dev):
    """A buffer without room for data breaks the device; none at all holds up what is sent, and no more."""
    for length in (0, 1, 16, 43, 44):
        with suite.case(dev, f"a receive buffer of {length} bytes", "G43") as d:
            d.up()
            dev.receive(d.b, length)
            dev.send(d, header(REQUEST))
            d.b.wait(dev.reg(STATUS), ADFO | NEEDS_RESET)
    for number in (10, 2000):
        with suite.case(dev, f"{number} connections, and no receive buffer", "G47") as d:
            d.up().b.blob(dev.q.headers, header(REQUEST))
            d.chain([(dev.q.headers, HEADER_SIZE, 0)]).b.loop(number, lambda: d.b.add(dev.q.avail + 2, 1, 2))
            if number > 256:
                d.b.write(dev.q.avail + 2, 256, 2)
            d.notify()
            suite.settle(d)
            d.healthy()
    with suite.case(dev, "receive buffers that the device may not write", "G43") as d:
        d.up()
        d.b.write(dev.rx.desc, dev.rx.data, 8).write(dev.rx.desc + 8, 4096, 8).write(dev.rx.avail + 2, 1, 2)
        d.notify(0)
        dev.send(d, header(REQUEST))
        d.b.wait(dev.reg(STATUS), ADFO | NEEDS_RESET)


def fill(peer):
    peer.setblocking(False)
    try:
        while True:
            peer.send(bytes(65536))
    except BlockingIOError:
        pass


PEERS = {
    "does nothing": lambda peer: None,
    "half-closes": lambda peer: peer.shutdown(socket.SHUT_WR),
    "takes no more": lambda peer: peer.shutdown(socket.SHUT_RD),
    "takes and gives no more": lambda peer: peer.shutdown(socket.SHUT_RDWR),
    "closes": lambda peer: peer.close(),
    "sends and half-closes": lambda peer: peer.send(b"x") and peer.shutdown(socket.SHUT_WR),
    "sends and closes": lambda peer: peer.send(b"x") and peer.close(),
    "sends all it can": fill,
}
GUESTS = {"does nothing": None, "receives no more": 1, "sends no more": 2, "shuts down": 3}


@family(Vsock)
def peers(suite, dev):
    """Each state that the two ends of a connection can leave it in, for as long as they like: no thread turns."""
    for port, (peer, guest, first) in enumerate(itertools.product(PEERS, GUESTS, (False, True)), 2000):
        order = f"guest {guest}, host {peer}" if first else f"host {peer}, guest {guest}"
        with suite.case(dev, f"a connection: {order}", "G50") as d:
            acts = [lambda vm, act=PEERS[peer]: dev.at_peer(act), GUESTS[guest]]
            d.up().b.hook(lambda vm, port=port: dev.listen(vm, port))
            dev.receive(d.b)
            dev.send(d, header(REQUEST, port=port))
            d.b.wait(dev.rx.used + 2, 1, 2).expect(dev.rx.data + 30, RESPONSE, 2)
            for act in reversed(acts) if first else acts:
                if callable(act):
                    d.b.hook(act)
                elif act:
                    dev.send(d, header(SHUTDOWN, port=port, flags=act))
            d.healthy()
