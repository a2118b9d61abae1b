"""The words of mayfly's command lines, from the arguments of this package."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Protocol, TypedDict, Union

Path = Union[str, "os.PathLike[str]"]
Command = Union[str, Sequence[str]]

# What mayfly, and the programs that it starts, read from their own environment. A guest's variable of such a name is
# given on mayfly's command line; the others are not, because each user of the host can read that.
OWN_NAMES = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|TERM|TMPDIR|TZ|NOTIFY_SOCKET|REGISTRY_AUTH_FILE|BASH_ENV|ENV|IFS"
    r"|(LC|LD|XDG|MAYFLY|GCONV|MALLOC|GLIBC|GO|SSL|DBUS|CONTAINERS)_?.*|.*_proxy|.*_PROXY"
)
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class HasFileno(Protocol):
    """An open file."""

    def fileno(self) -> int: ...


Stdin = Union[bytes, str, HasFileno, None]


class RestoreOptions(TypedDict, total=False):
    """What a VM may be given that starts from a snapshot."""

    name: str  # how mayfly ps, logs and exec know it, and its host name; default: py-PID-8 digits
    env: Mapping[str, str]  # variables of each of its commands
    workdir: str  # where each of its commands runs
    user: str  # USER[:GROUP] of each of its commands
    timeout: float  # seconds until the VM is ended
    network: str | Sequence[str]  # SPECs of --net; "user" is passt; default: none, or that of the snapshot
    jail: bool | str  # True, or a SPEC of --jail, such as "strict,memory-max=600M"
    options: Sequence[str]  # any other options of mayfly run, word by word: ("--publish", "8080:80")
    binary: Path  # the program mayfly; default: $MAYFLY, or mayfly in $PATH


class Options(RestoreOptions, total=False):
    """What a VM may be given that boots."""

    memory: str | int  # "512M", or bytes; default: 128M
    cpus: int
    volumes: Sequence[str]  # SPECs of --volume: "src:/src:ro"
    disk: str  # the size of a sparse file that takes changes to the root, in place of memory: "20G"
    boot_timeout: float  # seconds that the guest has until its command starts; default: 30
    kernel: Path
    pull: str  # "missing", "always" or "never"


def make_name() -> str:
    return f"py-{os.getpid()}-{secrets.token_hex(4)}"


def find_binary(options: RestoreOptions) -> str:
    return os.fspath(options.get("binary") or os.environ.get("MAYFLY") or "mayfly")


def words_of(command: Command) -> list[str]:
    """A string is a line for the guest's shell; a list is a program and its arguments."""
    words = ["sh", "-c", command] if isinstance(command, str) else list(command)
    if not words or not all(isinstance(word, str) for word in words):
        raise ValueError("a command is a string, or a list of strings that is not empty")
    return words


def seconds(value: float, what: str) -> str:
    """A time as mayfly reads it."""
    ms = round(value * 1000)
    if ms <= 0:
        raise ValueError(f"{what}: must be more than 0 seconds")
    return f"{ms}ms"


def environment(env: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Options for a command's variables, and what mayfly's own environment needs for them."""
    words: list[str] = []
    own: dict[str, str] = {}
    for name, value in env.items():
        if not NAME.fullmatch(name):
            raise ValueError(f"env: {name!r} is no name of a variable")
        if OWN_NAMES.fullmatch(name):
            words += ["-e", f"{name}={value}"]
        else:
            words += ["-e", name]
            own[name] = value
    return words, own


def command_options(
    env: Mapping[str, str], workdir: str | None, user: str | None
) -> tuple[list[str], dict[str, str]]:
    """Options that `mayfly run`, `restore` and `exec` have for a command, and variables for mayfly itself."""
    words, own = environment(env)
    if workdir is not None:
        words += ["-w", workdir]
    if user is not None:
        words += ["-u", user]
    return words, own


def _check(options: Mapping[str, object], known: type) -> None:
    for key in options:
        if key not in known.__annotations__ and key not in RestoreOptions.__annotations__:
            raise TypeError(f"no option {key!r}; there are {', '.join(sorted(known.__annotations__))}")


def restore_words(options: RestoreOptions, known: type = RestoreOptions) -> list[str]:
    """All but the name, env, workdir and user."""
    _check(options, known)
    words: list[str] = []
    if "timeout" in options:
        words += ["--timeout", seconds(options["timeout"], "timeout")]
    network = options.get("network", ())
    for spec in (network,) if isinstance(network, str) else network:
        words += ["--net", spec]
    jail = options.get("jail", False)
    if jail:
        words.append("--jail" if jail is True else f"--jail={jail}")
    return words + list(options.get("options", ()))


def run_words(options: Options) -> list[str]:
    """The same, of a VM that boots."""
    words = restore_words(options, Options)
    if "memory" in options:
        words += ["--mem", str(options["memory"])]
    if "cpus" in options:
        words += ["--cpus", str(options["cpus"])]
    for spec in options.get("volumes", ()):
        words += ["--volume", spec]
    if "disk" in options:
        words += ["--disk", options["disk"]]
    if "boot_timeout" in options:
        words += ["--boot-timeout", seconds(options["boot_timeout"], "boot_timeout")]
    if "kernel" in options:
        words += ["--kernel", os.fspath(options["kernel"])]
    if "pull" in options:
        words += ["--pull", options["pull"]]
    return words


def is_path(image: Path) -> bool:
    """As `mayfly run` decides: a path begins with '/' or '.', anything else is the name of a container's image."""
    return not isinstance(image, str) or image.startswith(("/", "."))


def root_words(image: Path, command: Sequence[str], entrypoint: bool) -> list[str]:
    """The root and the command, which come last. entrypoint: an image's ENTRYPOINT is in front of the command."""
    if is_path(image):
        path = os.fspath(image)
        if not path:
            raise ValueError("image: must not be empty")
        return ["--rootfs", path, "--", *command]
    assert isinstance(image, str)
    if not image or image.startswith("-"):
        raise ValueError(f"image: {image!r} is no name of an image")
    return [*([] if entrypoint else ["--entrypoint", ""]), image, "--", *command]
