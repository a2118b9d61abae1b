"""Options, programs, and access to the lab, shared by perf/boot, perf/disk and perf/net."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build"
WORK = BUILD / "perf"
LAB_SECONDS_MAX = 900
LAB_TIMED_OUT, LAB_FAILED = 124, 125
LOAD_SECONDS_MAX, LOAD_TRIES_MAX = 150, 4
INIT_MODE, DIRECTORY_MODE, CONSOLE_MODE = 0o100755, 0o040755, 0o020600


def option_parser(name, text, runs):
    """The options that all of perf/NAME have."""
    parser = argparse.ArgumentParser(
        prog=f"perf/{name}",
        usage=argparse.SUPPRESS,
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=int, default=runs)
    clock = parser.add_mutually_exclusive_group()
    clock.add_argument("--icount", action="store_true", default=True)
    clock.add_argument("--wall", action="store_true")
    parser.add_argument("--progress", action="store_true", default=sys.stderr.isatty())
    parser.add_argument("--kernel", type=Path, default=BUILD / "vmlinux-minimal")
    parser.add_argument("--json", type=Path, default=WORK / f"{name}.json")
    parser.add_argument("--svg", type=Path, default=WORK / f"{name}.svg")
    return parser


def parse(parser):
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    for path in (BUILD / "mayfly", options.kernel):
        if not path.exists():
            sys.exit(f"{parser.prog}: {path} is missing: run `make` and `make kernel` first")
    return options


def cpio_entry(number, name, mode, data=b"", device=(0, 0)):
    """An entry of a newc archive (Linux, driver-api/early-userspace/buffer-format.rst)."""
    path = name.encode() + b"\0"
    fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0]
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + path
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def make_initrd(path, init):
    """Written here because only root can make a device file, which the guest's console is."""
    entries = [
        cpio_entry(1, "dev", DIRECTORY_MODE),
        cpio_entry(2, "dev/console", CONSOLE_MODE, device=(5, 1)),
        cpio_entry(3, "init", INIT_MODE, init.read_bytes()),
        cpio_entry(0, "TRAILER!!!", 0),
    ]
    path.write_bytes(b"".join(entries))


def compile_program(name, flags, sources, libraries=(), strip=True):
    """Builds WORK/name, without symbols unless strip is off."""
    WORK.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CC", "gcc")
    files = [HERE / source for source in sources]
    command = [compiler, *flags, *(["-s"] if strip else []), "-o", WORK / name, *files, *libraries]
    subprocess.run(command, check=True)


def find_programs(name):
    programs = {"mayfly": str(BUILD / "mayfly")}
    qemu = shutil.which("qemu-system-x86_64")
    if qemu:
        programs["qemu"] = qemu
    else:
        print(f"perf/{name}: qemu-system-x86_64 is missing: measuring without", file=sys.stderr)
    return programs


def load_spec(options, name, setups):
    """The jobs of io-measure.py, with the load built for it."""
    flags = ["-std=gnu17", "-D_GNU_SOURCE", "-O2", "-static", f"-I{HERE.parent}"]
    compile_program("load", flags, ["load.c", "load_net.c"], ["-luring"])
    make_initrd(WORK / "load.cpio", WORK / "load")
    return {
        "runs": options.runs,
        "icount": not options.wall,
        "chroot": not options.wall,
        "mem_mib": 128,
        "cpus": 1,
        "progress": options.progress,
        "kernel": str(options.kernel.resolve()),
        "initrd": str(WORK / "load.cpio"),
        "programs": find_programs(name) | {"load": str(WORK / "load")},
        "setups": setups,
        "dir": None,
    }


def command_of(name, spec, seconds):
    """NAME-measure.py with the spec, in the lab or here."""
    path = WORK / f"{name}-spec.json"
    path.write_text(json.dumps(spec), encoding="utf-8")
    command = ["python3", str(HERE / f"{name}-measure.py"), str(path)]
    if not spec["icount"]:
        return command
    lab = [str(HERE.parent / "tests/lab/lab"), "--quiet", "--icount"]
    return [*lab, "--timeout", str(seconds), "--", *command]


def measure(name, spec, seconds=LAB_SECONDS_MAX, tries=1):
    """Runs NAME-measure.py and returns its results. A lab that failed or hung may be tried again."""
    for left in reversed(range(tries)):
        command = command_of(name, spec, seconds)
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode == 0:
            return json.loads(done.stdout)
        if not left or done.returncode not in (LAB_TIMED_OUT, LAB_FAILED):
            break
        # Seen in a few of a hundred, of guests that do much work, whatever their monitor.
        print("perf: the lab did not get to its end: again", file=sys.stderr)
    sys.exit(f"{name}-measure.py failed ({done.returncode})")


def measure_load(spec):
    """Runs io-measure.py for each setup and monitor, so that a lab that hangs costs only one of them."""
    values, commands, tracing = {}, {}, True
    for setup in spec["setups"]:
        for name in setup["monitors"]:
            part = spec | {"setups": [setup | {"monitors": [name]}]}
            found = measure("io", part, LOAD_SECONDS_MAX, LOAD_TRIES_MAX)
            values.setdefault(setup["key"], {}).update(found["values"][setup["key"]])
            commands.setdefault(setup["key"], {}).update(found["commands"][setup["key"]])
            tracing = tracing and found["tracing"]
    return {"values": values, "commands": commands, "tracing": tracing}


def write(options, result, chart):
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if chart:
        options.svg.parent.mkdir(parents=True, exist_ok=True)
        options.svg.write_text(chart, encoding="utf-8")
