#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2153,SC2154 # each test is a subshell; the variables are of helper.bash
#
# VMs that are listed, stopped, killed, waited for and removed by name. Names are the test's own: other VMs may run here.

# bats file_tags=flat
load helper

setup() {
	umask 022
	started=()
	vm=t$BASHPID.$BATS_TEST_NUMBER
}

teardown() {
	"$MAYFLY" rm -f "$vm" "$vm-2" > /dev/null 2>&1 || true
	end_test
}

# start_idle NAME [OPTION...]: a VM that runs until it is ended.
start_idle() {
	start_flat idle --name "$@"
	wait_for is_state "$1" running
}

# field NAME FIELD: of `mayfly ps --json -a`, or nothing.
field() {
	"$MAYFLY" ps --json -a | "$PYTHON" -c 'import json, sys
print(*[vm.get(sys.argv[2]) for vm in json.load(sys.stdin) if vm["name"] == sys.argv[1]])' "$1" "$2"
}

is_state() {
	[ "$(field "$1" state)" = "$2" ]
}

records() {
	if [ "$(id -u)" = 0 ]; then echo /run/mayfly/vms; else echo "$XDG_RUNTIME_DIR/mayfly/vms"; fi
}

@test "ps: a VM is listed while it runs, and after it was stopped" {
	local jail
	for jail in --no-seccomp --jail; do
		start_idle "$vm" "$jail"
		assert_equal "$(field "$vm" pid)" "$pid"
		run -0 "$MAYFLY" ps
		assert_line --regexp "^$vm +$pid +running +1 +128M "
		run -0 "$MAYFLY" ps -q
		assert_line "$vm"
		run -0 "$MAYFLY" completion -- stop "$vm"
		assert_output --partial "$vm"
		run -0 "$MAYFLY" stop "$vm"
		assert_output "$vm"
		wait_end
		assert_equal "$status" 143
		run -0 "$MAYFLY" ps -q
		[[ $'\n'$output$'\n' != *$'\n'$vm$'\n'* ]]
		run -0 "$MAYFLY" ps -a
		assert_line --regexp "^$vm +- +ended 143 "
		assert_equal "$(field "$vm" cause)" signal
		run -143 "$MAYFLY" wait "$vm"
		assert_output 143
		run -0 "$MAYFLY" stop "$vm"
		run -0 "$MAYFLY" rm "$vm"
		run -125 "$MAYFLY" rm "$vm"
		run -0 "$MAYFLY" ps -a -q
		[[ $'\n'$output$'\n' != *$'\n'$vm$'\n'* ]]
	done
}

@test "ps: how a guest has ended is in its record" {
	local end
	for end in hello=0=reboot halt=104=halt triple32=102=crash; do
		[ -e "$GUESTS/${end%%=*}.elf" ] || continue
		run_flat "${end%%=*}" --name "$vm"
		assert_equal "$(field "$vm" code) $(field "$vm" cause)" "$status ${end##*=}"
	done
	run_flat idle --name "$vm" --timeout 300ms
	assert_equal "$(field "$vm" code) $(field "$vm" cause)" "124 timeout"
	run_flat idle --name "$vm" --timeout 300ms --jail
	assert_equal "$(field "$vm" code) $(field "$vm" cause)" "124 timeout"
	run_mayfly run -k /nowhere --name "$vm"
	assert_equal "$(field "$vm" code) $(field "$vm" cause)" "125 failed"
}

@test "ps: a VM without a name is listed while it runs, and leaves nothing" {
	local name
	start_flat idle
	wait_said idle
	name=$("$MAYFLY" ps --json | "$PYTHON" -c 'import json, sys
print(*[vm["name"] for vm in json.load(sys.stdin) if vm["pid"] == int(sys.argv[1])])' "$pid")
	[[ $name =~ ^[0-9a-f]{8}$ ]] || fail "its name: '$name'"
	run -0 "$MAYFLY" stop "$name"
	wait_end
	[ ! -e "$(records)/$name" ] || fail "its record is left"
}

@test "ps: the record of a VM that was killed says that it is lost, and its name is free" {
	local jail
	for jail in --no-seccomp --jail; do
		start_idle "$vm" "$jail"
		kill -KILL "$pid"
		wait_end
		run -0 "$MAYFLY" ps -a
		assert_line --regexp "^$vm +- +lost "
		run -137 "$MAYFLY" wait "$vm"
		assert_output 137
		start_idle "$vm" "$jail"
		run -0 "$MAYFLY" kill "$vm"
		wait_end
		assert_equal "$(field "$vm" state) $(field "$vm" cause)" "ended killed"
		run -137 "$MAYFLY" wait "$vm"
	done
}

# A VM ends a moment after the process outside of its jail, and has the socket of that name until then. So does this one.
@test "run: the socket of a name that is free is waited for, and no longer than a second" {
	local path ends
	start_idle "$vm"
	path=$("$MAYFLY" inspect "$vm" | sed -n 's/.*"control": "\(.*\)".*/\1/p' | head -n 1)
	run -0 "$MAYFLY" rm -f "$vm"
	wait_end
	mkdir -p "${path%/*}"
	chmod 700 "${path%/*}"
	for ends in 0.3 60; do
		rm -f "$path" # of the VM before
		"$PYTHON" -c 'import socket, sys, time
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
    s.bind(sys.argv[1])
    s.listen()
    time.sleep(float(sys.argv[2]))' "$path" "$ends" 3>&- &
		started+=($!)
		wait_for test -S "$path"
		if [ "$ends" = 60 ]; then
			run_flat idle --name "$vm" --timeout 10s
			assert_equal "$status" 125
			assert_one_line 'another process listens'
		else
			start_idle "$vm"
			run -0 "$MAYFLY" rm -f "$vm"
			wait_end
		fi
	done
	kill -KILL "${started[-1]}"
	rm -f "$path"
}

@test "run: the name of a VM that runs is refused, with its PID" {
	start_idle "$vm"
	run_flat idle --name "$vm"
	assert_equal "$status" 125
	assert_one_line "$pid"
	assert_equal "$(field "$vm" pid)" "$pid"
	run -125 "$MAYFLY" rm "$vm"
	run -0 "$MAYFLY" rm -f "$vm"
	wait_end
	assert_equal "$status" 137
}

@test "wait: it waits, for each, and returns the last status; a VM that is not there is an error" {
	local first
	start_idle "$vm"
	first=$pid
	start_idle "$vm-2"
	"$MAYFLY" wait "$vm-2" "$vm" > "$BATS_TEST_TMPDIR/waited" &
	started+=($!)
	kill -TERM "$first"
	wait_for is_state "$vm" ended
	[ ! -s "$BATS_TEST_TMPDIR/waited" ] || fail "it did not wait"
	run -0 "$MAYFLY" kill -s HUP "$vm-2"
	status=0
	wait "${started[2]}" || status=$?
	assert_equal "$status" 143
	assert_equal "$(< "$BATS_TEST_TMPDIR/waited")" $'129\n143'
	run -125 "$MAYFLY" wait nobody-has-this-name
	run -125 "$MAYFLY" wait
	run -125 "$MAYFLY" kill -s STOP "$vm"
}

@test "stop: a VM that does not end is killed after the time" {
	start_idle "$vm"
	kill -STOP "$pid"
	run -0 "$MAYFLY" stop -t 300ms "$vm"
	wait_end
	assert_equal "$status" 137
	assert_equal "$(field "$vm" cause)" killed
}

# It looks at the process's start, which takes half a second here, after it has seen that the VM lives.
# bats test_tags=untraced
@test "stop: a VM that ends while it is looked at has ended" {
	command -v strace > /dev/null || skip "no strace here"
	start_idle "$vm"
	run -0 strace -qq -o "$BATS_TEST_TMPDIR/calls" -P "/proc/$pid/stat" -e inject=openat:delay_enter=500000 "$MAYFLY" stop "$vm"
	assert_output "$vm"
	wait_end
	assert_equal "$status" 143
	grep -q ENOENT "$BATS_TEST_TMPDIR/calls" || fail "it had not ended: $(< "$BATS_TEST_TMPDIR/calls")"
}

# The PID of a record may have become another process's.
@test "kill: a process that is not the VM's gets no signal" {
	sleep 100 3>&- &
	started+=($!)
	start_idle "$vm"
	sed -i.forged "s/\"pid\":$pid,/\"pid\":${started[0]},/" "$(records)/$vm"
	mv "$(records)/$vm.forged" "$(records)/$vm" # sed has made a new file, which nobody has locked
	sed -i "s/\"pid\":$pid,/\"pid\":${started[0]},/" "$(records)/$vm"
	"$MAYFLY" kill "$vm" || true
	"$MAYFLY" stop "$vm" || true
	"$MAYFLY" rm -f "$vm" || true
	kill -0 "${started[0]}"
	kill_started
}

@test "ps: fifty lists beside twenty VMs that begin and are killed" {
	local i ids=() lists=()
	for i in {1..20}; do
		"$MAYFLY" run --name "$vm-$((i % 10))" -k "$GUESTS/idle.elf" < /dev/null > /dev/null 2>&1 3>&- &
		ids+=($!)
	done
	for i in {1..50}; do
		"$MAYFLY" ps -a --json > "$BATS_TEST_TMPDIR/list.$i" 3>&- &
		lists+=($!)
		[ $((i % 3)) -ne 0 ] || kill -KILL "${ids[i / 3]}" 2> /dev/null || true
	done
	for i in "${lists[@]}"; do wait "$i"; done
	for i in {1..50}; do "$PYTHON" -m json.tool "$BATS_TEST_TMPDIR/list.$i" > /dev/null; done
	for i in "${ids[@]}"; do
		kill -KILL "$i" 2> /dev/null || true
		wait "$i" || true
	done
	for i in {0..9}; do
		[ ! -e "$(records)/$vm-$i" ] || "$MAYFLY" rm "$vm-$i"
	done
	run -0 "$MAYFLY" ps -a
	refute_output --partial "$vm-"
}

# A guest's name reaches its host name, its socket, its control group and its record.
@test "run: a name may have dots, but not in front" {
	local name
	for name in . .. .x -x 'a/b' 'a b' "$(printf '%064d' 0)" ''; do
		run_flat idle --name "$name"
		assert_equal "$status" 125
	done
	start_idle "$vm" --jail="id=$vm"
	run -0 "$MAYFLY" stop "$vm"
	wait_end
}
