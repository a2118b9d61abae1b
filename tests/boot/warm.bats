#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2034,SC2154 # tests are subshells, variables are of helper.bash
#
# `mayfly run --snapshot` with Linux guests: warm-up commands, and processes that they leave, which a snapshot holds still.

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

# warm [OPTION...] [-- COMMAND...]: a run that ends with a snapshot, or not.
warm() {
	run_mayfly run -k "$KERNEL" -i "$INITRAMFS" -m 128M --snapshot "$snap" "$@"
}

# nothing_left: no snapshot, and no part of one.
nothing_left() {
	assert_equal "$(find "$dir" -mindepth 1 -maxdepth 1 -name '*snap*')" ''
}

# restored [OPTION...] [-- COMMAND...]: to its end, without input.
restored() {
	run_mayfly restore "$snap" "$@"
}

@test "warm-up: a command that has ended; its files, output and status, and what restores it" {
	warm -e KEPT=one -- sh -c 'echo out; echo error >&2; echo "$KEPT" > /tmp/x'
	assert_equal "$status" 0
	assert_equal "$output" out
	assert_equal "$stderr" error
	restored -- cat /tmp/x
	assert_equal "$status" 0
	assert_equal "$output" one
	restored --jail -- sh -c 'exit 7'
	assert_equal "$status" 7
	restored # without a COMMAND there is nothing to run
	assert_equal "$status" 125
	assert_regex "$stderr" COMMAND
	run_mayfly clone "$snap" -n 2 -- cat /tmp/x
	assert_equal "$status" 0
	assert_equal "$(sort <<< "$output")" $'1: one\n2: one'
}

@test "warm-up: a command that fails has its status, and leaves no snapshot" {
	warm -- sh -c 'echo no; exit 3'
	assert_equal "$status" 3
	assert_equal "$output" no
	nothing_left
	run -127 --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" run -k "$KERNEL" -i "$INITRAMFS" --snapshot "$snap" -- no-such-program
	nothing_left
	warm --until ready -- sh -c 'kill -KILL $$'
	assert_equal "$status" 137
	nothing_left
}

@test "warm-up: --until ready without a command: a guest that takes commands, also in a jail" {
	warm --until ready --jail
	assert_equal "$status" 0
	assert_equal "$output" ''
	restored -- sh -c 'echo works; exit 5'
	assert_equal "$status" 5
	assert_equal "$output" works
}

@test "warm-up: --until TEXT: the command prints it, and goes on in each VM" {
	start_mayfly run -k "$KERNEL" -i "$INITRAMFS" -m 128M --snapshot "$snap" --until 'is up' -- \
		sh -c 'echo "it is is i"; printf "it is is u"; echo "p"; read line; exit 4'
	wait_end
	assert_equal "$status" 0
	assert_equal "$(< "$dir/out")" $'it is is i\nit is is up'
	run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" restore "$snap" <<< go
	assert_equal "$status" 4
	rm -rf "$snap"
	# On the console, also of what the command has left behind.
	warm --until text=5s -- sh -c 'sh -c "sleep 1; echo 5s > /dev/console" > /dev/null 2>&1 & exit 0'
	assert_equal "$status" 0
	restored -- sh -c 'exit 6'
	assert_equal "$status" 6
}

@test "warm-up: --until TIME, before the command has ended and after" {
	warm --until 5s -- sh -c 'echo began; sleep 100000'
	assert_equal "$status" 0
	assert_equal "$output" began
	restored -- sh -c 'exit 6'
	assert_equal "$status" 6
	rm -rf "$snap"
	warm --until 5s -- sh -c '(sleep 1; echo kept > /tmp/x) > /dev/null 2>&1 & exit 0'
	assert_equal "$status" 0
	restored -- cat /tmp/x
	assert_equal "$output" kept
}

@test "warm-up: processes stand still from the snapshot until the clock and the random numbers are new" {
	local cpus i
	for cpus in 1 2; do
		# The clock is a year behind. They read it with no other process, so that the one line is soon after the other.
		warm -c "$cpus" -- sh -c 'date -s "@$(($(date +%s) - 31536000))" > /dev/null
			for n in 1 2 3; do
				(while :; do
					before=$EPOCHREALTIME
					read -r value < /proc/sys/kernel/random/uuid
					echo "$before $value $EPOCHREALTIME"
				done > /tmp/log.$n) > /dev/null 2>&1 &
			done
			sleep 0.3'
		assert_equal "$status" 0
		for i in 1 2; do
			date +%s > "$dir/began.$i"
			"$MAYFLY" restore "$snap" -- sh -c 'sleep 0.3; cat /tmp/log.1; echo; cat /tmp/log.2; echo; cat /tmp/log.3' \
				< /dev/null > "$dir/clone.$i"
		done
		"$PYTHON" -I -S - "$dir" <<- 'END'
			import sys

			def records(i):
			    text = open(f"{sys.argv[1]}/clone.{i}").read()
			    return [[line.split(" ") for line in log.splitlines()[:-1]] for log in text.split("\n\n")]

			began = [float(open(f"{sys.argv[1]}/began.{i}").read()) for i in (1, 2)]
			seen = set()
			for logs in zip(records(1), records(2)):
			    assert len(logs[0]) > 10, "it has not run"
			    at = next(i for i, pair in enumerate(zip(*logs)) if pair[0] != pair[1])
			    assert at > 0, "it was not in the middle"
			    for clone, log in enumerate(logs):
			        assert len(log) > at + 5, (len(log), at)
			        first = log[at]  # a part of it may be of before
			        assert float(first[2]) >= began[clone], first
			        values = [line[1] for line in log[at + 1 :]]
			        assert not seen.intersection(values) and len(set(values)) == len(values)
			        seen.update(values)
			        assert all(float(line[0]) >= began[clone] and float(line[2]) >= began[clone] for line in log[at + 1 :])
			    # Where it stood still, both have one value, or none of that line.
			    assert logs[0][at][1] != logs[1][at][1] or logs[0][at][0] == logs[1][at][0]
		END
		rm -rf "$snap"
	done
}

@test "warm-up: forks of a VM that runs: commands in each, what each began with, numbers of their own, and what a fork forks" {
	export TMPDIR=$dir # of mayfly clone
	start_mayfly run -k "$KERNEL" -i "$INITRAMFS" -m 128M --forkable --control "$ctl" -- \
		sh -c 'for i in 1 2 3; do echo $i > /tmp/x; echo "at $i"; read -r next; done'
	wait_said '^at 1'
	run_mayfly clone "$ctl" -n 2 -- sh -c 'cat /tmp/x /proc/sys/kernel/random/uuid; echo 9 > /tmp/x'
	assert_equal "$status" 0
	assert_equal "$(grep -c '^[12]: 1$' <<< "$output")" 2
	assert_equal "$(grep -oE '[0-9a-f-]{36}' <<< "$output" | sort -u | wc -l)" 2
	tell next
	wait_said '^at 2'
	"$MAYFLY" clone "$ctl" -n 1 --control "$dir/fork" -- sh -c 'echo 7 > /tmp/x; exec sleep inf' > /dev/null 3>&- &
	started+=($!)
	run_mayfly exec --wait=60s "$dir/fork" -- sh -c 'until grep 7 /tmp/x; do sleep 0.1; done'
	assert_equal "$output" 7
	tell next
	wait_said '^at 3'
	run_mayfly clone "$dir/fork" -n 1 -- cat /tmp/x
	assert_equal "$status" 0
	assert_equal "$output" '1: 7'
	run_mayfly clone "$ctl" -n 1 -- cat /tmp/x
	assert_equal "$output" '1: 3'
}
