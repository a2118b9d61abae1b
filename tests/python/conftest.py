"""What the tests of the Python package share. tests/boot/python.bats runs them; MAYFLY is the monitor to test."""

import os
import sys
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("B", "build"))
BUILD = BUILD if BUILD.is_absolute() else ROOT / BUILD
os.environ.setdefault("MAYFLY", str(BUILD / "mayfly"))
os.environ["MAYFLY_BOOT"] = "cold"
os.environ["PYTHONPATH"] = str(ROOT / "configs/python")
sys.path.insert(0, os.environ["PYTHONPATH"])

STATE = Path("/run/mayfly") if os.geteuid() == 0 else Path(os.environ.get("XDG_RUNTIME_DIR", "/nonexistent"), "mayfly")


class Leftovers:
    """What VMs with this prefix in their name have left."""

    def __init__(self) -> None:
        self.prefix = f"test-{uuid.uuid4().hex[:8]}"

    def processes(self) -> list[str]:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue  # it has ended
            if self.prefix.encode() in words and entry.name != str(os.getpid()) and state != "Z":
                found.append(f"{entry.name}: {words!r}")
        return found

    def files(self) -> list[str]:
        return [str(path) for path in STATE.rglob(f"*{self.prefix}*")]

    def check(self) -> None:
        assert self.processes() == []
        assert self.files() == []


@pytest.fixture
def left():
    """Names begin with left.prefix; the test fails if something of these VMs is left at its end, or a descriptor."""
    before = descriptors()
    leftovers = Leftovers()
    yield leftovers
    leftovers.check()
    assert descriptors() <= before


def descriptors() -> int:
    """Of the threads of the test. The loop of the calls without async keeps its own."""
    import mayfly

    mayfly._sync._call(nothing())
    return len(os.listdir("/proc/self/fd"))


async def nothing() -> None:
    pass
