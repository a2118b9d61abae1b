"""The package with Linux guests. KERNEL and ROOTFS are those of the build unless the environment has others."""

import asyncio
import concurrent.futures
import json
import os
import random
import signal
import subprocess
import sys
import time

import mayfly
import pytest
from conftest import BUILD, ROOT

KERNEL = os.environ.get("KERNEL", str(BUILD / "vmlinux"))
ROOTFS = os.environ.get("ROOTFS", str(BUILD / "rootfs.ext4"))
EXAMPLES = ROOT / "configs/python/examples"
LIMIT = 240  # seconds for anything that has to happen
os.environ["MAYFLY_KERNEL"] = KERNEL
os.environ["MAYFLY_BOOT_TIMEOUT"] = f"{LIMIT}s"


@pytest.fixture(scope="module")
def shared():
    """A sandbox that tests use which leave it as it is."""
    with mayfly.Sandbox(ROOTFS, env={"FIRST": "one"}, memory="192M") as sandbox:
        yield sandbox


def test_run_has_status_streams_and_surroundings(shared):
    assert shared.run(["sh", "-c", "cat; echo error >&2; exit 7"], b"\0in\xff") == (7, b"\0in\xff", b"error\n")
    result = shared.run('echo "$FIRST $SECOND"; pwd; id -u', env={"SECOND": "two words"}, workdir="/tmp", user="1234")
    assert result.check().text == "one two words\n/tmp\n1234\n"
    with open("/etc/passwd", "rb") as file:
        assert shared.run(["head", "-n", "1"], file).stdout.startswith(b"root:")
    assert shared.run(["no-such-program"]).status == 127
    assert shared.run("kill -9 $$").status == 137
    with concurrent.futures.ThreadPoolExecutor() as threads:
        answers = threads.map(lambda n: shared.run(f"sleep 1; echo {n}").text, range(4))
        assert list(answers) == ["0\n", "1\n", "2\n", "3\n"]
    # mayfly's own numbers are the command's, too.
    assert shared.run("exit 125").status == 125
    assert shared.run("exit 124", timeout=LIMIT).status == 124
    with pytest.raises(mayfly.CommandFailed, match="(?s)status 3.*why"):
        shared.run("echo why >&2; exit 3").check()


def test_limits_of_a_command(shared):
    with pytest.raises(mayfly.TimedOut) as caught:
        shared.run("trap '' TERM; echo begun; while :; do sleep 1; done", timeout=3)
    assert caught.value.stdout == b"begun\n"
    with pytest.raises(mayfly.OutputLimit) as caught:
        shared.run("exec yes", output_limit=1000)
    assert len(caught.value.stdout) == 1000
    # It is a sandbox as before.
    assert shared.run(["echo", "works"]).text == "works\n"


def test_a_process_with_its_streams(shared):
    # A signal that comes between a fork and an exec is lost for the new process: the shell looks again each 0.1 s.
    line = "echo ready; while read -r line; do echo got $line; done; trap 'exit 9' INT; echo end"
    line += "; while :; do sleep 0.1; done"
    with shared.exec(line) as p:
        lines = iter(p.stdout)
        assert next(lines) == b"ready\n"
        p.stdin.write(b"a\nb\n")
        assert [next(lines), next(lines)] == [b"got a\n", b"got b\n"]
        p.stdin.close()
        assert next(lines) == b"end\n"
        p.send_signal(signal.SIGINT)
        assert p.wait() == 9
    with shared.exec(["sleep", "1000"]) as p:
        pass
    assert p.wait() == 128 + signal.SIGTERM


def test_files(shared, tmp_path):
    data = os.urandom(300_000)
    shared.run("mkdir -p /tmp/new/dir").check()
    shared.files.write("/tmp/new/dir/name", data, 0o640)
    assert shared.run("stat -c '%a %u' /tmp/new/dir/name").text == "640 0\n"
    assert shared.files.read("/tmp/new/dir/name") == data
    shared.files.write("/tmp/new/dir/name", "text \u20ac")
    assert shared.files.read("/tmp/new/dir/name").decode() == "text \u20ac"
    (tmp_path / "a:b").mkdir()
    (tmp_path / "a:b/file").write_text("content")
    shared.files.copy_in(tmp_path / "a:b", "/tmp/copy")
    shared.run("echo more >> /tmp/copy/file; ln -s /tmp/copy/file /tmp/link").check()
    assert shared.files.read("/tmp/link") == b"contentmore\n"
    shared.files.copy_out("/tmp/copy/.", tmp_path / "a:b")
    assert (tmp_path / "a:b/file").read_text() == "contentmore\n"
    with pytest.raises(mayfly.MayflyError, match="/tmp/none"):
        shared.files.write("/tmp/none/name", b"")
    for path, limit, what in (("/nothing", 9, "/nothing"), ("/tmp", 9, "/tmp"), ("/tmp/link", 9, "more than 9")):
        with pytest.raises(mayfly.MayflyError, match=what):
            shared.files.read(path, limit)
    # A hole of 100 MiB is sent as some bytes, and is not made here.
    shared.run("truncate -s 100M /tmp/hole").check()
    with pytest.raises(mayfly.MayflyError, match="/tmp/hole: has more"):
        shared.files.read("/tmp/hole", 1000)
    with pytest.raises(mayfly.MayflyError, match="/tmp/copy"):
        shared.files.write("/tmp/copy", b"x")
    with pytest.raises(ValueError):
        shared.files.read("tmp/link")


def test_clones_begin_where_it_is_and_go_on_alone(shared, left, tmp_path):
    shared.files.write("/tmp/state", "before")
    before = set(os.listdir("/tmp"))
    clones = shared.clone(2, env={"SECOND": "two"})
    try:
        assert not [name for name in set(os.listdir("/tmp")) - before if name.startswith("mayfly-")]
        for number, clone in enumerate(clones):
            line = f'cat /tmp/state; echo " $FIRST $SECOND"; hostname; echo {number} > /tmp/state'
            assert clone.run(line).text == f"before one two\n{clone.name}\n"
        assert [clone.files.read("/tmp/state") for clone in (*clones, shared)] == [b"0\n", b"1\n", b"before"]
    finally:
        for clone in clones:
            clone.close()
    shared.snapshot(tmp_path / "snapshot")
    with mayfly.Sandbox.restore(tmp_path / "snapshot", name=f"{left.prefix}-0") as restored:
        assert restored.run('cat /tmp/state; echo " $FIRST"').text == "before \n"
    with shared.exec("echo; sleep 1000") as process:
        process.stdout.read()
        with pytest.raises(mayfly.MayflyError):
            shared.clone()
    assert shared.is_running


def test_an_image_of_a_container(left, tmp_path, monkeypatch):
    if subprocess.run(["bwrap", "--unshare-pid", "--ro-bind", "/", "/", "true"]).returncode:
        pytest.skip("bubblewrap cannot make a sandbox here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = {
        "Entrypoint": ["/bin/echo"], "Cmd": ["from", "cmd"], "Env": ["A=image", "B=image", "PATH=/odd:/bin"],
        "WorkingDir": "/srv", "User": "1000:1001",
    }
    layer = "d:bin d:dev d:proc d:sys d:tmp:1777 d:srv b:bin/busybox:/bin/busybox"
    layer += "".join(f" s:bin/{name}:busybox" for name in ("sh", "cat", "echo", "id"))
    words = [ROOT / "tests/boot/oci-image", f"{tmp_path}/oci:box", json.dumps(config), layer]
    subprocess.run([sys.executable, *words], check=True)
    image = f"oci:{tmp_path}/oci:box"
    assert mayfly.run(image, name=f"{left.prefix}-0").check().text == "from cmd\n"
    assert mayfly.run(image, ["echo", "-x"], name=f"{left.prefix}-0").check().text == "-x\n"
    # Its environment, directory and user are those of each command, unless something else is said.
    with mayfly.Sandbox(image, env={"B": "mine"}, name=f"{left.prefix}-0") as sandbox:
        line = 'echo "$A $B $PATH"; pwd; id -u; id -g'
        assert sandbox.run(line).text == "image mine /odd:/bin\n/srv\n1000\n1001\n"
        assert sandbox.run(line, user="0:0", workdir="/").text == "image mine /odd:/bin\n/\n0\n0\n"


def test_how_sandboxes_end(left):
    name = f"{left.prefix}-0"
    # A guest that ends by itself, while a command runs and before the next one.
    with mayfly.Sandbox(ROOTFS, name=name, memory="64M") as sandbox:
        assert sandbox.run(["tail", "/dev/zero"]).status == 128 + signal.SIGKILL
        with pytest.raises(mayfly.SandboxEnded) as caught:
            sandbox.run("echo last words > /dev/console; reboot -f; sleep 1000")
        assert caught.value.ending.cause == "reboot" and "guest: last words" in caught.value.last_words
        with pytest.raises(mayfly.SandboxEnded):
            sandbox.run("true")
        assert not sandbox.is_running and sandbox.wait().cause == "reboot"
    # One that is asked to end, as by its own time limit: the guest's processes get SIGTERM.
    with mayfly.Sandbox(ROOTFS, name=name, memory="64M") as sandbox:
        with sandbox.exec("echo; exec sleep 1000") as process:
            process.stdout.read()
            subprocess.run([os.environ["MAYFLY"], "stop", name], check=True, stdout=subprocess.DEVNULL)
            assert process.wait() == 128 + signal.SIGTERM
        assert sandbox.wait().cause == "signal"
        with pytest.raises(mayfly.SandboxEnded, match="ended by a signal"):
            sandbox.run("true")
    # One for a single command.
    assert mayfly.run(ROOTFS, "cat; exit 5", b"in", name=name) == (5, b"in", b"")
    with pytest.raises(mayfly.OutOfMemory) as caught:
        mayfly.run(ROOTFS, ["tail", "/dev/zero"], name=name, memory="64M")
    assert caught.value.ending.oom
    with pytest.raises(mayfly.SandboxEnded, match="panicked") as caught:
        mayfly.run(ROOTFS, "true", name=name, options=["--append", "rdinit=/bin/busybox"])
    assert caught.value.ending.cause == "panic" and "Kernel panic" in caught.value.last_words


def test_some_that_are_cancelled_at_random_leave_nothing(left):
    used = []

    async def live(sandbox: mayfly.AsyncSandbox) -> None:
        async with sandbox:
            while True:
                async with await sandbox.exec("sleep 1000"):
                    await sandbox.run("cat", b"x" * 100_000)
                    await sandbox.files.write("/tmp/x", b"x" * 100_000)
                    used.append(len(await sandbox.files.read("/tmp/x")))

    async def one(number: int, chance: random.Random) -> None:
        sandbox = mayfly.AsyncSandbox(ROOTFS, name=f"{left.prefix}-{number}", memory="64M")
        task = asyncio.create_task(live(sandbox))
        await asyncio.sleep(chance.random() * 25)
        for _ in range(chance.randrange(1, 3)):
            task.cancel()
            await asyncio.sleep(chance.random() * 0.5)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sandbox.ending

    async def work() -> None:
        chance = random.Random(7)
        await asyncio.gather(*(one(number, chance) for number in range(16)))

    asyncio.run(work())
    assert used and set(used) == {100_000}


PROGRAM = """
import os, sys, mayfly
sandbox = mayfly.Sandbox(sys.argv[1], name=sys.argv[2]).start()
print("ready", flush=True)
sandbox.run("sleep 1000")
"""


def test_a_python_that_is_killed_leaves_no_vm(left):
    words = [sys.executable, "-c", PROGRAM, ROOTFS, f"{left.prefix}-0"]
    program = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert program.stdout.readline() == b"ready\n"
    assert len(left.processes()) >= 2
    program.kill()
    program.communicate()
    end = time.monotonic() + LIMIT
    while left.processes() and time.monotonic() < end:
        time.sleep(0.2)


def example(name: str, *words: str, stdin: str = "") -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *words], input=stdin, capture_output=True, text=True, timeout=2 * LIMIT
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


def test_the_examples(tmp_path):
    def untrusted(code: str, seconds: int = 60) -> dict[str, object]:
        return json.loads(example("untrusted.py", "--seconds", str(seconds), ROOTFS, "sh", stdin=code))

    assert untrusted("id -u; ls /sys/class/net | grep -c eth; exit 3") == {
        "status": 3, "stdout": "65534\n0\n", "stderr": "",
    }
    assert "time limit" in untrusted("sleep 1000", 5)["stderr"]
    jobs = "cat /tmp/w\nexit 0\nhostname\n"
    said = example("pool.py", "--size", "2", "--warm", "echo warm > /tmp/w", ROOTFS, stdin=jobs)
    assert "1: status 0: warm\n" in said and "2: status 0: \n" in said and "3: status 0: py-" in said
    (tmp_path / "check").write_text('test "$A" = 1 -o "$A" = 2\n')
    said = example("matrix.py", "--on", ROOTFS, "--with", "A=1,2", str(tmp_path), "sh", "check")
    assert sorted(said.splitlines()) == [f"passed  {ROOTFS} A=1", f"passed  {ROOTFS} A=2"]
