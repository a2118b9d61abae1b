# shellcheck shell=bash
# shellcheck disable=SC2034 # variables that the tests use
# What the tests of the binary share: where things are, guests that run and guests that stay, and checks for leftovers.
#
# Paths come from the environment, so that another build or kernel can be tested; by default they are those of `make`.
# A test waits for what it needs with a limit (wait_for), never for a fixed time, because in the lab everything is slow.

bats_require_minimum_version 1.5.0
# The libraries ask for their directory 15 times for each test, which is a second in the lab with the program.
dirname() { printf '%s\n' "${1%/*}"; }
bats_load_library bats-support
bats_load_library bats-assert
unset -f dirname

root=${BATS_TEST_DIRNAME%/tests/boot}
B=${B:-build}
[[ $B == /* ]] || B=$root/$B
MAYFLY=${MAYFLY:-$B/mayfly}
KERNEL=${KERNEL:-$B/vmlinux}
INITRAMFS=${INITRAMFS:-$B/initramfs.cpio}
ROOTFS=${ROOTFS:-$B/rootfs.ext4}
GUESTS=${GUESTS:-$B/tests/guest}
TOOLS=${TOOLS:-$B/tools.ext4} # a drive with fio and iperf3
# A version manager's python3 may be a script that takes seconds in the lab.
PYTHON=/usr/bin/python3
[ -x "$PYTHON" ] || PYTHON=python3
PATH=$PATH:/usr/sbin:/sbin
export MAYFLY_TEST=$BATS_RUN_TMPDIR # in the environment of all that a test starts: leftovers() knows them by it

export MAYFLY_BOOT=cold # what a test counts and sees of a boot; template.bats has the others
LIMIT=90 # seconds for anything that has to happen
[ -z "${LAB:-}" ] || LIMIT=240 # in the lab, on a busy machine
AT_ONCE=1000 # milliseconds for what has to happen at once
[ -z "${LAB:-}" ] || AT_ONCE=5000

# wait_for COMMAND...: until it succeeds, LIMIT seconds at most.
wait_for() {
	local end=$((SECONDS + LIMIT))
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || fail "waited $LIMIT s in vain for: $*"
		sleep 0.1
	done
}

# Takes the carriage returns of terminals out of $output and $lines.
strip_returns() {
	output=${output//$'\r'/}
	mapfile -t lines <<< "$output"
}

# run_mayfly ARG...: to its end, without input. Sets $status, $output (stdout, without carriage returns) and $stderr.
run_mayfly() {
	run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" "$@" < /dev/null
	strip_returns
	# Shown if the test fails. The end of the output tells where a guest hung.
	echo "# mayfly said: $stderr"
	echo "# the guest said last: ${output: -600}"
}

# run_flat NAME [OPTION...]: a guest of tests/guest.
run_flat() {
	run_mayfly run -k "$GUESTS/$1.elf" "${@:2}"
}

# run_linux [OPTION...] -- SHELL WORDS: Linux with the initramfs, which runs the words and reboots. They are one argument
# of the kernel command line in double quotes, so they may have none.
run_linux() {
	local options=()
	while [ "$1" != -- ]; do
		options+=("$1")
		shift
	done
	shift
	run_mayfly run -k "$KERNEL" -i "$INITRAMFS" "${options[@]}" --append "-- \"$*\""
}

# A shell starts what is in the background with SIGINT and SIGQUIT ignored, and mayfly leaves ignored what was.
DEFAULT_SIGNALS=(env '--default-signal=INT,QUIT,HUP,TERM,USR1,USR2')

# start_mayfly ARG...: in the background. Sets $pid. Its files in $BATS_TEST_TMPDIR are out, err and in, a FIFO, held
# open here as $to so that there is no end of input.
start_mayfly() {
	local dir=$BATS_TEST_TMPDIR
	[ -p "$dir/in" ] || mkfifo "$dir/in"
	: > "$dir/out" # or wait_said may see what the one before has said
	exec {to}<> "$dir/in"
	"${DEFAULT_SIGNALS[@]}" "$MAYFLY" "$@" < "$dir/in" > "$dir/out" 2> "$dir/err" {to}>&- 3>&- &
	pid=$!
	started+=("$pid")
}

# watch_mayfly ARG...: the same, below tests/boot/how-it-ends, which tells a death by a signal from the status of one.
watch_mayfly() {
	local how=$BATS_TEST_TMPDIR/how monitor=$MAYFLY
	rm -f "$how"
	MAYFLY=$PYTHON start_mayfly -I -S "${BASH_SOURCE[0]%/*}/how-it-ends" "$how" "$monitor" "$@"
	watcher=$pid
	wait_for test -s "$how"
	read -r pid < "$how"
	started+=("$pid")
}

# watched_ends HOW [SIGNAL...]: what watch_mayfly has started gets the signals, and ends as "exit N" or "signal N".
watched_ends() {
	local how=$1 signal
	shift
	for signal; do
		kill "-$signal" "$pid"
	done
	wait_for has_ended "$watcher"
	wait "$watcher" # its own status is 0
	assert_equal "$(tail -n +2 "$BATS_TEST_TMPDIR/how")" "$how"
	stderr=$(< "$BATS_TEST_TMPDIR/err")
}

# As user 1234 without groups but those of --groups, who may open /dev/kvm in a mount namespace: it has mode $KVM_MODE (666)
# and group $KVM_GROUP (0).
# shellcheck disable=SC2016 # for the inner shell
with_kvm=(unshare -m bash -c 'node=$(mktemp -u /dev/shm/kvm.XXXXXX); mknod -m "${KVM_MODE:-666}" "$node" c 10 232
	chgrp "${KVM_GROUP:-0}" "$node"; mount --bind "$node" /dev/kvm; rm "$node"; exec "$@"' bash
	setpriv --reuid 1234 --regid 1234)
as_nobody=("${with_kvm[@]}" --clear-groups)

start_flat() {
	start_mayfly run -k "$GUESTS/$1.elf" "${@:2}"
}

# start_linux [OPTION...] -- SHELL WORDS
start_linux() {
	local options=()
	while [ "$1" != -- ]; do
		options+=("$1")
		shift
	done
	shift
	start_mayfly run -k "$KERNEL" -i "$INITRAMFS" "${options[@]}" --append "-- \"$*\""
}

# tell LINE: to the guest that start_* has started.
tell() {
	printf '%s\n' "$1" >&"$to"
}

said() {
	[ -e "$BATS_TEST_TMPDIR/out" ] && grep -qe "$1" "$BATS_TEST_TMPDIR/out"
}

# wait_said REGEX: until the guest that start_* has started says a line like it. One that has ended will not.
wait_said() {
	local end=$((SECONDS + LIMIT))
	until said "$1"; do
		if ! kill -0 "$pid" 2> /dev/null && ! said "$1"; then
			fail "the guest ended without saying '$1': $(tail -c 300 "$BATS_TEST_TMPDIR/out" "$BATS_TEST_TMPDIR/err")"
		fi
		[ "$SECONDS" -lt "$end" ] || fail "the guest did not say '$1': $(tail -c 300 "$BATS_TEST_TMPDIR/out")"
		sleep 0.1
	done
}

# has_ended PID: it is gone, or a zombie, which is waited for later.
has_ended() {
	local stat
	{ read -r stat < "/proc/$1/stat"; } 2> /dev/null || return 0
	[[ $stat == *") Z "* ]]
}

# wait_end: until the monitor that start_* has started ends. Sets $status, and $stderr to what it said.
wait_end() {
	wait_for has_ended "$pid"
	status=0
	wait "$pid" || status=$?
	stderr=$(< "$BATS_TEST_TMPDIR/err")
}

# need_passt: skips without a real passt, and without root, who can give passt a route.
need_passt() {
	[ "$(id -u)" = 0 ] || skip "needs root"
	command -v passt > /dev/null || skip "passt is not installed"
}

# have_route: in the lab, which has no default route by itself, one that leads nowhere; passt wants to see one.
have_route() {
	[ -n "${LAB:-}" ] || return 0
	run ip route show default
	[ -z "$output" ] || return 0
	ip link add mf-out type dummy
	ip address add 10.9.0.2/24 dev mf-out
	ip link set mf-out up
	ip route add default via 10.9.0.1
}

# have_route6: have_route, and the same for IPv6.
have_route6() {
	have_route
	if [ -n "${LAB:-}" ] && [ -z "$(ip -6 route show default)" ]; then
		ip -6 address add fd00:9::2/64 dev mf-out nodad
		ip -6 route add default via fd00:9::1 dev mf-out
	fi
}

# now_ms: sets $ms.
now_ms() {
	ms=$((${EPOCHREALTIME/[.,]/} / 1000))
}

# assert_one_line REGEX: stderr is one line, of mayfly's form, with the regular expression in it.
assert_one_line() {
	[[ $stderr != *$'\n'* ]] || fail "more than one line: $stderr"
	[[ $stderr == "mayfly: "* ]] || fail "not a line of mayfly's: $stderr"
	assert_regex "$stderr" "$1"
}

# is_jailed_leftover PID: a process in a jail has no environment by which we would know it, but its command line.
is_jailed_leftover() {
	local args
	[ -z "$({ tr -d '\0' < "/proc/$1/environ" || echo unreadable; } 2> /dev/null)" ] || return 1
	{ IFS= read -rd '' args < "/proc/$1/cmdline"; } 2> /dev/null && [ "$args" = "$MAYFLY" ]
}

# leftovers: the process ids of monitors and their reapers that the tests have started and that still run.
leftovers() {
	local file id
	for file in $(grep -ls '^mayfly' /proc/[0-9]*/comm); do
		id=${file//[!0-9]/}
		grep -qsz "^MAYFLY_TEST=$MAYFLY_TEST" "/proc/$id/environ" || is_jailed_leftover "$id" || continue
		has_ended "$id" || echo "$id"
	done
}

# assert_none_left: every process of the tests is gone, the reapers within a second.
assert_none_left() {
	local ids='' i
	for i in {1..10}; do
		ids=$(leftovers)
		[ -n "$ids" ] || return 0
		sleep 0.1
	done
	# shellcheck disable=SC2086 # a list of numbers
	fail "still running a second later, try $i: $(ps -o pid,stat,comm,args -p ${ids//$'\n'/,})"
}

# kill_started: ends what is in $started, whatever it is.
kill_started() {
	local id
	for id in "${started[@]}"; do
		kill -KILL "$id" 2> /dev/null || true
		wait_for has_ended "$id"
	done
}

# Ends what a failed test has left running; a test that passed must have left nothing.
setup() {
	setup_started
}

setup_started() {
	umask 022 # some files are made for other users
	started=()
}

# For tests of snapshots: the names that they share.
snapshot_names() {
	setup_started
	dir=$BATS_TEST_TMPDIR
	ctl=$dir/control.sock
	snap=$dir/snap
}

# start_pool SIZE [OPTION...]: of $snap, at $sock. Sets $pool. All wait when it returns, as the file's `waiting SIZE` has it.
start_pool() {
	"${DEFAULT_SIGNALS[@]}" "$MAYFLY" pool "$snap" --size "$1" --socket "$sock" "${@:2}" \
		< /dev/null > "$dir/pool.out" 2> "$dir/pool.err" 3>&- &
	pool=$!
	started+=("$pool")
	wait_for waiting "$1"
}

teardown() {
	end_test
}

end_test() {
	local id
	if [ -z "${BATS_TEST_COMPLETED:-}" ]; then
		for id in "${started[@]}" $(leftovers); do
			kill -KILL "$id" 2> /dev/null || true
		done
		[ ! -s "$BATS_TEST_TMPDIR/err" ] || sed 's/^/stderr: /' "$BATS_TEST_TMPDIR/err"
		return 0
	fi
	assert_none_left
}

# on_tty STEP... -- COMMAND...: see tests/boot/on-tty. Sets $status and $output.
on_tty() {
	run "$PYTHON" -I -S "$BATS_TEST_DIRNAME/on-tty" --limit "$LIMIT" "$@" < /dev/null
	strip_returns
	echo "# on the terminal: $output" # shown if the test fails
}
