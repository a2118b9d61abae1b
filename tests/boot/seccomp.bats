#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2154 # tests are subshells, variables are of helper.bash
# Each thread has a seccomp filter of its kind, and mayfly ends when one wants what that forbids. The probe is mayfly with
# threads that try (tests/probe/probe.c).

load helper

PROBED=${PROBED:-$B/mayfly-probe}

# Kinds of threads that only a VM without io_uring has.
sync_kinds='io_sync io_worker vsock_sync'

# A program with a socket as its stdin, whose stream has a thread of its own.
on_socket=("$PYTHON" -I -S -c 'import os, socket, sys
ends = socket.socketpair()
os.dup2(ends[0].fileno(), 0)
os.set_inheritable(ends[1].fileno(), True)
os.execvp(sys.argv[1], sys.argv[1:])')

# run_probe KIND:ATTEMPT [OPTION...]: a guest that would run on, with all kinds of threads. Sets $status and $stderr.
run_probe() {
	local what=$1
	shift
	[[ " $sync_kinds " != *" ${what%%:*} "* ]] || set -- --io-engine=sync "$@"
	[ "${what%%:*}" != outer ] || set -- --jail "$@"
	local on=()
	[ "${what%%:*}" != pump ] || on=("${on_socket[@]}")
	# No list has the calls that log and off allow.
	if [ -n "${TRACE_DIR:-}" ] && [[ "$*" != *seccomp* ]]; then
		run --separate-stderr env MAYFLY_PROBE="$what" TRACED="$PROBED" timeout -k 5 "$LIMIT" "${on[@]}" "$MAYFLY" \
			run -k "$GUESTS/spin.elf" --vsock "$BATS_TEST_TMPDIR/vsock" "$@" < /dev/null
	else
		run --separate-stderr env MAYFLY_PROBE="$what" timeout -k 5 "$LIMIT" "${on[@]}" "$PROBED" \
			run -k "$GUESTS/spin.elf" --vsock "$BATS_TEST_TMPDIR/vsock" "$@" < /dev/null
	fi
	rm -f "$BATS_TEST_TMPDIR/vsock"
}

# tries KIND CALL ATTEMPT...: each is the end, with one line about the thread and the call.
tries() {
	local kind=$1 thread=$2 attempt
	shift 2
	for attempt in "$@"; do
		run_probe "$kind:$attempt" -- command
		[ "$status" -eq 105 ] || fail "$kind, $attempt: status $status, $stderr"
		[ "$attempt" != tgkill ] || attempt='(getppid|tgkill)'
		assert_one_line "thread $thread wanted a system call that it may not make: $attempt \([0-9]+\)"
	done
}

all=(openat open execve socket ptrace mmap mprotect io_uring_setup io_uring_register clone kill tgkill ioctl)

# bats test_tags=flat
@test "seccomp: a vCPU's thread may do nothing but run its vCPU" {
	tries vcpu vcpu0 "${all[@]}" write
}

# bats test_tags=flat
@test "seccomp: the io loop's thread may do its I/O" {
	tries io io "${all[@]}" write
}

# bats test_tags=flat
@test "seccomp: the vsock loop's thread may connect Unix sockets" {
	tries vsock vsock "${all[@]}" write
}

# bats test_tags=flat
@test "seccomp: the process that unpacks an artifact may make files" {
	local attempt
	for attempt in "${all[@]}"; do
		run_probe "unpack:$attempt" --artifact "/out=$BATS_TEST_TMPDIR/out" -- command
		[ "$status" -eq 125 ] || fail "unpack, $attempt: status $status, $stderr"
		assert_one_line "artifact '/out': .*Bad system call"
		assert_equal "$(ls -A "$BATS_TEST_TMPDIR/out")" ''
	done
}

# bats test_tags=flat
@test "seccomp: without io_uring, the loops' threads and the worker may do their I/O" {
	local kind
	for kind in $sync_kinds; do
		tries "$kind" "${kind/_/-}" openat socket mmap io_uring_setup ioctl write
	done
}

# bats test_tags=flat
@test "seccomp: the threads of a command's streams may read and write them" {
	tries streams streams "${all[@]}" write
	tries pump input "${all[@]}" write
}

# bats test_tags=flat
@test "seccomp: the main thread may serve signals, and end" {
	tries main main "${all[@]}"
}

# bats test_tags=flat
@test "seccomp: the process outside of a jail may serve that, and end" {
	tries outer outer "${all[@]}" write
}

# claim_probe ATTEMPT [OPTION...]: of a member of a pool of $snap, whose guest runs. Sets $status and $stderr, which are the pool's.
claim_probe() {
	local probe=$PROBED
	[ -z "${TRACE_DIR:-}" ] || [[ "$*" == *seccomp* ]] || probe=$MAYFLY
	run --separate-stderr env MAYFLY_PROBE="claim:$1" TRACED="$PROBED" timeout -k 5 "$LIMIT" "$probe" \
		pool "$snap" --size 1 --socket "$BATS_TEST_TMPDIR/pool" "${@:2}" < /dev/null
	assert_equal "$status" 125
	assert_regex "$stderr" 'no member gets ready'
}

# bats test_tags=flat
@test "seccomp: the thread that waits for the client of a pool may take its claim" {
	local attempt snap=$BATS_TEST_TMPDIR/snap ctl=$BATS_TEST_TMPDIR/ctl
	start_flat spin -m 64M --control "$ctl" -- command
	wait_for test -S "$ctl"
	run -0 "$MAYFLY" snapshot --stop "$ctl" "$snap"
	wait_end
	for attempt in "${all[@]}" 'openat --jail'; do
		# shellcheck disable=SC2086 # words
		claim_probe $attempt
		attempt=${attempt% *}
		[ "$attempt" != tgkill ] || attempt='(getppid|tgkill)'
		assert_regex "$stderr" "thread claim wanted a system call that it may not make: $attempt \([0-9]+\)"
	done
	claim_probe crash:deaf # the main thread hears of nothing
	for attempt in crash stack 'crash --jail'; do
		# shellcheck disable=SC2086 # words
		claim_probe $attempt
		assert_regex "$stderr" 'crashed: SIGSEGV in thread claim at address 0x[0-9a-f]+'
	done
	for attempt in malloc 'openat --seccomp=log' 'openat --no-seccomp'; do
		# shellcheck disable=SC2086 # words
		claim_probe $attempt
		[[ $stderr != *wanted* ]]
	done
}

# bats test_tags=flat
@test "seccomp: the thread that serves Firecracker's API may read requests, and answer" {
	local attempt probe=$PROBED
	[ -z "${TRACE_DIR:-}" ] || probe=$MAYFLY
	for attempt in "${all[@]}" crash stack malloc; do
		run --separate-stderr env MAYFLY_PROBE="api:$attempt" TRACED="$PROBED" timeout -k 5 "$LIMIT" "$probe" \
			--api-sock "$BATS_TEST_TMPDIR/api" < /dev/null
		if [[ $attempt == @(crash|stack) ]]; then
			assert_equal "$attempt $status" "$attempt 139"
			assert_one_line 'crashed: SIGSEGV in thread api at address 0x[0-9a-f]+'
			continue
		fi
		if [ "$attempt" = malloc ]; then
			assert_equal "$status" 200
			continue
		fi
		assert_equal "$attempt $status" "$attempt 105"
		[ "$attempt" != tgkill ] || attempt='(getppid|tgkill)'
		assert_one_line "thread api wanted a system call that it may not make: $attempt \([0-9]+\)"
	done
}

# start_monitor: one that answers nothing any more, at $socket.
start_monitor() {
	socket=$BATS_TEST_TMPDIR/socket
	"$PYTHON" -I -S "$BATS_TEST_DIRNAME/stand-in-monitor" deaf "$socket" > "$BATS_TEST_TMPDIR/took" 3>&- &
	started+=("$!")
	wait_for test -S "$socket"
}

# exec_probe KIND:ATTEMPT [OPTION...]: of `mayfly exec`. Sets $status and $stderr.
exec_probe() {
	local probe=$PROBED on=()
	[ "${1%%:*}" != pump ] || on=("${on_socket[@]}")
	[ -z "${TRACE_DIR:-}" ] || [[ "$*" == *seccomp* ]] || probe=$MAYFLY
	run --separate-stderr env MAYFLY_PROBE="$1" TRACED="$PROBED" timeout -k 5 "$LIMIT" "${on[@]}" "$probe" \
		exec "${@:2}" "$socket" -- command < /dev/null
}

# bats test_tags=flat
@test "seccomp: mayfly exec may serve its command, and end" {
	local attempt kind thread
	start_monitor
	for kind in exec=exec streams=streams pump=input; do
		thread=${kind#*=} kind=${kind%%=*}
		for attempt in "${all[@]}" write; do
			exec_probe "$kind:$attempt"
			[ "$status" -eq 105 ] || fail "$kind, $attempt: status $status, $stderr"
			[ "$attempt" != tgkill ] || attempt='(getppid|tgkill)'
			assert_one_line "thread $thread wanted a system call that it may not make: $attempt \([0-9]+\)"
		done
		exec_probe "$kind:i386"
		[ "$status" -eq 159 ] || [ "$status" -eq 139 ] || fail "$kind: status $status"
		exec_probe "$kind:openat" --seccomp log
		assert_equal "$status" 200
		exec_probe "$kind:openat" --no-seccomp
		assert_equal "$status" 200
		assert_regex "$stderr" 'seccomp is off'
	done
	kill_started
}

@test "seccomp: mayfly exec has a filter, no new privileges and no capabilities on every thread" {
	local task filters=1
	[ -z "${TRACE_DIR:-}" ] || filters=2 # strace has one, too
	start_monitor
	start_mayfly exec "$socket" -- command
	wait_for grep -q asked "$BATS_TEST_TMPDIR/took"
	wait_for all_confined "$filters"
	for task in /proc/"$pid"/task/*; do
		assert_equal "$(sed -n 's/^NoNewPrivs:\t//p' "$task/status")" 1
	done
	assert_equal "$(find "/proc/$pid/task" -mindepth 1 -maxdepth 1 | wc -l)" 2
	assert_equal "$(capabilities_of '*')" 0000000000000000
	kill_started
}

# all_confined NUMBER: each thread of $pid has so many filters.
all_confined() {
	! grep -L "^Seccomp_filters:[[:space:]]*$1\$" /proc/"$pid"/task/*/status | grep -q .
}

# bats test_tags=flat
@test "seccomp: rings do nothing but their loops' work" {
	local kind attempt
	for kind in io vsock; do
		for attempt in openat fixed_openat socket connect read write; do
			run_probe "$kind:ring_$attempt"
			assert_equal "$kind $attempt $status" "$kind $attempt 201"
		done
	done
}

@test "seccomp: the main threads of a VM and outside of a jail can have memory" {
	local kind
	for kind in main outer; do
		run_probe "$kind:malloc"
		assert_equal "$kind $status" "$kind 200"
	done
}

# bats test_tags=flat
@test "seccomp: calls by the numbers of other architectures end it at once" {
	local kind
	for kind in main outer io vsock vcpu streams pump $sync_kinds; do
		run_probe "$kind:i386" -- command
		# A kernel without 32-bit programs does not know the instruction: a crash as any other.
		[ "$status" -eq 159 ] || [ "$status" -eq 139 ] || fail "$kind: status $status"
	done
}

# bats test_tags=flat
@test "seccomp: a thread that crashes, or has used up its stack, is named" {
	local kind attempt
	for kind in main outer io vsock vcpu streams pump $sync_kinds; do
		for attempt in crash stack; do
			run_probe "$kind:$attempt" -- command
			assert_equal "$kind $attempt $status" "$kind $attempt 139"
			assert_one_line 'crashed: SIGSEGV in thread [a-z0-9-]+ at address 0x[0-9a-f]+'
		done
	done
}

# bats test_tags=flat
@test "seccomp: a crash is the end also if the main thread hears of nothing" {
	local kind
	for kind in io vsock vcpu streams pump $sync_kinds; do
		run_probe "$kind:crash:deaf" -- command
		assert_equal "$kind $status" "$kind 139"
	done
}

# bats test_tags=flat
@test "seccomp: every thread has its filter, and no new privileges" {
	local task
	local engine filters=1
	[ -z "${TRACE_DIR:-}" ] || filters=2 # strace has one, too
	for engine in ring sync; do
		start_flat spin --vsock "$BATS_TEST_TMPDIR/vsock" -c 2 --io-engine "$engine"
		wait_said spinning
		for task in /proc/"$pid"/task/*; do
			run cat "$task/status"
			assert_line --regexp "^Seccomp_filters:[[:space:]]$filters$"
			assert_line --regexp '^NoNewPrivs:[[:space:]]1$'
		done
		[ "$(ls "/proc/$pid/task")" != "$pid" ] || fail "there are no other threads"
		kill "$pid"
		wait_end
		assert_equal "$status" 143
	done
}

# bats test_tags=flat
@test "seccomp: without, there is a warning and no filter; with log, what is forbidden is done" {
	start_flat spin --no-seccomp
	wait_said spinning
	run cat "/proc/$pid/status"
	[ -n "${TRACE_DIR:-}" ] || assert_line --regexp '^Seccomp_filters:[[:space:]]0$'
	kill "$pid"
	wait_end
	assert_regex "$stderr" 'seccomp is off'
	run_probe vcpu:openat --seccomp log
	assert_equal "$status" 200
	run_probe vcpu:openat --no-seccomp
	assert_equal "$status" 200
	assert_regex "$stderr" 'seccomp is off'
}

# What the traces of all tests are to show of calls that they leave out, and of rare ones.
@test "seccomp: all calls of a whole run, on a clock that is read by calls, too" {
	local clock=/sys/devices/system/clocksource/clocksource0/current_clocksource was
	export TRACE_ALL=1
	was=$(< "$clock")
	[ -z "${LAB:-}" ] || echo acpi_pm > "$clock" # not on a machine of somebody's
	local engine statuses=''
	for engine in ring sync; do
		run_mayfly run -r "$ROOTFS" --vsock "$BATS_TEST_TMPDIR/vsock" --net none --io-engine "$engine" -- \
			sh -c 'cat /proc/uptime'
		statuses+=$status
	done
	[ -z "${LAB:-}" ] || echo "$was" > "$clock"
	assert_equal "$statuses" 00
	# Main threads ask for the terminal's group, and set its mode.
	local jail
	for jail in '' --jail; do
		on_tty 'expect=spinning' 'send=\x01x' -- "$MAYFLY" run -k "$GUESTS/spin.elf" $jail
		assert_equal "$status" 0
	done
	start_monitor
	on_tty raw kill=HUP kill=TERM -- "$MAYFLY" exec "$socket" -- command
	assert_equal "$status" 129
	kill_started
	# The thread of a command's input asks for the group before it reads.
	on_tty 'expect=# ' 'send=exit 3\n' -- "$MAYFLY" run -r "$ROOTFS" -- sh -i
	assert_equal "$status" 3
}

# bats test_tags=flat
@test "seccomp: instructions are counted on threads that have a filter" {
	local engine
	for engine in ring sync; do
		run_probe counter --time --timeout 1s --io-engine "$engine" -- command
		assert_equal "$status" 124
		assert_regex "$stderr" 'first KVM_RUN'
	done
	local probe=$PROBED on=()
	[ "${1%%:*}" != pump ] || on=("${on_socket[@]}")
	[ -z "${TRACE_DIR:-}" ] || probe=$MAYFLY
	TRACED=$PROBED on_tty 'expect=spinning' 'send=\x01x' -- "$probe" run -k "$GUESTS/spin.elf" --time
	assert_equal "$status" 0
	assert_line --partial 'first KVM_RUN'
}

@test "seccomp: a command's streams may be made non-blocking by somebody" {
	run "$PYTHON" -I -S - "$MAYFLY" "$ROOTFS" <<- 'EOF'
		import os, subprocess, sys, time
		into, give = os.pipe()
		take, out = os.pipe()
		for fd in into, out:
		    os.set_blocking(fd, False)
		vm = subprocess.Popen([sys.argv[1], "run", "-r", sys.argv[2], "--", "cat"], stdin=into, stdout=out)
		os.close(into)
		os.close(out)
		sent = os.urandom(1 << 20)
		if os.fork() == 0:
		    time.sleep(1)
		    os.write(give, sent)
		    os._exit(0)
		os.close(give)
		time.sleep(2)
		got = b""
		while piece := os.read(take, 1 << 16):
		    got += piece
		print(vm.wait(), got == sent)
	EOF
	assert_output '0 True'
}

# bats test_tags=flat
@test "seccomp: stopped and continued, and hit by a signal that means nothing" {
	local jail vm
	for jail in '' --jail; do
		start_flat spin $jail
		wait_said spinning
		vm=$(pgrep -P "$pid" -x mayfly) || vm=$pid
		kill -STOP "$vm"
		sleep 0.2
		kill -CONT "$vm"
		kill -s RTMIN+1 "$vm"
		sleep 1.2
		kill "$pid"
		wait_end
		assert_equal "$status" 143
	done
}

# capabilities_of NAME: those that threads of $pid with that name have, one line for each set of each.
capabilities_of() {
	local task
	for task in "/proc/$pid/task/"*; do
		# shellcheck disable=SC2053 # a pattern
		[[ $(< "$task/comm") != $1 ]] || sed -n 's/^Cap\(Inh\|Prm\|Eff\|Amb\):\t//p' "$task/status"
	done | sort -u
}

# bats test_tags=flat
@test "seccomp: no thread of root's keeps a capability that it does not need" {
	[ "$(id -u)" -eq 0 ] || skip 'who is not root has none'
	local engine
	for engine in ring sync; do
		truncate -s 1M "$BATS_TEST_TMPDIR/disk"
		start_flat idle --io-engine="$engine" -c 2 -d "$BATS_TEST_TMPDIR/disk" --no-seccomp
		wait_said idle
		assert_equal "$(capabilities_of '*')" 0000000000000000
		kill "$pid"
		wait_end
		# The vsock connects to other users' sockets, and the main thread removes its name.
		start_flat idle --io-engine="$engine" --vsock "$BATS_TEST_TMPDIR/vsock"
		wait_said idle
		assert_equal "$(capabilities_of vcpu0)" 0000000000000000
		assert_equal "$(capabilities_of 'io*')" 0000000000000000
		assert_equal "$(capabilities_of 'vsock*')" $'0000000000000000\n0000000000000002'
		assert_equal "$(capabilities_of mayfly)" $'0000000000000000\n0000000000000002'
		kill "$pid"
		wait_end
	done
}
