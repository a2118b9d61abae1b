#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2034,SC2154 # the guest expands what is in single quotes; tests are subshells
#
# Snapshots of guests with several vCPUs: that run, that are halted for good, and that were never started.

load helper

setup() {
	started=()
	dir=$BATS_TEST_TMPDIR
	ctl=$dir/control
	snap=$dir/snap
}

teardown() {
	kill_started
	end_test
}

# bats test_tags=flat
@test "cpus: of 1, 2 and 4 vCPUs all but the first were never started" {
	local cpus
	for cpus in 1 2 4; do
		rm -rf "$snap"
		start_mayfly run -k "$GUESTS/keep.elf" -m 20M --cpus "$cpus" --control "$ctl"
		wait_said '^keep'
		tell one
		wait_said '^one'
		run "$MAYFLY" snapshot --stop "$ctl" "$snap"
		assert_success
		wait_end
		run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" restore "$snap" <<< $'two\n\4'
		strip_returns
		assert_equal "$status: $output" $'0: one\ntwo'
	done
}

# Each vCPU that is online counts; the others have to come online after the restore.
@test "cpus: Linux with 1, 2 and 4 vCPUs that run, that are offline, and that were never started" {
	local cpus option
	for cpus in 1 2 4; do
		for option in '' maxcpus=1; do
			rm -rf "$snap"
			start_mayfly run -k "$KERNEL" -i "$INITRAMFS" -m 128M --cpus "$cpus" --append "$option" --control "$ctl" -- sh -c '
				cd /sys/devices/system/cpu; last=cpu'$((cpus - 1))'
				[ ! -e $last/online ] || echo 0 > $last/online
				for n in 1 2 3; do (while :; do :; done) & done
				echo up; read -r line
				for cpu in cpu[1-9]; do [ ! -e $cpu/online ] || echo 1 > $cpu/online || echo "failed $cpu"; done
				grep -c ^processor /proc/cpuinfo
				grep "^cpu[0-9]" /proc/stat > /tmp/before; sleep 2; grep "^cpu[0-9]" /proc/stat > /tmp/after
				cmp -s /tmp/before /tmp/after && echo "stands still"; exit 5'
			wait_said ^up
			run "$MAYFLY" snapshot --stop "$ctl" "$snap"
			assert_success
			wait_end
			run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" restore "$snap" <<< go
			assert_equal "$cpus $option: $status: $output" "$cpus $option: 5: $cpus"
		done
	done
}
