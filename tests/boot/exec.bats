#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2153,SC2154 # each test is a subshell; the variables are of helper.bash
#
# How `mayfly exec` ends when the monitor or the command does not, with a stand-in for the monitor (stand-in-monitor).

# bats file_tags=flat
load helper

CUT=1400
[ -z "${LAB:-}" ] || CUT=4000

setup() {
	started=()
	cd "$BATS_TEST_TMPDIR" || return 1
}

# start_monitor HOW: see stand-in-monitor.
start_monitor() {
	rm -f socket took
	"$PYTHON" -I -S "$BATS_TEST_DIRNAME/stand-in-monitor" "$1" socket > took 2>&1 3>&- &
	started+=("$!")
	wait_for test -S socket
}

# exec_ends STATUS SIGNAL...: once it is asked for by the last, at once.
exec_ends() {
	local expected=$1 began signal
	shift
	for signal; do
		sleep 0.2
		now_ms
		began=$ms
		kill "-$signal" "$pid" || true
	done
	wait_end
	now_ms
	assert_equal "$status" "$expected"
	[ $((ms - began)) -lt "$CUT" ] || fail "it took $((ms - began)) ms"
}

start_exec() {
	start_mayfly exec ./socket -- command
	wait_for grep -q asked took
}

@test "exec: a signal ends it while the monitor does not answer" {
	local end
	start_monitor silent
	for end in TERM=143 INT=130 HUP=129; do
		start_exec
		exec_ends "${end#*=}" "${end%=*}"
		assert_one_line 'ended by a signal'
	done
	kill_started
}

@test "exec: signals that the caller ignores are ignored" {
	local signal
	# shellcheck disable=SC2034 # for start_mayfly
	local DEFAULT_SIGNALS=(env '--default-signal=TERM' '--ignore-signal=HUP,INT')
	start_monitor silent
	start_exec
	for signal in HUP INT HUP INT; do
		kill "-$signal" "$pid"
	done
	sleep 0.5
	kill -0 "$pid"
	exec_ends 143 TERM
	kill_started
}

@test "exec: signals are the command's; a second SIGTERM or SIGINT is not" {
	start_monitor deaf
	start_exec
	exec_ends 143 TERM TERM
	wait_for grep -q 'signal 15' took
	kill_started
	start_monitor deaf
	start_exec
	exec_ends 130 INT INT
	wait_for grep -q 'signal 2' took
	kill_started
	start_monitor deaf
	start_exec
	kill -INT "$pid"
	sleep 2.5 # longer than two of `mayfly run` may be apart
	exec_ends 130 INT
	kill_started
	start_monitor deaf
	start_exec
	exec_ends 130 INT TERM
	kill_started
}

@test "exec: a signal ends it while the guest has not started the command" {
	start_monitor hung
	start_exec
	exec_ends 143 TERM
	kill_started
}

@test "exec: --timeout ends the command, and then exec, with status 124" {
	start_monitor deaf
	now_ms
	began=$ms
	run_mayfly exec --timeout 300ms ./socket -- command
	now_ms
	assert_equal "$status" 124
	assert_one_line 'time limit'
	[ $((ms - began)) -ge 300 ]
	[ $((ms - began)) -lt $((CUT + 1500)) ] || fail "it took $((ms - began)) ms"
	run grep signal took
	assert_output $'signal 15\nsignal 9'
	kill_started
	# A command that heeds SIGTERM: nothing more is sent.
	start_monitor heeds
	run_mayfly exec --timeout 300ms ./socket -- command
	assert_equal "$status" 124
	assert_one_line 'time limit'
	run grep signal took
	assert_output 'signal 15'
	# One that has ended in time.
	kill_started
	start_monitor over
	run_mayfly exec --timeout 1h ./socket -- command
	assert_equal "$status" 7
	kill_started
}

@test "exec: --wait waits for the monitor and its guest, for so long" {
	now_ms
	began=$ms
	run_mayfly exec --wait=300ms ./socket -- command
	now_ms
	assert_equal "$status" 125
	[ $((ms - began)) -ge 300 ]
	start_mayfly exec --wait ./socket -- command
	sleep 0.3
	start_monitor late
	wait_end
	assert_equal "$status" 7
	# A monitor whose guest never comes.
	kill_started
	start_monitor silent
	run_mayfly exec --wait=300ms ./socket -- command
	assert_equal "$status" 125
	assert_one_line 'not ready'
	start_mayfly exec --wait ./socket -- command
	sleep 0.3
	exec_ends 143 TERM
	kill_started
	for time in 0 -1 x 1001h; do
		run_mayfly exec "--wait=$time" ./socket -- command
		assert_equal "$status" 125
	done
}

@test "exec: a signal ends it when the command is over, and its output's reader is not there" {
	start_monitor over
	mkfifo fifo
	exec {reader}<> fifo
	"${DEFAULT_SIGNALS[@]}" "$MAYFLY" exec ./socket -- command < /dev/null > fifo 2> err 3>&- {reader}>&- &
	pid=$!
	started+=("$pid")
	wait_for grep -q over took
	exec_ends 143 TERM
	exec {reader}>&-
	kill_started
}

@test "exec: the terminal's modes are as before, also after a crash" {
	local end
	start_monitor deaf
	for end in SEGV=139 ABRT=134 HUP=129; do # of two signals at once the lower comes first
		on_tty raw kill="${end%=*}" kill=TERM -- "$MAYFLY" exec ./socket -- command
		assert_equal "$status" "${end#*=}"
		assert_line 'terminal: unchanged'
	done
	kill_started
}

@test "exec: it ends with the monitor" {
	start_monitor deaf
	local monitor=${started[0]}
	start_exec
	kill "$monitor"
	wait_end
	assert_equal "$status" 125
	assert_one_line 'the guest has ended'
}

@test "exec: it ends with the command's status, when all of its output is written" {
	start_monitor over
	# Longer than is waited for output that nobody reads any more.
	run bash -c '"$0" exec ./socket -- command < /dev/null | { sleep 2; wc -c; }; echo "${PIPESTATUS[0]}"' "$MAYFLY"
	assert_output $'1048576\n7'
	on_tty expect=word -- "$MAYFLY" exec ./socket -- command
	assert_equal "$status" 7
	assert_line 'terminal: unchanged'
	kill_started
}
