"""A VM for one command: `mayfly run IMAGE -- COMMAND`."""

from __future__ import annotations

from typing import Unpack

from ._arguments import (
    Command,
    Options,
    Path,
    Stdin,
    command_options,
    find_binary,
    is_path,
    make_name,
    root_words,
    run_words,
    words_of,
)
from ._child import Capture
from ._errors import OutOfMemory, OutputLimit, Result, SandboxEnded, StartFailed, TimedOut, printable
from ._process import Monitor, stdin_of

OUTPUT_MAX = 64 << 20


async def run_async(
    image: Path,
    command: Command | None = None,
    stdin: Stdin = None,
    *,
    output_limit: int = OUTPUT_MAX,
    **options: Unpack[Options],
) -> Result:
    """Boots a VM, runs one command in it, and ends it. The guest needs nothing installed. Without a command, an image
    of a container runs its own.

    timeout is that of the VM: TimedOut is raised. A command that was killed for lack of memory raises OutOfMemory, a VM
    that did not come to the command StartFailed, one that ended before the command had SandboxEnded, and more than
    output_limit bytes of a stream OutputLimit. A task that is cancelled ends the VM, and goes on when nothing is left.
    """
    if command is None and is_path(image):
        raise ValueError("a root that is no image of a container has no command of its own")
    binary = find_binary(options)
    words, own = command_options(options.get("env", {}), options.get("workdir"), options.get("user"))
    argv = [binary, "run", *run_words(options), *words, "--no-tty"]
    root = root_words(image, words_of(command), entrypoint=False) if command is not None else [str(image)]
    fd, data = stdin_of(stdin)
    monitor = Monitor(argv, options.get("name") or make_name(), root, fd, own)
    capture = Capture(monitor.child, data, output_limit)
    try:
        await capture.run()
    finally:
        await monitor.stop(0)
    return _result_of(monitor, capture, options.get("timeout"), output_limit)


def _result_of(monitor: Monitor, capture: Capture, timeout: float | None, output_limit: int) -> Result:
    ending = monitor.ending()
    words = printable(capture.stderr)
    if capture.too_much:
        raise OutputLimit(f"the command has written more than {output_limit} bytes", capture.stdout, capture.stderr)
    if ending.cause == "timeout":
        raise TimedOut(f"the sandbox has not ended within {timeout} s", capture.stdout, capture.stderr)
    if ending.cause == "oom":
        raise OutOfMemory(ending.message or "out of memory", words, ending)
    if ending.cause in ("boot", "failed"):
        raise StartFailed(ending.message, words, ending)
    if ending.cause not in ("command", "signalled") or ending.code != ending.status:
        raise SandboxEnded(ending.message or f"{ending.cause}, status {ending.status}", words, ending)
    return Result(ending.status, capture.stdout, capture.stderr)
