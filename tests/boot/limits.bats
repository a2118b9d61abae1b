#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2153,SC2154 # each test is a subshell; the variables are of helper.bash
#
# The limits of a jail as users get them who are not root: in a control group that is delegated, and not otherwise.

load helper

setup() {
	started=()
	cd "$BATS_TEST_TMPDIR" || return 1
	group='' # until there may be one
	[ "$EUID" -eq 0 ] || skip "needs root, to delegate a control group"
	MAYFLY=${TRACED:-$MAYFLY} # strace is a process of the group
}

teardown() {
	kill_started
	[ -z "$group" ] || wait_for clear_group
}

# clear_group: removes what a test has left, which fails while processes end.
clear_group() {
	[ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} +
}

# delegate: makes $group, which user 1234 may use as systemd's Delegate=yes lets a user.
delegate() {
	local controller
	top=$(awk '$0 ~ " - cgroup2 " { print $5; exit }' /proc/self/mountinfo)
	[ -n "$top" ] || skip "control groups of version 2 are not mounted"
	for controller in cpu memory pids; do
		grep -qw "$controller" "$top/cgroup.subtree_control" || skip "version 2 has no controller $controller here"
	done
	group=$top/mf-limits-$$-$BATS_TEST_NUMBER
	mkdir "$group"
	hand_over "$group"
}

hand_over() {
	chown 1234:1234 "$1" "$1/cgroup.procs" "$1/cgroup.subtree_control" "$1/cgroup.threads"
}

# in_group GROUP COMMAND...: as its only process.
# shellcheck disable=SC2016 # for the inner shell
in_group=(bash -c 'echo $$ > "$1/cgroup.procs"; shift; exec "$@"' bash)

# run_in_group COMMAND...: as user 1234, in the delegated group.
run_in_group() {
	run --separate-stderr timeout -k 5 "$LIMIT" "${in_group[@]}" "$group" "${as_nobody[@]}" "$@" < /dev/null
	strip_returns
}

# start_in GROUP JAIL [OPTION...]: a guest that stays, as user 1234. Sets $vm, the process in the jail.
start_in() {
	local mayfly=$MAYFLY
	MAYFLY=${in_group[0]} start_mayfly "${in_group[@]:1}" "$1" "${as_nobody[@]}" "$mayfly" run -k "$GUESTS/idle.elf" --jail="$2" "${@:3}"
	wait_said idle
	vm=$(pgrep -P "$pid" -x mayfly)
}

end_it() {
	kill -TERM "$pid"
	wait_end
	assert_equal "$status" 143
}

# assert_clean: nothing is left in the group, and it can be entered again.
assert_clean() {
	assert_equal "$(find "$group" -mindepth 1 -type d)" ''
	assert_equal "$(< "$group/cgroup.subtree_control")" ''
}

@test "limits: a user has them in a group that is delegated, and nothing is left of it" {
	delegate
	start_in "$group" strict,memory-max=300M,pids-max=40,cpu-max='50000 100000'
	assert_equal "$(grep ^0: "/proc/$vm/cgroup")" "0::/${group##*/}/mayfly/run-$pid"
	assert_equal "$(< "$group/mayfly/run-$pid/memory.max")" $((300 << 20))
	assert_equal "$(< "$group/mayfly/run-$pid/pids.max")" 40
	assert_equal "$(< "$group/mayfly/run-$pid/cpu.max")" '50000 100000'
	grep -qx "$vm" "$group/mayfly/run-$pid/cgroup.procs"
	assert_equal "$(< "$group/mayfly-outer/cgroup.procs")" "$pid"
	end_it
	assert_clean
	# As often as one likes, with passt as well.
	have_route
	for jail in id=a,memory-max=300M id=a,pids-max=50; do
		run_in_group "$MAYFLY" run --jail="$jail" -n user -k "$GUESTS/hello.elf"
		assert_equal "$status" 0
		assert_output hello
		assert_clean
	done
	# The limit holds.
	run_in_group "$MAYFLY" run --jail=pids-max=3 -k "$GUESTS/hello.elf"
	assert_equal "$status" 125
	assert_one_line 'Resource temporarily unavailable'
	assert_clean
}

# Every limit, with strict and without: an error, and no guest runs.
assert_no_limits() {
	local jail
	for jail in memory-max=300M strict,cpu-max=50000 pids-max=40 id=x,io-max='8:0 wbps=1000000'; do
		run_in_group "$MAYFLY" run --jail="$jail" -k "$GUESTS/hello.elf"
		assert_equal "$status" 125
		assert_output ''
		assert_one_line "$1"
	done
	run_in_group "$MAYFLY" run --jail -k "$GUESTS/hello.elf" # the jail itself needs none
	assert_equal "$status" 0
}

@test "limits: where nothing is delegated, one that was asked for is an error, with the line that works" {
	delegate
	chown -R 0:0 "$group"
	assert_no_limits 'systemd-run --user --scope -p Delegate=yes mayfly'
	# Of the three, only one.
	chown 1234 "$group"
	assert_no_limits 'systemd-run --user --scope -p Delegate=yes mayfly'
	assert_equal "$(find "$group" -mindepth 1 -type d)" ''
}

@test "limits: other processes in the group stay where they are, and are an error" {
	delegate
	sleep 1000 3>&- &
	started+=($!)
	echo $! > "$group/cgroup.procs"
	assert_no_limits "has other processes \(such as $!\).* systemd-run --user"
	assert_clean
	assert_equal "$(< "$group/cgroup.procs")" "$!"
}

@test "limits: without a controller, or without cgroup v2, one is an error, also for root" {
	delegate
	run_in_group "$MAYFLY" run --jail=io-max='8:0 wbps=1000000' -k "$GUESTS/hello.elf" # no such device
	assert_equal "$status" 125
	assert_one_line 'io.max'
	assert_clean
	local without=(unshare -m bash -c 'umount -a -t cgroup2; exec "$@"' bash)
	for user in "${as_nobody[*]}" ''; do
		# shellcheck disable=SC2086 # an empty list
		run --separate-stderr "${without[@]}" ${user:+"${as_nobody[@]}"} "$MAYFLY" run -k "$GUESTS/hello.elf" --jail=memory-max=1G
		assert_equal "$status" 125
		assert_output ''
		assert_one_line 'jail: limits: cgroup v2 is not mounted'
	done
	# A mount that is read-only, as containers have it.
	# shellcheck disable=SC2016 # for the inner shell
	run --separate-stderr unshare -m bash -c 'mount -o remount,ro,bind "$0"; exec "$@"' "$top" "$MAYFLY" run -k "$GUESTS/hello.elf" --jail=memory-max=1G
	assert_equal "$status" 125
	assert_one_line 'jail: limits: .*read-only'
}

@test "limits: two at once in one group, and one that was killed" {
	delegate
	# Both are in the group when they start; the first to find the other one there waits.
	start_in "$group" memory-max=300M
	local first=$pid
	mkdir "$group/more"
	chown 1234:1234 "$group/more/cgroup.procs"
	sleep 1000 3>&- &
	started+=($!)
	echo $! > "$group/more/cgroup.procs" # a group that somebody made in the delegated one: its processes do not matter
	run_in_more() { run --separate-stderr "${in_group[@]}" "$group/more" "${as_nobody[@]}" "$MAYFLY" run --jail=memory-max=200M,pids-max=30 -k "$GUESTS/hello.elf"; }
	run_in_more
	assert_equal "$status" 0
	assert_equal "$(< "$group/mayfly/run-$first/memory.max")" $((300 << 20))
	kill -KILL "$first"
	wait_for has_ended "$first"
	wait_for grep -qx 'populated 0' "$group/mayfly/run-$first/cgroup.events"
	run_in_more
	assert_equal "$status" 0
	[ ! -e "$group/mayfly" ]
}

@test "limits: mayflys that start together in one group leave it to each other" {
	delegate
	# shellcheck disable=SC2016 # for the inner shell
	run_in_group bash -c 'for i in 1 2 3; do "$@" & done; exec "$@"' bash "$MAYFLY" run --jail=memory-max=300M -k "$GUESTS/hello.elf"
	echo "# $stderr"
	assert_equal "$status" 0
	all_ended() { [ -z "$(cat "$group/cgroup.procs" "$group"/*/cgroup.procs 2> /dev/null)" ]; }
	wait_for all_ended
	assert_equal "$(grep -c rebooted <<< "$stderr")" 4 # of what the guests say, the bytes may be mixed
	assert_clean
}

@test "limits: a VM in the background has them, too" {
	delegate
	local run=$BATS_TEST_TMPDIR/run as
	chmod 711 "$BATS_TEST_TMPDIR" "$BATS_RUN_TMPDIR"
	install -d -o 1234 -g 1234 -m 700 "$run"
	as=("${as_nobody[@]}" env "XDG_RUNTIME_DIR=$run")
	run --separate-stderr timeout -k 5 "$LIMIT" "${in_group[@]}" "$group" "${as[@]}" "$MAYFLY" run --detach --name vm1 \
		--jail=id=vm1,memory-max=300M -k "$GUESTS/idle.elf" < /dev/null 3>&-
	echo "# $stderr"
	assert_equal "$status" 0
	assert_output vm1
	assert_equal "$(< "$group/mayfly/vm1/memory.max")" $((300 << 20))
	run "${as[@]}" "$MAYFLY" stop vm1
	assert_equal "$status" 0
	gone() { [ ! -e "$group/mayfly" ]; }
	wait_for gone
}

@test "limits: root keeps to a group that systemd has delegated, and else to the tree's root" {
	delegate
	chown -R 0:0 "$group"
	local mark=(python3 -c 'import os, sys; os.setxattr(sys.argv[1], "user.delegate", b"1")') where=${group#"$top"}
	start_root() {
		local mayfly=$MAYFLY
		MAYFLY=${in_group[0]} start_mayfly "${in_group[@]:1}" "$group$1" "$mayfly" run -k "$GUESTS/idle.elf" --jail=strict,memory-max=300M
		wait_said idle
		vm=$(pgrep -P "$pid" -x mayfly)
	}
	start_root ''
	assert_equal "$(grep ^0: "/proc/$vm/cgroup")" "0::/mayfly/run-$pid"
	end_it
	"${mark[@]}" "$group"
	start_root ''
	assert_equal "$(grep ^0: "/proc/$vm/cgroup")" "0::$where/mayfly/run-$pid"
	end_it
	assert_clean
	# DelegateSubgroup=: the service's processes are in a group below.
	mkdir "$group/supervisor"
	start_root /supervisor
	assert_equal "$(grep ^0: "/proc/$vm/cgroup")" "0::$where/mayfly/run-$pid"
	end_it
	[ ! -e "$group/mayfly" ]
	[ ! -e "$group/mayfly-outer" ]
}

@test "limits: in a container, in the subtree that it has" {
	delegate
	# A cgroup namespace with a mount of its own; then a mount of the subtree, as containers without a namespace have it.
	# shellcheck disable=SC2016 # for the inner shell
	local kind kinds=('unshare -mC bash -c "umount $0; mount -t cgroup2 none $0; exec \"\$@\"" "$0" "${@:2}"'
		'unshare -m bash -c "mount --bind $1 $0; exec \"\$@\"" "$0" "${@:2}"')
	for kind in "${kinds[@]}"; do
		for user in user root; do
			local as=("${as_nobody[@]}")
			[ "$user" = user ] || as=(env)
			run --separate-stderr timeout -k 5 "$LIMIT" "${in_group[@]}" "$group" bash -c "exec $kind" "$top" "$group" \
				"${as[@]}" "$MAYFLY" run --jail=strict,memory-max=300M,pids-max=40 -k "$GUESTS/hello.elf" < /dev/null
			strip_returns
			echo "# $user: $stderr"
			assert_equal "$status" 0
			assert_output hello
			assert_clean
			[ ! -e "$top/mayfly" ]
		done
	done
}

# The real one: a manager of user 1234, without a login or a bus. So whoever asks it for a scope is in its subtree already.
@test "limits: systemd-run --user, as the message says it" {
	command -v systemd-run > /dev/null || skip "needs systemd-run"
	local manager=/lib/systemd/systemd run=$BATS_TEST_TMPDIR/run as=("${as_nobody[@]}" env
		"XDG_RUNTIME_DIR=$BATS_TEST_TMPDIR/run" "HOME=$BATS_TEST_TMPDIR/run" DBUS_SESSION_BUS_ADDRESS=)
	[ -x "$manager" ] || skip "needs $manager"
	# systemd asks by this directory whether it has booted the machine. The lab is ours.
	[ -z "${LAB:-}" ] || mkdir -p /run/systemd/system
	[ -d /run/systemd/system ] || skip "this machine does not run systemd"
	delegate
	chmod 711 "$BATS_TEST_TMPDIR" "$BATS_RUN_TMPDIR"
	install -d -o 1234 -g 1234 -m 700 "$run"
	mkdir "$group/init.scope" "$group/session"
	chown -R 1234:1234 "$group/init.scope"
	hand_over "$group/session"
	"${in_group[@]}" "$group/init.scope" "${as[@]}" "$manager" --user > manager.log 2>&1 3>&- &
	started+=($!)
	wait_for test -S "$run/systemd/private"
	run_unit() {
		run --separate-stderr timeout -k 5 "$LIMIT" "${in_group[@]}" "$group/session" "${as[@]}" systemd-run --user -q "$@" < /dev/null
		strip_returns
		echo "# $stderr"
	}
	local limits=(run "--jail=strict,memory-max=300M,pids-max=40" -k "$GUESTS/hello.elf") kind
	# As a scope, and as a service, which a timer or a manager's own unit starts.
	for kind in --scope "-p Type=oneshot -p StandardOutput=truncate:$run/out"; do
		# shellcheck disable=SC2086 # options
		run_unit $kind -p Delegate=yes "$MAYFLY" "${limits[@]}"
		assert_equal "$status" 0
		[ "$kind" = --scope ] || output=$(tr -d '\r' < "$run/out" | grep -v ^mayfly:)
		assert_output hello
	done
	run_unit --scope -p Delegate=yes "$MAYFLY" doctor
	assert_line --regexp '^ok +cgroup '
	# With a shell in it.
	run_unit --scope -p Delegate=yes sh -c '"$@"; exit $?' sh "$MAYFLY" "${limits[@]}"
	assert_equal "$status" 125
	assert_one_line 'has other processes'
	[ -z "$(find "$group" -name 'mayfly*')" ]
}
