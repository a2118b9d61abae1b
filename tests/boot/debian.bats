#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2154,SC2317 # the guest expands what is in single quotes, variables are of helper.bash
# Kernels that are not ours: Debian's stock cloud kernels, which come as bzImage and find everything by ACPI; with the
# initrds that Debian has made for them, to a Debian on a disk, by systemd to a login.
#
# The files come from `make debian`. A boot to the login takes minutes in the lab, so there is one for each
# kernel, in `make check-slow`; what needs no Debian around it boots our initramfs. Both have a network and
# vsock, whose modules they load; 6.12 also does some work (tests/debian/load): its mirror has 2,000 packages, its database
# 20,000 rows, and vsock carries 8 MiB both ways, which is half a minute in the lab. DEBIAN_TIMES=20 makes that so many
# times as much.

load helper

# systemd waits for a device, and for a service, 90 seconds by itself, which are over on a busy machine.
LIMIT=900
PATIENT=systemd.default_timeout_start_sec=$LIMIT
DEBIAN=${DEBIAN:-$B/debian}

need_debian() {
	[ -e "$DEBIAN/root.ext4" ] || skip "no Debian disk image: run make debian"
}

# The image is written to: a copy.
setup_file() {
	[ -e "$DEBIAN/root.ext4" ] || return 0
	cd "$BATS_FILE_TMPDIR" || return 1
	cp --sparse=always "$DEBIAN/root.ext4" .
	debugfs -w -R "write $BATS_TEST_DIRNAME/../debian/load /load" root.ext4 2> /dev/null
	debugfs -w -R 'sif /load mode 0100755' root.ext4 2> /dev/null
	make_mirror
}

TIMES=${DEBIAN_TIMES:-1}

# A mirror of Debian's packages, as far as apt can tell: one that exists, with the program that speaks vsock and data for
# it, and many that are only in the list.
make_mirror() {
	local dir=mirror/package size sum
	mkdir -p "$dir/DEBIAN" "$dir/usr/bin" "$dir/usr/share/mayfly-test"
	cp "$GUESTS/vsock" "$dir/usr/bin/mayfly-vsock"
	head -c "$((TIMES * 8))M" /dev/urandom > "$dir/usr/share/mayfly-test/data"
	printf '%s\n' 'Package: mayfly-test' 'Version: 1' 'Architecture: amd64' 'Maintainer: mayfly' 'Description: test' \
		> "$dir/DEBIAN/control"
	dpkg-deb -Znone --root-owner-group -b "$dir" mirror/mayfly-test.deb > /dev/null
	size=$(stat -c %s mirror/mayfly-test.deb)
	sum=$(sha256sum < mirror/mayfly-test.deb)
	{
		cat "$dir/DEBIAN/control"
		printf 'Filename: ./mayfly-test.deb\nSize: %s\nSHA256: %s\n\n' "$size" "${sum%% *}"
		awk -v num="$((TIMES * 2000))" 'BEGIN {
			for (i = 1; i <= num; i++)
				printf "Package: listed-%d\nVersion: %d.%d-1\nArchitecture: amd64\nMaintainer: nobody\n" \
					"Depends: listed-%d, listed-%d\nFilename: ./listed-%d.deb\nSize: %d\nSHA256: %064d\n" \
					"Description: package number %d\n\n", i, i % 7, i % 11, i / 2 + 1, i / 3 + 1, i, i, i, i
		}'
	} | gzip > mirror/Packages.gz
	sha256sum < "$dir/usr/share/mayfly-test/data" > data.sum
}

teardown_file() {
	ip link del mf-debian 2> /dev/null || true
}

# on_guest LINE: waits until it is done. The words that are waited for are not those of the echo.
on_guest() {
	step=$((${step:-0} + 1))
	tell "$1; echo EN\"\"D$step"
	wait_said "END$step"
}

# debian KERNEL [FUNCTION]: to the login, a look around, the function, and off by systemd. Leaves a mark on the disk. Sets
# $output.
debian() {
	need_debian
	[ "$(id -u)" = 0 ] || skip "taps need root"
	ip link show mf-debian > /dev/null 2>&1 || ip tuntap add dev mf-debian mode tap
	ip address replace 10.3.0.1/24 dev mf-debian
	ip link set mf-debian up
	cd "$BATS_TEST_TMPDIR" || return 1
	start_mayfly run -k "$DEBIAN/vmlinuz-$1" -i "$DEBIAN/initrd-$1" -m 512M -c 2 -d "$BATS_FILE_TMPDIR/root.ext4" \
		-n tap=mf-debian --vsock v --control ./control \
		--append "root=/dev/vda rw mitigations=off cryptomgr.notests $PATIENT systemd.mask=e2scrub_reap.service"
	wait_said 'debian login:'
	tell root
	wait_said 'root@debian:'
	on_guest 'uname -r; nproc; findmnt -no SOURCE,FSTYPE / | xargs; systemctl is-system-running --wait; systemctl --failed --no-legend'
	on_guest 'nic=$(ls /sys/class/net | grep -v lo); ip address add 10.3.0.2/24 dev $nic; ip link set $nic up; ping -qc 2 10.3.0.1'
	on_guest "touch /mark-$1; ls -d /mark* | xargs; lsmod | cut -d' ' -f1 | xargs; grep IO-APIC /proc/interrupts"
	"${2:-true}"
	tell 'poweroff'
	wait_end
	assert_equal "$status" 0
	assert_one_line 'the guest powered off \(ACPI S5\)$'
	output=$(cat before out 2> /dev/null | tr -d '\r' | sed $'s/\e\\[[?0-9;]*[a-zA-Z]//g')
	assert_regex "$output" $'\n'"$1[.0-9]*[-+].*amd64"$'\n2\n/dev/vda ext4\nrunning\n'
	assert_regex "$output" 'IO-APIC +5-edge +virtio0'
	assert_regex "$output" 'IO-APIC +4-edge +ttyS0'
	for module in virtio_mmio virtio_blk virtio_net vmw_vsock_virtio_transport; do
		assert_regex "$output" "Module .*$module"
	done
	assert_regex "$output" '2 packets transmitted, [12] received'
}

work() {
	local server rows=$((TIMES * 20000))
	busybox httpd -f -p 10.3.0.1:8000 -h "$BATS_FILE_TMPDIR/mirror" 3>&- &
	server=$!
	started+=("$server")
	tell "/load http://10.3.0.1:8000 $rows"
	wait_said "^load: integrity ok $((rows - rows / 3))"
	"$GUESTS/vsock" serve "unix:$PWD/v_52" < /dev/null 3>&- | sha256sum > sum &
	wait_said '^load: sent by vsock'
	wait_for grep -q . sum
	assert_equal "$(< sum)" "$(< "$BATS_FILE_TMPDIR/data.sum")"
	to_guest() { "$GUESTS/vsock" pipe "hybrid:$PWD/v:99" < "$BATS_FILE_TMPDIR/mirror/package/usr/share/mayfly-test/data" 2> /dev/null; }
	wait_for to_guest
	wait_said '^load: done'
	kill "$server"
	grep '^load:' out # shown if the test fails
	said "^load: received $(< "$BATS_FILE_TMPDIR/data.sum")"
	said '^load: 9592 primes'
	[ "$(sed -n 's/^load: \([0-9]*\) names in the cache.*/\1/p' out)" -gt $((TIMES * 2000)) ]
}

# Through a snapshot, with a service that works and a shell that has a variable.
goes_on() {
	on_guest 'kept=variable; systemd-run -qu counts sh -c "while :; do echo >> /run/counts; sleep 0.1; done"; sleep 1; wc -l < /run/counts'
	run timeout -k 5 "$LIMIT" "$MAYFLY" snapshot --stop ./control snap
	assert_success
	wait_end
	cp out before
	start_mayfly restore --control ./control snap
	on_guest 'n=$(wc -l < /run/counts); sleep 2; [ $(wc -l < /run/counts) -gt $n ] && echo "it counts, $kept"'
	said 'it counts, variable'
	on_guest 'systemctl is-active -q counts && systemctl is-active -q systemd-journald && echo both ru""n'
	said 'both run'
	on_guest 'systemctl is-system-running; touch /restored && sync; ping -qc 2 10.3.0.1'
	run ! said degraded
	said '2 packets transmitted, [12] received'
}

# bats test_tags=slow
@test "debian: 6.1 boots to a login with its own initrd, lives on in a snapshot, and powers off" {
	debian 6.1 goes_on
}

# bats test_tags=slow
@test "debian: 6.12 does the same, and works: packages, a compiler, a database, vsock" {
	debian 6.12 work
	assert_regex "$output" $'\n/mark-6.12\n'
}

# Without reboot= on the command line Linux, finding hardware-reduced ACPI, jumps to the BIOS in the end.
@test "debian: 6.12 finds 4 vCPUs by ACPI, and reboots its own way" {
	need_debian
	run_mayfly run -k "$DEBIAN/vmlinuz-6.12" -i "$INITRAMFS" -c 4 -m 512M \
		--cmdline 'console=ttyS0 quiet panic=-1 cryptomgr.notests -- "nproc; ls /sys/firmware/acpi/tables"'
	assert_equal "$status" 0
	assert_regex "$output" $'\n4\nAPIC +DSDT +FACP '
	assert_one_line 'the guest rebooted.*\(ACPI reset\)$'
}

@test "debian: 6.12 seeds its random numbers again in each clone" {
	need_debian
	local dir=$BATS_TEST_TMPDIR
	started=()
	start_mayfly run -k "$DEBIAN/vmlinuz-6.12" -i "$INITRAMFS" -m 512M --control "$dir/control" \
		--cmdline 'console=ttyS0 quiet panic=-1 cryptomgr.notests -- "dmesg -c > /dev/null; echo up; read word; until dmesg | grep machine.fork; do sleep 0.1; done; head -c 16 /dev/urandom | od -An -tx1; dmesg | grep -c machine.fork"'
	wait_said ^up
	run "$MAYFLY" snapshot --stop "$dir/control" "$dir/snap"
	assert_success
	wait_end
	for _ in 1 2; do
		run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" restore "$dir/snap" <<< go
		strip_returns
		assert_equal "$status" 0
		assert_line --regexp 'crng reseeded due to virtual machine fork$'
		assert_line 1 # once
		run grep -E '^( [0-9a-f]{2}){16}$' <<< "$output"
		assert_success
		echo "$output" >> "$dir/random"
	done
	assert_equal "$(sort -u "$dir/random" | wc -l)" 2
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
