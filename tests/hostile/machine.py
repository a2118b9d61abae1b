"""Runs a script in the real monitor, case by case, and watches the monitor as it does.

What must hold for every case: no thread of the monitor runs when it has nothing to do, neither in the state that the
attack has left nor after the device was reset and used again.

What must hold for every VM: the monitor lives until the guest ends it, has no more descriptors at the end than at the
start, has not grown, has logged little, and images that nobody may write to are unchanged.
"""
import contextlib
import os
import re
import resource
import select
import signal
import struct
import subprocess
import tempfile
import time

from script import AT_REST, FORMAT, OP_SIZE, OPS, assemble, assemble_alone
from virtio import RAM_SIZE

SILENCE_MAX = 60  # seconds without a sign of life, after which a VM counts as hung
LOG_LINES_MAX = 40
LOG_BYTES_MAX = 8192
GROWTH_MAX_KIB = 1536  # of the monitor itself: its slots for requests, which are touched when first used, and stacks
SPIN_WINDOWS = (0.002, 0.01, 0.03, 0.1, 0.3)  # seconds
SPIN_SECONDS = 2
SPIN_MAX = 0.01  # of that time
CONTROL = re.compile(r"[^\n\t -~]")
SAN_REPORT = re.compile(r"AddressSanitizer|runtime error|LeakSanitizer|assert", re.IGNORECASE)


class VM:
    """One run. After run(): results is a list of (case, problem or None), problems what was wrong with the monitor."""

    def __init__(self, suite, cases, monitor, guest, cpus=1, keep=None):
        self.suite, self.cases, self.cpus = suite, cases, cpus
        self.monitor, self.guest, self.keep = monitor, guest, keep
        self.command = cases[0].command  # then the VM's streams are the command's, and the guest cannot be heard
        self.data = assemble_alone(cases[0], suite.start()) if self.command else assemble(cases, suite.start(), suite.start())
        self.results, self.problems = [], []
        self.process = self.current = self.failure = self.noticed = None
        self.buffer = b""
        self.at_start = self.marked = None

    # The monitor's insides.

    def sample(self):
        """(descriptors, KiB of memory that are not the guest's)."""
        own, in_guest = 0, False
        with open(f"/proc/{self.process.pid}/smaps", encoding="ascii", errors="replace") as smaps:
            for line in smaps:
                head = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
                if head:
                    start, end = (int(text, 16) for text in head.groups())
                    in_guest = end - start >= RAM_SIZE // 4 and end - start <= 2 * RAM_SIZE
                elif line.startswith("Rss:") and not in_guest:
                    own += int(line.split()[1])
        return len(os.listdir(f"/proc/{self.process.pid}/fd")), own

    def threads(self):
        """Of each thread but the vCPUs', which run the guest: id: (name, whether it sleeps, how often it went to)."""
        found = {}
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            try:
                with open(f"/proc/{self.process.pid}/task/{task}/status", encoding="ascii", errors="replace") as file:
                    status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended
            if not status["Name"].startswith("vcpu"):
                found[task] = (status["Name"], status["State"][0] in "SI", status["voluntary_ctxt_switches"])
        return found

    def cpu_seconds(self, task):
        """The CPU time of a thread, as the kernel accounts for it at each tick and switch."""
        try:
            with open(f"/proc/{self.process.pid}/task/{task}/schedstat", encoding="ascii") as file:
                return int(file.read().split()[0]) / 1e9
        except (FileNotFoundError, ProcessLookupError):
            return 0

    # The guest waits. A thread has not run in a while if it sleeps at its begin and end, and has not gone to sleep in
    # between. What has still to be done may take longer than the first window; what is not at rest in the last one is
    # measured.

    def spinning(self, windows=SPIN_WINDOWS):
        """What thread does not come to rest, or None."""
        for window in windows:
            before = self.threads()
            time.sleep(window)
            awake = [task for task, state in self.threads().items() if not state[1] or before.get(task) != state]
            if not awake:
                return None
        names = self.threads()
        before = {task: self.cpu_seconds(task) for task in names}
        time.sleep(SPIN_SECONDS)
        used = [(self.cpu_seconds(task) - before[task], names[task][0]) for task in names]
        over = [f"thread '{name}' has used {seconds:.3f} s of CPU time in {SPIN_SECONDS} s, while nothing was to be done"
                for seconds, name in used if seconds > SPIN_MAX * SPIN_SECONDS]
        return "; ".join(over) or None

    # Actions of the host in the middle of a case. They return the error, or None.

    def stop_and_go(self):
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(0.3)
        self.process.send_signal(signal.SIGCONT)

    def limit_file_size(self, size):
        _, hard = resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (size, hard))

    def layer_is_within(self, size):
        """What overlays in memory hold together, in bytes."""
        directory, held = f"/proc/{self.process.pid}/fd", 0
        for fd in os.listdir(directory):
            if os.readlink(f"{directory}/{fd}").startswith("/memfd:mayfly-overlay"):
                held += os.stat(f"{directory}/{fd}").st_blocks * 512
        return f"the overlay's file holds {held} bytes of {size}" if held > size else None

    def mark(self):
        self.marked = time.monotonic()

    def took_less(self, seconds):
        took = time.monotonic() - self.marked
        return f"it took {took:.2f} s" if took > seconds else None

    def ends_within(self, signo, seconds):
        self.mark()
        self.process.send_signal(signo)
        try:
            self.process.wait(SILENCE_MAX)
        except subprocess.TimeoutExpired:
            return "the monitor does not end"
        return self.took_less(seconds)

    # The run.

    def start(self, directory):
        for dev in self.suite.devices:
            with open(f"{directory}/{dev.name}.img", "wb") as image:
                image.write(dev.image())
        for case in self.cases:
            if case.prepare:
                case.prepare(directory)
        with open(f"{directory}/script", "wb") as script:
            script.write(self.data)
        command = [self.monitor, "run", "-k", self.guest, "-i", "script", "-m", str(RAM_SIZE), "-c", str(self.cpus)]
        inherited = [fd for dev in self.suite.devices for fd in dev.open()]
        for dev in self.suite.devices:
            command += dev.option()
        if self.command:
            command += ["--", *self.command]
            self.current = self.cases[0]
        self.directory = directory
        with open(f"{directory}/log", "wb") as log:
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(
                command, cwd=directory, stdin=pipe, stdout=pipe, stderr=log, pass_fds=inherited
            )
        for dev in self.suite.devices:
            dev.opened()

    def run(self):
        with tempfile.TemporaryDirectory(prefix="mayfly-hostile-") as directory:
            self.start(directory)
            try:
                self.converse()
            finally:
                if self.process.poll() is None:
                    self.process.kill()
                self.process.wait()
                self.process.stdin.close()
                self.process.stdout.close()
                for dev in self.suite.devices:
                    dev.close()
            self.judge(directory)
        return self

    def read_line(self):
        """The next line of the guest, None at its end. Raises TimeoutError if it says nothing."""
        end = time.monotonic() + SILENCE_MAX
        while b"\n" not in self.buffer:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise TimeoutError
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                return None
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode("ascii", "replace").strip()

    def converse(self):
        try:
            while (line := self.read_line()) is not None:
                self.take(line)
        except TimeoutError:
            self.problems.append(f"nothing heard for {SILENCE_MAX} s")
            return
        try:
            self.process.wait(SILENCE_MAX)
        except subprocess.TimeoutExpired:
            self.problems.append("the monitor does not end")

    def take(self, line):
        word, rest = line[:1], line[1:]
        if word == "c":
            number = int(rest, 16)
            self.current = self.cases[number] if number < len(self.cases) else None
            self.failure = self.noticed = None
        elif word == "f":
            operation, value = rest.split()
            self.failure = self.explain(int(operation, 16), int(value, 16))
        elif word == "o" and self.current:
            self.finish(self.noticed)
        elif word == "x" and self.current:
            self.finish(self.failure or "?")
        elif word == "?":
            self.host_part(int(rest, 16))

    def finish(self, problem):
        self.results.append((self.current, problem))
        self.current = None

    def host_part(self, number):
        if number == 0 and self.at_start is None:
            self.at_start = self.sample()
        elif number == 0:
            self.compare(self.sample())
            self.problems += filter(None, [self.spinning(SPIN_WINDOWS[-1:])])
        elif self.current:
            problem = self.spinning() if number == AT_REST else self.current.hooks[number](self)
            if problem:
                self.noticed = problem
        if self.process.poll() is not None:
            return  # a write would fail again when the pipe is closed
        with contextlib.suppress(BrokenPipeError):  # it has ended, which is judged by its status
            self.process.stdin.write(b"\n")
            self.process.stdin.flush()

    def compare(self, now):
        if now[0] != self.at_start[0]:
            self.problems.append(f"{self.at_start[0]} descriptors at the start, {now[0]} at the end")
        if now[1] - self.at_start[1] > GROWTH_MAX_KIB:
            self.problems.append(f"the monitor has grown by {now[1] - self.at_start[1]} KiB")

    def explain(self, index, value):
        """What operation number index of the script was, in words."""
        code, width, flags, count, addr, wanted, mask = unpack(self.data, index)
        return f"operation {index}: {code}{8 << width} at {addr:#x}: {value:#x}, not {wanted:#x} (mask {mask:#x})" + (
            f" flags {flags} count {count}" if flags else "")

    def judge(self, directory):
        status = self.process.returncode
        with open(f"{directory}/log", encoding="utf-8", errors="replace") as file:
            log = file.read()
        ending = len(self.cases) == 1 and self.cases[0].ending
        if ending and self.current:
            self.finish(self.noticed if status in ending else f"status {status}, not one of {sorted(ending)}")
        elif status != 0 or self.current:
            self.problems.append(f"the monitor ended with status {status}" + (
                f" in case '{self.current.name}'" if self.current else ""))
        if self.current:
            self.finish("the VM ended here, or hung")
        if CONTROL.search(log):
            self.problems.append("the log has control characters")
        if SAN_REPORT.search(log):
            self.problems.append("a sanitizer or an assertion has spoken")
        elif log.count("\n") > LOG_LINES_MAX or len(log) > LOG_BYTES_MAX:
            self.problems.append(f"{len(log.splitlines())} lines of log, {len(log)} bytes")
        for dev in self.suite.devices:
            if dev.name in ("canary", "readonly", "overlay"):
                with open(f"{directory}/{dev.name}.img", "rb") as image:
                    if image.read() != dev.image():
                        self.problems.append(f"the image of {dev.name} has changed")
        self.log = log
        if self.keep and (self.problems or any(problem for _, problem in self.results)):
            with open(self.keep, "wb") as file:
                file.write(self.data)


def unpack(data, index):
    code, width, flags, count, addr, value, mask = struct.unpack_from(FORMAT, data, index * OP_SIZE)
    return OPS[code], width, flags, count, addr, value, mask
