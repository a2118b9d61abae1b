#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2034,SC2154 # tests are subshells, variables are of helper.bash
#
# Snapshots whose files are cut short, changed, of another kind or of another version: a restore refuses them in one line,
# and no guest runs on what is missing.

# bats file_tags=flat
load helper

setup() {
	snapshot_names
}

teardown() {
	kill_started
	end_test
}

# saved [OPTION...]: a snapshot of a guest that has kept "one", whose files may be written; the guest runs on.
saved() {
	start_flat keep -m 20M --control "$ctl" "$@"
	wait_said '^keep'
	tell one
	wait_said '^one'
	run "$MAYFLY" snapshot "$ctl" "$snap"
	assert_success
	chmod -R u+w "$snap"
}

# restored [OPTION...]: to the end of its input. Sets $status, $output and $stderr.
restored() {
	run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" restore "$@" "$snap" <<< $'two\n\4'
	strip_returns
}

# refused TEXT [OPTION...]: in one line with TEXT, before a guest has run.
refused() {
	restored "${@:2}"
	assert_equal "$status: $output" "125: "
	assert_one_line "$1"
}

# cut FILE: it is refused with each length that is a multiple of 4 KiB, with one byte less and one more; also beyond its end.
cut() {
	local file=$snap/$1 size length
	size=$(stat -c %s "$file")
	cp --sparse=always "$file" "$dir/whole"
	for ((at = 0; at <= size + 4096; at += 4096)); do
		for length in $((at - 1)) "$at" $((at + 1)) $((size - 1)) $((size + 1)); do
			[[ $length -ge 0 && $length -ne $size ]] || continue
			cp --sparse=always "$dir/whole" "$file"
			truncate -s "$length" "$file"
			refused "$1"
			run "$MAYFLY" snap check "$snap"
			assert_failure 125
		done
	done
	mv "$dir/whole" "$file"
	restored
	assert_equal "$status: $output" $'0: one\ntwo'
}

@test "damaged: state, config.json and a layer that are cut short or too long" {
	truncate -s 32K "$dir/disk"
	saved -d "$dir/disk:overlay"
	cut state
	cut config.json
	cut disks/drive0
}

# One comparison refuses every size; tests/unit/test_memory.c tries all. Here: the first ones, those around what the guest has
# kept, and the last ones.
@test "damaged: memory that is cut short or too long" {
	local size=$((20 * 1024 * 1024)) at length
	saved
	cp --sparse=always "$snap/memory" "$dir/whole"
	for at in 0 4096 8192 16777216 16781312 $((size - 4096)) "$size" $((size + 4096)); do
		for length in $((at - 1)) "$at" $((at + 1)); do
			[[ $length -ge 0 && $length -ne $size ]] || continue
			cp --sparse=always "$dir/whole" "$snap/memory"
			truncate -s "$length" "$snap/memory"
			refused memory
			run "$MAYFLY" snap check "$snap"
			assert_failure 125
		done
	done
}

@test "damaged: FIFOs, devices, sockets and directories in place of files are refused; a symlink is followed" {
	local file text
	truncate -s 32K "$dir/disk"
	saved -d "$dir/disk:overlay"
	for file in state memory config.json disks/drive0; do
		mv "$snap/$file" "$dir/whole"
		refused "$file" # it is missing
		mkfifo "$snap/$file"
		refused "$file"
		rm "$snap/$file"
		mkdir "$snap/$file"
		refused "$file"
		rmdir "$snap/$file"
		"$PYTHON" -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$snap/$file"
		refused "$file"
		rm "$snap/$file"
		for text in zero full null; do
			ln -s "/dev/$text" "$snap/$file"
			refused "$file"
			run timeout 10 "$MAYFLY" snap check "$snap"
			assert_failure 125
			rm "$snap/$file"
		done
		ln -s "$snap/$file" "$snap/$file" # a loop
		refused "$file"
		rm "$snap/$file"
		ln -s "$dir/whole" "$snap/$file"
		restored
		assert_equal "$status: $output" $'0: one\ntwo'
		rm "$snap/$file"
		mv "$dir/whole" "$snap/$file"
	done
}

@test "damaged: memory that is cut short while a VM runs on it ends that VM, with a reason" {
	saved
	kill -KILL "$pid"
	wait_for has_ended "$pid"
	start_mayfly restore --control "$dir/other" "$snap"
	tell two
	wait_said '^two'
	truncate -s 0 "$snap/memory"
	wait_end
	[ "$status" != 0 ]
	assert_regex "$stderr" 'mayfly: .*memory'
}

@test "damaged: other formats, versions and sections are refused with both versions" {
	saved
	cp "$snap/state" "$dir/whole"
	printf '\2' | dd of="$snap/state" bs=1 seek=6 conv=notrunc status=none
	refused 'format 2.* 1'
	printf 'X' | dd of="$snap/state" bs=1 seek=0 conv=notrunc status=none
	refused state
	head -c 100000 /dev/urandom > "$snap/state"
	refused state
	for tag in 'vm  ' 'mem ' cpid vcpu clck 'ioap' uart; do
		cp "$dir/whole" "$snap/state"
		"$BATS_TEST_DIRNAME/changed-state" "$snap/state" "$tag" version 99
		refused "'$tag'.*99"
		cp "$dir/whole" "$snap/state"
		"$BATS_TEST_DIRNAME/changed-state" "$snap/state" "$tag" tag 'new '
		refused state
	done
}

@test "damaged: one drive of two VMs: the second restore is refused, and a restore while the source runs" {
	truncate -s 1M "$dir/disk"
	saved -d "$dir/disk"
	refused "drive.*$dir/disk"
	kill -KILL "$pid" # its lock and its socket go with it
	wait_for has_ended "$pid"
	start_mayfly restore --control "$ctl" "$snap"
	tell two
	wait_said '^two'
	refused "drive.*$dir/disk" --control "$dir/other"
	cp "$dir/disk" "$dir/copy"
	refused "$ctl" --control "$ctl" -d "drive0=$dir/copy"
	tell three
	wait_said '^three'
}
