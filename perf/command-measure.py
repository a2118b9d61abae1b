#!/usr/bin/env python3
"""The measuring part of perf/command: runs the monitors in turn, and prints the results as JSON.

usage: command-measure.py SPEC.json

The time of a run is that from before the start of its monitor to after its end and the end of its
output, by two marks of this script in the trace, or by this script's clock if there is no tracefs.
"""

import collections
import json
import os
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
    set_up,
    settle,
    this_host,
    trace_events,
    trace_mark,
    trace_set,
    trace_setup,
    trace_start,
)

EVENTS = ["power/cpu_idle", "sched/sched_process_exec"]
RUN_SECONDS_MAX = 60
SAID = b"mayfly-init: status 0"


class Bench:
    def __init__(self, spec, directory):
        self.spec = spec
        self.directory = directory
        self.tracing = can_trace()
        self.values = {name: collections.defaultdict(list) for name in spec["monitors"]}
        self.lost = collections.Counter()

    def command(self, name):
        """mayfly's own init runs the command; else the root's does, which gets it as a word of the kernel's line."""
        files, ours = self.spec["files"], name == "mayfly"
        guest = Guest(
            kernel=files["kernel"],
            bzimage=files.get("bzimage", ""),
            mem_mib=self.spec["mem_mib"],
            cpus=self.spec["cpus"],
            words="" if ours else "true",
            disk=f"{self.directory}/root.ext4",
            root=True,
        )
        command = command_of(name, self.spec["programs"], guest, self.directory)
        return command + ["--timeline", f"{self.directory}/timeline", "--", "true"] if ours else command

    def run_once(self, name):
        """Returns the PID and nanoseconds of a run, or None if it did not end in time."""
        command = self.command(name)
        began = time.monotonic_ns()
        if self.tracing:
            trace_mark("perf begin")
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            output = process.communicate(timeout=RUN_SECONDS_MAX)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            output = process.communicate()[0]
            print(f"command-measure: {name} did not end; it said:\n{output.decode(errors='replace')}", file=sys.stderr)
            return None
        if self.tracing:
            trace_mark("perf end")
        took = time.monotonic_ns() - began
        if (name == "mayfly" and process.returncode != 0) or (name != "mayfly" and SAID not in output):
            sys.exit(f"command-measure: {command} ended with {process.returncode}: {output.decode(errors='replace')}")
        return process.pid, took

    def measure_one(self, name):
        settle()
        # Not all monitors can drop the changes of a root.
        shutil.copyfile(self.spec["files"]["rootfs"], f"{self.directory}/root.ext4")
        if self.tracing:
            trace_start([], True)
        found = self.run_once(name)
        if self.tracing:
            trace_set("tracing_on", "0")
        if not found:
            self.lost[name] += 1
            return
        figures = self.values[name]
        idle, begin, end, executed = self.read_trace(found[0]) if self.tracing else (Idle(), 0, found[1], 0)
        one_cpu = self.spec["icount"]
        waited = idle.between(begin, end) if one_cpu else 0
        figures["total"].append(end - begin - waited)
        if one_cpu:
            figures["idle"].append(waited)
        if name == "mayfly":
            self.add_phases(figures, idle if one_cpu else Idle(), executed, end)

    def read_trace(self, pid):
        """The idle time, and the times of both marks and of the monitor's exec."""
        idle, marks, executed = Idle(), [], None
        for event in trace_events():
            if event.name == "tracing_mark_write" and event.args.startswith("perf "):
                marks.append(event.time)
            elif event.name == "sched_process_exec" and event.thread == pid:
                executed = event.time
            elif event.name == "cpu_idle":
                idle.add(event.time, event.args)
        if len(marks) != 2 or executed is None:
            sys.exit("command-measure: the trace of a run lacks a mark")
        return idle, *marks, executed

    def add_phases(self, figures, idle, executed, end):
        """The steps of mayfly's own time line, which begins at its exec, and what comes after its last one."""
        last = 0
        with open(f"{self.directory}/timeline", encoding="utf-8") as file:
            steps = json.load(file)["steps"]
        for step in steps:
            at = step["at_ns"]
            waited = idle.between(executed + last, executed + at)
            figures[f"phase:{step['step']}"].append(max(at - last - waited, 0))
            if self.spec["icount"]:
                figures[f"idle:{step['step']}"].append(waited)
            last = at
        if executed:
            waited = idle.between(executed + last, end)
            figures["phase:after its last step"].append(max(end - executed - last - waited, 0))
            if self.spec["icount"]:
                figures["idle:after its last step"].append(waited)

    def measure(self):
        names = self.spec["monitors"]
        for number in range(self.spec["runs"] + 1):
            if number == 1:  # what came before only warmed up
                for values in self.values.values():
                    values.clear()
            for name in names:
                progress(f"{number}: {name}")
                self.measure_one(name)
        for name in names:
            if not self.values[name]["total"]:
                sys.exit(f"command-measure: no run of {name} ended within {RUN_SECONDS_MAX} s")
        label = {name: MONITORS[name].label for name in names}
        return {
            "host": this_host() | {"traced": self.tracing},
            "values": {"command": self.values},
            "commands": {"command": {name: self.command(name) for name in names}},
            "notes": [
                f"{label[name]}: {lost} of {self.spec['runs'] + 1} runs did not end within {RUN_SECONDS_MAX} s"
                for name, lost in self.lost.items()
            ],
        }


def main():
    spec = set_up()
    with tempfile.TemporaryDirectory(dir="/dev/shm", ignore_cleanup_errors=True) as directory:
        bench = Bench(spec, directory)
        if spec["chroot"]:
            root = Root()
            root.copy(spec)
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
