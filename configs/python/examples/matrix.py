#!/usr/bin/env python3
"""A test matrix: the same directory and command on several roots and with several settings, each in a VM of its own.

    examples/matrix.py [--jobs N] --on ROOT [--on ROOT...] [--with NAME=VALUE,VALUE...] SOURCE COMMAND...

    examples/matrix.py --on debian:12 --on alpine:3.20 --with CC=gcc,clang . make check

Each guest has a copy of SOURCE as /src, where COMMAND runs. Prints a line for each cell, and the output of those that failed.
"""

import argparse
import asyncio
import itertools
import sys

import mayfly


async def run_cell(
    root: str, env: dict[str, str], source: str, command: list[str], at_once: asyncio.Semaphore
) -> bool:
    """Runs the command in one VM. Whether it has passed."""
    name = " ".join([root, *(f"{key}={value}" for key, value in env.items())])
    async with at_once:
        try:
            result = await mayfly.run_async(
                root, command, env=env, workdir="/src", volumes=[f"{source}:/src:copy"], memory="512M", timeout=600
            )
        except mayfly.MayflyError as e:
            print(f"FAILED  {name}: {e}", flush=True)
            return False
    print(f"{'passed' if result.status == 0 else 'FAILED'}  {name}", flush=True)
    if result.status != 0:
        print((result.stdout + result.stderr).decode("utf-8", "replace"), flush=True)
    return result.status == 0


async def run(args: argparse.Namespace) -> bool:
    """Runs all cells. Whether all have passed."""
    keys = [setting.partition("=")[0] for setting in args.settings]
    values = [setting.partition("=")[2].split(",") for setting in args.settings]
    at_once = asyncio.Semaphore(args.jobs)
    cells = [
        run_cell(root, dict(zip(keys, chosen)), args.source, args.command, at_once)
        for root in args.on
        for chosen in itertools.product(*values)
    ]
    return all(await asyncio.gather(*cells))


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs a command in many VMs.")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--on", action="append", required=True, metavar="ROOT")
    parser.add_argument("--with", action="append", default=[], dest="settings", metavar="NAME=VALUE,VALUE...")
    parser.add_argument("source")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    if not args.command:
        parser.error("COMMAND is missing")
    return 0 if asyncio.run(run(args)) else 1


if __name__ == "__main__":
    sys.exit(main())
