"""A pool of VMs that wait, for the NAME-measure.py."""

import glob
import os
import socket
import subprocess
import sys

READY_SECONDS_MAX = 600


class Pool:
    """`mayfly pool` of a snapshot, all of whose members wait."""

    def __init__(self, program, snapshot, size, directory, jail, group=None, cold=False):
        self.socket = f"{directory}/pool.sock"
        self.notify = f"{directory}/notify"
        self.said = f"{directory}/pool.said"
        self.command = [program, "pool", snapshot, "--size", str(size), "--socket", self.socket, *(["--jail"] if jail else []), *(["--cold"] if cold else [])]
        self.group = group

    def enter_group(self):
        if self.group:
            with open(f"{self.group}/cgroup.procs", "w", encoding="utf-8") as file:
                file.write(str(os.getpid()))

    def __enter__(self):
        """Its word of readiness is that of sd_notify(3), so nothing has to be asked again and again."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, open(self.said, "wb") as said:
            notify.bind(self.notify)
            notify.settimeout(READY_SECONDS_MAX)
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=os.environ | {"NOTIFY_SOCKET": self.notify},
                preexec_fn=self.enter_group,
            )
            try:
                while b"READY=1" not in notify.recv(4096).split(b"\n"):
                    pass
            except TimeoutError:
                self.end()
                with open(self.said, encoding="utf-8", errors="replace") as text:
                    sys.exit(f"{self.command}: not ready: {text.read()}")
        return self

    def pids(self):
        """Of the pool and all that it has started, which are children of this process, or of theirs."""
        found, todo = [], [self.process.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            for path in glob.glob(f"/proc/{pid}/task/*/children"):
                with open(path, encoding="utf-8") as file:
                    todo += [int(child) for child in file.read().split()]
        return found

    def end(self):
        self.process.terminate()
        self.process.wait()
        os.unlink(self.notify)

    def __exit__(self, *_):
        self.end()
