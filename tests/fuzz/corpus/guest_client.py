#!/usr/bin/env python3
"""Writes the seeds of fuzz_guest_client.c into tests/fuzz/corpus/guest_client: talks between guest, monitor and clients."""
import pathlib
import struct

MESSAGE, BYTES, CLIENT, ASK, GO, OUTPUT, MONITOR, READ = range(8)
STEPS, FROM_GUEST = 8, 0x80
HELLO, MARK, STARTED, EXIT, FAILED = 1, 2, 3, 4, 5
RUN, SIGNAL, SIZE = 16, 17, 18


def body(kind, number=0, value=0, flags=0, payload=b""):
    place = bytes([number]) if number < 66 else struct.pack("<BI", 0x80, number)
    return bytes([kind]) + place + struct.pack("<IBB", value, flags, len(payload)) + payload


def says(*args, **more):
    return bytes([MESSAGE]) + body(*args, **more)


def asks(client, *args, **more):
    return bytes([ASK + STEPS * client]) + body(*args, **more)


def step(kind, client=0):
    return bytes([kind + STEPS * client])


def sends(data, client=None):
    first = BYTES | FROM_GUEST if client is None else BYTES + STEPS * client
    return bytes([first, len(data)]) + data


def main():
    out = pathlib.Path(__file__).parent / "guest_client"
    out.mkdir(exist_ok=True)
    up = says(HELLO, value=1) + says(MARK) + says(MARK, value=2) + says(STARTED)
    runs = up + step(CLIENT) + asks(0, RUN, payload=b"als\0") + step(READ) + says(STARTED, number=1)
    over = step(OUTPUT) * 2
    seeds = {
        "whole": up + bytes([MONITOR, 3]) + says(EXIT, value=3, payload=b"why") + over,
        "output-first": up + over + says(EXIT, flags=1),
        "twice": up + says(STARTED) + says(EXIT, value=0x1FF) + says(EXIT) + over + says(EXIT),
        "failed": says(FAILED, payload=b"\033[31mno root\n"),
        "marks": says(HELLO) + says(MARK, value=3) + says(MARK, value=0xFFFFFFFF),
        "client": runs + asks(0, SIGNAL, value=2) + asks(0, SIZE, value=1) + says(EXIT, number=1) + step(GO),
        "client-goes": runs + step(GO) + step(READ) + step(CLIENT, 1) + asks(1, RUN) + says(EXIT, number=1),
        "nobodys": up + b"".join(says(EXIT, number=n) for n in (1, 2, 63, 64, 65, 1 << 31)),
        "too-early": step(CLIENT) + asks(0, RUN) + step(CLIENT, 1) + asks(1, SIGNAL),
        "too-late": up + step(CLIENT) + says(EXIT) + asks(0, RUN) + over,
        "nonsense": up + step(CLIENT) + sends(b"x", 0) + step(CLIENT) + sends(struct.pack("<5I", RUN, 0, 0, 0, 7), 0),
        "pieces": sends(struct.pack("<5I", EXIT, 0, 7, 0, 3)[:7]) + sends(struct.pack("<5I", EXIT, 0, 7, 0, 3)[7:]) +
                  sends(b"abc") + over,
        "too-long": up + sends(struct.pack("<5I", MARK, 0, 0, 0, (1 << 17) + 1)) + step(CLIENT) + asks(0, RUN),
    }
    for name, data in seeds.items():
        (out / name).write_bytes(data)


main()
