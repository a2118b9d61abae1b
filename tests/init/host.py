"""The host's end of what loader/init/proto.h describes, and the guests to be tested with it.

A guest is either a real one, run by mayfly with its vsock as Unix sockets, or init as PID 1 of a few namespaces of this
machine, built with tests/init/link.c. Both connect to the sockets that are made here.
"""

import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("B", "build"))
BUILD = BUILD if BUILD.is_absolute() else ROOT / BUILD
os.environ["PATH"] += ":/usr/sbin:/sbin"  # for chroot(8), which users do not find otherwise
# Of a user: with his subordinate ids, for init changes to users and groups.
USER_NAMESPACE = ["-U", "--map-root-user", "--map-auto", "--setgroups", "allow"]
LIMIT = int(os.environ.get("INIT_LIMIT", "60"))

CONTROL_PORT = 0x6D660000
ARTIFACT_PORT = 0x6D670000
STREAM_PORT = 0x6D680000

HELLO, MARK, STARTED, EXIT, FAILED = 1, 2, 3, 4, 5
RUN, SIGNAL, SIZE, STOP, RESTORED = 16, 17, 18, 19, 20
OOM, LOST = 1, 2
MARK_INIT, MARK_ROOT, MARK_NET = 0, 1, 2

HEADER = struct.Struct("<5I")


def strings(words):
    return b"".join(w.encode() + b"\0" for w in words)


def command(*args, env=(), directory=None, user=None, tty=None):
    words = ["a" + a for a in args] + ["e" + e for e in env]
    words += ["w" + directory] if directory else []
    words += ["u" + user] if user else []
    words += ["t" + tty] if tty is not None else []
    return strings(words)


def cpio(files):
    """An archive of the kind that the kernel unpacks: {path: (mode, content)}."""
    out = bytearray()
    for path, (mode, content) in [*files.items(), ("TRAILER!!!", (0, b""))]:
        name = path.encode() + b"\0"
        fields = [0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0]
        out += b"070701" + b"".join(b"%08x" % f for f in fields) + name
        out += bytes(-len(out) % 4) + content
        out += bytes(-len(out) % 4)
    return bytes(out)


class Message:
    def __init__(self, header, payload):
        self.type, self.number, self.value, self.flags, _ = header
        self.payload = payload.decode()

    def __repr__(self):
        return f"<type {self.type} number {self.number} value {self.value} flags {self.flags} '{self.payload}'>"


class Stream:
    """One connection; what arrives is collected in the background unless it is held."""

    def __init__(self, server, hold=False):
        self.server = server
        self.data = bytearray()
        self.connected = threading.Event()
        self.over = threading.Event()
        self.free = threading.Event()
        self.connection = None
        if not hold:
            self.free.set()
        threading.Thread(target=self.collect, daemon=True).start()

    def collect(self):
        try:
            self.connection, _ = self.server.accept()
            self.connected.set()
            self.free.wait()
            while data := self.connection.recv(1 << 16):
                self.data += data
        except OSError:
            pass
        self.over.set()

    def send(self, data, end=True):
        """In the background, since nobody may read it. An error is the end."""

        def write():
            try:
                self.wait_connected()
                self.connection.sendall(data)
                if end:
                    self.connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        threading.Thread(target=write, daemon=True).start()

    def wait_connected(self):
        assert self.connected.wait(LIMIT), "no connection"

    def wait_for(self, text):
        until = time.monotonic() + LIMIT
        while text not in self.data:
            assert time.monotonic() < until and not self.over.is_set(), f"no {text!r}, but {bytes(self.data)!r}"
            time.sleep(0.01)

    def all(self):
        assert self.over.wait(LIMIT), "the stream does not end"
        return bytes(self.data)

    def close(self):
        self.wait_connected()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()


class Command:
    def __init__(self, guest, number, tty=False, hold=False):
        self.guest, self.number = guest, number
        ports = [STREAM_PORT + 4 * number + n for n in range(1 if tty else 3)]
        self.streams = [Stream(guest.listen(p), hold and n > 0) for n, p in enumerate(ports)]
        self.stdin, self.stdout, self.stderr = self.streams if not tty else (self.streams[0],) * 3

    def wait(self):
        """Its INIT_MSG_EXIT. Its streams have ended before."""
        return self.guest.expect(EXIT, self.number)

    def done(self):
        """Status, output and errors of a command without input."""
        self.stdin.send(b"")
        status = self.wait().value
        return status, self.stdout.all(), self.stderr.all()

    def signal(self, number):
        self.guest.send(SIGNAL, self.number, number)


class Guest:
    """What both kinds have in common. Sub-classes have start() and kill()."""

    def __init__(self, work):
        self.work = Path(work)
        self.messages = []
        self.servers = []
        self.control = None
        self.prefix = None

    def listen(self, port):
        server = socket.socket(socket.AF_UNIX)
        path = f"{self.prefix}{port}"
        if os.path.exists(path):
            os.unlink(path)
        server.bind(path)
        server.listen()
        self.servers.append(server)
        return server

    def run(self, boot=(), first=None, tty=False, hold=False, hold_artifacts=False):
        """Starts it; returns number 0, if there is one."""
        server = self.listen(CONTROL_PORT)
        result = Command(self, 0, tty, hold) if first is not None else None
        self.artifacts = [
            Stream(self.listen(ARTIFACT_PORT + n), hold_artifacts)
            for n, _ in enumerate(w for w in boot if w[0] == "o")
        ]
        self.start(strings(boot), first)
        server.settimeout(LIMIT)
        self.control, _ = server.accept()
        self.control.settimeout(LIMIT)
        hello = self.expect(HELLO)
        assert (hello.value, hello.flags) == (2, 0), hello
        return result

    def exec(self, number, list_of, tty=False, hold=False):
        result = Command(self, number, tty, hold)
        self.send(RUN, number, 0, list_of)
        return result

    def send(self, kind, number=0, value=0, payload=b""):
        self.control.sendall(HEADER.pack(kind, number, value, 0, len(payload)) + payload)

    def read(self, count):
        data = bytearray()
        while len(data) < count:
            more = self.control.recv(count - len(data))
            assert more, "the control connection is over"
            data += more
        return bytes(data)

    def expect(self, kind, number=0):
        """The next message of that kind, of that command; others are kept."""
        while True:
            for message in self.messages:
                if (message.type, message.number) == (kind, number):
                    self.messages.remove(message)
                    return message
                assert message.type != FAILED, message
            header = HEADER.unpack(self.read(HEADER.size))
            self.messages.append(Message(header, self.read(header[4])))

    def expect_failure(self):
        while True:
            header = HEADER.unpack(self.read(HEADER.size))
            message = Message(header, self.read(header[4]))
            if message.type == FAILED:
                return message

    def close(self):
        self.kill()
        for server in self.servers:
            server.close()
        if self.control:
            self.control.close()


class Here(Guest):
    """init in namespaces: with all users if this is root, else with one."""

    def __init__(self, work):
        super().__init__(work)
        self.root = self.work / "root"
        for name in ("bin", "etc", "dev", "dev/pts", "proc", "sys", "run", "tmp", "root", "home/joe", ".mayfly"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(shutil.which("busybox"), self.root / "bin")
        applets = subprocess.run([self.root / "bin/busybox", "--list"], stdout=subprocess.PIPE, check=True)
        for applet in applets.stdout.decode().split():
            if applet != "busybox":
                (self.root / "bin" / applet).symlink_to("busybox")
        for name in ("null", "zero", "full", "tty", "urandom"):
            (self.root / "dev" / name).touch()
        (self.root / "dev/console").touch()
        (self.root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\njoe:x:1000:1001::/home/joe:/bin/sh\n")
        (self.root / "etc/group").write_text("root:x:0:\njoe:x:1001:\nwheel:x:10:joe\nvideo:x:44:ann,joe\n")
        shutil.copy(BUILD / "tests/init/init", self.root / ".mayfly/init")
        self.prefix = f"{self.root}/.mayfly/v_"
        self.process = None
        self.before = ":"  # a shell command, in its namespaces

    def start(self, boot, first):
        (self.root / ".mayfly/boot").write_bytes(boot)
        if first is not None:
            (self.root / ".mayfly/command").write_bytes(first)
        binds = "; ".join(
            f"mount --bind /dev/{n} '{self.root}/dev/{n}'" for n in ("null", "zero", "full", "tty", "urandom")
        )
        # So that it is seen that commands have 0.
        enter = f"read go; {binds}; {self.before}; echo 500 > /proc/self/oom_score_adj; exec chroot '{self.root}' /.mayfly/init"
        as_root = os.geteuid() == 0
        self.process = subprocess.Popen(
            ["unshare", *(["-U"] if as_root else USER_NAMESPACE), "-mpnui", "--fork", "--kill-child", "sh", "-ec", enter],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        if as_root:
            self.map_users()
        self.process.stdin.write(b"go\n")
        self.process.stdin.close()

    def map_users(self):
        here = os.readlink("/proc/self/ns/user")
        process = f"/proc/{self.process.pid}"
        while os.readlink(f"{process}/ns/user") == here:
            time.sleep(0.001)
        for name in ("uid_map", "gid_map"):
            Path(f"{process}/{name}").write_text("0 0 65536")

    def pids(self):
        """Of all that run there, as this machine numbers them."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        if not children:
            return []
        there = os.readlink(f"/proc/{children[0]}/ns/pid")
        pids = []
        for entry in os.listdir("/proc"):
            try:
                if entry.isdigit() and os.readlink(f"/proc/{entry}/ns/pid") == there:
                    pids.append(int(entry))
            except OSError:
                pass
        return pids

    def wait_end(self):
        return self.process.wait(LIMIT)

    def kill(self):
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Virtual(Guest):
    """A real one: mayfly, with the kernel and the initramfs that make builds."""

    def __init__(self, work, options=(), vsock=True):
        super().__init__(work)
        self.options = ["--vsock", self.work / "v", *options] if vsock else list(options)
        self.prefix = f"{self.work}/v_"
        self.process = None
        self.console = self.work / "console"

    def start(self, boot, first):
        files = {".mayfly": (0o40755, b""), ".mayfly/boot": (0o100600, boot)}
        files[".mayfly/init"] = (0o100755, (BUILD / "loader/init/init").read_bytes())
        if first is not None:
            files[".mayfly/command"] = (0o100600, first)
        initrd = self.work / "initrd"
        initrd.write_bytes((BUILD / "initramfs.cpio").read_bytes() + cpio(files))
        args = [os.environ.get("MAYFLY", BUILD / "mayfly"), "run", "-k", os.environ.get("KERNEL", BUILD / "vmlinux")]
        args += ["-i", initrd, *self.options]
        # Words that go to init, if there are any, must stay last.
        rdinit = "rdinit=/.mayfly/init"
        if "--append" in args:
            args[args.index("--append") + 1] = f"{rdinit} {args[args.index('--append') + 1]}"
        else:
            args += ["--append", rdinit]
        with open(self.console, "wb") as console:
            self.process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=console, stderr=console)

    def wait_end(self):
        return self.process.wait(LIMIT)

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def quiet(sock, seconds):
    """Whether nothing arrives for so long."""
    return not select.select([sock], [], [], seconds)[0]


def work_directory():
    """Short, because its sockets' names may not be long."""
    return tempfile.TemporaryDirectory(prefix="mi", dir="/tmp")
