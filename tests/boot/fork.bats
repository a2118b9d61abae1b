#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2034,SC2154 # tests are subshells, variables are of helper.bash
#
# Forks of running VMs (--forkable): flat guests, whose memory is what they say.

# bats file_tags=flat
load helper

setup() {
	snapshot_names
	export TMPDIR=$dir/tmp # of mayfly clone
	mkdir "$TMPDIR"
}

teardown() {
	kill_started
	end_test
}

none_left() {
	! ls -d "$TMPDIR"/mayfly-clone-* 2> /dev/null
}

# fork VM CONTROL [OPTION...]: a VM that begins as the one at the socket VM; its own is CONTROL.
fork() {
	"$MAYFLY" clone "$1" -n 1 --control "$2" --timeout 60s "${@:3}" > "$2.out" 2>&1 3>&- &
	started+=($!)
	await "its socket" test -S "$2"
}

# await WHAT COMMAND [ARG...]: until that succeeds.
await() {
	local end=$((SECONDS + LIMIT))
	until "${@:2}"; do
		[ "$SECONDS" -lt "$end" ] || fail "not there in time: $1; $(tail -n 3 "$dir"/*.out)"
		sleep 0.05
	done
}

# lines_of VM: what the guest that keeps its lines has, as a VM says that is restored from a snapshot of it, which ends it.
lines_of() {
	"$MAYFLY" snapshot --stop "$1" "$1.snap" || fail "no snapshot of $1"
	run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" restore "$1.snap" <<< $'end\n\4'
	strip_returns
}

keep() {
	start_flat keep -m 64M --forkable --control "$ctl" "$@"
	wait_said '^keep'
}

@test "fork: each VM has what the guest had then, and both go on" {
	keep
	tell one
	wait_said '^one'
	fork "$ctl" "$dir/a"
	tell two
	wait_said '^two'
	fork "$ctl" "$dir/b"
	fork "$ctl" "$dir/c" # nothing has changed
	tell three
	wait_said '^three'
	lines_of "$dir/a"
	assert_output $'one\nend'
	lines_of "$dir/b"
	assert_output $'one\ntwo\nend'
	lines_of "$dir/c"
	assert_output $'one\ntwo\nend'
	tell $'\4'
	wait_end
	assert_equal "$status" 0
	await "the removal of what forks began with" none_left
}

# All that VMs share is a sealed memfd, and no mapping of it can be written but the source's before the first fork.
@test "fork: memory is shared, and nobody can write to it" {
	keep
	run grep -c 'rw-s.*memfd:guest-ram' "/proc/$pid/maps"
	refute_output 0
	fork "$ctl" "$dir/a"
	run grep -c 'rw-s.*memfd:guest-ram' "/proc/$pid/maps"
	assert_output 0
	local vm
	vm=$("$MAYFLY" inspect "$dir/a" | sed -n 's/.*"vm_pid": \([0-9]*\).*/\1/p')
	run grep -c 'rw-p.*memfd:guest-ram' "/proc/$vm/maps"
	refute_output 0
	local fd found=0
	for fd in "/proc/$vm/fd"/*; do
		[[ $(readlink "$fd") == *memfd:guest-ram* ]] || continue
		found=1
		run bash -c 'echo x >> "$1"' bash "$fd"
		assert_failure
		assert_output --partial 'Operation not permitted'
	done
	assert_equal "$found" 1
}

@test "fork: while the guest writes, also of forks, whose guests write as well" {
	local at=$ctl i
	start_flat pages -m 64M --forkable --control "$ctl"
	wait_said '^still whole'
	for i in 1 2 3 4; do
		fork "$at" "$dir/f$i"
		at=$dir/f$i
		[ "$i" != 2 ] || at=$ctl # the source again
	done
	for i in 1 2 3 4; do
		await "$i goes on" grep -q 'still whole' "$dir/f$i.out"
		test -S "$dir/f$i" || fail "what VM $i says comes when it has ended"
	done
	: > "$dir/out"
	wait_said '^still whole'
	run grep -h wrong "$dir"/f*.out "$dir/out"
	assert_failure
}

# 12,288 pages, each of which is a piece of its own: a layer lists them, and VMs map few of them.
@test "fork: of a guest that has written to pages far apart" {
	start_flat scatter -m 256M --forkable --control "$ctl"
	wait_said '^done'
	fork "$ctl" "$dir/a"
	: > "$dir/out"
	tell ''
	wait_said '^done'
	fork "$ctl" "$dir/b"
	fork "$dir/b" "$dir/c"
	: > "$dir/out"
	tell ''
	wait_said '^done' # it has checked each page
	local vm
	for vm in a b c; do
		"$MAYFLY" snapshot --stop "$dir/$vm" "$dir/$vm.snap" || fail "no snapshot of $vm"
		run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" restore "$dir/$vm.snap" <<< $'x\4'
		strip_returns
		assert_equal "$output" "done"
	done
}

# 18 of the source: more than there can be layers. Then a chain of 17.
@test "fork: more often than there can be layers, and forks of forks" {
	local i want=
	keep
	for ((i = 1; i <= 18; i++)); do
		tell "line $i"
		wait_said "^line $i"
		fork "$ctl" "$dir/f$i"
		want+="line $i"$'\n'
	done
	run bash -c "grep -c memfd:guest-ram /proc/$pid/maps"
	[ "$output" -le 64 ] || fail "$output mappings"
	lines_of "$dir/f9"
	assert_output "$(printf 'line %d\n' {1..9})"$'\nend'
	for ((i = 19; i <= 35; i++)); do
		fork "$dir/f$((i - 1))" "$dir/f$i"
	done
	lines_of "$dir/f35"
	assert_output "${want}end"
}

@test "fork: of a snapshot restored with --forkable, and snapshots of forks and their source are complete" {
	keep
	tell one
	wait_said '^one'
	fork "$ctl" "$dir/a"
	tell two
	wait_said '^two'
	run_mayfly snapshot --diff "$ctl" "$snap"
	assert_success
	run_mayfly snap check "$snap"
	assert_success
	run_mayfly snapshot --diff "$dir/a" "$dir/a.snap"
	assert_success
	kill_started
	start_mayfly restore --forkable --control "$dir/r" "$snap"
	await "its socket" test -S "$dir/r"
	tell three
	wait_said '^three'
	fork "$dir/r" "$dir/b"
	tell four
	wait_said '^four'
	fork "$dir/r" "$dir/c"
	lines_of "$dir/b"
	assert_output $'one\ntwo\nthree\nend'
	lines_of "$dir/c"
	assert_output $'one\ntwo\nthree\nfour\nend'
	run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" restore "$dir/a.snap" <<< $'end\n\4'
	strip_returns
	assert_output $'one\nend'
}

@test "fork: VMs live on when their source, or the command that has started others, is killed" {
	keep
	tell one
	wait_said '^one'
	fork "$ctl" "$dir/a"
	kill -KILL "$pid"
	wait_end
	fork "$dir/a" "$dir/b"
	kill -KILL "${started[-1]}" # its clone ends, and leaves nothing
	await "the end of its VM" bash -c "! test -S $dir/b"
	fork "$dir/a" "$dir/c"
	lines_of "$dir/c"
	assert_output $'one\nend'
	lines_of "$dir/a"
	await "the removal of what forks began with" none_left
	assert_output $'one\nend'
}

@test "fork: in jails" {
	[ $EUID -eq 0 ] || skip "a jail with its own uid needs root"
	keep --jail
	tell one
	wait_said '^one'
	fork "$ctl" "$dir/a" --jail
	tell two
	wait_said '^two'
	fork "$ctl" "$dir/b" --jail
	fork "$dir/b" "$dir/c"
	lines_of "$dir/a"
	assert_output $'one\nend'
	lines_of "$dir/c"
	assert_output $'one\ntwo\nend'
}

@test "fork: into the background, of one that is there" {
	local vm=f$BASHPID
	keep
	tell one
	wait_said '^one'
	run_mayfly clone "$ctl" -n 2 --name "$vm" --detach
	assert_equal "$status" 0
	run_mayfly clone "$vm-2" -n 1 --name "$vm-x" --detach
	assert_equal "$status" 0
	none_left
	run -0 "$MAYFLY" rm -f "$vm-1" "$vm-2"
	run -0 "$MAYFLY" snapshot --stop "$vm-x-1" "$snap"
	run -0 "$MAYFLY" rm -f "$vm-x-1"
	run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" restore "$snap" <<< $'end\n\4'
	strip_returns
	assert_output $'one\nend'
}

@test "fork: what a VM cannot share is refused; without --forkable, a clone is of a snapshot" {
	start_flat keep -m 64M --control "$ctl"
	wait_said '^keep'
	tell one
	wait_said '^one'
	fork "$ctl" "$dir/a"
	lines_of "$dir/a"
	assert_output $'one\nend'
	run_mayfly run --forkable --boot=template -k "$GUESTS/keep.elf" --dry-run
	assert_success
	# strace(1) would not keep the name
	run bash -c 'exec -a mayfly-fork "$0" 9,9 x' "${TRACED:-$MAYFLY}"
	assert_equal "$status" 125
	assert_output --partial 'clone` starts a fork'
}
