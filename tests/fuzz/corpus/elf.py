#!/usr/bin/env python3
"""Writes the seeds of fuzz_elf: small ELF kernels, each with what one branch of the loader needs."""
import os
import struct

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "elf")
TEXT, NOTES = 0x200, 0x260


def note(name, kind, desc):
    def pad(data):
        return data + bytes(-len(data) % 4)

    return struct.pack("<III", len(name) + 1, len(desc), kind) + pad(name + b"\0") + pad(desc)


def elf(segments, notes=b"", size=0x300, machine=62, entry=0x100000):
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, entry, 64, 0, 0, 64, 56, len(segments), 0, 0, 0)
    for kind, flags, offset, paddr, filesz, memsz in segments:
        head += struct.pack("<IIQQQQQQ", kind, flags, offset, 0, paddr, filesz, memsz, 4)
    image = bytearray(max(size, NOTES + len(notes)))
    image[: len(head)] = head
    image[TEXT : TEXT + 2] = b"\xf4\xf4"
    image[NOTES : NOTES + len(notes)] = notes
    return bytes(image)


def elf32(segments, notes, machine=3, entry=0x100000):
    head = b"\x7fELF\x01\x01\x01" + bytes(9)
    head += struct.pack("<HHIIIIIHHHHHH", 2, machine, 1, entry, 52, 0, 0, 52, 32, len(segments), 0, 0, 0)
    for kind, flags, offset, paddr, filesz, memsz in segments:
        head += struct.pack("<IIIIIIII", kind, offset, 0, paddr, filesz, memsz, flags, 4)
    image = elf([], notes)
    return head + image[len(head) :]


LOAD = (1, 5, TEXT, 0x100000, 0x40, 0x40)
XEN = note(b"Xen", 18, struct.pack("<I", 0x100000)) + note(b"Linux", 257, bytes(4))
SEEDS = {
    "minimal": elf([LOAD]),
    "bss": elf([LOAD, (1, 6, 0x240, 0x200000, 0x20, 0x3000)]),
    "notes": elf([LOAD, (4, 4, NOTES, 0, len(XEN), len(XEN))], XEN),
    "class32": elf32([LOAD, (1, 6, 0x240, 0x200000, 0x20, 0x3000), (4, 4, NOTES, 0, len(XEN), len(XEN))], XEN),
    "class32-no-note": elf32([LOAD], b""),
    "pvh-only": elf([LOAD, (3, 4, TEXT, 0, 1, 1), (4, 4, NOTES, 0, len(XEN), len(XEN))], XEN, entry=0),
    "pages": elf([(1, 5, 0, 0x100000, 0x1200, 0x1200)], size=0x1200),
    "overlap": elf([LOAD, LOAD]),
    "arm64": elf([LOAD], machine=183),
    "bzimage": bytes(0x202) + b"HdrS" + bytes(0x20),
    "gzip": b"\x1f\x8b\x08\x00",
}

os.makedirs(HERE, exist_ok=True)
for seed, data in SEEDS.items():
    with open(os.path.join(HERE, seed), "wb") as out:
        out.write(data)
