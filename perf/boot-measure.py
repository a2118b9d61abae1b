#!/usr/bin/env python3
"""The measuring part of perf/boot: boots the monitors in turn, and prints the results as JSON.

usage: boot-measure.py SPEC.json

With a root's access to tracefs, times are those of tracepoints, on the TSC (icount) or
CLOCK_MONOTONIC (wall). A boot is traced either lightly, a handful of events, which gives the times
from end to end; or fully, with all VM entries and exits, which gives the first entry and the time
in the guest. Without tracefs there is what the parent process sees.
"""

import collections
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

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

MARK_UP, MARK_DOWN = 0x4D59464C, 0x4D59464D
LIGHT_EVENTS = ["sched/sched_process_exec", "kvm/kvm_cpuid", "syscalls/sys_exit_wait4"]
ONE_CPU_EVENTS = ["power/cpu_idle"]
FULL_EVENTS = ["kvm/kvm_entry", "kvm/kvm_exit", "kvm/kvm_userspace_exit"]


class Boot:
    """
    One boot, from the events of its trace. On one CPU, what is neither in a guest nor idle is the
    host's part. On several CPUs, things happen at the same time: there the time line is that of the
    first vCPU, and idle time means nothing.
    """

    def __init__(self, pid, one_cpu):
        self.pid = pid
        self.one_cpu = one_cpu
        self.first_vcpu = None
        self.exec = self.first = self.up = self.down = self.reaped = None
        self.guest = self.idle = self.user_exits = 0
        self.idle_at = {}  # how much there had been by then
        self.exits = collections.Counter()
        self.entered = {}
        self.idle_since = None

    def add(self, now, thread, event, args):
        if event == "sched_process_exec":
            if thread == self.pid:
                self.exec = now
        elif self.exec is None:
            return
        elif event == "kvm_cpuid":
            self.add_mark(now, args)
        elif event == "sys_wait4":
            self.reaped = now
            self.idle_at["reaped"] = self.idle
        elif event == "cpu_idle":
            self.add_idle(now, args)
        elif self.up is None:
            self.add_before_up(now, thread, event, args)

    def add_mark(self, now, args):
        if f"{MARK_UP:x}" in args:
            self.up = self.up or now
            self.idle_at.setdefault("up", self.idle)
        elif f"{MARK_DOWN:x}" in args:
            self.down = now
            self.idle_at["down"] = self.idle

    def add_idle(self, now, args):
        if "state=4294967295" not in args:
            self.idle_since = now
        elif self.idle_since is not None:
            self.idle += now - self.idle_since
            self.idle_since = None

    def add_before_up(self, now, thread, event, args):
        if event == "kvm_entry":
            self.entered[thread] = now
            if self.first is None:
                self.first = now
                self.first_vcpu = thread
                self.idle_at["first"] = self.idle
        elif event == "kvm_exit":
            if self.one_cpu or thread == self.first_vcpu:
                self.guest += now - self.entered.pop(thread, now)
            self.exits[re.search(r"reason (\S+)", args)[1]] += 1
        elif event == "kvm_userspace_exit":
            self.user_exits += 1

    def metrics(self, full):
        if None in (self.exec, self.up, self.down, self.reaped) or (full and self.first is None):
            sys.exit("boot-measure: the trace of a boot lacks a mark; did the guest get to PID 1?")
        if full:
            idle = {"idle": self.idle_at["up"] - self.idle_at["first"]}
            result = {
                "first": self.first - self.exec,
                "guest": self.guest,
                "exits": self.exits.total(),
                "user_exits": self.user_exits,
            }
        else:
            idle = {"exit_idle": self.idle_at["reaped"] - self.idle_at["down"]}
            result = {"total": self.up - self.exec, "exit": self.reaped - self.down}
        return {**result, **idle} if self.one_cpu else result


class Bench:
    def __init__(self, spec):
        self.spec = spec
        self.messages = tempfile.TemporaryFile()
        self.tracing = can_trace()
        self.programs = dict(spec["programs"])
        self.values = {name: collections.defaultdict(list) for name in self.programs}
        self.reasons = {}

    def command(self, name, wait=False):
        program, words = self.programs[name], " -- wait" if wait else ""
        if name == "bare":
            return [program]
        if name == "jailed":
            return mayfly_command(program, self.spec, ["--jail=strict"], words)
        if name == "open":
            return mayfly_command(program, self.spec, ["--no-seccomp"], words)
        command = mayfly_command if name == "mayfly" else qemu_command
        return command(program, self.spec, [], words)

    def enter_tmpfs(self):
        root = Root()
        for program in self.programs.values():
            root.copy_program(program)
        for path in (self.spec["kernel"], self.spec["initrd"]):
            root.copy_file(path)
        root.enter()

    def boot(self, name, full):
        """Boots once and returns its Boot, or the parent's observations without tracing."""
        settle()
        if self.tracing:
            trace_start(FULL_EVENTS, full)
        started = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        self.messages.truncate(0)
        process = start(self.command(name), subprocess.DEVNULL, self.messages)
        _, status, _ = os.wait4(process.pid, 0)
        ended = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            self.messages.seek(0)
            text = self.messages.read().decode(errors="replace")
            print(f"boot-measure: {self.command(name)}:\n{text}", file=sys.stderr)
            sys.exit(f"boot-measure: {name} ended with {process.returncode}")
        if not self.tracing:
            self.values[name]["process"].append(ended - started)
            return
        trace_set("tracing_on", "0")
        boot = Boot(process.pid, self.spec["icount"])
        for event in trace_events():
            boot.add(*event[:4])
        for key, value in boot.metrics(full).items():
            self.values[name][key].append(value)
        if full:
            self.reasons[name] = dict(boot.exits.most_common())

    def boot_watching_console(self, name):
        """Without tracing: the console shows that PID 1 runs."""
        settle()
        started = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        process = start(self.command(name), subprocess.PIPE)
        wait_for_up(process)
        self.values[name]["total"].append(time.clock_gettime_ns(time.CLOCK_MONOTONIC) - started)
        process.stdout.read()
        process.wait()

    def measure(self):
        passes = [("light", False), ("full", True)] if self.tracing else [("light", False)]
        for number in range(self.spec["runs"] + 1):
            if self.spec["progress"]:
                print(f"\rrun {number} of {self.spec['runs']}", end="", file=sys.stderr, flush=True)
            if number == 1:  # what came before only warmed up
                for values in self.values.values():
                    values.clear()
            for _, full in passes:
                for name in self.programs:
                    self.boot(name, full)
            for name in self.programs:
                if not self.tracing and name != "bare":
                    self.boot_watching_console(name)
        if self.spec["progress"]:
            print("\r", end="", file=sys.stderr)
        self.derive()
        if self.tracing:
            trace_set("events/enable", "0")

    def derive(self):
        """Results derived from both kinds of boots, run by run."""
        for values in self.values.values():
            if "first" not in values:
                continue
            values["kernel"] = [max(t - f, 0) for t, f in zip(values["total"], values["first"])]
            # Full tracing costs time of the host, and little of the guest's: the right sum is that
            # of the light boots.
            idle = values["idle"] if "idle" in values else [0] * len(values["guest"])
            parts = zip(values["kernel"], values["guest"], idle)
            values["host"] = [max(kernel - guest - idle, 0) for kernel, guest, idle in parts]

    def memory(self, name):
        """RSS and PSS in KiB of a monitor whose guest waits, without guest RAM."""
        process = start(self.command(name, wait=True), subprocess.PIPE)
        wait_for_up(process)
        time.sleep(0.3)
        pid = inner_process(process.pid) if name == "jailed" else process.pid
        mappings = read_smaps(pid)
        peak = read_peak(pid)
        process.kill()
        process.wait()
        guest = find_guest_ram(mappings, self.spec["mem_mib"] << 20)
        own = [m for i, m in enumerate(mappings) if i not in guest]
        return {
            "rss_kib": sum(m["Rss"] for m in own),
            "pss_kib": sum(m["Pss"] for m in own),
            "guest_rss_kib": sum(mappings[i]["Rss"] for i in guest),
            "peak_kib": max(peak, sum(m["Rss"] for m in mappings)),  # VmHWM lags behind
        }

    def steps(self):
        """mayfly's own account of its start: the text of --time."""
        settle()
        command = self.command("mayfly") + ["--time"]
        done = run(command)
        return [line for line in done.stderr.splitlines() if line.startswith(("boot:", " "))]

    def counters(self, name):
        """Instructions by the CPU's counters, of user space, kernel and guest, if there are any."""
        perf = shutil.which("perf")
        if self.spec["icount"] or not perf:
            return None
        command = [perf, "stat", "-x,", "-e", "instructions:u,instructions:k,instructions:G"]
        done = run(command + self.command(name))
        found = re.findall(r"^(\d+),[^,]*,instructions:(\w)", done.stderr, re.MULTILINE)
        return {mode: int(count) for count, mode in found} or None


def wait_for_up(process):
    if not any(line.strip() == b"up" for line in iter(process.stdout.readline, b"")):
        sys.exit("boot-measure: a guest did not get to PID 1")


def inner_process(pid):
    """The one that runs the VM, of the two in the jail: it has threads."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as file:
        return max(file.read().split(), key=lambda child: len(os.listdir(f"/proc/{child}/task")))


def read_smaps(pid):
    mappings = []
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as file:
        for line in file:
            head = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+)", line)
            if head:
                start_at, end_at = int(head[1], 16), int(head[2], 16)
                mappings.append({"start": start_at, "end": end_at, "mode": head[3]})
            elif line.startswith(("Rss:", "Pss:")):
                mappings[-1][line[:3]] = int(line.split()[1])
    return mappings


def read_peak(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        return int(re.search(r"VmHWM:\s*(\d+)", file.read())[1])


def find_guest_ram(mappings, size):
    """The row of adjacent mappings that is as large as guest RAM; there are guards around it."""
    for first, mapping in enumerate(mappings):
        end = mapping["start"]
        for last in range(first, len(mappings)):
            if mappings[last]["start"] != end or not mappings[last]["mode"].startswith("rw"):
                break
            end = mappings[last]["end"]
            if end - mapping["start"] == size:
                return set(range(first, last + 1))
    sys.exit("boot-measure: no mapping of a monitor looks like guest RAM")


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        spec = json.load(file)
    bench = Bench(spec)
    if spec["chroot"]:
        bench.enter_tmpfs()
    if bench.tracing:
        trace_set("events/syscalls/sys_exit_wait4/filter", f"common_pid == {os.getpid()}")
        cpuid_filter = f"function == {MARK_UP} || function == {MARK_DOWN}"
        events = LIGHT_EVENTS + (ONE_CPU_EVENTS if spec["icount"] else [])
        trace_setup(spec["icount"], cpuid_filter, events)
    bench.measure()
    guests = [name for name in bench.programs if name != "bare"]
    result = {
        "tracing": bench.tracing,
        "values": bench.values,
        "reasons": bench.reasons,
        "memory": {name: bench.memory(name) for name in guests},
        "counters": {name: bench.counters(name) for name in bench.programs},
        "steps": bench.steps(),
        "commands": {name: bench.command(name) for name in bench.programs},
    }
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
