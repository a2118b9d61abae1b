#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2054,SC2153,SC2154 # tests are subshells, variables are of
# helper.bash, the guest expands what is in single quotes
#
# Drives, beyond reading and writing: overlays, discard, direct I/O, limits, and trouble on the host.

load helper

# image NAME SIZE: an ext4 file system. Sets $img.
image() {
	img=$BATS_TEST_TMPDIR/$1
	truncate -s "$2" "$img"
	mkfs.ext4 -q -F -b 4096 "$img"
}

# loop_device FILE [OPTION...]: sets $loop.
loop_device() {
	loop=$(losetup -f --show "${@:2}" "$1" 2> /dev/null) || skip "no loop devices here"
}

teardown() {
	end_test
	! mountpoint -q "$BATS_TEST_TMPDIR/frozen" || thaw
}

thaw() {
	fsfreeze -u "$BATS_TEST_TMPDIR/frozen" 2> /dev/null
	umount -l "$BATS_TEST_TMPDIR/frozen"
}

teardown_file() {
	local l
	for l in $(losetup -n -O NAME,BACK-FILE | awk -v d="$BATS_RUN_TMPDIR" 'index($2, d) == 1 { print $1 }'); do
		losetup -d "$l"
	done
}

kib_of() {
	du -k "$1" | cut -f1
}

sha() {
	sha256sum < "$1" | cut -d' ' -f1
}

@test "drives: an overlay leaves the image as it is, shows what was written, and is gone afterwards" {
	local before where
	image base 16M
	before=$(sha "$img")
	for where in '' ":overlay-dir=$BATS_TEST_TMPDIR"; do
		run_linux -d "$img:overlay$where" -- 'mkdir /m; mount /dev/vda /m && ls /m; yes abc | head -c 3000000 > /m/new;' \
			'sync; echo 3 > /proc/sys/vm/drop_caches; sha256sum < /m/new; umount /m; dd if=/dev/vda bs=1M 2>/dev/null | wc -c'
		assert_equal "$status" 0
		assert_line lost+found
		refute_line new
		assert_line "$(yes abc | head -c 3000000 | sha256sum)"
		assert_line 16777216
		assert_equal "$(sha "$img")" "$before"
	done
	assert_equal "$(find "$BATS_TEST_TMPDIR" -name '*overlay*')" ''
}

@test "drives: two guests at once on one image, each with its own overlay; one of them is full early" {
	local before
	image base 16M
	before=$(sha "$img")
	start_linux -d "$img:overlay" -- 'echo first | dd of=/dev/vda bs=512 seek=100 conv=sync 2>/dev/null; echo written;' \
		'read x; dd if=/dev/vda bs=512 skip=100 count=1 2>/dev/null | head -c 5; echo; dd if=/dev/vda bs=512 skip=200 count=1 2>/dev/null | tr -d \\0 | wc -c'
	wait_said '^written'
	run_linux -d "$img:overlay=64K" -- 'dd if=/dev/vda bs=512 skip=100 count=1 2>/dev/null | tr -d \\0 | wc -c;' \
		'dd if=/dev/zero of=/dev/vda bs=4k count=16 seek=256 oflag=direct 2>/dev/null && echo fits;' \
		'dd if=/dev/zero of=/dev/vda bs=4k count=1 seek=300 oflag=direct 2>/dev/null || echo full;' \
		'blkdiscard -o 1048576 -l 65536 /dev/vda;' \
		'dd if=/dev/zero of=/dev/vda bs=4k count=1 seek=300 oflag=direct 2>/dev/null && echo room again'
	assert_equal "$status" 0
	assert_line fits
	assert_line full
	assert_line 'room again'
	assert_regex "$stderr" 'No space left on device; continuing'
	tell go
	wait_end
	assert_equal "$status" 0
	said '^first'
	assert_equal "$(sha "$img")" "$before"
}

@test "drives: what the guest discards becomes holes" {
	local full
	image disk 32M
	run_linux -d "$img" -- 'mkdir /m; mount /dev/vda /m && dd if=/dev/urandom of=/m/x bs=1M count=16 2>/dev/null; sync; umount /m'
	assert_equal "$status" 0
	full=$(kib_of "$img")
	[ "$full" -gt 16000 ]
	run_linux -d "$img" -- 'mkdir /m; mount /dev/vda /m && rm /m/x && sync && fstrim -v /m && umount /m; cat /sys/block/vda/queue/write_zeroes_max_bytes'
	assert_equal "$status" 0
	assert_line --partial 'bytes trimmed'
	assert_line 67108864
	[ "$(kib_of "$img")" -lt $((full - 15000)) ] || fail "of $full KiB are left: $(kib_of "$img")"
	run e2fsck -f -n "$img"
	assert_equal "$status" 0
}

@test "drives: a block device, its discard, and direct I/O in blocks of 4 KiB" {
	local file=$BATS_TEST_TMPDIR/backing size sum
	head -c 16M /dev/urandom > "$file"
	for size in 512 4096; do
		loop_device "$file" -b "$size"
		sum=$(sha "$file")
		run_linux -d "$loop:direct" -- 'dd if=/dev/vda bs=1M 2>/dev/null | sha256sum; dd if=/dev/vda bs=512 skip=3 count=7 iflag=direct 2>/dev/null | wc -c;' \
			'yes x | head -c 3584 | dd of=/dev/vda bs=512 seek=5 conv=notrunc oflag=direct 2>/dev/null;' \
			'blkdiscard -o 4194304 -l 4194304 /dev/vda; sync'
		assert_equal "$status" 0
		assert_line "$sum  -"
		assert_line 3584
		assert_equal "$(tail -c +2561 "$file" | head -c 3584 | sha256sum)" "$(yes x | head -c 3584 | sha256sum)"
		assert_equal "$(tail -c +4194305 "$file" | head -c 4194304 | tr -d '\0' | wc -c)" 0
		losetup -d "$loop"
	done
}

@test "drives: a block device that is read-only is refused for writing" {
	truncate -s 1M "$BATS_TEST_TMPDIR/backing"
	loop_device "$BATS_TEST_TMPDIR/backing" -r
	run --separate-stderr timeout "$LIMIT" "$MAYFLY" run -k "$GUESTS/hello.elf" -d "$loop" < /dev/null
	assert_equal "$status" 125
	assert_regex "$stderr" "$loop"
	assert_regex "$stderr" read-only
	for how in ro overlay; do
		run timeout "$LIMIT" "$MAYFLY" run -k "$GUESTS/hello.elf" -d "$loop:$how" < /dev/null
		assert_equal "$status" 0
	done
	losetup -d "$loop"
}

@test "drives: direct I/O on a file of ext4" {
	local file=$BATS_TEST_TMPDIR/backing dir=$BATS_TEST_TMPDIR/mnt
	image backing 64M
	loop_device "$file"
	mkdir "$dir"
	mount "$loop" "$dir"
	truncate -s 32M "$dir/disk"
	mkfs.ext4 -q "$dir/disk"
	run_linux -d "$dir/disk:direct" -- 'mkdir /m; mount /dev/vda /m && yes abc | head -c 3000000 > /m/x && sync && umount /m && echo unmounted'
	e2fsck -f -n "$dir/disk" > "$BATS_TEST_TMPDIR/fsck" 2>&1 || touch "$BATS_TEST_TMPDIR/bad"
	umount "$dir"
	assert_equal "$status" 0
	assert_line unmounted
	[ ! -e "$BATS_TEST_TMPDIR/bad" ] || fail "$(cat "$BATS_TEST_TMPDIR/fsck")"
}

@test "drives: a host without space is an I/O error, and when there is space again the drive works" {
	local dir=$BATS_TEST_TMPDIR/small
	mkdir "$dir"
	mount -t tmpfs -o size=2m none "$dir" 2> /dev/null || skip "may not mount here"
	truncate -s 8M "$dir/disk"
	head -c 1M /dev/urandom > "$dir/ballast"
	start_linux -d "$dir/disk" -- 'dd if=/dev/zero of=/dev/vda bs=64k count=32 oflag=direct 2>/dev/null || echo no space;' \
		'read x; dd if=/dev/zero of=/dev/vda bs=64k count=24 oflag=direct 2>/dev/null && echo space again'
	wait_said '^no space'
	rm "$dir/ballast"
	tell go
	wait_end
	umount -l "$dir"
	assert_equal "$status" 0
	said '^space again'
	assert_regex "$stderr" 'No space left on device; continuing'
}

@test "drives: a write beyond RLIMIT_FSIZE is an I/O error, and does not end the monitor" {
	local disk=$BATS_TEST_TMPDIR/disk
	truncate -s 8M "$disk"
	run --separate-stderr bash -c 'ulimit -f 2048; exec "$@"' - timeout -k 5 "$LIMIT" "$MAYFLY" run -k "$KERNEL" \
		-i "$INITRAMFS" -d "$disk" --append '-- "dd if=/dev/zero of=/dev/vda bs=64k count=16 oflag=direct 2>/dev/null && echo below;
		dd if=/dev/zero of=/dev/vda bs=64k seek=64 count=1 oflag=direct 2>/dev/null || echo beyond;
		dd if=/dev/vda bs=64k count=128 2>/dev/null | wc -c"' < /dev/null
	strip_returns
	assert_equal "$status" 0
	assert_line below
	assert_line beyond
	assert_line 8388608
	assert_regex "$stderr" 'File too large; continuing'
}

@test "drives: an image cut short is an I/O error where it is no more, and works again when it is as long" {
	local disk=$BATS_TEST_TMPDIR/disk
	head -c 4M /dev/urandom > "$disk"
	start_linux -d "$disk" -- 'echo ready; read x; dd if=/dev/vda bs=4k skip=1000 count=1 iflag=direct 2>/dev/null | wc -c;' \
		'dd if=/dev/vda bs=4k count=10 iflag=direct 2>/dev/null | wc -c; echo tried; read x;' \
		'dd if=/dev/vda bs=4k skip=1000 count=2 iflag=direct 2>/dev/null | wc -c'
	wait_said '^ready'
	truncate -s 1M "$disk"
	tell go
	wait_said '^tried'
	truncate -s 4M "$disk"
	tell go
	wait_end
	assert_equal "$status" 0
	said '^0'
	said '^40960'
	said '^8192'
}

@test "drives: limits of bytes and of requests take the time that they should" {
	local disk=$BATS_TEST_TMPDIR/disk
	truncate -s 8M "$disk" "$disk.2"
	# 64 KiB at once, then 30 times as much at 1 MiB a second; 20 requests at once, then 40 at 20 a second.
	run_linux -d "$disk:bandwidth=64K/62" -d "$disk.2:ops=20/1000" -- 'read a x < /proc/uptime;' \
		'dd if=/dev/vda of=/dev/null bs=64k count=31 iflag=direct 2>/dev/null; read b x < /proc/uptime;' \
		'echo 0 > /sys/block/vdb/queue/read_ahead_kb; dd if=/dev/vdb of=/dev/null bs=4k count=60 2>/dev/null; read c x < /proc/uptime; echo took $a $b $c'
	assert_equal "$status" 0
	run awk '$1 == "took" { print ($3 - $2 > 1.7 && $4 - $3 > 1.9) ? "slow" : "fast" }' <<< "$output"
	assert_output slow
}

# others_go_on: a guest whose first drive does not answer uses the second one, and its console.
others_go_on='dd if=/dev/zero of=/dev/vdb bs=4k count=8 oflag=direct 2>/dev/null &&
	dd if=/dev/vdb of=/dev/null bs=4k count=8 iflag=direct 2>/dev/null && sync /dev/vdb && echo others go on; read z'

@test "drives: a file system that is frozen holds up no other device, and loses nothing" {
	local dir=$BATS_TEST_TMPDIR/frozen how engine
	image backing 64M
	loop_device "$img"
	mkdir "$dir"
	mount "$loop" "$dir"
	truncate -s 8M "$dir/disk" "$BATS_TEST_TMPDIR/other"
	for engine in auto sync; do
		for how in '' :direct ":overlay:overlay-dir=$dir"; do
			start_linux --io-engine="$engine" -d "$dir/disk$how" -d "$BATS_TEST_TMPDIR/other" -- \
				'echo ready; read x; yes abc | dd of=/dev/vda bs=4k count=2 iflag=fullblock oflag=direct 2>/dev/null & read y;' \
				"$others_go_on; wait; dd if=/dev/vda bs=4k count=2 iflag=direct 2>/dev/null | sha256sum"
			wait_said '^ready'
			fsfreeze -f "$dir"
			tell write
			sleep 0.3
			tell others
			wait_said '^others go on'
			fsfreeze -u "$dir"
			tell end
			wait_end
			assert_equal "$status" 0
			said "^$(yes abc | head -c 8192 | sha256sum)"
		done
	done
	umount "$dir"
}

@test "drives: a file whose server does not answer holds up no other device" {
	[ -c /dev/fuse ] || skip "no /dev/fuse here"
	local dir=$BATS_TEST_TMPDIR/mount engine server
	mkdir "$dir"
	truncate -s 8M "$BATS_TEST_TMPDIR/disk" "$BATS_TEST_TMPDIR/other"
	for engine in auto sync; do
		"$PYTHON" -I -S "$BATS_TEST_DIRNAME/hanging-file" "$BATS_TEST_TMPDIR/disk" "$dir" $((4 << 20)) \
			> "$BATS_TEST_TMPDIR/server" 2>&1 3>&- &
		server=$!
		started+=("$server")
		wait_for grep . "$BATS_TEST_TMPDIR/server"
		grep -q mounted "$BATS_TEST_TMPDIR/server" || skip "FUSE: $(< "$BATS_TEST_TMPDIR/server")"
		start_linux --io-engine="$engine" -d "$dir/file:ro" -d "$BATS_TEST_TMPDIR/other" -- \
			'dd if=/dev/vda bs=4k skip=1024 count=1 iflag=direct 2>/dev/null & read y;' "$others_go_on; wait; echo ended"
		wait_for grep -q hangs "$BATS_TEST_TMPDIR/server"
		tell others
		wait_said '^others go on'
		kill "$server"
		tell end
		wait_end
		umount -l "$dir"
		assert_equal "$status" 0
		said '^ended'
	done
}
