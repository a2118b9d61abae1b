#!/usr/bin/env python3
"""Writes the seeds of fuzz_bzimage: small bzImages, each with what one branch of the loader needs."""
import os
import struct

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bzimage")


def bzimage(sects=1, size=0x230, pref=0x200000, align=0x1000, reloc=1, version=0x20F, init=0x10000, flags=1, length=0x6A, xflags=0x7F):
    image = bytearray((sects + 1) * 512 if sects else 2560) + b"\xf4" * size
    struct.pack_into("<BHI", image, 0x1F1, sects, 0, size // 16)
    struct.pack_into("<HBB4sH", image, 0x1FE, 0xAA55, 0xEB, length, b"HdrS", version)
    struct.pack_into("<B", image, 0x211, flags)
    struct.pack_into("<IIBBHI", image, 0x22C, 0x7FFFFFFF, align, reloc, 21, xflags, 2047)
    struct.pack_into("<QII", image, 0x258, pref, init, 0)
    return bytes(image)


SEEDS = {
    "minimal": bzimage(),
    "fixed": bzimage(reloc=0, pref=0x100000, align=0),
    "sects-0": bzimage(sects=0),
    "short-header": bzimage(length=0x62),
    "old": bzimage(version=0x20B),
    "zimage": bzimage(flags=0),
    "huge-init": bzimage(init=0xFFFFFFFF),
    "high": bzimage(pref=0xFFFFFFFFFFFFF000),
    "not-padded": bzimage()[:-15],
    "32-bit": bzimage(xflags=0x7E),
    "truncated": bzimage()[:0x500],
    "elf": b"\x7fELF" + bytes(0x300),
}

os.makedirs(HERE, exist_ok=True)
for seed, data in SEEDS.items():
    with open(os.path.join(HERE, seed), "wb") as out:
        out.write(data)
