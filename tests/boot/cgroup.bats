#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2153,SC2154 # each test is a subshell; the variables are of helper.bash
#
# Control groups of version 2 with controllers, as the jailer makes them: a machine's own, so they need root and a host (or
# the lab) whose tree has them.

load helper

setup() {
	started=()
	parent='' # until there may be one
	base=$BATS_TEST_TMPDIR/base
	mkdir -p "$base"
	[ "$EUID" -eq 0 ] || skip "only root may make control groups"
	top=$(awk '$0 ~ " - cgroup2 " { print $5; exit }' /proc/self/mountinfo)
	[ -n "$top" ] || skip "control groups of version 2 are not mounted"
	for controller in cpu cpuset memory pids; do
		grep -qw "$controller" "$top/cgroup.controllers" || skip "version 2 has no controller $controller here"
	done
	parent=mayfly-$$
}

teardown() {
	kill_started
	if [ -n "$parent" ] && [ -d "$top/$parent" ]; then
		wait_for find "$top/$parent" -depth -type d -exec rmdir {} +
	fi
}

jail() {
	run_mayfly jailer --id "$1" --exec-file "$GUESTS/look" --uid 1234 --gid 1235 --chroot-base-dir "$base" \
		--cgroup-version 2 "${@:2}"
}

# start_jail ID ARG...: one that stays. Sets $pid, and $output to what it says.
start_jail() {
	local root=$base/look/$1/root
	"$MAYFLY" jailer --id "$1" --exec-file "$GUESTS/look" --uid 1234 --gid 1235 --chroot-base-dir "$base" \
		--cgroup-version 2 "${@:2}" -- --out --stay < /dev/null 3>&- &
	started+=($!)
	wait_for test -e "$root/run/look"
	pid=$(< "$root/look.pid")
	output=$(< "$root/run/look")
}

value() {
	cat "$top/$parent/$1"
}

@test "the Go SDK's cpuset, in groups below groups: controllers are enabled in each" {
	start_jail a --cgroup cpuset.mems=0 --cgroup cpuset.cpus=0 --cgroup cpu.max='50000 100000' --parent-cgroup "$parent/x/y"
	assert_equal "$(grep '^0:' "/proc/$pid/cgroup")" "0::/$parent/x/y/a"
	assert_equal "$(value x/y/a/cpuset.cpus)" 0
	assert_equal "$(value x/y/a/cpuset.mems)" 0
	assert_equal "$(value x/y/a/cpu.max)" '50000 100000'
	grep -qx 'cpus 1' <<< "$output"
	local dir
	for dir in . x x/y; do
		grep -qw cpuset "$top/$parent/$dir/cgroup.subtree_control"
		grep -qw cpu "$top/$parent/$dir/cgroup.subtree_control"
	done
	assert_equal "$(value x/y/a/cgroup.subtree_control)" ''
	# A second one beside it, where all is enabled already; and none in its place.
	start_jail b --cgroup cpuset.cpus=0 --parent-cgroup "$parent/x/y"
	assert_equal "$(grep '^0:' "/proc/$pid/cgroup")" "0::/$parent/x/y/b"
	rm -r "$base/look/a"
	jail a --cgroup cpuset.cpus=0 --parent-cgroup "$parent/x/y"
	assert_equal "$status" 125
	assert_one_line "control group '$top/$parent/x/y/a' has processes"
	jail y --cgroup cpuset.cpus=0 --parent-cgroup "$parent/x"
	assert_equal "$status" 125
	assert_one_line "groups in control group '$top/$parent/x/y' have processes"
}

@test "limits hold, and the group that was left is taken over by the next with the id" {
	local pids
	for pids in 11 12; do
		jail a --cgroup memory.max=64M --cgroup pids.max="$pids" --parent-cgroup "$parent" --new-pid-ns
		assert_equal "$status" 0
		wait_for grep -qx 'populated 0' "$top/$parent/a/cgroup.events"
		assert_equal "$(value a/memory.max)" 67108864
		assert_equal "$(value a/pids.max)" "$pids"
		rm -r "$base/look"
	done
}

@test "a refusal of the kernel is reported with the file, and the groups that were made are removed" {
	jail a --cgroup cpu.max=often --parent-cgroup "$parent/x"
	assert_equal "$status" 125
	assert_one_line "write 'often' to '$top/$parent/x/a/cpu.max': Invalid argument"
	[ ! -e "$top/$parent" ]
	assert_equal "$(ls -A "$base")" ''
	jail a --cgroup cpu.maximum=1 --parent-cgroup "$parent"
	assert_equal "$status" 125
	assert_one_line "open '$top/$parent/a/cpu.maximum': No such file or directory"
	[ ! -e "$top/$parent" ]
}

@test "a parent with processes of its own cannot have groups with controllers" {
	mkdir "$top/$parent"
	sleep 1000 3>&- &
	started+=($!)
	echo $! > "$top/$parent/cgroup.procs"
	jail a --cgroup memory.max=64M --parent-cgroup "$parent"
	assert_equal "$status" 125
	assert_one_line "write '\+memory' to '$top/$parent/cgroup.subtree_control': the group has processes itself"
}
