#!/usr/bin/env python3
"""Runs code that nobody has read, as an agent does: in a VM of its own, without a network, with limits.

    examples/untrusted.py [--seconds 10] [--memory 256M] ROOT PROGRAM... < CODE

ROOT is a directory, a file system's image, or the name of a container's image; PROGRAM reads the code from its stdin:

    echo 'print(6 * 7)' | examples/untrusted.py python:3.12-slim python3 -

Prints one JSON object that an agent can read: the status, the output, and the limit that was passed, if one was.
"""

import argparse
import json
import sys

import mayfly

OUTPUT_MAX = 100_000


def run_code(root: str, program: list[str], code: bytes, seconds: float, memory: str) -> dict[str, object]:
    """What became of the code. Raises MayflyError if the host is at fault."""
    try:
        result = mayfly.run(
            root,
            program,
            code,
            timeout=seconds,
            memory=memory,
            user="65534:65534",  # nobody
            jail=True,  # a second wall around the VM; as root, "strict,memory-max=600M,pids-max=64" limits it, too
            output_limit=OUTPUT_MAX,
        )
    except (mayfly.TimedOut, mayfly.OutputLimit) as e:
        return {"limit": e.message, "stdout": text(e.stdout), "stderr": text(e.stderr)}
    except mayfly.OutOfMemory as e:
        return {"limit": e.message, "stderr": e.last_words}
    return {"status": result.status, "stdout": text(result.stdout), "stderr": text(result.stderr)}


def text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs code from stdin in a VM.")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--memory", default="256M")
    parser.add_argument("root")
    parser.add_argument("program", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    if not args.program:
        parser.error("PROGRAM is missing")
    try:
        outcome = run_code(args.root, args.program, sys.stdin.buffer.read(), args.seconds, args.memory)
    except mayfly.MayflyError as e:
        print(e, file=sys.stderr)
        return 125
    print(json.dumps(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(main())
