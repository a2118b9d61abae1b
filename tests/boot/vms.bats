#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2034,SC2153,SC2154 # each test is a subshell; the variables are of helper.bash
# Commands of Linux guests in the background, and what signals from outside come to there.

load helper

setup() {
	umask 022
	started=()
	vm=v$BASHPID.$BATS_TEST_NUMBER
}

teardown() {
	"$MAYFLY" rm -f "$vm" > /dev/null 2>&1 || true
	end_test
}

# detach [OPTION...] -- COMMAND...: of the initramfs. Sets $status, $output and $stderr.
detach() {
	run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" run --detach --name "$vm" --boot-timeout 10m -k "$KERNEL" \
		-i "$INITRAMFS" "$@" < /dev/null
	echo "# the caller said: $stderr" # shown if the test fails
}

logged() {
	"$MAYFLY" logs "$vm" | grep -q "$1"
}

@test "detach: the command runs on; exec, signals and stop reach it by the VM's name" {
	local jail
	for jail in --quiet --jail; do
		# shellcheck disable=SC2016 # the guest's variables
		detach "$jail" -- sh -c 'trap "echo got USR1" USR1; trap "echo got TERM; exit 5" TERM; hostname
			while :; do sleep 1; done'
		assert_equal "$status:$output" "0:$vm"
		run -3 timeout -k 5 "$LIMIT" "$MAYFLY" exec "$vm" -- sh -c 'hostname; exit 3' < /dev/null
		assert_output "$vm"
		wait_for logged "^$vm"
		run -0 "$MAYFLY" kill -s USR1 "$vm"
		wait_for logged 'got USR1'
		run -0 "$MAYFLY" stop "$vm"
		run -143 "$MAYFLY" wait "$vm"
		run -0 "$MAYFLY" logs -f "$vm"
		assert_line 'got TERM'
	done
}

@test "detach: a command that ends, and one that is not there" {
	detach -- sh -c 'echo out; echo err >&2; exit 7'
	assert_equal "$status:$output" "0:$vm"
	run -7 timeout -k 5 "$LIMIT" "$MAYFLY" wait "$vm"
	assert_output 7
	run -0 "$MAYFLY" logs -f "$vm"
	assert_line out
	assert_line err
	detach -- no-such-command
	assert_equal "$status:$output" "127:"
	assert_regex "$stderr" '^mayfly: .*no-such-command'
}
