#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2153,SC2154 # each test is a subshell; the variables are of helper.bash
#
# VMs in the background: when the caller returns, and with what; their logs, which are bounded.

# bats file_tags=flat
load helper

setup() {
	umask 022
	started=()
	vm=d$BASHPID.$BATS_TEST_NUMBER
	cd "$BATS_TEST_TMPDIR" || return 1
}

teardown() {
	"$MAYFLY" rm -f "$vm" "$vm-1" "$vm-2" > /dev/null 2>&1 || true
	end_test
}

# detach GUEST [OPTION...]: sets $status, $output and $stderr, of a caller whose streams are pipes.
detach() {
	run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" run --detach -k "$GUESTS/$1.elf" "${@:2}" < /dev/null
	echo "# the caller said: $stderr" # shown if the test fails
}

# member NAME: of the VM's object in `mayfly ps -a --json`.
member() {
	"$MAYFLY" ps --json -a | "$PYTHON" -c 'import json, sys
print(*[vm.get(sys.argv[2], "") for vm in json.load(sys.stdin) if vm["name"] == sys.argv[1]])' "$vm" "$1"
}

logged() {
	"$MAYFLY" logs "$vm" | grep -q "$1"
}

# log_size: of both halves.
log_size() {
	stat -c %s "$log" "$log~" 2> /dev/null | awk '{ sum += $1 } END { print sum + 0 }'
}

larger_than() {
	[ "$(log_size)" -gt "$1" ]
}

@test "detach: the caller prints the name and returns; the VM runs on, with a log" {
	local jail id
	for jail in --quiet --jail; do
		detach idle --name "$vm" "$jail"
		assert_equal "$status" 0
		assert_output "$vm"
		assert_equal "$(member state) $(member detached)" "running True"
		id=$(member pid)
		[ "$(ps -o sid= -p "$id" | tr -d ' ')" = "$id" ] || fail "it is in the caller's session"
		wait_for logged idle
		"$MAYFLY" logs -f "$vm" > followed 3>&- &
		started+=($!)
		run -0 "$MAYFLY" stop "$vm"
		wait "${started[-1]}"
		run -0 "$MAYFLY" logs "$vm"
		assert_output "$(< followed)"
		assert_line --index 0 --partial idle
		assert_line --partial 'mayfly: ended by a signal'
		run -0 "$MAYFLY" logs -f -n 1 "$vm"
		[[ ${#lines[@]} -eq 1 && $output == mayfly:* ]] || fail "the last line: $output"
		run -0 "$MAYFLY" logs -n 0 "$vm"
		assert_output ''
		run -143 "$MAYFLY" wait "$vm"
		log=$(member log)
		run -0 "$MAYFLY" rm "$vm"
		[ ! -e "$log" ] || fail "its log is left"
	done
}

@test "detach: clones in jails, which share the mount namespace that they begin with" {
	local id
	detach idle --name "$vm"
	run -0 --separate-stderr "$MAYFLY" clone "$vm" -n 2 --name "$vm" --jail --detach
	for vm in "$vm-1" "${vm%-1}-2"; do
		assert_equal "$(member state)" running
		id=$(member pid)
		assert_equal "$(find "/proc/$id/fd" -lname 'mnt:*' 2> /dev/null)" ''
	done
	vm=${vm%-2}
	# It is the end of all processes that is waited for: the name is free at once.
	run -0 "$MAYFLY" snapshot "$vm" snap
	# shellcheck disable=SC2016 # for bash, without anything that would take time in between
	run -0 --separate-stderr bash -c 'for _ in {1..8}; do
		"$0" rm -f "$1" && "$0" restore snap --name "$1" --jail --detach || exit
	done' "$MAYFLY" "$vm-1"
}

@test "detach: the process that writes the log goes on after SIGSTOP and SIGCONT" {
	local writer
	detach idle --name "$vm"
	assert_equal "$status" 0
	wait_for logged idle
	writer=$(pgrep -x mayfly-log -s "$(member pid)")
	kill -STOP "$writer"
	wait_for grep -q '^State:.[Tt]' "/proc/$writer/status" # t: below strace
	kill -CONT "$writer"
	run -0 "$MAYFLY" stop "$vm"
	run -143 "$MAYFLY" wait "$vm"
	wait_for logged 'mayfly: ended by a signal'
}

@test "detach: what fails before the guest runs is the caller's" {
	detach nowhere-such --name "$vm"
	assert_equal "$status" 125
	assert_output ''
	assert_one_line nowhere-such
	detach spin --name "$vm" --boot-timeout 300ms -- true
	assert_equal "$status" 125
	assert_output ''
	assert_regex "$stderr" 'mayfly: .*has not started'
	assert_equal "$(member state) $(member code)" "ended 125"
	detach idle --name "$vm"
	assert_equal "$status" 0
	detach idle --name "$vm"
	assert_equal "$status" 125
	assert_one_line "$(member pid)"
}

@test "detach: a signal to the caller ends a VM that has not started" {
	start_mayfly run --detach --name "$vm" -k "$GUESTS/spin.elf" --boot-timeout 1h -- true
	is_starting() { [ "$(member state)" = starting ]; }
	wait_for is_starting
	kill -TERM "$pid"
	wait_end
	assert_equal "$status" 143
	assert_equal "$(member code)" 143
}

@test "detach: the VM has none of the caller's descriptors" {
	local id
	exec 7> held
	detach idle --name "$vm"
	exec 7>&-
	for id in $(member pid) $(pgrep -P "$(member pid)"); do
		! find "/proc/$id/fd" -lname "*/held" | grep -q . || fail "process $id has it"
	done
}

@test "detach: the log is bounded, and is followed over its rotation" {
	local enough=300000
	[ -z "${LAB:-}" ] || enough=80000 # each byte is an exit to mayfly, which is slow there
	detach flood --name "$vm" --log-max 128K
	assert_equal "$status" 0
	log=$(member log)
	"$MAYFLY" logs -f "$vm" > followed 3>&- &
	started+=($!)
	for _ in {1..5}; do
		wait_for larger_than 32768
		[ "$(log_size)" -le 131072 ] || fail "the log has $(log_size) bytes"
		sleep 0.3
	done
	has_followed() { [ "$(stat -c %s followed)" -gt "$enough" ]; }
	wait_for has_followed
	run -0 "$MAYFLY" stop "$vm"
	wait "${started[0]}"
	tail -n 1 followed | grep -q 'mayfly: ended by a signal'
	[ "$(log_size)" -le 131072 ] || fail "the log has $(log_size) bytes"
	# What remains is the end of what was followed, both halves in their order.
	"$MAYFLY" logs "$vm" > whole
	cmp whole <(tail -c "$(stat -c %s whole)" followed)
	"$MAYFLY" logs -n 3000 "$vm" > lines
	cmp lines <(tail -n 3000 whole)
}

@test "detach: --rm leaves nothing, of a VM without a name" {
	local log
	detach idle --rm
	assert_equal "$status" 0
	vm=$output
	[[ $vm =~ ^[0-9a-f]{8}$ ]] || fail "its name: $vm"
	log=$(member log)
	[ -e "$log" ]
	run -0 "$MAYFLY" stop "$vm"
	run -125 "$MAYFLY" wait "$vm"
	gone() { [[ ! -e $log && ! -e $log~ ]]; }
	wait_for gone
}

@test "logs: a VM in the foreground has none" {
	start_flat idle --name "$vm"
	wait_said idle
	run -125 "$MAYFLY" logs "$vm"
	run -0 "$MAYFLY" stop "$vm"
	wait_end
	run -125 "$MAYFLY" logs nobody-has-this-name
	run_flat idle --log-max 1K
	assert_equal "$status" 125
	run_mayfly run -d -r x
	assert_one_line detach
}
