#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2034,SC2153,SC2154 # each test is a subshell; the variables are of helper.bash
#
# `mayfly inspect` and `mayfly stats`: what is known of a VM, and what it uses.

load helper

setup() {
	started=()
	cd "$BATS_TEST_TMPDIR" || return 1
	name=inspect-$$
}

teardown() {
	kill_started
}

# json EXPRESSION [VALUE]: of the object or array in $output, as o. Without a value it must be true.
json() {
	local value
	value=$("$PYTHON" -I -S -c 'import json, sys; o = json.loads(sys.argv[1]); print(json.dumps(eval(sys.argv[2])))' \
		"$output" "$1")
	assert_equal "$1: $value" "$1: ${2-true}"
}

start_guest() {
	start_mayfly run -k "$KERNEL" -d "$ROOTFS:ro:id=root" --name "$name" "$@" -- sh -c 'echo ready; cat'
	run_mayfly exec --wait=60s "$name" -- true
	assert_equal "$status" 0
}

# bats test_tags=flat
@test "inspect: a guest without a command has its record, and /proc" {
	start_flat spin --name "$name"
	wait_said spinning
	run_mayfly inspect "$name"
	assert_equal "$status" 0
	json 'o["name"] == "'"$name"'" and o["state"] == "running" and o["pid"] == '"$pid"
	run_mayfly stats --json "$name"
	assert_equal "$status" 0
	json 'len(o) == 1 and o[0]["vcpu_seconds"] >= 0 and o[0]["memory_bytes"] > 0 and o[0]["drives"]["to_guest_requests"] == 0'
	run_mayfly stats
	assert_equal "$status" 0
	assert_line --partial "$name"
	refute_output --partial $'\033'
	kill -TERM "$pid"
	wait_end
	run_mayfly inspect "$name"
	assert_equal "$status" 0
	json 'o["state"] == "ended" and o["cause"] == "signal"'
	run_mayfly stats "$name"
	assert_equal "$status" 125
	run_mayfly inspect no-such-guest
	assert_equal "$status" 125
	run_mayfly inspect
	assert_equal "$status" 125
	run_mayfly stats --json no-such-guest
	assert_equal "$status" 125
	run_mayfly rm "$name"
}

@test "inspect: configuration, steps and devices of a guest that runs, in a jail and without one" {
	local jail
	for jail in '' --jail; do
		start_guest -e SECRET=x -m 160M $jail
		run_mayfly exec "$name" -- sh -c 'dd if=/dev/vda of=/dev/null bs=64k count=32 2> /dev/null; head -c 50000 /dev/zero'
		run_mayfly inspect "$name"
		assert_equal "$status" 0
		json 'o["config"]["mem"] == "160M" and o["config"]["name"] == o["name"]'
		json 'o["config"]["drives"][0]["id"] == "root" and "SECRET=x" in o["config"]["env"]'
		json 'o["state"] == "running" and o["io_engine"] in ("ring", "sync") and o["steps_ms"]["command started"] > 0'
		json '[d["state"] for d in o["devices"] if d["kind"] == "drive"] == ["active"]'
		json 'o["vm_pid"] > 0 and (o["vm_pid"] == o["pid"]) == '"$([ -n "$jail" ] && echo False || echo True)"
			run_mayfly stats --json "$name"
		assert_equal "$status" 0
		json 'o[0]["drives"]["to_guest_bytes"] >= 32 << 16 and o[0]["drives"]["to_guest_requests"] > 0'
		json 'o[0]["drives"]["from_guest_bytes"] == 0 and o[0]["nets"]["to_guest_bytes"] == 0'
		json 'o[0]["vsock"]["from_guest_bytes"] >= 50000 and o[0]["vcpu_seconds"] > 0 and o[0]["memory_bytes"] > 10 << 20'
		kill -TERM "$pid"
		wait_end
		: > out
	done
}

@test "stats: on a terminal a line each second, until the VM ends" {
	start_guest -c 1
	on_tty expect="$name" expect="$name" kill=TERM -- "$MAYFLY" stats "$name"
	assert_equal "$status" 143
	assert_output --partial "$name"
}
