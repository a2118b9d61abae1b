#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2153,SC2154 # each test is a subshell; the variables are of helper.bash
# `mayfly run -- COMMAND` and `mayfly exec`: streams, statuses, terminals, time limits, and what happens when things end.

load helper

# mf [OPTION...] -- COMMAND...: in the initramfs's busybox. stdin is the caller's.
mf() {
	timeout -k 5 "$LIMIT" "$MAYFLY" run -k "$KERNEL" -i "$INITRAMFS" "$@"
}

# mf_run ...: the same to its end, with $status, $output and $stderr.
mf_run() {
	run --separate-stderr mf "$@"
	echo "# mayfly said: $stderr"
	echo "# output: ${output: -600}"
}

# In the background, with a control socket, once its command runs. Sets $pid.
start_command() {
	start_mayfly run -k "$KERNEL" -i "$INITRAMFS" --control "$BATS_TEST_TMPDIR/control" "$@"
}

mf_exec() {
	timeout -k 5 "$LIMIT" "$MAYFLY" exec "$BATS_TEST_TMPDIR/control" "$@"
}

@test "command: its output, its errors and its status, each by itself" {
	mf_run -- sh -c 'echo out; echo err >&2; exit 7' < /dev/null
	assert_equal "$status" 7
	assert_equal "$output" 'out'
	assert_equal "$stderr" 'err'
	mf_run -- true < /dev/null
	assert_equal "$status:$output:$stderr" '0::'
}

@test "command: input and output are binary, and end" {
	local sum size=$((64 << 20))
	[ -z "${LAB:-}" ] || size=$((8 << 20))
	head -c "$size" /dev/urandom > "$BATS_TEST_TMPDIR/data"
	sum=$(sha256sum < "$BATS_TEST_TMPDIR/data")
	mf_run -- sha256sum < "$BATS_TEST_TMPDIR/data"
	assert_equal "$status" 0
	assert_equal "$output" "$sum"
	mf -- cat < "$BATS_TEST_TMPDIR/data" > "$BATS_TEST_TMPDIR/back"
	cmp "$BATS_TEST_TMPDIR/data" "$BATS_TEST_TMPDIR/back"
	rm "$BATS_TEST_TMPDIR/data" "$BATS_TEST_TMPDIR/back"
}

# The result says this cause, code and signal, and the status, which is exec's.
assert_result_of_exec() {
	local want="$1 $status"
	run "$PYTHON" -I -S -c 'import json, sys
r = json.load(open(sys.argv[1]))
print(r["cause"], *(json.dumps(r[key]) for key in ("code", "signal", "status")))' "$result"
	assert_output "$want"
	rm "$result"
}

@test "exec: the environment, directory and user are those of the first command, or its own" {
	local exec=(timeout -k 5 "$LIMIT" "$MAYFLY" exec)
	start_mayfly run -k "$KERNEL" -i "$INITRAMFS" --name "first$$" -e A=1 -e B=2 -w /tmp -u 65534:65533 \
		-- sh -c 'echo ready; exec sleep 1000'
	wait_said ^ready
	run "${exec[@]}" "first$$" -- sh -c 'echo "$A $B $(pwd) $(id -u) $(id -g)"'
	assert_output '1 2 /tmp 65534 65533'
	run "${exec[@]}" -e A=9 -w / -u 0 "first$$" -- sh -c 'echo "$A $B $(pwd) $(id -u)"'
	assert_output '9 2 / 0'
	# Why and how it ended: a status, a signal, a time limit, a command that is not there, an option that is wrong.
	local result=$BATS_TEST_TMPDIR/result of
	for of in 'command 7 null exit 7' 'signalled 137 9 kill -9 $$' 'timeout null null exec sleep 1000'; do
		run "${exec[@]}" --timeout 2s --result "$result" "first$$" -- sh -c "${of#* * * }"
		assert_result_of_exec "${of%% [ek]*}"
	done
	run --separate-stderr "${exec[@]}" --result "$result" "first$$" -- no-such-command
	assert_result_of_exec 'command 127 null'
	run "${exec[@]}" --result "$result" --no-such-option
	assert_result_of_exec 'failed null null'
	[ ! -e "$BATS_TEST_TMPDIR/.result.part" ]
	# Files are copied by root all the same.
	echo text > "$BATS_TEST_TMPDIR/file"
	run "$MAYFLY" cp "$BATS_TEST_TMPDIR/file" "first$$:/bin/file"
	assert_success
	run "${exec[@]}" "first$$" -- cat /bin/file
	assert_output text
	kill "$pid"
	wait_end
}

@test "command: not found is 127, not executable is 126, killed is 128 and the signal" {
	mf_run -- no-such-command < /dev/null
	assert_equal "$status" 127
	assert_regex "$stderr" '^mayfly: .*no-such-command'
	mf_run -- /etc < /dev/null
	assert_equal "$status" 126
	assert_regex "$stderr" '^mayfly: .*/etc'
	mf_run -- sh -c 'kill -KILL $$' < /dev/null
	assert_equal "$status" 137
	mf_run -- sh -c 'exit 255' < /dev/null
	assert_equal "$status" 255
}

@test "command: arguments, environment, directory and user arrive as they are" {
	X='from here' mf_run -e 'A=b c' -e X -e NOT_SET_HERE -w /tmp -u 1000:1001 -- sh -c \
		'pwd; echo "$A|$X|${NOT_SET_HERE-unset}|$(id -u):$(id -g)"; shift; printf "<%s>" "$@"' \
		zero one '' $'two\nlines' '$HOME *' < /dev/null
	assert_equal "$status" 0
	assert_equal "$output" $'/tmp\nb c|from here|unset|1000:1001\n<><two\nlines><$HOME *>'
}

@test "command: open files, localhost and the guest itself by name, and the terminal that the caller has" {
	local out
	mf_run --name box -- sh -c 'ulimit -Sn; ulimit -Hn; cat /proc/sys/fs/nr_open; cat /etc/hosts' < /dev/null
	assert_equal "$status" 0
	assert_regex "$output" $'^1024\n([0-9]+)\n([0-9]+)\n'
	assert_equal "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"
	assert_regex "$output" $'127\\.0\\.0\\.1[ \t]+localhost'
	assert_regex "$output" $'127\\.0\\.1\\.1[ \t]+box'
	out=$(TERM=vt220 mf --tty -- sh -c 'echo "[$TERM]"' < /dev/null)
	assert_regex "$out" '\[vt220\]'
	out=$(TERM=vt220 mf -- sh -c 'echo "[$TERM]"' < /dev/null)
	assert_equal "$out" '[]'
}

@test "command: what fills the memory of a small guest gets ENOSPC, and the command lives" {
	local script='for at in "$@"; do
		dd if=/dev/zero of="$at/fill" bs=64k 2>&1 | grep -q "No space left" && echo full
	done; free > /dev/null && echo alive'
	mf_run -m 128M -- sh -c "$script" - / /tmp /run /dev/shm < /dev/null
	assert_equal "$status" 0
	assert_equal "$output" $'full\nfull\nfull\nfull\nalive'
	run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" run -k "$KERNEL" -m 128M -d "$ROOTFS:ro" \
		-v "$ROOTFS:/mnt" --tmpfs /x:size=1M -- sh -c "$script" - /x / /mnt /tmp /run /dev/shm < /dev/null
	assert_equal "$status" 0
	assert_equal "$output" $'full\nfull\nfull\nfull\nfull\nfull\nalive'
	mf_run --scratch 1M -- sh -c 'df -k /tmp | tail -n 1' < /dev/null
	assert_regex "$output" ' 1024 '
}

@test "command: a signal that comes to mayfly and ends the command ends mayfly, and exec, too" {
	local dir=$BATS_TEST_TMPDIR
	watch_mayfly run -k "$KERNEL" -i "$INITRAMFS" --control "$dir/control" -- sh -c 'echo ready; exec sleep 1000'
	wait_said ready
	local main=$pid watching=$watcher
	mv "$dir/how" "$dir/how-main"
	watch_mayfly exec "$dir/control" -- sh -c 'echo go; exec sleep 1000'
	wait_said go
	watched_ends 'signal 2' INT
	watch_mayfly exec "$dir/control" -- sh -c 'trap "exit 5" INT; echo trapped; while :; do sleep 1; done'
	wait_said trapped
	watched_ends 'exit 5' INT
	watch_mayfly exec "$dir/control" -- sh -c 'trap "" TERM; echo deaf; while :; do sleep 1; done'
	wait_said deaf
	watched_ends 'signal 15' TERM TERM
	watch_mayfly exec "$dir/control" -- sh -c 'kill -INT $$'
	watched_ends 'exit 130' # by itself
	mv "$dir/how-main" "$dir/how"
	pid=$main watcher=$watching
	watched_ends 'signal 2' INT
}

@test "command: a supervisor hears that the command has started" {
	local dir=$BATS_TEST_TMPDIR
	"$PYTHON" -I -S "$BATS_TEST_DIRNAME/notified" "$dir/notify" "$dir/told" < /dev/null 3>&- &
	started+=("$!")
	wait_for test -s "$dir/told"
	NOTIFY_SOCKET=$dir/notify start_command -- sh -c 'echo ready; sleep 1000'
	wait_for grep -q "^$pid READY=1" "$dir/told"
	wait_said ready
	kill -TERM "$pid"
	wait_end
	wait_for grep -q "^$pid STOPPING=1" "$dir/told"
	kill_started
}

@test "command: arguments as many as Linux takes, and no more" {
	local words
	# Of 131,071 bytes each, as long as one may be; xargs makes commands of 128 KiB.
	words=$(head -c 131071 /dev/zero | tr '\0' x)
	start_command -- sh -c 'echo ready; sleep 1000'
	wait_said ready
	mf_exec -- sh -c 'echo $# ${#1} ${#12}' - "$words"{,,,,,,,,,,,} > "$BATS_TEST_TMPDIR/said"
	assert_equal "$(< "$BATS_TEST_TMPDIR/said")" '12 131071 131071'
	kill "$pid"
	mf_run -- sh -c 'echo $# ${#12}' - "$words"{,,,,,,,,,,,} < /dev/null
	assert_equal "$status:$output" '0:12 131071'
	mf_run -m 256M -- sh -c 'echo $#' - "${words}x" < /dev/null
	assert_equal "$status" 126
}

@test "command: on a root drive, which a read-only one becomes writable for" {
	mf_run_root() { run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" run -k "$KERNEL" "$@" < /dev/null; }
	mf_run_root -d "$ROOTFS:ro" -- sh -c 'echo x > /new && cat /new; grep " / " /proc/mounts | cut -d" " -f1,3'
	assert_equal "$status" 0
	assert_regex "$output" $'^x\n.*overlay'
	# Writes to a writable one are there afterwards.
	cp --sparse=always "$ROOTFS" "$BATS_TEST_TMPDIR/root.ext4"
	mf_run_root -d "$BATS_TEST_TMPDIR/root.ext4" -- sh -c 'mkdir -p /srv; echo kept > /srv/kept'
	assert_equal "$status" 0
	e2fsck -fn "$BATS_TEST_TMPDIR/root.ext4"
	assert_equal "$(debugfs -R 'cat /srv/kept' "$BATS_TEST_TMPDIR/root.ext4" 2> /dev/null)" 'kept'
	mf_run_root -d "$BATS_TEST_TMPDIR/root.ext4:overlay" -- sh -c 'cat /srv/kept; rm /srv/kept'
	assert_equal "$output" 'kept'
	assert_equal "$(debugfs -R 'cat /srv/kept' "$BATS_TEST_TMPDIR/root.ext4" 2> /dev/null)" 'kept'
}

# root_dir: a small root in $BATS_TEST_TMPDIR/root.
root_dir() {
	mkdir -p "$BATS_TEST_TMPDIR/root/bin" "$BATS_TEST_TMPDIR/root/proc"
	cp "$(command -v busybox)" "$BATS_TEST_TMPDIR/root/bin/busybox"
	ln -s busybox "$BATS_TEST_TMPDIR/root/bin/sh"
	echo 'of the host' > "$BATS_TEST_TMPDIR/root/file"
}

@test "command: a directory of the host is the root, and what is changed is lost" {
	root_dir
	export XDG_CACHE_HOME=$BATS_TEST_TMPDIR/cache
	with_root() { run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" run -k "$KERNEL" -r "$@" < /dev/null; }
	with_root "$BATS_TEST_TMPDIR/root" -- sh -c 'read -r x < /file; echo "$x"; echo changed > /file; read -r x < /file; echo "$x"'
	assert_equal "$status:$output" $'0:of the host\nchanged'
	with_root "$BATS_TEST_TMPDIR/root" -- sh -c 'read -r x < /file; echo "$x"'
	assert_equal "$status:$output" '0:of the host'
	assert_equal "$(find "$XDG_CACHE_HOME" -name '*.erofs' | wc -l)" 1
	echo 'other' > "$BATS_TEST_TMPDIR/root/file"
	with_root "$BATS_TEST_TMPDIR/root" -- sh -c 'read -r x < /file; echo "$x"'
	assert_equal "$status:$output" '0:other'
	mksquashfs "$BATS_TEST_TMPDIR/root" "$BATS_TEST_TMPDIR/root.squashfs" -quiet -no-progress
	with_root "$BATS_TEST_TMPDIR/root.squashfs" -- sh -c 'echo changed > /file; read -r x < /file; echo "$x"'
	assert_equal "$status:$output" '0:changed'
}

@test "command: a tar archive is the root, with one owner; a volume of an image keeps what is written with :rw" {
	command -v sqfstar > /dev/null || skip "no sqfstar here"
	root_dir
	cd "$BATS_TEST_TMPDIR"
	export XDG_CACHE_HOME=$PWD/cache
	tar --owner 1001 --group 1001 -C root -cf root.tar .
	truncate -s 4M vol
	mkfs.ext4 -q vol 2> /dev/null
	mkdir in
	printf data | dd of=in/sparse bs=1 seek=50000000 conv=notrunc status=none
	with_tar() { run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" run -k "$KERNEL" -r root.tar --all-root -v vol:/vol:rw -v in:/in:copy "$@" < /dev/null; }
	with_tar -- sh -c 'read -r x < /file; echo "$x"; echo kept > /vol/file; echo changed > /file; busybox stat -c "%u %s" /file /in/sparse; busybox tail -c 4 /in/sparse'
	assert_equal "$status:$output" $'0:of the host\n0 8\n0 50000004\ndata'
	with_tar -- sh -c 'read -r x < /vol/file; echo "$x"; read -r x < /file; echo "$x"'
	assert_equal "$status:$output" $'0:kept\nof the host'
}

@test "command: directories go in, artifacts come out" {
	mkdir "$BATS_TEST_TMPDIR/in"
	echo data > "$BATS_TEST_TMPDIR/in/file"
	mkfs.erofs --quiet "$BATS_TEST_TMPDIR/fixed" "$BATS_TEST_TMPDIR/in" 2> /dev/null
	export XDG_CACHE_HOME=$BATS_TEST_TMPDIR/cache
	mf_run -v "$BATS_TEST_TMPDIR/in:/src:copy" -v "$BATS_TEST_TMPDIR/fixed:/fixed:ro" --artifact "/out=$BATS_TEST_TMPDIR/got" \
		--artifact "/etc/hostname=$BATS_TEST_TMPDIR/got" --name some-host -- sh -c '
			cat /src/file && echo more >> /src/file && ! echo more >> /fixed/file
			mkdir -p /out/deep /etc && cp /src/file /out/deep/ && ln -s deep/file /out/link
			hostname > /etc/hostname; ln /out/deep/file /out/second; touch -d @-86400 /out/deep
			echo end | dd of=/out/holes bs=1M seek=40 2> /dev/null; mkfifo /out/fifo; touch -d @-5 /out/holes
			' < /dev/null
	assert_equal "$status" 0
	assert_regex "$output" '^data'
	assert_regex "$stderr" "/out.*left out.*out/fifo"
	assert_equal "$(stat -c %h "$BATS_TEST_TMPDIR/got/out/second")" 2
	assert_equal "$(stat -c '%s %Y' "$BATS_TEST_TMPDIR/got/out/holes")" '41943044 -5'
	[ "$(stat -c %b "$BATS_TEST_TMPDIR/got/out/holes")" -lt 2048 ]
	[ ! -e "$BATS_TEST_TMPDIR/got/out/fifo" ]
	assert_equal "$(< "$BATS_TEST_TMPDIR/got/out/link")" $'data\nmore'
	assert_equal "$(< "$BATS_TEST_TMPDIR/got/hostname")" some-host
	assert_equal "$(< "$BATS_TEST_TMPDIR/in/file")" data
	# One that is not there fails what else has not.
	mf_run --artifact "/none=$BATS_TEST_TMPDIR/got" -- true < /dev/null
	assert_equal "$status" 125
	assert_regex "$stderr" "artifact '/none' did not arrive"
	mf_run --artifact "/none=$BATS_TEST_TMPDIR/got" -- sh -c 'exit 3' < /dev/null
	assert_equal "$status" 3
}

@test "command: an artifact that does not fit is an error; the guest is not held up" {
	local small=$BATS_TEST_TMPDIR/small
	[ "$(id -u)" = 0 ] || skip "only root can mount a small file system"
	mkdir "$small"
	run --separate-stderr unshare -m bash -c 'mount -t tmpfs -o size=64k tmpfs "$1" && shift && exec timeout -k 5 "$@"' - "$small" \
		"$LIMIT" "$MAYFLY" run -k "$KERNEL" -i "$INITRAMFS" --artifact "/out=$small" -- \
		sh -c 'head -c 4000000 /dev/zero > /out; echo written' < /dev/null
	assert_equal "$status" 125
	assert_equal "$output" written
	assert_regex "$stderr" "artifact '/out' did not arrive: .*No space left on device"
	assert_equal "$(ls -A "$small")" ''
}

@test "command: an artifact takes the place of what has its name, follows no link, and changes nothing else" {
	cd "$BATS_TEST_TMPDIR"
	mkdir -p home repository/.git/hooks repository/result/old
	echo mine > home/.bashrc
	echo all: > repository/Makefile
	ln -s ../home repository/result/cache
	cd repository
	mf_run --artifact /result=. -- sh -c "mkdir /result && ln -s $BATS_TEST_TMPDIR/home /result/cache" < /dev/null
	assert_equal "$status:$(ls -A result):$(readlink result/cache)" "0:cache:$BATS_TEST_TMPDIR/home"
	mf_run --artifact /result=. --artifact /etc/hosts=result -- true < /dev/null
	assert_equal "$status" 125
	mf_run --artifact /result=. -- sh -c 'mkdir -p /result/cache && echo evil > /result/cache/.bashrc' < /dev/null
	assert_equal "$status:$(< result/cache/.bashrc)" 0:evil
	mf_run --artifact /result=. -- sh -c 'mkfifo /result; echo a > /tmp/Makefile' < /dev/null
	assert_equal "$status:$(< result/cache/.bashrc)" 125:evil
	mf_run --artifact /result=. --artifact-max 1M -- sh -c 'head -c 2000000 /dev/zero > /result' < /dev/null
	assert_equal "$status:$(< result/cache/.bashrc)" 125:evil
	assert_regex "$stderr" "/result.*--artifact-max"
	assert_equal "$(< ../home/.bashrc):$(ls ../home):$(< Makefile)" 'mine::all:'
	assert_equal "$(ls -A)" $'.git\nMakefile\nresult'
}

@test "command: what is lost of the output or of an artifact is no success" {
	mf_run -- echo lost > /dev/null < /dev/null
	assert_equal "$status" 0
	run --separate-stderr bash -c '"$@" > /dev/full < /dev/null' - timeout -k 5 "$LIMIT" "$MAYFLY" run -k "$KERNEL" -i "$INITRAMFS" \
		-- sh -c 'echo lost; exit 0'
	assert_equal "$status" 125
	assert_regex "$stderr" 'No space left'
	run --separate-stderr bash -c '"$@" > /dev/full < /dev/null' - timeout -k 5 "$LIMIT" "$MAYFLY" run -k "$KERNEL" -i "$INITRAMFS" \
		-- sh -c 'echo lost; exit 3'
	assert_equal "$status" 3
	# Nobody wants to read it: that is no loss.
	run --separate-stderr bash -c '"$@" < /dev/null | true; exit "${PIPESTATUS[0]}"' - timeout -k 5 "$LIMIT" "$MAYFLY" run \
		-k "$KERNEL" -i "$INITRAMFS" -- sh -c 'trap "" PIPE; sleep 1; echo lost; exit 0'
	assert_equal "$status" 0
	mf_run --artifact "/proc/mounts=$BATS_TEST_TMPDIR/got" -- true < /dev/null
	assert_equal "$status" 125
	assert_one_line '/proc/mounts'
}

@test "command: a drive whose changes are kept is clean at the end; one whose changes are lost need not be" {
	local image=$BATS_TEST_TMPDIR/root.ext4
	cp "$ROOTFS" "$image"
	truncate -s 16M "$BATS_TEST_TMPDIR/data"
	mkfs.ext4 -q "$BATS_TEST_TMPDIR/data"
	on_root() { run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" run -k "$KERNEL" --console -a loglevel=7 "$@" < /dev/null; }
	on_root -r "$image:rw" -d "$BATS_TEST_TMPDIR/data" -- \
		sh -c 'echo kept > /kept; mkdir -p /tmp/d; mount -t ext4 /dev/vdb /tmp/d; echo kept > /tmp/d/kept'
	assert_equal "$status" 0
	assert_regex "$stderr" '\(vda\): re-mounted'
	assert_regex "$stderr" '\(vdb\): re-mounted'
	for drive in "$image" "$BATS_TEST_TMPDIR/data"; do
		refute_regex "$(dumpe2fs -h "$drive" 2> /dev/null)" needs_recovery
		e2fsck -fn "$drive"
		assert_equal "$(debugfs -R 'cat /kept' "$drive" 2> /dev/null)" kept
	done
	before=$(sha256sum < "$image")
	on_root -r "$image" -- sh -c 'echo lost > /lost'
	assert_equal "$status" 0
	refute_regex "$stderr" re-mounted
	on_root -d "$image:ro" -- true
	assert_equal "$status" 0
	refute_regex "$stderr" re-mounted
	assert_equal "$(sha256sum < "$image")" "$before"
}

fresh_is_gone() {
	[ -z "$(ls -A "$BATS_TEST_TMPDIR/got")" ]
}

# No Linux is needed.
@test "command: of artifacts nothing is left when mayfly is ended, killed, or cannot start" {
	local how options
	for options in '' --jail; do
		for how in TERM KILL; do
			# shellcheck disable=SC2086 # none or one
			start_flat idle --artifact "/out=$BATS_TEST_TMPDIR/got" --artifact "/out2=$BATS_TEST_TMPDIR/got" $options -- command
			wait_for test -d "$BATS_TEST_TMPDIR/got"
			wait_for bash -c "[ \$(ls -A '$BATS_TEST_TMPDIR/got' | wc -l) = 2 ]"
			kill -s "$how" "$pid"
			wait_end
			wait_for fresh_is_gone
		done
		# shellcheck disable=SC2086
		run_mayfly run -k /none --artifact "/out=$BATS_TEST_TMPDIR/got" $options -- command
		assert_equal "$status" 125
		fresh_is_gone
	done
	for guest in /.. /out/..; do
		run_mayfly run -k /none --artifact "$guest=$BATS_TEST_TMPDIR/got" -- command
		assert_equal "$status" 125
	done
}

@test "command: a network has its addresses" {
	command -v passt > /dev/null || skip "passt is not installed"
	have_route
	mf_run -n user -- sh -c 'ip -4 -o address show dev eth0; ip route; cat /etc/resolv.conf' < /dev/null
	assert_equal "$status" 0
	assert_regex "$output" '10\.0\.2\.15/24'
	assert_regex "$output" 'default via 10\.0\.2\.2'
	assert_regex "$output" 'nameserver 10\.0\.2\.3'
}

@test "command: a root that is none is said to be none" {
	truncate -s 1M "$BATS_TEST_TMPDIR/none"
	run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" run -k "$KERNEL" -d "$BATS_TEST_TMPDIR/none" -- true < /dev/null
	assert_equal "$status" 125
	assert_regex "$stderr" '^mayfly: the guest could not run the command: .*/dev/vda'
}

@test "command: a panic is 101, a reboot before its end is 125" {
	mf_run --append 'rdinit=/bin/busybox' -- true < /dev/null # PID 1 is another, and ends
	assert_equal "$status" 101
	assert_equal "$(grep -c '^mayfly: ' <<< "$stderr")" 1
	assert_regex "$stderr" $'\nmayfly: .*panicked: Attempted to kill init'
	assert_regex "$stderr" $'^guest: .*\nguest: .*Kernel panic'
	mf_run -- sh -c 'echo why > /dev/console; reboot -f' < /dev/null
	assert_equal "$status" 125
	assert_equal "$(grep -c '^mayfly: ' <<< "$stderr")" 1
	assert_regex "$stderr" 'the guest ended before the command had'
	assert_regex "$stderr" $'(^|\n)guest: why\n'
	# Text of the console is not repeated.
	mf_run --console -- reboot -f < /dev/null
	assert_equal "$status" 125
	assert_regex "$stderr" 'the guest ended before the command had'
	refute_regex "$stderr" $'(^|\n)guest: '
}

@test "command: more memory than there is ends it with a word about that" {
	mf_run -m 64M -- sh -c 'x=$(yes | head -c 200000000); echo not reached' < /dev/null
	assert_equal "$status" 137
	assert_regex "$stderr" 'memory was used up'
}

@test "command: a time limit is 124, also for one that ignores SIGTERM and for a guest without a command" {
	SECONDS=0
	mf_run --timeout 3s -- sleep 1000 < /dev/null
	assert_equal "$status" 124
	assert_regex "$stderr" 'the time limit has passed \(3.000 s\)'
	mf_run --timeout 3s -- sh -c 'trap "" TERM; while :; do sleep 1; done' < /dev/null
	assert_equal "$status" 124
	run_flat idle --timeout 500ms
	assert_equal "$status" 124
	[ "$SECONDS" -lt "$LIMIT" ]
}

@test "command: Ctrl-C is its own, a second one within 2 seconds ends the VM" {
	start_command -- sh -c 'trap "echo caught" INT; echo ready; while :; do sleep 0.1; done'
	wait_said ready
	kill -INT "$pid"
	wait_said caught
	sleep 3
	kill -INT "$pid"
	# shellcheck disable=SC2016 # it is the other shell that expands it
	wait_for bash -c '[ "$(grep -c caught "$0")" = 2 ]' "$BATS_TEST_TMPDIR/out"
	kill -INT "$pid"
	sleep 0.3
	kill -INT "$pid" 2> /dev/null || true
	wait_end
	assert_equal "$status" 130
}

@test "command: SIGUSR1, SIGUSR2 and SIGQUIT are passed on" {
	start_command -- sh -c 'for s in USR1 USR2 QUIT; do trap "echo got-$s" $s; done; echo ready; while :; do sleep 0.1; done'
	wait_said ready
	for signal in USR1 USR2 QUIT; do
		kill "-$signal" "$pid"
		wait_said "got-$signal"
	done
	kill -TERM "$pid"
	wait_end
	assert_equal "$status" 143
}

@test "command: SIGTERM lets it end, and waits no longer than 2 seconds" {
	start_command -- sh -c 'trap "echo going; exit 3" TERM; echo ready; while :; do sleep 0.1; done'
	wait_said ready
	kill -TERM "$pid"
	wait_end
	assert_equal "$status" 143
	said going
	start_command -- sh -c 'trap "" TERM; echo ready2; while :; do sleep 0.1; done'
	wait_said ready2
	now_ms
	local began=$ms
	kill -TERM "$pid"
	wait_end
	assert_equal "$status" 143
	now_ms
	[ $((ms - began)) -lt $((2000 + AT_ONCE)) ]
}

@test "command: a terminal: size, Ctrl-C as a key, and the way out" {
	cat > "$BATS_TEST_TMPDIR/drive.py" <<- 'END'
		import fcntl, os, pty, select, struct, sys, termios, time
		pid, fd = pty.fork()
		if pid == 0:
		    os.execvp(sys.argv[1], sys.argv[1:])
		fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
		out = b""
		def until(text, limit=60):
		    global out
		    end = time.time() + limit
		    while text not in out:
		        if time.time() > end or not select.select([fd], [], [], end - time.time())[0]:
		            sys.exit(f"no {text!r} in {out!r}")
		        try:
		            out += os.read(fd, 4096)
		        except OSError:
		            sys.exit(f"the end, and no {text!r} in {out!r}")
		until(b"# ")
		os.write(fd, b"stty size; tty; sh -c 'echo n$((0))w; sleep 1000'\n")
		until(b"33 77")
		until(b"/dev/pts/")
		until(b"n0w")
		os.write(fd, b"\x03")
		os.write(fd, b"echo still-$((1+1))\n")
		until(b"still-2")
		fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 88, 0, 0))
		os.write(fd, b"until stty size | grep '44 88'; do sleep 0.2; done\n")
		until(b"\n44 88")
		os.write(fd, sys.stdin.buffer.read())
		try:
		    while os.read(fd, 4096): pass
		except OSError: pass
		print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
	END
	run "$PYTHON" "$BATS_TEST_TMPDIR/drive.py" "$MAYFLY" run -k "$KERNEL" -i "$INITRAMFS" -- sh -i <<< $'exit 5\n'
	echo "# $output"
	assert_equal "$status" 0
	assert_line --index 0 5
	run "$PYTHON" "$BATS_TEST_TMPDIR/drive.py" "$MAYFLY" run -k "$KERNEL" -i "$INITRAMFS" -- sh -i <<< $'\x1d\x1d\x1d'
	echo "# $output"
	assert_equal "$status" 0
	assert_line --index 0 125
}

@test "command: exec: many at once, each with its own streams and status" {
	start_command -- sh -c 'echo ready; while ! [ -e /end ]; do sleep 0.2; done; exit 9'
	wait_said ready
	run --separate-stderr mf_exec -e N=1 -w /tmp -- sh -c 'echo "$N $PWD"; echo e >&2; exit 4' < /dev/null
	assert_equal "$status:$output:$stderr" '4:1 /tmp:e'
	local i pids=()
	for i in 1 2 3 4 5 6 7 8; do
		head -c 300000 /dev/urandom > "$BATS_TEST_TMPDIR/in.$i"
		(mf_exec -- sh -c "cat; exit $i" < "$BATS_TEST_TMPDIR/in.$i" > "$BATS_TEST_TMPDIR/out.$i") &
		pids+=("$!")
	done
	for i in 1 2 3 4 5 6 7 8; do
		status=0
		wait "${pids[i - 1]}" || status=$?
		assert_equal "$status" "$i"
		cmp "$BATS_TEST_TMPDIR/in.$i" "$BATS_TEST_TMPDIR/out.$i"
	done
	run --separate-stderr mf_exec -- no-such-command < /dev/null
	assert_equal "$status" 127
	# One that is killed hangs its command up.
	"${DEFAULT_SIGNALS[@]}" "$MAYFLY" exec "$BATS_TEST_TMPDIR/control" -- sh -c 'echo $$ > /pid; exec sleep 1000' < /dev/null &
	wait_for mf_exec -- test -s /pid < /dev/null
	kill -KILL "$!"
	wait_for mf_exec -- sh -c '! kill -0 "$(cat /pid)" 2> /dev/null' < /dev/null
	mf_exec -- touch /end < /dev/null
	wait_end
	assert_equal "$status" 9
	run --separate-stderr mf_exec -- true < /dev/null
	assert_equal "$status" 125
	assert_regex "$stderr" "no guest listens at '.*/control'"
}

@test "command: --time and --timeline tell its steps in order" {
	mf_run --time --timeline "$BATS_TEST_TMPDIR/t.json" -- echo x < /dev/null
	assert_equal "$status" 0
	local step
	for step in "to mayfly's init" 'root mounted' 'command started' 'its first output' 'its end' 'all put away'; do
		assert_regex "$stderr" "  $step +[0-9.]+ +[0-9.]+"
	done
	run "$PYTHON" -c 'import json, sys; t = [s["at_ns"] for s in json.load(open(sys.argv[1]))["steps"]]; print(t == sorted(t), len(t) > 12)' \
		"$BATS_TEST_TMPDIR/t.json"
	assert_output 'True True'
	run "$PYTHON" "$root/perf/timeline" "$BATS_TEST_TMPDIR/t.json"
	assert_regex "$output" '^<svg .*root mounted: '
}

@test "command: a reader that leaves ends it as a pipe would" {
	run bash -c 'timeout -k 5 "$1" "$2" run -k "$3" -i "$4" -- yes < /dev/null | head -n 2; echo "${PIPESTATUS[0]}"' \
		- "$LIMIT" "$MAYFLY" "$KERNEL" "$INITRAMFS"
	assert_equal "$output" $'y\ny\n141'
}
