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

@test "leak: a descriptor that mayfly inherits is closed when it has ended" {
	mkfifo "$BATS_TEST_TMPDIR/fifo"
	"$MAYFLY" run --quiet -k "$GUESTS/hello.elf" < /dev/null > /dev/null 7> "$BATS_TEST_TMPDIR/fifo" 3>&- &
	pid=$!
	started+=("$pid")
	exec {from}< "$BATS_TEST_TMPDIR/fifo"
	wait_for has_ended "$pid"
	# The end of file comes when the last copy is closed: that of the reaper.
	status=0
	read -r -t 1 -u "$from" _ || status=$?
	assert_equal "$status" 1
}
