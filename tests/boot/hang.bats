#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2153,SC2154 # each test is a subshell; the variables are of helper.bash
#
# A VM of which something hangs ends all the same, in time, with its status, the terminal's modes and nothing left behind.
# A thread of the probe (tests/probe/probe.c) hangs, or a program of the host.

# bats file_tags=flat
load helper

PROBED=${PROBED:-$B/mayfly-probe}
IN_TIME=4000 # milliseconds from the request to the end, which comes within 2000 where nobody else computes; from a second one:
CUT=1400
[ -z "${LAB:-}" ] || { IN_TIME=8000 CUT=4000; }

setup() {
	started=()
	cd "$BATS_TEST_TMPDIR" || return 1
}

teardown() {
	end_test
	! mountpoint -q "$BATS_TEST_TMPDIR/mount" || umount -l "$BATS_TEST_TMPDIR/mount"
}

# start_hanging KIND[:deaf] [OPTION...]: a guest whose monitor has that thread hanging, when it has begun to. Sets $pid.
start_hanging() {
	local probe=$PROBED MAYFLY=$MAYFLY
	[ -z "${TRACE_DIR:-}" ] || { export TRACED=$PROBED probe=$MAYFLY; }
	export MAYFLY_PROBE=${1/:/:hang:}
	[[ $1 == *:* ]] || MAYFLY_PROBE=$1:hang
	MAYFLY=$probe start_flat flood "${@:2}"
	unset MAYFLY_PROBE
	wait_for has_vcpu "$pid"
}

# has_vcpu PID: it, or its child in a jail, has started its last thread.
has_vcpu() {
	grep -qsx vcpu0 /proc/"$1"/task/*/comm || grep -qsx vcpu0 /proc/"$(pgrep -P "$1" -x 'mayfly(-probe)?')"/task/*/comm
}

# ends_within MS STATUS [SIGNAL...]: signals are sent one after the other; the time counts from the last.
ends_within() {
	local limit=$1 expected=$2 began signal
	shift 2
	now_ms
	began=$ms
	for signal; do
		sleep 0.1
		now_ms
		began=$ms
		kill "-$signal" "$pid" || true # on a slow machine the first may have done
	done
	wait_end
	now_ms
	assert_equal "$status" "$expected"
	[ $((ms - began)) -lt "$limit" ] || fail "it took $((ms - began)) ms"
}

both_engines='main vcpu io vsock'
options_of() {
	case $1 in
	*_*) options=(--io-engine=sync --vsock vsock) ;;
	*) options=(--vsock vsock) ;;
	esac
}

@test "hang: SIGTERM ends a VM of which a thread hangs, with and without a jail" {
	local kind options jail
	for jail in '' --jail; do
		for kind in $both_engines io_sync vsock_sync; do
			options_of "$kind"
			start_hanging "$kind" "${options[@]}" $jail
			ends_within "$IN_TIME" 143 TERM
			assert_regex "$stderr" 'mayfly: ended by a signal \(Terminated\).* did not end in time'
			[ ! -e vsock ] || fail "$kind: the socket's name is still there"
		done
	done
}

@test "hang: a VM that hangs dies of the signal that asked for its end, all the same" {
	local what jail
	for what in main:hang: vcpu:hang: main:hang:deaf--jail vcpu:hang:--jail; do
		jail=${what##*:}
		jail=${jail#deaf}
		MAYFLY_PROBE=${what%--jail} MAYFLY=$PROBED watch_mayfly run -k "$GUESTS/flood.elf" ${jail:+--jail}
		wait_for has_vcpu "$pid"
		watched_ends 'signal 1' HUP
		assert_one_line 'did not end in time'
	done
}

@test "hang: a second signal cuts it short" {
	local kind jail
	for jail in '' --jail; do
		for kind in $both_engines; do
			start_hanging "$kind" --vsock vsock $jail
			ends_within "$CUT" 143 TERM TERM
			start_hanging "$kind" --vsock vsock $jail
			ends_within "$CUT" 130 INT TERM
		done
	done
	[ ! -e vsock ]
}

@test "hang: the time limit ends it as well" {
	local kind jail
	for jail in '' --jail; do
		for kind in main vcpu; do
			start_hanging "$kind" --timeout 3s $jail
			ends_within $((3000 + IN_TIME)) 124
			assert_regex "$stderr" 'the time limit has passed'
		done
	done
}

@test "hang: a VM that does not hear of its end is killed by the process outside of its jail" {
	local kind
	for kind in main vcpu io; do
		start_hanging "$kind:deaf" --jail --vsock vsock
		ends_within "$IN_TIME" 143 TERM
		assert_regex "$stderr" 'the VM in its jail.* did not end in time'
		start_hanging "$kind:deaf" --jail --vsock vsock
		ends_within "$CUT" 143 TERM HUP
	done
	start_hanging main:deaf --jail --timeout 3s
	ends_within $((3000 + IN_TIME)) 124
	[ ! -e vsock ]
}

@test "hang: a stopped VM in a jail ends" {
	start_flat spin --jail
	wait_said spinning
	kill -STOP "$(pgrep -P "$pid" -x mayfly)"
	ends_within "$IN_TIME" 143 TERM
}

@test "hang: the terminal's modes are as before" {
	local probe=$PROBED kind jail
	for jail in '' --jail; do
		for kind in main:hang vcpu:hang; do
			MAYFLY_PROBE=$kind on_tty raw kill=TERM -- "$probe" run -k "$GUESTS/flood.elf" $jail
			assert_equal "$status" 143
			assert_line 'terminal: unchanged'
		done
		MAYFLY_PROBE=vcpu:openat on_tty -- "$probe" run -k "$GUESTS/spin.elf" $jail
		assert_equal "$status" 105
		assert_line 'terminal: unchanged'
		MAYFLY_PROBE=io:crash on_tty -- "$probe" run -k "$GUESTS/spin.elf" $jail
		assert_equal "$status" 139
		assert_line 'terminal: unchanged'
	done
	MAYFLY_PROBE=vcpu:crash:deaf on_tty -- "$probe" run -k "$GUESTS/spin.elf" --jail
	assert_equal "$status" 139
	assert_line 'terminal: unchanged'
	MAYFLY_PROBE=main:hang:deaf on_tty raw kill=TERM -- "$probe" run -k "$GUESTS/flood.elf" --jail
	assert_equal "$status" 143
	assert_line 'terminal: unchanged'
}

@test "hang: names of sockets are removed whatever ends it" {
	local jail what
	for jail in '' --jail; do
		for what in main:openat vcpu:openat io:crash; do
			run env MAYFLY_PROBE="$what" timeout -k 5 "$LIMIT" "$PROBED" run -k "$GUESTS/spin.elf" --vsock vsock \
				--control control $jail -- command
			[ "$status" -eq 105 ] || [ "$status" -eq 139 ] || fail "status $status: $output"
			[ ! -e vsock ] || fail "$what $jail: vsock is still there"
			[ ! -e control ] || fail "$what $jail: control is still there"
		done
	done
}

@test "hang: output that nobody reads does not hold up the end" {
	local jail
	for jail in '' --jail; do
		mkfifo fifo
		"$PYTHON" -c 'import time; f = open("fifo"); time.sleep(1000)' 3>&- &
		started+=("$!")
		"${DEFAULT_SIGNALS[@]}" "$MAYFLY" run -k "$GUESTS/flood.elf" $jail < /dev/null > fifo 2> err 3>&- &
		pid=$!
		sleep 0.5
		ends_within "$IN_TIME" 143 TERM
		kill_started
		rm fifo
	done
}

# A program in the place of mkfs.erofs that never ends.
@test "hang: a signal ends the packing of a directory, its program, and what that has written" {
	mkdir bin dir cache
	cat > bin/mkfs.erofs <<- END
		#!/bin/bash
		echo half > "\$2"
		echo \$\$ > "$PWD/packer"
		while :; do sleep 0.1; done
	END
	chmod +x bin/mkfs.erofs
	local signal
	for signal in TERM=15 INT=2; do
		PATH=$PWD/bin:$PATH XDG_CACHE_HOME=$PWD/cache watch_mayfly run -k "$GUESTS/hello.elf" -d dir:ro
		wait_for test -s packer
		watched_ends "signal ${signal#*=}" "${signal%=*}"
		assert_one_line 'ended by a signal'
		wait_for has_ended "$(< packer)"
		assert_equal "$(find cache -type f)" ''
		rm packer
	done
}

@test "hang: the time limit holds for the packing of a directory, too" {
	mkdir bin dir cache
	# shellcheck disable=SC2016 # the script expands it
	printf '#!/bin/bash\necho half > "$2"; echo $$ > %q\nwhile :; do sleep 0.1; done\n' "$PWD/packer" > bin/mkfs.erofs
	chmod +x bin/mkfs.erofs
	local jail
	for jail in '' --jail; do
		PATH=$PWD/bin:$PATH XDG_CACHE_HOME=$PWD/cache start_flat hello -d dir:ro --timeout 2s $jail
		ends_within $((2000 + IN_TIME)) 124
		assert_regex "$stderr" 'time limit has passed$'
		wait_for has_ended "$(< packer)"
		assert_equal "$(find cache -type f)" ''
		rm packer
	done
}

# Not even SIGKILL ends a process that waits for it; only in a jail there is another one, which need not wait.
@test "hang: a file of the host that hangs does not hold up the process outside of a jail" {
	[ "$EUID" -eq 0 ] || skip "only root may mount"
	[ -c /dev/fuse ] || skip "no /dev/fuse here"
	local server vm
	mkdir mount
	"$PYTHON" -I -S "$BATS_TEST_DIRNAME/hanging-file" "$GUESTS/spin.elf" mount 176 > server 2>&1 3>&- &
	server=$!
	started+=("$server")
	wait_for grep . server
	grep -q mounted server || skip "FUSE: $(< server)"
	start_mayfly run --jail -k mount/file
	wait_for grep -q hangs server
	vm=$(pgrep -P "$pid" -x mayfly)
	ends_within "$IN_TIME" 143 TERM
	assert_one_line 'did not end in time'
	run ! has_ended "$vm"
	kill "$server"
	wait_for has_ended "$vm"
	umount mount
}
