#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2034,SC2154 # tests are subshells, variables are of helper.bash
#
# A pool of flat guests: what a client gets, where there is nothing to get, and what is left when something is killed.

# bats file_tags=flat
load helper

setup() {
	snapshot_names
	sock=$dir/pool.sock
}

teardown() {
	kill_started
	end_test
}

# snapshot_of [OPTION...]: of the guest that keeps what it reads, and has read "one".
snapshot_of() {
	start_flat keep -m 64M --control "$ctl" "$@"
	wait_said '^keep'
	tell one
	wait_said '^one'
	run "$MAYFLY" snapshot --stop "$ctl" "$snap"
	assert_success
	wait_end
}

# The names of the members of this test's pool, in the order of their start.
members() {
	"$MAYFLY" ps --json | "$PYTHON" -c 'import json, sys
print(*[vm["name"] for vm in json.load(sys.stdin) if vm.get("pool") == sys.argv[1] and vm["state"] == "waiting"])' "$snap"
}

waiting() {
	[ "$(members | wc -w)" = "$1" ]
}

# Whether another than NAME waits, the only one.
successor_of() {
	local now
	now=$(members)
	[ -n "$now" ] && [ "$now" != "$1" ]
}

is_gone() {
	! "$MAYFLY" ps -q | grep -qx "$1"
}

# pid_of NAME
pid_of() {
	"$MAYFLY" inspect "$1" | "$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)["pid"])'
}

# claimed TEXT [OPTION...]: a VM of the pool gets TEXT and ^D. Sets $status, $output and $stderr.
claimed() {
	run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" clone --pool "$sock" "${@:2}" <<< "$1"$'\n\4'
	strip_returns
}

# start_claim [OPTION...]: of which $to is stdin.
start_claim() {
	start_mayfly clone --pool "$sock" "$@"
}

end_pool() {
	kill "${1:--TERM}" "$pool"
	wait_for has_ended "$pool"
	status=0
	wait "$pool" || status=$?
}

@test "pool: each client gets a VM that waits, with its streams, name and status; another takes the place" {
	local jail old outside pid
	snapshot_of
	for jail in '' --jail; do
		start_pool 2 $jail
		old=$(members)
		# The mount namespace that jails begin with is the pool's alone.
		outside=$(pid_of "${old%% *}")
		for pid in "$outside" $(pgrep -P "$outside"); do
			assert_equal "$(find "/proc/$pid/fd" -lname 'mnt:*' 2> /dev/null)" ''
		done
		claimed two
		assert_equal "$status" 0
		assert_equal "$output" $'one\ntwo'
		[[ $stderr == 'mayfly: the guest rebooted'* && $stderr != *$'\n'* ]] # of a plain clone it would say so
		wait_for waiting 2
		[ "$(members)" != "$old" ]
		start_claim --name "claimed$$"
		tell three
		wait_said '^three'
		run -0 "$MAYFLY" ps
		assert_line --regexp "^claimed$$ +[0-9]+ +running "
		run -0 "$MAYFLY" exec --help # the control socket has the name of the VM
		[ -S "$("$MAYFLY" inspect "claimed$$" | "$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)["control"])')" ]
		# The end of the pool is not that of the VM.
		end_pool
		assert_equal "$status" 143
		[ ! -e "$sock" ]
		wait_for waiting 0
		tell four
		wait_said '^four'
		tell $'\4'
		wait_end
		assert_equal "$status" 0
		assert_equal "$(cat "$dir/pool.out" "$dir/pool.err")" ''
	done
}

@test "pool: signals of the client are the VM's; a client that is killed takes its VM with it" {
	local jail signal
	snapshot_of
	for jail in '' --jail; do
		start_pool 1 $jail
		for signal in TERM INT; do
			wait_for waiting 1
			watch_mayfly clone --pool "$sock"
			tell two
			wait_said '^two'
			watched_ends "signal $(kill -l $signal)" $signal
			[[ $stderr == *"ended by a signal"* ]]
		done
		wait_for waiting 1
		start_claim --name "killed$$"
		tell two
		wait_said '^two'
		kill -KILL "$pid"
		wait_for has_ended "$pid"
		wait_for is_gone "killed$$"
		wait_for waiting 1
		end_pool
		wait_for waiting 0
	done
}

@test "pool: a client that gets no answer ends by a signal, or makes a plain clone; what its caller ignores stays ignored" {
	local signal
	snapshot_of
	start_pool 1
	kill -STOP "$pool"
	for signal in TERM INT HUP; do
		watch_mayfly clone --pool "$sock"
		wait_for grep -q '^State:.S' "/proc/$pid/status"
		watched_ends "signal $(kill -l $signal)" $signal
	done
	# Those have gone when the pool looks.
	kill -CONT "$pool"
	claimed two
	assert_equal "$output" $'one\ntwo'
	wait_for waiting 1
	kill -STOP "$pool" # the streams stay in its socket's queue, so that none may be a pipe of this test
	start_claim "$snap"
	tell two
	wait_said '^two'
	grep -q "the pool does not answer at '$sock': a plain clone" "$dir/err"
	tell $'\4'
	wait_end
	kill -CONT "$pool"
	wait_for waiting 1
	DEFAULT_SIGNALS=(env --ignore-signal=HUP)
	start_claim
	tell two
	wait_said '^two'
	kill -HUP "$pid"
	tell three
	wait_said '^three'
	tell $'\4'
	wait_end
	assert_equal "$status" 0
	end_pool
}

@test "pool: where no VM waits, a plain clone is said to be one, and has the pool's options" {
	snapshot_of
	claimed two
	assert_equal "$status" 125
	[[ $stderr == *"no pool listens at '$sock'"* ]]
	claimed two "$snap" --name "plain$$"
	assert_equal "$status" 0
	assert_equal "$output" $'one\ntwo'
	assert_equal "$(grep -c 'a plain clone' <<< "$stderr")" 1
	start_pool 1 --jail
	kill -STOP "$pool" # it starts none meanwhile, and serves nobody
	start_claim --name "first$$"
	start_mayfly clone --pool "$sock"
	wait_for grep -q '^State:.S' "/proc/$pid/status" # both wait for an answer
	kill -CONT "$pool"
	tell two
	tell two
	wait_for grep -q "is empty: a plain clone" "$dir/err"
	kill -KILL "${started[-1]}" "${started[-2]}"
	wait_for waiting 1
	# Options that are the pool's have to be the same.
	claimed two --jail
	assert_equal "$status" 0
	claimed two --io-engine sync
	assert_equal "$status" 125
	[[ $stderr == *"the pool was not started with --io-engine=sync"* ]]
	wait_for waiting 1
	claimed two --result "$dir/result"
	assert_equal "$status" 125
	[[ $stderr == *"--result"*"is not for VMs of a pool"* ]]
	waiting 1
	end_pool
	wait_for waiting 0
}

@test "pool: a second one is refused at the socket of the first, and costs that no member" {
	snapshot_of
	start_pool 1
	old=$(members)
	run --separate-stderr timeout 10 "$MAYFLY" pool "$snap" --size 1 --socket "$sock"
	assert_equal "$status" 125
	[[ $stderr == *"socket '$sock': another process listens there"* ]]
	assert_equal "$(members)" "$old"
	# Members whose pool was killed end by themselves, and the next takes the socket.
	end_pool -KILL
	wait_for waiting 0
	start_pool 1
	claimed two
	assert_equal "$output" $'one\ntwo'
	end_pool
	wait_for waiting 0
}

@test "pool: members that die are replaced, at a bounded rate, and counted; a client that says nothing costs one" {
	local i name
	snapshot_of
	NOTIFY_SOCKET=$dir/notify
	"$PYTHON" -I -S "$BATS_TEST_DIRNAME/notified" "$NOTIFY_SOCKET" "$dir/told" < /dev/null 3>&- &
	started+=("$!")
	wait_for test -s "$dir/told"
	export NOTIFY_SOCKET
	start_pool 1
	wait_for grep -q "^$pool READY=1" "$dir/told"
	assert_equal "$(cut -d ' ' -f 1 "$dir/told" | sort -u | grep -v listening)" "$pool"
	for i in 1 2 3 4 5 6 7 8; do
		name=$(members)
		kill -KILL "$(pid_of "$name")"
		wait_for successor_of "$name"
	done
	wait_for grep -q "STATUS=1 of 1 wait; 0 claimed, 0 missed, 8 died" "$dir/told"
	name=$(members)
	"$PYTHON" -c 'import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1])
s.send(b"what is no claim")
print(s.recv(4096))' "$sock" | grep -q 'no claim'
	wait_for successor_of "$name"
	end_pool
	wait_for waiting 0
	wait_for grep -q "^$pool STOPPING=1" "$dir/told"
}

@test "pool: a snapshot that is replaced takes its members with it; those that are old are replaced" {
	local old
	snapshot_of
	start_pool 2
	old=$(members)
	mv "$snap" "$dir/old"
	wait_for waiting 0
	cp -a "$dir/old" "$snap"
	claimed two # the pool looks when a client comes
	assert_equal "$output" $'one\ntwo'
	wait_for waiting 2
	[[ " $(members) " != *" ${old% *} "* ]]
	end_pool
	start_pool 1 --max-age 300ms
	old=$(members)
	wait_for successor_of "$old"
	end_pool
	wait_for waiting 0
}

@test "pool: drives that are the client's, for writing only where the snapshot has it so" {
	local id=${BASHPID} mode
	truncate -s 1M "$dir"/{a,b,c}.img
	snapshot_of -d "$dir/a.img:ro:id=ro" -d "$dir/b.img:id=rw"
	rm "$dir/b.img" # that of the snapshot is gone
	start_pool 1 --drives 1
	claimed two
	assert_equal "$status" 125
	[[ $stderr == *"a client of this pool brings 1 drives"* ]]
	wait_for waiting 1
	claimed two -d ro="$dir/c.img"
	[[ $stderr == *"drive 'rw': the client has to bring it"* ]]
	wait_for waiting 1
	claimed two -d rw="$dir"
	assert_equal "$status" 125
	wait_for waiting 1
	claimed two -d rw=/dev/null
	[[ $stderr == *"drive 'rw'"*"character device"* ]]
	wait_for waiting 1
	start_claim --name "drive$id" -d rw="$dir/c.img"
	tell two
	wait_said '^two'
	wait_for waiting 1
	claimed two -d rw="$dir/c.img"
	[[ $stderr == *"'$dir/c.img' is in use by another VM"* ]]
	tell $'\4'
	wait_end
	end_pool
	rm "$dir/a.img"
	mv "$dir/c.img" "$dir/a.img" # its identity is not that of the snapshot
	truncate -s 1M "$dir/b.img"
	start_pool 1 --drives 2 --jail
	start_claim --name "drive$id" -d rw="$dir/b.img" -d ro="$dir/a.img"
	tell two
	wait_said '^two'
	mode=$(find /proc/[0-9]*/fd -lname "$dir/a.img" 2> /dev/null | sed 's/fd/fdinfo/' |
		xargs sed -n 's/^flags:.*\([0-9]\)$/\1/p' | sort -u)
	assert_equal "$mode" 0
	tell $'\4'
	wait_end
	assert_equal "$status" 0
	end_pool
	wait_for waiting 0
}

@test "pool: a tap and a vsock that are the client's; descriptors that are not what they claim are refused" {
	local jail tap=mf$$
	[ -c /dev/net/tun ] || skip 'there is no /dev/net/tun'
	cd "$dir"
	snapshot_of -n "tap=$tap.1" --vsock "$dir/own"
	for jail in '' --jail; do
		start_pool 1 $jail
		claimed two --vsock v
		[[ $stderr == *"a client of this pool brings 1 network interfaces (--net tap=NAME), and not 0"* ]]
		wait_for waiting 1
		claimed two --net "tap=$tap.2"
		[[ $stderr == *"vsock: the client has to bring it"* ]]
		wait_for waiting 1
		"$BATS_TEST_DIRNAME/hostile-claim" "$sock" "$dir" > refusals
		rm hostile*
		assert_equal "$(grep -c "^2 net 'net0': " refusals)" 4
		assert_equal "$(grep -c "^2 vsock '.*': the descriptor " refusals)" 6
		assert_equal "$(tail -n 1 refusals)" '2 a claim of 2 files with 6 descriptors'
		wait_for waiting 1
		start_claim --name "devices$$" --net "tap=$tap.2" --vsock v # a path of this directory, which is not the pool's
		tell two
		wait_said '^two'
		[ -e "/sys/class/net/$tap.2" ]
		[ ! -e "/sys/class/net/$tap.1" ]
		"$PYTHON" -c 'import socket; socket.socket(socket.AF_UNIX).connect("v")'
		wait_for waiting 1
		claimed two --net "tap=$tap.2" --vsock w
		assert_equal "$status" 125
		[[ $stderr == *"--net: tap '$tap.2' is in use by another VM"* ]]
		claimed two --net "tap=$tap.3" --vsock v
		assert_equal "$status" 125
		[[ $stderr == *"--vsock: '$dir/v': another process listens there"* ]]
		waiting 1 # these have cost none
		# The names go with the VM, also if the client was killed.
		kill -KILL "$pid"
		wait_for is_gone "devices$$"
		[ ! -e v ]
		[ ! -e "/sys/class/net/$tap.2" ]
		claimed two --net "tap=$tap.2" --vsock v
		assert_equal "$output" $'one\ntwo'
		[ ! -e v ]
		wait_for waiting 1
		end_pool
		wait_for waiting 0
	done
	# A plain clone makes its own.
	claimed two "$snap" --net "tap=$tap.2" --vsock v
	assert_equal "$output" $'one\ntwo'
	[ ! -e v ]
}

@test "pool: a socket of systemd's, and a command line that is none" {
	snapshot_of
	"$PYTHON" -c 'import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind(sys.argv[1])
s.listen(8)
os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execv(sys.argv[2], sys.argv[2:])' "$sock" "$MAYFLY" pool "$snap" --size 1 < /dev/null 2> "$dir/pool.err" 3>&- &
	pool=$!
	started+=("$pool")
	wait_for waiting 1
	claimed two
	assert_equal "$output" $'one\ntwo'
	end_pool
	[ -S "$sock" ] # its name is systemd's
	wait_for waiting 0
	run -125 --separate-stderr "$MAYFLY" pool "$dir/none" --size 1 --socket "$sock"
	[[ $stderr == *"snapshot '$dir/none'"* ]]
	run -125 --separate-stderr "$MAYFLY" pool "$snap" --size 0 --socket "$sock"
	run -125 --separate-stderr "$MAYFLY" pool "$snap" --size 1 --socket "$sock" --net tap=tap0
	[[ $stderr == *"must be a user network"* ]]
	run -125 --separate-stderr "$MAYFLY" pool "$snap" --size 1 --socket "$sock" --name x
	# A snapshot that gives no VM: the pool does not try without end.
	chmod u+w "$snap"/*
	truncate -s 100 "$snap/state"
	run -125 --separate-stderr timeout 30 "$MAYFLY" pool "$snap" --size 1 --socket "$dir/other"
	[[ $stderr == *"no member gets ready"* ]]
}

@test "pool: claims in a row, with clients and members that are killed at any moment, leave nothing" {
	local jail
	snapshot_of
	for jail in '' --jail; do
		start_pool 4 $jail
		run "$BATS_TEST_DIRNAME/pool-rounds" "$MAYFLY" "$sock" "$pool" 4 "${ROUNDS:-40}"
		echo "$output"
		assert_success
		end_pool
		wait_for waiting 0
	done
}
