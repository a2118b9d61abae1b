#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2153,SC2154 # tests are subshells, variables are of helper.bash, inner
# shells expand what is in single quotes
#
# Resources: a guest that floods its devices, and a host that has too little of anything. Use is bounded, a
# shortage is reported in one line, and nothing else is harmed. Flat guests only: any KVM will do that runs them.

# bats file_tags=flat
load helper

FLOOD_S=3       # for how long a guest floods
GROWTH_KIB=1024 # by which the monitor may grow meanwhile: request slots are touched when first used
LOG_BYTES=16384

# flood KIND [OPTION...]: starts the hostile guest with a script of tests/hostile/flood. The image is $BATS_TEST_TMPDIR/disk.
flood() {
	local dir=$BATS_TEST_TMPDIR
	[ -e "$dir/disk" ] || truncate -s 32M "$dir/disk"
	"$PYTHON" -I -S "$BATS_TEST_DIRNAME/../hostile/flood" "$1" > "$dir/script"
	start_mayfly run -k "$GUESTS/hostile.elf" -m 64M -i "$dir/script" "${@:2}"
	wait_said '^go'
}

# trips N [OPTION...]: a guest that makes N reads, one after the other. Sets $took, in milliseconds.
trips() {
	local dir=$BATS_TEST_TMPDIR began
	[ -e "$dir/trips" ] || truncate -s 4M "$dir/trips"
	"$PYTHON" -I -S "$BATS_TEST_DIRNAME/../hostile/flood" trips --rounds "$1" > "$dir/trips.script"
	now_ms
	began=$ms
	run_mayfly run -k "$GUESTS/hostile.elf" -m 64M -i "$dir/trips.script" -d "$dir/trips" "${@:2}"
	now_ms
	took=$((ms - began))
	assert_equal "$status" 0
	assert_line 'done'
}

# Of the monitor: sets $rss, $ticks (of CPU time) and $fds.
measure() {
	local stat
	rss=$(sed -n 's/^VmRSS:[[:space:]]*\([0-9]*\) kB/\1/p' "/proc/$pid/status")
	fds=$(find "/proc/$pid/fd" -mindepth 1 | wc -l)
	read -r stat < "/proc/$pid/stat"
	read -ra stat <<< "${stat##*) }"
	ticks=$((stat[11] + stat[12]))
}

# thread_ticks NAME: sets $ticks to those of the monitor's thread of this name.
thread_ticks() {
	local stat
	stat=$(cat "/proc/$pid"/task/*/stat | grep -F "($1) ")
	read -ra stat <<< "${stat##*) }"
	ticks=$((stat[11] + stat[12]))
}

# stays_small: while the guest floods, the monitor neither grows nor logs nor opens, and it ends at once when told to.
stays_small() {
	local before_rss before_fds
	sleep 1
	measure
	before_rss=$rss before_fds=$fds
	sleep "$FLOOD_S"
	measure
	echo "# RSS $before_rss -> $rss KiB, descriptors $before_fds -> $fds, $ticks ticks, log $(stat -c %s "$BATS_TEST_TMPDIR/err")"
	[ "$ticks" -gt 50 ] || fail "the guest does not flood"
	[ $((rss - before_rss)) -lt "$GROWTH_KIB" ] || fail "it grew by $((rss - before_rss)) KiB"
	assert_equal "$fds" "$before_fds"
	[ "$(stat -c %s "$BATS_TEST_TMPDIR/err")" -lt "$LOG_BYTES" ] || fail "it logs too much"
	end_at_once
}

end_at_once() {
	local began
	now_ms
	began=$ms
	kill -TERM "$pid"
	wait_end
	now_ms
	assert_equal "$status" 143
	[ $((ms - began)) -lt $((AT_ONCE + 1000)) ] || fail "it took $((ms - began)) ms to end"
}

# own_cgroup CONTROLLER: sets $cgroup to a new group that has it, version 1 or 2; teardown removes it.
own_cgroup() {
	local top
	for top in "/sys/fs/cgroup/$1" /sys/fs/cgroup; do
		[ -w "$top/cgroup.procs" ] || continue
		[ "$top" != /sys/fs/cgroup ] || echo "+$1" > "$top/cgroup.subtree_control" || continue
		cgroup=$top/mayfly-test-$$-$RANDOM
		mkdir "$cgroup" || continue
		return
	done 2> /dev/null
	skip "no cgroup with the controller $1 that may be used here"
}

# in_cgroup COMMAND...: without this shell.
in_cgroup() {
	run --separate-stderr timeout -k 5 60 bash -c 'echo $$ > "$1/cgroup.procs" && shift && exec "$@"' - "$cgroup" "$@" < /dev/null
}

cgroup_is_empty() {
	[ ! -s "$cgroup/cgroup.procs" ] && { [ ! -e "$cgroup/pids.current" ] || [ "$(< "$cgroup/pids.current")" = 0 ]; }
}

teardown() {
	end_test
	[ -n "${cgroup:-}" ] || return 0
	wait_for cgroup_is_empty
	rmdir "$cgroup"
}

# on_small SIZE COMMAND...: with a file system of that size at $small, in a mount namespace of the command's.
on_small() {
	[ "$(id -u)" = 0 ] || skip "only root can mount a small file system"
	small=$BATS_TEST_TMPDIR/small
	mkdir -p "$small"
	run --separate-stderr unshare -m bash -c 'mount -t tmpfs -o "size=$1" tmpfs "$2" && shift 2 && exec timeout -k 5 60 "$@"' \
		- "$1" "$small" "${@:2}" < /dev/null
}

@test "abuse: of a running VM nothing is writable and executable; guest RAM and kvm_run stand between guards" {
	truncate -s 1M "$BATS_TEST_TMPDIR/disk"
	start_flat spin -m 64M -c 2 -d "$BATS_TEST_TMPDIR/disk" --vsock "$BATS_TEST_TMPDIR/vsock"
	wait_said spinning
	run "$PYTHON" -I -S - "/proc/$pid/maps" <<- 'END'
		import sys
		maps = []
		with open(sys.argv[1], encoding="utf-8") as file:
		    for line in file:
		        words = line.split(maxsplit=5)
		        start, end = (int(x, 16) for x in words[0].split("-"))
		        maps.append((start, end, words[1], words[5].strip() if len(words) > 5 else ""))
		bad = [m for m in maps if "w" in m[2] and "x" in m[2]]
		bad += [m for m in maps if "x" in m[2] and not m[3].endswith("/mayfly") and m[3] not in ("[vdso]", "[vsyscall]")]
		# RAM is in pieces, of small and of large pages, or where the kernel's file is mapped: those between two guards.
		pieces = []
		for m in maps:
		    if pieces and pieces[-1][1] == m[0] and pieces[-1][2] == m[2] == "rw-p":
		        m = (pieces.pop()[0], m[1], m[2], "")
		    pieces.append(m)
		guarded = [b for a, b, c in zip(pieces, pieces[1:], pieces[2:])
		           if a[1] == b[0] and b[1] == c[0] and a[2] == c[2] == "---p"]
		if sum(m[1] - m[0] == 64 << 20 and m[2] == "rw-p" for m in guarded) != 1:
		    bad.append("no guest RAM between guards")
		if sum("kvm-vcpu" in m[3] for m in guarded) != 2:
		    bad.append("no kvm_run between guards")
		sys.exit("\n".join(map(repr, bad + maps)) if bad else 0)
	END
	assert_equal "$output" ''
	assert_equal "$status" 0
	kill -TERM "$pid"
	wait_end
}

@test "abuse: a guest that floods the console, which somebody reads" {
	start_flat flood
	wait_said 0123
	exec {to}>&-
	stays_small
}

@test "abuse: a guest that floods the console, which nobody reads" {
	mkfifo "$BATS_TEST_TMPDIR/stalled"
	exec {stalled}<> "$BATS_TEST_TMPDIR/stalled"
	"${DEFAULT_SIGNALS[@]}" "$MAYFLY" run -k "$GUESTS/flood.elf" < /dev/null > "$BATS_TEST_TMPDIR/stalled" 2> "$BATS_TEST_TMPDIR/err" 3>&- {stalled}>&- &
	pid=$!
	started+=("$pid")
	stays_small
	grep -q 'too slow' "$BATS_TEST_TMPDIR/err"
}

@test "abuse: a guest that floods a drive, an overlay, and one with a limit" {
	local options
	for options in '' :overlay=1M :bandwidth=1M/1000; do
		flood disk -d "$BATS_TEST_TMPDIR/disk$options"
		if [ "$options" = :bandwidth=1M/1000 ]; then
			sleep 1
			thread_ticks io
			local before=$ticks
			sleep 2
			thread_ticks io
			[ $((ticks - before)) -lt 40 ] || fail "waiting for a limit takes $((ticks - before)) ticks in 2 s"
			end_at_once
		else
			stays_small
		fi
	done
}

@test "abuse: a guest that resets a drive under load, over and over" {
	flood resets -d "$BATS_TEST_TMPDIR/disk"
	stays_small
}

@test "abuse: a guest that floods the network: to a tap, and to a peer that does not read" {
	if [ "$(id -u)" = 0 ] && [ -w /dev/net/tun ] && unshare -n true; then
		local mayfly=$MAYFLY
		# Not exec: $pid is to be the monitor's.
		printf '#!/bin/sh\nexec unshare -n "%s" "$@"\n' "$mayfly" > "$BATS_TEST_TMPDIR/in-net"
		chmod +x "$BATS_TEST_TMPDIR/in-net"
		MAYFLY=$BATS_TEST_TMPDIR/in-net
		flood net -n tap=flood0
		MAYFLY=$mayfly
		stays_small
	fi
	# Both ends of the pair are the monitor's, which knows of one.
	local mayfly=$MAYFLY
	printf '#!%s -IS\nimport os, socket, sys\na, b = socket.socketpair()\nos.dup2(a.fileno(), 98)\nos.dup2(b.fileno(), 99)\nos.execv("%s", ["mayfly"] + sys.argv[1:])\n' \
		"$(command -v "$PYTHON")" "$mayfly" > "$BATS_TEST_TMPDIR/with-pair"
	chmod +x "$BATS_TEST_TMPDIR/with-pair"
	MAYFLY=$BATS_TEST_TMPDIR/with-pair
	flood net -n fd=98
	MAYFLY=$mayfly
	measure
	local before=$rss before_ticks
	sleep 1
	thread_ticks io
	before_ticks=$ticks
	sleep 2
	thread_ticks io
	[ $((ticks - before_ticks)) -lt 40 ] || fail "a peer that does not read costs $((ticks - before_ticks)) ticks in 2 s"
	measure
	[ $((rss - before)) -lt "$GROWTH_KIB" ] || fail "it grew by $((rss - before)) KiB"
	end_at_once
}

@test "abuse: a guest that floods vsock with connections, refused or accepted and dropped" {
	flood vsock --vsock "$BATS_TEST_TMPDIR/vsock"
	stays_small
}

@test "abuse: guest memory that the host lacks: one line with its size" {
	local limit
	for limit in --as=512M --data=512M; do
		run_limited "${limit/512M/536870912}" run -k "$GUESTS/hello.elf" -m 1G
		assert_equal "$status" 125
		assert_one_line 'map 1024 MiB of guest memory: Cannot allocate memory'
		run_limited "${limit/512M/536870912}" run -k "$GUESTS/hello.elf" -m 64M
		assert_equal "$status" 0
	done
}

# run_limited LIMIT ARG...: mayfly under a limit of prlimit(1).
run_limited() {
	run --separate-stderr timeout -k 5 "$LIMIT" prlimit "$1" "$MAYFLY" "${@:2}" < /dev/null
}

# either_way WHAT: it has worked, or it has said why not in one line.
either_way() {
	case $status in
	0)
		assert_equal "$output" hello
		worked=$((worked + 1))
		;;
	103 | 125)
		assert_one_line "${2:-.}"
		failed=$((failed + 1))
		;;
	*) fail "status $status with $1: $output $stderr" ;;
	esac
}

@test "abuse: any number of descriptors, any size of the address space: it works, or one line says what is missing" {
	local i worked=0 failed=0
	truncate -s 1M "$BATS_TEST_TMPDIR/disk"
	for i in {3..40}; do
		run_limited "--nofile=$i:$i" run -k "$GUESTS/hello.elf" -d "$BATS_TEST_TMPDIR/disk" --vsock "$BATS_TEST_TMPDIR/v" -c 2
		either_way "$i descriptors" 'Too many open files|rebooted'
	done
	# In less than the program's own mappings, 4.4 MiB, the kernel does not start it.
	for i in {6..262..8}; do
		run_limited "--as=$((i << 20))" run -k "$GUESTS/hello.elf" -m 64M -d "$BATS_TEST_TMPDIR/disk" --vsock "$BATS_TEST_TMPDIR/v"
		either_way "$i MiB of addresses" 'memory|unavailable'
	done
	echo "# $worked worked, $failed failed"
	[ "$worked" -gt 5 ]
	[ "$failed" -gt 10 ]
	for i in 0 1; do
		run_limited "--memlock=$i:$i" run -k "$GUESTS/hello.elf" -d "$BATS_TEST_TMPDIR/disk"
		assert_equal "$status" 0
	done
}

@test "abuse: any number of threads that may be started" {
	local i worked=0 failed=0
	own_cgroup pids
	for i in {1..6}; do
		echo "$i" > "$cgroup/pids.max"
		in_cgroup "$MAYFLY" run -k "$GUESTS/hello.elf" -c 2
		either_way "$i threads" 'temporarily unavailable'
		wait_for cgroup_is_empty # the kernel counts what has just ended
	done
	[ "$worked" -gt 1 ]
	[ "$failed" -gt 1 ]
}

@test "abuse: where io_uring may start no thread of its own the guest sees I/O errors, and its output still comes" {
	own_cgroup pids
	truncate -s 32M "$BATS_TEST_TMPDIR/disk"
	"$PYTHON" -I -S "$BATS_TEST_DIRNAME/../hostile/flood" disk --rounds 5 > "$BATS_TEST_TMPDIR/script"
	# The monitor, its I/O thread, the vCPU, and one that KVM has for itself on some hosts.
	echo 4 > "$cgroup/pids.max"
	in_cgroup "$MAYFLY" run -k "$GUESTS/hostile.elf" -m 64M -i "$BATS_TEST_TMPDIR/script" -d "$BATS_TEST_TMPDIR/disk"
	echo "# it said: $stderr"
	assert_equal "$status" 0
	assert_line 'done'
	[ "$(grep -c . <<< "$stderr")" -le 3 ] || fail "too many words"
	[[ $stderr != *warn* ]] || assert_regex "$stderr" "io_uring.*thread.*; continuing"
}

@test "abuse: a cgroup's memory runs out: the monitor is killed, alone, and its drive is free" {
	own_cgroup memory
	local limit=$cgroup/memory.max
	[ -e "$limit" ] || limit=$cgroup/memory.limit_in_bytes
	echo 96M > "$limit"
	[ ! -e "$cgroup/memory.swap.max" ] || echo 0 > "$cgroup/memory.swap.max"
	start_flat echo
	wait_said '^echo'
	truncate -s 1M "$BATS_TEST_TMPDIR/disk"
	"$PYTHON" -I -S "$BATS_TEST_DIRNAME/../hostile/flood" memory > "$BATS_TEST_TMPDIR/script"
	in_cgroup "$MAYFLY" run -k "$GUESTS/hostile.elf" -m 1G -i "$BATS_TEST_TMPDIR/script" -d "$BATS_TEST_TMPDIR/disk"
	assert_equal "$status" 137
	run_flat hello -d "$BATS_TEST_TMPDIR/disk"
	assert_equal "$status" 0
	tell 'still here'
	wait_said 'still here'
	printf '\4' >&"$to"
	wait_end
	assert_equal "$status" 0
}

@test "abuse: a cgroup's memory runs out while a fork writes to what it shares: it is killed, and its source goes on" {
	own_cgroup memory
	local limit=$cgroup/memory.max ctl=$BATS_TEST_TMPDIR/ctl
	[ -e "$limit" ] || limit=$cgroup/memory.limit_in_bytes
	echo 24M > "$limit"
	[ ! -e "$cgroup/memory.swap.max" ] || echo 0 > "$cgroup/memory.swap.max"
	start_flat pages -m 64M --forkable --control "$ctl" # 32 MiB, of which a fork writes a copy
	wait_said '^still whole'
	TMPDIR=$BATS_TEST_TMPDIR in_cgroup "$MAYFLY" clone "$ctl" -n 1
	assert_equal "$status" 137
	: > "$BATS_TEST_TMPDIR/out"
	wait_said '^still whole'
	kill -KILL "$pid"
	wait_end
}

# start_limited LIMIT ARG...: start_mayfly under a limit of prlimit(1).
start_limited() {
	local mayfly=$MAYFLY
	printf '#!/bin/sh\nexec prlimit %s "%s" "$@"\n' "$1" "$mayfly" > "$BATS_TEST_TMPDIR/limited"
	chmod +x "$BATS_TEST_TMPDIR/limited"
	MAYFLY=$BATS_TEST_TMPDIR/limited
	start_mayfly "${@:2}"
	MAYFLY=$mayfly
}

# crowd TYPE PATH NUMBER THREAD WORD: so many clients connect, and stay; the monitor's thread that would accept them must not
# use its CPU for it. When they have gone, one that says WORD (of printf) must hear something, or the end.
crowd() {
	local before line clients
	coproc "$PYTHON" -I -S -c '
import socket, sys
kind, path, number, word = getattr(socket, sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
def connect(seconds):
    s = socket.socket(socket.AF_UNIX, kind)
    s.settimeout(seconds)
    s.connect(path)
    return s
many = [connect(5) for _ in range(number)]
print("connected", flush=True)
sys.stdin.readline()
for s in many:
    s.close()
s = connect(20)
s.send(word.encode().decode("unicode_escape").encode("latin-1"))
print("heard", s.recv(4096), flush=True)
' "$1" "$2" "$3" "$5" 2>&1 3>&-
	clients=$COPROC_PID
	started+=("$clients")
	read -r -t 20 line <&"${COPROC[0]}"
	assert_equal "$line" connected
	sleep 0.5
	thread_ticks "$4"
	before=$ticks
	sleep 2
	thread_ticks "$4"
	[ $((ticks - before)) -lt 20 ] || fail "the thread $4 has used $((ticks - before)) ticks in 2 s"
	echo >&"${COPROC[1]}"
	read -r -t 30 line <&"${COPROC[0]}"
	assert_regex "$line" "^heard b"
	wait "$clients"
}

@test "abuse: more clients of the control socket than descriptors: they wait, and nothing spins" {
	start_limited --nofile=48:48 run -k "$GUESTS/idle.elf" -i "$GUESTS/hello.elf" --console \
		--control "$BATS_TEST_TMPDIR/control" -- true
	wait_for grep -q idle "$BATS_TEST_TMPDIR/err"
	# A message of type INIT_MSG_RUN without a payload; see loader/init/proto.h.
	crowd SOCK_SEQPACKET "$BATS_TEST_TMPDIR/control" 60 mayfly "$(printf '\\x10'; printf '\\0%.0s' {1..19})"
	assert_equal "$(grep -c 'has to wait: Too many open files' "$BATS_TEST_TMPDIR/err")" 1
	kill -TERM "$pid"
	wait_end
}

@test "abuse: more clients of vsock than descriptors: they wait, and nothing spins" {
	"$PYTHON" -I -S "$BATS_TEST_DIRNAME/../hostile/flood" listen > "$BATS_TEST_TMPDIR/script"
	start_mayfly run -k "$GUESTS/hostile.elf" -m 64M -i "$BATS_TEST_TMPDIR/script" --vsock "$BATS_TEST_TMPDIR/vsock"
	wait_said '^go'
	# As many connections as a small limit at the start would allow are never too many; so it comes later.
	prlimit --pid "$pid" --nofile=40:40
	crowd SOCK_STREAM "$BATS_TEST_TMPDIR/vsock" 60 vsock 'CONNECT 1\n'
	kill -TERM "$pid"
	wait_end
}

@test "abuse: a guest's connections never take the last descriptors; too few for the VM is an error that names the number" {
	local options=(-c 32 --vsock "$BATS_TEST_TMPDIR/vsock") name
	for name in a b c d e; do
		truncate -s 1M "$BATS_TEST_TMPDIR/$name"
		options+=(-d "$BATS_TEST_TMPDIR/$name:overlay")
	done
	run_flat hello --jail=nofile=64 "${options[@]}"
	assert_equal "$status" 125
	assert_one_line '[0-9]+ descriptors.* 64 .*Too many open files'
	needed=$(grep -oE '[0-9]+ descriptors' <<< "$stderr")
	needed=${needed% *}
	run_flat hello "--jail=nofile=$((needed - 1))" "${options[@]}"
	assert_equal "$status" 125
	# With exactly so many it starts. Other programs of the host have connected as often as they could.
	"$PYTHON" -I -S "$BATS_TEST_DIRNAME/../hostile/flood" listen > "$BATS_TEST_TMPDIR/script"
	start_limited "--nofile=$needed:$needed" run -k "$GUESTS/hostile.elf" -m 64M -i "$BATS_TEST_TMPDIR/script" \
		--vsock "$BATS_TEST_TMPDIR/vsock" -c 32
	wait_said '^go'
	"$PYTHON" -I -S -c 'import os, socket, sys
closed = 0
clients = [socket.socket(socket.AF_UNIX) for _ in range(int(sys.argv[2]))]
for c in clients:
    c.connect(sys.argv[1])
for c in clients[-8:]:
    try:
        closed += c.recv(1) == b""
    except ConnectionResetError:
        closed += 1
fds = os.listdir(f"/proc/{sys.argv[3]}/fd")
print("closed", closed, "open", len(fds))
sys.exit(closed != 8 or len(fds) >= int(sys.argv[2]))' "$BATS_TEST_TMPDIR/vsock" "$needed" "$pid" 3>&-
	kill -TERM "$pid"
	wait_end
}

# full_pipe: makes a FIFO that is full and that nobody reads; sets $full, a descriptor that holds it open.
full_pipe() {
	mkfifo "$BATS_TEST_TMPDIR/full"
	exec {full}<> "$BATS_TEST_TMPDIR/full"
	dd if=/dev/zero of="$BATS_TEST_TMPDIR/full" bs=4096 oflag=nonblock 2> /dev/null || true # until it is full
}

@test "abuse: a log that nobody reads holds up no device, and lost lines are counted" {
	local dir=$BATS_TEST_TMPDIR
	full_pipe
	truncate -s 16M "$dir/disk"
	# Each write is over the limit, which is worth a line in the log.
	"$PYTHON" -I -S "$BATS_TEST_DIRNAME/../hostile/flood" disk --rounds 3 > "$dir/script"
	prlimit --fsize=0 "$MAYFLY" run --log-level debug -k "$GUESTS/hostile.elf" -m 64M -i "$dir/script" -d "$dir/disk" \
		< /dev/null 2> "$dir/full" 3>&- {full}>&- | cat > "$dir/out" &
	started+=($!)
	pid=$!
	wait_said '^done'
	# The last line, why it has ended, is waited for; lines lost until then are reported when the log can be written again.
	timeout 20 dd if="$dir/full" of=/dev/null bs=4096 count=16 iflag=fullblock 2> /dev/null || true
	timeout 5 cat "$dir/full" > "$dir/rest" || true
	grep -qa 'rebooted' "$dir/rest"
	grep -qaE 'warn .*[0-9]+ lines lost' "$dir/rest" || fail "not told: $(< "$dir/rest")"
	exec {full}>&-
}

@test "abuse: no space for the log, the timeline, an overlay and a drive: the guest continues, and it is said" {
	local script=$BATS_TEST_TMPDIR/script
	truncate -s 32M "$BATS_TEST_TMPDIR/disk"
	"$PYTHON" -I -S "$BATS_TEST_DIRNAME/../hostile/flood" fill --rounds 2 > "$script"
	on_small 4k bash -c 'head -c 4096 /dev/zero > "$1/used"; shift; exec "$@"' - "$BATS_TEST_TMPDIR/small" \
		"$MAYFLY" run --log "$BATS_TEST_TMPDIR/small/log" --log-level debug --timeline "$BATS_TEST_TMPDIR/small/timeline" \
		-k "$GUESTS/hello.elf"
	assert_equal "$status" 125
	assert_line hello
	assert_one_line 'rebooted' # that the timeline is lost would be in the log
	on_small 4k bash -c 'head -c 4096 /dev/zero > "$1/used"; shift; exec "$@"' - "$BATS_TEST_TMPDIR/small" \
		"$MAYFLY" run --timeline "$BATS_TEST_TMPDIR/small/timeline" -k "$GUESTS/hello.elf"
	assert_equal "$status" 125
	assert_regex "$stderr" "error .*timeline '.*': No space left on device"
	on_small 1M "$MAYFLY" run -k "$GUESTS/hostile.elf" -m 64M -i "$script" \
		-d "$BATS_TEST_TMPDIR/disk:overlay:overlay-dir=$BATS_TEST_TMPDIR/small"
	assert_equal "$status" 0
	assert_line 'done'
	assert_regex "$stderr" "warn .*drive 'drive0': write at byte [0-9]+: No space left on device; continuing"
	[ "$(grep -c . <<< "$stderr")" -eq 2 ]
	on_small 1M bash -c 'truncate -s 32M "$1/disk"; exec "${@:2}" -d "$1/disk"' - "$BATS_TEST_TMPDIR/small" \
		"$MAYFLY" run -k "$GUESTS/hostile.elf" -m 64M -i "$script"
	assert_equal "$status" 0
	assert_line 'done'
	assert_regex "$stderr" "warn .*drive 'drive0': write at byte [0-9]+: No space left on device; continuing"
	[ "$(grep -c . <<< "$stderr")" -eq 2 ]
}

@test "abuse: files that may not grow (RLIMIT_FSIZE): drive, overlay, log and timeline" {
	local dir=$BATS_TEST_TMPDIR
	truncate -s 32M "$dir/disk"
	"$PYTHON" -I -S "$BATS_TEST_DIRNAME/../hostile/flood" fill --rounds 2 > "$dir/script"
	run_limited --fsize=1048576 run -k "$GUESTS/hostile.elf" -m 64M -i "$dir/script" -d "$dir/disk"
	assert_equal "$status" 0
	assert_line 'done'
	assert_regex "$stderr" "warn .*drive 'drive0': write at byte [0-9]+: File too large; continuing"
	[ "$(grep -c . <<< "$stderr")" -eq 2 ]
	run_limited --fsize=1048576 run -k "$GUESTS/hello.elf" -d "$dir/disk:overlay:overlay-dir=$dir"
	assert_equal "$status" 125
	assert_one_line "drive 'drive0': .*overlay.*: File too large"
	printf '%0512d\n' 1 > "$dir/log"
	run_limited --fsize=512 run -k "$GUESTS/hello.elf" --log "$dir/log" --log-level debug --timeline "$dir/timeline"
	assert_equal "$status" 125
	assert_line hello
	[ "$(stat -c %s "$dir/log")" -eq 513 ]
	[ "$(stat -c %s "$dir/timeline")" -le 512 ]
}

@test "abuse: a reader of the console that goes away ends nothing (SIGPIPE), whatever the caller does with the signal" {
	local way
	for way in DFL IGN; do
		mkfifo "$BATS_TEST_TMPDIR/pipe$way"
		"$PYTHON" -I -S -c 'import os, signal, sys
signal.signal(signal.SIGPIPE, getattr(signal, "SIG_" + sys.argv[1]))
os.execv(sys.argv[2], sys.argv[2:])' "$way" "$MAYFLY" run -k "$GUESTS/flood.elf" < /dev/null > "$BATS_TEST_TMPDIR/pipe$way" \
			2> "$BATS_TEST_TMPDIR/err" 3>&- &
		pid=$!
		started+=("$pid")
		head -c 100 "$BATS_TEST_TMPDIR/pipe$way" > /dev/null
		wait_for grep -q 'Broken pipe' "$BATS_TEST_TMPDIR/err"
		end_at_once
	done
	# stderr without a reader: a line is lost, the guest is not.
	truncate -s 1M "$BATS_TEST_TMPDIR/disk"
	"$PYTHON" -I -S "$BATS_TEST_DIRNAME/../hostile/flood" fill --rounds 2 > "$BATS_TEST_TMPDIR/script"
	status=0
	"$PYTHON" -I -S -c 'import os, signal, sys
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
r, w = os.pipe()
os.dup2(w, 2)
os.close(r)
os.close(w)
os.execv(sys.argv[1], sys.argv[1:])' "$MAYFLY" run --log-level debug -k "$GUESTS/hostile.elf" -m 64M -i "$BATS_TEST_TMPDIR/script" \
		-d "$BATS_TEST_TMPDIR/disk" < /dev/null > "$BATS_TEST_TMPDIR/out" || status=$?
	assert_equal "$status" 0
	said '^done'
}

@test "abuse: stopped for 3 seconds under load, it continues where it was" {
	local dir=$BATS_TEST_TMPDIR
	truncate -s 32M "$dir/disk"
	"$PYTHON" -I -S "$BATS_TEST_DIRNAME/../hostile/flood" disk --rounds 400 > "$dir/script"
	start_mayfly run -k "$GUESTS/hostile.elf" -m 64M -i "$dir/script" -d "$dir/disk" --vsock "$dir/vsock"
	wait_said '^go'
	kill -STOP "$pid"
	sleep 3
	run ! said '^done'
	kill -CONT "$pid"
	wait_end
	assert_equal "$status" 0
	said '^done'
	assert_one_line rebooted
}

@test "abuse: while one VM floods, another's requests take no more than 8 times as long" {
	local alone kind worst=0
	trips 2000
	trips 2000
	alone=$took
	[ "$alone" -gt 0 ] || alone=1
	for kind in disk fill resets vsock console; do
		case $kind in
		vsock) flood vsock --vsock "$BATS_TEST_TMPDIR/vsock" ;;
		console)
			start_flat flood
			wait_said 0123
			;;
		*) flood "$kind" -d "$BATS_TEST_TMPDIR/disk" ;;
		esac
		trips 2000
		echo "# alone $alone ms, beside one that floods $kind $took ms"
		[ "$took" -le "$worst" ] || worst=$took
		end_at_once
	done
	# Every program that starts at that time may take a while; half a second is for that.
	[ "$worst" -lt $((8 * alone + 500)) ] || fail "alone $alone ms, beside a flood $worst ms"
}
