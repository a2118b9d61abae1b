#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2153,SC2154 # each test is a subshell; the variables are of helper.bash
#
# `mayfly jailer`: a program that says what it sees (tests/guest/look.c) in jails of all kinds, and jails that must not
# be. No guest runs here. All but the tests of options must be run by root.

load helper

LOOK=$GUESTS/look
UID_GID=(--uid 1234 --gid 1235)

setup() {
	started=()
	base=$BATS_TEST_TMPDIR/base
	jail=$base/look/a/root
	mkdir -p "$base"
	umask 022
}

teardown() {
	kill_started
}

need_root() {
	[ "$EUID" -eq 0 ] || skip "only root may start jails"
	mknod "$BATS_TEST_TMPDIR/null" c 1 3 2> /dev/null || skip "root may not make devices here"
	unshare -m true 2> /dev/null || skip "root may not make mount namespaces here"
}

# run_jail ARG...: of LOOK, with an id of "a". Sets $status, $output and $stderr.
run_jail() {
	run_mayfly jailer --id a --exec-file "$LOOK" "${UID_GID[@]}" --chroot-base-dir "$base" "$@"
}

# start_jail ARG...: one that stays, when it has said what it sees in the file $out. Sets $pid by the pid file.
start_jail() {
	"$MAYFLY" jailer --id a --exec-file "$LOOK" "${UID_GID[@]}" --chroot-base-dir "$base" "$@" -- --out --stay \
		< /dev/null 3>&- &
	started+=($!)
	out=$jail/run/look
	wait_for test -e "$out"
	pid=$(< "$jail/look.pid")
	started+=("$pid")
}

# run_apart ARG...: one that continues when the jailer has ended, and so must not hold the pipe that `run` reads. Sets $status,
# $stderr, $pid by the pid file, and $output to what the program says.
run_apart() {
	status=0
	timeout -k 5 "$LIMIT" "$MAYFLY" jailer --id a --exec-file "$LOOK" "${UID_GID[@]}" --chroot-base-dir "$base" "$@" \
		-- --out --stay < /dev/null > "$BATS_TEST_TMPDIR/out" 2> "$BATS_TEST_TMPDIR/err" 3>&- || status=$?
	assert_equal "$(cat "$BATS_TEST_TMPDIR/out" "$BATS_TEST_TMPDIR/err")" ''
	assert_equal "$status" 0
	pid=$(< "$jail/look.pid")
	started+=("$pid")
	assert_equal "$(< "/proc/$pid/comm")" look
	wait_for test -e "$jail/run/look"
	output=$(< "$jail/run/look")
}

# says REGEX: the program has said a line that is like it as a whole.
says() {
	grep -qxE "$1" <<< "$output" || fail "there is no line '$1' in: $output"
}

says_not() {
	! grep -qxE "$1" <<< "$output" || fail "there is a line '$1' in: $output"
}

# refused REGEX: run_jail was, with one line that is like it, and has run nothing.
refused() {
	assert_equal "$status" 125
	assert_equal "$output" ''
	assert_one_line "$1"
}

# nothing_made: of a jail that could not be.
nothing_made() {
	assert_equal "$(ls -A "$base")" ''
}

@test "the program gets Firecracker's arguments, and nothing of the caller's but its streams" {
	need_root
	SECRET=1 run_jail -- --api-sock '/run/a b' -- x 9< /dev/null
	assert_equal "$status" 7
	assert_equal "$stderr" ''
	says 'arg 0 /look'
	says 'arg 1 --id'
	says 'arg 2 a'
	says 'arg 3 --start-time-us'
	says 'arg 4 [1-9][0-9]*'
	says 'arg 5 --start-time-cpu-us'
	says 'arg 6 [0-9]+'
	says 'arg 7 --parent-cpu-time-us'
	says 'arg 8 0'
	says 'arg 9 --api-sock'
	says 'arg 10 /run/a b'
	says 'arg 11 --'
	says 'arg 12 x'
	says_not 'arg 13 .*'
	says_not 'env .*'
	says 'cwd /'
	says_not 'fd [3-9][0-9]* .*'
}

@test "the times that it gets are those of CLOCK_MONOTONIC" {
	need_root
	local before after us
	before=$(cut -d. -f1 /proc/uptime)
	run_jail
	after=$(cut -d. -f1 /proc/uptime)
	us=$(sed -n 's/^arg 4 //p' <<< "$output")
	[ $((us / 1000000)) -ge $((before - 1)) ] && [ $((us / 1000000)) -le $((after + 1)) ] ||
		fail "$us us, between $before s and $after s"
}

@test "it is the user without any other group, without capabilities, and gets no new privileges" {
	need_root
	run setpriv --groups 4,20 -- "$MAYFLY" jailer --id a --exec-file "$LOOK" "${UID_GID[@]}" --chroot-base-dir "$base"
	assert_equal "$status" 7
	says 'user 1234 1234 1234'
	says 'group 1235 1235 1235'
	says 'groups 0'
	says 'caps 0+ 0+ 0+'
	says 'nnp 1'
}

@test "inherited securebits and capabilities do not help it" {
	need_root
	setpriv --securebits +no_setuid_fixup true 2> /dev/null || skip "securebits cannot be set here"
	run setpriv --securebits +no_setuid_fixup --inh-caps +net_admin --ambient-caps +net_admin -- \
		"$MAYFLY" jailer --id a --exec-file "$LOOK" "${UID_GID[@]}" --chroot-base-dir "$base"
	assert_equal "$status" 7
	says 'user 1234 1234 1234'
	says 'caps 0+ 0+ 0+'
}

@test "root in a jail stays root" {
	need_root
	UID_GID=(--uid 0 --gid 0)
	run_jail
	assert_equal "$status" 7
	says 'user 0 0 0'
	says 'file c 0600 0:0 10:232 /dev/kvm'
	says 'nnp 1'
}

# layout: what is in the jail, as the program sees it.
layout() {
	grep '^file ' <<< "$output" | grep -v userfaultfd | LC_ALL=C sort -k6
}

@test "the jail has this and no more, whatever the umask" {
	need_root
	local mask
	for mask in 022 077 000; do
		umask "$mask"
		run_jail
		umask 022
		assert_equal "$status" 7
		assert_equal "$(layout)" "file d 0700 1234:1235 0:0 /.
file d 0700 1234:1235 0:0 /dev
file c 0600 1234:1235 10:232 /dev/kvm
file d 0700 1234:1235 0:0 /dev/net
file c 0600 1234:1235 10:200 /dev/net/tun
file c 0600 1234:1235 1:9 /dev/urandom
file f 0555 0:0 0:0 /look
file f 0644 0:0 0:0 /look.pid
file d 0700 1234:1235 0:0 /run"
		says 'open /dev/urandom Success'
		says 'open /look Permission denied'
		assert_equal "$(stat -c '%a %u:%g' "$base/look" "$base/look/a")" "755 0:0
755 0:0"
		cmp "$LOOK" "$jail/look"
		rm -r "$base/look"
	done
}

@test "/dev/userfaultfd is there if the host has one" {
	need_root
	local minor
	minor=$(awk '$2 == "userfaultfd" { print $1 }' /proc/misc)
	run_jail
	if [ -n "$minor" ]; then
		says "file c 0600 1234:1235 10:$minor /dev/userfaultfd"
	else
		says_not 'file .* /dev/userfaultfd'
	fi
}

@test "the pid file has the pid, which is the jailer's own" {
	need_root
	start_jail
	assert_equal "$pid" "${started[0]}"
	assert_equal "$(wc -c < "$jail/look.pid")" "${#pid}"
	grep -qx "pid $pid" "$out"
	assert_equal "$(< "/proc/$pid/comm")" look
}

@test "--new-pid-ns: the program is PID 1, and the jailer has ended when its pid can be read" {
	need_root
	run_apart --new-pid-ns
	says 'pid 1'
	says 'ppid 0'
	says 'leader 0'
	says 'arg 6 0'
	says 'arg 8 [1-9][0-9]*'
	says 'user 1234 1234 1234'
	says 'caps 0+ 0+ 0+'
	says_not 'fd [3-9][0-9]* .*'
}

@test "--daemonize: a session of its own that it does not lead, streams that lead nowhere" {
	need_root
	run_apart --daemonize
	says "pid $pid"
	says 'leader 0'
	[ "$(ps -o sid= -p "$pid")" -ne "$(ps -o sid= -p $$)" ]
	assert_equal "$(stat -L -c %t:%T "/proc/$pid"/fd/[012])" "1:3
1:3
1:3"
	says_not 'fd [3-9][0-9]* .*'
	says 'arg 6 0'
	says 'arg 8 [1-9][0-9]*'
}

@test "--daemonize and --new-pid-ns go together" {
	need_root
	run_apart --daemonize --new-pid-ns
	says 'pid 1'
	says 'leader 0'
}

@test "the jailer reports a failure of a daemon, and leaves nothing" {
	need_root
	local options
	for options in '' --daemonize --new-pid-ns '--daemonize --new-pid-ns'; do
		# shellcheck disable=SC2086 # a list of words
		run_mayfly jailer --id a --exec-file /bin/ls "${UID_GID[@]}" --chroot-base-dir "$base" $options
		refused 'ls.* in the jail: it is not statically linked'
		# Without processes of its own it is the user by then, who cannot remove what is above the jail.
		[ -n "$options" ] || { rmdir "$base/ls/a/root" "$base/ls/a" "$base/ls"; }
		nothing_made
	done
}

@test "it has one mount, its root, and the host does not see that" {
	need_root
	start_jail
	assert_equal "$(wc -l < "/proc/$pid/mountinfo")" 1
	[ "$(readlink "/proc/$pid/ns/mnt")" != "$(readlink /proc/self/ns/mnt)" ]
	run ! grep -q "$base" /proc/self/mountinfo
	assert_equal "$(stat -L -c %i "/proc/$pid/root")" "$(stat -c %i "$jail")"
	[ ! -e "$jail/old_root" ]
}

@test "mounts that are in the directory come along, and those that are made later on the host" {
	need_root
	run unshare -m --propagation shared bash -euc '
		mkdir -p "$1/look/a/root/before" "$1/look/a/root/after"
		mount -t tmpfs none "$1/look/a/root/before"
		touch "$1/look/a/root/before/file"
		"$2" jailer --id a --exec-file "$3" --uid 1234 --gid 1235 --chroot-base-dir "$1" -- --out --stay &
		while [ ! -e "$1/look/a/root/run/look" ]; do sleep 0.1; done
		mount -t tmpfs none "$1/look/a/root/after"
		touch "$1/look/a/root/after/file"
		ls "/proc/$!/root/before" "/proc/$!/root/after"
		kill $!' - "$base" "$MAYFLY" "$LOOK"
	assert_equal "$(grep -cx file <<< "$output")" 2
}

@test "--netns: the network is that one's" {
	need_root
	ip netns add "mayfly-$$" 2> /dev/null || skip "ip cannot make network namespaces here"
	run_jail --netns "/run/netns/mayfly-$$"
	ip netns del "mayfly-$$"
	assert_equal "$status" 7
	assert_equal "$(grep '^net ' <<< "$output")" 'net lo'
}

@test "--resource-limit" {
	need_root
	run_jail
	says 'limit no-file 2048 2048'
	rm -r "$base/look"
	run_jail --resource-limit fsize=0 --resource-limit no-file=3
	assert_equal "$status" 7
	says 'limit no-file 3 3'
	says 'limit fsize 0 0'
}

@test "a limit that cannot be raised is an error that names it" {
	need_root
	run --separate-stderr bash -c 'ulimit -n 500; exec setpriv --inh-caps=-sys_resource --bounding-set=-sys_resource -- "$@"' - \
		"$MAYFLY" jailer --id a --exec-file "$LOOK" "${UID_GID[@]}" --chroot-base-dir "$base"
	refused 'set resource limits: no-file: 2048 exceeds the hard limit, 500'
	nothing_made
}

# without CAPABILITY REGEX: it is one of those that the last step needs.
without() {
	run --separate-stderr setpriv --inh-caps="-$1" --bounding-set="-$1" -- \
		"$MAYFLY" jailer --id a --exec-file "$LOOK" "${UID_GID[@]}" --chroot-base-dir "$base"
	refused "$2"
	nothing_made
}

@test "if privileges cannot be dropped, nothing runs" {
	need_root
	without setgid 'drop the supplementary groups: Operation not permitted'
	without setuid 'become user 1234: Operation not permitted'
}

@test "if the jail cannot be made, nothing runs" {
	need_root
	without mknod "make device '.*/dev/net/tun': Operation not permitted"
	without sys_admin 'make a mount namespace: Operation not permitted'
	without chown "give device '.*/dev/net/tun' to the user"
}

# v2: where it is mounted.
v2() {
	awk '$0 ~ " - cgroup2 " { print $5; exit }' /proc/self/mountinfo
}

@test "--cgroup: without it the program stays where the caller is" {
	need_root
	local top where
	top=$(v2)
	[ -n "$top" ] || skip "cgroup v2 is not mounted"
	mkdir "$top/mayfly-$$"
	start_jail --cgroup-version 2 --parent-cgroup "mayfly-$$"
	where=$(grep '^0:' "/proc/$pid/cgroup")
	kill -KILL "$pid"
	wait "$pid" || true
	rmdir "$top/mayfly-$$"
	assert_equal "$where" "$(grep '^0:' /proc/self/cgroup)"
}

@test "--cgroup: a controller that is missing is an error" {
	need_root
	[ -n "$(v2)" ] || skip "cgroup v2 is not mounted"
	run_jail --cgroup nothing.max=1
	refused "no controller 'nothing' in '.*/cgroup.controllers'"
	nothing_made
}

# plant KIND PATH: something in the way; $victim is what it leads to.
plant() {
	mkdir -p "$(dirname "$2")"
	case $1 in
	symlink) ln -s "$victim" "$2" ;;
	dangling) ln -s "$BATS_TEST_TMPDIR/not-there" "$2" ;;
	dirlink) ln -s "$BATS_TEST_TMPDIR/elsewhere" "$2" ;;
	hardlink) ln "$victim" "$2" ;;
	fifo) mkfifo "$2" ;;
	file) echo mine > "$2" ;;
	device) mknod "$2" c 1 3 ;;
	esac
}

@test "what somebody has put where the jail will be is refused, and what it leads to is left alone" {
	need_root
	local what at
	victim=$BATS_TEST_TMPDIR/victim
	mkdir "$BATS_TEST_TMPDIR/elsewhere"
	for at in look look/a look/a/root look/a/root/{look,look.pid,dev,run,dev/net,dev/kvm,dev/net/tun}; do
		for what in symlink dangling dirlink hardlink fifo file device; do
			echo secret > "$victim"
			chmod 600 "$victim"
			mkdir -p "$base"
			plant "$what" "$base/$at"
			local began=$SECONDS
			run_jail
			[ $((SECONDS - began)) -lt 10 ] || fail "$what at $at: it waited"
			# Where a file was to be it exists, where a directory was to be it is none.
			echo "# $what at $at"
			refused '(exists, as|not a directory)'
			assert_equal "$(< "$victim") $(stat -c '%a %u %h' "$victim")" \
				"secret 600 0 $([ $what = hardlink ] && echo 2 || echo 1)"
			[ ! -e "$BATS_TEST_TMPDIR/not-there" ] || fail "$what at $at: followed"
			assert_equal "$(ls -A "$BATS_TEST_TMPDIR/elsewhere")" ''
			assert_equal "$(stat -c %u "$BATS_TEST_TMPDIR/elsewhere")" 0
			# It removes what it has made, not what was there.
			[ -e "$base/$at" ] || [ -L "$base/$at" ] || fail "$what at $at: removed"
			rm -r "$base"
		done
	done
}

@test "something in the place of /dev/urandom only costs a warning" {
	need_root
	victim=$BATS_TEST_TMPDIR/victim
	echo secret > "$victim"
	plant symlink "$jail/dev/urandom"
	run_jail
	assert_equal "$status" 7
	assert_regex "$stderr" "urandom' exists, as a symbolic link.*continuing without it"
	assert_equal "$(stat -c %u "$victim")" 0
}

@test "directories that others could change are refused" {
	need_root
	local at
	for at in . look look/a look/a/root look/a/root/dev look/a/root/dev/net look/a/root/run; do
		echo "# $at"
		mkdir -p "$base/$at"
		chmod 777 "$base/$at"
		run_jail
		refused "mode 0777\)"
		chmod 775 "$base/$at"
		chgrp 1235 "$base/$at"
		run_jail
		refused "mode 0775\)"
		chgrp 0 "$base/$at"
		chown 4321 "$base/$at"
		run_jail
		refused "is user 4321's"
		rm -r "$base"
	done
	# The user, too, above the jail itself.
	mkdir -p "$base/look/a"
	chown 1234 "$base/look/a"
	run_jail
	refused "is user 1234's"
	rm -r "$base/look"
	# In one with the sticky bit, what is root's is safe.
	chmod 1777 "$base"
	run_jail
	assert_equal "$status" 7
}

@test "a directory that is there already is taken, if it is root's or the user's" {
	need_root
	mkdir -p "$jail/run"
	touch "$jail/kernel"
	run_jail
	assert_equal "$status" 7
	says 'file f 0644 0:0 0:0 /kernel'
	rm -r "$base/look"
	mkdir -p "$jail/dev"
	chown 1234 "$jail" "$jail/dev"
	run_jail
	assert_equal "$status" 7
	# It is used once: the second time the program is there already.
	run_jail
	refused "/a/root/look' exists, as a file: a jail is used once"
	[ -e "$jail/dev/kvm" ]
}

@test "links in the base and in the program's path are followed, once" {
	need_root
	ln -s "$base" "$BATS_TEST_TMPDIR/link"
	ln -s "$LOOK" "$BATS_TEST_TMPDIR/other-name"
	run_mayfly jailer --id a --exec-file "$BATS_TEST_TMPDIR/other-name" "${UID_GID[@]}" \
		--chroot-base-dir "$BATS_TEST_TMPDIR/link"
	assert_equal "$status" 7
	[ -d "$jail" ]
}

@test "a second jail of the same id is refused, also when it starts at once" {
	need_root
	local i ran=0
	for i in {1..8}; do
		"$MAYFLY" jailer --id a --exec-file "$LOOK" "${UID_GID[@]}" --chroot-base-dir "$base" \
			< /dev/null > "$BATS_TEST_TMPDIR/out.$i" 2> "$BATS_TEST_TMPDIR/err.$i" &
	done
	wait
	for i in {1..8}; do
		if grep -q '^arg 0 /look' "$BATS_TEST_TMPDIR/out.$i"; then
			ran=$((ran + 1))
		else
			grep -q 'mayfly: ' "$BATS_TEST_TMPDIR/err.$i"
		fi
	done
	assert_equal "$ran" 1
}

@test "many at once, each with an id of its own" {
	need_root
	local i pids=()
	for i in {1..30}; do
		"$MAYFLY" jailer --id "vm-$i" --exec-file "$LOOK" "${UID_GID[@]}" --chroot-base-dir "$base" \
			< /dev/null > "$BATS_TEST_TMPDIR/out.$i" 2>&1 3>&- &
		pids+=($!)
	done
	for i in "${pids[@]}"; do
		status=0
		wait "$i" || status=$?
		assert_equal "$status" 7
	done
	assert_equal "$(find "$base/look" -mindepth 1 -maxdepth 1 | wc -l)" 30
}

@test "programs that cannot be" {
	need_root
	local file
	mkfifo "$BATS_TEST_TMPDIR/fifo"
	: > "$BATS_TEST_TMPDIR/empty"
	truncate -s 1T "$BATS_TEST_TMPDIR/huge"
	for file in "not-there:No such file" ".:a directory" "fifo:a FIFO" "empty:has 0 bytes" "huge:1 to 268435456 are"; do
		run_mayfly jailer --id a --exec-file "$BATS_TEST_TMPDIR/${file%%:*}" "${UID_GID[@]}" \
			--chroot-base-dir "$base"
		refused "executable.*${file#*:}"
		nothing_made
	done
	echo text > "$BATS_TEST_TMPDIR/text"
	run_mayfly jailer --id a --exec-file "$BATS_TEST_TMPDIR/text" "${UID_GID[@]}" --chroot-base-dir "$base"
	refused "run '/text' in the jail: Exec format error"
}

@test "places where no jail can be" {
	need_root
	run_jail --chroot-base-dir "$BATS_TEST_TMPDIR/not-there"
	refused "option '--chroot-base-dir' was given twice"
	run_mayfly jailer --id a --exec-file "$LOOK" "${UID_GID[@]}" --chroot-base-dir "$BATS_TEST_TMPDIR/not-there"
	refused "chroot base directory '.*/not-there': No such file"
	run_mayfly jailer --id a --exec-file "$LOOK" "${UID_GID[@]}" --chroot-base-dir "$LOOK"
	refused 'Not a directory'
	run_jail --netns "$BATS_TEST_TMPDIR/not-there"
	refused "open network namespace '.*/not-there': No such file"
	run_jail --netns "$LOOK"
	refused "join network namespace '.*/look': Invalid argument"
	mkfifo "$BATS_TEST_TMPDIR/fifo"
	run_jail --netns "$BATS_TEST_TMPDIR/fifo"
	refused 'join network namespace'
	nothing_made
	for option in noexec ro; do
		run --separate-stderr unshare -m bash -c 'mount -t tmpfs -o "$1" none "$2" && shift 2 && "$@"' - "mode=755,$option" "$base" \
			"$MAYFLY" jailer --id a --exec-file "$LOOK" "${UID_GID[@]}" --chroot-base-dir "$base"
		refused '(mounted noexec|Read-only file system)'
	done
	run --separate-stderr unshare -m bash -c 'mount -t tmpfs -o "$1" none "$2" && shift 2 && "$@"' - "mode=755,nodev" "$base" \
		"$MAYFLY" jailer --id a --exec-file "$LOOK" "${UID_GID[@]}" --chroot-base-dir "$base"
	assert_equal "$status" 7
	assert_regex "$stderr" 'mounted nodev, so that devices cannot be opened there'
	says 'open /dev/kvm Permission denied'
}

@test "without standard streams it runs as well" {
	need_root
	status=0
	"$MAYFLY" jailer --id a --exec-file "$LOOK" "${UID_GID[@]}" --chroot-base-dir "$base" -- --out <&- >&- 2>&- ||
		status=$?
	assert_equal "$status" 7
	output=$(< "$jail/run/look")
	says 'fd 0 c'
	says 'fd 2 c'
	says_not 'fd [3-9] .*'
}

@test "only root may" {
	local as=() place
	if [ "$EUID" -eq 0 ]; then
		# Where nobody can run it.
		place=$(mktemp -d)
		chmod 755 "$place"
		cp "$MAYFLY" "$place/mayfly"
		as=(setpriv --reuid=65534 --regid=65534 --clear-groups -- "$place/mayfly")
	fi
	run --separate-stderr "${as[@]:-$MAYFLY}" jailer --id a --exec-file /bin/true "${UID_GID[@]}" --chroot-base-dir /tmp
	[ "$EUID" -ne 0 ] || rm -r "$place"
	refused 'must be started by root'
}

@test "called as jailer, mayfly is the jailer" {
	ln -s "$MAYFLY" "$BATS_TEST_TMPDIR/jailer"
	run --separate-stderr "$BATS_TEST_TMPDIR/jailer" --version
	assert_equal "$status" 0
	assert_regex "$output" '^mayfly [0-9.]+$'
	run --separate-stderr "$BATS_TEST_TMPDIR/jailer" --help
	assert_equal "$status" 0
	assert_regex "$output" '^Usage: mayfly jailer --id ID'
	run --separate-stderr "$BATS_TEST_TMPDIR/jailer" --id a
	assert_equal "$status" 125
	assert_one_line "option '--exec-file' is required"
}

# bad REGEX ARG...: a command line that is refused.
bad() {
	local want=$1
	shift
	run_mayfly jailer "$@"
	refused "$want"
}

@test "mistakes on the command line" {
	local all=(--exec-file /bin/true --uid 1 --gid 1)
	bad "option '--id' is required"
	bad "option '--uid' is required" --id a --exec-file x
	bad "option '--gid' is required" --id a --exec-file x --uid 1
	bad "option '--id' was given twice" --id a --id b
	bad "option '--daemonize' was given twice" --daemonize --daemonize
	bad "option '--id' needs a value \(ID\)" --id
	bad "option '--id' needs a value \(ID\)" --id --uid 1
	bad "unknown option '--id=a' \(a value is an argument of its own" --id=a
	bad "unknown option '--uids'; did you mean '--uid'\?" --uids 1
	bad "unknown option '--node'" --node 0
	bad "unknown option '-h'" -h
	bad "unexpected argument 'a'" a
	bad "unexpected argument ''" ''
	bad "option '--id ': must have 1 to 64 characters, not 0" --id '' "${all[@]}"
	bad "must have 1 to 64 characters, not 65" --id "$(printf 'a%.0s' {1..65})" "${all[@]}"
	local id
	for id in . .. a/b a_b 'a b' $'a\n' ä '*'; do
		bad "must have letters, digits and '-' only" --id "$id" "${all[@]}"
	done
	local user
	for user in -1 4294967295 4294967296 0x1 1.0 '' ' 1' 1x root; do
		bad "option '--uid .*': must be a number from 0 to 4294967294" --uid "$user"
		bad "option '--gid .*': must be a number from 0 to 4294967294" --gid "$user"
	done
	bad "option '--cgroup-version 3': must be 2" --cgroup-version 3
	bad "option '--cgroup-version 02': must be 2" --cgroup-version 02
	bad "option '--cgroup-version 1': cgroup v1 is not supported" --cgroup-version 1
	bad 'must be FILE=VALUE' --cgroup cpu.shares
	local cgroup
	for cgroup in cpu=1 .max=1 cpu.=1 ../cpu.max=1 cpu/cpu.max=1 cpu..max=1 =1; do
		bad 'must be CONTROLLER.NAME' --cgroup "$cgroup"
	done
	bad 'no value given' --cgroup cpu.shares=
	local parent
	for parent in / /a a/ .. a/../b . '' a//b; do
		bad 'must be relative' --parent-cgroup "$parent"
	done
	local limit
	for limit in no-files=1 no-file fsize '' =1; do
		bad 'must be fsize=BYTES or no-file=NUMBER' --resource-limit "$limit"
	done
	for limit in no-file= fsize=-1 fsize=1K no-file=18446744073709551616; do
		bad "must be a number behind '='" --resource-limit "$limit"
	done
	bad 'must be a path of 1 to 4095 bytes' --exec-file ''
	bad 'must be a path of 1 to 4095 bytes' --netns "$(printf 'a%.0s' {1..4096})"
}
