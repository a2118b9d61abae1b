#!/usr/bin/env python3
"""The measuring part of perf/disk and perf/net: runs the jobs, and prints the results as JSON.

usage: io-measure.py SPEC.json

For each setup (a kind of image, or of connection) each monitor boots twice: once with no events
traced but the marks of the jobs (load.c) and idle time, for the times; once with fewer operations
and every VM entry and exit, context switch and system call, for who used the time. Without tracefs
there are only the times that the guest has printed.
"""

import collections
import json
import os
import re
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
from monitors import (  # noqa: E402 (beside this file)
    Root,
    can_trace,
    mayfly_command,
    qemu_command,
    run,
    settle,
    start,
    trace_events,
    trace_set,
    trace_setup,
    trace_start,
)

MARK, MARKS = 0x4D594C00, 0x100
LIGHT_EVENTS = ["kvm/kvm_cpuid", "power/cpu_idle"]
FULL_EVENTS = ["kvm/kvm_entry", "kvm/kvm_exit", "sched/sched_switch", "raw_syscalls/sys_enter"]
GUEST_SECONDS_MAX = 60
TAP = "mf-perf"
HOST_ADDRESS = "10.4.0.1/24"
PORTS = (7001, 7002, 7003)
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
    def __init__(self, spec):
        self.spec = spec
        self.programs = spec["programs"]
        self.tracing = can_trace()
        self.root = None
        self.images = {}
        self.messages = tempfile.TemporaryFile()

    def make_disk(self, backing, mount_point):
        """A file system that has O_DIRECT, on a loop device: tmpfs has none."""
        with open(backing, "wb") as file:
            file.truncate(self.spec["image_mib"] * 2 << 20)
        subprocess.run(["mkfs.ext4", "-q", backing], check=True)
        os.mkdir(mount_point)
        subprocess.run(["mount", "-o", "loop", backing, mount_point], check=True)

    def prepare(self):
        """Steps that need the host's programs: before the root is changed."""
        if self.spec["chroot"]:
            root = Root()
            for program in self.programs.values():
                root.copy_program(program)
            for path in (self.spec["kernel"], self.spec["initrd"]):
                root.copy_file(path)
            self.root = root.path
        if any(setup["kind"] == "tap" for setup in self.spec["setups"]):
            for words in (
                *[f"tuntap add dev {TAP} mode tap", f"address add {HOST_ADDRESS} dev {TAP}"],
                f"link set {TAP} up",
            ):
                subprocess.run(["ip", *words.split()], check=True)
        where = {"tmpfs": tempfile.mkdtemp(dir=self.root or "/dev/shm")}
        if self.root and any(setup["key"] == "file" for setup in self.spec["setups"]):
            where["file"] = self.root + "/file"
            self.make_disk(self.root + "/disk", where["file"])
        elif self.spec["dir"]:
            where["file"] = self.spec["dir"]
        for setup in self.spec["setups"]:
            if setup["kind"] == "disk":
                path = where[setup["key"]] + "/perf-image"
                with open(path, "wb") as image:
                    for _ in range(self.spec["image_mib"]):
                        image.write(b"\x5a" * (1 << 20))
                    os.fsync(image.fileno())
                self.images[setup["key"]] = path[len(self.root or "") :]
        if self.root:
            root.enter()

    def devices(self, setup, name):
        """The options that give a monitor the setup's device."""
        kind, qemu = setup["kind"], name.startswith("qemu")
        if kind == "disk":
            image = self.images[setup["key"]]
            if not qemu:
                return ["-d", image + (":direct" if setup["direct"] else "")]
            cache = "none" if setup["direct"] else "writeback"
            drive = f"if=none,id=d0,file={image},format=raw,aio=io_uring,cache={cache}"
            device = ["-device", "virtio-blk-device,drive=d0,iothread=io0"]
            options = ["-object", "iothread,id=io0", "-drive", drive, *device]
        elif kind == "tap":
            if not qemu:
                return ["-n", f"tap={TAP}"]
            vhost = "on" if name == "qemu-vhost" else "off"
            backend = f"tap,id=n0,ifname={TAP},script=no,downscript=no,vhost={vhost}"
            options = ["-netdev", backend, "-device", "virtio-net-device,netdev=n0"]
        else:
            if not qemu:
                return ["--vsock", "/v.sock" if self.root else "/dev/shm/mf-perf.sock"]
            options = ["-device", "vhost-vsock-device,guest-cid=3"]
        return ["-global", "virtio-mmio.force-legacy=false", *options]

    def command(self, setup, name, times, jobs):
        # Not behind a "--": QEMU puts words of its own after these, and they are for the kernel.
        words = f" {times} {' '.join(jobs)}"
        program = self.programs[name.split("-", maxsplit=1)[0]]
        command = mayfly_command if name == "mayfly" else qemu_command
        return command(program, self.spec, self.devices(setup, name), words)

    def start_peer(self, setup, name):
        """The other end of the guest's connections, if it has any."""
        if setup["kind"] == "disk":
            return None
        scheme = {"tap": "tcp:{}", "vsock": "vsock:{}" if name != "mayfly" else None}
        unix = "unix:/v.sock_{}" if self.root else "unix:/dev/shm/mf-perf.sock_{}"
        template = scheme[setup["kind"]] or unix
        addresses = [template.format(port) for port in PORTS]
        peer = start([self.programs["load"], "serve", *addresses], subprocess.PIPE)
        if peer.stdout.readline().strip() != b"serving":
            sys.exit("io-measure: load serve does not serve")
        return peer

    def boot(self, setup, name, times, jobs, full):
        """Runs the jobs in one boot. Returns their (ops, ns) as printed, and their Windows."""
        settle()
        peer = self.start_peer(setup, name)
        if self.tracing:
            trace_start(FULL_EVENTS, full)
        command = self.command(setup, name, times, jobs)
        if self.spec["progress"]:
            how = "traced" if full else "timed"
            print(f"{setup['key']}: {name}, {how}", file=sys.stderr, flush=True)
        process = start(command, subprocess.PIPE, self.messages)
        try:
            output = process.communicate(timeout=GUEST_SECONDS_MAX)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            process.kill()
            output = process.communicate()[0].decode(errors="replace")
        if self.tracing:
            trace_set("tracing_on", "0")
        if peer:
            peer.kill()
            peer.wait()
        said = re.findall(r"^job \d+ (\d+) (\d+)", output, re.MULTILINE)
        if len(said) != times * len(jobs):
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

    def light(self, setup, name, values):
        jobs = setup["jobs"]
        for _ in range(self.spec["runs"]):
            said, windows, _, _ = self.boot(setup, name, 1, [job["text"] for job in jobs], False)
            for number, job in enumerate(jobs):
                ops, elapsed = said[number]
                figures = values[job["key"]]
                if windows:
                    window = windows[number]
                    elapsed = window.ended - window.begun
                    if self.spec["icount"]:
                        figures["cpu"].append((elapsed - window.threads[0]) / ops)
                figures["elapsed"].append(elapsed / ops)

    def full(self, setup, name, values):
        texts = [job["short"] for job in setup["jobs"]]
        said, windows, monitor, peer = self.boot(setup, name, 1, texts, True)
        for job, (ops, _), window in zip(setup["jobs"], said, windows):
            figures = values[job["key"]]
            own, calls = window.host(monitor)
            others = window.host(peer)[0] if peer else 0
            busy = sum(window.threads.values()) - window.threads[0]
            figures["guest"].append(window.guest / ops)
            figures["monitor"].append(own / ops)
            figures["kernel"].append((busy - own - others) / ops)
            figures["peer"].append(others / ops)
            figures["exits"].append(window.exits / ops)
            figures["calls"].append(calls / ops)

    def measure(self):
        result, commands = {}, {}
        for setup in self.spec["setups"]:
            for name in setup["monitors"]:
                values = collections.defaultdict(lambda: collections.defaultdict(list))
                self.light(setup, name, values)
                if self.tracing:
                    self.full(setup, name, values)
                result.setdefault(setup["key"], {})[name] = values
                texts = [job["text"] for job in setup["jobs"]]
                commands.setdefault(setup["key"], {})[name] = self.command(setup, name, 1, texts)
        return {"tracing": self.tracing, "values": result, "commands": commands}


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        spec = json.load(file)
    bench = Bench(spec)
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
