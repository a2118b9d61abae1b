#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2034,SC2153,SC2154 # each test is a subshell; the variables are of helper.bash
#
# --result FILE: why and how a run ended, as JSON.

load helper

setup() {
	started=()
	cd "$BATS_TEST_TMPDIR" || return 1
}

teardown() {
	kill_started
}

# assert_result FILE 'KEY VALUE'...: in JSON; no other file of ours is left.
assert_result() {
	local file=$1 pair
	shift
	for pair; do
		run "$PYTHON" -I -S -c 'import json, sys; print(json.dumps(json.load(open(sys.argv[1]))[sys.argv[2]]))' \
			"$file" "${pair%% *}"
		assert_output "${pair#* }"
	done
	run find . -name '.*.json*'
	assert_output ''
}

# bats test_tags=flat
@test "result: what is wrong before there is a guest" {
	run_mayfly run --result r.json --cpus 99
	assert_equal "$status" 125
	assert_result r.json 'cause "failed"' 'status 125' 'code null' 'booted null'
	run_mayfly run --cpus 99 --result r2.json
	assert_result r2.json 'cause "failed"'
	run_mayfly run --result r3.json --no-such-option
	assert_result r3.json 'cause "failed"'
	run_mayfly run --result r4.json -k nothing
	assert_result r4.json 'cause "failed"' 'status 125'
	echo '{"result": "r5.json", "kernel": "nothing"}' > config
	run_mayfly run --config config
	assert_result r5.json 'cause "failed"'
	run_mayfly run --jail --result r6.json -k "$GUESTS/hello.elf" -d nothing
	assert_result r6.json 'cause "failed"' 'status 125'
	# The last of a run with the same name is no result of this one.
	run_mayfly run --dry-run --result r6.json -k "$GUESTS/hello.elf"
	assert_result r6.json 'status 125'
	mkdir -m 555 full
	run_mayfly run --result full/none/r.json -k "$GUESTS/hello.elf"
	assert_equal "$status" 125
	assert_one_line 'full/none/r.json'
}

# bats test_tags=flat
@test "result: the guest ends by itself, in a jail and without one" {
	local jail
	for jail in '' --jail; do
		run_flat triple --result r.json $jail
		assert_equal "$status" 102
		assert_result r.json 'cause "crash"' 'status 102' 'signal null' 'oom false'
		run_flat hello --result r.json $jail
		assert_equal "$status" 0
		assert_result r.json 'cause "reboot"' 'status 0'
	done
	run_flat hello --result /dev/stdout
	assert_line --partial '"cause": "reboot"'
	run_flat hello --result /dev/null
	assert_equal "$status" 0
}

# bats test_tags=flat
@test "result: the end is asked for, in a jail and without one" {
	local jail
	for jail in '' --jail; do
		run_flat spin --timeout 300ms --result r.json $jail
		assert_equal "$status" 124
		assert_result r.json 'cause "timeout"' 'status 124'
		start_flat spin --result r.json $jail
		wait_said spinning
		refute [ -e r.json ]
		kill -TERM "$pid"
		wait_end
		assert_result r.json 'cause "signal"' 'status 143' 'signal 15'
	done
}

# bats test_tags=flat
@test "result: a mayfly that was killed leaves none; a VM that was killed in its jail does" {
	echo old > r.json
	start_flat spin --result r.json
	wait_said spinning
	kill -KILL "$pid"
	wait_end
	refute [ -e r.json ]
	: > out
	start_flat spin --result j.json --jail
	wait_said spinning
	jailed=$(pgrep -n -x -P "$pid" mayfly)
	kill -KILL "$jailed"
	wait_end
	run grep -c '"cause": "killed"' j.json
	assert_output 1
}

# bats test_tags=flat
@test "result: a FIFO, and a descriptor, without a wait" {
	mkfifo fifo
	run_flat hello --result fifo
	assert_equal "$status" 125
	exec {reader}<> fifo
	run_flat hello --result fifo
	assert_equal "$status" 0
	read -r -t 5 -u "$reader" line
	[[ $line == *'"cause": "reboot"'* ]]
	run_flat hello --jail --result "/dev/fd/$reader"
	read -r -t 5 -u "$reader" line
	[[ $line == *'"status": 0'* ]]
}

@test "result: a command that exits, one that a signal ends, and one that takes all memory" {
	run_mayfly run -k "$KERNEL" -d "$ROOTFS:ro" --result r.json -- sh -c 'exit 7'
	assert_equal "$status" 7
	assert_result r.json 'cause "command"' 'code 7' 'status 7' 'message ""'
	refute grep -q '"command_started": null' r.json
	refute grep -q '"booted": null' r.json
	run_mayfly run -k "$KERNEL" -d "$ROOTFS:ro" --jail --result r.json -- sh -c 'kill -9 $$'
	assert_equal "$status" 137
	assert_result r.json 'cause "signalled"' 'code 137' 'signal 9' 'oom false'
	# A status of more than 128 is no signal.
	run_mayfly run -k "$KERNEL" -d "$ROOTFS:ro" --result r.json -- sh -c 'exit 137'
	assert_result r.json 'cause "command"' 'code 137' 'signal null'
	run_mayfly run -k "$KERNEL" -d "$ROOTFS:ro" --result r.json -- sh -c 'exec tail /dev/zero'
	assert_result r.json 'cause "oom"' 'oom true' 'signal 9'
	run_mayfly run -k "$KERNEL" -d "$ROOTFS:ro" --result r.json -- nothing-like-this
	assert_result r.json 'cause "command"' 'code 127'
}

@test "result: a panic" {
	run_mayfly run -k "$KERNEL" --result r.json
	assert_equal "$status" 101
	assert_result r.json 'cause "panic"' 'status 101'
}
