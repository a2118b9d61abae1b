"""What needs no VM: command lines, archives of a hostile guest, processes and their ends."""

import asyncio
import inspect
import io
import pickle
import signal
import sys
import tarfile
import time
import typing

import mayfly
import pytest
from mayfly import _arguments, _child, _files, _process


def test_values_of_variables_are_not_on_the_command_line():
    words, own = _arguments.environment({"TOKEN": "secret", "PATH": "/bin", "LD_PRELOAD": "x", "http_proxy": "y"})
    assert words == ["-e", "TOKEN", "-e", "PATH=/bin", "-e", "LD_PRELOAD=x", "-e", "http_proxy=y"]
    assert own == {"TOKEN": "secret"}
    for name in ("A=B", "", "1A", "A B"):
        with pytest.raises(ValueError, match="env"):
            _arguments.environment({name: "x"})


def test_options_become_words():
    words = _arguments.run_words(
        {"memory": "1G", "timeout": 0.25, "network": "user", "jail": "strict", "volumes": ["a:/a"], "options": ["-P"]}
    )
    assert words == ["--timeout", "250ms", "--net", "user", "--jail=strict", "-P", "--mem", "1G", "--volume", "a:/a"]
    assert _arguments.root_words("./dir", ["-x"], False) == ["--rootfs", "./dir", "--", "-x"]
    assert _arguments.root_words("alpine", ["cat"], False) == ["--entrypoint", "", "alpine", "--", "cat"]
    assert _arguments.words_of("a b") == ["sh", "-c", "a b"]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: mayfly.Sandbox("image", timout=1),
        lambda: mayfly.Sandbox.restore("dir", memory="1G"),
        lambda: mayfly.Sandbox("image", timeout=0),
        lambda: mayfly.Sandbox("--privileged"),
        lambda: mayfly.Sandbox(""),
        lambda: mayfly.run("/root", []),
        lambda: mayfly.run("/root"),
        lambda: mayfly.Sandbox("image").run("true"),
    ],
)
def test_a_wrong_argument_is_an_exception(wrong):
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        wrong()


def archive(**members: tarfile.TarInfo | bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:", format=tarfile.GNU_FORMAT) as tar:
        for name, member in members.items():
            if isinstance(member, bytes):
                content, member = member, tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            else:
                tar.addfile(member)
    return out.getvalue()


def test_a_file_comes_out_of_an_archive():
    assert _files.read_archive("/f", archive(f=b"content"), 7) == b"content"
    name = "n" * 300
    assert _files.read_archive("/f", _files.write_archive(name, b"x" * 5000, 0o600), 5000) == b"x" * 5000


def test_a_hostile_archive_is_an_error():
    folder, link, hole = tarfile.TarInfo("d"), tarfile.TarInfo("l"), tarfile.TarInfo("h")
    folder.type, link.type, link.linkname = tarfile.DIRTYPE, tarfile.SYMTYPE, "/etc/passwd"
    # A file of 1 TiB that is one hole, as GNU tar has it: its size is at 483, and no piece has data.
    hole.type, hole.size = tarfile.GNUTYPE_SPARSE, 0
    block = bytearray(hole.tobuf(tarfile.GNU_FORMAT)[:512])
    block[386:410] = b"%011o\0%011o\0" % (1 << 30, 0)
    block[483:495] = b"\x80" + (1 << 40).to_bytes(11, "big")
    block[148:156] = b"%06o\0 " % sum(block[:148] + b" " * 8 + block[156:])
    good = archive(f=b"x" * 2000)
    for data in (b"", b"x" * 512, archive(d=folder), archive(l=link), bytes(block) + bytes(1024), good[:1024]):
        with pytest.raises(mayfly.MayflyError, match="/f"):
            _files.read_archive("/f", data, 5000)
    with pytest.raises(mayfly.MayflyError, match="more than 7"):
        _files.read_archive("/f", archive(f=b"12345678"), 7)


def test_everything_public_is_typed():
    for name in mayfly.__all__:
        thing = getattr(mayfly, name)
        methods = [thing] if inspect.isfunction(thing) else [m for n, m in vars(thing).items() if inspect.isfunction(m)]
        for method in methods:
            if "/mayfly/_" in method.__code__.co_filename:  # not one that the library has made
                wanted = set(inspect.signature(method).parameters) - {"self", "cls"} | {"return"}
                assert wanted <= set(method.__annotations__), (name, method.__name__)


def test_exceptions_and_results_are_pickled():
    ending = mayfly.Ending("panic", 101, None, False, "panicked")
    for error in (
        mayfly.StartFailed("what", "words", ending),
        mayfly.TimedOut("what", b"out", b"err"),
        mayfly.CommandFailed(mayfly.Result(1, b"", b"err")),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert str(again) == str(error) and vars(again) == vars(error)
    status, stdout, _ = mayfly.Result(3, b"\xff", b"")
    assert (status, stdout) == (3, b"\xff")
    assert mayfly.Result(0, b"\xff", b"").check().text == "\ufffd"


def test_last_words_have_no_control_characters():
    assert _process.printable(b"\x1b[2Jx\0\r\nsecond\x9b") == "?[2Jx?\nsecond\ufffd"
    assert len(_process.printable(b"x" * 100_000)) == 4096


def shell(line: str, **options: typing.Any) -> _child.Child:
    return _child.Child(["sh", "-c", line], **options)


async def capture(line: str, data: bytes = b"", limit: int = 1 << 20) -> tuple[mayfly.Result, bool]:
    return await _process.captured(shell(line), data, limit, set())


def test_streams_are_binary_and_separate(left):
    data = bytes(range(256)) * 4096
    result, too_much = asyncio.run(capture("cat; echo error >&2; exit 3", data, len(data)))
    assert result == (3, data, b"error\n") and not too_much
    # A command that does not want its input.
    assert asyncio.run(capture("exec <&-; exit 4", data))[0].status == 4


def test_output_without_end_is_cut_and_the_loop_goes_on(left):
    async def work() -> tuple[mayfly.Result, bool, int]:
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0.001)
                turns += 1

        task = asyncio.create_task(turn())
        result, too_much = await capture("exec yes", limit=50_000_000)
        task.cancel()
        return result, too_much, turns

    result, too_much, turns = asyncio.run(work())
    assert too_much and len(result.stdout) == 50_000_000 and turns > 3


def test_a_stop_is_complete_although_it_is_cancelled(left, monkeypatch):
    monkeypatch.setattr(_child, "STEPS", ((signal.SIGTERM, 0.5), (signal.SIGKILL, 5.0)))

    async def work() -> None:
        child = shell("trap '' TERM; echo; while :; do sleep 0.1; done")
        await child.stdout.read()
        began = time.monotonic()
        task = asyncio.create_task(child.stop())
        for _ in range(3):
            await asyncio.sleep(0.1)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert child.ended.result() == -signal.SIGKILL and child.was_killed
        assert time.monotonic() - began >= 0.5
        child.close()

    asyncio.run(work())


def test_closing_a_pipe_wakes_its_reader(left):
    async def work() -> None:
        async with shell("exec sleep 100") as child:
            reader = asyncio.create_task(child.stdout.read())
            await asyncio.sleep(0.1)
            with pytest.raises(RuntimeError):
                await child.stdout.read()
            child.close()
            assert await asyncio.wait_for(reader, 10) == b""
            with pytest.raises(BrokenPipeError):
                await child.stdin.write(b"x")

    asyncio.run(work())


def test_lines(left):
    async def lines(command: str) -> list[bytes]:
        async with shell(command) as child:
            return [line async for line in child.stdout]

    assert asyncio.run(lines("printf 'a\\n\\nb'; sleep 0.2; printf 'c\\nd\\n'; sleep 0.2; printf e")) == [
        b"a\n", b"\n", b"bc\n", b"d\n", b"e",
    ]
    long = asyncio.run(lines("head -c 3000000 /dev/zero; echo; echo end"))
    assert sum(map(len, long)) == 3_000_005 and long[-1] == b"end\n" and max(map(len, long)) <= 2 << 20


def test_a_program_that_is_missing_is_an_error(left):
    with pytest.raises(FileNotFoundError):
        mayfly.run("/root", "true", binary="/nonexistent/mayfly", name=left.prefix)
