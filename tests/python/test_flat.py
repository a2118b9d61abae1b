"""VMs whose guest is flat: they never start a command, so that a start lasts until it is ended."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time

import mayfly
import pytest
from conftest import BUILD, ROOT, STATE
from mayfly import _child

GUESTS = BUILD / "tests/guest"


def flat(left, guest: str = "idle", number: int = 0, **options) -> mayfly.AsyncSandbox:
    options = {"kernel": GUESTS / f"{guest}.elf", "boot_timeout": 600, "memory": "16M", **options}
    return mayfly.AsyncSandbox(ROOT / "docs", name=f"{left.prefix}-{number}", **options)


def test_a_hundred_that_are_cancelled_at_random_leave_nothing(left):
    async def one(number: int, chance: random.Random) -> mayfly.Ending | None:
        sandbox = flat(left, number=number)
        task = asyncio.create_task(sandbox.start())
        await asyncio.sleep(chance.random() * 3)
        for _ in range(chance.randrange(1, 4)):
            task.cancel()
            await asyncio.sleep(chance.random() * 0.02)
        with pytest.raises(asyncio.CancelledError):
            await task
        return sandbox.ending

    async def work() -> list[mayfly.Ending | None]:
        chance = random.Random(1)
        return await asyncio.gather(*(one(number, chance) for number in range(100)))

    endings = asyncio.run(work())
    assert {(e.cause, e.status) for e in endings if e} <= {("signal", -signal.SIGTERM), ("lost", -signal.SIGTERM)}
    assert sum(e is not None for e in endings) == 100


def test_a_loop_that_ends_ends_its_sandboxes(left):
    async def work() -> None:
        asyncio.create_task(flat(left).start())
        await asyncio.sleep(0.5)

    asyncio.run(work())


def test_a_start_that_fails_carries_the_console(left):
    with pytest.raises(mayfly.StartFailed) as caught:
        asyncio.run(flat(left, boot_timeout=1).start())
    assert caught.value.ending.cause == "boot" and caught.value.ending.status == 125
    assert "guest: idle" in caught.value.last_words and "guest: idle" in str(caught.value)
    with pytest.raises(mayfly.StartFailed, match="/nonexistent") as caught:
        mayfly.run("/nonexistent", "true", kernel=GUESTS / "idle.elf", name=left.prefix)
    assert caught.value.ending.cause == "failed"
    with pytest.raises(mayfly.SandboxEnded) as caught:
        mayfly.run(ROOT / "docs", "true", kernel=GUESTS / "triple.elf", name=left.prefix)
    assert caught.value.ending.cause == "crash"


def test_the_time_limit_of_a_sandbox(left):
    with pytest.raises(mayfly.TimedOut, match="0.5 s"):
        mayfly.run(ROOT / "docs", "true", kernel=GUESTS / "spin.elf", timeout=0.5, name=left.prefix)


def test_a_name_that_is_in_use(left):
    async def work() -> None:
        first = flat(left)
        task = asyncio.create_task(first.start())
        async with asyncio.timeout(30):
            while not list((STATE / "vms").glob(first.name)):
                await asyncio.sleep(0.05)
        with pytest.raises(mayfly.StartFailed, match=first.name):
            await flat(left).start()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(work())


def test_of_a_mayfly_that_has_to_be_killed_nothing_is_left(left, monkeypatch):
    monkeypatch.setattr(_child, "STEPS", ((signal.SIGTERM, 0.5), (signal.SIGKILL, 10.0)))

    async def work() -> mayfly.Ending | None:
        sandbox = flat(left)
        task = asyncio.create_task(sandbox.start())
        async with asyncio.timeout(30):
            while len(left.files()) < 2:  # its record and its socket
                await asyncio.sleep(0.05)
        sandbox._monitor.child.send_signal(signal.SIGSTOP)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return sandbox.ending

    assert asyncio.run(work()) == mayfly.Ending("lost", -signal.SIGKILL)


PROGRAM = """
import sys, mayfly
try:
    mayfly.run(sys.argv[1], "true", kernel=sys.argv[2], boot_timeout=600, name=sys.argv[3])
except KeyboardInterrupt:
    print("interrupted")
"""


def test_an_interrupt_ends_the_vm_and_then_the_call(left):
    words = [sys.executable, "-c", PROGRAM, ROOT / "docs", GUESTS / "idle.elf", f"{left.prefix}-0"]
    program = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while len(left.files()) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    program.send_signal(signal.SIGINT)
    assert program.communicate(timeout=60)[0] == "interrupted\n"
    left.check()


def test_the_wheel_is_whole(tmp_path):
    import base64
    import hashlib
    import zipfile

    makefile = (ROOT / "Makefile").read_text()
    version = makefile.partition("\nVERSION := ")[2].split()[0]
    made = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        path = subprocess.run(
            [sys.executable, ROOT / "configs/python/wheel", version, folder], check=True, capture_output=True, text=True
        ).stdout.strip()
        made.append(open(path, "rb").read())
    assert made[0] == made[1]
    with zipfile.ZipFile(path) as wheel:
        record = wheel.read(f"mayfly-{version}.dist-info/RECORD").decode().splitlines()
        listed = {}
        for line in record:
            name, digest, size = line.rsplit(",", 2)
            listed[name] = digest, size
        assert set(listed) == set(wheel.namelist()) and "mayfly/py.typed" in listed
        for name, (digest, size) in listed.items():
            if digest:
                data = wheel.read(name)
                want = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
                assert digest == f"sha256={want}" and size == str(len(data))
    said = subprocess.run(
        [sys.executable, "-c", "import mayfly; print(mayfly.__version__, mayfly.__file__)"],
        env={**os.environ, "PYTHONPATH": path}, check=True, capture_output=True, text=True, cwd=tmp_path,
    ).stdout
    assert said.split() == [version, f"{path}/mayfly/__init__.py"]
