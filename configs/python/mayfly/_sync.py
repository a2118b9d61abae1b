"""The same without async: each call runs on a loop in a thread of this module, and waits for it.

Objects may be used by several threads at once. A call that is interrupted (KeyboardInterrupt) is cancelled, and raises
when what it had started is gone.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any, TypeVar, Unpack

from ._arguments import Command, Options, Path, RestoreOptions, Stdin
from ._child import Reader as AsyncReader
from ._child import Writer as AsyncWriter
from ._errors import Ending, Result
from ._files import READ_MAX, AsyncFiles
from ._once import run_async
from ._process import AsyncProcess
from ._sandbox import OUTPUT_MAX, AsyncSandbox

T = TypeVar("T")


class _Loop:
    """A loop in a thread, which ends with the process."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="mayfly", daemon=True).start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs work on the loop, and returns or raises what it does, when it has ended."""
        result: Future[T] = Future()
        tasks: list[asyncio.Task[T]] = []

        def begin() -> None:
            task = self._loop.create_task(work)
            tasks.append(task)
            task.add_done_callback(finish)

        def finish(task: asyncio.Task[T]) -> None:
            if task.cancelled():
                result.set_exception(asyncio.CancelledError())
            elif error := task.exception():
                result.set_exception(error)
            else:
                result.set_result(task.result())

        self._loop.call_soon_threadsafe(begin)
        try:
            return result.result()
        except BaseException:
            if not result.done():  # then it was raised here
                self._loop.call_soon_threadsafe(lambda: tasks[0].cancel())
                result.exception()
            raise


_lock = threading.Lock()
_loops: dict[int, _Loop] = {}  # by process: a fork has no thread of its parent's


def _call(work: Coroutine[Any, Any, T]) -> T:
    with _lock:
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = _loops[os.getpid()] = _Loop()
    return loop.call(work)


class Reader:
    """stdout or stderr of a process. Iterating over it gives lines."""

    def __init__(self, reader: AsyncReader) -> None:
        self._reader = reader

    def read(self) -> bytes:
        """Waits for some bytes, 64 KiB at most. b"" is the end."""
        return _call(self._reader.read())

    def __iter__(self) -> Iterator[bytes]:
        lines = self._reader.lines()

        async def following() -> bytes:
            return await anext(lines, b"")

        while line := _call(following()):
            yield line


class Writer:
    """stdin of a process."""

    def __init__(self, writer: AsyncWriter) -> None:
        self._writer = writer

    def write(self, data: bytes) -> None:
        """Waits until all of it is in the pipe. BrokenPipeError: nobody reads any more."""
        _call(self._writer.write(data))

    def close(self) -> None:
        """The end of the input."""

        async def close() -> None:
            self._writer.close()

        _call(close())


class Process:
    """AsyncProcess, without async."""

    def __init__(self, process: AsyncProcess) -> None:
        self._process = process
        self.stdin = Writer(process.stdin)
        self.stdout = Reader(process.stdout)
        self.stderr = Reader(process.stderr)

    def wait(self) -> int:
        return _call(self._process.wait())

    def send_signal(self, number: int) -> None:
        async def send() -> None:
            self._process.send_signal(number)

        _call(send())

    def stop(self) -> None:
        _call(self._process.stop())

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Files:
    """AsyncFiles, without async."""

    def __init__(self, files: AsyncFiles) -> None:
        self._files = files

    def read(self, path: str, max_bytes: int = READ_MAX) -> bytes:
        return _call(self._files.read(path, max_bytes))

    def write(self, path: str, data: bytes | str, mode: int = 0o644) -> None:
        _call(self._files.write(path, data, mode))

    def copy_in(self, source: Path, target: str, keep_owners: bool = False) -> None:
        _call(self._files.copy_in(source, target, keep_owners))

    def copy_out(self, source: str, target: Path, max_size: str = "8G") -> None:
        _call(self._files.copy_out(source, target, max_size))


class Sandbox:
    """AsyncSandbox, without async: `with Sandbox("alpine:3.20") as sandbox: sandbox.run("id")`."""

    def __init__(self, image: Path, **options: Unpack[Options]) -> None:
        self._wrap(AsyncSandbox(image, **options))

    def _wrap(self, sandbox: AsyncSandbox) -> Sandbox:
        self._sandbox = sandbox
        self.name = sandbox.name
        self.files = Files(sandbox.files)
        return self

    @classmethod
    def restore(cls, snapshot: Path, **options: Unpack[RestoreOptions]) -> Sandbox:
        return cls.__new__(cls)._wrap(AsyncSandbox.restore(snapshot, **options))

    def start(self) -> Sandbox:
        _call(self._sandbox.start())
        return self

    def close(self) -> None:
        _call(self._sandbox.close())

    def __enter__(self) -> Sandbox:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait(self) -> Ending:
        return _call(self._sandbox.wait())

    @property
    def ending(self) -> Ending | None:
        return self._sandbox.ending

    @property
    def is_running(self) -> bool:
        return self._sandbox.is_running

    def run(
        self,
        command: Command,
        stdin: Stdin = None,
        *,
        timeout: float | None = None,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        user: str | None = None,
        output_limit: int = OUTPUT_MAX,
    ) -> Result:
        return _call(
            self._sandbox.run(
                command, stdin, timeout=timeout, env=env, workdir=workdir, user=user, output_limit=output_limit
            )
        )

    def exec(
        self,
        command: Command,
        *,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        user: str | None = None,
        timeout: float | None = None,
    ) -> Process:
        return Process(_call(self._sandbox.exec(command, env=env, workdir=workdir, user=user, timeout=timeout)))

    def snapshot(self, directory: Path) -> None:
        _call(self._sandbox.snapshot(directory))

    def clone(self, count: int = 1, **options: Unpack[RestoreOptions]) -> list[Sandbox]:
        clones = _call(self._sandbox.clone(count, **options))
        return [Sandbox.__new__(Sandbox)._wrap(clone) for clone in clones]


def run(
    image: Path,
    command: Command | None = None,
    stdin: Stdin = None,
    *,
    output_limit: int = OUTPUT_MAX,
    **options: Unpack[Options],
) -> Result:
    """run_async, without async."""
    return _call(run_async(image, command, stdin, output_limit=output_limit, **options))
