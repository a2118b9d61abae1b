"""A client of Firecracker's API, shared by the NAME-measure.py: requests, and VMs that they configure."""

import http.client
import json
import os
import socket
import sys
import time

from monitors import Guest, kernel_line
from tracing import start

WAIT_SECONDS_MAX = 60


def wait_for(condition, what):
    end = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"perf: {what} did not happen in {WAIT_SECONDS_MAX} s")
        time.sleep(0.005)


def says(path, text=b"up"):
    with open(path, "rb") as file:
        return text in file.read()


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=WAIT_SECONDS_MAX)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def listens(path):
    """A socket has its name before anybody can connect to it."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(path) == 0


def ask(path, method, target, body=None):
    """A request of the API on a Unix socket, which has to succeed."""
    connection = UnixConnection(path)
    connection.request(method, target, json.dumps(body) if body else None, {"Content-Type": "application/json"})
    response = connection.getresponse()
    text = response.read().decode(errors="replace")
    connection.close()
    if response.status >= 300:
        raise OSError(f"{method} {target}: {response.status} {text}")


def configured(command, sock, said, files, words, disk=""):
    """
    Starts a monitor whose API is on sock, and configures a VM: its kernel and initrd are those of files, the words are for the
    guest's program. Said is the file of its output. Returns the process.
    """
    if os.path.exists(sock):
        os.unlink(sock)
    with open(said, "wb") as out:
        process = start(command, out, out)
    wait_for(lambda: listens(sock) or process.poll() is not None, "a monitor's socket")
    if process.poll() is not None:
        sys.exit(f"perf: {command} ended with {process.returncode}")
    line = kernel_line(Guest(kernel="", mem_mib=128, cpus=1, words=words), "k")
    boot = {"kernel_image_path": files["kernel"], "initrd_path": files["initrd"], "boot_args": line}
    ask(sock, "PUT", "/boot-source", boot)
    ask(sock, "PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 128})
    if disk:
        drive = {"drive_id": "d0", "path_on_host": disk, "is_root_device": False, "is_read_only": False}
        ask(sock, "PUT", "/drives/d0", drive)
    return process


def start_instance(sock):
    ask(sock, "PUT", "/actions", {"action_type": "InstanceStart"})


def create_snapshot(sock, state, memory):
    """Of a paused VM."""
    ask(sock, "PUT", "/snapshot/create", {"snapshot_type": "Full", "snapshot_path": state, "mem_file_path": memory})


def load_body(state, memory):
    return json.dumps({"snapshot_path": state, "mem_backend": {"backend_type": "File", "backend_path": memory}, "resume_vm": True})
