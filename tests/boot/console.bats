#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2153,SC2154 # each test is a subshell; the variables are of helper.bash
#
# The serial console: every byte arrives, in both directions, and no side that stalls holds up the other.

load helper

# What the guest of the flood tests writes. In the lab, where a byte costs 0.1 ms, it is less.
FLOOD=$((50 * 1024 * 1024))
[ -z "${LAB:-}" ] || FLOOD=$((16 * 1024))

rss_kib() {
	rss=$(sed -n 's/^VmRSS:[[:space:]]*\([0-9]*\) kB/\1/p' "/proc/$pid/status")
}

# bats test_tags=flat
@test "console: all byte values arrive as they are" {
	"$MAYFLY" run -k "$GUESTS/bytes.elf" < /dev/null > "$BATS_TEST_TMPDIR/out"
	"$PYTHON" -I -S -c 'import sys; sys.stdout.buffer.write(bytes(range(256)))' | cmp - "$BATS_TEST_TMPDIR/out"
}

@test "console: all byte values arrive from Linux, and go back through it" {
	"$PYTHON" -I -S -c 'import sys; sys.stdout.buffer.write(bytes(range(256)))' > "$BATS_TEST_TMPDIR/bytes"
	start_linux -- 'stty raw -echo; echo ready; head -c 256 > /bytes; cat /bytes; sha256sum /bytes'
	wait_said ready
	cat "$BATS_TEST_TMPDIR/bytes" >&"$to"
	wait_end
	assert_equal "$status" 0
	"$PYTHON" -I -S - "$BATS_TEST_TMPDIR/out" <<- 'EOF'
		import sys
		out = open(sys.argv[1], "rb").read()
		sys.exit(0 if b"ready\n" + bytes(range(256)) in out else "not in %r" % out)
	EOF
	grep -q "$(sha256sum < "$BATS_TEST_TMPDIR/bytes" | cut -d' ' -f1)" "$BATS_TEST_TMPDIR/out"
}

@test "console: a flood from the guest arrives to the byte, and the guest answers after it" {
	start_linux -- "stty -opost -echo; echo begin; yes | head -c $FLOOD; echo end; read x; echo got \$x"
	LIMIT=600 wait_said '^end$'
	tell question
	wait_end
	assert_equal "$status" 0
	assert_equal "$(sed -n '/^begin$/,/^end$/p' "$BATS_TEST_TMPDIR/out" | grep -c '^y$')" $((FLOOD / 2))
	said '^got question'
}

# bats test_tags=flat
@test "console: input of 50 MB stays with the writer while the guest does not read" {
	local before
	start_flat idle
	wait_said idle
	rss_kib
	before=$rss
	yes 0123456789abcdef 2> /dev/null | head -c 50M > "$BATS_TEST_TMPDIR/in" 3>&- &
	started+=($!)
	sleep 2
	# What the pipe holds, and the UART.
	[ "$(sed -n 's/^wchar: //p' "/proc/$!/io")" -lt 300000 ] || fail "mayfly reads what the guest does not take"
	rss_kib
	[ $((rss - before)) -lt 1024 ] || fail "it grew by $((rss - before)) KiB"
	kill -TERM "$pid"
	wait_end
	assert_equal "$status" 143
	kill $! 2> /dev/null || true
}

@test "console: a guest that reads late, in pieces, gets what was written, in order" {
	local want
	want=$(yes 0123456789abcdef | head -c 5000 | sha256sum | cut -d' ' -f1)
	# crtscts: the guest's terminal stops the sender when its buffer is full.
	start_linux -- 'stty raw -echo crtscts; echo ready; sleep 2;' \
		'for i in 1 2 3 4 5 6 7 8 9 10; do dd bs=1 count=500; done 2>/dev/null | sha256sum'
	wait_said ready
	yes 0123456789abcdef 2> /dev/null | head -c 1M > "$BATS_TEST_TMPDIR/in" 3>&- &
	started+=($!)
	wait_end
	assert_equal "$status" 0
	said "$want"
	kill $! 2> /dev/null || true
}

@test "console: a guest that reads nothing, and does not stop the sender, continues" {
	start_linux -- 'stty raw -echo; echo ready; sleep 2; echo alive'
	wait_said ready
	yes 0123456789abcdef 2> /dev/null > "$BATS_TEST_TMPDIR/in" 3>&- &
	started+=($!)
	wait_end
	kill $! 2> /dev/null || true
	assert_equal "$status" 0
	said alive
}

# bats test_tags=flat
@test "console: a guest that reads until there is nothing comes to an end, again and again" {
	start_flat reads
	wait_said ready
	{ yes 0123456789abcdef | head -c 30000; printf '\4'; } > "$BATS_TEST_TMPDIR/in"
	wait_end
	assert_equal "$status" 0
	said '^read$'
}

# bats test_tags=flat
@test "console: echo of a pipe, 1000 bytes, through a guest that polls" {
	start_flat echo
	yes 0123456789abcdef | head -c 999 > "$BATS_TEST_TMPDIR/sent"
	printf '\4' >> "$BATS_TEST_TMPDIR/sent"
	cat "$BATS_TEST_TMPDIR/sent" >&"$to"
	wait_end
	assert_equal "$status" 0
	tail -c +6 "$BATS_TEST_TMPDIR/out" | cmp - "$BATS_TEST_TMPDIR/sent"
}

@test "console: input that ends, from a pipe and from a file, does not end the guest" {
	printf 'abc\4' > "$BATS_TEST_TMPDIR/file"
	assert_equal "$("$MAYFLY" run --quiet -k "$GUESTS/echo.elf" < "$BATS_TEST_TMPDIR/file")" $'echo\nabc\4'
	run_linux -- 'sleep 1; echo after the end'
	assert_equal "$status" 0
	assert_line 'after the end'
}

@test "console: a reader that stalls does not hold up the guest" {
	truncate -s 1M "$BATS_TEST_TMPDIR/disk"
	mkfifo "$BATS_TEST_TMPDIR/stalled"
	exec {stalled}<> "$BATS_TEST_TMPDIR/stalled"
	dd if=/dev/zero of="$BATS_TEST_TMPDIR/stalled" bs=4096 oflag=nonblock 2> /dev/null || true # until it is full
	"$MAYFLY" run -k "$KERNEL" -i "$INITRAMFS" -d "$BATS_TEST_TMPDIR/disk" --append \
		'-- "(yes > /dev/console) & sleep 3; echo alive | dd of=/dev/vda conv=fsync,notrunc 2>/dev/null; while :; do :; done"' \
		< /dev/null > "$BATS_TEST_TMPDIR/stalled" 2> "$BATS_TEST_TMPDIR/err" 3>&- {stalled}>&- &
	pid=$!
	started+=("$pid")
	wait_for grep -qa '^alive' "$BATS_TEST_TMPDIR/disk"
	now_ms
	local began=$ms
	kill -TERM "$pid"
	wait_end
	now_ms
	assert_equal "$status" 143
	# A second is given to the reader for what is still there to be written.
	[ $((ms - began)) -lt $((AT_ONCE + 1000)) ] || fail "it took $((ms - began)) ms"
	grep -q 'too slow' "$BATS_TEST_TMPDIR/err"
}

@test "console: an interactive shell on a terminal" {
	on_tty 'expect=# ' 'send=expr 6 \\* 7; tty\r' 'expect=\r\n42\r\n' 'expect=# ' 'send=sh -c "echo go; sleep 1000"\r' \
		'expect=\r\ngo\r\n' 'send=\x03' 'expect=# ' 'send=exit\r' -- "$MAYFLY" run -k "$KERNEL" -i "$INITRAMFS"
	assert_equal "$status" 0
	assert_line 'terminal: unchanged'
}

# bats test_tags=flat
@test "console: Ctrl-A a, Ctrl-A h and a Ctrl-A that is none" {
	on_tty 'expect=echo' 'send=\x01a.' 'expect=\x01.' 'send=\x01h' 'expect=Ctrl-A x' 'send=\x01q' 'expect=\x01q' \
		'send=\x01\x01' 'expect=\x01' 'send=\x04' -- "$MAYFLY" run -k "$GUESTS/echo.elf"
	assert_equal "$status" 0
}

# bats test_tags=flat
@test "console: Ctrl-A c sends a break" {
	# One by one: the guest reads the line status for the byte before as well, which takes the break out of it.
	on_tty 'expect=echo' 'send=a' 'expect=a' 'send=\x01c' 'expect=(break)' 'send=b' 'expect=b' 'send=\x04' -- \
		"$MAYFLY" run -k "$GUESTS/echo.elf"
	assert_equal "$status" 0
}

# bats test_tags=flat
@test "console: Ctrl-A x works on a guest that does not read, behind what was typed" {
	on_tty 'expect=idle' 'send=0123456789012345678901234567890123456789' 'send=\x01x' -- \
		"$MAYFLY" run -k "$GUESTS/idle.elf"
	assert_equal "$status" 0
}

# bats test_tags=flat
@test "console: on a pipe there are no escapes" {
	start_flat echo
	printf '\1x\1a\4' >&"$to"
	wait_end
	assert_equal "$status" 0
	printf 'echo\n\1x\1a\4' | cmp - "$BATS_TEST_TMPDIR/out"
}
