#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2153,SC2154 # each test is a subshell; the variables are of helper.bash
#
# Many VMs, one after the other, leave nothing: no process, file, descriptor, VM in the kernel, memory.

load helper

# What a leak of the host's kernel would show in: sets $files (open), $vms (references to the KVM module), $slab (KiB
# that cannot be reclaimed, with kernel stacks and page tables) and $available (KiB).
take_stock() {
	local name value _
	read -r files _ < /proc/sys/fs/file-nr
	vms=$(cat /sys/module/kvm_amd/refcnt /sys/module/kvm_intel/refcnt 2> /dev/null || true)
	slab=0
	while read -r name value _; do
		case $name in
		SUnreclaim: | KernelStack: | PageTables:) slab=$((slab + value)) ;;
		MemAvailable:) available=$value ;;
		esac
	done < /proc/meminfo
}

# Boots ARG... $1 times. All share one output file, a descriptor that they inherit, and a directory of their own for
# temporary files.
boot_often() {
	local times=$1 i
	shift
	for ((i = 0; i < times; i++)); do
		"$MAYFLY" run --quiet "$@" < /dev/null > "$BATS_TEST_TMPDIR/out" 2> "$BATS_TEST_TMPDIR/err" || return 1
		[ ! -s "$BATS_TEST_TMPDIR/err" ] || return 1
	done
}

# leaves_nothing TIMES ARG...: after a few boots to warm caches up. Other programs of the host do as they like meanwhile,
# so what is of the whole host has room; a leak of one thing for each boot is more.
leaves_nothing() {
	local times=$1 before_files before_vms before_slab before_available fds shm
	shift
	export TMPDIR=$BATS_TEST_TMPDIR/tmp
	mkdir "$TMPDIR"
	boot_often 5 "$@"
	wait_for no_leftovers
	fds=$(echo /proc/self/fd/*)
	shm=$(find /dev/shm | wc -l)
	take_stock
	before_files=$files before_vms=$vms before_slab=$slab before_available=$available

	boot_often "$times" "$@"
	assert_none_left
	assert_equal "$(echo /proc/self/fd/*)" "$fds"
	assert_equal "$(find "$TMPDIR" | wc -l)" 1
	[ "$(find /dev/shm | wc -l)" -le $((shm + times / 2)) ]
	wait_for vms_are "$before_vms"
	take_stock
	echo "# files $before_files -> $files, slab $before_slab -> $slab KiB, available $before_available -> $available KiB"
	[ $((files - before_files)) -lt $((times / 2 + 32)) ]
	[ $((slab - before_slab)) -lt $((times * 16 + 4096)) ]
	[ $((before_available - available)) -lt $((times * 64 + 65536)) ]
}

no_leftovers() {
	[ -z "$(leftovers)" ]
}

# On a host that runs other VMs the number means nothing.
vms_are() {
	take_stock
	[ -z "${LAB:-}" ] || [ "$vms" = "$1" ]
}

@test "leak: 200 flat guests with a drive" {
	truncate -s 1M "$BATS_TEST_TMPDIR/disk"
	leaves_nothing 200 -k "$GUESTS/hello.elf" -d "$BATS_TEST_TMPDIR/disk"
}

@test "leak: 20 Linux guests with 2 CPUs and a drive" {
	truncate -s 64K "$BATS_TEST_TMPDIR/disk"
	leaves_nothing 20 -k "$KERNEL" -i "$INITRAMFS" -c 2 -d "$BATS_TEST_TMPDIR/disk" --append '-- "sha256sum /dev/vda"'
	grep -qa ' /dev/vda' "$BATS_TEST_TMPDIR/out"
}

# bats test_tags=flat
@test "leak: 50 guests that fail to start, at every stage" {
	local i what
	what=$(echo /proc/self/fd/*)
	for i in {1..10}; do
		for args in '-k missing' '-i missing' '-d missing' "-d $BATS_TEST_DIRNAME" "-a $(printf '%02040d' 0)"; do
			status=0
			# shellcheck disable=SC2086 # words
			"$MAYFLY" run -k "$GUESTS/hello.elf" $args < /dev/null > /dev/null 2>&1 || status=$?
			assert_equal "$status" 125
		done
	done
	assert_equal "$(echo /proc/self/fd/*)" "$what"
}

# The kernel's worker that takes a ring down, and the reaper, outlive mayfly: neither may hold a copy.
# bats test_tags=flat
@test "leak: what mayfly has open is closed when it has ended, whatever ends it" {
	"$PYTHON" -I -S - "$MAYFLY" "$GUESTS" <<- 'EOF'
		import os, select, signal, subprocess, sys

		monitor, guests = sys.argv[1:]

		def run(guest, said, signo, *options):
		    in_reader, in_writer = os.pipe()
		    out_reader, out_writer = os.pipe()
		    more_reader, more_writer = os.pipe()
		    ours = {out_reader: "stdout", more_reader: "a descriptor of the caller's", in_writer: "stdin"}
		    child = subprocess.Popen([monitor, "run", "--quiet", *options, "-k", guests + "/" + guest],
		                             stdin=in_reader, stdout=out_writer, pass_fds=[more_writer])
		    for fd in in_reader, out_writer, more_writer:
		        os.close(fd)
		    got = b""
		    while not got.startswith(said):
		        got += os.read(out_reader, 100)
		    if signo:
		        child.send_signal(signo)
		    os.waitid(os.P_PID, child.pid, os.WEXITED)
		    poll = select.poll()
		    for fd in ours:
		        poll.register(fd, 0)
		    found = dict(poll.poll(0))
		    for fd, what in ours.items():
		        assert found.get(fd, 0) & (select.POLLHUP | select.POLLERR), (options, guest, what, "is open")
		        os.close(fd)

		for i in range(10):
		    for options in (), ("--io-engine=sync",), ("--jail",):
		        run("hello.elf", b"hello", None, *options)
		        run("idle.elf", b"idle", signal.SIGTERM, *options)
	EOF
}

# bats test_tags=flat
@test "leak: a drive's file system can be unmounted, and a tap used again, when mayfly has ended" {
	[ "$(id -u)" -eq 0 ] || skip "it needs root, to mount and to make a tap"
	local dir=$BATS_TEST_TMPDIR/mounted i
	mkdir "$dir"
	[ -c /dev/net/tun ] || skip "this host has no /dev/net/tun"
	ip tuntap add dev leak0 mode tap
	for i in {1..5}; do
		mount -t tmpfs -o size=2m tmpfs "$dir"
		truncate -s 1M "$dir/disk"
		# Not captured: that would wait for the end of the output.
		"$MAYFLY" run --quiet -k "$GUESTS/hello.elf" -d "$dir/disk" -n tap=leak0 < /dev/null > "$BATS_TEST_TMPDIR/out"
		umount "$dir"
	done
	ip tuntap del dev leak0 mode tap
}

# bats test_tags=flat
@test "leak: a drive and a tap can be used again at once when mayfly was killed" {
	local i net=()
	truncate -s 1M "$BATS_TEST_TMPDIR/disk"
	if [ "$(id -u)" -eq 0 ] && [ -c /dev/net/tun ]; then
		ip tuntap add dev leak1 mode tap
		net=(-n tap=leak1)
	fi
	for i in {1..5}; do
		start_flat idle -d "$BATS_TEST_TMPDIR/disk" "${net[@]}"
		wait_said idle
		kill -KILL "$pid"
		wait_end
		run_flat hello -d "$BATS_TEST_TMPDIR/disk" "${net[@]}"
		assert_equal "$status" 0
	done
	[ ${#net[@]} -eq 0 ] || ip tuntap del dev leak1 mode tap
}
