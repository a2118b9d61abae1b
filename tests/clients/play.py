"""Drives mayfly by Python clients of Firecracker, as they are: a flat guest, paused, a snapshot, which is loaded; and what is refused.

    play.py MONITOR GUEST DIRECTORY TAP

Plays the clients that can be imported, and says which.
"""
import atexit, importlib.util, os, socket, subprocess, sys, time

monitor, guest, directory, tap = sys.argv[1:]
sock, disk = f"{directory}/api", f"{directory}/root.img"
state, memory = f"{directory}/state", f"{directory}/memory"


def start(*options):
    if os.path.exists(sock):
        os.unlink(sock)
    process = subprocess.Popen([monitor, "--api-sock", sock, *options], stdin=subprocess.DEVNULL)
    atexit.register(process.kill)
    while socket.socket(socket.AF_UNIX).connect_ex(sock):
        assert process.poll() is None, "mayfly has ended"
        time.sleep(0.01)
    return process


def end(process):
    process.terminate()
    assert process.wait() == -15, process.returncode


def refused(call, text, *kinds):
    try:
        call()
    except kinds as error:
        assert text in str(error), error
        return str(error)
    raise AssertionError(f"{text}: not refused")


def firecracker_python():
    """The requests are those of MicroVM.create() and snapshot(). It keeps a connection for each path: of more than 10, Firecracker and
    mayfly refuse the rest."""
    from firecracker.api import Api
    from firecracker.exceptions import APIError

    process = start()
    api = Api(sock)
    assert api.describe.get().json()["state"] == "Not started"
    refused(lambda: api.actions.put(action_type="InstanceStart"), "API fault: Start microvm error", APIError)
    api.logger.put(log_path=f"{directory}/log", level="Info")
    api.boot.put(kernel_image_path=guest, boot_args="console=ttyS0 reboot=k panic=1 ip=172.16.0.2::172.16.0.1:255.255.255.0::eth0:on")
    api.drive.put(drive_id="rootfs", path_on_host=disk, is_root_device=True, is_read_only=False)
    api.machine_config.put(vcpu_count=1, mem_size_mib=64)
    api.network.put(iface_id="eth0", host_dev_name=tap)
    api.mmds_config.put(version="V2", ipv4_address="169.254.169.254", network_interfaces=["eth0"])
    api.mmds.put(latest={"meta-data": {"instance-id": "i-1"}, "user-data": "#cloud-config"})
    api.vsock.put(guest_cid=3, uds_path=f"{directory}/v")
    api.actions.put(action_type="InstanceStart")
    api.close()
    api = Api(sock)
    assert api.describe.get().json()["state"] == "Running"
    assert api.vm_config.get().json()["network-interfaces"][0]["host_dev_name"] == tap
    assert api.version.get().json()["firecracker_version"]
    api.vm.patch(state="Paused")
    api.create_snapshot.put(mem_file_path=memory, snapshot_path=state)
    api.vm.patch(state="Resumed")
    refused(lambda: api.boot.put(kernel_image_path=guest), "after starting", APIError)
    api.close()
    end(process)

    load = dict(
        enable_diff_snapshots=True, mem_backend={"backend_type": "File", "backend_path": memory}, snapshot_path=state, resume_vm=True,
        network_overrides=[{"iface_id": "eth0", "host_dev_name": tap}])
    process = start()
    api = Api(sock)
    api.load_snapshot.put(**load)
    assert api.describe.get().json()["state"] == "Running"
    api.close()
    end(process)

    # What it does where the root's image is missing: it finds its path in the message, makes a link, and tries again.
    import re

    os.rename(disk, f"{directory}/moved.img")
    process = start()
    text = refused(lambda: Api(sock).load_snapshot.put(**load), "No such file or directory", APIError)
    assert process.wait() == 1
    os.symlink(f"{directory}/moved.img", re.search(r"(\S+\.img)", text).group(1))
    process = start()
    Api(sock).load_snapshot.put(**load)
    end(process)
    os.rename(f"{directory}/moved.img", disk)
    os.truncate(memory, 4096)
    process = start()
    refused(lambda: Api(sock).load_snapshot.put(**load), "file offset and length is greater", APIError)
    assert process.wait() == 1


def pyrecracker():
    from pyrecracker.client import FirecrackerClient
    from pyrecracker.client_types import (
        VM, ActionType, BootSource, CacheType, Drive, HugePages, InstanceActionInfo, IOEngine, MachineConfiguration, NetworkInterface,
        SnapshotCreateParams, SnapshotLoadParams, SnapshotType, VMState)
    from requests.exceptions import HTTPError

    process = start()
    client = FirecrackerClient(sock)
    client.put_machine_config(MachineConfiguration(mem_size_mib=64, vcpu_count=1, smt=False, track_dirty_pages=True, huge_pages=HugePages.NONE))
    client.put_boot_source(BootSource(kernel_image_path=guest, boot_args="console=ttyS0 reboot=k panic=1 pci=off"))
    client.put_drives(Drive(drive_id="rootfs", is_root_device=True, path_on_host=disk, cache_type=CacheType.WRITEBACK, io_engine=IOEngine.ASYNC))
    client.put_network_interfaces(NetworkInterface(iface_id="eth0", host_dev_name=tap, guest_mac="06:00:AC:10:00:02"))
    client.put_actions(InstanceActionInfo(action_type=ActionType.INSTANCE_START))
    client.patch_vm(VM(state=VMState.PAUSED))
    for kind in SnapshotType.FULL, SnapshotType.DIFF:
        client.put_snapshot_create(SnapshotCreateParams(snapshot_path=state, mem_file_path=memory, snapshot_type=kind))
    client.patch_vm(VM(state=VMState.RESUMED))
    refused(lambda: client.put_actions(InstanceActionInfo(action_type=ActionType.INSTANCE_START)), "400", HTTPError)
    end(process)
    process = start()
    client = FirecrackerClient(sock)
    client.put_snapshot_load(SnapshotLoadParams(snapshot_path=state, mem_file_path=memory, track_dirty_pages=True, resume_vm=False))
    client.patch_vm(VM(state=VMState.RESUMED))
    end(process)


def microheart():
    """A configuration file, and a connection for each request. Its MicroVM gives --enable-pci, which mayfly refuses."""
    import json
    from microheart.api import request

    config = {
        "boot-source": {"kernel_image_path": guest, "boot_args": "console=ttyS0 reboot=k panic=1"},
        "drives": [{"drive_id": "rootfs", "path_on_host": disk, "is_root_device": True, "is_read_only": False}],
        "network-interfaces": [{"iface_id": "net1", "guest_mac": "06:00:AC:10:00:02", "host_dev_name": tap}],
        "machine-config": {"vcpu_count": 1, "mem_size_mib": 64},
    }
    with open(f"{directory}/config", "w") as f:
        json.dump(config, f, indent=2)
    process = start("--config-file", f"{directory}/config")
    assert request(sock, "GET", "/machine-config")["mem_size_mib"] == 64
    request(sock, "PATCH", "/vm", {"state": "Paused"})
    refused(lambda: request(sock, "PUT", "/actions", {"action_type": "InstanceStart"}), "-> 400:", RuntimeError)
    end(process)


with open(disk, "wb") as f:
    f.truncate(1 << 20)
played = 0
for module, play in ("firecracker", firecracker_python), ("pyrecracker", pyrecracker), ("microheart", microheart):
    if importlib.util.find_spec(module):
        play()
        print(f"ok - {play.__name__}")
        played += 1
assert played, "none of the clients is installed"
