"""Processes of mayfly in their parts: the one that runs a VM, one that runs a command, and one whose output is kept."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType

from ._arguments import Stdin
from ._child import Capture, Child, Reader, Writer
from ._errors import Ending, Result, printable

STATUS_FAILED = 125  # mayfly's own, or the command's
REMOVE_S = 10.0  # for `mayfly rm`


def stdin_of(stdin: Stdin) -> tuple[int | None, bytes]:
    """A descriptor for a child, or None and what it gets by a pipe."""
    if stdin is None:
        return None, b""
    if isinstance(stdin, str):
        return None, stdin.encode()
    if isinstance(stdin, (bytes, bytearray, memoryview)):
        return None, bytes(stdin)
    return stdin.fileno(), b""


def has_failed(stderr: bytes, phrase: str = "") -> bool:
    """Whether the last line is a message of mayfly's with the phrase in it."""
    last = stderr.rstrip(b"\n").rpartition(b"\n")[2]
    return last.startswith(b"mayfly: ") and phrase.encode() in last


async def captured(child: Child, data: bytes, limit: int, among: set[Child]) -> tuple[Result, bool]:
    """Runs a child to its end, in the set meanwhile. Returns its result, and whether it was ended for its output.
    The status is -n if signal n has ended mayfly itself."""
    among.add(child)
    try:
        capture = Capture(child, data, limit)
        status = await capture.run()
    finally:
        among.discard(child)
    return Result(status, capture.stdout, capture.stderr), capture.too_much


class Monitor:
    """The process of a VM, its last words, and its result."""

    def __init__(
        self,
        argv: Sequence[str],
        name: str,
        rest: Sequence[str],
        stdin: int | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """argv is the program, its command and options, rest what follows those that are added here."""
        result, theirs = os.pipe()
        self._result = Reader(os.fdopen(result, "rb", buffering=0))
        self._binary = argv[0]
        self._name = name
        self._ending: Ending | None = None
        try:
            words = [*argv, "--name", name, "--rm", "--result", f"/dev/fd/{theirs}", *rest]
            self.child = Child(words, stdin=stdin, env=env, pass_fds=(theirs,))
        except BaseException:
            self._result.close()
            raise
        finally:
            os.close(theirs)

    async def echo(self) -> bool:
        """Waits until the command, cat, answers. False: it has ended."""
        assert self.child.stdin
        self.child.stderr.follow()
        try:
            await self.child.stdin.write(b"\n")
        except BrokenPipeError:
            return False
        # What comes later stays in the pipe: a guest that writes there waits.
        return bool(await self.child.stdout.read())

    def last_words(self) -> str:
        """The end of what mayfly has written to stderr."""
        while self.child.stderr.read_now():
            pass
        return printable(self.child.stderr.tail)

    def ending(self) -> Ending:
        """How the VM has ended, which it has."""
        if self._ending is None:
            self._ending = Ending.parse(self._result.read_now() or b"", self.child.ended.result())
            self._result.close()
        return self._ending

    async def stop(self, patience_s: float) -> None:
        """Ends the VM: by the end of its command's input, and patience_s later by signals. Leaves nothing of it, even
        if cancelled; that is raised then."""
        if self.child.stdin:
            self.child.stdin.close()
        try:
            await self.child.stop(patience_s)
        finally:
            if self.child.has_ended:
                self.last_words()
                self.ending()
            self._result.close()
            self.child.close()
            if self.child.was_killed:
                await self._remove()

    async def _remove(self) -> None:
        """What a mayfly that was killed has left: its record, its sockets."""
        remover = Child([self._binary, "rm", "-f", self._name], stdin=subprocess.DEVNULL)
        try:
            await remover.stop(REMOVE_S)
        finally:
            remover.close()


class AsyncProcess:
    """A command that runs in a guest: the process `mayfly exec`, which passes signals on. `async with` ends it."""

    def __init__(self, child: Child, raise_failure: Callable[[Result], Awaitable[None]]) -> None:
        self._child = child
        self._raise_failure = raise_failure
        assert child.stdin
        self.stdin: Writer = child.stdin
        self.stdout: Reader = child.stdout
        self.stderr: Reader = child.stderr

    async def wait(self) -> int:
        """Waits for the end of the command. Its output has to be read meanwhile, or it may wait for that. Returns its
        status: 128+n for signal n, 124 after its timeout. Raises SandboxEnded and MayflyError as run does."""
        status = await self._child.wait()
        if status < 0 and self._child.was_signalled:
            return 128 - status
        if status < 0 or status == STATUS_FAILED:
            while self.stderr.read_now():
                pass
            await self._raise_failure(Result(status, b"", self.stderr.tail))
        return status

    def send_signal(self, number: int) -> None:
        """SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1 or SIGUSR2, to the command. A second one of the first three ends it
        by SIGHUP. Others are for mayfly exec itself."""
        self._child.send_signal(number)

    async def stop(self) -> None:
        """Ends it, by SIGTERM, then SIGHUP. A command that ignores both runs on until the sandbox ends."""
        try:
            await self._child.stop()
        finally:
            self._child.close()

    async def __aenter__(self) -> AsyncProcess:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
