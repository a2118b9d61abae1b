#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2153,SC2154 # each test is a subshell; the variables are of helper.bash
#
# The command line: help, --dry-run, and every kind of bad input, each of which costs one line and status 125. No guest
# runs here; the tests of drives and of /dev/kvm itself need a /dev/kvm that opens.

load helper

setup_file() {
	cd "$BATS_FILE_TMPDIR" || return 1
	elf() { "$PYTHON" -I -S "$BATS_TEST_DIRNAME/elf" "$@"; }
	elf good
	elf arm64 machine=183
	elf riscv machine=243
	elf bits32 class=1
	elf big_endian data=2
	elf relocatable type=1
	elf no_segments phnum=0
	elf many_segments phnum=65535
	elf odd_headers phentsize=32
	elf headers_outside phoff=0xfffffffffffffff0
	elf outside_file seg=0x100000,0x100000,0x100000
	elf outside_ram seg=0x100000,4096,4096 seg=0x10000000,4096,4096
	elf in_gap seg=0x100000,4096,4096 seg=0xbffff000,4096,0x2000
	elf low seg=0x8000,4096,4096 entry=0x8000
	elf overlapping seg=0x100000,8192,8192 seg=0x101000,4096,4096
	elf wrapping seg=0x100000,4096,0xffffffffffffff00
	elf wrapping_address seg=0x100000,4096,4096 seg=0xfffffffffffff000,4096,0x2000
	elf wrapping_offset seg=0x100000,4096,4096,0xfffffffffffff800
	elf more_in_file seg=0x100000,8192,4096
	elf entry_outside entry=0x40000000
	: > empty
	head -c 40 good > truncated_header
	head -c 6000 good > truncated_segment
	head -c 100000 /dev/urandom > random
	printf 'not a kernel' > text
	gzip -c good > gzipped
	mkdir directory
	mkfifo fifo
	chmod 000 text
	truncate -s 1M disk
	truncate -s 1000 odd_disk
	truncate -s 200M large
}

# refused REGEX ARG...: `mayfly run ARG...` says one line like REGEX, nothing else, in 2 seconds, with status 125.
refused() {
	local want=$1 began
	shift
	cd "$BATS_FILE_TMPDIR" || return 1
	now_ms
	began=$ms
	run_mayfly run "$@"
	now_ms
	assert_equal "$status" 125
	assert_equal "$output" ''
	assert_one_line "$want"
	[ $((ms - began)) -lt 2000 ] || fail "it took $((ms - began)) ms"
}

# Capabilities of root that make file modes meaningless. An ordinary user has none of them.
as_user() {
	if [ "$(id -u)" = 0 ]; then
		setpriv --bounding-set -dac_override,-dac_read_search --inh-caps -dac_override,-dac_read_search "$@"
	else
		"$@"
	fi
}

need_kvm() {
	[ -w /dev/kvm ] || skip "/dev/kvm cannot be opened here, and drives are opened after it"
}

# In a mount namespace, with the shell line first.
with_mounts() {
	local line=$1 how=(unshare -m)
	shift
	[ "$(id -u)" = 0 ] || how=(unshare -rm)
	"${how[@]}" true 2> /dev/null || skip "no mount namespaces for this user"
	run --separate-stderr timeout 10 "${how[@]}" bash -c "set -e; $line" bash "$@" < /dev/null
}

@test "cli: --version and --help" {
	run --separate-stderr "$MAYFLY" --version
	assert_equal "$status" 0
	assert_regex "$output" '^mayfly [0-9]+\.[0-9]+\.[0-9]+$'
	assert_equal "$stderr" ''
	run --separate-stderr "$MAYFLY" --help
	assert_equal "$status" 0
	assert_line --regexp '^Usage: mayfly '
	assert_line --regexp '^ +run '
	assert_equal "$stderr" ''
}

@test "cli: run --help names every option, in lines that fit" {
	run --separate-stderr "$MAYFLY" run --help
	assert_equal "$status" 0
	assert_equal "$stderr" ''
	local option
	for option in kernel initrd append cmdline entry cpus mem drive net config dry-run log-level log quiet; do
		assert_line --regexp "^ +(-., )?--$option( |$)"
	done
	for option in "${lines[@]}"; do
		[ "${#option}" -le 100 ] || fail "too long: $option"
	done
	assert_equal "$("$MAYFLY" run -h)" "$output"
}

@test "cli: output that cannot be written is an error" {
	run "$MAYFLY" --version > /dev/null
	local command
	for command in --version --help 'run --help' 'run --dry-run -k good'; do
		status=0
		# shellcheck disable=SC2086 # words
		stderr=$("$MAYFLY" $command 2>&1 > /dev/full) || status=$?
		assert_equal "$status" 125
		assert_one_line 'No space left'
	done
}

# What fingers that know other programs type, and a word of what the message tells them to type here.
@test "cli: options and commands of docker and others are answered by those of mayfly" {
	local line typed
	mkdir d
	while IFS='|' read -r typed line; do
		# shellcheck disable=SC2086 # words
		run --separate-stderr "$MAYFLY" $typed < /dev/null
		assert_equal "$status" 125
		assert_equal "$output" ''
		assert_one_line "$line"
	done <<- 'END' # typed|what the message has
		|mayfly run .*--help
		ls|ps
		list|ps
		ssh vm1|exec
		pull debian|images pull
		run -d debian:12 sh|--detach
		run -d debian sh|--detach
		run -it -r d -- sh|-t
		run -ti -r d -- sh|-t
		run -i -t -r d -- sh|-t
		run -d -r d -- sh|--detach
		run -kernel good|--kernel
		run -net user|--net
		run -n bridge -r d|tap=NAME
		run -n user,8080:80 -r d|-p
		run --memory 512M -r d|-m
		run --cpus 0.5 -r d|cpu-max
		run --cidfile x -r d|--name
		run --mount type=bind -r d|-v
		run --network host -r d|-n
		run --read-only -r d|leave it out
		run --shm-size 1G -r d|--tmpfs
		run --restart always -r d|systemd
		run -m 512 -r d|512M
		run -d d -k good|-r d
		run -r d:overlay=2G -k good|--drive
		run -v missing:/x -r d -- sh|volume.*missing
		run -v d:/x:z -r d -- sh|:copy
		run -- uname|-r DIR
		exec vm1|COMMAND
	END
}

@test "cli: a kernel that only its owner may read is named" {
	[ "$EUID" -eq 0 ] || skip 'only root can change its user'
	mkdir -m 755 bin
	mkdir -m 700 home
	cp "$MAYFLY" bin/mayfly
	touch home/vmlinux
	ln -s "$PWD/home/vmlinux" bin/vmlinux
	chmod 755 "$BATS_TEST_TMPDIR" . bin bin/mayfly
	run --separate-stderr env -u MAYFLY_KERNEL setpriv --reuid 65534 --regid 65534 --clear-groups bin/mayfly run -d /dev/null
	assert_equal "$status" 125
	assert_one_line "bin/vmlinux': Permission denied"
}

@test "cli: no command, and a command that does not exist" {
	local args
	for args in '' 'rum' '--vers' '-k x'; do
		# shellcheck disable=SC2086 # words
		run --separate-stderr "$MAYFLY" $args
		assert_equal "$status" 125
		assert_equal "$output" ''
		assert_one_line "--help"
	done
	run --separate-stderr "$MAYFLY" rum
	assert_one_line "'rum'.*'run'"
}

@test "cli: options that do not exist, abbreviations, missing and surplus values" {
	refused "--kernal.*--kernel" --kernal good
	refused "'-q'" -q
	refused "'--kern'" --kern good
	refused "--cpus.*needs a value" -k good --cpus
	refused "--dry-run.*takes no value" --dry-run=yes
	refused "'good'.*rootfs.*'--'" -r / good
}

@test "cli: --dry-run shows what will be: ids by the place of a drive, and the MTU" {
	cd "$BATS_FILE_TMPDIR" || return 1
	run_mayfly run --dry-run -k good -r disk -d odd_disk --net user
	assert_success
	assert_equal "$("$PYTHON" -c '
import json, sys
c = json.loads(sys.argv[1])
print([(d["id"], d["path"]) for d in c["drives"]], c["nets"][0]["mtu"])' "$output")" \
		"[('root', 'disk'), ('drive1', 'odd_disk')] 65520"
}

@test "cli: restore replaces an interface by its place, also where there are as many as there can be" {
	local nets=() i
	for i in {0..7}; do
		nets+=(--net "tap=old$i,mac=06:00:00:00:00:0$i")
	done
	cd "$BATS_FILE_TMPDIR" || return 1
	mkdir snapshot
	"$MAYFLY" run --dry-run -k good -r disk "${nets[@]}" > snapshot/config.json
	run_mayfly restore --dry-run --net tap=new0 --net tap=new1 snapshot
	assert_success
	assert_equal "$("$PYTHON" -c '
import json, sys
nets = json.loads(sys.argv[1])["nets"]
print(len(nets), [(n["id"], n["tap"], n["mac"][-2:]) for n in nets[:3]])' "$output")" \
		"8 [('net0', 'new0', '00'), ('net1', 'new1', '01'), ('net2', 'old2', '02')]"
	run_mayfly restore --dry-run --net tap=new0,mac=06:00:00:00:00:09 snapshot
	assert_equal "$status" 125
	assert_one_line "keeps its MAC address"
	run_mayfly restore --dry-run "${nets[@]}" --net tap=one-more snapshot
	assert_equal "$status" 125
	assert_one_line "the snapshot has 8 interfaces"
}

@test "cli: what --dry-run prints is a configuration that means the same" {
	cd "$BATS_FILE_TMPDIR" || return 1
	run_mayfly run --dry-run -k good -i text -c 3 -m 300M --entry pvh -d disk:ro:id=a:serial=S1 -d 'odd:disk:id=b' \
		--append 'a "b" \ c' --log-level info
	assert_equal "$status" 0
	assert_equal "$stderr" ''
	printf '%s' "$output" > first.json
	"$PYTHON" -c 'import json, sys; d = json.load(sys.stdin); assert d["cpus"] == 3, d' < first.json
	run_mayfly run --dry-run --config first.json
	assert_equal "$status" 0
	assert_equal "$output" "$(< first.json)"
	# Options win over the file, wherever they stand.
	run_mayfly run --cpus 4 --config first.json --dry-run
	assert_equal "$output" "$(sed 's/"cpus": 3/"cpus": 4/' first.json)"
}

@test "kernel: missing, empty, truncated, directory, FIFO, device, unreadable" {
	refused "kernel 'missing': .*No such file" -k missing
	refused "kernel 'empty': is empty" -k empty
	refused "kernel 'truncated_header': is truncated" -k truncated_header
	refused "kernel 'truncated_segment': .*truncated" -k truncated_segment
	refused "kernel 'directory': " -k directory
	refused "kernel 'fifo': " -k fifo
	refused "kernel '/dev/zero': " -k /dev/zero
	refused "must not be empty" -k ''
	cd "$BATS_FILE_TMPDIR" || return 1
	run --separate-stderr as_user "$MAYFLY" run -k text
	assert_equal "$status" 125
	assert_one_line "kernel 'text': .*Permission denied"
}

@test "kernel: of another machine, size, byte order or format" {
	refused "kernel 'arm64': is for ARM64.*x86-64" -k arm64
	refused "kernel 'riscv': is for RISC-V" -k riscv
	refused "kernel 'bits32': has no program headers" -k bits32
	refused "kernel 'big_endian': .*little-endian" -k big_endian
	refused "kernel 'relocatable': .*type 1" -k relocatable
	refused "kernel 'random': is neither an ELF file nor a bzImage" -k random
	refused "kernel 'gzipped': .*gzip" -k gzipped
}

@test "kernel: program headers that cannot be" {
	refused "kernel 'no_segments': .*no program headers" -k no_segments
	refused "kernel 'many_segments': .*65535 program headers" -k many_segments
	refused "kernel 'odd_headers': .*32 bytes" -k odd_headers
	refused "kernel 'headers_outside': .*truncated" -k headers_outside
}

@test "kernel: segments outside RAM, overlapping, wrapping" {
	refused "kernel 'outside_file': .*truncated" -k outside_file
	refused "kernel 'outside_ram': segment 1 .*guest memory ends" -k outside_ram
	refused "kernel 'in_gap': segment 1 .*3 GiB" -k in_gap -m 4G
	refused "kernel 'low': .*1 MiB" -k low
	refused "kernel 'overlapping': segments 0 .* and 1 .*overlap" -k overlapping
	refused "kernel 'wrapping': segment 0 " -k wrapping
	refused "kernel 'wrapping_address': segment 1 " -k wrapping_address
	refused "kernel 'wrapping_offset': segment 0 .*truncated" -k wrapping_offset
	refused "kernel 'more_in_file': segment 0 .*more bytes" -k more_in_file
	refused "kernel 'entry_outside': .*entry point" -k entry_outside
}

@test "kernel: none is named and none is there" {
	cp "$MAYFLY" "$BATS_TEST_TMPDIR/mayfly"
	[ ! -e /usr/share/mayfly/vmlinux ] || skip "this host has a kernel in /usr/share/mayfly"
	MAYFLY=$BATS_TEST_TMPDIR/mayfly MAYFLY_KERNEL='' refused "no kernel.*MAYFLY_KERNEL.*-k FILE" -i good
	MAYFLY_KERNEL=missing refused "'missing' from .MAYFLY_KERNEL: No such file" -i good
}

@test "initrd: larger than RAM, missing, empty, a directory" {
	refused "initrd 'large': " -k good -i large -m 64M
	refused "initrd 'missing': .*No such file" -k good -i missing
	refused "initrd 'empty': .*empty" -k good -i empty
	refused "initrd 'directory': " -k good -i directory
	refused "initrd 'fifo': " -k good -i fifo
}

@test "command line: too long, as one option and as a sum" {
	local long
	long=$(printf '%2048s' '' | tr ' ' x)
	refused "--append .*longer than 2047" -k good -a "$long"
	refused "--cmdline .*longer than 2047" -k good --cmdline "$long"
	refused "command line has [0-9]+ bytes; at most 2047" -k good -a "${long:10}"
	refused "append and cmdline" -k good -a x --cmdline y
}

@test "numbers: vCPUs and memory out of range or no numbers" {
	local cpus mem
	for cpus in 0 33 -1 1.5 '' ' 1' 0x2 18446744073709551617; do
		refused "--cpus $cpus.*must be 1 to 32" -k good --cpus "$cpus"
	done
	for mem in 0 1K 9223372036854775808 18446744073709551617 99999999999T -1 12X ''; do
		refused "--mem $mem.*must be" -k good --mem "$mem"
	done
	refused "--entry bios.*auto, linux64 or pvh" -k good --entry bios
	refused "--log-level loud.*must be" -k good --log-level loud
}

@test "drive: what is wrong with the text" {
	refused "--drive disk:id=a/b.*must be 1 to 63" -k good -d disk:id=a/b
	refused "--drive disk:serial=.*1 to 20" -k good -d disk:serial=123456789012345678901
	refused "same id 'x'" -k good -d disk:id=x -d odd_disk:id=x
	refused "--drive disk:ro:rw" -k good -d disk:ro:rw
	refused "--drive .*path" -k good -d :ro
	local many=()
	for _ in {1..17}; do many+=(-d disk:ro); done
	refused "at most 16 drives" -k good "${many[@]}"
}

@test "drive: missing, directory, odd size, unreadable, FIFO" {
	need_kvm
	refused "drive 'drive0': .*'missing'.*No such file" -k good -d missing
	refused "drive directory': 'directory' is a directory" -k good -d disk -d directory
	refused "drive 'a': .*'odd_disk'.* 1000 bytes.*512" -k good -d odd_disk:id=a
	refused "drive 'drive0': .*'fifo'" -k good -d fifo
	cd "$BATS_FILE_TMPDIR" || return 1
	run --separate-stderr as_user "$MAYFLY" run -k good -d text:ro
	assert_equal "$status" 125
	assert_one_line "drive 'drive0': .*'text'.*Permission denied"
	chmod 400 disk
	run --separate-stderr as_user "$MAYFLY" run -k good -d disk
	chmod 600 disk
	assert_equal "$status" 125
	assert_one_line "drive 'drive0': .*'disk'.*Permission denied"
}

# mkfs.erofs, and the cache, are the test's: images of 1000 bytes.
@test "drive: what is wrong with the image of a directory is said of the directory" {
	local jail
	need_kvm
	mkdir "$BATS_TEST_TMPDIR/bin"
	# shellcheck disable=SC2016 # it is the script that expands it
	printf '#!/bin/sh\nhead -c 1000 /dev/zero > "$2"\n' > "$BATS_TEST_TMPDIR/bin/mkfs.erofs"
	chmod +x "$BATS_TEST_TMPDIR/bin/mkfs.erofs"
	export PATH=$BATS_TEST_TMPDIR/bin:$PATH XDG_CACHE_HOME=$BATS_TEST_TMPDIR/cache
	for jail in '' --jail; do
		# shellcheck disable=SC2086 # no word, or one
		refused "drive 'drive1': .*'directory'.* 1000 bytes" -k good --quiet -d disk -d directory:ro $jail
		refute_regex "$stderr" "cache|erofs|images"
	done
}

@test "drive: the same image twice, one of them writable" {
	need_kvm
	refused "drive 'drive1': .*'disk' is in use" -k good -d disk -d disk
	refused "drive 'drive1': .*'disk' is in use" -k good -d disk:ro -d disk
}

@test "config: syntax errors have line and column" {
	cd "$BATS_FILE_TMPDIR" || return 1
	printf '{\n  "cpus": 2,\n  "mem" "1G"\n}\n' > bad.json
	refused "bad.json.*3.*[0-9]" --config bad.json
	printf '{ "cpus": 2' > cut.json
	refused "cut.json.*1" --config cut.json
	printf '[]' > array.json
	refused "array.json.*object" --config array.json
	: > none.json
	refused "none.json.*line 1" --config none.json
	refused "missing.json.*No such file" --config missing.json
	refused "directory.*regular file" --config directory
	printf '{%2000000s}' '' > huge.json
	refused "huge.json.*larger" --config huge.json
	printf '{ "cpus": 2, "cpus": 3 }' > twice.json
	refused "twice.json.*cpus" --config twice.json
}

@test "config: unknown keys and wrong types are named" {
	cd "$BATS_FILE_TMPDIR" || return 1
	local key
	printf '{ "cpu": 2 }' > a.json
	refused "a.json.*cpu" --config a.json
	printf '{ "cpus": true }' > a.json
	refused "a.json.*cpus" --config a.json
	printf '{ "cpus": 2.5 }' > a.json
	refused "a.json.*cpus" --config a.json
	printf '{ "cpus": -1 }' > a.json
	refused "a.json.*cpus" --config a.json
	printf '{ "cpus": 1e400 }' > a.json
	refused "a.json.*overflow" --config a.json
	printf '{ "kernel": 7 }' > a.json
	refused "a.json.*kernel" --config a.json
	printf '{ "kernel": "a\\u0000b" }' > a.json
	refused "a.json.*u0000" --config a.json
	key=$("$MAYFLY" run --dry-run -k good -d disk | "$PYTHON" -c \
		'import json, sys; print(next(k for k, v in json.load(sys.stdin).items() if isinstance(v, list)))')
	printf '{ "%s": [ { "path": "disk", "colour": 1 } ] }' "$key" > a.json
	refused "a.json.*colour" --config a.json
	printf '{ "%s": { "path": "disk" } }' "$key" > a.json
	refused "a.json.*$key" --config a.json
	printf '{ "%s": [ { "id": "x" } ] }' "$key" > a.json
	refused "a.json.*path" --config a.json
}

@test "kvm: /dev/kvm missing" {
	# shellcheck disable=SC2016 # for the inner shell
	with_mounts 'mount -t tmpfs tmpfs /dev; exec "$@"' "$MAYFLY" run -k "$BATS_FILE_TMPDIR/good"
	assert_equal "$status" 125
	assert_equal "$output" ''
	assert_one_line '/dev/kvm.*No such file'
}

@test "kvm: /dev/kvm forbidden" {
	[ -e /dev/kvm ] || skip "no /dev/kvm here to forbid"
	[ "$(id -u)" = 0 ] || skip "only root can take its own rights away here"
	: > "$BATS_TEST_TMPDIR/kvm"
	chmod 000 "$BATS_TEST_TMPDIR/kvm"
	# shellcheck disable=SC2016 # for the inner shell
	with_mounts 'mount --bind "$1" /dev/kvm; shift
		exec setpriv --bounding-set -dac_override,-dac_read_search "$@"' \
		"$BATS_TEST_TMPDIR/kvm" "$MAYFLY" run -k "$BATS_FILE_TMPDIR/good"
	assert_equal "$status" 125
	assert_equal "$output" ''
	assert_one_line '/dev/kvm.*Permission denied'
}

@test "kvm: /dev/kvm is something else" {
	[ -e /dev/kvm ] || skip "no /dev/kvm here to mount over"
	# shellcheck disable=SC2016 # for the inner shell
	with_mounts 'mount --bind /dev/null /dev/kvm; exec "$@"' "$MAYFLY" run -k "$BATS_FILE_TMPDIR/good"
	assert_equal "$status" 125
	assert_equal "$output" ''
	assert_one_line '/dev/kvm'
}

@test "standard files: closed ones change nothing" {
	cd "$BATS_FILE_TMPDIR" || return 1
	local want
	want=$("$MAYFLY" run --dry-run -k good)
	assert_equal "$("$MAYFLY" run --dry-run -k good <&- 2>&-)" "$want"
	status=0
	"$MAYFLY" run --dry-run -k good <&- >&- 2>&- || status=$?
	assert_equal "$status" 0
	# Nothing of mayfly's gets the number of a standard file: the message must not go into the kernel's.
	cp good copy
	for fds in '<&-' '>&-' '<&- >&-' '<&- >&- 2>&-'; do
		status=0
		eval "stderr=\$(\"\$MAYFLY\" run -k copy -i missing 2>&1 $fds)" || status=$?
		assert_equal "$status" 125
		[[ $fds == *'2>&-'* ]] || assert_one_line "initrd 'missing'"
		cmp good copy
	done
}

@test "log: a file that cannot be one" {
	refused "log 'directory'" -k good --log directory
	refused "log 'fifo'" -k good --log fifo
	refused "log 'missing/log'" -k good --log missing/log
}

# ran_doctor: status and messages fit together, every check has one line, and what is not ok has its fix.
ran_doctor() {
	local line failed=0
	for line in "${lines[@]}"; do
		[[ $line =~ ^(ok|warn|fail)\ +[a-z0-9_]+\ +[^\ ] ]] || fail "no finding: $line"
		[[ $line == ok* || $line == *'; fix: '?* ]] || fail "no fix: $line"
		[[ $line != fail* ]] || failed=1
	done
	[ "${#lines[@]}" -ge 19 ] || fail "only ${#lines[@]} findings"
	assert_equal "$status" "$failed"
	if [ "$failed" = 1 ]; then
		assert_one_line 'no guest can run on this host: see '
	else
		assert_equal "$stderr" ''
	fi
}

@test "doctor: this host, as lines and as JSON" {
	run_mayfly doctor
	ran_doctor
	local findings=$output code=$status
	run_mayfly doctor --json
	assert_equal "$status" "$code"
	"$PYTHON" -c 'import json, sys
d = json.load(sys.stdin)
assert d["usable"] == (sys.argv[1] == "0"), d
names = [line.split()[:2] for line in sys.argv[2].splitlines()]
assert names == [[c["level"], c["name"]] for c in d["checks"]], d
assert all(c["text"] and bool(c["fix"]) == (c["level"] != "ok") for c in d["checks"]), d' "$code" "$findings" <<< "$output"
}

@test "doctor: options and output that are wrong" {
	run_mayfly doctor --jason
	assert_equal "$status" 125
	assert_one_line "'--jason'.*'--json'"
	run_mayfly doctor --help
	assert_equal "$status" 0
	assert_line --regexp '^ +--json '
	status=0
	stderr=$("$MAYFLY" doctor 2>&1 > /dev/full) || status=$?
	assert_equal "$status" 125
	assert_one_line 'No space left'
}

@test "doctor: without /dev, /proc, /sys and a PATH" {
	# shellcheck disable=SC2016 # for the inner shell
	with_mounts 'mount -t tmpfs tmpfs /dev; mount -t tmpfs tmpfs /sys; mount -t tmpfs tmpfs /proc
		PATH= MAYFLY_KERNEL=/ exec "$@"' "$MAYFLY" doctor
	assert_equal "$status" 1
	ran_doctor
	assert_line --regexp '^fail +kvm .*/dev/kvm: No such file'
	assert_line --regexp '^warn +kernel .*; fix: '
}

@test "doctor: where io_uring is forbidden" {
	local forbid=("$PYTHON" -I -S "$BATS_TEST_DIRNAME/without-io-uring" EPERM) value
	run --separate-stderr "${forbid[@]}" "$MAYFLY" doctor
	ran_doctor
	assert_line --regexp '^warn +io_uring .*not allowed here \(EPERM.*--io-engine=sync.*fix: .*seccomp'
	[ -e /proc/sys/kernel/io_uring_disabled ] || skip "this kernel has no kernel.io_uring_disabled"
	for value in 1 2; do
		echo "$value" > "$BATS_TEST_TMPDIR/value"
		# shellcheck disable=SC2016 # for the inner shell
		with_mounts 'mount --bind "$1" /proc/sys/kernel/io_uring_disabled; shift; exec "$@"' \
			"$BATS_TEST_TMPDIR/value" "${forbid[@]}" "$MAYFLY" doctor
		ran_doctor
		assert_line --regexp "^warn +io_uring .*kernel.io_uring_disabled = $value.*--io-engine=sync.*fix: "
	done
}

@test "doctor: as a user without rights" {
	[ "$(id -u)" = 0 ] || skip "only root can become another user"
	local dir
	dir=$(mktemp -d)
	chmod 755 "$dir"
	cp "$MAYFLY" "$dir/mayfly"
	run --separate-stderr timeout 20 setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs \
		--bounding-set=-all prlimit --nproc=1 --nofile=8 --memlock=0 "$dir/mayfly" doctor < /dev/null
	rm -r "$dir"
	ran_doctor
	assert_line --regexp '^warn +memlock +0 KiB'
}

@test "timeline: files become bars; what is none is refused, with its place" {
	local dir=$BATS_TEST_TMPDIR
	echo '{"steps": [{"step": "a<b", "at_ns": 1000000}, {"step": "c", "at_ns": 3000000, "instructions": 1}]}' > "$dir/one&.json"
	echo '{"steps": [{"step": "c", "at_ns": 6000000}]}' > "$dir/two"
	run "$PYTHON" "$root/perf/timeline" "$dir/one&.json" "$dir/two"
	assert_equal "$status" 0
	"$PYTHON" -c 'import sys, xml.dom.minidom as d; print(len(d.parseString(sys.stdin.read()).getElementsByTagName("title")))' \
		<<< "$output" > "$dir/titles"
	assert_equal "$(< "$dir/titles")" 3
	assert_regex "$output" 'a&lt;b: 1.00'
	assert_regex "$output" 'c: 2.00'
	local bad
	for bad in '' '[]' '{"steps": []}' '{"steps": [{"step": 1, "at_ns": 1}]}' '{"steps": [{"step": "c", "at_ns": -1}]}' '{"steps": [7]}'; do
		echo "$bad" > "$dir/bad"
		run "$PYTHON" "$root/perf/timeline" "$dir/bad"
		assert_equal "$status" 1
		assert_regex "$output" "^perf/timeline: '$dir/bad': "
	done
	run "$PYTHON" "$root/perf/timeline" "$dir/none"
	assert_equal "$status" 1
	# On one clock, the second run begins where the first one is half through; alone, both begin at 0.
	echo '{"mayfly": "9.9", "cpu": "a CPU", "start_ns": 5000000, "steps": [{"step": "c", "at_ns": 2000000}]}' > "$dir/first"
	echo '{"mayfly": "9.9", "cpu": "a CPU", "start_ns": 6000000, "steps": [{"step": "c", "at_ns": 1000000}]}' > "$dir/second"
	run "$PYTHON" "$root/perf/timeline" "$dir/first" "$dir/second"
	assert_equal "$status" 0
	assert_regex "$output" 'mayfly 9.9, a CPU'
	assert_regex "$output" '<rect x="160.0" [^>]* width="760.0".*<rect x="540.0" [^>]* width="380.0"'
	run "$PYTHON" "$root/perf/timeline" --alone "$dir/first" "$dir/second"
	refute_output --regexp '<rect x="540.0"'
	run "$PYTHON" "$root/perf/timeline"
	assert_equal "$status" 1
}

@test "profile: a saved one is printed, and compared with another" {
	local dir=$BATS_TEST_TMPDIR
	# host#0 calls f, which calls g twice; f again below g is counted once.
	write_profile() {
		printf '{"lines": ["phase setup 3", "node 1 0 -", "node 2 1 host#0", "node 3 2 f setup:1000:1",
			"node 4 3 g setup:%s:2", "node 5 4 f setup:500:1", "node 6 1 guest#0 setup:7000:0", "exit h k setup:3"]}' "$1"
	}
	write_profile 2000 > "$dir/old"
	write_profile 4000 > "$dir/new"
	run "$PYTHON" "$root/perf/profile" --from "$dir/new" --of host --depth 3 --min 0 --exits --against "$dir/old"
	assert_success
	assert_line "setup, host: 5.5 thousand instructions, 3 VM exits"
	assert_line --regexp '^ +5\.5 k 100\.0 % x2 +f$'
	assert_line --regexp '^ +4\.0 k +72\.7 % x2 +g$'
	assert_line "    4.5 k (itself 4.0) x2 g"
	assert_line "     3 h in k"
	assert_line --regexp '^ +\+2\.0 k +\(2\.0 -> 4\.0\) g$'
	run "$PYTHON" "$root/perf/profile" --from "$dir/new" --phase none
	assert_failure
}

@test "profile: the plugin compiles, and exports what QEMU asks for" {
	${CC:-gcc} -std=gnu17 -Wall -Wextra -Werror -O2 -shared -fPIC -fvisibility=hidden -I "$root" -o "$BATS_TEST_TMPDIR/plugin.so" \
		"$root"/perf/plugin/*.c
	run nm -D --defined-only "$BATS_TEST_TMPDIR/plugin.so"
	assert_line --regexp ' D qemu_plugin_version$'
	assert_line --regexp ' T qemu_plugin_install$'
	refute_line --regexp 'tb_exec|symbol_at'
}

@test "cli: help and version, as words too" {
	assert_equal "$("$MAYFLY" help)" "$("$MAYFLY" --help)"
	assert_equal "$("$MAYFLY" help run)" "$("$MAYFLY" run --help)"
	assert_equal "$("$MAYFLY" version)" "$("$MAYFLY" --version)"
	run "$MAYFLY" help nothing
	assert_equal "$status" 125
}

@test "exec: the command may follow the name without --, with options of its own" {
	local words
	for words in 'ls -l' '-- ls -l' 'sh -c exit'; do
		# shellcheck disable=SC2086 # words
		run --separate-stderr "$MAYFLY" exec ./none $words
		assert_equal "$status" 125
		assert_one_line "no guest listens at './none'"
	done
	run --separate-stderr "$MAYFLY" exec -w relative ./none ls
	assert_equal "$status" 125
	assert_one_line "--workdir relative"
}

@test "run: mayfly's own kernel without a root is refused" {
	cp good "$BATS_TEST_TMPDIR/kernel"
	MAYFLY_KERNEL=$BATS_TEST_TMPDIR/kernel run --separate-stderr "$MAYFLY" run -- true
	assert_equal "$status" 125
	assert_one_line "no root: .*-r DIR"
}
