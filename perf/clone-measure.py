#!/usr/bin/env python3
"""The measuring part of perf/clone: takes snapshots, restores them in turn, and prints the results as JSON.

usage: clone-measure.py SPEC.json

Times are those of tracepoints from the exec of the monitor on. The first VM entry is traced alone: a trigger of the first exit
switches that event off. What init and the command of a guest reach are steps of mayfly's --timeline.
"""

import collections
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
from api_client import ask, configured, create_snapshot, load_body, says, start_instance, wait_for  # noqa: E402 (beside this file)
from monitors import MONITORS, Guest  # noqa: E402
from pool import Pool  # noqa: E402
from tracing import (  # noqa: E402
    Idle,
    Root,
    can_trace,
    progress,
    run,
    set_up,
    settle,
    start,
    this_host,
    trace_events,
    trace_first_entry,
    trace_set,
    trace_setup,
    trace_work,
)

MARK_TURN = "4d59464e"
EVENTS = ["sched/sched_process_exec", "kvm/kvm_cpuid", "power/cpu_idle", "syscalls/sys_exit_wait4", "syscalls/sys_exit_connect"]
SLEEP = "exec sleep 1000000"
GUESTS = {"true": (["true"], "true"), "python": (["python3", "-c", "1"], "python3 -c pass")}
STEPS = {"first KVM_RUN": "run", "to mayfly's init": "answered", "command started": "started", "its end": "done", "all put away": "away"}
COLD = "/cold"  # an ext4, whose pages can be dropped
CGROUP = "/sys/fs/cgroup/perf-clone"
LIVES_MS = {"qemu": 180}  # until perf/client.c ends a spinning guest, where 80 ms are too few
PAUSED = re.compile(r"paused for ([0-9.]+) ms")


class Qmp:
    """QEMU's monitor, on a Unix socket."""

    def __init__(self, path):
        wait_for(lambda: os.path.exists(path), "QEMU's socket")
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(path)
        self.file = self.socket.makefile("rw", encoding="utf-8")
        self.file.readline()  # its greeting
        self.do("qmp_capabilities")

    def do(self, command, **arguments):
        self.file.write(json.dumps({"execute": command, "arguments": arguments}))
        self.file.flush()
        while True:
            answer = json.loads(self.file.readline())
            if "error" in answer:
                raise OSError(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return

    def migrate(self, uri):
        """Waits for the event of its end, so that no time is spent on asking."""
        self.do("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
        self.do("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
        self.do("migrate", uri=uri)
        while True:
            event = json.loads(self.file.readline())
            status = event.get("data", {}).get("status") if event.get("event") == "MIGRATION" else None
            if status == "completed":
                return
            if status in ("failed", "cancelled"):
                raise OSError(f"migrate: {status}")


class Bench:
    def __init__(self, spec, directory):
        self.spec = spec
        self.directory = directory
        self.tracing = can_trace()
        self.values = collections.defaultdict(lambda: collections.defaultdict(lambda: collections.defaultdict(list)))
        self.commands = collections.defaultdict(dict)
        self.notes = []

    def path(self, name):
        return f"{self.directory}/{name}"

    def add(self, case, monitor, metric, value):
        self.values[case][monitor][metric].append(value)

    # Sources and their snapshots.

    def mayfly(self, *words):
        return [self.spec["programs"]["mayfly"], *words]

    def run_words(self, guest, mem_mib, top=""):
        files = self.spec["files"]
        words = ["run", "-k", files["kernel"], "-m", f"{mem_mib}M"]
        if guest == "spin":
            return [*words, "-i", files["initrd"], "--append= -- spin"]
        return [*words, "-r", f"{top}{files['rootfs' if guest == 'true' else 'python']}"]

    def snapshot(self, guest, where, mem_mib=128, top=""):
        """A snapshot of a guest that waits; its root is below top. Returns the work of taking it, if that is known."""
        control, said = self.path("control"), self.path("said")
        command = self.mayfly(*self.run_words(guest, mem_mib, top), f"--control={control}")
        if guest != "spin":
            command += ["--", "sh", "-c", f"{GUESTS[guest][1]}; echo up; {SLEEP}"]
        with open(said, "wb") as out:
            source = start(command, out)
        wait_for(lambda: says(said) or source.poll() is not None, "the source of a snapshot")
        if source.poll() is not None:
            sys.exit(f"clone-measure: {command} ended with {source.returncode}")
        take = self.mayfly("snapshot", "--stop", *(["--time"] if self.spec["pauses"] else []), control, where)
        done = []
        work = self.trace(
            lambda: done.append(subprocess.run(take, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL))
        )
        source.wait()
        paused = PAUSED.search(done[0].stderr)
        if paused and where.startswith(self.path("size-")):
            self.add(f"snapshot/{mem_mib}", "mayfly", "pause", float(paused[1]) * 1e6)
        return work

    def trace(self, function):
        """Calls it. Returns the work between two marks, or None without tracing."""
        if not self.tracing:
            function()
            return None
        return trace_work(function, self.spec["icount"])

    def snapshot_firecracker(self):
        """Returns the work of the request that takes it."""
        sock, said = self.path("fc.sock"), self.path("said")
        command = [self.spec["programs"]["firecracker"], "--api-sock", sock, "--no-seccomp"]
        source = configured(command, sock, said, self.spec["files"], "-- spin")
        start_instance(sock)
        wait_for(lambda: says(said), "Firecracker's guest")
        ask(sock, "PATCH", "/vm", {"state": "Paused"})
        work = self.trace(lambda: create_snapshot(sock, self.path("fc.state"), self.path("fc.mem")))
        source.kill()
        source.wait()
        return work

    def snapshot_cloud_hypervisor(self):
        files, sock, said = self.spec["files"], self.path("ch.sock"), self.path("said")
        guest = Guest(kernel=files["kernel"], initrd=files["initrd"], mem_mib=128, cpus=1, words="-- spin")
        command = MONITORS["cloud-hypervisor"].command(self.spec["programs"]["cloud-hypervisor"], guest, self.directory)
        with open(said, "wb") as out:
            source = start([*command, "--api-socket", f"path={sock}"], out)
        wait_for(lambda: says(said), "Cloud Hypervisor's guest")
        os.mkdir(self.path("ch"))
        ask(sock, "PUT", "/api/v1/vm.pause")
        body = {"destination_url": f"file://{self.path('ch')}"}
        work = self.trace(lambda: ask(sock, "PUT", "/api/v1/vm.snapshot", body))
        source.kill()
        source.wait()
        return work

    def qemu(self, *more):
        """With the spinning guest."""
        files = self.spec["files"]
        guest = Guest(kernel=files["kernel"], initrd=files["initrd"], mem_mib=128, cpus=1, words="-- spin")
        return [*MONITORS["qemu"].command(self.spec["programs"]["qemu"], guest, self.directory), *more]

    def snapshot_qemu(self):
        """Its migration to a file, of a guest that runs: one that is paused would be restored so."""
        sock, said = self.path("qmp.sock"), self.path("said")
        with open(said, "wb") as out:
            source = start(self.qemu("-qmp", f"unix:{sock},server=on,wait=off"), out)
        wait_for(lambda: says(said) or source.poll() is not None, "QEMU's guest")
        try:
            qmp = Qmp(sock)
            return self.trace(lambda: qmp.migrate(f"exec:cat > {self.path('qemu.state')}"))
        finally:
            source.kill()
            source.wait()

    # Restores.

    def restore_of(self, monitor):
        """SOCKET, TIMES, the request and COMMAND of perf/client.c."""
        nothing = ["-", "0", "", "", ""]
        if monitor == "mayfly":
            return [*nothing, *self.mayfly("restore", self.path("spin"))]
        if monitor == "qemu":
            command = self.qemu("-incoming", f"exec:cat {self.path('qemu.state')}")
            return [*nothing, *command]
        if monitor == "cloud-hypervisor":
            program = self.spec["programs"]["cloud-hypervisor"]
            return [*nothing, program, "--restore", f"source_url=file://{self.path('ch')},resume=true,memory_restore_mode=ondemand"]
        sock = self.path("fc.sock")
        body = load_body(self.path("fc.state"), self.path("fc.mem"))
        extra = ["--no-seccomp"] if monitor == "firecracker-open" else []
        return [sock, "1", "PUT", "/snapshot/load", body, self.spec["programs"]["firecracker"], "--api-sock", sock, *extra]

    def read_trace(self, program, pid=None):
        """From the exec of the program on: the first VM entry, the next turn of a spinning guest, and idle time."""
        executed = entry = turn = None
        idle = Idle()
        for event in trace_events():
            if event.name == "sched_process_exec" and executed is None:
                if event.thread == pid or (pid is None and f"filename={program} " in event.args):
                    executed = event.time
            elif event.name == "cpu_idle":
                idle.add(event.time, event.args)
            elif executed is None:
                continue
            elif event.name == "kvm_entry":
                entry = entry or event.time
            elif event.name == "kvm_cpuid" and MARK_TURN in event.args:
                turn = turn or event.time
        return executed, entry, turn, idle if self.spec["icount"] else Idle()

    def spin(self, monitor):
        """A restore of the spinning guest, which is killed a while later."""
        settle()
        words = self.restore_of(monitor)
        command = self.commands["clone/spin"][monitor] = words[5:]
        os.environ["PERF_LIFE_MS"] = str(LIVES_MS.get(monitor, 80))
        trace_first_entry()
        done = run([self.spec["files"]["client"], "tsc", *words])
        trace_set("tracing_on", "0")
        executed, entry, turn, idle = self.read_trace(command[0])
        if done.returncode or None in (executed, entry, turn):
            said = done.stderr[-400:]
            raise OSError(f"{words}: status {done.returncode}, exec, entry, turn {executed, entry, turn}: {said}")
        self.add("clone/spin", monitor, "first", entry - executed - idle.between(executed, entry))
        self.add("clone/spin", monitor, "user", turn - executed - idle.between(executed, turn))

    def command_words(self, tier, guest, timeline):
        command = ["--timeline", timeline, "--", *GUESTS[guest][0]]
        if tier == "clone":
            return self.mayfly("restore", self.path(guest), *command)
        if tier == "pool":
            return self.mayfly("clone", "--pool", self.path("pool.sock"), *command[2:])
        if tier == "clone-no-cache":
            return self.mayfly("restore", f"{COLD}/snap-{guest}", *command)
        boot = {"cold": [], "template": ["--boot=template"]}[tier]
        if self.spec["template"] and tier == "cold":
            boot = ["--boot=cold"]
        return self.mayfly(*self.run_words(guest, 128), *boot, *command)

    def claim(self, guest):
        """
        A command in a VM that waits. There is another one, so that the pool makes its successor when the guest runs, and not
        before; each run has a pool of its own.
        """
        settle()
        with Pool(self.spec["programs"]["mayfly"], self.path(guest), 2, self.directory, False):
            time.sleep(0.3)  # the pool does what comes after its word of readiness
            self.command("pool", guest)

    def command(self, tier, guest):
        """A command in a new VM, by the steps of its time line, which a claim does not have."""
        case, timeline = f"{tier}/{guest}", self.path("timeline")
        if tier != "pool":
            settle()
        words = self.command_words(tier, guest, timeline)
        self.commands[case]["mayfly"] = words
        if tier == "clone-no-cache":
            os.sync()
            with open("/proc/sys/vm/drop_caches", "w", encoding="utf-8") as file:
                file.write("3")
        if self.tracing:
            trace_first_entry()
        began = time.monotonic_ns()
        with open(self.path("said"), "wb") as said:
            process = start(words, subprocess.DEVNULL, said)
        process.wait()  # not with a limit of time, which would make it poll; bench.py ends what takes too long
        took = time.monotonic_ns() - began
        if process.returncode:
            with open(self.path("said"), encoding="utf-8", errors="replace") as said:
                sys.exit(f"clone-measure: {words} ended with {process.returncode}: {said.read()}")
        executed, entry, idle, end = 0, None, Idle(), took
        if self.tracing:
            trace_set("tracing_on", "0")
            executed, entry, _, idle = self.read_trace(words[0], process.pid)
            end = [event.time for event in trace_events() if event.name == "sys_wait4"][-1]
        steps = {}
        if tier != "pool":
            with open(timeline, encoding="utf-8") as file:
                steps = {step["step"]: step["at_ns"] for step in json.load(file)["steps"]}
        marks = {STEPS[step]: executed + at for step, at in steps.items() if step in STEPS}
        if entry:
            marks["first"] = entry
        if tier == "pool" and self.tracing:
            marks["connect"] = [event.time for event in trace_events() if event.name == "sys_connect" and event.thread == process.pid][0]
        for metric, at in (marks | {"end": end}).items():
            self.add(case, "mayfly", metric, at - executed - idle.between(executed, at))
        if self.tracing and self.spec["icount"]:
            self.add(case, "mayfly", "idle", idle.between(executed, end))

    # Memory.

    def memory_of(self, guest, command, number):
        """
        Starts so many clones of a snapshot in a control group. Returns what that has in use, and of it what is of files, once
        nothing changes any more.
        """
        os.makedirs(CGROUP, exist_ok=True)
        word = ["--", "sh", "-c", f"{command}; echo up; {SLEEP}"] if command else []
        said = [self.path(f"said-{i}") for i in range(number)]
        clones = []

        def enter():
            with open(f"{CGROUP}/cgroup.procs", "w", encoding="utf-8") as file:
                file.write(str(os.getpid()))

        for path in said:
            with open(path, "wb") as out:
                words = self.mayfly("restore", self.path(guest), *word)
                clones.append(subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, preexec_fn=enter))
            if command:
                wait_for(lambda: says(path), "a clone's command")
            else:
                time.sleep(0.2)
        time.sleep(0.5)
        with open(f"{CGROUP}/memory.current", encoding="utf-8") as file:
            current = int(file.read())
        with open(f"{CGROUP}/memory.stat", encoding="utf-8") as file:
            files = int(re.search(r"^file (\d+)", file.read(), re.M)[1])
        for clone in clones:
            clone.kill()
            clone.wait()
        settle()
        os.rmdir(CGROUP)
        return current, files

    def memory(self, guest):
        """The slope between one clone and many, idle and after a command."""
        if not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
            self.notes.append("memory is not measured: there is no control group v2")
            return
        with open("/sys/fs/cgroup/cgroup.subtree_control", "w", encoding="utf-8") as file:
            file.write("+memory")
        number = self.spec["clones"]
        for metric, command in (("memory", None), ("memory-used", " ".join(GUESTS[guest][0]))):
            progress(f"memory of {guest}: {metric}")
            one, many = self.memory_of(guest, command, 1), self.memory_of(guest, command, number)
            current, files = ((b - a) / (number - 1) / 1024 for a, b in zip(one, many))
            self.add(f"clone/{guest}", "mayfly", metric, max(current - files, 0))
            self.add(f"clone/{guest}", "mayfly", f"{metric}-files", files)

    # All of it.

    def sizes(self):
        """Of snapshots, the work to write them, and the pause."""
        for mem_mib in (128,) if self.spec["light"] else (128, 1024):
            for number in range(self.spec["runs"]):
                progress(f"{number + 1}: snapshot of {mem_mib} MiB")
                where, case = self.path(f"size-{mem_mib}"), f"snapshot/{mem_mib}"
                work = self.snapshot("true", where, mem_mib)
                if work is not None:
                    self.add(case, "mayfly", "write", work)
                files = [os.path.join(top, name) for top, _, names in os.walk(where) for name in names]
                self.add(case, "mayfly", "size", sum(os.stat(path).st_blocks * 512 for path in files))
                shutil.rmtree(where)

    def peer_snapshots(self):
        """Of the other monitors; one whose snapshot fails is left out."""
        take = {"firecracker": self.snapshot_firecracker, "cloud-hypervisor": self.snapshot_cloud_hypervisor, "qemu": self.snapshot_qemu}
        there = []
        for monitor, function in take.items():
            if monitor not in self.spec["monitors"]:
                continue
            progress(f"snapshot: {monitor}")
            try:
                work = function()
            except OSError as error:
                self.notes.append(f"{MONITORS[monitor].label} is not measured: {error}")
                continue
            there.append(monitor)
            self.add("snapshot/128", monitor, "write", work)
            names = [self.path("fc.state"), self.path("fc.mem")] if monitor == "firecracker" else []
            names += [self.path("qemu.state")] if monitor == "qemu" else []
            names += [entry.path for entry in os.scandir(self.path("ch"))] if monitor == "cloud-hypervisor" else []
            self.add("snapshot/128", monitor, "size", sum(os.stat(path).st_blocks * 512 for path in names))
        return [*there, *(["firecracker-open"] if "firecracker" in there and "firecracker-open" in self.spec["monitors"] else [])]

    def measure(self):
        guests = ["true", *(["python"] if self.spec["files"].get("python") else [])]
        progress("snapshots")
        for guest in guests:
            self.snapshot(guest, self.path(guest))
        monitors = []
        if self.tracing:
            self.snapshot("spin", self.path("spin"))
            monitors = ["mayfly", *self.peer_snapshots()]
        else:
            self.notes.append("without tracefs, the spinning guest is not measured")
        tiers = ["cold", "clone", *(["template"] if self.spec["template"] else []), *(["pool"] if self.spec["pool"] else [])]
        if self.spec["chroot"]:
            tiers.append("clone-no-cache")
            for guest in guests:
                self.snapshot(guest, f"{COLD}/snap-{guest}", top=COLD)
        for number in range(self.spec["runs"] + 1):
            if number == 1:  # what came before only warmed up
                for case in list(self.values):
                    if not case.startswith("snapshot"):
                        del self.values[case]
            for monitor in list(monitors):
                progress(f"{number}: spin, {monitor}")
                try:
                    self.spin(monitor)
                except OSError as error:
                    if monitor == "mayfly":
                        raise
                    self.notes.append(f"{MONITORS[monitor].label} is not measured: {error}")
                    monitors.remove(monitor)
            for tier in tiers:
                for guest in guests:
                    progress(f"{number}: {tier}, {guest}")
                    if tier == "pool":
                        self.claim(guest)
                    else:
                        self.command(tier, guest)
        self.sizes()
        if self.spec["memory"] and self.spec["icount"]:
            for guest in guests:
                self.memory(guest)
        return {
            "host": this_host() | {"traced": self.tracing},
            "values": self.values,
            "commands": self.commands,
            "notes": self.notes,
        }


def make_cold(spec, root):
    """A file system on a loop device in a root that is made, with the roots of guests."""
    backing = root.path + "/backing"
    with open(backing, "wb") as file:
        file.truncate(2 << 30)
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", backing], check=True)
    os.mkdir(root.path + COLD)
    subprocess.run(["mount", "-o", "loop", backing, root.path + COLD], check=True)
    for name in ("rootfs", "python"):
        path = spec["files"].get(name)
        if path:
            os.makedirs(os.path.dirname(f"{root.path}{COLD}{path}"), exist_ok=True)
            subprocess.run(["cp", "--sparse=always", path, f"{root.path}{COLD}{path}"], check=True)


def main():
    spec = set_up()
    with tempfile.TemporaryDirectory(dir="/dev/shm", ignore_cleanup_errors=True) as directory:
        bench = Bench(spec, directory)
        if spec["chroot"]:
            root = Root()
            root.copy(spec)
            for name in ("run", "tmp"):
                os.mkdir(f"{root.path}/{name}")
            if "qemu" in spec["programs"]:  # its exec: takes a shell
                for program in ("/bin/sh", "/bin/cat"):
                    root.copy_program(program)
            make_cold(spec, root)
            root.enter()
            os.makedirs("/perf-work")
            bench.directory = "/perf-work"
        if bench.tracing:
            trace_setup(spec["icount"], "0", EVENTS)
        result = bench.measure()
        if bench.tracing:
            trace_set("events/enable", "0")
        json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
