#!/usr/bin/env python3
"""Writes the seeds of fuzz_device_state: for each kind of device, the state that one has."""
import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
DRIVE, OVERLAY, NET, VSOCK, SERIAL, IOAPIC = range(6)
VERSION_1, EVENT_IDX, INDIRECT = 1 << 32, 1 << 29, 1 << 28
ACTIVE, NEEDS_RESET = 15, 0x40
BUCKET = (4096, 100000000, 0, 1000, 0, 7)
FREE = (0, 0, 0, 0, 0, 0)


def queue(index=0, size=8, ready=1):
    return struct.pack("<HBQQQHH", size, ready, 0, 0x1000, 0x2000, index, index)


def transport(device, queues, status=ACTIVE, features=VERSION_1, irq=0, used=0, config=0):
    head = struct.pack("<IBIQBIIIIIBB", device, len(queues), status, features, 0, 0, 1, 0, 2, irq, used, config)
    return head + b"".join(queues)


def buckets(*each):
    return b"".join(struct.pack("<6Q", *bucket) for bucket in each)


def rings(idx, *heads):
    return struct.pack("<HH", 0, idx) + b"".join(struct.pack("<H", head) for head in heads)


DRIVE_PART = struct.pack("<4B5Q", 0, 0, 0, 0, 128, 1, 65536, 2, 3) + buckets(BUCKET, FREE)
NET_PART = bytes([2, 0, 0, 0, 0, 0]) + struct.pack("<HB", 0, 1) + buckets(BUCKET, FREE, FREE, FREE)
VSOCK_PART = struct.pack("<I", (1 << 30) - 1)
EMPTY = bytes(64)

SEEDS = {
    "drive": (DRIVE, transport(2, [queue()]) + DRIVE_PART, EMPTY),
    "drive-full": (DRIVE, transport(2, [queue()], features=VERSION_1 | EVENT_IDX | INDIRECT) + DRIVE_PART,
                   rings(8, *range(8))),
    "drive-index": (DRIVE, transport(2, [queue(65530)], irq=1, used=1, config=1) + DRIVE_PART, rings(65534, 1, 3, 5, 7)),
    "drive-broken": (DRIVE, transport(2, [queue()], status=ACTIVE | NEEDS_RESET) + DRIVE_PART, EMPTY),
    "drive-reset": (DRIVE, transport(2, [queue(0, 0, 0)], status=0, features=0) + DRIVE_PART, EMPTY),
    "overlay": (OVERLAY, transport(2, [queue()]) + DRIVE_PART, rings(1, 0)),
    "net": (NET, transport(1, [queue(), queue(0, 16)]) + NET_PART, rings(4, 0, 2, 4, 6)),
    "net-one-queue": (NET, transport(1, [queue(), queue(0, 0, 0)]) + NET_PART, rings(4, 0, 2, 4, 6)),
    "vsock": (VSOCK, transport(19, [queue(), queue(), queue()]) + VSOCK_PART, rings(4, 0, 2, 4, 6)),
    "vsock-event": (VSOCK, transport(19, [queue(4), queue(4), queue()]) + VSOCK_PART, rings(4, 0, 2, 4, 6)),
    "serial": (SERIAL, bytes([3, 5, 1, 3, 11, 0, 0, 1, 0, 0, 1, 1, 1, 2]) + struct.pack("<B3HB", 3, 97, 0x100, 98, 0),
               EMPTY),
    "ioapic": (IOAPIC, struct.pack("<BIB8Q", 0x12, 0, 8, 0x931, 0x10000, 1 << 32 | 0x51, 1 << 32 | 0x10051, *[0x10000] * 4),
               EMPTY),
}

os.makedirs(os.path.join(HERE, "device_state"), exist_ok=True)
for name, (kind, payload, ring) in SEEDS.items():
    with open(os.path.join(HERE, "device_state", name), "wb") as f:
        f.write(bytes([kind]) + payload + ring.ljust(64, b"\0"))
