#!/usr/bin/env python3
"""The measuring part of perf/disk, perf/net and perf/live: runs the jobs, and prints the results as JSON.

usage: io-measure.py SPEC.json

Of the setup (a kind of image, of connection, or a directory) each monitor boots in turn: with no events traced but
the marks of the jobs (load.c) and idle time, for the times, as often as the spec says; and once with
fewer operations and every VM entry and exit, context switch and system call, for who used the time.
Without tracefs there are only the times that the guest has printed.
"""

import collections
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
from monitors import MONITORS, Guest, command_of  # noqa: E402 (beside this file)
from tracing import (  # noqa: E402
    Root,
    can_trace,
    progress,
    set_up,
    settle,
    start,
    this_host,
    trace_events,
    trace_set,
    trace_setup,
    trace_start,
)

MARK, MARKS = 0x4D594C00, 0x100
LIGHT_EVENTS = ["kvm/kvm_cpuid", "power/cpu_idle"]
FULL_EVENTS = ["kvm/kvm_entry", "kvm/kvm_exit", "sched/sched_switch", "raw_syscalls/sys_enter"]
GUEST_SECONDS_MAX = 120
TAP = "mf-perf"
HOST_ADDRESS = "10.4.0.1/24"
PORTS = (7001, 7002, 7003)
SHARED = "/shared"
UNKNOWN = -1


class Window:
    """
    Who used the time between the marks of a job. On each CPU, the time between two events is that
    of the thread which ran; a vCPU's is the guest's between entry and exit.
    """

    def __init__(self, begun):
        self.begun = begun
        self.ended = None
        self.threads = collections.Counter()
        self.processes = {}  # of threads
        self.guest = self.exits = 0
        self.calls = collections.Counter()  # system calls by thread

    def host(self, process):
        """Time and system calls of a process, outside of the guest."""
        threads = [thread for thread, owner in self.processes.items() if owner == process]
        return sum(self.threads[t] for t in threads), sum(self.calls[t] for t in threads)


class Cpu:
    def __init__(self):
        self.last = self.thread = None
        self.in_guest = False


class Account:
    """Goes through the events of a boot and gives a Window for each job."""

    def __init__(self):
        self.windows = []
        self.open = None
        self.cpus = collections.defaultdict(Cpu)

    def add(self, event):
        cpu = self.cpus[event.cpu]
        if self.open:
            self.spend(cpu, event)
        if event.name == "kvm_cpuid":
            self.mark(int(re.search(r"func ([0-9a-f]+)", event.args)[1], 16) - MARK, event)
        elif event.name == "sched_switch":
            cpu.thread = int(re.search(r"next_pid=(\d+)", event.args)[1])
        elif event.name == "cpu_idle":
            cpu.thread = 0 if "state=4294967295" not in event.args else None
        elif event.name == "kvm_entry":
            cpu.in_guest = True
        elif event.name == "kvm_exit":
            cpu.in_guest = False
        cpu.last = event.time

    def spend(self, cpu, event):
        window = self.open
        began = max(cpu.last or window.begun, window.begun)
        if cpu.in_guest:
            window.guest += event.time - began
        else:
            thread = cpu.thread
            if thread is None:  # after idling; nobody has said who is next
                thread = event.thread if event.name != "cpu_idle" else UNKNOWN
            window.threads[thread] += event.time - began
        if event.process is not None:
            window.processes[event.thread] = event.process
        window.exits += event.name == "kvm_exit"
        window.calls[event.thread] += event.name == "sys_enter"

    def mark(self, number, event):
        if number % 2 == 0:
            self.open = Window(event.time)
            self.windows.append(self.open)
        elif self.open:
            self.open.ended = event.time
            self.open = None


class Bench:
    def __init__(self, spec, directory):
        self.spec = spec
        self.setup = spec["setup"]
        self.tracing = can_trace()
        self.directory = directory
        self.image = ""
        self.share = ""
        self.messages = tempfile.TemporaryFile()

    def make_disk(self, backing, mount_point):
        """A file system that has O_DIRECT, on a loop device: tmpfs has none."""
        with open(backing, "wb") as file:
            file.truncate(self.spec["image_mib"] * 2 << 20)
        subprocess.run(["mkfs.ext4", "-q", backing], check=True)
        os.mkdir(mount_point)
        subprocess.run(["mount", "-o", "loop", backing, mount_point], check=True)

    def make_image(self, root):
        """The file of the drive: in memory, in an ext4 of the lab, or where --dir says."""
        where = root or self.directory
        if self.setup["key"] != "tmpfs":
            where = self.spec["dir"] or root + "/file"
            if not self.spec["dir"]:
                self.make_disk(root + "/disk", where)
        path = where + "/perf-image"
        with open(path, "wb") as image:
            for _ in range(self.spec["image_mib"]):
                image.write(b"\x5a" * (1 << 20))
            os.fsync(image.fileno())
        self.image = path[len(root) :]

    def make_share(self, root):
        """The directory that guests get: files of the host's, and the program that reads them."""
        path = (root or self.directory) + SHARED
        os.mkdir(path)
        for number in range(self.spec["share_files"]):
            with open(f"{path}/{number}", "wb") as file:
                file.write(b"\x5a" * self.spec["share_bytes"])
        with open(f"{path}/stream", "wb") as stream:
            for _ in range(self.spec["share_mib"]):
                stream.write(b"\x5a" * (1 << 20))
        shutil.copy(self.spec["programs"]["load"], path)
        self.share = path[len(root) :]

    def empty_share(self):
        """Of what a guest has made there."""
        for name in os.listdir(self.share):
            if name.startswith(("new-", "put-")):
                os.unlink(f"{self.share}/{name}")

    def prepare(self):
        """Steps that need the host's programs: before the root is changed."""
        root = Root(merged=self.setup["kind"] == "share") if self.spec["chroot"] else None
        if root:
            root.copy(self.spec)
        if self.setup["kind"] == "tap":
            for words in (
                *[f"tuntap add dev {TAP} mode tap", f"address add {HOST_ADDRESS} dev {TAP}"],
                f"link set {TAP} up",
            ):
                subprocess.run(["ip", *words.split()], check=True)
        elif self.setup["kind"] == "disk":
            self.make_image(root.path if root else "")
        elif self.setup["kind"] == "share":
            self.make_share(root.path if root else "")
        if root:
            root.enter()
            self.directory = "/"
        # Images of directories are kept here, not in a home.
        os.environ["XDG_CACHE_HOME"] = f"{self.directory}/cache"

    def command(self, name, times, jobs):
        files, kind = self.spec["files"], self.setup["kind"]
        guest = Guest(
            kernel=files["kernel"],
            initrd=files["initrd"],
            bzimage=files.get("bzimage", ""),
            mem_mib=self.spec["mem_mib"],
            cpus=self.spec["cpus"],
            # Not behind a "--": some monitors put words of their own after these, and they are for the kernel.
            words=f"{times} {' '.join(jobs)}",
            disk=self.image,
            direct=self.setup.get("direct", False),
            tap=TAP if kind == "tap" else "",
            vsock=f"{self.directory}/v.sock" if kind == "vsock" else "",
            share=self.share,
            share_root=files.get("rootfs", ""),
        )
        return command_of(name, self.spec["programs"], guest, self.directory)

    def start_peer(self, name):
        """The other end of the guest's connections, if it has any."""
        kind = self.setup["kind"]
        if kind in ("disk", "share"):
            return None
        unix = f"unix:{self.directory}/v.sock_{{}}"
        template = "tcp:{}" if kind == "tap" else unix if MONITORS[name].by == "unix" else "vsock:{}"
        for path in ("v.sock", *(f"v.sock_{port}" for port in PORTS)):
            if os.path.exists(f"{self.directory}/{path}"):
                os.unlink(f"{self.directory}/{path}")
        peer = start([self.spec["programs"]["load"], "serve", *(template.format(port) for port in PORTS)], subprocess.PIPE)
        if peer.stdout.readline().strip() != b"serving":
            sys.exit("io-measure: load serve does not serve")
        return peer

    def read_output(self, process, jobs):
        """What the guest says, until its monitor ends. One that a reboot does not end is killed after the last job."""
        if not MONITORS[process.name].restarts:
            try:
                return process.communicate(timeout=GUEST_SECONDS_MAX)[0].decode(errors="replace")
            except subprocess.TimeoutExpired:
                process.kill()
                return process.communicate()[0].decode(errors="replace")
        lines = []
        for line in iter(process.stdout.readline, b""):
            lines.append(line.decode(errors="replace"))
            if line.startswith(b"job ") and len([said for said in lines if said.startswith("job ")]) == jobs:
                break
        process.kill()
        process.communicate()
        return "".join(lines)

    def boot(self, name, jobs, full):
        """Runs the jobs in one boot. Returns their (ops, ns) as printed, and their Windows."""
        settle()
        if self.share:
            self.empty_share()
        peer = self.start_peer(name)
        if self.tracing:
            trace_start(FULL_EVENTS, full)
        command = self.command(name, 1, jobs)
        progress(f"{self.setup['key']}: {name}{', traced' if full else ''}")
        self.messages.truncate(0)
        process = start(command, subprocess.PIPE, self.messages)
        process.name = name
        output = self.read_output(process, len(jobs))
        if self.tracing:
            trace_set("tracing_on", "0")
        if peer:
            peer.kill()
            peer.wait()
        said = re.findall(r"^job \d+ (\d+) (\d+)", output, re.MULTILINE)
        if len(said) != len(jobs):
            self.messages.seek(0)
            errors = self.messages.read().decode(errors="replace")
            sys.exit(f"io-measure: {command} said only:\n{output}\n{errors}")
        account = Account()
        if self.tracing:
            for event in trace_events():
                account.add(event)
            if len([w for w in account.windows if w.ended]) != len(said):
                sys.exit(f"io-measure: the trace of {name} lacks marks")
        said = [(int(ops), int(ns)) for ops, ns in said]
        return said, account.windows, process.pid, peer.pid if peer else None

    def light(self, name, values):
        """Values: for each job, those of each metric, per operation."""
        said, windows, _, _ = self.boot(name, [job["text"] for job in self.setup["jobs"]], False)
        for number, job in enumerate(self.setup["jobs"]):
            ops, elapsed = said[number]
            figures, idle = values[job["key"]], 0
            if windows:
                window = windows[number]
                elapsed = window.ended - window.begun
                if self.spec["icount"]:
                    idle = window.threads[0]
                    figures["idle"].append(idle / ops)
            figures["elapsed"].append((elapsed - idle) / ops)

    def full(self, name, values):
        said, windows, monitor, peer = self.boot(name, [job["short"] for job in self.setup["jobs"]], True)
        for job, (ops, _), window in zip(self.setup["jobs"], said, windows):
            figures = values[job["key"]]
            own, calls = window.host(monitor)
            others = window.host(peer)[0] if peer else 0
            busy = sum(window.threads.values()) - window.threads[0]
            figures["guest"].append(window.guest / ops)
            figures["monitor"].append(own / ops)
            figures["kernel"].append((busy - own - others) / ops)
            figures["load"].append(others / ops)
            figures["exits"].append(window.exits / ops)
            figures["calls"].append(calls / ops)

    def measure(self):
        """For each job (case) and monitor, the values of each metric."""
        names = self.spec["monitors"]
        values = {name: collections.defaultdict(lambda: collections.defaultdict(list)) for name in names}
        for _ in range(self.spec["runs"]):
            for name in names:
                self.light(name, values[name])
        if self.tracing and self.spec["traced"]:
            for name in names:
                self.full(name, values[name])
        texts = [job["text"] for job in self.setup["jobs"]]
        cases = {job["key"]: f"{self.setup['key']}/{job['key']}" for job in self.setup["jobs"]}
        return {
            "host": this_host() | {"traced": self.tracing},
            "values": {case: {name: values[name][key] for name in names} for key, case in cases.items()},
            "commands": {self.setup["key"]: {name: self.command(name, 1, texts) for name in names}},
        }


def main():
    spec = set_up()
    with tempfile.TemporaryDirectory(dir="/dev/shm", ignore_cleanup_errors=True) as directory:
        bench = Bench(spec, directory)
        if bench.tracing:
            last = MARK + MARKS
            trace_setup(spec["icount"], f"function >= {MARK} && function < {last}", LIGHT_EVENTS)
            trace_set("options/record-tgid", "1")
        bench.prepare()
        result = bench.measure()
        if bench.tracing:
            trace_set("events/enable", "0")
        json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
