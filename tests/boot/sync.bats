#!/usr/bin/env bats
# Guests whose input and output is done without io_uring (--io-engine=sync): where that is forbidden, and a part of the
# other files' tests again, with the same monitor but for that option.
# shellcheck disable=SC2154 # the variables are of helper.bash
load helper

without_io_uring() {
	run --separate-stderr timeout -k 5 "$LIMIT" "$PYTHON" -I -S "$BATS_TEST_DIRNAME/without-io-uring" "$@" < /dev/null
	strip_returns
}

# again FILE NUMBER REGEX: the tests of FILE that match, which are so many, pass with tests/mayfly-sync, too.
again() {
	local name vars=()
	for name in ${!BATS_*}; do
		[[ $name == BATS_LIB_PATH ]] || vars+=(-u "$name")
	done
	run env "${vars[@]}" MAYFLY="$root/tests/mayfly-sync" MONITOR="$MAYFLY" B="$B" bats --tap --timing -f "$3" \
		"$BATS_TEST_DIRNAME/$1.bats" 3>&-
	echo "$output"
	assert_equal "$status" 0
	assert_equal "$(grep -c '^ok ' <<< "$output")" "$2"
	refute_line --partial '# skip'
}

@test "sync: where io_uring is forbidden, mayfly says what to do, and that works" {
	local error
	for error in EPERM ENOSYS; do
		without_io_uring "$error" "$MAYFLY" run -k "$GUESTS/hello.elf"
		assert_equal "$status" 125
		assert_one_line "io ring: io_uring is not allowed here \($error;.*, or use --io-engine=sync"
		without_io_uring "$error" "$MAYFLY" run -k "$GUESTS/hello.elf" --io-engine=sync
		assert_equal "$status" 0
		assert_output --partial hello
	done
	without_io_uring EPERM "$MAYFLY" run -k "$KERNEL" -r "$ROOTFS" -d "$TOOLS:ro" --io-engine=sync -- \
		sh -c 'dd if=/dev/vdb bs=1M count=8 | md5sum; exit 3'
	assert_equal "$status" 3
	assert_line "$(head -c 8M "$TOOLS" | md5sum)"
}

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

@test "sync: drives" {
	again drives 2 'what the guest discards|beyond RLIMIT_FSIZE'
	again disk 1 'clean on the host'
}

@test "sync: a network" {
	again net 1 'goes down and up'
	again command 1 'a network has its addresses'
}

@test "sync: vsock" {
	again vsock 2 'both half-close|resets its device'
}

@test "sync: the console" {
	again console 2 'a reader that stalls|interactive shell'
}

@test "sync: a command" {
	again command 2 'are binary, and end|artifacts come out'
}
