"""A process of mayfly, and its pipes, on an asyncio loop.

Theory of operation. asyncio's own processes are not used: a task that is cancelled while asyncio starts one kills it by
SIGKILL, after which mayfly cannot remove its sockets. Here a process is started by one call that no cancellation can
divide, and a pidfd reports its end without a thread. `stop` goes on to its end when it is cancelled, and raises that
then. Each process has a group of its own, so that a Ctrl-C on the terminal reaches Python alone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import IO

CHUNK = 65536
LINE_MAX = 1 << 20
TAIL = 4096
# mayfly ends within 2 seconds of the first SIGTERM, and sooner after a second one; the rest is for a host that is busy.
STEPS = ((signal.SIGTERM, 3.0), (signal.SIGTERM, 7.0), (signal.SIGKILL, 10.0))
REST_S = 5.0  # for the rest of the output of a process that has ended


class _Pipe:
    """Our end of a pipe. One task at a time waits for it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._loop = asyncio.get_running_loop()
        self._waits: asyncio.Future[None] | None = None
        os.set_blocking(file.fileno(), False)

    def _wake(self) -> None:
        if self._waits and not self._waits.done():
            self._waits.set_result(None)

    async def _ready(self, add: Callable[..., None], remove: Callable[[int], bool]) -> None:
        """Waits until the pipe is ready, or closed."""
        if self._waits:
            raise RuntimeError("another task uses this pipe")
        if self._file.closed:
            return
        self._waits = self._loop.create_future()
        add(self._file.fileno(), self._wake)
        try:
            await self._waits
        finally:
            self._waits = None
            if not self._file.closed:  # otherwise the number may be another file's by now
                remove(self._file.fileno())

    def close(self) -> None:
        """It may be called again. A task that waits for the pipe goes on."""
        if not self._file.closed:
            self._loop.remove_reader(self._file.fileno())
            self._loop.remove_writer(self._file.fileno())
            self._file.close()
            self._wake()


class Reader(_Pipe):
    """The read end of a pipe. One task at a time reads."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self._rest = b""  # of lines()
        self.tail = b""  # the end of what was read

    def read_now(self) -> bytes | None:
        """What is there, without waiting: b"" at the end, None if there is nothing yet."""
        if self._file.closed:
            return b""
        try:
            data = os.read(self._file.fileno(), CHUNK)
        except BlockingIOError:
            return None
        self.tail = (self.tail + data)[-TAIL:]
        return data

    async def read(self) -> bytes:
        """Waits for some bytes, 64 KiB at most. b"" is the end."""
        if self._rest:
            data, self._rest = self._rest, b""
            return data
        while True:
            # Waits even if bytes are there: a writer without end must not keep the loop from its other tasks.
            await self._ready(self._loop.add_reader, self._loop.remove_reader)
            found = self.read_now()
            if found is not None:
                return found

    async def lines(self) -> AsyncIterator[bytes]:
        """Each line with its newline, the last one perhaps without. One of more than 1 MiB comes in pieces."""
        while data := await self.read():
            *whole, rest = data.split(b"\n")
            for line in whole:
                yield line + b"\n"
            while rest and (more := await self.read()):
                if b"\n" in more or len(rest) + len(more) > LINE_MAX:
                    head, found, tail = more.partition(b"\n")
                    yield rest + head + found
                    self._rest = tail
                    rest = b""
                else:
                    rest += more
            if rest:
                yield rest

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.lines()

    def follow(self) -> None:
        """Reads all that comes from now on, and keeps its end as `tail`."""
        self._loop.add_reader(self._file.fileno(), self._take)

    def _take(self) -> None:
        if self.read_now() == b"":
            self._loop.remove_reader(self._file.fileno())


class Writer(_Pipe):
    """The write end of a pipe. One task at a time writes. `close` is the end of the input."""

    async def write(self, data: bytes) -> None:
        """Waits until all of it is in the pipe. BrokenPipeError: nobody reads any more."""
        left = memoryview(data)
        while left:
            await self._ready(self._loop.add_writer, self._loop.remove_writer)
            if self._file.closed:
                raise BrokenPipeError("stdin is closed")
            try:
                left = left[os.write(self._file.fileno(), left[:CHUNK]) :]
            except BlockingIOError:
                continue


class Child:
    """A process. stdin is a descriptor that it gets, or None for a pipe. Its other streams are pipes."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        stdin: int | None = None,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.process = subprocess.Popen(
            argv,
            bufsize=0,
            stdin=subprocess.PIPE if stdin is None else stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=None if env is None else {**os.environ, **env},
            pass_fds=pass_fds,
            process_group=0,
        )
        assert self.process.stdout and self.process.stderr
        self.stdin = Writer(self.process.stdin) if self.process.stdin else None
        self.stdout = Reader(self.process.stdout)
        self.stderr = Reader(self.process.stderr)
        self.ended: asyncio.Future[int] = self._loop.create_future()
        self.was_signalled = False  # by us
        self.was_killed = False  # by stop
        self._pidfd = os.pidfd_open(self.process.pid)
        self._loop.add_reader(self._pidfd, self._on_end)

    def _on_end(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        status = self.process.wait()  # it has ended: this does not wait
        if not self.ended.done():
            self.ended.set_result(status)

    @property
    def has_ended(self) -> bool:
        return self.ended.done()

    def send_signal(self, number: int) -> None:
        """To mayfly, if it still runs."""
        if not self.has_ended:
            self.was_signalled = True
            self.process.send_signal(number)

    async def wait(self) -> int:
        """Waits for the end. Returns the exit status; -n: signal n ended it."""
        await asyncio.wait({self.ended})
        return self.ended.result()

    async def ends_within(self, seconds: float) -> bool:
        await asyncio.wait({self.ended}, timeout=seconds)
        return self.has_ended

    async def stop(self, patience_s: float = 0) -> None:
        """Waits patience_s for its end, then ends it, in 20 seconds at most. A cancellation is raised after that."""
        cancelled: asyncio.CancelledError | None = None
        for number, seconds in ((None, patience_s), *STEPS):
            if number and not self.has_ended:
                self.was_killed = number == signal.SIGKILL
                self.send_signal(number)
            until = self._loop.time() + seconds
            while not self.has_ended and (left := until - self._loop.time()) > 0:
                try:
                    await self.ends_within(left)
                except asyncio.CancelledError as e:
                    cancelled = e
        if cancelled:
            raise cancelled
        if not self.has_ended:
            raise TimeoutError(f"process {self.process.pid} does not end")

    def close(self) -> None:
        """Closes the pipes."""
        if self.stdin:
            self.stdin.close()
        self.stdout.close()
        self.stderr.close()

    async def __aenter__(self) -> Child:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.stop()
        finally:
            self.close()


class Capture:
    """Runs a child to its end: feeds its stdin, and keeps what it writes, `limit` bytes of each stream."""

    def __init__(self, child: Child, data: bytes, limit: int) -> None:
        self._child = child
        self._data = data
        self._limit = limit
        self._kept = (bytearray(), bytearray())
        self._full: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def too_much(self) -> bool:
        """Whether the child was ended because a stream had more than `limit` bytes."""
        return self._full.done()

    @property
    def stdout(self) -> bytes:
        return bytes(self._kept[0])

    @property
    def stderr(self) -> bytes:
        return bytes(self._kept[1])

    async def run(self) -> int:
        """Returns the status as Child.wait does. The child has ended, whatever is raised."""
        async with self._child as child, asyncio.TaskGroup() as tasks:
            feeder = tasks.create_task(self._feed())
            pipes = [tasks.create_task(self._drain(p, k)) for p, k in zip((child.stdout, child.stderr), self._kept)]
            await asyncio.wait((child.ended, self._full), return_when=asyncio.FIRST_COMPLETED)
            if not child.has_ended:
                await child.stop()
            await asyncio.wait(pipes, timeout=REST_S)
            for task in (feeder, *pipes):
                task.cancel()
        return self._child.ended.result()

    async def _feed(self) -> None:
        writer = self._child.stdin
        if writer:
            try:
                await writer.write(self._data)
            except BrokenPipeError:
                pass  # it does not want all of its input
            writer.close()

    async def _drain(self, reader: Reader, kept: bytearray) -> None:
        while data := await reader.read():
            room = self._limit - len(kept)
            kept += data[:room]
            if len(data) > room and not self.too_much:
                self._full.set_result(None)
