#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2034,SC2153,SC2154 # each test is a subshell; the variables are of helper.bash
#
# `mayfly bench`: what it counts, what it writes, and how it ends. No test asks how long anything took.

load helper

setup() {
	started=()
	cd "$BATS_TEST_TMPDIR" || return 1
	flat=(-k "$GUESTS/hello.elf")
}

# of_json FILE EXPRESSION: prints it, with the object as j, its options as o, and its series as s, by metric.
of_json() {
	"$PYTHON" -I -S -c 'import json, sys; j = json.load(open(sys.argv[1])); o = j["options"]
s = {x["metric"]: x for x in j["series"]}; times = [m for m in s if s[m]["unit"] == "ns"]; print(eval(sys.argv[2]))' "$1" "$2"
}

# assert_json FILE 'EXPRESSION'...: each is true of the object j.
assert_json() {
	local file=$1 text
	shift
	for text; do
		run of_json "$file" "bool($text)"
		[ "$output" = True ] || fail "not true: $text: $output"
	done
}

# bats test_tags=flat
@test "bench: boots are counted, and their phases add up to the total" {
	run_mayfly bench boot -n 5 --warm 2 --csv r.csv --json r.json --svg r.svg "${flat[@]}"
	assert_success
	assert_equal "$stderr" '' # no progress, since it is no terminal
	assert_regex "$output" 'tier cold'
	assert_json r.json 'o["kind"] == "boot" and o["tier"] == "cold" and j["runs"] == 5 and o["failed"] == 0' \
		'o["warm"] == 2 and o["jobs"] == 1 and o["wall_ns"] > 0 and j["guest_kernel"] == {"version": "unknown"}' \
		'times == ["first_kvm_run", "until_the_end", "process_end", "total"]' \
		'all(0 < s[t]["min"] <= s[t]["p50"] <= s[t]["p90"] <= s[t]["p99"] <= s[t]["max"] for t in times)' \
		'all(len(s[t]["values"]) == 5 for t in times)' \
		'all(sum(s[t]["values"][i] for t in times[:-1]) == s["total"]["values"][i] for i in range(5))' \
		's["minor_faults"]["min"] > 0' 'j["hosts"]["here"]["hz"] > 0 and j["hosts"]["here"]["cpus"] > 0'
	run "$PYTHON" -I -S "$root/perf/schema.py" r.json
	assert_success
	assert_equal "$(wc -l < r.csv)" 6
	run awk -F, 'NR == 1 { n = NF } NF != n { print "odd" } NR > 1 { print $1 $2 $4 }' r.csv
	assert_output $'1boot0\n2boot0\n3boot0\n4boot0\n5boot0'
	run "$PYTHON" -I -S -c 'import sys, xml.dom.minidom as x
d = x.parse(sys.argv[1]); print(len(d.getElementsByTagName("polyline")), "http" in d.documentElement.toxml()[100:])' r.svg
	assert_output '2 False'
}

# bats test_tags=flat
@test "bench: KVM's counters of exits, where the kernel has them, and none where not" {
	run_mayfly run --timeline t.json "${flat[@]}"
	run_mayfly bench boot -n 2 --json r.json "${flat[@]}"
	assert_success
	if grep -q '"exits"' t.json; then
		assert_json r.json 's["exits"]["min"] > 0'
	else
		assert_json r.json '"exits" not in s'
	fi
}

# bats test_tags=flat
@test "bench: a run that fails is reported and counted, and is in no figure" {
	run_mayfly bench boot -n 3 --warm 0 --json r.json --csv r.csv -k "$GUESTS/triple.elf"
	assert_equal "$status" 125
	assert_equal "$(grep -c '^mayfly: bench: run [123] failed, status 102' <<< "$stderr")" 3
	assert_json r.json 'o["failed"] == 3 and j["runs"] == 3 and j["series"] == []' \
		'j["notes"] == ["3 of 3 runs failed"] + ["run %d: status 102" % i for i in (1, 2, 3)]'
	run_mayfly bench boot -n 14 --warm 0 -k "$GUESTS/triple.elf"
	assert_equal "$status" 125
	assert_equal "$(grep -c 'run .* failed' <<< "$stderr")" 10
	assert_regex "$output" 'failed: 14 of 14'
}

# bats test_tags=flat
@test "bench: after a warm-up that failed, nothing is measured" {
	run_mayfly bench boot --json r.json -k "$GUESTS/triple.elf"
	assert_equal "$status" 125
	assert_one_line 'warm-up 1 failed, status 102'
	assert_equal "$output" ''
	[ ! -e r.json ]
}

# bats test_tags=flat
@test "bench: a run has the time limit of --timeout" {
	run_mayfly bench boot -n 2 --warm 0 --jobs 2 --timeout 300ms --json r.json -k "$GUESTS/idle.elf"
	assert_equal "$status" 125
	assert_json r.json 'j["notes"][1:] == ["run 1: status 124", "run 2: status 124"]'
}

# bats test_tags=flat
@test "bench: several at once are the tier burst" {
	run_mayfly bench boot -n 7 --jobs 3 --json r.json "${flat[@]}"
	assert_success
	assert_json r.json 'o["tier"] == "burst" and o["jobs"] == 3 and j["runs"] == 7' 'len(s["total"]["values"]) == 7'
}

# bats test_tags=flat
@test "bench: SIGINT ends what runs, prints what was measured, and leaves nothing" {
	start_mayfly bench boot -n 100000 --json r.json "${flat[@]}"
	measured() { # the page faults of children that were waited for: each has some 80
		local stat
		read -ra stat < "/proc/$pid/stat"
		[ "${stat[10]}" -gt 1000 ]
	}
	wait_for measured
	kill -INT "$pid"
	wait_end
	assert_equal "$status" 130
	assert_json r.json 'j["runs"] > 0 and j["runs"] < 100000 and o["failed"] == 0 and len(s["total"]["values"]) == j["runs"]'
	grep -q 'bench boot' out
	# A guest that would run on for a minute.
	start_mayfly bench boot -n 2 --jobs 2 --warm 0 -k "$GUESTS/idle.elf"
	wait_for pgrep -P "$pid" mayfly
	kill -TERM "$pid"
	wait_end
	assert_equal "$status" 143
	assert_equal "$stderr" ''
}

# bats test_tags=flat
@test "bench: killed, it leaves no VM" {
	start_mayfly bench boot -n 2 --jobs 2 --warm 0 -k "$GUESTS/idle.elf"
	wait_for pgrep -P "$pid" mayfly
	kill -KILL "$pid"
	wait_for has_ended "$pid"
}

# bats test_tags=flat
@test "bench: runs are pinned to CPUs" {
	local child
	start_mayfly bench boot -n 1 --warm 0 --pin 0 -k "$GUESTS/idle.elf"
	wait_for pgrep -P "$pid" mayfly
	child=$(pgrep -P "$pid" mayfly | head -n 1)
	assert_equal "$(awk '/^Cpus_allowed_list/ { print $2 }' "/proc/$child/status")" 0
	kill -INT "$pid"
	wait_end
}

# bats test_tags=flat
@test "bench: progress on a terminal" {
	on_tty 'expect=run 2 of 2' -- "$MAYFLY" bench boot -n 2 "${flat[@]}"
	assert_success
	assert_regex "$output" 'terminal: unchanged'
}

# bats test_tags=flat
@test "bench: files that cannot be written" {
	run_mayfly bench boot -n 1 --csv /nonexistent/r.csv "${flat[@]}"
	assert_equal "$status" 125
	assert_one_line "/nonexistent/r.csv"
	run_mayfly bench boot -n 1 --json /dev/full "${flat[@]}"
	assert_equal "$status" 125
	assert_one_line "/dev/full"
}

# bats test_tags=flat
@test "bench: what is wrong costs one line" {
	wrong() {
		run_mayfly bench "${@:2}"
		assert_equal "$status" 125
		assert_equal "$output" ''
		assert_one_line "$1"
	}
	wrong 'boot, run, exec, restore or clone'
	wrong "'fork'" fork
	wrong 'COMMAND' run "${flat[@]}"
	wrong 'DIR' restore
	wrong "'nothing'" clone nothing
	wrong '--pool' boot --pool pool "${flat[@]}"
	wrong '--pool' restore nothing --pool pool
	wrong '--pool' clone nothing --pool ''
	wrong '--runs' boot -n 0 "${flat[@]}"
	wrong '--runs' boot -n 1000000 "${flat[@]}"
	wrong '--jobs' boot --jobs 0 "${flat[@]}"
	wrong '--pin' boot --pin 3-1 "${flat[@]}"
	wrong '--timeline' boot --timeline x "${flat[@]}"
	wrong '--detach' boot --detach "${flat[@]}"
	wrong '--cpus' boot --cpus 99 "${flat[@]}"
	wrong '--kernel' boot --kernl x
	wrong 'root' boot
	wrong "warm-up 1 failed, status 125: kernel 'nothing'" boot -k nothing
}

@test "bench: boots of Linux, commands, and commands in one VM" {
	local root=(-r "$ROOTFS")
	run_mayfly bench boot -n 2 --json boot.json -k "$KERNEL" "${root[@]}"
	assert_success
	assert_json boot.json 'j["guest_kernel"]["version"][0].isdigit()' '{"kernel_to_pid_1", "to_mayflys_init"} <= set(times)' \
		'"exits" not in s or s["exits"]["min"] > 100'
	run_mayfly bench run -n 2 --csv run.csv --json run.json --svg run.svg -k "$KERNEL" "${root[@]}" -- true
	assert_success
	assert_json run.json '{"root_mounted", "command_started", "its_end", "total"} <= set(times)' \
		'all(sum(s[t]["values"][i] for t in times[:-1]) == s["total"]["values"][i] for i in range(j["runs"]))'
	run_mayfly bench run -n 2 --warm 0 -k "$KERNEL" "${root[@]}" -- sh -c 'exit 7'
	assert_equal "$status" 125
	assert_regex "$stderr" 'run 2 failed, status 7'
	run_mayfly bench exec -n 3 --warm 0 --json exec.json -k "$KERNEL" "${root[@]}" -- true
	assert_success
	assert_json exec.json 'o["tier"] == "warm" and j["runs"] == 3 and times == ["total"]'
	run_mayfly bench exec -n 2 --jobs 2 --json exec.json -k "$KERNEL" "${root[@]}" -- sh -c 'exit 3'
	assert_equal "$status" 125
	assert_regex "$stderr" 'warm-up 1 failed, status 3'
	run find /tmp -maxdepth 1 -name 'mayfly-bench-*' -newer boot.json
	assert_output ''
}

# bats test_tags=flat
@test "bench: a snapshot is restored with the options, and a guest that does not end is a failure" {
	local kind
	start_flat keep -m 64M --control "$PWD/control"
	wait_said '^keep'
	run "$MAYFLY" snapshot --stop "$PWD/control" snap
	assert_success
	for kind in restore clone; do
		run_mayfly bench "$kind" snap -n 2 --timeout 300ms
		assert_equal "$status" 125
		assert_regex "$stderr" 'warm-up 1 failed, status 124'
	done
	kill_started
}

a_member_waits() { "$MAYFLY" ps | grep -q ' waiting '; }

@test "bench: restores, clones and claims of Linux, with a command" {
	local kind i
	"$MAYFLY" run -k "$KERNEL" -r "$ROOTFS" --control "$PWD/control" -- sleep 1000 3>&- &
	started+=("$!")
	run_mayfly exec --wait=60s "$PWD/control" -- true
	assert_success
	run_mayfly snapshot --stop "$PWD/control" snap
	assert_success
	for kind in restore clone; do
		run_mayfly bench "$kind" snap -n 2 --warm 0 --json "$kind.json" -- sh -c 'echo said'
		assert_success
		assert_json "$kind.json" 'o["kind"] == "'"$kind"'" and o["tier"] == "clone" and j["runs"] == 2' \
			'{"first_kvm_run", "to_mayflys_init", "its_end", "total"} <= set(times)' \
			'"kernel_to_pid_1" not in times' 'j["guest_kernel"]["version"][0].isdigit()'
	done
	run_mayfly bench restore snap -n 1 --warm 0 -- sh -c 'exit 7'
	assert_equal "$status" 125
	assert_regex "$stderr" 'run 1 failed, status 7'
	# A claim of a pool has no marks; one that found no VM there is counted.
	"$MAYFLY" pool snap --size 1 --socket "$PWD/pool" 3>&- &
	started+=("$!")
	wait_for a_member_waits
	run_mayfly bench clone --pool "$PWD/pool" -n 1 --warm 0 --json pool.json -- true
	assert_success
	assert_json pool.json 'o["kind"] == "clone" and o["tier"] == "warm" and times == ["total"]' \
		's["plain_clones"]["values"] == [0]'
	run_mayfly bench clone snap --pool "$PWD/no-pool" -n 1 --warm 0 --json pool.json -- true
	assert_success
	assert_json pool.json 's["plain_clones"]["values"] == [1]' 'j["guest_kernel"]["version"][0].isdigit()'
	kill_started
}

@test "bench: a VM for exec that does not start" {
	run_mayfly bench exec -n 1 -k "$KERNEL" -r "$ROOTFS" -v "$PWD/nothing:/x" -- true
	assert_equal "$status" 125
	assert_regex "$stderr" 'nothing'
	run_mayfly bench exec -n 1 -k "$GUESTS/triple.elf" -r "$ROOTFS" -- true
	assert_equal "$status" 125
	assert_regex "$stderr" 'the VM has ended'
}
