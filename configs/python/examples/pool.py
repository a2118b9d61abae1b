#!/usr/bin/env python3
"""A pool of sandboxes behind a queue: jobs wait for a VM that runs already, and no VM has two jobs.

    examples/pool.py [--size 4] [--warm COMMAND] ROOT < JOBS

Each line of JOBS is a command of the guest's shell. One VM boots and runs COMMAND, to warm up; the pool is made of its
clones, which share its memory. A VM that a job has used is ended, and a new clone takes its place meanwhile.
"""

import argparse
import asyncio
import collections.abc
import contextlib
import sys
import tempfile

import mayfly


class Pool:
    """Clones that wait for jobs. `async with` makes and ends them."""

    def __init__(self, snapshot: str, size: int) -> None:
        self._snapshot = snapshot
        self._size = size
        self._ready: asyncio.Queue[mayfly.AsyncSandbox | mayfly.MayflyError] = asyncio.Queue()
        self._starts: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Pool":
        for _ in range(self._size):
            self._refill()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._starts:
            task.cancel()  # start() ends what it has begun
        await asyncio.gather(*self._starts, return_exceptions=True)
        while not self._ready.empty():
            found = self._ready.get_nowait()
            if isinstance(found, mayfly.AsyncSandbox):
                await found.close()

    def _refill(self) -> None:
        task = asyncio.create_task(self._start())
        self._starts.add(task)
        task.add_done_callback(self._starts.discard)

    async def _start(self) -> None:
        try:
            self._ready.put_nowait(await mayfly.AsyncSandbox.restore(self._snapshot).start())
        except mayfly.MayflyError as e:
            self._ready.put_nowait(e)  # for a job that waits

    @contextlib.asynccontextmanager
    async def sandbox(self) -> collections.abc.AsyncIterator[mayfly.AsyncSandbox]:
        """The next VM that is ready. It is ended when the block ends."""
        found = await self._ready.get()
        if isinstance(found, mayfly.MayflyError):
            self._ready.put_nowait(found)  # the next job would wait without end
            raise found
        async with found as sandbox:
            self._refill()
            yield sandbox


async def run(root: str, size: int, warm: str, jobs: list[str]) -> int:
    """Runs all jobs, `size` at once. Returns how many have failed."""
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        async with mayfly.AsyncSandbox(root) as first:
            (await first.run(warm)).check()
            await first.snapshot(f"{folder}/warm")
        async with Pool(f"{folder}/warm", size) as pool:
            at_once = asyncio.Semaphore(size)

            async def work(number: int, job: str) -> bool:
                async with at_once, pool.sandbox() as sandbox:
                    result = await sandbox.run(job, timeout=60)
                print(f"{number}: status {result.status}: {result.text.strip()}", flush=True)
                return result.status != 0

            failed = sum(await asyncio.gather(*(work(n, job) for n, job in enumerate(jobs, 1))))
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs commands from stdin, each in a VM of its own.")
    parser.add_argument("--size", type=int, default=4)
    parser.add_argument("--warm", default="true")
    parser.add_argument("root")
    args = parser.parse_args()
    try:
        return 1 if asyncio.run(run(args.root, args.size, args.warm, sys.stdin.read().splitlines())) else 0
    except mayfly.MayflyError as e:
        print(e, file=sys.stderr)
        return 125


if __name__ == "__main__":
    sys.exit(main())
