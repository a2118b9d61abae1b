#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2154 # the guest expands what is in single quotes, variables are of helper.bash
# fio with verification in the guest, over ext4, at queue depth 32, at once on a drive in memory, one on ext4, one with
# O_DIRECT there, and an overlay; then more of it until the monitor is killed, and a look at what is left.
#
# 2 MiB a drive, 512 requests, of which each is written and read back, take the lab a few seconds. With a native KVM:
# FIO_MIB=512.

load helper

MIB=${FIO_MIB:-2}
# Against the page cache of the guest, so that the requests get to the drive as fio makes them.
FIO="fio --thread --ioengine=io_uring --iodepth=32 --direct=1 --bs=4k --size=${MIB}M --eta=never --output=/tmp/fio"
MOUNT='mkdir /t /raw /direct /cached /over; mount -o ro /dev/vda /t; mount /dev/vdb /raw; mount /dev/vdc /direct'
MOUNT+='; mount /dev/vdd /cached; PATH=$PATH:/t/bin'

# What O_DIRECT needs: a file system that has it, which the lab's is not.
setup() {
	started=()
	loop=
	cd "$BATS_TEST_TMPDIR" || return 1
	truncate -s "$((4 * MIB + 64))M" backing
	mkfs.ext4 -q backing
	loop=$(losetup -f --show backing) || skip "no loop devices here"
	mkdir mnt
	mount "$loop" mnt
	truncate -s "$((3 * MIB + 16))M" raw base mnt/direct mnt/cached
	for file in raw base mnt/direct mnt/cached; do
		mkfs.ext4 -q -F "$file"
	done
}

teardown() {
	local id
	for id in "${started[@]}"; do
		has_ended "$id" || kill -KILL "$id"
		wait_for has_ended "$id"
	done
	if [ -n "$loop" ]; then
		umount mnt
		losetup -d "$loop"
	fi
	[ -n "${BATS_TEST_COMPLETED:-}" ] || tail -c 2000 "$BATS_TEST_TMPDIR"/{out,err}
}

# Needs no repair once the journal is replayed.
is_sound() {
	e2fsck -p "$1" || [ $? -le 1 ]
	run e2fsck -f -n "$1"
	assert_equal "$status" 0
}

# jobs FILE DRIVE...: sets $jobs to fio's options for a job on that file of each drive.
jobs() {
	local drive
	jobs=
	for drive in "${@:2}"; do
		jobs+=" --name=$drive --filename=/$drive/$1"
	done
}

verifies() {
	jobs kept raw direct cached over
	printf '%s' "$MOUNT; mount /dev/vde /over; $FIO --rw=randwrite --verify=crc32c --end_fsync=1 $jobs && echo all verified || exec cat /tmp/fio"
}

@test "fio verifies drives in memory, on ext4, with O_DIRECT and an overlay; after SIGKILL what was synced is there" {
	local before jobs first
	local drives=(-m 256M -d "$TOOLS:ro" -d raw -d mnt/direct:direct -d mnt/cached)
	before=$(sha256sum base)
	first=$(verifies)
	jobs lost raw direct cached over
	start_linux "${drives[@]}" -d base:overlay -- "$first;" \
		"$FIO --rw=randwrite --time_based --runtime=1000 --fsync=100 $jobs &" \
		"while sleep 1; do ls /raw/lost /direct/lost /cached/lost /over/lost && echo all writing; cp -r /bin/busybox /raw/more; done"
	wait_said '^all verified'
	wait_said '^all writing'
	sleep 1
	kill -KILL "$pid"
	wait_end
	assert_equal "$status" 137
	is_sound raw
	is_sound mnt/direct
	is_sound mnt/cached
	assert_equal "$(sha256sum base)" "$before"

	jobs kept raw direct cached
	run_linux "${drives[@]}" -- "$MOUNT; $FIO --rw=randwrite --verify=crc32c --verify_only $jobs && echo still there || cat /tmp/fio"
	assert_equal "$status" 0
	assert_line 'still there'
}

@test "fio verifies the same drives without io_uring" {
	local jobs
	run_linux --io-engine=sync -m 256M -d "$TOOLS:ro" -d raw -d mnt/direct:direct -d mnt/cached -d base:overlay:overlay-dir=mnt -- \
		"$(verifies)"
	assert_equal "$status" 0
	assert_line 'all verified'
}
