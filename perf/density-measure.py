#!/usr/bin/env python3
"""The measuring part of perf/density: many VMs at once, members of pools and their jails; prints the results as JSON.

usage: density-measure.py SPEC.json
"""

import collections
import ctypes
import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
from api_client import says, wait_for  # noqa: E402 (beside this file)
from pool import Pool  # noqa: E402
from tracing import (  # noqa: E402
    can_trace,
    progress,
    set_up,
    settle,
    start,
    this_host,
    trace_setup,
    trace_work,
    work_in,
)

EVENTS = ["power/cpu_idle"]
CGROUP = "/sys/fs/cgroup/perf-density"
SIGN_SECONDS = 15


def count_mounts():
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return sum(1 for _ in file)


def switches(pids):
    """Context switches of all threads of these processes so far."""
    total = 0
    for pid in pids:
        for path in glob.glob(f"/proc/{pid}/task/*/status"):
            with open(path, encoding="utf-8") as file:
                total += sum(int(number) for number in re.findall(r"ctxt_switches:\s+(\d+)", file.read()))
    return total


class Sign:
    """A line every few seconds while something runs that says nothing: bench.py ends a part that is silent."""

    def __init__(self, text):
        self.text, self.over = text, threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.over.wait(SIGN_SECONDS):
            progress(self.text)

    def __enter__(self):
        progress(self.text)
        self.thread.start()

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


class Density:
    def __init__(self, spec, directory):
        self.spec = spec
        self.directory = directory
        self.traced = can_trace()
        self.values = collections.defaultdict(lambda: collections.defaultdict(lambda: collections.defaultdict(list)))
        self.commands = collections.defaultdict(dict)
        self.notes = []

    def path(self, name):
        return f"{self.directory}/{name}"

    def add(self, case, metric, value):
        self.values[case]["mayfly"][metric].append(value)

    def work(self, function):
        """Without idle time, if that is known."""
        if self.traced:
            return trace_work(function, self.spec["icount"])
        began = time.monotonic_ns()
        function()
        return time.monotonic_ns() - began

    def snapshot(self):
        """Of a guest that waits for a command, after it has run one."""
        control, said, files = self.path("control"), self.path("said"), self.spec["files"]
        program = self.spec["programs"]["mayfly"]
        command = [program, "run", "-k", files["kernel"], "-m", "128M", "-r", files["rootfs"], f"--control={control}"]
        with open(said, "wb") as out:
            source = start([*command, "--", "sh", "-c", "true; echo up; exec sleep 1000000"], out)
        wait_for(lambda: says(said) or source.poll() is not None, "the source of the snapshot")
        subprocess.run([program, "snapshot", "--stop", control, self.path("snapshot")], check=True, capture_output=True)
        source.wait()

    def run_to_end(self, command):
        with open(self.path("said"), "wb") as said:
            done = start(command, subprocess.DEVNULL, said)
        done.wait()
        if done.returncode:
            with open(self.path("said"), encoding="utf-8", errors="replace") as said:
                sys.exit(f"density-measure: {command} ended with {done.returncode}: {said.read()[-2000:]}")

    def clones(self, number):
        """So many clones at once, until each has run a command and has ended."""
        case = f"clones/{number}"
        words = ["clone", self.path("snapshot"), "-n", str(number), "--", "true"]
        command = self.commands[case]["mayfly"] = [self.spec["programs"]["mayfly"], *words]
        settle()
        self.add(case, "total", self.work(lambda: self.run_to_end(command)))

    def pool(self, size, jail=False, group=None):
        """Guests of its members have not run: their own work and pages are not those of mayfly."""
        return Pool(self.spec["programs"]["mayfly"], self.path("snapshot"), size, self.directory, jail, group, cold=True)

    def jails(self, mounts):
        """The start of a pool with so many members, until all wait; and a command in one jail."""
        case, size = f"jails/{mounts}", self.spec["jails"]
        pool = self.pool(size, jail=True)
        self.commands[case]["mayfly"] = pool.command
        settle()
        self.add(case, "total", self.work(pool.__enter__))
        pool.end()
        command = [self.spec["programs"]["mayfly"], "restore", self.path("snapshot"), "--jail", "--", "true"]
        settle()
        self.add(case, "single", self.work(lambda: self.run_to_end(command)))

    def mount(self, number):
        """Until this process has so many mounts. Returns whether it could."""
        libc = ctypes.CDLL(None, use_errno=True)
        have = count_mounts()
        if have > number:
            self.notes.append(f"there are {have} mounts in place of {number}")
        for more in range(have, number):
            path = self.path(f"mounts/{more}")
            os.makedirs(path)
            if libc.mount(b"perf", path.encode(), b"tmpfs", 0, None):
                raise OSError(ctypes.get_errno(), f"mount a tmpfs at {path}")

    def memory_of(self, size):
        """What a control group counts for a pool with so many members, and of it what is of files."""
        os.makedirs(CGROUP, exist_ok=True)
        with self.pool(size, group=CGROUP):
            time.sleep(1)
            with open(f"{CGROUP}/memory.current", encoding="utf-8") as file:
                current = int(file.read())
            with open(f"{CGROUP}/memory.stat", encoding="utf-8") as file:
                files = int(re.search(r"^file (\d+)", file.read(), re.M)[1])
        settle()
        os.rmdir(CGROUP)
        return current, files

    def members(self):
        """The memory of each further member, and what an idle pool does."""
        number = self.spec["members"]
        if self.spec["icount"]:
            with open("/sys/fs/cgroup/cgroup.subtree_control", "w", encoding="utf-8") as file:
                file.write("+memory")
            with Sign("memory of members"):
                one, many = self.memory_of(1), self.memory_of(number)
            current, files = ((b - a) / (number - 1) / 1024 for a, b in zip(one, many))
            self.add("members", "memory", max(current - files, 0))
            self.add("members", "memory-files", max(files, 0))
        with Sign("an idle pool"), self.pool(number) as pool:
            time.sleep(1)  # after READY, the pool itself goes to sleep
            pids = pool.pids()
            before = switches(pids)
            time.sleep(self.spec["idle"])
            self.add("members", "switches", switches(pids) - before)

    def measure(self):
        progress("a snapshot")
        self.snapshot()
        for number in self.spec["clones"]:
            for turn in range(self.spec["runs"]):
                with Sign(f"{turn + 1}: {number} clones"):
                    self.clones(number)
        if self.spec["members"]:
            self.members()
        for mounts in self.spec["mounts"] if self.spec["own_mounts"] else []:
            self.mount(mounts)
            for turn in range(self.spec["runs"]):
                with Sign(f"{turn + 1}: {self.spec['jails']} jails, {mounts} mounts"):
                    self.jails(mounts)
        if self.spec["mounts"] and not self.spec["own_mounts"]:
            self.notes.append("jails and memory are not measured: they take mounts and a control group; use the lab")
        return {
            "host": this_host() | {"traced": self.traced},
            "values": self.values,
            "commands": self.commands,
            "notes": self.notes,
        }


def main():
    spec = set_up()
    with tempfile.TemporaryDirectory(dir="/dev/shm", ignore_cleanup_errors=True) as directory:
        density = Density(spec, work_in(spec, directory))
        spec["own_mounts"] = spec["chroot"]
        if density.traced:
            trace_setup(spec["icount"], "0", EVENTS)
        result = density.measure()
        json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
