#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2034,SC2154 # tests are subshells, variables are of helper.bash
#
# `mayfly run --boot`: which runs are clones of a template, that they are like a boot, and what becomes of templates that are
# broken, foreign or half made.

load helper

# One template for all tests that only use it: a VM with a drive for its root.
setup_file() {
	export XDG_CACHE_HOME=$BATS_FILE_TMPDIR/cache
	mkdir "$XDG_CACHE_HOME"
	setup
	run_mayfly run --boot=auto -k "$KERNEL" -r "$ROOTFS" -- true
	assert_success
	wait_for is_made
}

setup() {
	started=()
	export MAYFLY_BOOT=auto
	cache=$XDG_CACHE_HOME/mayfly/images
	timeline=$BATS_TEST_TMPDIR/timeline
}

teardown() {
	kill_started
	end_test
}

# own_cache: none of the other tests' templates.
own_cache() {
	export XDG_CACHE_HOME=$BATS_TEST_TMPDIR/cache
	mkdir "$XDG_CACHE_HOME"
	cache=$XDG_CACHE_HOME/mayfly/images
}

# copied_cache: with a copy of the file's template, as complete as that.
copied_cache() {
	local from=$cache name
	own_cache
	mkdir -p "$cache"
	cp -a "$from/." "$cache"
	template=$(echo "$cache"/*.template)
	seal
}

# seal: the identities of the files as they are now.
seal() {
	local line file of
	chmod 600 "$template/shape"
	mapfile -t lines < "$template/shape"
	for line in "${lines[@]}"; do
		[[ $line == state\ * || $line == memory\ * ]] || echo "$line"
	done > "$template/shape"
	for file in state memory; do
		of=$("$PYTHON" -c 'import os, sys
s = os.stat(sys.argv[1])
t = lambda ns: f"{ns // 10**9}.{ns % 10**9:09d}"
print(s.st_ino, s.st_size, t(s.st_mtime_ns), t(s.st_ctime_ns))' "$template/$file")
		echo "$file $of"
	done >> "$template/shape"
	chmod 400 "$template/shape"
}

# By the name alone: they do not keep the environment by which leftovers() knows what a test has started.
makers() { pgrep -x mayfly-template || [ $? -eq 1 ]; }

# no_maker: for wait_for.
no_maker() {
	local ids
	ids=$(makers)
	[ -z "$ids" ]
}

# is_waiting: for wait_for.
is_waiting() {
	local ids
	ids=$(makers)
	[ -n "$ids" ]
}

# is_made: for wait_for.
is_made() {
	if ! compgen -G "$cache/*.template/shape" > /dev/null; then
		return 1
	fi
	no_maker
}

# assert_templates N: so many templates, and nothing half made.
assert_templates() {
	local found
	found=$(find "$cache" -maxdepth 1 -name '*.template*' -type d | wc -l)
	assert_equal "$found" "$1"
}

# from ROOT [OPTION...] -- COMMAND...: sets $boot to how it started, beside $status, $output and $stderr.
from() {
	rm -f "$timeline"
	run_mayfly run -k "$KERNEL" --timeline "$timeline" -r "$@"
	boot=$("$PYTHON" -c 'import json, sys; print(json.load(open(sys.argv[1]))["boot"])' "$timeline" 2> /dev/null) || boot=none
}

# What a command can find out about its VM, but for what is random or a time.
look='hostname; id; pwd; env | sort; cat /proc/cmdline /proc/mounts /etc/hosts /etc/resolv.conf 2> /dev/null
	for d in /sys/block/vd*; do echo "$d $(cat $d/size $d/ro $d/serial $d/queue/write_cache $d/queue/discard_max_bytes)"; done
	ls /sys/class/net; cat /sys/class/net/eth*/address /sys/class/net/*/mtu; ip address show dev eth0 2> /dev/null | sed "s/ tentative//"; ip route
	grep -c processor /proc/cpuinfo; grep MemTotal /proc/meminfo; ls /dev | sort; ls / /tmp /run; exit 3'

# like_cold ROOT [OPTION...]: the same for a clone as for a boot.
like_cold() {
	local cold
	MAYFLY_BOOT=cold from "$@" -- sh -c "$look"
	assert_equal "$status:$boot" 3:cold
	cold=$output
	from "$@" --boot=template -- sh -c "$look"
	assert_equal "$status:$boot" 3:template
	diff <(echo "$cold") <(echo "$output")
}

@test "template: the first run leaves one, and the second is a clone" {
	own_cache
	from "$ROOTFS" --boot=template -- true
	assert_failure
	assert_one_line template
	from "$ROOTFS" -- sh -c 'echo out; echo err >&2; exit 7'
	assert_equal "$status:$output:$stderr:$boot" 7:out:err:cold
	wait_for is_made
	assert_templates 1
	from "$ROOTFS" -- sh -c 'echo out; echo err >&2; exit 7'
	assert_equal "$status:$output:$stderr:$boot" 7:out:err:template
	from "$ROOTFS" --boot=cold -- true
	assert_equal "$status:$boot" 0:cold
	assert_templates 1
	assert_equal "$(stat -c %a "$cache"/*.template)" 700
	run "$MAYFLY" snap ls
	assert_success
	assert_output --partial "$(basename "$cache"/*.template)"
	run "$MAYFLY" cache ls
	assert_output --partial "$KERNEL"
	run "$MAYFLY" cache prune
	assert_success
	assert_templates 0
}

@test "template: other roots, names, environments, users and directories, as with a boot" {
	cp "$ROOTFS" "$BATS_TEST_TMPDIR/larger.ext4"
	truncate -s +5M "$BATS_TEST_TMPDIR/larger.ext4"
	like_cold "$ROOTFS"
	like_cold "$BATS_TEST_TMPDIR/larger.ext4" --name "vm-$$" -e A=1 -w /tmp -u 5:6 --tmpfs /mnt:size=1M --scratch 5M \
		--dns 192.0.2.1 --add-host other:192.0.2.2
	from "$ROOTFS" -- no-such-program
	assert_equal "$status:$boot" 127:template
	from "$ROOTFS" -- sh -c 'kill -KILL $$'
	assert_equal "$status:$boot" 137:template
}

# copied: how many runs of pages the next clone copies before its guest runs.
copied() {
	timeout -k 5 "$LIMIT" strace -f -qq -o "$BATS_TEST_TMPDIR/calls" -e trace=madvise "$MAYFLY" run -k "$KERNEL" -r "$ROOTFS" \
		--boot=template -- true < /dev/null > /dev/null
	grep -c 'MADV_POPULATE_WRITE) = 0' "$BATS_TEST_TMPDIR/calls" || [ $? -eq 1 ]
}

@test "template: a clone whose command runs leaves word of the pages that it uses, and the next ones have them" {
	copied_cache
	rm -f "$template/workingset"
	assert_equal "$(copied)" 0
	wait_for no_maker
	# It ends with a run whose command does not start.
	rm -f "$template/workingset"
	from "$ROOTFS" --boot=template -- no-such-program
	assert_equal "$status:$boot" 127:template
	SECONDS=0
	wait_for no_maker
	[ "$SECONDS" -lt 40 ]
	[ ! -e "$template/workingset" ]
	from "$ROOTFS" --boot=template -- sleep 2
	assert_equal "$status:$boot" 0:template
	wait_for no_maker
	assert_equal "$(stat -c '%a %u' "$template/workingset")" "400 $EUID"
	[ "$(copied)" -gt 20 ] || fail "only $(copied) are copied"
}

@test "template: clones have the time, and random numbers of their own" {
	local first uuid now boot_id
	from "$ROOTFS" -- sh -c 'cat /proc/sys/kernel/random/uuid /proc/sys/kernel/random/boot_id; head -c 16 /dev/urandom | od -An -tx1'
	assert_equal "$status:$boot" 0:template
	first=("${lines[@]}")
	now=$(date +%s)
	from "$ROOTFS" -- sh -c 'cat /proc/sys/kernel/random/uuid /proc/sys/kernel/random/boot_id; head -c 16 /dev/urandom | od -An -tx1
		date +%s'
	assert_equal "$boot" template
	for i in 0 1 2; do
		[ "${first[i]}" != "${lines[i]}" ] || fail "twice: ${lines[i]}"
	done
	((lines[3] >= now && lines[3] <= $(date +%s))) || fail "$now, and in the guest ${lines[3]}"
}

@test "template: volumes, read-only and writable drives" {
	local dir=$BATS_TEST_TMPDIR
	own_cache
	mkdir "$dir/volume"
	echo kept > "$dir/volume/file"
	cp "$ROOTFS" "$dir/written.ext4"
	from "$ROOTFS" -d "$ROOTFS:ro" -v "$dir/volume:/mnt/volume:copy" -v "$dir/written.ext4:/mnt/image:rw" -- true
	assert_equal "$status:$boot" 0:cold
	wait_for is_made
	like_cold "$ROOTFS" -d "$ROOTFS:ro" -v "$dir/volume:/mnt/volume:copy" -v "$dir/written.ext4:/mnt/image:rw"
	from "$ROOTFS" -d "$ROOTFS:ro" -v "$dir/volume:/mnt/volume:copy" -v "$dir/written.ext4:/mnt/image:rw" -- \
		sh -c 'cat /mnt/volume/file; echo new > /mnt/volume/file; echo new > /mnt/image/new; ! echo > /dev/vdb'
	assert_equal "$status:$output:$boot" 0:kept:template
	assert_equal "$(< "$dir/volume/file")" kept
	from "$dir/written.ext4" -d "$ROOTFS:ro" -v "$dir/volume:/mnt/volume:copy" -v "$dir/written.ext4:/mnt/image:rw" -- true
	from "$ROOTFS" -d "$dir/written.ext4:ro" -v "$dir/volume:/mnt/volume:copy" -v "$ROOTFS:/mnt/image" -- sh -c 'mkdir /x; mount /dev/vdb /x; cat /x/new'
	assert_equal "$status:$output" 0:new
}

@test "template: taps and user networks, of which the template knows nothing" {
	[ "$(id -u)" = 0 ] || skip "taps need root"
	[ -c /dev/net/tun ] || skip "no /dev/net/tun"
	own_cache
	ip tuntap add dev mf-one mode tap
	ip tuntap add dev mf-two mode tap
	ip address add 10.1.0.1/24 dev mf-two
	ip link set mf-one up
	ip link set mf-two up
	from "$ROOTFS" -n tap=mf-one,ip=10.2.0.2/24 -- true
	assert_equal "$status:$boot" 0:cold
	wait_for is_made
	like_cold "$ROOTFS" -n tap=mf-two,ip=10.1.0.2/24,gw=10.1.0.1
	from "$ROOTFS" -n tap=mf-two,ip=10.1.0.2/24 -- ping -c 1 -W 20 10.1.0.1
	assert_equal "$status:$boot" 0:template
	from "$ROOTFS" -n tap=mf-two,ip=10.1.0.2/24,mac=02:00:00:00:00:42 -- cat /sys/class/net/eth0/address
	assert_equal "$output:$boot" 02:00:00:00:00:42:template
	ip link del mf-one
	ip link del mf-two
	if command -v passt > /dev/null; then
		have_route
		from "$ROOTFS" -n user -- true
		assert_equal "$status:$boot" 0:cold
		wait_for no_maker
		like_cold "$ROOTFS" -n user
	fi
}

@test "template: in a jail, in the background, with a terminal, and with exec" {
	[ "$(id -u)" = 0 ] || skip "a jail needs root here"
	from "$ROOTFS" --jail -- sh -c 'echo out'
	assert_equal "$status:$output:$boot" 0:out:template
	on_tty expect=up 'send=exit 4\r' -- "$MAYFLY" run --boot=template -k "$KERNEL" -r "$ROOTFS" -t -- sh -c 'tty; echo u""p; exec sh'
	assert_equal "$status" 4
	assert_output --partial /dev/pts/
	run "$MAYFLY" run --boot=template -k "$KERNEL" -r "$ROOTFS" --detach --name "vm$$" --timeline "$timeline" -- sleep 1000
	assert_success
	run "$MAYFLY" exec "vm$$" -- hostname
	assert_output "vm$$"
	run "$MAYFLY" stop "vm$$"
	run "$MAYFLY" wait "vm$$"
	grep -q '"boot": *"template"' "$timeline"
	run "$MAYFLY" rm "vm$$"
}

@test "template: a broken one is removed, and the run boots" {
	local break
	for break in 'truncate -s -1 memory' 'truncate -s +1 memory' 'rm state' 'rm shape' ': > shape' 'cp state s; mv -f s state' \
		'printf x | dd of=memory bs=1 seek=20000000 conv=notrunc' 'echo >> shape' 'rm memory; mkdir memory' 'ln -s shape s; mv s state' \
		'echo x > workingset'; do
		[ ! -e "$BATS_TEST_TMPDIR/cache" ] || rm -r "$BATS_TEST_TMPDIR/cache"
		XDG_CACHE_HOME=$BATS_FILE_TMPDIR/cache
		setup
		copied_cache
		from "$ROOTFS" -- true
		assert_equal "$status:$boot" 0:template
		(cd "$template" && chmod 600 ./* && eval "$break" && chmod 400 ./*) 2> /dev/null
		from "$ROOTFS" --boot=template -- true
		assert_failure
		from "$ROOTFS" -- echo out
		assert_equal "$break:$status:$output:$boot" "$break:0:out:cold"
		# shellcheck disable=SC2046 # a list of numbers
		kill -KILL $(makers) 2> /dev/null || true
		wait_for no_maker
	done
}

@test "template: one of another processor: the run boots, and it is removed" {
	copied_cache
	chmod 600 "$template"/*
	"$PYTHON" - "$template/state" <<- 'END'
		import struct, sys
		data = bytearray(open(sys.argv[1], "rb").read())
		at = 16 - 8
		while data[at:at + 4] != b"cpid":
		    at += 24 + (struct.unpack_from("<I", data, at + 12)[0] + 7) // 8 * 8
		length = struct.unpack_from("<I", data, at + 12)[0]
		for i in range(struct.unpack_from("<I", data, at + 24)[0]):
		    entry = at + 28 + 28 * i
		    if struct.unpack_from("<I", data, entry)[0] == 7:
		        struct.pack_into("<I", data, entry + 16, 0xffffffff)
		total = 1
		words = list(struct.unpack_from("<2Q", data, at)) + list(struct.unpack_from(f"<{(length + 7) // 8}Q", data, at + 24))
		for word in words:
		    total = (total ^ word) * 0x9e3779b97f4a7c15 & 0xffffffffffffffff
		    total ^= total >> 32
		struct.pack_into("<Q", data, at + 16, total)
		open(sys.argv[1], "wb").write(data)
	END
	chmod 400 "$template"/*
	seal
	cp -a "$template" "$BATS_TEST_TMPDIR/same"
	from "$ROOTFS" -- echo out
	assert_equal "$status:$output:$boot" 0:out:cold
	run makers
	assert_output ''
	[ ! -e "$template" ] || fail "it is still there"
	cp -a "$BATS_TEST_TMPDIR/same" "$template"
	seal
	from "$ROOTFS" --boot=template -- true
	assert_failure
	assert_one_line 'CPU'
}

@test "template: one of another user, or open to others, is not used" {
	[ "$(id -u)" = 0 ] || skip "needs root to give files away"
	copied_cache
	chown -R 1234 "$template"
	from "$ROOTFS" --boot=template -- true
	assert_failure
	assert_one_line "$template"
	from "$ROOTFS" -- true
	assert_equal "$status:$boot" 0:cold
	[ -e "$template/memory" ] || fail "removed what is another user's"
	chown -R 0 "$template"
	chmod 755 "$template"
	from "$ROOTFS" -- true
	assert_equal "$status:$boot" 0:cold
	chmod 700 "$template"
	seal
	from "$ROOTFS" -- true
	assert_equal "$status:$boot" 0:template
	mv "$template" "$cache/elsewhere"
	ln -s elsewhere "$template"
	from "$ROOTFS" -- true
	assert_equal "$status:$boot" 0:cold
	rm "$template"
	mv "$cache/elsewhere" "$template"
	chown 1234 "$template/memory"
	from "$ROOTFS" -- true
	assert_equal "$status:$boot" 0:cold
	wait_for no_maker
}

@test "template: a maker that is killed leaves no template, and the next run makes it" {
	local ids
	own_cache
	start_mayfly run -k "$KERNEL" -r "$ROOTFS" -- sleep 3
	wait_for is_waiting
	ids=$(makers)
	# Not by wait_for: its pauses are as long as the work.
	until compgen -G "$cache/.*.template.new/memory"; do :; done
	# shellcheck disable=SC2086 # a list of numbers
	kill -KILL $ids
	wait_for no_maker
	wait_end
	! compgen -G "$cache/*.template" || fail "half of one"
	from "$ROOTFS" -- true
	assert_equal "$status:$boot" 0:cold
	wait_for is_made
	assert_templates 1
	from "$ROOTFS" -- true
	assert_equal "$status:$boot" 0:template
}

@test "template: two first runs at once leave one" {
	own_cache
	"$MAYFLY" run -k "$KERNEL" -r "$ROOTFS" -- true < /dev/null 3>&- &
	from "$ROOTFS" -- true
	assert_equal "$status" 0
	wait $!
	wait_for is_made
	assert_templates 1
}

@test "template: a cache without space, and one that cannot be written" {
	[ "$(id -u)" = 0 ] || skip "needs root to mount a small file system"
	own_cache
	mkdir -p "$cache"
	mount -t tmpfs -o size=4m tmpfs "$cache"
	from "$ROOTFS" -- echo out
	assert_equal "$status:$output:$boot" 0:out:cold
	wait_for no_maker
	assert_templates 0
	mount -o remount,ro "$cache"
	from "$ROOTFS" -- echo out
	assert_equal "$status:$output:$boot" 0:out:cold
	mount -o remount,rw,size=100m "$cache"
	from "$ROOTFS" -- true
	wait_for is_made
	assert_templates 1
	umount "$cache"
}

@test "template: the maker keeps nothing of the run" {
	local id ids link
	own_cache
	cd "$BATS_TEST_TMPDIR"
	start_mayfly run -k "$KERNEL" -r "$ROOTFS" -- sh -c 'echo up; sleep 1000'
	until compgen -G "$cache/.*.template.new/memory"; do :; done
	ids=$(makers)
	[ -n "$ids" ] || fail "it has ended"
	# shellcheck disable=SC2086 # a list of numbers
	kill -STOP $ids
	for id in $ids; do
		for link in "/proc/$id/fd/"[012] "/proc/$id/cwd"; do
			[[ $(readlink "$link") == /dev/null || $(readlink "$link") == / ]] || fail "$(readlink "$link")"
		done
		assert_equal "$(tr -d '\0' < "/proc/$id/environ")" ''
		[ "$(ps -o sid= -p "$id")" -ne "$(ps -o sid= -p "$pid")" ] || fail "in the session of the run"
	done
	# shellcheck disable=SC2086 # a list of numbers
	kill -CONT $ids
	wait_for is_made
	wait_said up
	kill "$pid"
	wait_end
}

@test "template: a run that fails leaves none" {
	own_cache
	run_mayfly run -k "$KERNEL" -r "$BATS_TEST_TMPDIR/missing" -- true
	assert_failure
	wait_for no_maker
	assert_templates 0
}

@test "template: a guest that could not become one is tried again an hour later" {
	copied_cache
	rm "$template"/{state,memory}
	sed -i '/^state /d; /^memory /d' "$template/shape"
	chmod 400 "$template/shape"
	from "$ROOTFS" --boot=template -- true
	assert_failure
	from "$ROOTFS" -- true
	assert_equal "$status:$boot" 0:cold
	run makers
	assert_output ''
	touch -d '61 minutes ago' "$template/shape"
	from "$ROOTFS" -- true
	assert_equal "$status:$boot" 0:cold
	wait_for test -e "$template/memory"
	wait_for no_maker
	from "$ROOTFS" -- true
	assert_equal "$status:$boot" 0:template
}

@test "template: what cannot be a clone is said" {
	local with
	for with in --console '--append x' '-c 2' '-m 64M'; do
		# shellcheck disable=SC2086 # options
		from "$ROOTFS" --boot=template $with -- true
		assert_failure
		assert_one_line 'template'
	done
	run_mayfly run --boot=template -k "$KERNEL" -r "$ROOTFS"
	assert_failure
	assert_one_line 'command'
	run_mayfly run --boot=warm -k "$KERNEL" -r "$ROOTFS" -- true
	assert_failure
	assert_one_line 'auto, cold or template'
	MAYFLY_BOOT=warm run_mayfly run -k "$KERNEL" -r "$ROOTFS" -- true
	assert_failure
	assert_one_line 'MAYFLY_BOOT'
	: > "$BATS_TEST_TMPDIR/empty"
	from "$ROOTFS" -d "$BATS_TEST_TMPDIR/empty:ro" -- cat /sys/block/vdb/size
	assert_equal "$status:$output:$boot" 0:0:cold
}
