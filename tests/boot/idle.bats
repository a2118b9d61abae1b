#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2034,SC2154 # tests are subshells, variables are of helper.bash
#
# A VM in which nothing runs, and that waits for something else than time: no thread of it turns.

# bats file_tags=flat
load helper
load api

setup() {
	setup_api
	cd "$d" || return 1
}

teardown() { teardown_api; }

# cpu_time PROCESS: prints the CPU time that its threads but the vCPUs have had, in us.
cpu_time() {
	local task name sum=0 ns
	for task in "/proc/$1/task"/*; do
		name=$(< "$task/comm")
		read -r ns _ < "$task/schedstat"
		[[ $name == vcpu* ]] || sum=$((sum + ns / 1000))
	done
	echo "$sum"
}

# sleeps [PROCESS]: once it has come to rest, it ($pid) uses no more of a second than what two looks at a quiet guest take.
sleeps() {
	local process=${1:-$pid} before used i
	for i in 1 2 3 4; do
		before=$(cpu_time "$process")
		sleep 1
		used=$(($(cpu_time "$process") - before))
		((used >= 20000)) || return 0
	done
	fail "it has used $used us of CPU time in a second"
}

@test "idle: a VM that is paused by the API, one with its snapshot, and one that is loaded and not resumed" {
	keep
	each 204 "$paused"
	sleeps
	each 204 "$resumed" "$paused" 'PUT /snapshot/create {"snapshot_path":"'"$d"'/s","mem_file_path":"'"$d"'/m"}'
	sleeps
	end_api
	start_api
	each 204 'PUT /snapshot/load {"snapshot_path":"'"$d"'/s","mem_backend":{"backend_type":"File","backend_path":"'"$d"'/m"}}'
	sleeps
	end_api
}

# bats test_tags=untraced
@test "idle: a VM that ends with its snapshot, until the files have their names" {
	command -v strace > /dev/null || skip "no strace here"
	start_flat keep -m 32M --control "$d/control"
	wait_said '^keep'
	strace -qq -o calls -e trace=renameat2 -e inject=renameat2:delay_enter=60000000 \
		"$MAYFLY" snapshot --stop "$d/control" snap 3>&- &
	started+=($!)
	wait_for grep -q renameat2 calls # it says so before the delay
	sleeps
	pkill -KILL -P "${started[-1]}" # or it would wait the minute
}

@test "idle: a VM whose snapshot is due before its init is there, and one whose init never comes" {
	start_flat echo -m 32M --snapshot snap --until 300ms --boot-timeout 60s -- true
	sleeps
	kill "$pid"
	wait_end
	[ ! -e snap ]
	start_flat echo -m 32M --boot-timeout 60s --timeout 60s -- true
	sleeps
}

@test "idle: VMs that have forked and been forked, and a client that says nothing" {
	start_flat keep -m 32M --forkable --control "$d/control"
	wait_said '^keep'
	"$MAYFLY" clone "$d/control" -n 1 --control "$d/other" > clone.out 2>&1 3>&- &
	started+=($!)
	wait_for test -S other
	"$PYTHON" -I -S -c 'import socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect("control"); time.sleep(100)' 3>&- &
	started+=($!)
	sleeps
	sleeps "$(pgrep -P "${started[1]}")"
}
