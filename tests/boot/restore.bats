#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2034,SC2154 # tests are subshells, variables are of helper.bash
#
# What Linux guests with mayfly's init do after a restore: their clock, random numbers, names and commands.

load helper

setup() {
	started=()
	dir=$BATS_TEST_TMPDIR
	ctl=$dir/control
	snap=$dir/snap
}

teardown() {
	kill_started
	end_test
}

# source_of COMMAND...: a snapshot of a VM whose command has said "up". The VM has ended.
source_of() {
	start_mayfly run -k "$KERNEL" -i "$INITRAMFS" -m 128M --control "$ctl" -- "$@"
	wait_said ^up
	run "$MAYFLY" snapshot --stop "$ctl" "$snap"
	assert_success
	wait_end
}

# restored [OPTION...] [-- COMMAND...]: to its end, without input.
restored() {
	run_mayfly restore "$snap" "$@"
}

@test "restore: a command of its own has streams, status, environment, user and name" {
	source_of sh -c 'export KEPT=no; echo up; while :; do echo said; echo >> /tmp/said; sleep 1; done'
	run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" restore -e A=one -w /tmp --name "clone$$" "$snap" \
		-- sh -c 'hostname; echo "$A $KEPT"; pwd; cat; echo error >&2; exit 7' <<< input
	assert_equal "$status" 7
	assert_equal "$output" "clone$$"$'\none \n/tmp\ninput'
	assert_equal "$stderr" error
	restored -- no-such-program
	assert_equal "$status" 127
	# The snapshot's command is still there, and hears of no host.
	restored -- sh -c 'old=$(wc -l < /tmp/said); while [ "$(wc -l < /tmp/said)" -lt $((old + 2)) ]; do sleep 1; done; echo runs'
	assert_equal "$output" runs
}

@test "restore: a command that has closed its outputs ends the VM with its status" {
	source_of sh -c 'echo up; exec >&- 2>&-; read x; exit 5'
	run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" restore "$snap" <<< input
	assert_equal "$status" 5
}

@test "restore: a VM that was restored with a command has snapshots, and takes further commands" {
	source_of sh -c 'echo up; exec sleep 100000'
	start_mayfly restore --control "$ctl" "$snap" -- sh -c 'echo second; read line; echo "$line"; exit 3'
	wait_said ^second
	run "$MAYFLY" exec "$ctl" echo further
	assert_output further
	run "$MAYFLY" snapshot "$ctl" "$dir/next"
	assert_success
	tell end
	wait_end
	assert_equal "$status" 3
	run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" restore "$dir/next" <<< again
	assert_equal "$status" 3
	assert_equal "$output" again
	snap=$dir/next
	restored -- sh -c 'exit 9'
	assert_equal "$status" 9
}

@test "restore: the working set that snap record writes; a failed command leaves the older one" {
	source_of sh -c 'echo up; exec sleep 100000'
	run_mayfly snap record "$snap" -- sh -c 'echo in the VM; : > /tmp/file'
	assert_success
	assert_output 'in the VM'
	assert_equal "$stderr" ''
	assert_equal "$(stat -c %a "$snap/workingset")" 400
	assert_equal "$(find "$snap" -name '*.new')" ''
	cp "$snap/workingset" "$dir/first"
	restored -- sh -c 'ls /tmp; echo done' # in a new VM
	assert_equal "$status" 0
	assert_equal "$output" 'done'
	run_mayfly snap check "$snap"
	assert_success
	run_mayfly snap record "$snap" -- sh -c 'exit 3'
	assert_equal "$status" 125
	assert_regex "$stderr" 'status 3'
	cmp "$snap/workingset" "$dir/first"
	# Another snapshot's says nothing about this one; a damaged one is refused.
	mv "$snap" "$dir/old"
	source_of sh -c 'echo up; sleep 100000; exit 1'
	cp "$dir/first" "$snap/workingset"
	restored -- true
	assert_success
	truncate -s -1 "$snap/workingset"
	restored -- true
	assert_equal "$status" 125
	assert_regex "$stderr" workingset
	run_mayfly snap rm "$snap" "$dir/old"
	assert_success
	[ ! -e "$snap" ] && [ ! -e "$dir/old" ]
}

@test "restore: what needs a command is refused without one" {
	source_of sh -c 'echo up; exec sleep 100000'
	for option in "-e A=B" "-u 0" "-w /tmp" "-t"; do
		# shellcheck disable=SC2086 # two words
		restored $option
		assert_equal "$status" 125
	done
}

@test "restore: the hook runs before the command, and its failure ends the VM" {
	source_of sh -c 'mkdir -p /etc/mayfly; printf "#!/bin/sh\nhostname > /tmp/hook\n. /tmp/more\n" > /etc/mayfly/restored
		chmod +x /etc/mayfly/restored; : > /tmp/more; echo up; read line; echo "exit 1" > /tmp/more; echo changed; read line'
	restored --name "hook$$" -- cat /tmp/hook
	assert_equal "$output" "hook$$"
	start_mayfly restore --control "$ctl" "$snap"
	tell go
	wait_said ^changed
	run "$MAYFLY" snapshot --stop "$ctl" "$dir/next"
	assert_success
	wait_end
	snap=$dir/next
	restored -- echo started
	assert_equal "$status" 125
	assert_equal "$output" ''
	[[ $stderr == */etc/mayfly/restored* ]]
}

@test "restore: the wall clock is right to 50 ms, and no timer is early, after a minute, an hour and a year" {
	local age try low high answer uptime first
	# The guest's clock is as old as the file: both were saved that long ago.
	for age in 60 3600 31536000; do
		source_of sh -c 'date -s "@$(($(date +%s) - '$age'))" > /dev/null; (sleep 50000; echo early) & cut -d . -f 1 /proc/uptime
			echo up; while read -r line; do read -r uptime line < /proc/uptime; echo "$EPOCHREALTIME $uptime"; done; exit 0'
		first=$(head -n 1 "$dir/out")
		chmod u+w "$snap/state"
		"$BATS_TEST_DIRNAME/aged-snapshot" "$snap/state" "$age"
		# A machine that stops for a while between the host's answer and the guest's use of it has that much less of the time.
		for try in 1 2 3; do
			run --separate-stderr timeout -k 5 "$LIMIT" "$BATS_TEST_DIRNAME/clock-offset" "$MAYFLY" restore "$snap"
			assert_equal "$status" 0
			read -r low high answer uptime <<< "$output"
			echo "# between $low and $high us from ours"
			[ "$low" -gt 50000 ] || [ "$high" -lt -50000 ] || break
		done
		[ "$low" -le 50000 ] && [ "$high" -ge -50000 ] || fail "the clock is off by $low to $high us, three times"
		[ $((${uptime%.*} - first)) -lt 60 ] || fail "uptime $first, then $uptime"
		refute_line early
		rm -rf "$snap"
	done
}

@test "restore: no two of many clones get the same random numbers" {
	local i clones=${CLONES:-10}
	source_of sh -c 'dd if=/dev/urandom of=/tmp/values bs=8 2> /dev/null & sleep 0.2; echo up; exec sleep 100000'
	mkdir "$dir/clones"
	for ((i = 1; i <= clones; i++)); do
		"$MAYFLY" restore "$snap" -- sh -c 'dd if=/dev/urandom of=/tmp/fresh bs=8 count=1000 2> /dev/null
			sleep 0.1; kill %1 2> /dev/null; cat /tmp/fresh; head -c 8000000 /tmp/values' < /dev/null > "$dir/clones/$i"
	done
	"$PYTHON" -I -S - "$clones" "$dir/clones"/* <<- 'END'
		import sys

		COUNT = 1000
		clones = [open(path, "rb").read() for path in sys.argv[2:]]
		values = [[c[i : i + 8] for i in range(0, len(c) // 8 * 8, 8)] for c in clones]
		fresh = [v[:COUNT] for v in values]
		reads = [v[COUNT:] for v in values]
		shared = next(i for i, row in enumerate(zip(*reads)) if len(set(row)) > 1)
		assert shared > 0, "it was not in the middle of reading"
		after = [r[shared : shared + COUNT] for r in reads]
		assert all(len(a) == COUNT for a in after), [len(a) for a in after]
		everything = [value for part in fresh + after for value in part]
		assert len(clones) == int(sys.argv[1]) and len(everything) == 2 * len(clones) * COUNT
		assert len(set(everything)) == len(everything), len(everything) - len(set(everything))
	END
}

@test "restore: a root that was packed from a directory; one that has changed since is refused" {
	local root=$dir/root
	export XDG_CACHE_HOME=$dir/cache
	mkdir -p "$root/bin"
	cp /usr/bin/busybox "$root/bin/sh"
	start_mayfly run -k "$KERNEL" -m 128M -r "$root" --control "$ctl" -- sh -c 'echo up; read line'
	wait_said ^up
	run "$MAYFLY" snapshot --stop "$ctl" "$snap"
	assert_success
	wait_end
	restored -- sh -c 'echo works' # its image has been used again meanwhile
	assert_equal "$output" works
	restored -- sh -c 'echo again'
	assert_equal "$output" again
	echo other > "$root/file"
	restored -- sh -c 'echo not'
	assert_equal "$status" 125
	assert_equal "$output" ''
	assert_regex "$stderr" "drive 'root'"
}

@test "restore: of a VM in a jail, and of one with a disk for its changes" {
	local root=$dir/root option
	export XDG_CACHE_HOME=$dir/cache
	mkdir -p "$root/bin"
	cp /usr/bin/busybox "$root/bin/sh"
	for option in --jail --disk=64M; do
		rm -rf "$snap"
		start_mayfly run -k "$KERNEL" -m 128M -r "$root" "$option" --control "$ctl" -- sh -c 'echo kept > /tmp/x; echo up; read line'
		wait_said ^up
		run timeout 30 "$MAYFLY" snapshot --stop "$ctl" "$snap" # does not wait for a check of the main loop's
		assert_success
		wait_end
		restored -- sh -c 'read line < /tmp/x; echo "$line"'
		assert_equal "$output" kept
	done
}

@test "diff: a chain of four has all that a guest has written, and is merged" {
	local n
	source_of sh -c 'cd /tmp; head -c 8000000 /dev/urandom > f0; echo up; while read -r line; do eval "$line"; done; exit 0'
	mv "$snap" "$dir/0"
	for n in 1 2 3; do
		start_mayfly restore --control "$ctl" "$dir/$((n - 1))"
		tell "head -c 2000000 /dev/urandom > f$n; dd if=/dev/urandom of=f0 conv=notrunc bs=4096 seek=$((n * 99)) count=20 2> /dev/null"
		tell "sha1sum f? > sums; echo ready$n"
		wait_said "^ready$n"
		run "$MAYFLY" snapshot --diff --stop "$ctl" "$dir/$n"
		assert_success
		wait_end
	done
	for n in 1 2 3; do
		run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" restore "$dir/$n" <<< 'sha1sum -c sums'
		assert_equal "$status" 0
		assert_equal "$(grep -c ': OK$' <<< "$output")" $((n + 1))
		refute_output --partial FAILED
		[ "$(du -k "$dir/$n/memory" | cut -f 1)" -lt "$(($(du -k "$dir/0/memory" | cut -f 1) / 2))" ]
	done
	run "$MAYFLY" snap merge "$dir/3"
	assert_success
	rm -r "$dir/0" "$dir/1" "$dir/2"
	snap=$dir/3
	run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" restore "$snap" <<< 'sha1sum -c sums'
	assert_equal "$status" 0
	assert_equal "$(grep -c ': OK$' <<< "$output")" 4
	restored -- sh -c 'cd /tmp; sha1sum -c sums'
	assert_equal "$(grep -c ': OK$' <<< "$output")" 4
}

@test "snapshot: a writable image on XFS or Btrfs is as it was, while the guest goes on to write" {
	[ "$(id -u)" = 0 ] || skip "needs root, to mount a file system"
	local kind
	for kind in xfs btrfs none; do
		! grep -qw "$kind" /proc/filesystems || break
	done
	[ "$kind" != none ] || skip "this kernel has neither XFS nor Btrfs"
	mkdir "$dir/mnt"
	truncate -s 320M "$dir/fs"
	"mkfs.$kind" -q "$dir/fs" 2> /dev/null
	mount -o loop "$dir/fs" "$dir/mnt"
	truncate -s 16M "$dir/mnt/disk"
	# Each number is on the disk before it is in the memory.
	start_mayfly run -k "$KERNEL" -i "$INITRAMFS" -m 128M --control "$ctl" -d "$dir/mnt/disk:rw" -- sh -c \
		'i=0; while :; do i=$((i + 1)); printf "%511d\n" "$i" | dd of=/dev/vda bs=512 seek="$i" conv=notrunc,fsync 2> /dev/null
			echo "$i" > /tmp/written; [ "$i" != 20 ] || echo up; done'
	wait_said ^up
	run "$MAYFLY" snapshot "$ctl" "$dir/mnt/snap"
	assert_success
	kill "$pid"
	wait_end
	tr '\0' x < /dev/zero | dd of="$dir/mnt/disk" bs=1M count=16 conv=notrunc status=none
	run_mayfly restore "$dir/mnt/snap" -- sh -c \
		'n=$(cat /tmp/written); i=0; while [ "$i" -lt "$n" ]; do i=$((i + 1)); dd if=/dev/vda bs=512 skip="$i" count=1 2> /dev/null; done |
			awk "{ if (\$1 != NR) bad = 1 } END { print bad ? \"bad\" : \"good\"; exit NR < 20 }"'
	umount "$dir/mnt"
	assert_equal "$status" 0
	assert_equal "$output" good
}

@test "restore: the client of a pool has a command's streams, status, environment, name, time and random numbers" {
	local pool jail random=() A=exported
	source_of sh -c 'echo up; exec sleep 100000'
	for jail in '' --jail; do
		"$MAYFLY" pool "$snap" --size 1 --socket "$dir/pool" $jail < /dev/null 2> "$dir/pool.err" 3>&- &
		pool=$!
		started+=("$pool")
		wait_for eval '"$MAYFLY" ps | grep -q " waiting "'
		export A
		run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" clone --pool "$dir/pool" -e A -e B=two -w /tmp --name "pooled$$" \
			-- sh -c 'hostname; echo "$A $B"; pwd; cat; date +%s >&2; echo "$0" >&2; exit 7' "a b" <<< input
		assert_equal "$status" 7
		assert_equal "$output" "pooled$$"$'\nexported two\n/tmp\ninput'
		assert_equal "${stderr#*$'\n'}" 'a b' # no plain clone
		[ $((EPOCHSECONDS - ${stderr%%$'\n'*})) -le 60 ]
		wait_for eval '"$MAYFLY" ps | grep -q " waiting "'
		start_mayfly clone --pool "$dir/pool" --name "pooled$$" -- sh -c \
			'trap "echo term; exit 3" TERM; od -An -tx1 -N16 /dev/urandom; while :; do sleep 0.1; done'
		wait_said '^ [0-9a-f][0-9a-f] '
		random+=("$(< "$dir/out")")
		run "$MAYFLY" exec "pooled$$" echo further
		assert_output further
		kill -TERM "$pool"
		wait_for has_ended "$pool"
		kill -TERM "$pid"
		wait_end
		assert_equal "$status" 143
		said '^term'
	done
	[ "${random[0]}" != "${random[1]}" ]
	run --separate-stderr timeout "$LIMIT" "$MAYFLY" clone "$snap" --pool "$dir/pool" --timeout 200ms -- sleep 1000 < /dev/null
	assert_equal "$status" 124
	[[ $stderr == *"no pool listens at"*"a plain clone"* ]]
}
