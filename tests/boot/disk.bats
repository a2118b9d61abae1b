#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2054,SC2153,SC2154 # tests are subshells, variables are of
# helper.bash, the guest expands what is in single quotes
#
# Drives: what the guest writes is in the image, what it must not write is not, and a bad image is the guest's trouble.

load helper

# image NAME SIZE [BYTES]: an image of that size, filled with as many random bytes. Sets $img.
image() {
	img=$BATS_TEST_TMPDIR/$1
	head -c "${3:-0}" /dev/urandom > "$img"
	truncate -s "$2" "$img"
}

sha() {
	sha256sum < "$1" | cut -d' ' -f1
}

@test "disk: what one boot writes and syncs, the next one and the host read" {
	local sum
	image disk 4M
	run_linux -d "$img" -- 'dd if=/dev/urandom of=/dev/vda bs=64k count=64 conv=fsync 2>/dev/null; sha256sum /dev/vda'
	assert_equal "$status" 0
	sum=$(sha "$img")
	assert_line "$sum  /dev/vda"
	[ "$sum" != "$(head -c 4M /dev/zero | sha256sum | cut -d' ' -f1)" ]
	[ "$(stat -c %s "$img")" = $((4 << 20)) ]
	run_linux -d "$img" -c 2 -- 'sha256sum /dev/vda'
	assert_line "$sum  /dev/vda"
}

@test "disk: reads at the ends and in odd pieces" {
	local sum
	image disk 1536K 1572864
	sum=$(sha "$img")
	run_linux -d "$img:ro" -- 'for bs in 512 4k 65k 1M; do dd if=/dev/vda bs=$bs 2>/dev/null | sha256sum; done;' \
		'dd if=/dev/vda bs=512 skip=3071 2>/dev/null | wc -c; dd if=/dev/vda bs=512 skip=3072 2>/dev/null | wc -c'
	assert_equal "$status" 0
	assert_equal "$(grep -c "^$sum " <<< "$output")" 4
	assert_line 512
	assert_line 0
}

@test "disk: ext4 written in the guest is clean on the host; fsync, rename and many files" {
	image disk 16M
	mkfs.ext4 -q "$img"
	run_linux -d "$img" -- 'mkdir /m && mount -t ext4 /dev/vda /m && cd /m && for i in $(seq 50);' \
		'do echo $i > f$i; done && sync && mv f50 last && dd if=/dev/zero of=big bs=1M count=4 conv=fsync 2>/dev/null;' \
		'rm f1; cd /; umount /m && echo unmounted'
	assert_equal "$status" 0
	assert_line unmounted
	run e2fsck -f -n "$img"
	assert_equal "$status" 0
	run_linux -d "$img:ro" -- 'mkdir /m && mount -o ro -t ext4 /dev/vda /m; ls /m | wc -l; cat /m/last; wc -c < /m/big'
	assert_line 51
	assert_line 50
	assert_line 4194304
}

@test "disk: what was synced survives SIGKILL of the monitor" {
	image disk 16M
	mkfs.ext4 -q "$img"
	start_linux -d "$img" -- 'mkdir /m && mount -t ext4 /dev/vda /m && echo precious > /m/file && sync; echo synced; cat'
	wait_said synced
	kill -KILL "$pid"
	wait_end
	run e2fsck -f -p "$img"
	[ "$status" -le 1 ]
	run debugfs -R 'cat file' "$img"
	assert_line precious
}

@test "disk: a read-only drive is that to the guest, whose writes fail" {
	local sum
	image disk 1M 1048576
	sum=$(sha "$img")
	run_linux -d "$img:ro" -- 'cat /sys/block/vda/ro; blockdev --getro /dev/vda;' \
		'echo x | dd of=/dev/vda conv=fsync || echo refused; blockdev --setrw /dev/vda;' \
		'echo x | dd of=/dev/vda conv=fsync || echo refused; sha256sum /dev/vda'
	assert_equal "$status" 0
	assert_equal "$(grep -cx 1 <<< "$output")" 2
	assert_equal "$(grep -cx refused <<< "$output")" 2
	assert_line "$sum  /dev/vda"
	assert_equal "$(sha "$img")" "$sum"
}

# is_read_only FILE: the guest that start_* has started has it open, and only for reading.
is_read_only() {
	local fd modes=
	for fd in "/proc/$pid/fd/"*; do
		# O_RDONLY is 0; there is nothing else in the last octal digit of the flags.
		[ ! "$fd" -ef "$1" ] || modes+=$(sed -n 's/^flags:.*\(.\)$/\1/p' "/proc/$pid/fdinfo/${fd##*/}")
	done
	[[ $modes =~ ^0+$ ]]
}

# bats test_tags=flat
@test "disk: what is given read-only is opened read-only" {
	local options
	image disk 1M 1048576
	for options in ro overlay; do
		start_flat idle -d "$img:$options"
		wait_for is_read_only "$img"
		kill "$pid"
		wait_end
	done
}

@test "disk: what is given read-only stays as it is, whatever root does in the guest" {
	cd "$BATS_TEST_TMPDIR"
	export XDG_CACHE_HOME=$PWD/cache
	mkdir in
	echo data > in/file
	truncate -s 16M vol
	mkfs.ext4 -q -d in vol
	cp vol vol2
	image disk 1M 1048576
	mkfs.erofs --quiet in.erofs in 2> /dev/null
	before=$(cat vol vol2 "$img" in.erofs | sha256sum)
	run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" run -k "$KERNEL" -i "$INITRAMFS" -v vol:/vol:ro -v vol2:/over -v in.erofs:/dir:ro \
		-d "$img:ro" -- sh -c '
		cat /vol/file /over/file /dir/file
		echo layer > /over/file && cat /over/file
		mount -o remount,rw /vol && echo evil > /vol/file && sync && echo written: /vol
		mount -o remount,rw /dir && echo evil > /dir/file && sync && echo written: /dir
		umount /vol /dir
		# The drive of /over has a layer below, which takes what is written.
		written() { [ $1 = b ] || echo written: $1; }
		for d in a b c d; do
			[ -b /dev/vd$d ] || echo missing: $d
			blockdev --setrw /dev/vd$d
			dd if=/dev/zero of=/dev/vd$d bs=4k count=4 conv=fsync && written $d
			dd if=/dev/zero of=/dev/vd$d bs=4k count=4 oflag=direct && written $d
			blkdiscard -f /dev/vd$d && written $d
			blkdiscard -z /dev/vd$d && written $d
			mkdir -p /m && mount -t ext4 -o rw /dev/vd$d /m && echo evil > /m/file && sync && written $d
			umount /m
		done
		echo over' < /dev/null
	assert_equal "$output" $'data\ndata\ndata\nlayer\nover'
	assert_equal "$status" 0
	assert_equal "$(cat vol vol2 "$img" in.erofs | sha256sum)" "$before"
}

# bats test_tags=flat
@test "disk: a read-only drive of an image that mayfly may not write" {
	local begin=()
	image disk 1M
	chmod 400 "$img"
	[ "$(id -u)" != 0 ] || begin=(setpriv --bounding-set -dac_override,-dac_read_search)
	run --separate-stderr "${begin[@]}" "$MAYFLY" run -k "$GUESTS/hello.elf" -d "$img:ro" < /dev/null
	assert_equal "$status" 0
	assert_equal "$output" hello
}

@test "disk: serial numbers, ids and the order of drives" {
	local a b c
	image one 1M 100
	a=$img
	image two 2M 200
	b=$img
	image three 3M 300
	c=$img
	run_linux -d "$a:serial=ABC-123" -d "$b:ro:id=data" -d "$c:serial=12345678901234567890:id=last" -- \
		'cd /sys/block; for d in vda vdb vdc; do echo $d $(cat $d/serial) $(cat $d/size $d/ro); done;' \
		'sha256sum /dev/vda /dev/vdb /dev/vdc'
	assert_equal "$status" 0
	assert_line 'vda ABC-123 2048 0'
	assert_line 'vdb data 4096 1'
	assert_line 'vdc 12345678901234567890 6144 0'
	assert_line "$(sha "$a")  /dev/vda"
	assert_line "$(sha "$b")  /dev/vdb"
	assert_line "$(sha "$c")  /dev/vdc"
}

@test "disk: sixteen drives" {
	local i drives=()
	image many 64K
	for i in {1..16}; do drives+=(-d "$img:ro:serial=s$i"); done
	run_linux "${drives[@]}" -- 'cd /sys/block; for d in vd?; do echo $d $(cat $d/serial); done'
	assert_equal "$status" 0
	assert_line 'vda s1'
	assert_line 'vdj s10'
	assert_line 'vdp s16'
}

@test "disk: an empty image is a drive without sectors, with a warning" {
	image empty 0
	run_linux -d "$img" -- 'cat /sys/block/vda/size'
	assert_equal "$status" 0
	assert_line 0
	assert_regex "$stderr" 'warn.*empty'
}

# bats test_tags=flat
@test "disk: a second writer is refused, readers share" {
	image disk 1M
	start_flat idle -d "$img"
	wait_said idle
	run_flat hello -d "$img"
	assert_equal "$status" 125
	assert_one_line "drive 'drive0': .*in use"
	run_flat hello -d "$img:ro"
	assert_equal "$status" 125
	kill -TERM "$pid"
	wait_end
	run_flat hello -d "$img"
	assert_equal "$status" 0
	start_flat idle -d "$img:ro"
	wait_said idle
	run_flat hello -d "$img:ro"
	assert_equal "$status" 0
	kill -TERM "$pid"
	wait_end
}

@test "disk: an image that shrinks under the guest is an I/O error there, and mayfly continues" {
	image disk 8M 8388608
	start_linux -d "$img" -- 'dd if=/dev/vda of=/dev/null bs=4k count=1 2>/dev/null && echo ready; read x;' \
		'dd if=/dev/vda of=/dev/null bs=4k skip=1500 count=1 || echo failed; dd if=/dev/vda bs=4k skip=100 count=1' \
		'2>/dev/null | wc -c; echo alive'
	wait_said ready
	truncate -s 1M "$img"
	tell go
	wait_end
	assert_equal "$status" 0
	said '^failed'
	said '^4096'
	said '^alive'
	grep -q "warn.*drive0" "$BATS_TEST_TMPDIR/err"
}

@test "disk: a host without space is an I/O error in the guest" {
	[ "$(id -u)" = 0 ] || skip "only root can mount a small file system"
	mkdir "$BATS_TEST_TMPDIR/small"
	# shellcheck disable=SC2016 # for the inner shell
	run --separate-stderr unshare -m bash -c 'mount -t tmpfs -o size=1M tmpfs "$1" && truncate -s 4M "$1/disk" && shift &&
		exec timeout 90 "$@"' bash "$BATS_TEST_TMPDIR/small" "$MAYFLY" run -k "$KERNEL" -i "$INITRAMFS" \
		-d "$BATS_TEST_TMPDIR/small/disk" \
		--append '-- "dd if=/dev/urandom of=/dev/vda bs=1M count=3 conv=fsync || echo failed; echo alive"' < /dev/null
	strip_returns
	assert_equal "$status" 0
	assert_line failed
	assert_line alive
	assert_regex "$stderr" 'warn.*drive0.*No space left'
}
