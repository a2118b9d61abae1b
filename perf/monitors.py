"""The monitors, a root in RAM, and tracefs, shared by boot-measure.py and io-measure.py."""

import collections
import ctypes
import os
import re
import resource  # noqa: F401 (os.wait4 loads it, which it cannot after chroot)
import shutil
import subprocess
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
QEMU_ROMS = ("qboot.rom", "bios-microvm.bin", "linuxboot_dma.bin", "pvh.bin", "kvmvapic.bin")
BASE_WORDS = "console=ttyS0 quiet reboot=t panic=-1 percpu_alloc=page"
QEMU_MACHINE = (
    "microvm,x-option-roms=off,pic=off,pit=off,rtc=off,acpi=off,pcie=off,usb=off,"
    "auto-kernel-cmdline={auto},isa-serial=on"
)


def mayfly_command(program, spec, options, words):
    """Words: what is appended to the kernel command line."""
    files = ["-k", spec["kernel"], "-i", spec["initrd"]]
    sizes = ["-m", f"{spec['mem_mib']}M", "-c", str(spec["cpus"])]
    return [program, "run", *files, *sizes, *options] + ([f"--append={words}"] if words else [])


def qemu_command(program, spec, options, words):
    """With devices, QEMU's own words tell the kernel where they are."""
    machine = QEMU_MACHINE.format(auto="on" if options else "off")
    line = f"{BASE_WORDS} {'noreplace-smp' if spec['cpus'] == 1 else 'tsc=reliable'}{words}"
    return [
        *[program, "-M", machine, "-accel", "kvm", "-cpu", "host", "-m", str(spec["mem_mib"])],
        *["-smp", str(spec["cpus"]), "-nodefaults", "-no-user-config", "-nographic", "-no-reboot"],
        *["-serial", "stdio", "-kernel", spec["kernel"], "-initrd", spec["initrd"]],
        *[*options, "-append", line],
    ]


def trace_set(name, value):
    with open(TRACEFS + name, "w", encoding="utf-8") as file:
        file.write(value)


def can_trace():
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


class Root:
    """A root in RAM, so that no file system of the host takes part; the files that it needs are copied."""

    def __init__(self):
        self.path = tempfile.mkdtemp(dir="/dev/shm")
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


def run(command):
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def start(command, stdout, stderr=subprocess.DEVNULL):
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)


def settle():
    """Waits until the last VM is gone, which mayfly leaves to its reaper, and all is quiet."""
    for _ in range(SETTLE_SECONDS_MAX * 50):
        if not any(is_reaper(pid) for pid in os.listdir("/proc") if pid.isdigit()):
            break
        time.sleep(0.02)
    time.sleep(0.3)


def is_reaper(pid):
    """It has what mayfly had, and another parent."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip() == "mayfly"
    except OSError:
        return False
