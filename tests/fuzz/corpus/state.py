#!/usr/bin/env python3
"""Writes the seeds of fuzz_state: the states of tests/snapshot, on hosts with and without XSAVE2, SREGS2 and a TSC that scales."""
import os

HERE = os.path.dirname(os.path.abspath(__file__))
SNAPSHOTS = os.path.join(HERE, "../../snapshot")

for name in sorted(os.listdir(SNAPSHOTS)):
    path = os.path.join(SNAPSHOTS, name, "state")
    if not os.path.exists(path):
        continue
    for how in 0, 1, 15:
        with open(os.path.join(HERE, "state", f"{name}-{how}"), "wb") as out:
            out.write(bytes([how]) + open(path, "rb").read())
