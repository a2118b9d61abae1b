"""What a sandbox returns and raises: results of commands, how a VM has ended, and exceptions."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, NamedTuple

LAST_WORDS_BYTES = 4096  # that an exception carries


def printable(data: bytes) -> str:
    """The end of what was written, as text without control characters: a guest may have written it."""
    text = data[-LAST_WORDS_BYTES:].decode("utf-8", "replace")
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text.replace("\r\n", "\n")).strip()


class Result(NamedTuple):
    """How a command has ended. It is a tuple: `status, stdout, stderr = sandbox.run(...)`."""

    status: int  # 0 to 255: the command's own; 126 or 127: it could not be run or found; 128+n: signal n ended it
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """stdout as UTF-8; bytes that are not become U+FFFD."""
        return self.stdout.decode("utf-8", "replace")

    def check(self) -> Result:
        """Returns itself if the status is 0, else raises CommandFailed."""
        if self.status != 0:
            raise CommandFailed(self)
        return self


@dataclasses.dataclass(frozen=True)
class Ending:
    """How a VM has ended: the file of `mayfly run --result`. mayfly(1) lists the causes under RESULT."""

    cause: str  # "command", "signalled", "oom", "timeout", "panic", "boot", "failed", ...; "lost": mayfly could not say
    status: int  # the exit status of mayfly; -n: signal n ended it
    code: int | None = None  # the exit status of the command
    oom: bool = False  # the guest's kernel has killed a process for lack of memory
    message: str = ""

    @classmethod
    def parse(cls, data: bytes, status: int) -> Ending:
        """From the bytes of a result file, or without one, from mayfly's status alone."""
        try:
            found: Any = json.loads(data)
            code = found["code"]
            return cls(
                str(found["cause"]),
                status,
                None if code is None else int(code),
                bool(found["oom"]),
                str(found["message"] or ""),
            )
        except (ValueError, KeyError, TypeError):
            return cls("lost", status)


class MayflyError(Exception):
    """mayfly, or the VM, has failed. `last_words` is the end of what it wrote to stderr: of a guest that panicked or
    did not start, the last lines of its console. A guest may have written it: show it, and trust nothing in it."""

    def __init__(self, message: str, last_words: str = "") -> None:
        super().__init__(message, last_words)
        self.message = message
        self.last_words = last_words

    def __str__(self) -> str:
        return f"{self.message}\n{self.last_words}" if self.last_words else self.message


class SandboxEnded(MayflyError):
    """The VM has ended, and `ending` says how. It was used after that, or ended while it was."""

    def __init__(self, message: str, last_words: str, ending: Ending) -> None:
        super().__init__(message, last_words)
        self.args = (message, last_words, ending)
        self.ending = ending


class StartFailed(SandboxEnded):
    """The VM has not started its command."""


class OutOfMemory(SandboxEnded):
    """The command was killed because the guest, or the VM in its jail, had no memory left."""


class CommandFailed(MayflyError):
    """Raised by Result.check(): the command has another status than 0."""

    def __init__(self, result: Result) -> None:
        super().__init__(f"the command ended with status {result.status}", printable(result.stderr))
        self.args = (result,)
        self.result = result


class TimedOut(MayflyError, TimeoutError):
    """The time limit of a command has passed, and it was ended. What it had written is in stdout and stderr."""

    def __init__(self, message: str, stdout: bytes, stderr: bytes) -> None:
        super().__init__(message, printable(stderr))
        self.args = (message, stdout, stderr)
        self.stdout = stdout
        self.stderr = stderr


class OutputLimit(MayflyError):
    """The command has written more than `output_limit` bytes, and was ended. The first are in stdout and stderr."""

    def __init__(self, message: str, stdout: bytes, stderr: bytes) -> None:
        super().__init__(message, printable(stderr))
        self.args = (message, stdout, stderr)
        self.stdout = stdout
        self.stderr = stderr
