"""Sandboxes: microVMs of mayfly, from a program. docs/python.md describes this package."""

from ._arguments import Options, RestoreOptions
from ._errors import (
    CommandFailed,
    Ending,
    MayflyError,
    OutOfMemory,
    OutputLimit,
    Result,
    SandboxEnded,
    StartFailed,
    TimedOut,
)
from ._files import AsyncFiles
from ._once import run_async
from ._process import AsyncProcess
from ._sandbox import AsyncSandbox
from ._sync import Files, Process, Sandbox, run

__version__ = "0.1.0"

__all__ = [
    "AsyncFiles",
    "AsyncProcess",
    "AsyncSandbox",
    "CommandFailed",
    "Ending",
    "Files",
    "MayflyError",
    "Options",
    "OutOfMemory",
    "OutputLimit",
    "Process",
    "RestoreOptions",
    "Result",
    "Sandbox",
    "SandboxEnded",
    "StartFailed",
    "TimedOut",
    "run",
    "run_async",
]
