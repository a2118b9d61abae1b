#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2153,SC2154 # each test is a subshell; the variables are of helper.bash
#
# How a VM ends, and how mayfly tells: its status, one line, and nothing left behind.

load helper

@test "end: reboot is 0; --quiet says nothing about it" {
	run_linux -- 'reboot -f'
	assert_equal "$status" 0
	assert_one_line 'the guest rebooted'
	run_linux --quiet -- 'reboot -f'
	assert_equal "$status" 0
	assert_equal "$stderr" ''
}

@test "end: poweroff and halt are 0" {
	local word
	# Our kernel has no ACPI, so it halts instead of powering off; debian.bats has one that powers off.
	for word in poweroff halt; do
		run_linux -- "$word -f"
		assert_equal "$status" 0
		assert_one_line 'the guest halted'
	done
}

@test "end: halt of two CPUs is 0" {
	run_linux -c 2 -- 'halt -f'
	assert_equal "$status" 0
	assert_one_line 'the guest halted'
}

@test "end: panic is 101 and the line has the kernel's words" {
	run_mayfly run -k "$KERNEL"
	assert_equal "$status" 101
	assert_one_line 'panicked: VFS: Unable to mount root fs'
	# PID 1 ends.
	run_mayfly run -k "$KERNEL" -i "$INITRAMFS" --append 'rdinit=/bin/busybox'
	assert_equal "$status" 101
	assert_one_line 'panicked: Attempted to kill init'
}

# bats test_tags=flat
@test "end: a triple fault is 102" {
	run_flat triple
	assert_equal "$status" 102
	assert_one_line 'the guest crashed.*triple fault'
}

# bats test_tags=flat
@test "end: an exit of KVM that cannot be handled is 103" {
	run_flat nowhere
	assert_equal "$status" 103
	assert_one_line 'KVM.*(INTERNAL_ERROR|emulate)'
}

# bats test_tags=flat
@test "end: a halt with interrupts off is 104, within seconds" {
	SECONDS=0
	run_flat halt
	assert_equal "$status" 104
	assert_equal "$output" 'halting'
	assert_one_line 'stopped'
	[ "$SECONDS" -lt 10 ]
	# The second CPU was never started.
	run_flat halt -c 2
	assert_equal "$status" 104
}

# bats test_tags=flat
@test "end: a guest that does not start its command in time is 125, with its last words" {
	local jail
	for jail in '' --jail; do
		SECONDS=0
		run_flat spin $jail --boot-timeout 2s -- command
		assert_equal "$status" 125
		assert_regex "$stderr" $'^guest: spinning\nmayfly: .*--boot-timeout'
		[ "$SECONDS" -lt 20 ]
	done
	# Of a line that has no end, too.
	run_flat bytes --boot-timeout 1s -- command
	assert_regex "$stderr" 'guest: [^'$'\n'']*wxyz[^'$'\n'']*'$'\n''mayfly: '
	MAYFLY_BOOT_TIMEOUT=1s run_flat spin -- command
	assert_equal "$status" 125
	# Neither another limit, nor a guest without a command.
	run_flat spin --timeout 2s --boot-timeout none -- command
	assert_equal "$status" 124
	MAYFLY_BOOT_TIMEOUT=1s run_flat spin --timeout 2s
	assert_equal "$status" 124
}

# switches: sets $switches, a line for each thread of $pid but the vCPUs': its name and how often it was switched.
count_switches() {
	switches=$(for task in "/proc/$pid/task"/*; do
		case $(< "$task/comm") in
		vcpu*) [ "${1:-}" = all ] || continue ;;
		esac
		awk '/^Name:/ { name = $2 } /ctxt_switches:/ { n += $2 } END { print name, n }' "$task/status"
	done)
}

# stays_asleep [all]: no thread of $pid is woken in 10 s, once there was time to see that the guest is quiet.
stays_asleep() {
	local before
	sleep 3
	count_switches "$@"
	before=$switches
	sleep 10
	count_switches "$@"
	assert_equal "$switches" "$before"
	[[ $switches == *mayfly*io*vsock* || $switches == *mayfly*vsock*io* ]] || fail "not the threads of mayfly: $switches"
}

@test "end: an idle Linux guest, with every device, wakes none but its vCPU's" {
	ip tuntap add dev idle0 mode tap
	truncate -s 1M "$BATS_TEST_TMPDIR/disk"
	start_linux -d "$BATS_TEST_TMPDIR/disk" -n tap=idle0 --vsock "$BATS_TEST_TMPDIR/vsock" -- 'echo ready; sleep 1000'
	wait_said ready
	sleep 10 # it writes back what it has changed
	stays_asleep
	kill -TERM "$pid"
	wait_end
	ip tuntap del dev idle0 mode tap
}

# bats test_tags=flat
@test "end: an idle guest, with every device, wakes no thread" {
	local engine
	truncate -s 1M "$BATS_TEST_TMPDIR/disk"
	for engine in ring sync; do
		start_flat idle --io-engine=$engine -d "$BATS_TEST_TMPDIR/disk" -n none --vsock "$BATS_TEST_TMPDIR/vsock"
		wait_said idle
		stays_asleep all
		kill -TERM "$pid"
		wait_end
		assert_equal "$status" 143
	done
}

# bats test_tags=flat
@test "end: a halt with interrupts on is none" {
	start_flat idle
	wait_said idle
	sleep 3
	kill -TERM "$pid"
	wait_end
	assert_equal "$status" 143
}

# Ends a guest that computes and one that idles by a signal: $2 is the status, at once.
ended_by() {
	local guest word began
	for guest in spin idle; do
		start_flat "$guest"
		word=idle
		[ "$guest" = idle ] || word=spinning
		wait_said "$word"
		now_ms
		began=$ms
		kill "-$1" "$pid"
		status=0
		wait "$pid" || status=$?
		now_ms
		stderr=$(< "$BATS_TEST_TMPDIR/err")
		assert_equal "$status" "$2"
		[ $((ms - began)) -lt "$AT_ONCE" ] || fail "it took $((ms - began)) ms"
		[ "$1" = KILL ] || assert_one_line "signal \\($3"
	done
}

# bats test_tags=flat
@test "end: SIGTERM is 143, at once" {
	ended_by TERM 143 Terminated
}

# bats test_tags=flat
@test "end: SIGHUP is 129, at once" {
	ended_by HUP 129 Hangup
}

# bats test_tags=flat
@test "end: SIGQUIT is 131, at once" {
	ended_by QUIT 131 Quit
}

# bats test_tags=flat
@test "end: mayfly dies of the signal that asked for its end, with a jail too, without a core file" {
	local jail signal
	cd "$BATS_TEST_TMPDIR"
	ulimit -c unlimited
	for jail in '' --jail; do
		for signal in TERM=15 INT=2 HUP=1 QUIT=3; do
			watch_mayfly run -k "$GUESTS/spin.elf" $jail
			wait_said spinning
			watched_ends "signal ${signal#*=}" "${signal%=*}"
			assert_one_line 'ended by a signal'
		done
		watch_mayfly run -k "$GUESTS/spin.elf" $jail --timeout 2s
		watched_ends 'exit 124'
	done
	assert_equal "$(find . -name 'core*')" ''
}

# bats test_tags=flat
@test "end: signals that the caller ignores are ignored, with a jail too" {
	local jail signal
	# shellcheck disable=SC2034 # for start_mayfly
	local DEFAULT_SIGNALS=(env '--ignore-signal=HUP,INT,QUIT,USR1,USR2')
	for jail in '' --jail; do
		start_flat idle $jail
		wait_said idle
		for signal in HUP INT QUIT USR1 USR2; do
			kill "-$signal" "$pid"
		done
		sleep 0.5
		kill -0 "$pid"
		kill -TERM "$pid"
		wait_end
		assert_equal "$status" 143
		DEFAULT_SIGNALS=(env '--default-signal=HUP' '--ignore-signal=TERM')
		start_flat idle $jail
		wait_said idle
		kill -TERM "$pid"
		sleep 0.5
		kill -0 "$pid"
		kill -HUP "$pid"
		wait_end
		assert_equal "$status" 129
		DEFAULT_SIGNALS=(env '--ignore-signal=HUP,INT,QUIT,USR1,USR2')
	done
}

# bats test_tags=flat
@test "end: SIGINT is 130, at once" {
	ended_by INT 130 Interrupt
}

@test "end: SIGTERM while Linux boots, runs on 2 CPUs, and floods the console" {
	start_linux -c 2 -- 'echo go; while :; do :; done & yes'
	sleep 0.3
	kill -TERM "$pid"
	wait_end
	assert_equal "$status" 143
	start_linux -c 2 -- 'echo go; while :; do :; done & yes'
	wait_said '^y'
	kill -TERM "$pid"
	wait_end
	assert_equal "$status" 143
	assert_one_line 'Terminated'
}

# bats test_tags=flat
@test "end: SIGKILL leaves no process and no lock" {
	truncate -s 1M "$BATS_TEST_TMPDIR/disk"
	start_flat spin -d "$BATS_TEST_TMPDIR/disk"
	wait_said spinning
	kill -KILL "$pid"
	wait_end
	assert_equal "$status" 137
	assert_none_left
	run_flat hello -d "$BATS_TEST_TMPDIR/disk"
	assert_equal "$status" 0
}

# bats test_tags=flat
@test "end: SIGSTOP and SIGCONT change nothing" {
	start_flat echo
	wait_said '^echo'
	kill -STOP "$pid"
	wait_for grep -q '^State:.[Tt]' "/proc/$pid/status" # t: below strace
	kill -CONT "$pid"
	tell 'still here'
	wait_said 'still here'
	printf '\4' >&"$to"
	wait_end
	assert_equal "$status" 0
}

# bats test_tags=flat
@test "end: Ctrl-A x on a terminal is 0, and its modes are as before" {
	on_tty 'expect=spinning' raw 'send=\x01x' -- "$MAYFLY" run -k "$GUESTS/spin.elf"
	assert_equal "$status" 0
	assert_line 'terminal: unchanged'
	assert_line --regexp '^mayfly: ended by the user'
}

# bats test_tags=flat
@test "end: the terminal's modes are as before after each other end" {
	local end
	on_tty -- "$MAYFLY" run -k "$GUESTS/hello.elf"
	assert_equal "$status" 0
	assert_line 'terminal: unchanged'
	on_tty -- "$MAYFLY" run -k "$GUESTS/triple.elf"
	assert_equal "$status" 102
	assert_line 'terminal: unchanged'
	for end in TERM=143 HUP=129 SEGV=139 BUS=135 ABRT=134; do
		on_tty 'expect=spinning' raw "kill=${end%=*}" -- "$MAYFLY" run -k "$GUESTS/spin.elf"
		assert_equal "$status" "${end#*=}"
		assert_line 'terminal: unchanged'
	done
}

# bats test_tags=flat
@test "end: what went wrong before the guest ran leaves the terminal alone" {
	on_tty -- "$MAYFLY" run -k "$GUESTS/hello.elf" -d missing
	assert_equal "$status" 125
	assert_line 'terminal: unchanged'
	assert_line --regexp "^mayfly: drive 'drive0'"
}

# bats test_tags=flat
@test "end: a console that began in the background of a terminal takes input in its foreground, and none before" {
	local options
	for options in --io-engine=ring --io-engine=sync --jail; do
		# The shell reads its own line meanwhile. Of the guest's, the first may be one of the terminal's; then it is raw.
		on_tty 'expect=$ ' "send=$MAYFLY run -k $GUESTS/echo.elf $options &\n" 'expect=echo\r' \
			'send=echo mi""ne\n' 'expect=mine' 'send=fg\n' 'expect=echo.elf' 'send=abc\n' 'expect=abc' raw 'send=\x03d' 'expect=\x03d' \
			'send=\x04' 'expect=rebooted' 'send=exit\n' -- env -u PROMPT_COMMAND PS1='$ ' bash --norc --noprofile --noediting -i
		assert_equal "$status" 0
		assert_line 'terminal: unchanged'
		refute_output --partial Stopped
	done
}

# bats test_tags=flat
@test "end: Ctrl-C on a terminal is the guest's" {
	on_tty 'expect=echo' raw 'send=a\x03b' 'expect=a\x03b' 'send=\x04' -- "$MAYFLY" run -k "$GUESTS/echo.elf"
	assert_equal "$status" 0
}

# bats test_tags=flat
@test "end: mayfly that crashes says so and dies of it" {
	start_flat spin
	wait_said spinning
	kill -SEGV "$pid"
	wait_end
	assert_equal "$status" 139
	assert_one_line 'crashed: SIGSEGV'
}

# bats test_tags=flat
@test "end: a guest without a reader continues to its end" {
	status=0
	"$MAYFLY" run -k "$GUESTS/hello.elf" < /dev/null >&- 2> "$BATS_TEST_TMPDIR/err" || status=$?
	assert_equal "$status" 0
	"$MAYFLY" run -k "$GUESTS/hello.elf" < /dev/null > /dev/full 2> "$BATS_TEST_TMPDIR/err" || status=$?
	assert_equal "$status" 125 # it is lost, as for any program
	grep -q 'No space left' "$BATS_TEST_TMPDIR/err"
	status=0
	"$MAYFLY" run -k "$GUESTS/hello.elf" <&- > "$BATS_TEST_TMPDIR/out" 2>&- || status=$?
	assert_equal "$status" 0
	assert_equal "$(< "$BATS_TEST_TMPDIR/out")" hello
}

# bats test_tags=flat
@test "end: a broken pipe loses output and nothing else" {
	local fifo=$BATS_TEST_TMPDIR/fifo
	mkfifo "$fifo"
	"${DEFAULT_SIGNALS[@]}" "$MAYFLY" run -k "$GUESTS/flood.elf" < /dev/null > "$fifo" 2> "$BATS_TEST_TMPDIR/err" 3>&- &
	pid=$!
	started+=("$pid")
	head -c 100 "$fifo" > "$BATS_TEST_TMPDIR/out"
	wait_for grep -q 'Broken pipe' "$BATS_TEST_TMPDIR/err"
	sleep 0.5
	run ! has_ended "$pid"
	kill -TERM "$pid"
	wait_end
	assert_equal "$status" 143
	assert_equal "$(grep -c . "$BATS_TEST_TMPDIR/err")" 2
}

# bats test_tags=flat
@test "end: output that cannot be written is no success; that of a reader who has gone is none of ours" {
	run --separate-stderr timeout "$LIMIT" bash -c '"$@" > /dev/full' - "$MAYFLY" run -k "$GUESTS/hello.elf" < /dev/null
	assert_equal "$status" 125
	assert_regex "$stderr" 'cannot be written'
	# shellcheck disable=SC2016 # for the inner shell
	run --separate-stderr timeout "$LIMIT" bash -c '"$@" | true; echo "${PIPESTATUS[0]}"' - "$MAYFLY" run -k "$GUESTS/hello.elf" < /dev/null
	assert_output 0
}
