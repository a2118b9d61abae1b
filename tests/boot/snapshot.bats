#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2034,SC2154 # tests are subshells, variables are of helper.bash
#
# Snapshots of flat guests: what they keep, what a restore refuses, and what is left when something fails.

# bats file_tags=flat
load helper

setup() {
	snapshot_names
}

teardown() {
	kill_started
	end_test
}

# keep [OPTION...]: starts the guest that keeps what it reads.
keep() {
	start_flat keep -m 64M --control "$ctl" "$@"
	wait_said '^keep'
}

# snapshot [OPTION...]: of it; must succeed.
snapshot() {
	run "$MAYFLY" snapshot "$@" "$ctl" "$snap"
	assert_success
}

# restored TEXT [OPTION...]: a VM from the snapshot gets TEXT and ^D. Sets $output to what it says, $status and $stderr.
restored() {
	run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" restore "${@:2}" "$snap" <<< "$1"$'\n\4'
	strip_returns
}

# refused TEXT [OPTION...]: a restore is; its message has TEXT.
refused() {
	restored x "${@:2}"
	assert_equal "$status" 125
	assert_equal "$output" ''
	[[ $stderr == *"$1"* ]] || fail "no '$1' in: $stderr"
}

@test "snapshot: the guest goes on, and so does each VM that is restored" {
	keep
	tell one
	wait_said '^one'
	snapshot --time
	assert_output --regexp '^mayfly: the guest was paused for [0-9]+\.[0-9]{3} ms$'
	assert_equal "$(stat -c %a "$snap/state" "$snap/memory" "$snap/config.json" | sort -u)" 400
	tell two
	wait_said '^two'
	restored three
	assert_equal "$status" 0
	assert_equal "$output" $'one\nthree'
	restored four
	assert_equal "$output" $'one\nfour'
	tell $'\4'
	wait_end
	assert_equal "$status" 0
	assert_equal "$(< "$dir/out")" $'keep\none\none\ntwo'
}

@test "snapshot: memory takes the disk space of its data" {
	keep
	snapshot
	assert_equal "$(stat -c %s "$snap/memory")" $((64 * 1024 * 1024))
	[ "$(du -k "$snap/memory" | cut -f 1)" -lt 256 ]
}

@test "snapshot: --stop ends the VM, which says nothing more" {
	keep
	tell one
	wait_said '^one'
	snapshot --stop
	wait_end
	assert_equal "$status" 0
	restored two
	assert_equal "$output" $'one\ntwo'
}

@test "snapshot: of a VM that was restored" {
	keep
	tell one
	wait_said '^one'
	snapshot --stop
	wait_end
	mv "$snap" "$dir/first"
	start_mayfly restore --control "$ctl" "$dir/first"
	tell two
	wait_said '^two'
	snapshot
	rm -r "$dir/first"
	tell $'\4'
	wait_end
	restored three
	assert_equal "$output" $'one\ntwo\nthree'
}

@test "snapshot: with --io-engine sync, and in a jail" {
	keep --io-engine sync
	tell one
	wait_said '^one'
	snapshot
	restored two --io-engine ring
	assert_equal "$output" $'one\ntwo'
	[ "$(id -u)" = 0 ] || skip "the jail needs root"
	restored three --jail
	assert_equal "$output" $'one\nthree'
}

@test "snapshot: an older one is replaced; anything else stays" {
	keep
	tell one
	wait_said '^one'
	snapshot
	tell two
	wait_said '^two'
	snapshot
	restored three
	assert_equal "$output" $'one\ntwo\nthree'
	assert_equal "$(find "$dir" -mindepth 1 -maxdepth 1 -name '*new*')" ""
	mkdir "$dir/other"
	echo mine > "$dir/other/file"
	run "$MAYFLY" snapshot "$ctl" "$dir/other"
	assert_failure 125
	assert_equal "$(ls -A "$dir/other")" file
	run "$MAYFLY" snapshot "$ctl" "$dir/out"
	assert_failure 125
	run "$MAYFLY" snapshot "$ctl" "$dir/no/such"
	assert_failure 125
	tell three
	wait_said '^three'
}

@test "snapshot: what a client that was killed has left does no harm" {
	keep
	snapshot
	mkdir "$dir/.snap.new"
	echo half > "$dir/.snap.new/memory"
	tell one
	wait_said '^one'
	snapshot
	restored two
	assert_equal "$output" $'one\ntwo'
	[ ! -e "$dir/.snap.new" ]
}

@test "snapshot: without space it fails, the older one stays, and the guest goes on" {
	[ "$(id -u)" = 0 ] || skip "needs root, to mount a tmpfs"
	keep
	tell one
	wait_said '^one'
	mkdir "$dir/small"
	mount -t tmpfs -o size=48k none "$dir/small"
	run "$MAYFLY" snapshot "$ctl" "$dir/small/snap"
	umount "$dir/small" || fail "$(ls -lA "$dir/small")"
	assert_failure 125
	[[ $output == *"No space"* ]]
	tell two
	wait_said '^two'
	snapshot
}

@test "snapshot: a drive is the same file as before, or another one that is named" {
	truncate -s 1M "$dir/disk"
	keep -d "$dir/disk:ro"
	snapshot
	restored one
	assert_equal "$output" one
	cp "$dir/disk" "$dir/copy"
	mv "$dir/disk" "$dir/moved"
	refused "$dir/disk"
	restored two -d "drive0=$dir/moved"
	assert_equal "$output" two
	restored three -d "drive0=$dir/copy"
	assert_equal "$output" three
	cp "$dir/moved" "$dir/disk" # another inode
	refused drive0
	mv "$dir/moved" "$dir/disk"
	touch "$dir/disk"
	refused drive0
	refused nosuch -d "nosuch=$dir/copy"
}

@test "snapshot: state and memory may be elsewhere" {
	keep
	tell one
	wait_said '^one'
	snapshot
	mv "$snap/state" "$dir/s"
	mv "$snap/memory" "$dir/m"
	refused state
	restored two --state "$dir/s" --memory "$dir/m"
	assert_equal "$output" $'one\ntwo'
}

@test "snapshot: files that are cut short, or of another kind, are refused" {
	local size
	keep
	snapshot
	chmod u+w "$snap"/*
	cp --sparse=always "$snap/memory" "$dir/memory"
	for size in 0 1 4096 67108863 67108865 67104768; do
		truncate -s "$size" "$snap/memory"
		refused memory
	done
	rm "$snap/memory"
	refused memory
	mkfifo "$snap/memory"
	refused memory
	rm "$snap/memory"
	mkdir "$snap/memory"
	refused memory
	rmdir "$snap/memory"
	mv "$dir/memory" "$snap/memory"
	restored one
	assert_equal "$output" one
	cp "$snap/state" "$dir/state"
	for size in 0 1 7 8 100 4096 $(($(stat -c %s "$dir/state") - 1)) $(($(stat -c %s "$dir/state") + 1)); do
		cp "$dir/state" "$snap/state"
		truncate -s "$size" "$snap/state"
		refused state
	done
	cp "$dir/state" "$snap/state"
	printf X | dd of="$snap/state" bs=1 seek=2000 conv=notrunc status=none
	refused checksum
	cp "$dir/state" "$snap/state"
	restored two
	assert_equal "$output" two
}

@test "snapshot: another shape of the VM is refused" {
	keep
	snapshot
	chmod u+w "$snap/config.json"
	cp "$snap/config.json" "$dir/config"
	sed -i 's/"cpus": 1/"cpus": 2/' "$snap/config.json"
	refused vCPUs
	sed 's/"mem": "64M"/"mem": "32M"/' "$dir/config" > "$snap/config.json"
	refused MiB
	truncate -s 1M "$dir/disk"
	sed "s|\"drives\": \[\]|\"drives\": [{\"path\": \"$dir/disk\"}]|" "$dir/config" > "$snap/config.json"
	refused devices
}

@test "snapshot: many VMs from one, at once" {
	local i pids=()
	keep
	tell one
	wait_said '^one'
	snapshot --stop
	sha256sum "$snap/memory" > "$dir/sum"
	for i in {1..8}; do
		timeout -k 5 "$LIMIT" "$MAYFLY" restore "$snap" <<< "$i"$'\n\4' > "$dir/out.$i" 2> "$dir/err.$i" &
		pids+=($!)
	done
	wait "${pids[@]}"
	for i in {1..8}; do
		assert_equal "$(tr -d '\r' < "$dir/out.$i")" $'one\n'"$i"
	done
	sha256sum --quiet -c "$dir/sum"
}

@test "snapshot: snap check notices what a restore does not read" {
	keep
	tell one
	wait_said '^one'
	snapshot
	run "$MAYFLY" snap check "$snap"
	assert_success
	run "$MAYFLY" snap info "$snap"
	assert_success
	assert_output --partial '64 MiB'
	chmod u+w "$snap/memory"
	printf X | dd of="$snap/memory" bs=1 seek=$((16 * 1024 * 1024 + 1)) conv=notrunc status=none
	run "$MAYFLY" snap check "$snap"
	assert_failure 125
	assert_output --partial checksum
	run "$MAYFLY" snap check "$dir"
	assert_failure 125
}

@test "snapshot: snap check notices a changed byte in the data of a layer" {
	truncate -s 32K "$dir/disk"
	keep -d "$dir/disk:overlay"
	tell one
	wait_said '^one'
	snapshot
	run "$MAYFLY" snap check "$snap"
	assert_success
	chmod u+w "$snap/disks/drive0"
	printf '\377' | dd of="$snap/disks/drive0" bs=1 seek=1000 conv=notrunc status=none
	run "$MAYFLY" snap check "$snap"
	assert_failure 125
	assert_output --partial checksum
}

@test "snapshot, clone: files that may not grow (RLIMIT_FSIZE)" {
	local command
	keep
	for command in "snapshot $ctl $snap" "clone $ctl -n 1"; do
		# shellcheck disable=SC2086 # words
		TMPDIR=$dir run --separate-stderr bash -c 'ulimit -f 100; exec "$@"' - "$MAYFLY" $command
		assert_equal "$status" 125
		assert_one_line 'File too large'
	done
	[ ! -e "$snap" ]
	tell one
	wait_said '^one'
}

@test "snapshot: two writers of one directory: one is refused, or both leave a whole one" {
	local i taken=0
	keep
	for i in 1 2 3 4 5; do # it has the older snapshot for longer after it has exchanged the two
		strace -qq -o /dev/null -e trace=fsync -e inject=fsync:delay_enter=30000 "$MAYFLY" snapshot "$ctl" "$snap" || true
	done 2> /dev/null 3>&- &
	local slow=$!
	while kill -0 "$slow" 2> /dev/null; do
		run --separate-stderr "$MAYFLY" snapshot "$ctl" "$snap"
		if [ "$status" = 0 ]; then
			taken=$((taken + 1))
			[[ -e $snap/state && -e $snap/memory && -e $snap/config.json ]] || fail "not a whole snapshot"
		else
			assert_equal "$status" 125
			assert_one_line .
		fi
	done
	[ "$taken" -gt 0 ]
	restored one
	assert_equal "$output" one
	[ ! -e "$dir/.snap.new" ]
}

@test "clone: several VMs from one snapshot, or from a running VM: output by lines, numbers in options, the first status" {
	keep
	tell one
	wait_said '^one'
	snapshot
	# Each gets the end of input at once, and a shorter life.
	run_mayfly clone "$snap" -n 3 --name web --control "$dir/c%d" --timeout 1s
	assert_equal "$status" 124
	assert_equal "$(grep -c '^web-[123]: mayfly: the time limit has passed' <<< "$stderr")" 3
	TMPDIR=$dir run_mayfly clone "$ctl" -n 2 --timeout 500ms
	assert_equal "$status" 124
	assert_regex "$stderr" '(^|
)2: mayfly: the time limit'
	run ls -d "$dir"/mayfly-clone-*
	assert_failure # it has removed its snapshot
	run_mayfly clone "$dir/none" -n 2
	assert_equal "$status" 125
	assert_one_line none
	for words in '-n 0' '-n 257' '-t'; do
		# shellcheck disable=SC2086 # words
		run_mayfly clone "$snap" $words
		assert_equal "$status" 125
		assert_one_line .
	done
	tell more
	wait_said '^more' # the source goes on
}

@test "clone: SIGTERM ends all" {
	keep
	snapshot
	start_mayfly clone "$snap" -n 3 --control "$dir/c%d"
	wait_for test -S "$dir/c1" -a -S "$dir/c2" -a -S "$dir/c3"
	kill -TERM "$pid"
	wait_end
	assert_equal "$status" 143
	assert_equal "$(grep -c 'ended by a signal' <<< "$stderr")" 3
}

@test "snap: ls and rm: what is no snapshot stays" {
	keep
	snapshot
	mkdir "$dir/other"
	echo mine > "$dir/other/state"
	run_mayfly snap ls "$dir"
	assert_equal "$status" 125
	assert_one_line other
	assert_line --partial "$snap: 1 vCPUs"
	echo mine > "$dir/other/file"
	run_mayfly snap rm "$dir/other"
	assert_equal "$status" 125
	assert_one_line 'no snapshot'
	[ -e "$dir/other/file" ]
	start_mayfly restore --control "$dir/c" "$snap" # goes on without its files
	wait_for test -S "$dir/c"
	run_mayfly snap rm "$snap"
	assert_success
	[ ! -e "$snap" ]
	tell again
	wait_said '^again'
	run_mayfly snap rm "$snap"
	assert_equal "$status" 125
}

@test "clone: of a caller that ignores SIGCHLD and SIGHUP, as nohup and some services do" {
	keep
	snapshot --stop
	wait_end
	DEFAULT_SIGNALS=(env --ignore-signal=CHLD --ignore-signal=HUP)
	start_mayfly clone "$snap" -n 2 --timeout 2s
	wait_for pgrep -P "$pid"
	kill -HUP "$pid"
	wait_end
	assert_equal "$status" 124
	assert_equal "$(grep -c 'the time limit has passed' "$dir/err")" 2
}
