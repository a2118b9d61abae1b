#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2034,SC2154 # tests are subshells, variables are of helper.bash
#
# SIGKILL at each system call of a snapshot, of its client and of the process that writes the files: the old snapshot or
# the new one is whole, the guest goes on, and the next snapshot of the same name works.

# bats file_tags=flat
load helper

setup() {
	snapshot_names
	[ -z "${TRACE_DIR:-}" ] || skip "strace traces nothing that strace traces already"
	command -v strace > /dev/null || skip "no strace here"
}

teardown() {
	kill_started
	end_test
}

# keep [OPTION...]: starts the guest that keeps what it reads; it says all of it after each line.
keep() {
	start_flat keep -m 20M --control "$ctl" "$@"
	wait_said '^keep'
}

# tell_and_wait LINE
tell_and_wait() {
	tell "$1"
	wait_said "^$1"
}

# kept DIR: what the guest of this snapshot has kept, a line for each.
kept() {
	timeout -k 5 "$LIMIT" "$MAYFLY" restore "$1" <<< $'\n\4' 2> "$dir/restore.err" | tr -d '\r' ||
		fail "restore '$1': $(< "$dir/restore.err")"
}

# calls FILE: of a trace by strace -f, each system call as NAME and its number among those of that name. Execve is strace's.
calls() {
	awk 'match($0, /^[0-9]+ +[a-z_0-9]+\(/) {
		name = $2
		sub(/\(.*/, "", name)
		if (name != "execve")
			print name, ++seen[name]
	}' "$1"
}

# Each inject counts the calls of one name, so a trace of a whole snapshot comes first: it has the names.
@test "killed: the client, at each of its system calls: the old snapshot or the new one, and the guest goes on" {
	local name number code text old=0 new=0
	truncate -s 1M "$dir/disk"
	keep -d "$dir/disk:overlay"
	tell_and_wait old
	run "$MAYFLY" snapshot "$ctl" "$dir/first"
	assert_success
	tell_and_wait new
	cp -a "$dir/first" "$snap"
	strace -f -qq -o "$dir/trace" "$MAYFLY" snapshot "$ctl" "$snap"
	calls "$dir/trace" > "$dir/calls"
	while read -r name number; do
		rm -rf "$snap"
		cp -a "$dir/first" "$snap"
		code=0
		strace -qq -o /dev/null -e inject="$name:signal=KILL:when=$number" "$MAYFLY" snapshot "$ctl" "$snap" \
			2> "$dir/why" || code=$?
		assert_equal "$name $number: $code" "$name $number: 137"
		text=$(kept "$snap")
		case $text in
			old) old=$((old + 1)) ;;
			$'old\nnew') new=$((new + 1)) ;;
			*) fail "$name $number: '$text'" ;;
		esac
		run "$MAYFLY" snap check "$snap"
		assert_success
		wait_for "$MAYFLY" snapshot "$ctl" "$snap" # the writer of the one before may not have ended
		assert_equal "$(kept "$snap")" $'old\nnew'
		[ ! -e "$dir/.snap.new" ]
	done < "$dir/calls"
	echo "# $old times the old snapshot, $new times the new one"
	[ "$old" -gt 60 ] # it is the new one from the rename on
	[ "$new" -gt 5 ]
	tell_and_wait alive
}

# Until the snapshot has its name, the VM is all that there is.
@test "killed: the client with --stop: the VM goes on, or has ended and the new snapshot is whole" {
	local name number ended=0 went_on=0
	keep
	tell_and_wait old
	run "$MAYFLY" snapshot "$ctl" "$dir/first"
	assert_success
	cp -a "$dir/first" "$snap"
	strace -f -qq -o "$dir/trace" "$MAYFLY" snapshot --stop "$ctl" "$snap"
	wait_end
	calls "$dir/trace" > "$dir/calls"
	while read -r name number; do
		if has_ended "$pid"; then
			start_mayfly restore --control "$ctl" "$dir/first"
			tell_and_wait new
		fi
		rm -rf "$snap"
		cp -a "$dir/first" "$snap"
		strace -qq -o /dev/null -e inject="$name:signal=KILL:when=$number" "$MAYFLY" snapshot --stop "$ctl" "$snap" \
			2> "$dir/why" || true
		# It has ended, or answers: it is paused no longer than until it has seen the client go.
		tell "$name.$number"
		wait_for is_over "$name.$number"
		if has_ended "$pid"; then
			ended=$((ended + 1))
			assert_regex "$(kept "$snap")" new
		else
			went_on=$((went_on + 1))
			assert_regex "$(kept "$snap")" old
		fi
	done < "$dir/calls"
	echo "# $ended times it ended, $went_on times it went on"
	[ "$ended" -gt 0 ]
	[ "$went_on" -gt 60 ]
}

is_over() {
	has_ended "$pid" || said "^$1"
}

# vm_process: of the VM that was started: that has vCPUs. Sets $vm.
vm_process() {
	local task
	for vm in "$pid" $(pgrep -P "$pid"); do
		for task in "/proc/$vm/task"/*/comm; do
			[ "$(< "$task")" != vcpu0 ] || return 0
		done
	done
	fail "no process with vCPUs"
}

# traced OPTION... -- COMMAND...: COMMAND, while strace with the options follows the VM's process. Sets $status and $output.
traced() {
	local options=() tracer
	while [ "$1" != -- ]; do
		options+=("$1")
		shift
	done
	rm -f "$dir/attached"
	strace -f -o "$dir/trace" "${options[@]}" -p "$vm" 2> "$dir/attached" 3>&- &
	tracer=$!
	wait_for grep -q attached "$dir/attached"
	run timeout -k 5 "$LIMIT" "${@:2}"
	kill "$tracer"
	wait "$tracer" || true
}

# The VM's own threads make none of these calls, but for write: that to the file `state` is meant.
@test "killed: the process that writes the files, at each of its system calls: the old snapshot stays, without and in a jail" {
	local name number jail only
	for jail in '' --jail; do
		[ -z "$jail" ] || [ "$(id -u)" = 0 ] || continue
		# shellcheck disable=SC2086 # an option, or none
		keep $jail
		vm_process
		tell_and_wait old
		run "$MAYFLY" snapshot "$ctl" "$snap"
		assert_success
		tell_and_wait new
		traced -e trace=rt_sigaction,close_range,pread64,pwrite64,exit_group -- "$MAYFLY" snapshot "$ctl" "$dir/other"
		assert_success
		{ calls "$dir/trace"; echo write 1; } > "$dir/calls"
		[ "$(wc -l < "$dir/calls")" -gt 10 ]
		while read -r name number; do
			only=()
			[ "$name" != write ] || only=(-P "$dir/.snap.new/state")
			traced "${only[@]}" -e "inject=$name:signal=KILL:when=$number" -- "$MAYFLY" snapshot "$ctl" "$snap"
			assert_equal "$name $number: $status" "$name $number: 125"
			assert_equal "$(kept "$snap")" old
			[ ! -e "$dir/.snap.new" ]
			run "$MAYFLY" snap check "$snap"
			assert_success
		done < "$dir/calls"
		run "$MAYFLY" snapshot "$ctl" "$snap"
		assert_success
		assert_equal "$(kept "$snap")" $'old\nnew'
		tell_and_wait alive
		kill -KILL "$pid"
		wait_for has_ended "$pid"
		rm -rf "$snap" "$dir/other"
	done
}

@test "killed: snap rm removes a snapshot beside which a client was killed" {
	keep
	run "$MAYFLY" snapshot "$ctl" "$snap"
	assert_success
	strace -qq -o /dev/null -e inject=renameat2:signal=KILL "$MAYFLY" snapshot "$ctl" "$snap" 2> "$dir/why" || true
	[ -e "$dir/.snap.new" ]
	run "$MAYFLY" snap rm "$snap"
	assert_success
	[ ! -e "$snap" ]
	[ ! -e "$dir/.snap.new" ]
	run "$MAYFLY" snapshot "$ctl" "$snap"
	assert_success
	tell_and_wait alive
}
