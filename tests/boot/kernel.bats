#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2034,SC2153,SC2154 # the guest expands what is in single quotes, variables are of helper.bash
# The project's two kernels: by their names, and microvm with what programs ask of it. Its guest is the Debian of
# `make debian`, with podman, in one boot for all that is tried.

load helper

LIMIT=400
DEBIAN=${DEBIAN:-$B/debian}

# Images of file systems that a guest may mount, and a container's.
make_images() {
	local top
	mkdir -p images/root/bin
	for top in sh ip ping; do cp "$(command -v busybox)" "images/root/bin/$top"; done
	tar -C images/root -cf images/container.tar .
	rm -r images/root
	cp "$GUESTS/kernel" images
	mkdir content
	echo content > content/file
	mksquashfs content images/squashfs -quiet -no-progress > /dev/null
	truncate -s 1M images/vfat images/iso9660
	busybox mkdosfs images/vfat
	# Two volume descriptors and an empty root (ECMA-119 §8.4, §9.1): numbers are stored in both byte orders.
	"$PYTHON" - images/iso9660 <<- 'END'
		import sys

		def both(number, size):
		    return number.to_bytes(size, "little") + number.to_bytes(size, "big")

		def record(name):
		    return (b"\x22\0" + both(18, 4) + both(2048, 4) + bytes(7) + b"\x02\0\0" + both(1, 2) + b"\x01" + name)

		volume = bytearray(2048)
		volume[0:7] = b"\x01CD001\x01"
		volume[80:88] = both(512, 4)
		volume[120:124] = volume[124:128] = both(1, 2)
		volume[128:132] = both(2048, 2)
		volume[156:190] = record(b"\0")
		volume[881] = 1
		with open(sys.argv[1], "r+b") as image:
		    image.seek(16 * 2048)
		    image.write(volume + b"\xffCD001\x01".ljust(2048, b"\0") + (record(b"\0") + record(b"\1")).ljust(2048, b"\0"))
	END
}

@test "kernel: microvm has what programs ask for, and runs podman with a bridge" {
	[ -e "$DEBIAN/root.ext4" ] || skip "no Debian disk image: run make debian"
	cd "$BATS_TEST_TMPDIR"
	make_images
	cat > images/try <<- 'END'
		mkdir -p /tmp/at
		try() { # NAME COMMAND...
			name=$1
			shift
			if said=$("$@" 2>&1); then echo "ok $name"; else echo "no $name: $said"; fi
		}
		/images/kernel
		for type in squashfs vfat iso9660; do
			try "$type" mount -o ro,loop -t "$type" "/images/$type" /tmp/at && umount /tmp/at
		done
		try nft nft 'add table inet t; add chain inet t c { type nat hook postrouting priority 100; }; add rule inet t c masquerade'
		for tables in iptables ip6tables; do
			try "$tables" "$tables" -t nat -A OUTPUT -m addrtype --dst-type LOCAL -m comment --comment x \
				-m conntrack --ctstate NEW -p tcp -m multiport --dports 1,2 -j REDIRECT --to-ports 3
			try "$tables-reject" "$tables" -A INPUT -i none0 -m limit --limit 1/s -j REJECT
		done
		export CONTAINERS_CONF=/tmp/containers.conf
		printf '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n' > "$CONTAINERS_CONF"
		try import podman import -q /images/container.tar busybox
		try driver test "$(podman info -f '{{.Store.GraphDriverName}}')" = overlay
		try podman podman run --rm --log-driver none -m 64m -p 8080:80 busybox ping -c 1 10.88.0.1
	END
	run_mayfly run -k "$B/vmlinux-microvm" -r "$DEBIAN/root.ext4" -m 768M -v images:/images:copy \
		--tmpfs /var/lib/containers -- sh /images/try
	assert_equal "$status" 0
	refute_line --regexp '^no '
	for name in ipv6 keys userfaultfd landlock binfmt_misc fuse 9p squashfs vfat iso9660 nft iptables iptables-reject \
		ip6tables ip6tables-reject import driver podman; do
		assert_line "ok $name"
	done
}

# bats test_tags=slow
@test "kernel: minimal boots by its name, and microvm by the default" {
	local kernel
	for kernel in minimal microvm; do
		run_mayfly run --kernel "$kernel" -r "$ROOTFS" -- uname -r
		assert_equal "$status" 0
		assert_output --partial -mayfly
		eval "$kernel=\$output"
	done
	[ "$minimal" != "$microvm" ]
	MAYFLY_KERNEL='' run_mayfly run -r "$ROOTFS" -- uname -r
	assert_equal "$output" "$microvm"
}

# vm_ids [ID]: prints the id of the VM that start_* has started, and the one with which its kernel has seeded its random
# number generator, in hex. With ID, gives it that id, as a restore does.
vm_ids() {
	"$PYTHON" -I -S - "$pid" "$(dirname "$(readlink -f "$KERNEL")")/System.map" "$@" <<- 'END'
		import re, sys

		ID = 0xFFE00  # loader/layout.h
		SEEN = 8  # in struct vm_id of drivers/char/random.c
		maps = open(f"/proc/{sys.argv[1]}/maps").read()
		memory = open(f"/proc/{sys.argv[1]}/mem", "r+b", 0)

		def at(address, length):
		    memory.seek(address)
		    return memory.read(length)

		for start, end in re.findall(r"^(\w+)-(\w+) rw-p \S+ 00:00 0 *$", maps, re.M):
		    ram = int(start, 16)
		    if int(end, 16) - ram >= 1 << 20 and at(ram + 0xFF000, 8) == b"RSD PTR ":
		        break
		symbol = int(re.search(r"^(\w+) d vm_id$", open(sys.argv[2]).read(), re.M)[1], 16)
		if len(sys.argv) > 3:
		    memory.seek(ram + ID)
		    memory.write(bytes.fromhex(sys.argv[3]))
		print(at(ram + ID, 16).hex(), at(ram + symbol - 0xFFFFFFFF80000000 + SEEN, 16).hex())
	END
}

@test "kernel: after a restore, the random number generator takes the new id before it gives anything" {
	local first second ids=0123456789abcdef0123456789abcdef
	start_linux -- 'echo up; read line; head -c 1 /dev/urandom > /dev/null; echo done; read line'
	wait_said ^up
	read -r first second <<< "$(vm_ids)"
	assert_equal "$first" "$second"
	[ "$first" != 00000000000000000000000000000000 ]
	vm_ids "$ids"
	tell next
	wait_said ^done
	assert_equal "$(vm_ids)" "$ids $ids"
	tell end
	wait_end
	assert_equal "$status" 0
}
