#!/usr/bin/env bats
# shellcheck disable=SC2154 # variables of helper.bash
# The guest's init (loader/init) in real guests: what needs a kernel of its own. The rest is in tests/init/run. The guests,
# and the host's end, are those of tests/init/guests.

load helper

setup_file() {
	cd "$BATS_FILE_TMPDIR" || return 1
	local tree
	for tree in root data; do
		mkdir -p "$tree"
		echo mine > "$tree/name"
	done
	mkdir -p root/{bin,dev,etc,proc,sys,tmp,run,data/over,data/w}
	echo 'nameserver 127.0.0.1' > root/etc/resolv.conf
	cp "$(command -v busybox)" root/bin
	for tree in sh touch grep cut cat ls stat mount sleep echo; do
		ln -s busybox "root/bin/$tree"
	done
	chmod 711 root
	for tree in root data; do
		mkfs.erofs "$tree.erofs" "$tree" > /dev/null 2>&1
		mksquashfs "$tree" "$tree.squashfs" -quiet -no-progress -comp zstd > /dev/null
		# A drive is a whole number of sectors.
		truncate -s %4096 "$tree.squashfs" "$tree.erofs"
		truncate -s 16M "$tree.ext4"
		mke2fs -q -F -t ext4 -d "$tree" "$tree.ext4"
	done
}

# In a directory of its own, with links to the images.
guests() {
	cd "$BATS_TEST_TMPDIR" || return 1
	cp --sparse=always "$BATS_FILE_TMPDIR"/*.{ext4,erofs,squashfs} .
	export B MAYFLY KERNEL
	"$PYTHON" -I -S "$root/tests/init/guests" "$@"
}

@test "a guest's streams, commands, terminals and users, and what the kernel kills" {
	guests streams
}

@test "roots: ext4, erofs and squashfs; those that cannot be written to get an overlay" {
	guests roots
	# A root that can be written to was, and is in order.
	run debugfs -R 'ls -p /' root.ext4
	assert_output --partial '/new/'
	# But not by init.
	run debugfs -R 'cat /etc/resolv.conf' root.ext4
	assert_line 'nameserver 127.0.0.1'
	e2fsck -fn root.ext4 > /dev/null
}

@test "other drives, with and without overlays, and what was written is there at the end" {
	guests drives
	run debugfs -R 'cat /new' data.ext4
	assert_line written
	e2fsck -fn data.ext4 > /dev/null
}

@test "a kernel without vsock: the command runs on the console, and a status is there" {
	guests console
}

@test "no file system on the root drive: a sentence, and the end" {
	guests failures
}

@test "no command: the root's own init is PID 1" {
	guests handover
}

@test "eth0 has an address, a gateway and a name server" {
	[ "$(id -u)" -eq 0 ] || skip 'needs root to make a tap'
	ip tuntap add dev init0 mode tap
	ip address add 10.9.8.1/24 dev init0
	ip link set init0 up
	guests network
	wait_for ip tuntap del dev init0 mode tap # a monitor that was killed has it for some milliseconds more
}
