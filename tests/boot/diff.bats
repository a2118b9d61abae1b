#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2034,SC2154 # tests are subshells, variables are of helper.bash
#
# Snapshots against an older one, of flat guests: what they have, chains of them, and chains that are refused.

# bats file_tags=flat
load helper

setup() {
	snapshot_names
}

teardown() {
	kill_started
	! mountpoint -q "$dir/mnt" || umount "$dir/mnt"
	end_test
}

# base [NAME]: a complete snapshot, in $dir/0 or NAME, of a guest that has read "zero".
base() {
	start_flat keep -m 64M --control "$ctl"
	wait_said '^keep'
	tell zero
	wait_said '^zero'
	run "$MAYFLY" snapshot --stop "$ctl" "$dir/${1:-0}"
	assert_success
	wait_end
}

# grow FROM TO TEXT [OPTION...]: a guest of snapshot FROM reads TEXT; a diff of it becomes TO.
grow() {
	start_mayfly restore --control "$ctl" "${@:4}" "$dir/$1"
	tell "$3"
	wait_said "^$3"
	run "$MAYFLY" snapshot --diff --stop "$ctl" "$dir/$2"
	assert_success
	wait_end
}

# expect_kept SNAPSHOT TEXT [OPTION...]: a guest of it has kept TEXT, and goes on.
expect_kept() {
	run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" restore "${@:3}" "$dir/$1" <<< $'end\n\4'
	strip_returns
	echo "# mayfly said: $stderr"
	assert_equal "$status" 0
	assert_equal "$output" "$2"$'\nend'
}

# refused TEXT SNAPSHOT [OPTION...]: a restore is, and names TEXT. Nothing is there that it would make.
refused() {
	run_mayfly restore --control "$dir/made" --vsock "$dir/made.vsock" "${@:3}" "$dir/$2"
	assert_equal "$status" 125
	assert_one_line "$1"
	assert [ ! -e "$dir/made" -a ! -e "$dir/made.vsock" ]
}

kib() {
	du -k "$dir/$1/memory" | cut -f 1
}

@test "diff: it has the pages that differ, and a chain of three restores what each has kept" {
	base
	grow 0 1 one
	grow 1 2 two
	expect_kept 0 zero
	expect_kept 1 $'zero\none'
	expect_kept 2 $'zero\none\ntwo'
	assert [ "$(kib 1)" -le 16 ]
	assert [ "$(kib 2)" -le 16 ]
	run "$MAYFLY" snap check "$dir/0" "$dir/1" "$dir/2"
	assert_success
}

@test "diff: of a VM that was booted, it is complete" {
	start_flat keep -m 64M --control "$ctl"
	wait_said '^keep'
	tell zero
	wait_said '^zero'
	run "$MAYFLY" snapshot --diff "$ctl" "$dir/0"
	assert_success
	run "$MAYFLY" snapshot --diff --stop "$ctl" "$dir/1"
	assert_success
	wait_end
	rm -r "$dir/0"
	expect_kept 1 zero
}

@test "diff: a complete snapshot of a restored chain needs no other" {
	base
	grow 0 1 one
	start_mayfly restore --control "$ctl" "$dir/1"
	tell two
	wait_said ^two
	run "$MAYFLY" snapshot --stop "$ctl" "$dir/all"
	assert_success
	wait_end
	rm -r "$dir/0" "$dir/1"
	expect_kept all $'zero\none\ntwo'
}

@test "diff: in a jail, which has no /proc, it is the same" {
	[ "$(id -u)" = 0 ] || skip "the jail needs root"
	base
	grow 0 1 one --jail
	assert [ "$(kib 1)" -le 16 ]
	expect_kept 1 $'zero\none' --jail
}

@test "diff: the parent may have moved with its child, or be named" {
	base
	grow 0 1 one
	mkdir "$dir/new"
	mv "$dir/0" "$dir/1" "$dir/new"
	expect_kept new/1 $'zero\none'
	mv "$dir/new/0" "$dir/else"
	refused "$dir/0" new/1
	expect_kept new/1 $'zero\none' --parent "$dir/else"
	mkdir "$dir/new/0" # another one, beside
	mv "$dir/else" "$dir/0"
	expect_kept new/1 $'zero\none'
}

@test "diff: a parent that has changed, has another size, or is no snapshot, is refused by its name" {
	local file
	base
	grow 0 1 one
	cp -a "$dir/0" "$dir/copy"
	chmod u+w "$dir/0"/*

	truncate -s -4096 "$dir/0/memory"
	refused "$dir/0/memory" 1
	rm "$dir/0/memory"
	refused "$dir/0/memory" 1
	mkfifo "$dir/0/memory"
	refused "$dir/0/memory" 1
	rm "$dir/0/memory"
	ln -s "$dir/copy/memory" "$dir/0/memory"
	refused "$dir/0/memory" 1
	rm -r "$dir/0"
	ln -s "$dir/copy" "$dir/0"
	refused "$dir/0" 1
	rm "$dir/0"
	refused "$dir/0" 1

	cp -a "$dir/copy" "$dir/0"
	chmod u+w "$dir/0"/*
	printf X | dd of="$dir/0/state" bs=1 seek=2000 conv=notrunc status=none
	refused "$dir/0/state" 1
	rm -r "$dir/0"
	base 0
	refused "$dir/0/state" 1
	refused "$dir/other/1" 1 --parent "$dir/other/1"
	expect_kept 1 $'zero\none' --parent "$dir/copy"
	refused "$dir/copy/state" copy --parent "$dir/0"
}

@test "diff: 16 snapshots are a chain, 17 are not" {
	local i kept=zero
	base
	for i in {1..15}; do
		grow $((i - 1)) "$i" "line$i"
		kept+=$'\n'"line$i"
	done
	expect_kept 15 "$kept"
	start_mayfly restore --control "$ctl" "$dir/15"
	tell more
	wait_said ^more
	run "$MAYFLY" snapshot --diff "$ctl" "$dir/16"
	assert_failure 125
	assert_output --partial "$dir/15"
	assert [ ! -e "$dir/16" ]
	run "$MAYFLY" snapshot "$ctl" "$dir/16"
	assert_success
	rm -r "$dir"/{0..15}
	expect_kept 16 "$kept"$'\nmore'
}

@test "snap merge: one complete snapshot of a chain, elsewhere or in its place" {
	base
	grow 0 1 one
	grow 1 2 two
	run "$MAYFLY" snap merge "$dir/2" "$dir/all"
	assert_success
	expect_kept all $'zero\none\ntwo'
	# In the middle of a chain: what was saved against it stays valid.
	run "$MAYFLY" snap merge "$dir/1"
	assert_success
	rm -r "$dir/0"
	expect_kept 1 $'zero\none'
	expect_kept 2 $'zero\none\ntwo'
	run "$MAYFLY" snap check "$dir/1" "$dir/2" "$dir/all"
	assert_success
	assert_equal "$(stat -c %a "$dir"/{1,all}/{state,memory,config.json} | sort -u)" 400
	run "$MAYFLY" snap merge "$dir/2"
	assert_success
	rm -r "$dir/1"
	expect_kept 2 $'zero\none\ntwo'
	run "$MAYFLY" snap merge "$dir/2" # is complete already
	assert_success
	expect_kept 2 $'zero\none\ntwo'
	assert_equal "$(find "$dir" -name '.*.new')" ''
}

@test "snap merge: what has changed is not merged, and stays" {
	base
	grow 0 1 one
	cp -a "$dir/1" "$dir/copy"
	chmod u+w "$dir/0/memory"
	printf X | dd of="$dir/0/memory" bs=1 seek=$((16 * 1024 * 1024 + 9)) conv=notrunc status=none
	for to in "" "$dir/new"; do
		run_mayfly snap merge "$dir/1" ${to:+"$to"}
		assert_equal "$status" 125
		assert_one_line "$dir/0/memory"
		assert [ ! -e "$dir/new" ]
		diff -r "$dir/1" "$dir/copy"
	done
	run_mayfly snap check "$dir/1"
	assert_equal "$status" 125
	assert_one_line "$dir/0/memory"
}

@test "snap merge: killed at any time, there is the old one or the new one" {
	local call n
	base
	grow 0 1 one
	for call in pwrite64 ftruncate fsync renameat2 unlinkat; do
		for n in 1 2 3; do
			strace -qq -o /dev/null -e trace="$call" -e inject="$call:signal=KILL:when=$n" \
				"$MAYFLY" snap merge "$dir/1" > /dev/null 2>&1 || true
			expect_kept 1 $'zero\none'
		done
	done
	run "$MAYFLY" snap merge "$dir/1"
	assert_success
	assert_equal "$(find "$dir" -name '.*.new')" ''
	rm -r "$dir/0"
	expect_kept 1 $'zero\none'
}

@test "snap: a parent that a snapshot beside it needs is neither removed nor replaced" {
	base
	grow 0 1 one
	run_mayfly snap info "$dir/1"
	assert_success
	assert_line --partial "$dir/0"
	run_mayfly snap rm "$dir/0"
	assert_equal "$status" 125
	assert_one_line "$dir/1"
	run_mayfly snap merge "$dir/1" "$dir/0"
	assert_equal "$status" 125
	assert_one_line "$dir/1"
	start_mayfly restore --control "$ctl" "$dir/1"
	tell two
	wait_said ^two
	for to in 0 1; do # with --diff, the new one would need it, too
		run "$MAYFLY" snapshot --diff "$ctl" "$dir/$to"
		assert_failure 125
	done
	run "$MAYFLY" snapshot "$ctl" "$dir/0"
	assert_failure 125
	expect_kept 1 $'zero\none'
	run "$MAYFLY" snapshot "$ctl" "$dir/1" # nothing needs that
	assert_success
	expect_kept 1 $'zero\none\ntwo'
	run_mayfly snap rm "$dir/0"
	assert_success
	run_mayfly snap ls "$dir"
	assert_success
	assert_line --partial "$dir/1: 1 vCPUs"
}

@test "diff: layers of drives are complete in each, and a merged one has them" {
	truncate -s 1M "$dir/disk"
	start_flat keep -m 64M --control "$ctl" -d "$dir/disk:overlay"
	wait_said '^keep'
	tell zero
	wait_said '^zero'
	run "$MAYFLY" snapshot --stop "$ctl" "$dir/0"
	assert_success
	wait_end
	grow 0 1 one
	grow 1 2 two
	run "$MAYFLY" snap merge "$dir/2" "$dir/all"
	assert_success
	cmp "$dir/2/disks/drive0" "$dir/all/disks/drive0"
	rm -r "$dir/0" "$dir/1" "$dir/2"
	expect_kept all $'zero\none\ntwo'
}

# mount_shared btrfs|xfs: at $dir/mnt, a file system that can share blocks. Fails if this kernel has none.
mount_shared() {
	mkdir -p "$dir/mnt"
	rm -f "$dir/fs"
	truncate -s 320M "$dir/fs"
	"mkfs.$1" -q "$dir/fs" 2> /dev/null
	mount -o loop "$dir/fs" "$dir/mnt"
}

@test "snapshot: a writable image is shared where the file system can: with the snapshot, and with each VM of it" {
	[ "$(id -u)" = 0 ] || skip "needs root, to mount a file system"
	local kind jail sum
	for kind in btrfs xfs; do
		grep -qw "$kind" /proc/filesystems || modprobe "$kind" 2> /dev/null || skip "this kernel has no $kind"
		mount_shared "$kind"
		head -c 8M /dev/urandom > "$dir/mnt/disk"
		sum=$(sha256sum < "$dir/mnt/disk")
		start_flat keep -m 64M --control "$ctl" -d "$dir/mnt/disk:rw"
		wait_said '^keep'
		tell zero
		wait_said '^zero'
		run "$MAYFLY" snapshot "$ctl" "$dir/mnt/0"
		assert_success
		assert_output ''
		tell $'\4'
		wait_end
		assert_equal "$(sha256sum < "$dir/mnt/0/disks/drive0")" "$sum"
		assert_equal "$(stat -c %a "$dir/mnt/0/disks/drive0")" 400
		head -c 8M /dev/urandom > "$dir/mnt/disk" # as the VM could
		for jail in '' --jail; do
			# Two at once, although each writes to its drive.
			start_mayfly restore --control "$dir/second" ${jail:+"$jail"} "$dir/mnt/0"
			tell one
			wait_said '^one'
			expect_kept mnt/0 zero ${jail:+"$jail"}
			run "$MAYFLY" snapshot --diff --stop "$dir/second" "$dir/mnt/1"
			assert_success
			assert_output ''
			wait_end
			assert_equal "$(sha256sum < "$dir/mnt/1/disks/drive0")" "$sum"
		done
		"$MAYFLY" snap merge "$dir/mnt/1" "$dir/all" # another file system: it is copied
		assert_equal "$(sha256sum < "$dir/all/disks/drive0")" "$sum"
		expect_kept all $'zero\none'
		assert_equal "$(sha256sum < "$dir/mnt/0/disks/drive0")" "$sum"
		kill_started
		rm -r "$dir/all"
		umount "$dir/mnt"
	done
}

@test "snapshot: a writable image that cannot be shared needs --stop, or a copy at the restore" {
	truncate -s 1M "$dir/disk"
	start_flat keep -m 64M --control "$ctl" -d "$dir/disk:rw"
	wait_said '^keep'
	tell zero
	wait_said '^zero'
	run "$MAYFLY" snapshot "$ctl" "$dir/0"
	assert_success
	[ ! -e "$dir/0/disks/drive0" ] || skip "the file system of $dir shares blocks"
	assert_output --partial drive0
	cp "$dir/disk" "$dir/copy"
	touch "$dir/disk"
	tell end
	wait_said ^end
	run "$MAYFLY" snapshot --stop "$ctl" "$dir/1"
	assert_success
	assert_output ''
	wait_end
	expect_kept 0 zero -d "drive0=$dir/copy"
	expect_kept 1 $'zero\nend'
	touch "$dir/disk"
	run_mayfly restore "$dir/1"
	assert_equal "$status" 125
	assert_one_line drive0
}
