"""The monitors that perf/ can measure: a table of adapters, each a function that gives a command line.

To add one, write its function and its row in MONITORS. `--peer NAME=PATH` then measures it.
"""

import dataclasses
import json
import os
from typing import Callable

BASE_WORDS = "console=ttyS0 quiet panic=-1 percpu_alloc=page"
QEMU_MACHINE = (
    "microvm,x-option-roms=off,pic=off,pit=off,rtc=off,acpi=off,pcie=off,usb=off,"
    "auto-kernel-cmdline={auto},isa-serial=on"
)
VSOCK_CID = 3


@dataclasses.dataclass(frozen=True)
class Guest:
    """What is asked of each monitor. Words go to the guest's program, from the kernel's command line."""

    kernel: str
    mem_mib: int
    cpus: int
    initrd: str = ""
    bzimage: str = ""
    words: str = ""
    disk: str = ""
    direct: bool = False  # the disk's file is opened with O_DIRECT
    root: bool = False  # the disk is the root; its changes are of no use afterwards
    tap: str = ""
    vsock: str = ""  # the Unix socket, of monitors that have one
    share: str = ""  # a directory of the host, in which the guest's program is, too
    share_root: str = ""  # the image of a root, for a monitor whose own init mounts that


def kernel_line(guest, reboot):
    """The kernel's command line, for monitors that have none of their own. Reboot: the way that ends this monitor."""
    clock = "noreplace-smp" if guest.cpus == 1 else "tsc=reliable"
    root = "root=/dev/vda rw " if guest.root else ""
    return f"{BASE_WORDS} reboot={reboot} {clock} {root}{guest.words}".strip()


def mayfly(program, guest, directory, extra=()):
    if guest.share:
        return mayfly_share(program, guest, directory, "")
    command = [program, "run", "-k", guest.kernel, "-m", f"{guest.mem_mib}M", "-c", str(guest.cpus), *extra]
    if guest.initrd:
        command += ["-i", guest.initrd]
    if guest.root:
        command += ["-r", guest.disk]
    elif guest.disk:
        command += ["-d", guest.disk + (":direct" if guest.direct else "")]
    if guest.tap:
        command += ["-n", f"tap={guest.tap}"]
    if guest.vsock:
        command += ["--vsock", guest.vsock]
    return command + ([f"--append= {guest.words}"] if guest.words else [])


def mayfly_share(program, guest, directory, how):
    """The guest's program is a command in a root, whose init has mounted the directory."""
    plain = dataclasses.replace(guest, share="", words="", initrd="", disk=guest.share_root, root=True)
    return mayfly(program, plain, directory, ["-v", f"{guest.share}:/d{how}"]) + ["--", "/d/load", "run", *guest.words.split()]


def mayfly_copy(program, guest, directory):
    return mayfly_share(program, guest, directory, ":copy")


def mayfly_sync(program, guest, directory):
    return mayfly(program, guest, directory, ["--io-engine=sync"])


def mayfly_open(program, guest, directory):
    return mayfly(program, guest, directory, ["--no-seccomp"])


def mayfly_jailed(program, guest, directory):
    return mayfly(program, guest, directory, ["--jail=strict"])


def bare(program, _guest, _directory):
    return [program]


def qemu(program, guest, _directory, vhost=False):
    """With devices, QEMU's own words, at the end of the line, tell the kernel where they are."""
    devices = []
    if guest.disk:
        cache = "none" if guest.direct else "writeback"
        drive = f"if=none,id=d0,file={guest.disk},format=raw,aio=io_uring,cache={cache}"
        devices += ["-object", "iothread,id=io0", "-drive", drive, "-device", "virtio-blk-device,drive=d0,iothread=io0"]
    if guest.tap:
        backend = f"tap,id=n0,ifname={guest.tap},script=no,downscript=no,vhost={'on' if vhost else 'off'}"
        devices += ["-netdev", backend, "-device", "virtio-net-device,netdev=n0"]
    if guest.vsock:
        devices += ["-device", f"vhost-vsock-device,guest-cid={VSOCK_CID}"]
    if guest.share:
        devices += ["-fsdev", f"local,id=f0,path={guest.share},security_model=none", "-device", "virtio-9p-device,fsdev=f0,mount_tag=d"]
        times, _, jobs = guest.words.partition(" ")
        guest = dataclasses.replace(guest, words=f"{times} mount:d {jobs}")
    if devices:
        devices = ["-global", "virtio-mmio.force-legacy=false", *devices]
    return [
        *[program, "-M", QEMU_MACHINE.format(auto="on" if devices else "off"), "-accel", "kvm", "-cpu", "host"],
        *["-m", str(guest.mem_mib), "-smp", str(guest.cpus), "-nodefaults", "-no-user-config", "-nographic"],
        *["-no-reboot", "-serial", "stdio", "-kernel", guest.kernel],
        *(["-initrd", guest.initrd] if guest.initrd else []),
        *[*devices, "-append", kernel_line(guest, "t")],
    ]


def qemu_vhost(program, guest, directory):
    return qemu(program, guest, directory, vhost=True)


def firecracker(program, guest, directory, engine="Sync", extra=()):
    """Its configuration is a file, and it ends when the guest resets by the keyboard controller."""
    boot = {"kernel_image_path": guest.kernel, "boot_args": kernel_line(guest, "k")}
    config = {
        "boot-source": boot | ({"initrd_path": guest.initrd} if guest.initrd else {}),
        "drives": [],
        "machine-config": {"vcpu_count": guest.cpus, "mem_size_mib": guest.mem_mib},
    }
    if guest.disk:
        # By default it ignores the guest's flushes.
        drive = {"drive_id": "d0", "path_on_host": guest.disk, "is_root_device": guest.root, "is_read_only": False}
        config["drives"] = [drive | {"cache_type": "Writeback", "io_engine": engine}]
    if guest.tap:
        config["network-interfaces"] = [{"iface_id": "n0", "host_dev_name": guest.tap}]
    if guest.vsock:
        config["vsock"] = {"guest_cid": VSOCK_CID, "uds_path": guest.vsock}
    path = os.path.join(directory, "firecracker.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config, file)
    return [program, "--no-api", *extra, "--config-file", path]


def firecracker_async(program, guest, directory):
    return firecracker(program, guest, directory, "Async")


def firecracker_open(program, guest, directory):
    return firecracker(program, guest, directory, extra=["--no-seccomp"])


def cloud_hypervisor(program, guest, _directory):
    command = [program, "--kernel", guest.kernel, "--cpus", f"boot={guest.cpus}", "--memory", f"size={guest.mem_mib}M"]
    command += ["--serial", "tty", "--console", "off", "--cmdline", kernel_line(guest, "t")]
    if guest.initrd:
        command += ["--initramfs", guest.initrd]
    if guest.disk:
        command += ["--disk", f"path={guest.disk},image_type=raw,direct={'on' if guest.direct else 'off'}"]
    if guest.tap:
        command += ["--net", f"tap={guest.tap}"]
    if guest.vsock:
        command += ["--vsock", f"cid={VSOCK_CID},socket={guest.vsock}"]
    return command


def kvmtool(program, guest, _directory):
    """It loads no ELF; and without its defaults, the command line has to switch PCI and the IOAPIC's ways itself."""
    line = f"{kernel_line(guest, 't')} noapic pci=conf1" if not guest.words else f"noapic {kernel_line(guest, 't')}"
    command = [program, "run", "--nodefaults", "--kernel", guest.bzimage, "--params", line, "--console", "serial"]
    command += ["--mem", str(guest.mem_mib), "--cpus", str(guest.cpus), "--virtio-transport", "mmio"]
    if guest.initrd:
        command += ["--initrd", guest.initrd]
    if guest.disk:
        command += ["--disk", guest.disk + (",direct" if guest.direct else "")]
    if guest.tap:
        command += ["--network", f"mode=tap,tapif={guest.tap}"]
    if guest.vsock:
        command += ["--vsock", str(VSOCK_CID)]
    return command


def crosvm(program, guest, _directory):
    command = [program, "run", "--disable-sandbox", "--cpus", str(guest.cpus), "--mem", str(guest.mem_mib)]
    command += ["--serial", "type=stdout,hardware=serial,num=1,console=true", "--params", kernel_line(guest, "t")]
    if guest.initrd:
        command += ["--initrd", guest.initrd]
    if guest.disk:
        command += ["--block", f"path={guest.disk},direct={'true' if guest.direct else 'false'}"]
    if guest.tap:
        command += ["--net", f"tap-name={guest.tap}"]
    if guest.vsock:
        command += ["--vsock", f"cid={VSOCK_CID}"]
    return command + [guest.kernel]


def libkrun(program, guest, directory):
    """A library: krun.c is the program, which loads it. The row's path is that of libkrun.so."""
    starter = os.path.join(os.path.dirname(program), "krun-starter")
    del directory
    files = [guest.kernel, guest.initrd or "-", guest.disk or "-", guest.vsock or "-"]
    return [starter, program, str(guest.cpus), str(guest.mem_mib), *files, kernel_line(guest, "t")]


@dataclasses.dataclass(frozen=True)
class Monitor:
    """
    A way to run a program of --peer (or one that is always measured). Devices: those that it has. By: how the host's end of a
    vsock is reached, a Unix socket or AF_VSOCK. Restarts: a guest's reboot does not end it. Pci: its devices are on PCI.
    """

    label: str
    colour: str
    program: str
    command: Callable
    devices: tuple = ("disk", "tap", "vsock")
    by: str = "unix"
    restarts: bool = False
    pci: bool = False
    bzimage: bool = False
    direct: bool = True
    boots: bool = True  # in perf/boot and perf/command, too


MONITORS = {
    "mayfly": Monitor("mayfly", "#3b6ea5", "mayfly", mayfly, ("disk", "tap", "vsock", "share")),
    "mayfly-sync": Monitor("mayfly, sync", "#8fb8de", "mayfly", mayfly_sync, ("disk",), boots=False),
    "mayfly-open": Monitor("mayfly --no-seccomp", "#8fb8de", "mayfly", mayfly_open, (), boots=False),
    "mayfly-jailed": Monitor("mayfly --jail", "#5b7f9f", "mayfly", mayfly_jailed, (), boots=False),
    "mayfly-copy": Monitor("mayfly, :copy", "#8fb8de", "mayfly", mayfly_copy, ("share",), boots=False),
    "qemu": Monitor("QEMU microvm", "#e8a33d", "qemu", qemu, ("disk", "tap", "share")),
    "qemu-vhost": Monitor("QEMU, vhost", "#a8577e", "qemu", qemu_vhost, ("tap", "vsock"), "vsock", boots=False),
    "firecracker": Monitor("Firecracker", "#c4472b", "firecracker", firecracker, direct=False),
    "firecracker-async": Monitor("Firecracker, Async", "#e59a86", "firecracker", firecracker_async, ("disk",), direct=False, boots=False),
    "firecracker-open": Monitor("FC --no-seccomp", "#e59a86", "firecracker", firecracker_open, (), boots=False),
    "cloud-hypervisor": Monitor("Cloud Hypervisor", "#59a14f", "cloud-hypervisor", cloud_hypervisor, restarts=True, pci=True),
    "kvmtool": Monitor("kvmtool", "#76b7b2", "kvmtool", kvmtool, by="vsock", bzimage=True),
    "crosvm": Monitor("crosvm", "#9c755f", "crosvm", crosvm, by="vsock", pci=True),
    "libkrun": Monitor("libkrun", "#b07aa1", "libkrun", libkrun, ("disk", "vsock"), direct=False),
    "bare": Monitor("bare KVM", "#79706e", "bare", bare, (), boots=False),
}
PEERS = sorted({row.program for row in MONITORS.values()} - {"mayfly", "bare"})


def command_of(name, programs, guest, directory):
    row = MONITORS[name]
    return row.command(programs[row.program], guest, directory)
