#!/usr/bin/env bats
# shellcheck disable=SC2154 # variables of helper.bash
#
# Thousands of requests to Firecracker's API: each method, path and field, in each state of the VM. What they are answered is
# in api-matrix.txt, which was recorded from Firecracker 1.17. To compare: api-matrix FIRECRACKER KERNEL DIRECTORY TABLE.

# bats file_tags=flat
load helper

@test "api matrix: right, missing, unknown, wrong and repeated fields, and all methods, in each state" {
	[ "$(id -u)" = 0 ] || skip "only root can make a tap"
	run "$PYTHON" -I -S "$BATS_TEST_DIRNAME/api-matrix" "$MAYFLY" "$GUESTS/idle.elf" "$BATS_TEST_TMPDIR/m" \
		"$BATS_TEST_DIRNAME/api-matrix.txt"
	assert_success
	assert_output --regexp '^[0-9]{4} requests, 0 answered otherwise$'
}
