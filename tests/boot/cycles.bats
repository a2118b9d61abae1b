#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2034,SC2154 # the guest expands what is in single quotes; tests are subshells
#
# A Linux guest goes from snapshot to restore again and again, while it moves data: fio verifies what it has written to two
# drives, a stream of TCP goes on through a tap, and what comes back by vsock is compared. `make check-cycles` does it 1,000 times.

load helper

CYCLES=${CYCLES:-${LAB:+6}}
CYCLES=${CYCLES:-20}
VSOCK=$B/tests/guest/vsock

setup() {
	started=()
	dir=$BATS_TEST_TMPDIR
	ctl=$dir/control
	cd "$dir" || return 1
}

# linux_setup: an initramfs with tests/guest/vsock, and a tap with the address 10.1.0.1.
linux_setup() {
	[ "$(id -u)" = 0 ] || skip "taps need root"
	mkdir -p root/bin
	cp "$VSOCK" root/bin/vsock
	(cat "$INITRAMFS" && cd root && echo bin/vsock | cpio --quiet -o -H newc) > initramfs
	ip tuntap add dev mf-cycles mode tap
	ip address add 10.1.0.1/24 dev mf-cycles
	ip link set mf-cycles up
}

teardown() {
	echo "# since the last restore: $(sort out | uniq -c | tail -n 20)"
	kill_started
	ip link del mf-cycles 2> /dev/null || true
	end_test
}

# In the guest. It says a line for what each worker has done; a line with "failed" ends the test. A worker of a drive has
# done something when as much as all that it writes was read back, and fio ends at the first block that is not as written.
FIO='/t/bin/fio --thread --ioengine=psync --direct=1 --bs=4k --size=256K --rw=randwrite --verify=crc32c --verify_fatal=1
	--loops=1000000 --output=/tmp/fio --name=vdb --filename=/dev/vdb --name=vdc --filename=/dev/vdc'
work='mkdir /t; mount -o ro /dev/vda /t; ifconfig eth0 10.1.0.2 up; head -c 300000 /dev/urandom > /tmp/data
	{ '${FIO//$'\n'/ }'; cat /tmp/fio; echo failed fio; } &
	while :; do
		vsock pipe vsock:52 < /tmp/data > /tmp/back 2> /dev/null # a restore resets it: then some of it is back
		head -c "$(wc -c < /tmp/back)" /tmp/data | cmp - /tmp/back && echo did vsock || echo failed vsock
		[ -s /tmp/back ] || sleep 0.1
	done &
	{ /t/bin/iperf3 -c 10.1.0.1 -t 86000 -b 4M > /tmp/iperf 2>&1; cat /tmp/iperf; echo failed iperf3; } &
	progress() { eval "last=\${last_$1:-0}"; [ "$2" -lt $((last + $3)) ] || { echo "did $1"; eval "last_$1=$2"; }; }
	while sleep 0.2; do
		progress tcp "$(cat /sys/class/net/eth0/statistics/tx_bytes)" 50000
		for drive in vdb vdc; do read -r _ _ sectors _ < /sys/block/$drive/stat; progress $drive "$sectors" 512; done
	done'

# Each worker has done something since the restore, or one has failed.
all_did() {
	! grep -q failed out || return 0
	has_ended "$pid" || [ "$(grep -oE '^did (vdb|vdc|vsock|tcp)' out | sort -u | wc -l)" = 4 ]
}

none_failed() {
	! grep -q failed out || fail "$(tail -n 20 out)"
}

@test "cycles: snapshot and restore under load of drives, TCP and vsock" {
	local i
	linux_setup
	truncate -s 2M disk base
	iperf3 -s -1 -p 5201 > iperf 2>&1 3>&- &
	started+=($!)
	# shellcheck disable=SC2154 # v_52 is a socket
	(while [ -d "$dir" ]; do "$VSOCK" echo unix:v_52 100 2> /dev/null; rm -f v_52; done) 3>&- &
	started+=($!)
	start_mayfly run -k "$KERNEL" -i initramfs -m 256M -d "$TOOLS:ro" -d disk -d base:overlay -n tap=mf-cycles \
		--vsock v --control "$ctl" -- sh -c "$work"
	for ((i = 1; i <= CYCLES; i++)); do
		wait_for all_did
		none_failed
		run timeout -k 5 "$LIMIT" "$MAYFLY" snapshot --stop "$ctl" "snap$((i % 2))"
		assert_success
		wait_end
		assert_equal "$status" 0
		none_failed
		echo "# cycle $i: $(sort out | uniq -c | tr '\n' ' ')"
		start_mayfly restore --control "$ctl" "snap$((i % 2))"
	done
	wait_for all_did
	none_failed
	kill -0 "$pid"
	run "$MAYFLY" snap check "snap$((CYCLES % 2))"
	assert_success
}

# bats test_tags=flat
@test "cycles: a flat guest has all that it has read" {
	local i expected=
	start_mayfly run -k "$GUESTS/keep.elf" -m 20M --control "$ctl"
	for ((i = 1; i <= CYCLES; i++)); do
		tell "$i"
		expected+=$i$'\n'
		wait_said "^$i"
		assert_equal "$(tail -n "$i" out | tr -d '\r')" "${expected%$'\n'}"
		run timeout -k 5 "$LIMIT" "$MAYFLY" snapshot --stop "$ctl" "snap$((i % 2))"
		assert_success
		wait_end
		start_mayfly restore --control "$ctl" "snap$((i % 2))"
	done
}
