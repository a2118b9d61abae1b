#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2034,SC2154 # tests are subshells, variables are of helper.bash
#
# Snapshots of guests that keep all descriptors of a queue in flight, reset a device, or wait for a host that does not read.
# No request is lost, in the guest that goes on and in each VM that is restored.

load helper

setup() {
	started=()
	dir=$BATS_TEST_TMPDIR
	ctl=$dir/control
	cd "$dir" || return 1
}

teardown() {
	kill_started
	[ ! -e "/sys/class/net/mf-busy" ] || ip link del mf-busy
	end_test
}

# busy KIND ROUNDS OPTION...: the guest of tests/hostile/flood, snapshots of it while it works, and its end after all rounds.
busy() {
	local kind=$1 rounds=$2 taken=0
	shift 2
	"$PYTHON" -I -S "$BATS_TEST_DIRNAME/../hostile/flood" "$kind" --rounds "$rounds" > script
	start_mayfly run -k "$GUESTS/hostile.elf" -m 64M -i script --control "$ctl" "$@"
	wait_said '^go'
	while ((taken < 4)) && timeout -k 5 "$LIMIT" "$MAYFLY" snapshot "$ctl" goes-on 2> said; do
		timeout -k 5 "$LIMIT" "$MAYFLY" snapshot --stop "$ctl" "$kind$taken" 2> said || break
		wait_end
		start_mayfly restore --control "$ctl" "$kind$taken"
		taken=$((taken + 1))
		sleep 0.1
	done
	echo "# $kind: $taken snapshots; $(< said)"
	((taken >= 1))
	wait_end
	assert_equal "$status" 0
	grep -q '^done' out
	assert_one_line rebooted
}

# bats test_tags=flat
@test "busy: a drive with 256 requests in flight" {
	truncate -s 32M disk
	busy disk 400 -d disk
}

# bats test_tags=flat
@test "busy: a drive with large requests, and its layer" {
	truncate -s 32M disk
	busy fill 40 -d disk:overlay
}

# bats test_tags=flat
@test "busy: a drive that is reset with 256 requests in flight" {
	truncate -s 32M disk
	busy resets 100 -d disk
}

# bats test_tags=flat
@test "busy: a tap with 256 frames in flight" {
	[ "$(id -u)" = 0 ] || skip "taps need root"
	ip tuntap add dev mf-busy mode tap
	ip link set mf-busy up
	busy net 200 -n tap=mf-busy
}

# In the guest. The writer waits for a host that does not read, until that reads, or the connection is reset.
writer='head -c 3000000 /dev/zero | vsock pipe vsock:52 > /tmp/back 2> /tmp/why; echo "ended $?, $(wc -c < /tmp/back) back"
	echo again | vsock pipe vsock:52; while :; do sleep 1; done'

@test "busy: vsock that the host does not read: the source's writer goes on, a restored VM's is reset, new connections work" {
	mkdir -p root/bin
	cp "$B/tests/guest/vsock" root/bin/vsock
	(cat "$INITRAMFS" && cd root && echo bin/vsock | cpio --quiet -o -H newc) > initramfs
	# Reads once the file is there, then returns all.
	"$PYTHON" -I -S -c 'import os, socket, time
s = socket.socket(socket.AF_UNIX); s.bind("v_52"); s.listen()
c = s.accept()[0]
while not os.path.exists("read"): time.sleep(0.1)
total = 0
while data := c.recv(65536): total += len(data)
c.sendall(b"x" * 1000); c.close()
c = s.accept()[0]; c.sendall(b"the source: " + c.recv(100)); c.close(); time.sleep(1000)' 3>&- &
	started+=($!)
	wait_for test -S v_52
	start_mayfly run -k "$KERNEL" -i initramfs -m 64M --vsock v --control "$ctl" -- sh -c "echo up; $writer"
	wait_said ^up
	sleep 2
	run "$MAYFLY" snapshot "$ctl" snap
	assert_success
	touch read
	wait_said '^the source: again'
	grep -q '^ended 0, 1000 back' out
	kill "$pid"
	wait_end
	"$B/tests/guest/vsock" echo unix:w_52 1 > /dev/null 3>&- &
	started+=($!)
	wait_for test -S w_52
	start_mayfly restore --vsock w snap
	wait_said ^again
	grep -q '^ended [1-9].*, 0 back' out
}
