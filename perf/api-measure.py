#!/usr/bin/env python3
"""The measuring part of perf/api: asks the monitors' APIs in turn, and prints the results as JSON.

usage: api-measure.py SPEC.json

Requests are sent by client.c, which notes the times of each by the clock of the trace. From exec on, times are those of
tracepoints; the first VM entry is traced alone. Without tracefs there are only the times that client.c has noted.
"""

import collections
import json
import os
import sys
import tempfile

sys.dont_write_bytecode = True
from api_client import ask, configured, create_snapshot, load_body, says, start_instance, wait_for  # noqa: E402 (beside this file)
from monitors import MONITORS  # noqa: E402
from tracing import (  # noqa: E402
    Idle,
    Root,
    can_trace,
    progress,
    run,
    set_up,
    settle,
    this_host,
    trace_events,
    trace_first_entry,
    trace_set,
    trace_setup,
    trace_start,
)

EVENTS = ["sched/sched_process_exec", "power/cpu_idle"]
# Requests at a depth that leaves neither the guest nor its monitor idle, for longer than they are asked.
LOAD = "1000000 disk:rand:read:4096:32:4000"
IMAGE_MIB = 64


def percentile(values, percent):
    """By the nearest rank."""
    return sorted(values)[max(-(-len(values) * percent // 100), 1) - 1]


class Bench:
    def __init__(self, spec, directory):
        self.spec = spec
        self.directory = directory
        self.tracing = can_trace()
        self.values = collections.defaultdict(lambda: collections.defaultdict(lambda: collections.defaultdict(list)))
        self.commands = collections.defaultdict(dict)

    def path(self, name):
        return f"{self.directory}/{name}"

    def add(self, case, monitor, metric, value):
        self.values[case][monitor][metric].append(value)

    def command(self, monitor):
        row = MONITORS[monitor]
        extra = ["--no-seccomp"] if monitor == "firecracker-open" else []
        return [self.spec["programs"][row.program], "--api-sock", self.path("sock"), *extra]

    def ask_times(self, times, method, target, body="", command=()):
        """Runs client.c. Returns about when the command was executed, and of each request its beginning and its end."""
        clock = "tsc" if self.spec["icount"] else "mono"
        words = [clock, self.path("sock"), str(times), method, target, body, *command]
        done = run([self.spec["files"]["client"], *words])
        if done.returncode:
            sys.exit(f"api-measure: client {words}: status {done.returncode}: {done.stderr[-400:]}")
        lines = done.stdout.splitlines()
        return int(lines[0]), [tuple(map(int, line.split())) for line in lines[1:]]

    def read_trace(self, program):
        """The exec of the program, the first VM entry, and idle time."""
        executed = entry = None
        idle = Idle()
        for event in trace_events():
            if event.name == "sched_process_exec" and f"filename={program} " in event.args:
                executed = event.time
            elif event.name == "cpu_idle":
                idle.add(event.time, event.args)
            elif event.name == "kvm_entry":
                entry = entry or event.time
        return executed, entry, idle if self.spec["icount"] else Idle()

    def from_exec(self, case, monitor, method, target, body=""):
        """A monitor's first request: to its answer and, if there is one, to its guest's first instruction."""
        command = self.command(monitor)
        settle()
        self.commands[case][monitor] = command
        if self.tracing:
            trace_first_entry()
        executed, ((_, answered),) = self.ask_times(1, method, target, body, command)
        entry, idle = None, Idle()
        if self.tracing:
            trace_set("tracing_on", "0")
            # A parent runs on after vfork before its child's execve is at its end.
            executed, entry, idle = self.read_trace(command[0])
        self.add(case, monitor, "answered", answered - executed - idle.between(executed, answered))
        if entry:
            self.add(case, monitor, "first", entry - executed - idle.between(executed, entry))

    def instance(self, monitor, words, initrd, disk=""):
        """A monitor with a VM that is configured."""
        files = {"kernel": self.spec["files"]["kernel"], "initrd": self.spec["files"][initrd]}
        return configured(self.command(monitor), self.path("sock"), self.path("said"), files, words, disk)

    @staticmethod
    def end(process):
        process.kill()
        process.wait()

    def start(self, monitor):
        """InstanceStart: to its answer, and to the guest's first instruction."""
        settle()
        process = self.instance(monitor, "-- wait", "boot")
        self.commands["start"][monitor] = self.command(monitor)
        if self.tracing:
            trace_first_entry()
        body = json.dumps({"action_type": "InstanceStart"})
        _, ((began, answered),) = self.ask_times(1, "PUT", "/actions", body)
        if self.tracing:
            wait_for(lambda: says(self.path("said")), "the guest's first line")
            trace_set("tracing_on", "0")
        _, entry, idle = self.read_trace("") if self.tracing else (0, None, Idle())
        self.add("start", monitor, "answered", answered - began - idle.between(began, answered))
        if entry:
            self.add("start", monitor, "first", entry - began - idle.between(began, entry))
        self.end(process)

    def latency(self, case, monitor, words, initrd, mark, disk=""):
        """Of PUT /actions FlushMetrics, once the guest has said the mark."""
        settle()
        process = self.instance(monitor, words, initrd, disk)
        ask(self.path("sock"), "PUT", "/metrics", {"metrics_path": self.path("metrics")})
        start_instance(self.path("sock"))
        wait_for(lambda: says(self.path("said"), mark), "the guest's first line")
        self.commands[case][monitor] = self.command(monitor)
        body = json.dumps({"action_type": "FlushMetrics"})
        _, spans = self.ask_times(self.spec["requests"], "PUT", "/actions", body)
        self.end(process)
        took = [end - begin for begin, end in spans]
        for percent in (50, 99):
            self.add(case, monitor, f"p{percent}", percentile(took, percent))

    def snapshot(self, monitor):
        """Of a guest that turns in user space."""
        process = self.instance(monitor, "-- spin", "boot")
        start_instance(self.path("sock"))
        wait_for(lambda: says(self.path("said")), "the guest's first line")
        ask(self.path("sock"), "PATCH", "/vm", {"state": "Paused"})
        create_snapshot(self.path("sock"), self.path(f"{monitor}.state"), self.path(f"{monitor}.memory"))
        self.end(process)

    def measure_one(self, monitor):
        self.from_exec("socket", monitor, "GET", "/")
        self.start(monitor)
        self.latency("put/idle", monitor, "-- wait", "boot", b"up")
        self.latency("put/io", monitor, LOAD, "load", b"job 0", self.path("image"))
        body = load_body(self.path(f"{monitor}.state"), self.path(f"{monitor}.memory"))
        self.from_exec("load", monitor, "PUT", "/snapshot/load", body)

    def measure(self):
        with open(self.path("image"), "wb") as image:
            for _ in range(IMAGE_MIB):
                image.write(b"\x5a" * (1 << 20))
        for monitor in self.spec["monitors"]:
            progress(f"snapshot: {monitor}")
            self.snapshot(monitor)
        for number in range(self.spec["runs"] + 1):
            if number == 1:  # what came before only warmed up
                self.values.clear()
            for monitor in self.spec["monitors"]:
                progress(f"{number}: {monitor}")
                self.measure_one(monitor)
        notes = [] if self.tracing else ["without tracefs, the first instruction of a guest is not measured"]
        return {"host": this_host() | {"traced": self.tracing}, "values": self.values, "commands": self.commands, "notes": notes}


def main():
    spec = set_up()
    with tempfile.TemporaryDirectory(dir="/dev/shm", ignore_cleanup_errors=True) as directory:
        bench = Bench(spec, directory)
        if spec["chroot"]:
            root = Root()
            root.copy(spec)
            for name in ("run", "tmp"):
                os.mkdir(f"{root.path}/{name}")
            root.enter()
            bench.directory = ""
        if bench.tracing:
            trace_setup(spec["icount"], "0", EVENTS)
        result = bench.measure()
        if bench.tracing:
            trace_set("events/enable", "0")
        json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
