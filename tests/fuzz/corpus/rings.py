#!/usr/bin/env python3
"""Writes the seeds of fuzz_virtq, fuzz_blk and fuzz_mmio: what a good driver does, and a few things that none does."""
import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
NEXT, WRITE, INDIRECT = 1, 2, 4
POP, UNPOP, PUSH, INTERRUPT, NOTIFY = 0, 8, 2, 4, 5


def desc(addr, length, flags=0, following=0):
    return struct.pack("<QIHH", addr, length, flags, following)


def virtq(shape, descriptors, heads, idx, steps):
    """shape: log2 of the size, 16 for EVENT_IDX, 32 for indirect."""
    image = b"".join(descriptors)
    body = struct.pack("<BH", shape, len(image)) + image + bytes([len(heads)]) + bytes(heads) + struct.pack("<H", idx)
    return body + bytes(byte for step in steps for byte in step)


CHAIN = [desc(0x8000, 16, NEXT, 1), desc(0x9000, 512, NEXT | WRITE, 2), desc(0xA000, 1, WRITE)]
VIRTQ = {
    "chain": virtq(3, CHAIN, [0], 1, [(POP, 0), (PUSH, 0), (INTERRUPT, 0), (NOTIFY, 0), (POP, 0)]),
    "event-idx": virtq(3 | 16, CHAIN, [0], 1, [(POP, 0), (PUSH, 0), (INTERRUPT, 0), (NOTIFY, 0)]),
    "unpop": virtq(3, CHAIN, [0], 1, [(UNPOP, 0), (POP, 0), (PUSH, 0)]),
    "indirect": virtq(3 | 32, [desc(0x10, 32, INDIRECT), *CHAIN[:2]], [0], 1, [(POP, 0), (PUSH, 0)]),
    "indirect-refused": virtq(3, [desc(0x10, 32, INDIRECT), *CHAIN[:2]], [0], 1, [(POP, 0), (POP, 0)]),
    "loop": virtq(1, [desc(0x8000, 16, NEXT, 1), desc(0x8000, 16, NEXT, 0)], [0], 1, [(POP, 0), (NOTIFY, 0)]),
    "same-head": virtq(3, CHAIN, [0, 0], 2, [(POP, 0), (POP, 0), (PUSH, 0)]),
    "ahead": virtq(3, CHAIN, [0], 9, [(POP, 0)]),
    "full": virtq(8, [desc(0x8000, 16)] * 31, range(31), 31, [(POP, 0)] * 31 + [(PUSH, n) for n in range(31)]),
}

# fuzz_blk: a request is (0, slot, descriptors - 1, readable ones, type, sector, a length's index for each); lengths
# 3: 16, 6: 512, 1: 1 byte. The shape: 1 read-only, 2 FLUSH, 4 EVENT_IDX, 8 settle.
KICK, COMPLETE = (3,), (2 | 15 << 2, 0)


def request(kind, sector, lengths, readable=1, slot=0):
    return (0, slot, len(lengths) - 1, readable, kind, 0, sector, *lengths)


def blk(shape, *steps):
    return bytes([shape] + [byte for step in steps for byte in step])


BLK = {
    "read": blk(2, request(0, 1, (3, 6, 1)), KICK, COMPLETE),
    "write": blk(2, request(1, 1, (3, 6, 1), 2), KICK, COMPLETE),
    "write-without-flush": blk(0, request(1, 1, (3, 6, 1), 2), KICK, COMPLETE, COMPLETE),
    "flush": blk(2 | 4, request(4, 0, (3, 1)), KICK, COMPLETE),
    "get-id": blk(0, request(8, 0, (3, 11, 1)), KICK),
    "no-status": blk(0, request(0, 0, (3, 6), 2), KICK),
    "read-only": blk(1, request(1, 1, (3, 6, 1), 2), KICK),
    "reset-in-flight": blk(2, *[request(0, n, (3, 6, 1), slot=n) for n in range(8)], KICK),
    "settled": blk(8, *[request(n % 2, n, (3, 6, 1), 1 + n % 2, n) for n in range(8)], KICK),
    "full-loop": blk(0, *[request(0, n, (3, 6, 1), slot=n) for n in range(4)], (0x83,), (0x83,)),
}

UP, ACCESS, REQUEST, PUBLISH, KICKED, DONE, TASKS = 0x80, 1, 3, 6, 7, 0xF9, 14
MMIO = {
    "bring-up": bytes([UP, 0]),
    "read": bytes([UP, 0, REQUEST, 0, 0, 1, KICKED, DONE, 0, TASKS]),
    "write": bytes([UP, 3, REQUEST, 0, 1, 1, KICKED, DONE, 0, TASKS]),
    "reset-in-flight": bytes([UP, 1, REQUEST, 0, 0, 1, REQUEST, 1, 0, 2, KICKED, UP, 1, KICKED]),
    "error": bytes([UP, 0, REQUEST, 0, 0, 1, KICKED, 9, 0, TASKS]),
    "ahead": bytes([UP, 0, PUBLISH, 1, 0, 0x80, KICKED, TASKS]),
    "bad-queue-size": bytes([ACCESS, 0, 8, 1, ACCESS, 0, 8, 3, ACCESS, 0, 8, 4, ACCESS, 14, 8, 9, ACCESS, 17, 8, 1]),
    "wide-access": bytes([ACCESS, 0, 0x0F, 4, 0x70, 0, ACCESS, 0, 0x07, 0x00, 0x01]),
}

for target, seeds in (("virtq", VIRTQ), ("blk", BLK), ("mmio", MMIO)):
    os.makedirs(os.path.join(HERE, target), exist_ok=True)
    for seed, data in seeds.items():
        with open(os.path.join(HERE, target, seed), "wb") as out:
            out.write(data)
