#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2153,SC2154 # each test is a subshell; the variables are of helper.bash
#
# Linux boots: by both entry points, from an initramfs and from a disk, with few and many CPUs, with little and much RAM.

load helper

# The number after NAME in the guest's /proc/meminfo, as far as the test printed it: sets $kib.
meminfo() {
	kib=$(sed -n "s/^$1: *\([0-9]*\) kB$/\1/p" <<< "$output")
	[ -n "$kib" ] || fail "no $1 in: $output"
}

# What the kernel calls its loader: 255 by the Linux protocol (type 0xff), 176 by PVH (type 0xb0).
loader_type='cat /proc/sys/kernel/bootloader_type'

@test "boot: by the 64-bit Linux protocol, an initramfs" {
	run_linux --entry linux64 -- "$loader_type; nproc; cat /proc/cmdline"
	assert_equal "$status" 0
	assert_line 255
	assert_line 1
	assert_line --regexp '^console=ttyS0 .*reboot=k'
	assert_line 'mayfly-init: status 0'
	assert_one_line 'the guest rebooted'
}

@test "boot: by PVH, an initramfs" {
	run_linux --entry pvh -- "$loader_type; nproc"
	assert_equal "$status" 0
	assert_line 176
	assert_line 1
	assert_line 'mayfly-init: status 0'
}

@test "boot: the project's kernel takes the Linux protocol by default; a kernel with only a PVH note takes that" {
	run_linux -- "$loader_type"
	assert_line 255
	run_flat hello
	assert_equal "$status" 0
	assert_equal "$output" hello
	run_flat pvh
	assert_equal "$status" 0
	assert_equal "$output" 'hello by PVH'
	run_flat hello --entry pvh
	assert_equal "$status" 125
	assert_one_line 'PVH'
}

# bats test_tags=flat
@test "boot: an ELF kernel of class 32 is started by its PVH note" {
	run_flat pvh32
	assert_equal "$status" 0
	assert_equal "$output" 'hello by PVH'
	run_flat pvh32 --entry linux64
	assert_equal "$status" 125
	assert_one_line '64-bit'
}

# bats test_tags=flat
@test "boot: a bzImage without a 64-bit entry point that ends within a paragraph" {
	objcopy -O binary "$GUESTS/linux32.elf" "$BATS_TEST_TMPDIR/bzImage"
	[ $(($(stat -c %s "$BATS_TEST_TMPDIR/bzImage") % 16)) -ne 0 ] || fail "it is padded"
	run_mayfly run -k "$BATS_TEST_TMPDIR/bzImage"
	assert_equal "$status" 0
	assert_equal "$output" 'hello by the 32-bit Linux'
	truncate -s -1 "$BATS_TEST_TMPDIR/bzImage"
	run_mayfly run -k "$BATS_TEST_TMPDIR/bzImage"
	assert_equal "$status" 125
	assert_one_line 'truncated'
}

# bats test_tags=flat
@test "boot: a guest that finds no device at an address reads all ones" {
	run_flat unassigned
	assert_equal "$status" 0
	assert_equal "$output" 'all ones'
}

@test "boot: an ext4 root on a drive, writable and read-only" {
	cp "$ROOTFS" "$BATS_TEST_TMPDIR/root"
	run_mayfly run -k "$KERNEL" -d "$BATS_TEST_TMPDIR/root" \
		--append '-- "grep ext4 /proc/mounts; echo kept > /kept && echo wrote"'
	assert_equal "$status" 0
	assert_line --regexp '^/dev/root / ext4 rw'
	assert_line wrote
	assert_line 'mayfly-init: status 0'
	run_mayfly run -k "$KERNEL" -d "$BATS_TEST_TMPDIR/root:ro" \
		--append '-- "grep ext4 /proc/mounts; cat /kept; echo x > /kept || echo refused"'
	assert_equal "$status" 0
	assert_line --regexp '^/dev/root / ext4 ro'
	assert_line kept
	assert_line refused
}

@test "boot: 2 and 4 CPUs, all of them work" {
	local cpus last
	for cpus in 2 4; do
		last=$((cpus - 1))
		run_linux -c "$cpus" -- "nproc; grep -c ^processor /proc/cpuinfo; cat /sys/devices/system/cpu/online;" \
			"for i in \$(seq 0 $last); do taskset -c \$i sh -c 'echo on; cut -d\\  -f39 /proc/self/stat'; done"
		assert_equal "$status" 0
		assert_output --partial "$cpus
$cpus
0-$last"
		assert_output --partial "on
$last"
	done
}

@test "boot: 2 CPUs by PVH" {
	run_linux -c 2 --entry pvh -- 'nproc; cat /sys/devices/system/cpu/online'
	assert_equal "$status" 0
	assert_output --partial '2
0-1'
}

@test "boot: 64 MiB and 512 MiB of RAM" {
	local mib
	for mib in 64 512; do
		run_linux -m "${mib}M" -- 'head -1 /proc/meminfo'
		assert_equal "$status" 0
		meminfo MemTotal
		[ "$kib" -lt $((mib * 1024)) ] || fail "of $mib MiB: $kib KiB"
		[ "$kib" -gt $((mib * 1024 * 97 / 100 - 16 * 1024)) ] || fail "of $mib MiB: $kib KiB"
	done
}

@test "boot: 5 GiB of RAM, on both sides of the gap below 4 GiB" {
	local entry
	for entry in linux64 pvh; do
		# The guest first uses memory above 4 GiB.
		run_linux -m 5G --entry "$entry" -- 'head -1 /proc/meminfo; cat /proc/iomem | grep RAM;' \
			'mount -t tmpfs t /tmp; yes | head -c 8388608 > /tmp/y; sha256sum < /tmp/y'
		assert_equal "$status" 0
		meminfo MemTotal
		[ "$kib" -gt $((4900 * 1024)) ] && [ "$kib" -lt $((5 * 1024 * 1024)) ] || fail "of 5 GiB: $kib KiB"
		assert_line --regexp '^00[12]00000-bfffffff : System RAM'
		assert_line '100000000-17fffffff : System RAM'
		assert_line "$(yes | head -c 8388608 | sha256sum)"
	done
}

@test "boot: the guest has kvm-clock, a random seed, and a drive of the right size" {
	truncate -s 12345344 "$BATS_TEST_TMPDIR/disk"
	run_linux -d "$BATS_TEST_TMPDIR/disk" -- \
		'cd /sys/devices/system/clocksource/clocksource0; cat current_clocksource; cat /sys/block/vda/size;' \
		'dmesg | grep crng; ls -l /dev/vda; head -c 8 /dev/random | wc -c'
	assert_equal "$status" 0
	assert_line kvm-clock
	assert_line 24112
	assert_line --regexp '^\[ +0\.0000[0-9]*\] random: crng init done'
	assert_line --regexp '^b.* /dev/vda$'
	assert_line 8
}

@test "boot: two guests do not get the same random numbers" {
	local first
	run_linux -- 'head -c 16 /dev/urandom | sha256sum'
	first=$(grep -E '^[0-9a-f]{64} ' <<< "$output")
	run_linux -- 'head -c 16 /dev/urandom | sha256sum'
	assert_line --regexp '^[0-9a-f]{64} '
	refute_line "$first"
}

@test "boot: the whole command line arrives, up to its last byte" {
	local text
	text=$(printf '%1700s' '' | tr ' ' x)
	run_mayfly run -k "$KERNEL" -i "$INITRAMFS" --cmdline \
		"console=ttyS0 quiet reboot=k panic=-1 x=$text -- \"tail -c 40 /proc/cmdline; wc -c < /proc/cmdline\""
	assert_equal "$status" 0
	assert_line --partial 'wc -c < /proc/cmdline"'
	[ "$(grep -E '^[0-9]+$' <<< "$output")" -gt 1780 ]
}

@test "doctor: a host that boots guests is fit" {
	run_mayfly doctor
	assert_equal "$status" 0
	assert_equal "$stderr" ''
	assert_line --regexp '^ok +kvm '
	assert_line --regexp '^ok +native +KVM runs kernel code natively'
	assert_line --regexp '^ok +io_uring '
}

# The peer's end of its stream is nothing that the guest's output waits for; io_uring thinks otherwise.
# bats test_tags=flat
@test "boot: stdout is a socket that is full, and of which the other end sends no more: the io thread sleeps" {
	run "$PYTHON" -I -S -c 'import fcntl, os, socket, subprocess, sys, termios, time
ours, theirs = socket.socketpair()
theirs.setblocking(False)
guest = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=theirs)
ours.shutdown(socket.SHUT_WR)
def ticks():
    for task in os.listdir(f"/proc/{guest.pid}/task"):
        with open(f"/proc/{guest.pid}/task/{task}/stat") as file:
            name, rest = file.read().split("(", 1)[1].rsplit(") ", 1)
        if name == "io":
            return sum(map(int, rest.split()[11:13]))
    return None
def waiting():
    return int.from_bytes(fcntl.ioctl(ours, termios.FIONREAD, bytes(4)), sys.byteorder)
while ticks() is None or waiting() < 200:
    time.sleep(0.1)
before, now = -1, 0
while now != before: # until it is full
    time.sleep(0.5)
    before, now = now, waiting()
start = ticks()
time.sleep(2)
used = ticks() - start
got = 0
while got < now + 1000: # and continues when there is room
    got += len(ours.recv(65536))
guest.terminate()
print("ticks", used, "status", guest.wait())
sys.exit(used > 20)' "$MAYFLY" run --io-engine=ring -k "$GUESTS/flood.elf" 3>&-
	assert_equal "$status" 0
	assert_output --partial 'status -15' # of SIGTERM
}

@test "lab: its clock is as fast as this host's" {
	[ "${LAB:-}" = 1 ] || skip "not in the lab"
	local told found
	told=$(sed -n 's/.*tsc_early_khz=\([0-9]*\).*/\1/p' /proc/cmdline)
	[ -n "$told" ] || fail "the lab's kernel has measured the TSC itself"
	# What the clock makes of the TSC here.
	gcc -O2 -o "$BATS_TEST_TMPDIR/tsc-khz" tests/lab/tsc-khz.c
	found=$("$BATS_TEST_TMPDIR/tsc-khz")
	[ $((found * 100)) -gt $((told * 99)) ] || fail "$found kHz, not $told"
	[ $((found * 100)) -lt $((told * 101)) ] || fail "$found kHz, not $told"
}
