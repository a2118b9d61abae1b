#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2034,SC2154 # tests are subshells, variables are of helper.bash
#
# A pool of Linux guests with mayfly's init, which run before there is a client.

load helper

setup() {
	snapshot_names
	sock=$dir/pool.sock
}

teardown() {
	kill_started
	end_test
}

# snapshot_of COMMAND: the guest's shell has said "up".
snapshot_of() {
	start_mayfly run -k "$KERNEL" -i "$INITRAMFS" -m 128M --control "$ctl" -- sh -c "$1"
	wait_said ^up
	run "$MAYFLY" snapshot --stop "$ctl" "$snap"
	assert_success
	wait_end
}

end_pool() {
	kill "${1:--TERM}" "$pool"
	wait_for has_ended "$pool"
	wait "$pool" || true
	wait_for waiting 0
	assert_equal "$(cat "$dir/pool.out" "$dir/pool.err")" ''
}

waiting() {
	[ "$("$MAYFLY" ps | grep -c ' waiting ')" = "$1" ]
}

# claimed [OPTION...] -- COMMAND...: reads "input". Sets $status, $output and $stderr.
claimed() {
	run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" clone --pool "$sock" "$@" <<< input
	strip_returns
}

# The threads of mayfly below the pool, but for vCPUs, and how often each has slept.
switches() {
	local p
	for p in $(pgrep -f "(^|/)mayfly(-member)? .*$snap"); do
		grep -H ctxt "/proc/$p/task/"*/status | grep -vFf <(grep -l vcpu "/proc/$p/task/"*/comm | sed 's/comm/status/')
	done
}

# They were not for 3 s. Sets $last.
are_still() {
	last=$(switches)
	[ -n "$last" ] || return 1
	sleep 3
	[ "$(switches)" = "$last" ]
}

@test "pool: a guest that runs gives its client a command with streams, environment, name, status, time and terminal" {
	local jail number
	# Its hook is run after the restore, and again for the client; the first one leaves the wrong time.
	snapshot_of 'mkdir -p /etc/mayfly; hook=/etc/mayfly/restored
		printf "#!/bin/sh\necho >> /tmp/hooks; [ \$(wc -l < /tmp/hooks) = 2 ] || date -s @1000000000" > $hook
		chmod +x $hook; echo up; exec sleep 100000'
	for jail in '' --jail; do
		start_pool 2 $jail
		claimed -e A=one -w /tmp --name "client$$" -- sh -c \
			'hostname; echo "$A"; pwd; cat; wc -l < hooks; date +%Y; head -c 8 /dev/urandom | od -x; echo error >&2; exit 7'
		assert_equal "$status" 7
		assert_equal "$(head -n 6 <<< "$output")" "client$$"$'\none\n/tmp\ninput\n2\n'"$(date +%Y)"
		number=${lines[6]}
		assert_equal "$stderr" error
		wait_for waiting 2
		claimed -- sh -c 'head -c 8 /dev/urandom | od -x'
		assert_equal "$status" 0
		[[ -n $number && $output != *"$number"* ]]
		wait_for waiting 2
		claimed --timeout 300ms -- sleep 100000
		assert_equal "$status" 124
		# The control socket is there; the end of the pool is not that of the VM, but that of its client is.
		# Its vsock has the client's path, too: the guest has nothing at that port, and mayfly hangs up.
		start_mayfly clone --pool "$sock" --name "named$$" --vsock "$dir/v" -- sh -c 'echo begun; exec sleep 100000'
		wait_said ^begun
		run -0 timeout 10 "$PYTHON" -c 'import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.send(b"CONNECT 99\n")
print(s.recv(1))' "$dir/v"
		assert_output "b''"
		run -0 "$MAYFLY" exec "named$$" echo further
		assert_output further
		run -0 "$MAYFLY" inspect "named$$"
		assert_output --partial 'echo begun'
		end_pool
		run -0 "$MAYFLY" ps
		assert_line --regexp "^named$$ +[0-9]+ +running "
		kill -KILL "$pid"
		wait_for eval '! "$MAYFLY" ps -q | grep -q .'
		[ ! -e "$dir/v" ]
	done
	TRACE_ALL=1 start_pool 1 # tests/seccomp/traced: the thread that takes a claim asks for a terminal
	run -0 script -qec "$MAYFLY clone --pool $sock -- tty" /dev/null < /dev/null
	strip_returns
	assert_output --partial /dev/pts/0
	end_pool
}

@test "pool: guests that run, where nobody comes, and what they cannot serve" {
	local names
	snapshot_of 'echo up; read line; echo "$line"; exit 5'
	start_pool 2
	# No thread of mayfly turns; the vCPUs are the guest's.
	wait_for are_still
	# A claim for a guest that has not run costs none that has.
	names=$("$MAYFLY" ps -q)
	claimed
	assert_equal "$status" 5
	assert_equal "$output" input
	[[ $stderr == *"has VMs that run already"*": a plain clone" ]]
	claimed --console -- true
	assert_equal "$status" 0
	[[ $stderr == *"has VMs that run already"*": a plain clone"* ]]
	assert_equal "$("$MAYFLY" ps -q)" "$names"
	# They end with the pool, however that ends; one that is killed is replaced.
	kill -KILL "$("$MAYFLY" inspect "$("$MAYFLY" ps -q | head -n 1)" | "$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)["pid"])')"
	wait_for waiting 2
	end_pool -KILL
	start_pool 1 --cold
	claimed
	assert_equal "$status" 5
	assert_equal "$stderr" ''
	end_pool
}
