#!/usr/bin/env python3
"""The measuring part of perf/fork: forks of a VM that runs; prints the results as JSON.

usage: fork-measure.py SPEC.json
"""

import collections
import json
import os
import re
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
from api_client import wait_for  # noqa: E402 (beside this file)
from tracing import can_trace, progress, set_up, settle, start, this_host, trace_setup, trace_work, work_in  # noqa: E402

EVENTS = ["power/cpu_idle"]
# Of the guest: fills memory, then writes a part of it again for each line.
SOURCE = """mkdir -p /dev/shm; mount -t tmpfs -o size=95% x /dev/shm
dd if=/dev/zero of=/dev/shm/x bs=1M count=FILL 2> /dev/null; echo up
while read -r line; do
	yes | dd of=/dev/shm/x bs=64K iflag=fullblock count=AGAIN conv=notrunc 2> /dev/null; echo wrote
done"""


class Forks:
    def __init__(self, spec, directory):
        self.spec = spec
        self.directory = directory
        self.traced = can_trace()
        self.values = collections.defaultdict(lambda: {"mayfly": collections.defaultdict(list)})
        self.commands = collections.defaultdict(dict)

    def command(self, mib, *options):
        files = self.spec["files"]
        return [self.spec["programs"]["mayfly"], "run", "-k", files["kernel"], "-r", files["rootfs"], "-m", f"{mib}M", *options]

    def run_to_end(self, command):
        with start(command, subprocess.DEVNULL) as process:
            if process.wait():
                sys.exit(f"fork-measure: {command} ended with {process.returncode}")

    def work(self, command):
        """Without idle time, if that is known."""
        settle()
        if self.traced:
            return trace_work(lambda: self.run_to_end(command), self.spec["icount"])
        began = time.monotonic_ns()
        self.run_to_end(command)
        return time.monotonic_ns() - began

    def pauses(self):
        """Of the forks so far, as the source's log has them."""
        with open(f"{self.directory}/log", encoding="utf-8", errors="replace") as log:
            return [float(ms) * 1e6 for ms in re.findall(r"memory is shared: .* was paused for ([\d.]+) ms", log.read())]

    def forks(self, mib):
        """One of a source whose memory is filled, then one after each time that it has written a part again."""
        case, control = f"fork/{mib}", f"{self.directory}/control"
        fill, again = mib * self.spec["fill_percent"] // 100, self.spec["again_mib"] * 16
        text = SOURCE.replace("FILL", str(fill)).replace("AGAIN", str(again))
        options = ["--forkable", f"--control={control}", "--log-level=info"]
        self.commands[case]["mayfly"] = command = [*self.command(mib, *options), "--", "sh", "-c", text]
        with open(f"{self.directory}/log", "wb") as log:
            source = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        source.stdout.readline()
        for number in range(1 + self.spec["forks"]):
            progress(f"{mib} MiB: fork {number + 1}")
            if number:
                source.stdin.write(b"\n")
                source.stdin.flush()
                source.stdout.readline()
            self.run_to_end([self.spec["programs"]["mayfly"], "clone", control, "-n", "1", "--", "true"])
            wait_for(lambda: len(self.pauses()) > number, "a fork")
            self.values[case]["mayfly"]["pause-again" if number else "pause"].append(self.pauses()[number])
        source.stdin.close()
        source.wait()

    def measure(self):
        os.environ["TMPDIR"] = self.directory
        for mib in self.spec["memory"]:
            for turn in range(self.spec["runs"]):
                progress(f"{turn + 1}: {mib} MiB")
                for metric, option in (("cold", "--boot=cold"), ("forkable", "--forkable")):
                    command = self.command(mib, option, "--", "true")
                    self.values[f"fork/{mib}"]["mayfly"][metric].append(self.work(command))
                self.forks(mib)
        host = this_host() | {"traced": self.traced}
        return {"host": host, "values": self.values, "commands": self.commands, "notes": []}


def main():
    spec = set_up()
    with tempfile.TemporaryDirectory(dir="/dev/shm", ignore_cleanup_errors=True) as directory:
        forks = Forks(spec, work_in(spec, directory))
        if forks.traced:
            trace_setup(spec["icount"], "0", EVENTS)
        json.dump(forks.measure(), sys.stdout)


if __name__ == "__main__":
    main()
