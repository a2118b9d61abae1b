"""Tracefs, a root in RAM, and the starting of monitors, shared by the NAME-measure.py."""

import collections
import ctypes
import json
import os
import re
import resource  # noqa: F401 (os.wait4 loads it, which it cannot after chroot)
import shutil
import subprocess
import sys
import tempfile
import time

TRACEFS = "/sys/kernel/tracing/"
EVENT = re.compile(
    r"^\s*.+-(?P<thread>\d+)\s+(?:\(\s*(?P<process>[\d-]+)\)\s+)?\[(?P<cpu>\d+)\]\s+\S+\s+"
    r"(?P<time>[\d.]+):\s+(?P<name>\w+)(?::| ->)\s*(?P<args>.*)$"
)
Event = collections.namedtuple("Event", "time thread name args cpu process")
SETTLE_SECONDS_MAX = 60
CLONE_NEWNS, MNT_DETACH, SYS_PIVOT_ROOT = 0x20000, 2, 155
PR_SET_CHILD_SUBREAPER = 36
QEMU_ROMS = ("qboot.rom", "bios-microvm.bin", "linuxboot_dma.bin", "pvh.bin", "kvmvapic.bin")


def trace_set(name, value):
    with open(TRACEFS + name, "w", encoding="utf-8") as file:
        file.write(value)


def can_trace():
    """MAYFLY_PERF_TRACE=0 makes it no: for tests of what is left without."""
    if os.environ.get("MAYFLY_PERF_TRACE") == "0":
        return False
    return os.access(TRACEFS + "trace", os.W_OK) and os.path.isdir(TRACEFS + "events/kvm/kvm_cpuid")


def trace_setup(icount, cpuid_filter, events):
    trace_set("tracing_on", "0")
    trace_set("events/enable", "0")
    trace_set("trace_clock", "x86-tsc" if icount else "mono")
    trace_set("buffer_size_kb", "32768")
    trace_set("events/kvm/kvm_cpuid/filter", cpuid_filter)
    for event in events:
        trace_set(f"events/{event}/enable", "1")


def trace_start(events, on):
    """Events: those that are on or off from now on; the others stay as they are."""
    for event in events:
        trace_set(f"events/{event}/enable", "1" if on else "0")
    trace_set("trace", "")
    trace_set("tracing_on", "1")


def trace_first_entry():
    """The event of VM entries takes one alone: the first exit switches it off."""
    trigger = "disable_event:kvm:kvm_entry"
    with open(TRACEFS + "events/kvm/kvm_exit/trigger", encoding="utf-8") as file:
        there = trigger in file.read()
    if not there:
        trace_set("events/kvm/kvm_exit/trigger", trigger)
    trace_set("events/kvm/kvm_entry/enable", "0")
    trace_start([], False)
    trace_set("events/kvm/kvm_entry/enable", "1")


def trace_mark(text):
    """An event "tracing_mark_write" with this text."""
    trace_set("trace_marker", text)


def trace_events():
    """Yields Events; times are nanoseconds or ticks, process is None unless it is recorded."""
    with open(TRACEFS + "trace", encoding="utf-8", errors="replace") as file:
        for line in file:
            found = EVENT.match(line)
            if found:
                stamp = found["time"].replace(".", "") + ("000" if "." in found["time"] else "")
                thread, cpu = int(found["thread"]), int(found["cpu"])
                process = found["process"]
                known = int(process) if process and process.isdigit() else None
                yield Event(int(stamp), thread, found["name"], found["args"], cpu, known)


def trace_work(function, icount):
    """Calls it. Returns the time between two marks; idle time is taken off if instructions are counted."""
    trace_start([], True)
    trace_mark("perf begin")
    function()
    trace_mark("perf end")
    trace_set("tracing_on", "0")
    idle, marks = Idle(), []
    for event in trace_events():
        if event.name == "cpu_idle":
            idle.add(event.time, event.args)
        elif event.name == "tracing_mark_write" and event.args.startswith("perf "):
            marks.append(event.time)
    return marks[1] - marks[0] - (idle.between(*marks) if icount else 0)


class Root:
    """A root in RAM, so that no file system of the host takes part; the files that it needs are copied."""

    def __init__(self, merged=False):
        """Merged: with Debian's links of /lib and /bin to /usr, which servers of live directories are loaded from."""
        self.path = tempfile.mkdtemp(dir="/dev/shm")
        for name in ("bin", "sbin", "lib", "lib64") if merged else ():
            os.makedirs(f"{self.path}/usr/{name}")
            os.symlink(f"usr/{name}", f"{self.path}/{name}")
        for name in ("dev", "proc", "sys"):
            os.mkdir(f"{self.path}/{name}")
            subprocess.run(["mount", "--rbind", f"/{name}", f"{self.path}/{name}"], check=True)

    def copy_file(self, path):
        os.makedirs(self.path + os.path.dirname(path), exist_ok=True)
        subprocess.run(["cp", "--sparse=always", path, self.path + path], check=True)

    def copy_program(self, program):
        libraries = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
        for path in [program, *re.findall(r"(/\S+) \(0x", libraries.stdout)]:
            os.makedirs(self.path + os.path.dirname(path), exist_ok=True)
            shutil.copy(path, self.path + path)
        if "qemu" in program:
            os.makedirs(f"{self.path}/usr/share/qemu", exist_ok=True)
            for rom in QEMU_ROMS:
                if os.path.exists(f"/usr/share/qemu/{rom}"):
                    shutil.copy(f"/usr/share/qemu/{rom}", f"{self.path}/usr/share/qemu/{rom}")

    def copy(self, spec):
        """The programs of a spec, and the files that its guests need."""
        for program in spec["programs"].values():
            self.copy_program(program)
        for path in spec["files"].values():
            if path:
                self.copy_file(path)

    def enter(self):
        """Not by chroot, in which there are no user namespaces, and so no whole jails."""
        libc = ctypes.CDLL(None, use_errno=True)
        subprocess.run(["mount", "--rbind", self.path, self.path], check=True)
        os.chdir(self.path)
        if libc.unshare(CLONE_NEWNS):
            raise OSError(ctypes.get_errno(), "unshare")
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        if libc.syscall(SYS_PIVOT_ROOT, b".", b".") or libc.umount2(b".", MNT_DETACH):
            raise OSError(ctypes.get_errno(), "pivot_root")
        os.chdir("/")


def work_in(spec, directory):
    """Where files go: the directory; with chroot, one of a root in RAM, which this process is in from here on."""
    if not spec["chroot"]:
        return directory
    root = Root()
    root.copy(spec)
    for name in ("run", "tmp", "perf-work"):
        os.makedirs(f"{root.path}/{name}", exist_ok=True)
    root.enter()
    return "/perf-work"


def run(command):
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def start(command, stdout, stderr=subprocess.DEVNULL):
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)


def settle():
    """Waits until the last VM is gone, which mayfly leaves to its reaper, and all is quiet."""
    for _ in range(SETTLE_SECONDS_MAX * 50):
        if not any(is_reaper(pid) for pid in orphans()):
            break
        time.sleep(0.02)
    time.sleep(0.3)


def orphans():
    with open("/proc/thread-self/children", encoding="utf-8") as file:
        return [int(pid) for pid in file.read().split()]


def is_reaper(pid):
    """One that has ended is waited for: nobody else does."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip() == "mayfly" and os.waitpid(pid, os.WNOHANG) == (0, 0)
    except OSError:
        return False


class Idle:
    """The idle time of one CPU, from events power:cpu_idle: what a clock counts and nobody works in."""

    def __init__(self):
        self.total = 0
        self.since = None
        self.spans = []

    def add(self, now, args):
        if "state=4294967295" not in args:
            self.since = now
        elif self.since is not None:
            self.total += now - self.since
            self.spans.append((self.since, now))
            self.since = None

    def between(self, begin, end):
        return sum(max(min(end, b) - max(begin, a), 0) for a, b in self.spans)


def progress(text):
    """A line for whoever waits, and a sign of life: bench.py ends a measuring part that is silent for too long."""
    print(f"run {text}", file=sys.stderr, flush=True)


def this_host():
    """What there is to know about the machine on which the monitors run."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        model = re.search(r"model name\s*: (.*)", file.read())
    with open("/proc/cmdline", encoding="utf-8", errors="replace") as file:
        words = file.read().split()
    return {
        "kernel": " ".join(os.uname()[index] for index in (0, 2, 3)),
        "cpu": model[1] if model else "unknown",
        "cpus": len(os.sched_getaffinity(0)),
        "command_line": " ".join(words),
    }


def set_up():
    """Returns the spec. From now on this process is the parent of what its programs leave."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    with open(sys.argv[1], encoding="utf-8") as file:
        return json.load(file)
