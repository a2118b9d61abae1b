#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2153,SC2154 # each test is a subshell; the variables are of helper.bash
# What a mayfly that is a service of Type=notify tells systemd, whose place tests/boot/notified takes.

# bats file_tags=flat
load helper

setup() {
	started=()
	listener=
	cd "$BATS_TEST_TMPDIR" || return 1
}

teardown() {
	[ -z "$listener" ] || kill "$listener" 2> /dev/null || true # it may have ended
	end_test
}

# listen ADDRESS: to reports, whose lines go to the file `told`. mayfly gets the address.
listen() {
	rm -f told
	"$PYTHON" -I -S "$BATS_TEST_DIRNAME/notified" "$1" told < /dev/null 3>&- &
	listener=$!
	started+=("$listener")
	wait_for test -s told
	export NOTIFY_SOCKET=$1
}

wait_told() {
	wait_for grep -q "^$pid $1\$" told
}

# assert_told WORD...: the process that was started has told these, in this order, but for its STATUS; and no other has.
assert_told() {
	assert_equal "$(grep -v -e ^listening -e STATUS= told)" "$(printf "$pid %s\n" "$@")"
}

@test "notify: ready, stopping, from the process that was started, to a path and to an abstract name" {
	local address jail
	for jail in '' --jail; do
		for address in "$PWD/socket" "@mayfly-test-$$"; do
			listen "$address"
			watch_mayfly run -k "$GUESTS/idle.elf" $jail
			wait_told READY=1
			assert_told READY=1
			grep -q "^$pid STATUS=." told
			watched_ends 'signal 15' TERM
			wait_told STOPPING=1
			assert_told READY=1 STOPPING=1
			# A guest that ends by itself.
			start_flat hello $jail
			wait_end
			assert_equal "$status" 0
			wait_told STOPPING=1
			kill "$listener"
			wait_for has_ended "$listener"
			rm -f socket
		done
	done
}

@test "notify: a guest whose command does not start is not ready" {
	local jail
	listen "$PWD/socket"
	for jail in '' --jail; do
		start_flat spin $jail --boot-timeout 1s -- command
		wait_end
		assert_equal "$status" 125
		wait_told STOPPING=1
		run grep "^$pid READY" told
		assert_output ''
	done
}

@test "notify: a command that runs on the console, without a vsock, has started as well" {
	local jail
	listen "$PWD/socket"
	for jail in '' --jail; do
		start_flat console $jail --boot-timeout 2s --timeout 4s -- command
		wait_told READY=1
		wait_end
		assert_equal "$status" 124
		assert_told READY=1 STOPPING=1
		kill "$listener"
		wait_for has_ended "$listener"
		rm socket
		listen "$PWD/socket"
	done
}

@test "notify: programs that mayfly starts have no such socket" {
	mkdir bin dir
	cat > bin/mkfs.erofs <<- 'END'
		#!/bin/bash
		printenv > environment
		exit 1
	END
	chmod +x bin/mkfs.erofs
	listen "$PWD/socket"
	PATH=$PWD/bin:$PATH XDG_CACHE_HOME=$PWD/cache start_flat hello -d dir:ro
	wait_end
	assert_equal "$status" 125
	grep -q ^PATH= environment
	run grep NOTIFY environment
	assert_output ''
	wait_told 'STATUS=packing.*'
}

@test "notify: a supervisor that is not there, or does not read, holds nothing up" {
	local name
	for name in "$PWD/missing" @mayfly-test-missing relative vsock:2:9999 "/$(printf '%0120d' 0)"; do
		NOTIFY_SOCKET=$name run_flat hello
		assert_equal "$status" 0
		assert_regex "$stderr" 'warn .*NOTIFY_SOCKET'
	done
	NOTIFY_SOCKET='' run_flat hello
	assert_equal "$status" 0
	refute_regex "$stderr" NOTIFY_SOCKET
	"$PYTHON" -I -S -c 'import socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("deaf")
t = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
t.setblocking(False)
t.connect("deaf")
try:
    while True:
        t.send(b"x")
except BlockingIOError:
    open("full", "w").write("yes")
time.sleep(1000)' 3>&- &
	started+=("$!")
	wait_for test -s full
	NOTIFY_SOCKET=$PWD/deaf run_flat hello
	assert_equal "$status" 0
	assert_equal "$output" hello
	kill_started
}
