"""A VM, and the commands in it, on an asyncio loop.

Theory of operation. A sandbox is a process `mayfly run` (or `restore`) whose command is cat. What is written to its
stdin comes back when the guest runs: that is how a start ends. The end of its stdin ends cat, and cat's end the VM: so
the VM ends with this process, however that ends. Commands are processes `mayfly exec`, files are copied by `mayfly cp`.
mayfly writes how a VM has ended to a pipe (--result). There is no thread, no file, and nothing polls.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Unpack

from ._arguments import (
    Command,
    Options,
    Path,
    RestoreOptions,
    Stdin,
    command_options,
    find_binary,
    is_path,
    make_name,
    restore_words,
    root_words,
    run_words,
    seconds,
    words_of,
)
from ._child import Child
from ._errors import Ending, MayflyError, OutputLimit, Result, SandboxEnded, StartFailed, TimedOut, printable
from ._files import AsyncFiles
from ._process import STATUS_FAILED, AsyncProcess, Monitor, captured, has_failed, stdin_of

OUTPUT_MAX = 64 << 20
HOLD = ("cat",)
CLOSE_S = 2.0  # for the VM to end when its command has
CONTROL_S = 60.0  # for a command that asks for no more than an answer
STATUS_TIMEOUT = 124


class AsyncSandbox:
    """A VM. `async with AsyncSandbox("alpine:3.20") as sandbox:` starts it and ends it.

    image is a directory, an archive or an image of a file system (a path begins with "/" or ".", or is a pathlib.Path),
    or the name of a container's image. The guest needs the program cat. A sandbox belongs to the loop that starts it.
    """

    def __init__(self, image: Path, **options: Unpack[Options]) -> None:
        self._set_up(options)
        self._inherits_env = not is_path(image)
        self._argv = [self._binary, "run", *run_words(options)]
        self._root = root_words(image, HOLD, entrypoint=False)

    @classmethod
    def restore(cls, snapshot: Path, **options: Unpack[RestoreOptions]) -> AsyncSandbox:
        """A VM that will start from a directory of `snapshot` or of `mayfly snapshot`, which stays as it is. Its commands
        have env, workdir and user of the snapshot's own command, or image, unless an option says something else."""
        self = cls.__new__(cls)
        self._set_up(options)
        self._inherits_env = True
        self._argv = [self._binary, "restore", *restore_words(options)]
        self._root = [os.path.abspath(snapshot), "--", *HOLD]
        return self

    def _set_up(self, options: RestoreOptions) -> None:
        self.name = options.get("name") or make_name()
        self.ending: Ending | None = None  # set when the VM has ended
        self.files = AsyncFiles(self)
        self._binary = find_binary(options)
        self._env = dict(options.get("env", {}))
        self._workdir = options.get("workdir")
        self._user = options.get("user")
        self._monitor: Monitor | None = None
        self._ready = self._closed = False
        self._children: set[Child] = set()

    async def start(self) -> AsyncSandbox:
        """Boots the VM, and returns itself when the guest takes commands. Raises StartFailed. `async with` calls it."""
        if self._closed or (self._monitor and not self._ready):
            raise RuntimeError("a sandbox starts once")
        if self._ready:
            return self
        self._monitor = Monitor(self._argv, self.name, self._root)
        try:
            if not await self._monitor.echo():
                raise await self._ended(StartFailed, "the sandbox has not started")
            self._ready = True
            if self._inherits_env:
                await self._take_command()
        except BaseException:
            await self.close()
            raise
        return self

    async def _take_command(self) -> None:
        """What an image or a snapshot says of commands holds for ours, unless an option says something else."""
        found: Any = json.loads(await self._control(["inspect", self.name]))
        config = found.get("config", {})
        self._env = dict(v.split("=", 1) for v in config.get("env", ()) if "=" in v) | self._env
        self._workdir = self._workdir or config.get("workdir")
        self._user = self._user or config.get("user")

    async def close(self) -> None:
        """Ends the VM and all that runs in it. It may be called again, and is complete even if it is cancelled."""
        self._closed = True
        if self._monitor is None:
            return
        try:
            await self._monitor.stop(CLOSE_S if self._ready else 0)
        finally:
            if self._monitor.child.has_ended:
                self.ending = self._monitor.ending()
            # They end with the VM, those of run() by themselves.
            for child in tuple(self._children):
                try:
                    await child.stop(CLOSE_S)
                finally:
                    child.close()
                    self._children.discard(child)

    async def __aenter__(self) -> AsyncSandbox:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        monitor: Monitor | None = getattr(self, "_monitor", None)
        if monitor and not self._closed and not monitor.child.has_ended:
            warnings.warn(f"sandbox {self.name} was not closed", ResourceWarning, stacklevel=1)

    async def wait(self) -> Ending:
        """Waits for the end of the VM, which may come by itself: a panic, `timeout`, or `mayfly stop`."""
        if self._monitor is None:
            raise RuntimeError("the sandbox has not started")
        await self._monitor.child.wait()
        self.ending = self._monitor.ending()
        return self.ending

    @property
    def is_running(self) -> bool:
        """Whether the guest takes commands."""
        return bool(self._ready and not self._closed and self._monitor and not self._monitor.child.has_ended)

    async def run(
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
        """Runs a command to its end. A string is a line for the guest's shell, a list a program and its arguments.

        stdin is bytes, text, an open file, or nothing. After `timeout` seconds the command's process group gets
        SIGTERM, 0.6 seconds later SIGKILL, and TimedOut is raised. A stream of more than output_limit bytes ends it,
        too, by OutputLimit. If the task is cancelled, the command gets SIGTERM, then SIGHUP.
        Raises SandboxEnded if the VM ends meanwhile, and MayflyError if mayfly cannot run it.
        """
        fd, data = stdin_of(stdin)
        child = self._exec(command, timeout, env, workdir, user, fd)
        result, too_much = await captured(child, data, output_limit, self._children)
        if too_much:
            raise OutputLimit(f"the command has written more than {output_limit} bytes", result.stdout, result.stderr)
        if timeout is not None and result.status == STATUS_TIMEOUT and has_failed(result.stderr, "the time limit"):
            raise TimedOut(f"the command has not ended within {timeout} s", result.stdout, result.stderr)
        await self._raise_failure(result)
        return result

    async def exec(
        self,
        command: Command,
        *,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        user: str | None = None,
        timeout: float | None = None,
    ) -> AsyncProcess:
        """Starts a command, and returns it as it runs, with its streams. It ends with the sandbox at the latest."""
        child = self._exec(command, timeout, env, workdir, user, None)
        self._children.add(child)
        return AsyncProcess(child, self._raise_failure)

    def _exec(
        self,
        command: Command,
        timeout: float | None,
        env: Mapping[str, str] | None,
        workdir: str | None,
        user: str | None,
        stdin: int | None,
    ) -> Child:
        words, own = command_options({**self._env, **(env or {})}, workdir or self._workdir, user or self._user)
        if timeout is not None:
            words += ["--timeout", seconds(timeout, "timeout")]
        argv = ["exec", "--no-tty", *words, self.name, "--", *words_of(command)]
        return self._start(argv, stdin, own)

    def _start(self, argv: Sequence[str], stdin: int | None, env: Mapping[str, str] | None = None) -> Child:
        if self._monitor is None or not self._ready:
            raise RuntimeError("the sandbox has not started")
        if self._closed:
            raise RuntimeError("the sandbox is closed")
        return Child([self._binary, *argv], stdin=stdin, env=env)

    async def _control(
        self, argv: Sequence[str], data: bytes = b"", limit: int = OUTPUT_MAX, about: str | None = None
    ) -> bytes:
        """Runs a command of mayfly that is about this VM. Returns its output. Its status is 0, or this raises an error
        that begins with `about`, or the command's name."""
        child = self._start(argv, None)
        result, too_much = await captured(child, data, limit, self._children)
        if too_much:
            raise OutputLimit(f"mayfly {argv[0]} has written more than {limit} bytes", result.stdout, result.stderr)
        what = f"{about}: mayfly {argv[0]}" if about else f"mayfly {argv[0]}"
        await self._raise_failure(result, what)
        if result.status != 0:
            raise MayflyError(f"{what} ended with status {result.status}", printable(result.stderr))
        return result.stdout

    async def _raise_failure(self, result: Result, what: str = "mayfly exec") -> None:
        """Raises if mayfly has failed, or its VM has ended, not the command."""
        if result.status != STATUS_FAILED and result.status >= 0:
            return
        assert self._monitor
        # The VM's process ends a moment after its guest has.
        if result.status < 0 or has_failed(result.stderr):
            over = has_failed(result.stderr, "the guest has ended") or not self.is_running
            if over and await self._monitor.child.ends_within(CLOSE_S):
                raise await self._ended(SandboxEnded, "the sandbox has ended")
            raise MayflyError(f"{what} has failed", printable(result.stderr))

    async def _ended(self, kind: type[SandboxEnded], what: str) -> SandboxEnded:
        assert self._monitor
        ending = await self.wait()
        reason = ending.message or f"{ending.cause}, status {ending.status}"
        return kind(f"{what}: {reason}", self._monitor.last_words(), ending)

    async def snapshot(self, directory: Path) -> None:
        """Writes a snapshot of the VM, which goes on. mayfly refuses it while commands run in the guest."""
        await self._control(["snapshot", self.name, os.path.abspath(directory)])

    async def clone(self, count: int = 1, **options: Unpack[RestoreOptions]) -> list[AsyncSandbox]:
        """Starts `count` VMs from this one as it is now: its files, processes and memory, which they share until they
        write. They have this one's env, workdir and user unless an option says something else. The caller closes
        each."""
        if "name" in options and count != 1:
            raise ValueError("a name is for one VM")
        folder = tempfile.mkdtemp(prefix="mayfly-")
        try:
            await self.snapshot(os.path.join(folder, "snapshot"))
            clones = [self._clone_of(os.path.join(folder, "snapshot"), options) for _ in range(count)]
            try:
                async with asyncio.TaskGroup() as tasks:
                    for clone in clones:
                        tasks.create_task(clone.start())
            except BaseException as e:
                for clone in clones:
                    await clone.close()
                raise e.exceptions[0] if isinstance(e, ExceptionGroup) else e
        finally:
            shutil.rmtree(folder)  # VMs that have started keep their files open
        return clones

    def _clone_of(self, snapshot: str, options: RestoreOptions) -> AsyncSandbox:
        options.setdefault("binary", self._binary)
        clone = type(self).restore(snapshot, **options)
        clone._env = {**self._env, **clone._env}
        clone._workdir = clone._workdir or self._workdir
        clone._user = clone._user or self._user
        clone._inherits_env = False
        return clone
