"""Options, programs, and access to the lab, shared by all of perf/NAME; and how their results are made."""

import argparse
import datetime
import hashlib
import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import schema
from monitors import MONITORS, PEERS

HERE = Path(__file__).resolve().parent
# A figure of a boot is one: a template in the cache would make it another.
os.environ.setdefault("MAYFLY_BOOT", "cold")
BUILD = Path(os.environ.get("B", HERE.parent / "build")).resolve()
WORK = BUILD / "perf"
LAB_TIMED_OUT, LAB_FAILED, TRIES_MAX = 124, 125, 3
EACH_TRIES_MAX = 5
# How long a measuring part may be silent on a host that has nothing else to do: it says when it begins a boot. The whole
# is bounded, too, in case that it never ends to speak.
SILENT_SECONDS_MAX, LAB_SECONDS_MAX = 60, 7200
LAB_MIB = 3072
INIT_MODE, DIRECTORY_MODE, CONSOLE_MODE = 0o100755, 0o040755, 0o020600
# The hosts of the lab: words for their kernel. Debian's own clears memory when it is allocated, huge pages even twice.
LAB_HOSTS = {"once": "init_on_alloc=0", "debian": ""}


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
    clock.add_argument("--icount", action="store_true", default=True, help="in the lab (the default)")
    clock.add_argument("--wall", action="store_true", help="on this host, by its clock")
    parser.add_argument("--host", choices=[*LAB_HOSTS, "both"], default="both", help="that of the lab")
    parser.add_argument("--light", action="store_true", help="of drives and networks the times alone, not who used them")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PATH", help=f"NAME is one of {', '.join(PEERS)}")
    parser.add_argument("--kernel", type=Path, default=BUILD / "vmlinux-minimal")
    parser.add_argument("--bzimage", type=Path, help="the same kernel, for monitors that load no ELF")
    parser.add_argument("--json", type=Path, default=WORK / f"{name}.json")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--svg", type=Path, default=WORK / f"{name}.svg")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")
    parser.set_defaults(tool=name)
    return parser


def parse(parser, words=None):
    """Words: in place of the command line's."""
    options = parser.parse_args(words)
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    options.programs = {"mayfly": str(BUILD / "mayfly")}
    qemu = shutil.which("qemu-system-x86_64")
    if qemu:
        options.programs["qemu"] = qemu
    for peer in options.peer:
        name, _, path = peer.partition("=")
        if name not in PEERS or not path:
            parser.error(f"--peer {peer}: not NAME=PATH with one of {', '.join(PEERS)}")
        options.programs[name] = os.path.abspath(path)
    for path in (*options.programs.values(), options.kernel, options.bzimage):
        if path and not Path(path).exists():
            sys.exit(f"{parser.prog}: {path} is missing: run `make` and `make kernel` first, or mend the path")
    options.notes = [] if qemu else ["QEMU is not measured: there is no qemu-system-x86_64 here"]
    WORK.mkdir(parents=True, exist_ok=True)
    if "libkrun" in options.programs:
        compile_program("krun-starter", ["-std=gnu17", "-O2"], ["krun.c"], ["-ldl"])
    return options


def usable(options, names, device=""):
    """Those of the named monitors that can be measured here; of each other one, options.notes says why not."""
    found = []
    has_pci = b"virtio-pci" in options.kernel.read_bytes()
    for name in names:
        row, why = MONITORS[name], ""
        if row.program not in options.programs or (device and device not in row.devices):
            continue
        if device and row.pci and not has_pci:
            why = "its devices are on PCI, which the kernel does not have"
        elif row.bzimage and not options.bzimage:
            why = "it loads no ELF; give the kernel by --bzimage"
        if why:
            options.notes.append(f"{row.label} is not measured{' with its ' + device if device else ''}: {why}")
        else:
            found.append(name)
    return found


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
    files, new = [HERE / source for source in sources], WORK / f"{name}.{os.getpid()}"
    command = [compiler, *flags, *(["-s"] if strip else []), "-o", new, *files, *libraries]
    subprocess.run(command, check=True)
    new.rename(WORK / name)  # another perf/NAME may run this one


def make_boot():
    """The guest of perf/boot: init.S, and its initramfs."""
    compile_program("init", ["-nostdlib", "-static"], ["init.S"])
    make_initrd(WORK / "boot.cpio", WORK / "init")


def make_load():
    """The guest of perf/disk, perf/net and perf/live: load.c, and its initramfs."""
    flags = ["-std=gnu17", "-D_GNU_SOURCE", "-O2", "-static", f"-I{HERE.parent}"]
    compile_program("load", flags, ["load.c", "load_files.c", "load_net.c"], ["-luring"])
    make_initrd(WORK / "load.cpio", WORK / "load")


def make_client():
    """The client of APIs: client.c."""
    compile_program("client", ["-std=gnu17", "-D_GNU_SOURCE", "-O2", "-static"], ["client.c"])


def make_spec(options, monitors, files, **more):
    """What NAME-measure.py is to do; more are the fields of this tool."""
    programs = {MONITORS[name].program: options.programs[MONITORS[name].program] for name in monitors}
    if "libkrun" in programs:
        programs["krun-starter"] = str(WORK / "krun-starter")
    files = {"kernel": options.kernel.resolve(), "bzimage": options.bzimage and options.bzimage.resolve()} | files
    return {
        "runs": options.runs,
        "icount": not options.wall,
        "chroot": not options.wall,
        "mem_mib": 128,
        "cpus": 1,
        "progress": not options.quiet,
        "monitors": list(monitors),
        "programs": programs,
        "files": {name: str(path) for name, path in files.items() if path},
    } | more


def command_of(name, path, spec, host):
    """NAME-measure.py with the spec in a file, in the lab or here."""
    command = [sys.executable, str(HERE / f"{name}-measure.py"), str(path)]
    if not spec["icount"]:
        return command
    memory = str(spec.get("lab_mib", LAB_MIB))
    lab = [str(HERE.parent / "tests/lab/lab"), "--quiet", "--icount", "--mem", memory, "--timeout", str(LAB_SECONDS_MAX)]
    words = LAB_HOSTS[host]
    # The lab ends with this program.
    return ["setpriv", "--pdeathsig", "TERM", *lab, *(["--append", words] if words else []), "--", *command]


def patience(silent):
    """Longer on a host that has other work."""
    return silent * max(os.getloadavg()[0] / len(os.sched_getaffinity(0)), 1)


def run_watched(command, quiet, silent=SILENT_SECONDS_MAX):
    """
    Runs a measuring part and returns its status and its output. One that is silent for so many seconds is ended, with the
    status of a lab whose time ran out: a lab that hangs says nothing.
    """
    with tempfile.TemporaryFile("w+") as output:
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE) as process:
            timed_out = False
            while True:
                if not select.select([process.stderr], [], [], patience(silent))[0]:
                    timed_out = True
                    process.terminate()
                text = os.read(process.stderr.fileno(), 65536)
                if not text:
                    break
                if not quiet or b"run " not in text:
                    sys.stderr.buffer.write(text)
                    sys.stderr.flush()
        output.seek(0)
        return LAB_TIMED_OUT if timed_out else process.returncode, output.read()


def try_measure(name, spec, host, tries=1):
    """Runs NAME-measure.py. Returns its results, or None if the lab failed or hung each time."""
    for _ in range(tries):
        path = WORK / f"{name}-spec-{os.getpid()}.json"
        path.write_text(json.dumps(spec), encoding="utf-8")
        silent = spec.get("silent_seconds", SILENT_SECONDS_MAX)
        status, output = run_watched(command_of(name, path, spec, host), not spec["progress"], silent)
        path.unlink()
        if status == 0:
            return json.loads(output)
        if status not in (LAB_TIMED_OUT, LAB_FAILED):
            break
        print("perf: the lab did not get to its end", file=sys.stderr)
    return None


def measure_each(options, name, spec, host):
    """
    Measures each monitor in as many labs as there are runs, for work that takes long: what a lab that fails has measured is
    lost. A monitor whose parts fail as often as EACH_TRIES_MAX is left out from there on, with a note; mayfly may not.
    """
    whole, names = None, list(spec["monitors"])
    for turn in range(options.runs):
        for monitor in names[:]:
            one = spec | {"monitors": [monitor], "runs": 1, "traced": spec["traced"] and turn == 0}
            part = try_measure(name, one, host, EACH_TRIES_MAX)
            if not part and monitor == "mayfly":
                sys.exit(f"perf: {name}-measure.py failed with mayfly")
            if not part:
                label = MONITORS[monitor].label
                options.notes.append(f"{label} did not get to its end in {name} on the host '{host}', {EACH_TRIES_MAX} times")
                names.remove(monitor)
                continue
            options.notes += part.get("notes", [])
            if whole:
                extend(whole, part)
            else:
                whole = part
    return whole


def extend(into, found):
    """Adds the values of further runs, and of other monitors."""
    for case, monitors in found["values"].items():
        for monitor, metrics in monitors.items():
            there = into["values"].setdefault(case, {}).setdefault(monitor, {})
            for metric, values in metrics.items():
                there.setdefault(metric, []).extend(values)
    for case, monitors in found["commands"].items():
        into["commands"].setdefault(case, {}).update(monitors)


def measure(options, name, spec, host):
    """
    Measures all monitors of a spec in one lab (or here), their runs in turn. If that fails, each by itself, and one that
    fails then, too, is left out, with a note; mayfly may not.
    """
    alone = len(spec["monitors"]) == 1
    found = try_measure(name, spec, host, TRIES_MAX if alone else 1)
    if found or alone:
        options.notes += found.get("notes", []) if found else []
        return found or sys.exit(f"perf: {name}-measure.py failed")
    merged = None
    for monitor in spec["monitors"]:
        found = try_measure(name, spec | {"monitors": [monitor]}, host, TRIES_MAX)
        if not found:
            label = MONITORS[monitor].label
            if monitor == "mayfly":
                sys.exit(f"perf: {name}-measure.py failed with mayfly")
            options.notes.append(f"{label} did not get to its end in {name} on the host '{host}', {TRIES_MAX} times")
            continue
        options.notes += found.get("notes", [])
        if not merged:
            merged = found
            continue
        merge(merged, found)
    return merged


def merge(into, found):
    """Adds the cases and monitors of one part's results to those of another."""
    for part in ("values", "commands"):
        for case, monitors in found[part].items():
            into[part].setdefault(case, {}).update(monitors)


def hosts_of(options):
    if options.wall:
        return ["this"]
    return list(LAB_HOSTS) if options.host == "both" else [options.host]


def identify(path, version=""):
    data = Path(path).read_bytes()
    return {"path": str(path), "version": version, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def version_of(name, path):
    """What a monitor says of itself. A library is not asked, and bare.c would make a VM."""
    if name in ("libkrun", "bare"):
        return Path(path).resolve().name
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].strip() if lines else "unknown"


def kernel_version(path):
    """The banner of an uncompressed kernel."""
    found = re.search(rb"Linux version (\d\S+)", Path(path).read_bytes())
    return found[1].decode(errors="replace") if found else "unknown"


def lab_machine():
    """What emulates the lab; the figures of another version may differ."""
    done = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=False)
    return f"lab, {done.stdout.splitlines()[0] if done.stdout else 'unknown'}"


def make_result(options, found, describe):
    """
    The result of a tool: found has what its measuring part gave for each host, and describe(case, metric) gives a case's
    label and a metric's unit.
    """
    clock = "ns" if options.wall else "instructions"
    result = {
        "format": schema.FORMAT,
        "version": schema.VERSION,
        "tool": options.tool,
        "taken": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "clock": clock,
        "runs": options.runs,
        "options": {"cpus": getattr(options, "cpus", 1), "mem_mib": getattr(options, "mem", 128)},
        "hosts": {},
        "programs": {name: identify(path, version_of(name, path)) for name, path in options.programs.items()},
        "guest_kernel": identify(options.kernel.resolve(), kernel_version(options.kernel)),
        "series": [],
        "commands": [],
        "notes": list(dict.fromkeys(options.notes)),
    }
    for host, part in found.items():
        machine = "this host" if options.wall else lab_machine()
        result["hosts"].setdefault(host, part["host"] | {"machine": machine})
        for case, monitors in part["values"].items():
            for monitor, metrics in monitors.items():
                for metric, values in metrics.items():
                    label, unit = describe(case, metric)
                    entry = schema.series(host, case, label, monitor, metric, unit or clock, values)
                    result["series"].append(entry)
        for case, monitors in part["commands"].items():
            if host == next(iter(found)):
                result["commands"] += [{"case": case, "monitor": name, "argv": argv} for name, argv in monitors.items()]
    return result


def write(options, result, chart):
    """Writes the files that were asked for."""
    problems = schema.check(result)
    if problems:
        sys.exit("perf: the result is not as it should be:\n" + "\n".join(problems))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if options.csv:
        with open(options.csv, "w", encoding="utf-8") as file:
            schema.write_csv(file, result)
    if chart:
        options.svg.parent.mkdir(parents=True, exist_ok=True)
        options.svg.write_text(chart, encoding="utf-8")
