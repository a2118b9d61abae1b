#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2153,SC2154 # each test is a subshell; the variables are of helper.bash
#
# Where a guest's changes go, in real guests: memory, a disk of the host, and directories for overlays of the guest.

load helper

setup() {
	# shellcheck disable=SC2034 # end_test uses it
	started=()
	cd "$BATS_TEST_TMPDIR" || return 1
	export XDG_CACHE_HOME=$PWD/cache TMPDIR=$PWD
	mkdir -p root/{bin,proc,tmp,srv} dir
	cp "$(command -v busybox)" root/bin/busybox
	local name
	for name in sh mkdir mount umount cat df dd rm ls stat sync tail; do
		ln -s busybox "root/bin/$name"
	done
	echo data > dir/file
}

teardown() {
	end_test
	! mountpoint -q "$BATS_TEST_TMPDIR/small" || umount -l "$BATS_TEST_TMPDIR/small"
}

# In a guest with root/ as its root: OPTION... -- SHELL WORDS
with_root() {
	local options=()
	while [ "$1" != -- ]; do
		options+=("$1")
		shift
	done
	run_mayfly run -k "$KERNEL" -r root "${options[@]}" -- sh -c "$2"
}

stack='
# An overlay whose upper layer is in directory $1.
stack() {
	mkdir -p $1/lower $1/upper $1/work /merged || return
	echo low > $1/lower/file
	mount -t overlay none -o lowerdir=$1/lower,upperdir=$1/upper,workdir=$1/work /merged || return
	echo up >> /merged/file
	echo "$1: $(cat $1/lower/file) $(tail -n 1 $1/upper/file)"
	umount /merged
}
'

@test "storage: the guest has overlays in /tmp, where containers are, in volumes of its own, and on ext4 images" {
	mkdir -p root/etc/containers
	echo ours > root/srv/kept
	truncate -s 16M vol
	mke2fs -q -F -t ext4 vol
	local before disk
	before=$(sha256sum < vol)
	for disk in '' '--disk=64M'; do
		with_root $disk -v vol:/vol -v /own/deep -v /new -- "$stack
			for at in /tmp /var/lib/containers/storage /own/deep /new /vol; do stack \$at; done; stack / 2> /dev/null || echo none"
		assert_equal "$status:$output" "0:/tmp: low up
/var/lib/containers/storage: low up
/own/deep: low up
/new: low up
/vol: low up
none"
	done
	assert_equal "$(sha256sum < vol)" "$before"
	# Where something is, it would be hidden; and what the root does not have is not made.
	rm -r root/etc
	with_root -v /srv -- 'cat /srv/kept'
	assert_equal "$status" 125
	assert_regex "$stderr" '/srv'
	with_root -- 'ls /var/lib'
	refute_regex "$output" containers
}

@test "storage: a file is mounted as a file; what the guest writes to it is lost" {
	command -v sqfstar > /dev/null || skip "no sqfstar here"
	echo content > 'a: file'
	with_root -v 'a: file:/srv/new/file' -v 'a: file:/etc/fixed:ro' -- '
		cat /srv/new/file; echo more >> /srv/new/file && cat /srv/new/file
		echo more >> /etc/fixed || cat /etc/fixed'
	assert_equal "$status:$output" $'0:content\ncontent\nmore\ncontent'
	assert_equal "$(< 'a: file')" content
	# Over a file that the root has.
	echo old > root/srv/file
	with_root -v 'a: file:/srv/file' -- 'cat /srv/file'
	assert_equal "$status:$output" 0:content
}

@test "storage: --disk is larger than memory, has its size, and gives back what is deleted" {
	with_root --disk 1G -m 96M -v dir:/dir:copy -- '
		dd if=/dev/zero of=/big bs=1M count=150 2> /dev/null && dd if=/dev/zero of=/dir/big bs=1M count=150 2> /dev/null
		cat /dir/file; stat -c %s /big /dir/big'
	assert_equal "$status:$output" $'0:data\n157286400\n157286400'
	assert_equal "$(find . -maxdepth 1 -name 'mayfly*')" ''
	with_root --disk 64M -- 'dd if=/dev/zero of=/big bs=1M count=70 2> /dev/null; echo $?; df -k / | tail -n 1; echo x > /tmp/y'
	assert_regex "$output" $'^1\n'
	mkdir small
	mount -t tmpfs -o size=100M none small
	TMPDIR=$PWD/small start_mayfly run -k "$KERNEL" -r root --disk 90M -- sh -c '
		dd if=/dev/zero of=/big bs=1M count=60 conv=fsync 2> /dev/null && rm /big && sync && echo freed; read -r x'
	wait_said freed
	is_free() { [ "$(df --output=used -m small | tail -n 1)" -lt 30 ]; }
	wait_for is_free
	kill "$pid"
	wait_end
}

@test "storage: a host without space: the guest has an I/O error, and its command has not succeeded" {
	mkdir small
	mount -t tmpfs -o size=20M none small
	TMPDIR=$PWD/small with_root --disk 200M -- 'dd if=/dev/zero of=/big bs=1M count=40 2> /dev/null; sync; rm -f /big; echo end'
	assert_equal "$output" end
	assert_equal "$status" 125
	assert_regex "$stderr" "drive 'disk'.*No space"
	assert_equal "$(find small -mindepth 1)" ''
}

@test "storage: --disk in a jail, and with an image as the root" {
	with_root --disk 64M --jail -- 'echo new > /file; cat /file; df -k / | tail -n 1'
	assert_regex "$status:$output" $'^0:new\n.* [56][0-9]{4} '
	run_mayfly run -k "$KERNEL" -r "$ROOTFS" --disk 256M -- sh -c 'echo new > /file; cat /file; df -k / | tail -n 1'
	assert_regex "$status:$output" $'^0:new\n.* 2[0-9]{5} '
}

@test "storage: large holes are read as zeros" {
	mkdir root/log
	truncate -s 400G root/log/lastlog
	printf data | dd of=root/log/lastlog bs=1 seek=300G conv=notrunc status=none
	with_root -- 'stat -c %s /log/lastlog; dd if=/log/lastlog bs=4 skip=$((300 << 28)) count=1 2> /dev/null; echo x > /log/new; cat /log/new'
	assert_equal "$status:$output" $'0:429496729600\ndatax'
}
