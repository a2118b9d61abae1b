#!/usr/bin/env python3
"""Writes the seeds of fuzz_net.c into tests/fuzz/corpus/net: rings as a driver fills them, and what happens to them."""
import pathlib
import struct

WRITE, NEXT = 2, 1
MRG, CSUM, TSO4, GUEST_TSO4 = 1 << 15, 1, 1 << 11, 1 << 7


def ring(descs, heads):
    table = b"".join(struct.pack("<QIHH", *d) for d in descs).ljust(0x100, b"\0")
    avail = struct.pack("<HH", 0, len(heads)) + b"".join(struct.pack("<H", h) for h in heads)
    return (table + avail).ljust(0x400, b"\0")


def seed(features, steps, rx, tx, more=b""):
    return struct.pack("<QB", features, 3) + bytes(steps).ljust(7, b"\0") + rx + tx + more


def main():
    empty = ring([], [])
    rx = ring([(0x10000 + 0x1000 * i, 0x600, WRITE, 0) for i in range(8)], range(8))
    big = ring([(0x10000 + 0x1000 * i, 0x1000, WRITE, 0) for i in range(16)], range(16))
    tx = ring([(0x20000, 12, NEXT, 1), (0x30000, 60, 0, 0), (0x20000, 1000, 0, 0)], [0, 2])
    # The header is in the ring's own memory, at the head of its descriptors.
    gso = ring([(0x100000001, 0x36000000, 0, 0), (0x4000, 12, NEXT, 2), (0x30000, 3000, 0, 0)], [1])
    out = pathlib.Path(__file__).parent / "net"
    out.mkdir(exist_ok=True)
    seeds = {
        "receive": seed(0, [0, 7, 23, 0], rx, empty),
        "merged": seed(MRG, [0, 7, 255, 47, 3], rx, empty),
        "merged-large": seed(MRG | GUEST_TSO4, [0, 255, 255], big, empty),
        "send": seed(0, [1, 2, 2], empty, tx),
        "send-gso": seed(CSUM | TSO4, [1, 2], empty, gso),
        "both": seed(MRG | CSUM, [0, 1, 7, 2, 3], rx, tx, bytes(range(64))),
    }
    for name, data in seeds.items():
        (out / name).write_bytes(data)


if __name__ == "__main__":
    main()
