#!/usr/bin/env python3
"""The measuring part of perf/tti: starts VMs one by one, staggered, all at once, and at a constant number; prints the results as JSON.

usage: tti-measure.py SPEC.json
"""

import collections
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
from api_client import says, wait_for  # noqa: E402 (beside this file)
from pool import Pool  # noqa: E402
from tracing import progress, set_up, start, this_host  # noqa: E402

LIMIT_SECONDS = 120  # of a VM that does not end
PLAIN = b": a plain clone\n"


class Run:
    """One process, from just before its start; its end is an event of its pidfd."""

    def __init__(self, command, said):
        self.said = said
        self.began = time.monotonic_ns()
        null = (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)
        out = (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)
        error = (os.POSIX_SPAWN_OPEN, 2, said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self.pid = os.posix_spawn(command[0], command, os.environ, file_actions=[null, out, error])
        self.pidfd = os.pidfd_open(self.pid)
        self.took = self.status = None

    def end(self):
        self.took = time.monotonic_ns() - self.began
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.pidfd)

    def was_plain(self):
        with open(self.said, "rb") as file:
            return PLAIN in file.read()


class Flock:
    """Processes that run at once."""

    def __init__(self, command, directory):
        self.command, self.directory = command, directory
        self.runs, self.running, self.poll = [], {}, select.poll()

    def start(self):
        run = Run(self.command, f"{self.directory}/said-{len(self.runs)}")
        self.runs.append(run)
        self.running[run.pidfd] = run
        self.poll.register(run.pidfd, select.POLLIN)

    def wait(self, until_ns=None):
        """For the end of one or more, or until then. Nothing is asked again and again."""
        left = LIMIT_SECONDS * 1000 if until_ns is None else max((until_ns - time.monotonic_ns()) / 1e6, 0)
        ended = self.poll.poll(left)
        if not ended and until_ns is None:
            for run in self.running.values():
                signal.pidfd_send_signal(run.pidfd, signal.SIGKILL)
        for fd, _ in ended:
            self.poll.unregister(fd)
            self.running.pop(fd).end()

    def wait_all(self):
        while self.running:
            self.wait()
        return self.runs


class Tti:
    def __init__(self, spec, directory):
        self.spec, self.directory = spec, directory
        self.values = collections.defaultdict(lambda: collections.defaultdict(lambda: collections.defaultdict(list)))
        self.commands = collections.defaultdict(dict)

    def path(self, name):
        return f"{self.directory}/{name}"

    def mayfly(self, *words):
        return [self.spec["programs"]["mayfly"], *words]

    def source_words(self):
        files = self.spec["files"]
        return ["run", "-k", files["kernel"], "-m", "128M", "-r", files["root"]]

    def snapshot(self):
        """Of a guest that has run the command once."""
        control, said = self.path("control"), self.path("said")
        words = self.mayfly(*self.source_words(), f"--control={control}", "--", "sh", "-c")
        with open(said, "wb") as out, open(self.path("error"), "wb") as error:
            source = start([*words, f"{' '.join(self.spec['command'])}; echo up; exec sleep 1000000"], out, error)
        wait_for(lambda: says(said) or source.poll() is not None, "the source of the snapshot")
        if source.poll() is not None:
            with open(self.path("error"), encoding="utf-8", errors="replace") as error:
                sys.exit(f"tti-measure: the source of the snapshot ended with {source.returncode}: {error.read()[-800:]}")
        subprocess.run(self.mayfly("snapshot", "--stop", control, self.path("snapshot")), check=True, capture_output=True)
        source.wait()

    def command_of(self, tier):
        words = {
            "cold": [*self.source_words(), "--boot=cold"],
            "clone": ["restore", self.path("snapshot")],
            "warm": ["clone", "--pool", self.path("pool.sock")],
        }[tier]
        return self.mayfly(*words, "--", *self.spec["command"])

    def sequential(self, command):
        flock = Flock(command, self.directory)
        for _ in range(self.spec["count"]):
            flock.start()
            flock.wait_all()
        return flock.runs

    def staggered(self, command):
        flock, step = Flock(command, self.directory), self.spec["stagger_ms"] * 1_000_000
        began = time.monotonic_ns()
        for number in range(self.spec["count"]):
            while time.monotonic_ns() < began + number * step:
                flock.wait(began + number * step)
            flock.start()
        return flock.wait_all()

    def burst(self, command):
        flock = Flock(command, self.directory)
        for _ in range(self.spec["count"]):
            flock.start()
        return flock.wait_all()

    def sustained(self, command):
        """A constant number at once for some seconds."""
        flock = Flock(command, self.directory)
        end = time.monotonic_ns() + self.spec["seconds"] * 1e9
        while time.monotonic_ns() < end:
            while len(flock.running) < self.spec["jobs"]:
                flock.start()
            flock.wait()
        return flock.wait_all()

    def measure_mode(self, tier, mode):
        case, command = f"{tier}/{mode}", self.command_of(tier)
        self.commands[case]["mayfly"] = command
        size = self.spec["pool"]
        pool = Pool(command[0], self.path("snapshot"), size, self.directory, False) if tier == "warm" else contextlib.nullcontext()
        with pool:
            began = time.monotonic_ns()
            runs = getattr(self, mode)(command)
            took = time.monotonic_ns() - began
        good = [run for run in runs if run.status == 0]
        add = self.values[case]["mayfly"]
        add["failed"] = [len(runs) - len(good)]
        if tier == "warm":
            add["plain"] = [sum(run.was_plain() for run in good)]
        if good:
            add["tti"] = [run.took for run in good]
            add["each"] = [took // len(good)]

    def measure(self):
        progress("a snapshot")
        self.snapshot()
        for tier in self.spec["tiers"]:
            for mode in ("sequential", "staggered", "burst", "sustained"):
                progress(f"{tier}: {mode}")
                self.measure_mode(tier, mode)
        return {"host": this_host(), "values": self.values, "commands": self.commands, "notes": []}


def main():
    spec = set_up()
    with tempfile.TemporaryDirectory(dir="/dev/shm", ignore_cleanup_errors=True) as directory:
        json.dump(Tti(spec, directory).measure(), sys.stdout)


if __name__ == "__main__":
    main()
