#!/usr/bin/env bats
# Guests whose input and output is done without io_uring (--io-engine=sync): where that is forbidden, and a part of the
# other files' tests again, with the same monitor but for that option.
# shellcheck disable=SC2016,SC2154 # the guest expands what is in single quotes; the variables are of helper.bash
load helper

without_io_uring() {
	run --separate-stderr timeout -k 5 "$LIMIT" "$PYTHON" -I -S "$BATS_TEST_DIRNAME/without-io-uring" "$@" < /dev/null
	strip_returns
}

# bats test_tags=flat
@test "sync: where io_uring is forbidden, guests run without it, and --io-engine=ring is an error" {
	local error options
	for error in EPERM ENOSYS EACCES; do
		for options in '' --jail '-n none'; do
			# shellcheck disable=SC2086 # words
			without_io_uring "$error" "$MAYFLY" run -k "$GUESTS/hello.elf" $options
			assert_equal "$status" 0
			assert_output --partial hello
			refute_regex "$stderr" uring
		done
		without_io_uring "$error" "$MAYFLY" run -k "$GUESTS/hello.elf" --vsock "$BATS_TEST_TMPDIR/vsock" --log-level info
		assert_equal "$status" 0
		assert_equal "$(grep -c 'info .*io_uring.*--io-engine=sync' <<< "$stderr")" 1
		without_io_uring "$error" "$MAYFLY" run -k "$GUESTS/hello.elf" --io-engine=ring
		assert_equal "$status" 125
		assert_one_line 'io ring: .*io_uring.*--io-engine=auto'
		without_io_uring "$error" "$MAYFLY" run -k "$GUESTS/hello.elf" --dry-run
		assert_output --partial '"io_engine": "sync"'
	done
	run_flat hello --dry-run
	assert_output --partial '"io_engine": "ring"'
	run_flat hello --dry-run --io-engine=sync
	assert_output --partial '"io_engine": "sync"'
}

# bats test_tags=flat
@test "sync: the VM has one thread more, and no ring" {
	start_flat idle --io-engine=sync
	wait_said .
	run cat "/proc/$pid"/task/*/comm
	assert_line io-sync
	assert_line io-worker
	run find "/proc/$pid/fd" -lname '*io_uring*'
	assert_output ''
	kill -TERM "$pid"
	wait_end
}

@test "sync: drives: fsync, discard, an overlay; and passt" {
	local img=$BATS_TEST_TMPDIR/disk before
	before=$(head -c 2M "$TOOLS" | sha256sum)
	truncate -s 32M "$img"
	mkfs.ext4 -q -F -b 4096 "$img"
	command -v passt > /dev/null || skip "passt is not installed"
	have_route
	mkdir "$BATS_TEST_TMPDIR/served"
	head -c 1000000 "$TOOLS" > "$BATS_TEST_TMPDIR/served/file"
	"$PYTHON" -I -m http.server -b 127.0.0.1 -d "$BATS_TEST_TMPDIR/served" 8124 > /dev/null 2>&1 3>&- &
	local server=$!
	wait_for bash -c ': > /dev/tcp/127.0.0.1/8124' 2> /dev/null
	run_mayfly run -k "$KERNEL" -i "$INITRAMFS" --io-engine=sync -d "$img" -d "$TOOLS:overlay" -n user,host=8124 -- sh -ec '
		mkdir /m; mount /dev/vda /m
		dd if=/dev/urandom of=/m/x bs=1M count=16 conv=fsync 2> /dev/null
		dd if=/dev/urandom of=/m/y bs=64k count=16 conv=fsync 2> /dev/null
		dd if=/m/y of=/dev/vdb bs=64k conv=fsync 2> /dev/null
		rm /m/x; sync; fstrim -v /m; umount /m
		echo 3 > /proc/sys/vm/drop_caches
		mount /dev/vda /m; head -c 1048576 /dev/vdb | cmp - /m/y && echo same; umount /m
		wget -q -O - http://10.0.2.2:8124/file | sha256sum'
	kill "$server"
	assert_equal "$status" 0
	assert_line --partial 'bytes trimmed'
	assert_line same
	assert_line "$(sha256sum < "$BATS_TEST_TMPDIR/served/file")"
	[ "$(du -k "$img" | cut -f1)" -lt 8000 ] || fail "of 17 MB that were written, 16 trimmed, there are $(du -k "$img")"
	assert_equal "$(head -c 2M "$TOOLS" | sha256sum)" "$before"
	run e2fsck -f -n "$img"
	assert_equal "$status" 0
}

# The same tests pass with tests/mayfly-sync.
@test "sync: a part of the tests of taps, vsock, the console and commands" {
	local name vars=()
	for name in ${!BATS_*}; do
		[[ $name == BATS_LIB_PATH ]] || vars+=(-u "$name")
	done
	run env "${vars[@]}" MAYFLY="$root/tests/mayfly-sync" MONITOR="$MAYFLY" B="$B" bats --tap --timing \
		-f 'a tap goes down and up|both half-close|nobody listens are refused|reader that stalls|on a terminal$|artifacts come out' \
		"$BATS_TEST_DIRNAME"/{net,vsock,console,command}.bats 3>&-
	echo "$output"
	grep '^ok ' <<< "$output" | sed 's/^/# sync: /' >&3
	assert_equal "$status" 0
	assert_equal "$(grep -c '^ok ' <<< "$output")" 6
	refute_line --partial '# skip'
}
