#!/usr/bin/env bats
# Kernels that are not ours: Debian's stock cloud kernels, which come as bzImage and find everything by ACPI; with the
# initrds that Debian has made for them, to a Debian on a disk, by systemd to a login.
#
# The files come from `make debian`. A boot to the login takes one or two minutes in the lab, so there is one for each
# kernel; what needs no Debian around it boots our initramfs.

load helper

LIMIT=400
DEBIAN=${DEBIAN:-$B/debian}

need_debian() {
	[ -e "$DEBIAN/root.ext4" ] || skip "no Debian disk image: run make debian"
}

# The image is written to: a copy, for both kernels in turn.
setup_file() {
	local image=${DEBIAN:-${B:-build}/debian}/root.ext4
	cd "$BATS_TEST_DIRNAME/../.." || return 1
	[ ! -e "$image" ] || cp --sparse=always "$image" "$BATS_FILE_TMPDIR/root.ext4"
}

# debian KERNEL: to the login, a look around, and off by systemd. Leaves a mark on the disk. Sets $output.
debian() {
	need_debian
	start_mayfly run -k "$DEBIAN/vmlinuz-$1" -i "$DEBIAN/initrd-$1" -m 512M -c 2 -d "$BATS_FILE_TMPDIR/root.ext4" \
		--append 'root=/dev/vda rw mitigations=off cryptomgr.notests systemd.mask=e2scrub_reap.service'
	wait_said 'debian login:'
	tell root
	wait_said 'root@debian:'
	# The words that are waited for are not those of the echo.
	tell "uname -r; nproc; findmnt -no SOURCE,FSTYPE / | xargs; systemctl is-system-running --wait; echo EN\"\"D1"
	wait_said END1
	tell "touch /mark-$1; ls -d /mark* | xargs; lsmod | cut -d' ' -f1 | xargs; grep IO-APIC /proc/interrupts; echo EN\"\"D2"
	wait_said END2
	tell 'poweroff'
	wait_end
	assert_equal "$status" 0
	assert_one_line 'the guest powered off \(ACPI S5\)$'
	output=$(tr -d '\r' < "$BATS_TEST_TMPDIR/out" | sed $'s/\e\\[[?0-9;]*[a-zA-Z]//g')
	assert_regex "$output" $'\n'"$1[.0-9]*[-+].*amd64"$'\n2\n/dev/vda ext4\nrunning\n'
	assert_regex "$output" 'IO-APIC +5-edge +virtio0'
	assert_regex "$output" 'IO-APIC +4-edge +ttyS0'
	for module in virtio_mmio virtio_blk; do
		assert_regex "$output" "Module .*$module"
	done
}

@test "debian: 6.1 boots to a login with its own initrd, and powers off" {
	debian 6.1
}

@test "debian: 6.12 does the same on the same disk" {
	debian 6.12
	assert_regex "$output" $'\n/mark-6.1 /mark-6.12\n'
}

# Without reboot= on the command line Linux, finding hardware-reduced ACPI, jumps to the BIOS in the end.
@test "debian: 6.12 finds 4 vCPUs by ACPI, and reboots its own way" {
	need_debian
	run_mayfly run -k "$DEBIAN/vmlinuz-6.12" -i "$INITRAMFS" -c 4 -m 512M \
		--cmdline 'console=ttyS0 quiet panic=-1 cryptomgr.notests -- "nproc; ls /sys/firmware/acpi/tables"'
	assert_equal "$status" 0
	assert_regex "$output" $'\n4\nAPIC +DSDT +FACP '
	assert_one_line 'the guest rebooted, so it has ended \(ACPI reset\)$'
}

@test "debian: a bzImage that does not fit, or is cut off, is refused" {
	need_debian
	run_mayfly run -k "$DEBIAN/vmlinuz-6.12" -m 48M
	assert_equal "$status" 125
	assert_one_line "kernel '.*vmlinuz-6.12': needs guest memory up to 0x[0-9a-f]+ .* \(48 MiB\)$"
	head -c 1000000 "$DEBIAN/vmlinuz-6.12" > "$BATS_TEST_TMPDIR/cut"
	run_mayfly run -k "$BATS_TEST_TMPDIR/cut"
	assert_equal "$status" 125
	assert_one_line "kernel '.*cut': has 0x[0-9a-f]+ bytes at .* of a file of 0xf4240: truncated\?$"
}

# The modules of vsock are not there, as this initramfs has none.
@test "debian: a kernel without vsock runs a command on the console, and the status is true" {
	need_debian
	run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" run -k "$DEBIAN/vmlinuz-6.1" -i "$INITRAMFS" -m 256M \
		--append 'mitigations=off cryptomgr.notests' -- sh -c 'echo on the console; exit 6' < /dev/null
	assert_equal "$status" 6
	assert_regex "$stderr" 'no virtio-vsock'
	assert_regex "$output" 'on the console'
}
