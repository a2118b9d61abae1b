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
from monitors import MONITORS, Guest, command_of  # noqa: E402 (beside this file)
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
        self.guest = self.user_exits = 0
        self.idle = Idle()
        self.exits = collections.Counter()
        self.entered = {}

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
        elif event == "cpu_idle":
            self.idle.add(now, args)
        elif self.up is None:
            self.add_before_up(now, thread, event, args)

    def add_mark(self, now, args):
        if f"{MARK_UP:x}" in args:
            self.up = self.up or now
        elif f"{MARK_DOWN:x}" in args:
            self.down = now

    def add_before_up(self, now, thread, event, args):
        if event == "kvm_entry":
            self.entered[thread] = now
            if self.first is None:
                self.first = now
                self.first_vcpu = thread
        elif event == "kvm_exit":
            if self.one_cpu or thread == self.first_vcpu:
                self.guest += now - self.entered.pop(thread, now)
            self.exits[re.search(r"reason (\S+)", args)[1]] += 1
        elif event == "kvm_userspace_exit":
            self.user_exits += 1

    def work(self, begin, end):
        """The time between two marks, idle time taken off."""
        return end - begin - (self.idle.between(begin, end) if self.one_cpu else 0)

    def metrics(self, full):
        if None in (self.exec, self.up) or (full and self.first is None):
            sys.exit("boot-measure: the trace of a boot lacks a mark; did the guest get to PID 1?")
        if full:
            result = {
                "setup": self.work(self.exec, self.first),
                "guest": self.guest,
                "exits": self.exits.total(),
                "user_exits": self.user_exits,
            }
            return result | {f"exits:{reason}": count for reason, count in self.exits.items()}
        result = {"total": self.work(self.exec, self.up)}
        if self.one_cpu:
            result["idle"] = self.idle.between(self.exec, self.up)
        if self.down is not None and self.reaped is not None:
            result["exit"] = self.work(self.down, self.reaped)
            if self.one_cpu:
                result["exit_idle"] = self.idle.between(self.down, self.reaped)
        return result


class Bench:
    def __init__(self, spec, directory):
        self.spec = spec
        self.directory = directory
        self.messages = tempfile.TemporaryFile()
        self.tracing = can_trace()
        self.names = list(spec["monitors"])
        self.values = {name: collections.defaultdict(list) for name in self.names}

    def command(self, name, wait=False):
        files = self.spec["files"]
        guest = Guest(
            kernel=files["kernel"],
            initrd=files["initrd"],
            bzimage=files.get("bzimage", ""),
            mem_mib=self.spec["mem_mib"],
            cpus=self.spec["cpus"],
            words="-- wait" if wait else "",
        )
        return command_of(name, self.spec["programs"], guest, self.directory)

    def enter_tmpfs(self):
        root = Root()
        root.copy(self.spec)
        root.enter()
        self.directory = "/"

    def run_until_end(self, name):
        """Returns the PID of a monitor that has come and gone, and how long it took by the clock."""
        restarts = MONITORS[name].restarts
        self.messages.truncate(0)
        command = self.command(name, wait=restarts)
        began = time.monotonic_ns()
        process = start(command, subprocess.PIPE if restarts else subprocess.DEVNULL, self.messages)
        if restarts:
            # A reboot does not end it: this guest waits, and its monitor is killed.
            wait_for_up(process)
            process.kill()
            process.wait()
            return process.pid, None
        _, status, _ = os.wait4(process.pid, 0)
        took = time.monotonic_ns() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            self.messages.seek(0)
            text = self.messages.read().decode(errors="replace")
            sys.exit(f"boot-measure: {command} ended with {process.returncode}:\n{text}")
        return process.pid, took

    def boot(self, number, name, full):
        """Boots once. Without tracing there is only what the parent sees."""
        progress(f"{number}: {name}{', traced' if full else ''}")
        settle()
        if self.tracing:
            trace_start(FULL_EVENTS, full)
        pid, took = self.run_until_end(name)
        if not self.tracing:
            if took is not None:
                self.values[name]["process"].append(took)
            return
        trace_set("tracing_on", "0")
        boot = Boot(pid, self.spec["icount"])
        for event in trace_events():
            boot.add(*event[:4])
        for key, value in boot.metrics(full).items():
            self.values[name][key].append(value)

    def boot_watching_console(self, name):
        """Without tracing: the console shows that PID 1 runs."""
        settle()
        began = time.monotonic_ns()
        process = start(self.command(name, wait=MONITORS[name].restarts), subprocess.PIPE)
        wait_for_up(process)
        self.values[name]["total"].append(time.monotonic_ns() - began)
        if MONITORS[name].restarts:
            process.kill()
        process.stdout.read()
        process.wait()

    def measure(self):
        passes = [False, True] if self.tracing else [False]
        for number in range(self.spec["runs"] + 1):
            if number == 1:  # what came before only warmed up
                for values in self.values.values():
                    values.clear()
            for full in passes:
                for name in self.names:
                    self.boot(number, name, full)
            for name in self.names:
                if not self.tracing and name != "bare":
                    self.boot_watching_console(name)
        self.derive()
        for name in self.names:
            if name != "bare":
                self.add_memory(name)
            for mode, count in self.counters(name).items():
                self.values[name][f"counted_{mode}"].append(count)
        if self.tracing:
            trace_set("events/enable", "0")

    def derive(self):
        """Results derived from both kinds of boots, run by run."""
        for values in self.values.values():
            # A reason that did not occur in a run has no figure of it.
            for key in [key for key in values if key.startswith("exits:")]:
                values[key] += [0] * (self.spec["runs"] - len(values[key]))
            if "setup" not in values:
                continue
            values["boot"] = [max(t - f, 0) for t, f in zip(values["total"], values["setup"])]
            # Full tracing costs time of the host, and little of the guest's: the right sum is that
            # of the light boots.
            values["host"] = [max(boot - guest, 0) for boot, guest in zip(values["boot"], values["guest"])]

    def add_memory(self, name):
        """RSS and PSS in KiB of a monitor whose guest waits, without guest RAM."""
        progress(f"for memory: {name}")
        if "fault_around" in self.spec:
            with open("/sys/kernel/debug/fault_around_bytes", "w", encoding="utf-8") as file:
                file.write(str(self.spec["fault_around"]))
        process = start(self.command(name, wait=True), subprocess.PIPE)
        wait_for_up(process)
        time.sleep(0.3)
        pid = inner_process(process.pid) if name == "mayfly-jailed" else process.pid
        mappings = read_smaps(pid)
        peak = read_peak(pid)
        process.kill()
        process.wait()
        guest = find_guest_ram(mappings, self.spec["mem_mib"] << 20)
        own = [m for i, m in enumerate(mappings) if i not in guest]
        values = {
            "rss": sum(m["Rss"] for m in own),
            "pss": sum(m["Pss"] for m in own),
            "guest_rss": sum(mappings[i]["Rss"] for i in guest),
            "peak_rss": max(peak, sum(m["Rss"] for m in mappings)),  # VmHWM lags behind
        }
        for key, value in values.items():
            self.values[name][key].append(value)

    def counters(self, name):
        """Instructions by the CPU's counters, of user space, kernel and guest, if there are any."""
        perf = shutil.which("perf")
        if self.spec["icount"] or not perf or MONITORS[name].restarts:
            return {}
        command = [perf, "stat", "-x,", "-e", "instructions:u,instructions:k,instructions:G"]
        done = run(command + self.command(name))
        found = re.findall(r"^(\d+),[^,]*,instructions:(\w)", done.stderr, re.MULTILINE)
        return {mode: int(count) for count, mode in found}


def wait_for_up(process):
    if not any(line.strip() == b"up" for line in iter(process.stdout.readline, b"")):
        sys.exit(f"boot-measure: the guest of {process.args[0]} did not get to PID 1")


def inner_process(pid):
    """The one that runs the VM, of the two in the jail: it has threads."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as file:
        children = file.read().split()
    return max([str(pid), *children], key=lambda child: len(os.listdir(f"/proc/{child}/task")))


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
    spec = set_up()
    with tempfile.TemporaryDirectory(dir="/dev/shm", ignore_cleanup_errors=True) as directory:
        bench = Bench(spec, directory)
        if spec["chroot"]:
            bench.enter_tmpfs()
        if bench.tracing:
            trace_set("events/syscalls/sys_exit_wait4/filter", f"common_pid == {os.getpid()}")
            cpuid_filter = f"function == {MARK_UP} || function == {MARK_DOWN}"
            events = LIGHT_EVENTS + (ONE_CPU_EVENTS if spec["icount"] else [])
            trace_setup(spec["icount"], cpuid_filter, events)
        bench.measure()
        result = {
            "host": this_host() | {"traced": bench.tracing},
            "values": {"boot": bench.values},
            "commands": {"boot": {name: bench.command(name) for name in bench.names}},
        }
        json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
