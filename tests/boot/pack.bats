#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2153,SC2154 # each test is a subshell; the variables are of helper.bash
#
# Packing: directories and archives that become images, and the cache of those. The packed files are read from the image, so
# no guest has to run; what a guest sees is in command.bats.

load helper

setup() {
	# shellcheck disable=SC2034 # end_test uses it
	started=()
	cd "$BATS_TEST_TMPDIR" || return 1
	export XDG_CACHE_HOME=$PWD/cache
	images=$PWD/cache/mayfly/images
	mkdir dir
	echo one > dir/file
}

teardown() {
	end_test
	local at
	for at in "$BATS_TEST_TMPDIR"/dir/{mount,a.b}; do
		! mountpoint -q "$at" || umount -l "$at"
	done
}

# pack SOURCE [OPTION...]: a run that packs a directory or an archive. Whether its guest can run is another matter.
pack() {
	run_mayfly run -k "$GUESTS/hello.elf" -v "$1:/in$([ ! -d "$1" ] || echo :copy)" "${@:2}" -- true
	refute_regex "$stderr" "'(/[^ ]*/)?$1'.*(failed|cannot|changes)"
}

# refused REGEX ARG...: it is not packed, for one reason.
refused() {
	run_mayfly run -k "$GUESTS/hello.elf" "${@:2}" -- true
	assert_equal "$status" 125
	assert_one_line "$1"
}

# The image that was made last.
last_image() {
	find "$images" -type f -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d ' ' -f 2-
}

# The names of what is in the last image, on one line.
packed() {
	rm -rf extracted
	fsck.erofs --extract=extracted "$(last_image)" > /dev/null
	(cd extracted && find . -mindepth 1 | sort | tr '\n' ' ')
}

count_images() {
	find "$images" -type f -name "${1:-*.erofs}" | wc -l
}

# stand_in NAME: stdin is a program of that name, for what mayfly starts.
stand_in() {
	mkdir -p bin
	{ echo '#!/bin/bash'; cat; } > "bin/$1"
	chmod +x "bin/$1"
	export PATH=$PWD/bin:$PATH
}

# The same as refused where there are no programs.
without_programs() {
	run --separate-stderr env PATH="${WITH:-/nowhere}" "$MAYFLY" run -k "$GUESTS/hello.elf" "${@:2}" -- true
	assert_equal "$status" 125
	assert_one_line "$1"
}

need_kvm() {
	[ -w /dev/kvm ] || skip "/dev/kvm cannot be opened here"
}

need_root() {
	[ "$EUID" -eq 0 ] || skip "only root may mount"
}

@test "pack: a directory that does not change is packed once; of one that does, the old image goes" {
	pack dir
	pack dir
	assert_equal "$(count_images)" 1
	mkdir other
	pack other
	assert_equal "$(count_images)" 2
	echo two > dir/file
	pack dir
	assert_equal "$(count_images)" 2
	packed > /dev/null
	assert_equal "$(< extracted/file)" two
	assert_equal "$(count_images '*.erofs.*')" 0
}

@test "pack: the cache is not packed, wherever it is in the tree" {
	export XDG_CACHE_HOME=$PWD/dir/deep/cache
	images=$XDG_CACHE_HOME/mayfly/images
	local before i
	pack dir
	before=$(stat -c '%s %i' "$(last_image)")
	for i in 1 2 3; do
		pack dir
		assert_equal "$(stat -c '%s %i' "$(last_image)")" "$before"
	done
	assert_equal "$(packed)" './deep ./deep/cache ./deep/cache/mayfly ./file '
	refused "cache" -v "$images:/in:copy"
}

@test "pack: what is mounted in the tree is left out, and named" {
	need_root
	mkdir dir/mount dir/a.b dir/aXb
	mount -t tmpfs none dir/mount
	mkdir bind
	mount --bind bind dir/a.b
	touch dir/mount/secret dir/a.b/bound dir/aXb/kept
	pack dir
	assert_equal "$(packed)" './a.b ./aXb ./aXb/kept ./file ./mount '
	assert_regex "$stderr" "'mount'"
	assert_regex "$stderr" "'a.b'"
	pack dir # and what changes there does not matter
	touch dir/mount/other
	pack dir
	assert_equal "$(count_images)" 1
}

@test "pack: mkfs.erofs ends with mayfly, even by SIGKILL, and the next run removes what it had written" {
	stand_in mkfs.erofs <<- END
		echo half > "\$2"
		echo \$\$ > "$PWD/packer"
		while :; do sleep 0.1; done
	END
	start_mayfly run -k "$GUESTS/hello.elf" -v dir:/in:copy -- true
	wait_for test -s packer
	kill -KILL "$pid"
	wait_for has_ended "$pid"
	wait_for has_ended "$(< packer)"
	rm -r bin
	assert_equal "$(count_images '*.erofs.*')" 1
	touch "$images/0123456789abcdef-0123456789abcdef0123456789abcdef.erofs.99999999"
	pack dir
	assert_equal "$(count_images)" 1
	assert_equal "$(count_images '*.erofs.*')" 0
	packed > /dev/null
	assert_equal "$(< extracted/file)" one
}

@test "pack: one that is being made by another process stays" {
	stand_in mkfs.erofs <<- END
		echo half > "\$2"
		[ "\$3" = "$PWD/dir" ] || exec /usr/bin/mkfs.erofs "\$@"
		echo \$\$ > "$PWD/packer"
		while [ ! -e "$PWD/go" ]; do sleep 0.1; done
	END
	mkdir other
	start_mayfly run -k "$GUESTS/hello.elf" -v dir:/in:copy -- true
	wait_for test -s packer
	pack other
	assert_equal "$(count_images '*.erofs.*')" 1
	touch go
	wait_end
	assert_equal "$(count_images)" 2
}

@test "pack: a file that vanishes meanwhile costs another try, and not the run" {
	stand_in mkfs.erofs <<- END
		echo x >> "$PWD/tries"
		[ "\$(wc -l < "$PWD/tries")" -gt 2 ] || { rm -f "$PWD/dir/\$(wc -l < "$PWD/tries")"; exit 1; }
		exec /usr/bin/mkfs.erofs "\$@"
	END
	touch dir/1 dir/2
	pack dir
	assert_equal "$(wc -l < tries)" 3
	assert_equal "$(packed)" './file '
}

@test "pack: a directory that never stops changing is said to, by the name of what does" {
	stand_in mkfs.erofs <<- END
		echo x >> "$PWD/tries"
		echo x >> "$PWD/dir/busy"
		exit 1
	END
	refused "'dir'.*changes.*'busy'" -v dir:/in:copy
	[ "$(wc -l < tries)" -le 10 ] || fail "it was tried $(wc -l < tries) times"
	assert_equal "$(find "$images" -type f)" ''
}

@test "pack: a file that cannot be read is named" {
	cat > unprivileged <<- END
		#!/bin/sh
		[ "\$(id -u)" != 0 ] || set -- setpriv --bounding-set -dac_override,-dac_read_search \\
			--inh-caps -dac_override,-dac_read_search "$MAYFLY" "\$@"
		[ "\$(id -u)" = 0 ] || set -- "$MAYFLY" "\$@"
		exec "\$@"
	END
	chmod +x unprivileged
	local MAYFLY=$PWD/unprivileged
	mkdir dir/deep
	echo secret > dir/deep/secret
	chmod 000 dir/deep/secret
	refused "'dir'.*'deep/secret'.*Permission denied" -v dir:/in:copy
	chmod 000 dir/deep
	refused "'dir'.*'deep'.*Permission denied" -v dir:/in:copy
	chmod 700 dir/deep
}

@test "pack: names and paths that are too long are named" {
	local name i
	name=$(printf 'n%.0s' {1..255})
	mkdir dir/sub
	echo x > "dir/sub/$name"
	run_mayfly run -k "$GUESTS/hello.elf" -v dir:/in:copy -- true
	# A newer mkfs.erofs can.
	[[ $stderr != *"sub/nnn"* ]] || assert_one_line "'dir'.*'sub/$name'.*255"
	[[ $stderr == *"sub/nnn"* || $(packed) == *"sub/$name"* ]] || fail "neither packed nor named: $stderr"
	rm "dir/sub/$name"
	"$PYTHON" -c '
import os
os.chdir("dir")
for i in range(30):
    os.mkdir("d" * 200)
    os.chdir("d" * 200)'
	refused "'dir'.*4095 bytes.*'ddd" -v dir:/in:copy
}

@test "pack: what mkfs.erofs says is quoted in one line, with the place" {
	stand_in mkfs.erofs <<< 'printf "usage: x\n -d#\n<E> erofs: No space left\n" >&2; exit 1'
	refused "'dir'.*No space left.*$images" -v dir:/in:copy
	without_programs "apt install erofs-utils" -v dir:/in:copy
}

@test "pack: holes stay holes" {
	truncate -s 300M dir/hole
	printf data | dd of=dir/hole bs=1 seek=200M conv=notrunc status=none
	pack dir
	[ "$(stat -c %s "$(last_image)")" -lt $((8 << 20)) ] || fail "an image of $(stat -c %s "$(last_image)") bytes"
	packed > /dev/null
	cmp dir/hole extracted/hole
	assert_equal "$(< extracted/file)" one
}

@test "pack: a tree with large holes costs what its data costs" {
	mkdir dir/log
	truncate -s 400G dir/log/lastlog
	printf data | dd of=dir/log/lastlog bs=1 seek=300G conv=notrunc status=none
	touch -d '2001-02-03 04:05:06 UTC' dir/file
	pack dir
	local image
	image=$(last_image)
	[ "$(($(stat -c %b "$image") * 512))" -lt $((8 << 20)) ] || fail "$(stat -c %b "$image") blocks"
	e2fsck -fn "$image" > /dev/null
	assert_equal "$(debugfs -R 'cat /file' "$image" 2> /dev/null)" one
	assert_regex "$(debugfs -R 'stat /file' "$image" 2> /dev/null)" 'mtime: 0x3a7b8372'
	assert_regex "$(debugfs -R 'stat /log/lastlog' "$image" 2> /dev/null)" 'Size: 429496729600'
	pack dir
	assert_equal "$(last_image)" "$image"
}

@test "pack: a tree with large holes and with files that are left out, or that become root's" {
	export XDG_CACHE_HOME="$PWD/dir/the*cache"
	images=$XDG_CACHE_HOME/mayfly/images
	truncate -s 2G dir/hole
	printf data | dd of=dir/hole bs=1 seek=1G conv=notrunc status=none
	chmod 750 dir
	pack dir
	run unsquashfs -lln "$(last_image)"
	assert_regex "$output" "0?2147483648.*squashfs-root/hole"
	assert_regex "$output" "squashfs-root/file"
	refute_regex "$output" "images"
	unsquashfs -quiet -no-progress -dest out "$(last_image)" > /dev/null
	cmp out/hole dir/hole
	assert_equal "$(stat -c '%a' out)" 750
	need_root
	chown 1001:1001 dir/file
	mkdir dir/mount
	mount -t tmpfs none dir/mount
	touch dir/mount/secret
	pack dir --all-root
	run unsquashfs -lln "$(last_image)"
	assert_regex "$output" ' 0/0 .*squashfs-root/file'
	assert_regex "$output" 'squashfs-root/mount'
	refute_regex "$output" 'secret'
}

@test "pack: --all-root gives all files to root" {
	need_root
	chown -R 1001:1001 dir
	pack dir
	packed > /dev/null
	assert_equal "$(stat -c %u:%g extracted/file)" 1001:1001
	pack dir --all-root
	packed > /dev/null
	assert_equal "$(stat -c %u:%g extracted/file)" 0:0
	assert_equal "$(count_images)" 2
}

@test "pack: it says that it packs, in one line, and not when it need not or is quiet" {
	run_mayfly run -k "$GUESTS/hello.elf" -d dir:ro
	assert_equal "$(grep -c "packing 'dir'" <<< "$stderr")" 1
	run_mayfly run -k "$GUESTS/hello.elf" -d dir:ro
	refute_regex "$stderr" packing
	echo two > dir/file
	run_mayfly run -k "$GUESTS/hello.elf" -d dir:ro --quiet
	refute_regex "$stderr" packing
	# One that takes long says so before it is over.
	stand_in mkfs.erofs <<- END
		while [ ! -e "$PWD/go" ]; do sleep 0.1; done
		exec /usr/bin/mkfs.erofs "\$@"
	END
	echo three > dir/file
	start_mayfly run -k "$GUESTS/hello.elf" -d dir:ro
	wait_for grep -q "packing 'dir'" err
	touch go
	wait_end
	assert_equal "$(grep -c "packing 'dir'" <<< "$stderr")" 1
}

@test "pack: on a terminal it shows how far it is" {
	stand_in mkfs.erofs <<- END
		head -c 2M /dev/zero > "\$2"
		while [ ! -e "$PWD/go" ]; do sleep 0.1; done
		exec /usr/bin/mkfs.erofs "\$@"
	END
	head -c 8M /dev/urandom > dir/data
	(sleep 2; touch go) 3>&- &
	run "$PYTHON" "$BATS_TEST_DIRNAME/on-tty" --limit 30 'expect=packing: 2.0 of 8.' 'expect=done' -- \
		"$MAYFLY" run -k "$GUESTS/hello.elf" -d dir:ro
	[ "$status" -ne 97 ] || fail "$output"
	wait
}

@test "pack: --time books it as itself" {
	need_kvm
	run_mayfly run -k "$GUESTS/hello.elf" -d dir:ro --time
	assert_regex "$stderr" 'packing +[0-9]'
	run_mayfly run -k "$GUESTS/hello.elf" --time
	refute_regex "$stderr" 'packing +[0-9]'
}

@test "pack: an archive is a root or a volume, and another one when it changes" {
	command -v sqfstar > /dev/null || skip "no sqfstar here"
	tar -C dir -cf root.tar ./file
	pack root.tar
	pack root.tar
	assert_equal "$(count_images '*.squashfs')" 1
	assert_equal "$(unsquashfs -cat "$(last_image)" file)" one
	assert_equal "$(unsquashfs -lln "$(last_image)" | awk '$NF == "squashfs-root" { print $1, $2 }')" \
		"drwxr-xr-x $(id -u)/$(id -g)"
	echo two > dir/file
	tar -C dir -cf root.tar ./file
	run_mayfly run -k "$GUESTS/hello.elf" -r root.tar -- true
	assert_equal "$(count_images '*.squashfs')" 1
	assert_equal "$(unsquashfs -cat "$(last_image)" file)" two
	head -c 1000 root.tar > part.tar
	refused "archive 'part.tar'.*tar: Unexpected EOF" -r part.tar
	mkdir only
	ln -s "$(command -v tar)" only
	cp root.tar other.tar
	WITH=$PWD/only without_programs "apt install squashfs-tools" -v other.tar:/in
	# As a drive it is what it is, unless that is said.
	run_mayfly run -k "$GUESTS/hello.elf" --dry-run -d root.tar:ro -r root.tar
	assert_equal "$("$PYTHON" -c 'import json, sys; print([d.get("tar", False) for d in json.load(sys.stdin)["drives"]])' <<< "$output")" \
		'[True, False]'
}

@test "pack: compressed archives" {
	command -v sqfstar > /dev/null || skip "no sqfstar here"
	local way name
	for way in gzip:tar.gz gzip:tgz xz:tar.xz zstd:tar.zst bzip2:tar.bz2; do
		name=root.${way#*:}
		command -v "${way%:*}" > /dev/null || continue
		tar -C dir -c ./file | "${way%:*}" -c > "$name"
		pack "$name"
		assert_equal "$(unsquashfs -cat "$(last_image)" file)" one
		"$MAYFLY" cache prune > /dev/null
	done
	head -c 100 root.tar.gz > part.tar.gz
	refused "archive 'part.tar.gz'.*gzip" -r part.tar.gz
	echo text | gzip > text.tar.gz
	refused "archive 'text.tar.gz'.*tar: This does not look like a tar archive" -r text.tar.gz
	assert_equal "$(count_images '*.squashfs*')" 0
	without_programs "apt install gzip" -r root.tar.gz
	cp root.tar.gz root.gz
	refused "'root.gz'.*gzip" -r root.gz
	# Whoever reads it ends first.
	stand_in sqfstar <<< 'echo no >&2; exit 1'
	refused "sqfstar.*no" -r root.tgz
}

@test "pack: an archive that is being packed when mayfly is killed leaves no process" {
	stand_in gzip <<- END
		echo \$\$ > "$PWD/feeder"
		while :; do sleep 0.1; done
	END
	tar -C dir -c ./file | /bin/gzip > root.tar.gz
	start_mayfly run -k "$GUESTS/hello.elf" -r root.tar.gz -- true
	wait_for test -s feeder
	kill -KILL "$pid"
	wait_for has_ended "$pid"
	wait_for has_ended "$(< feeder)"
}

@test "pack: a file is a volume" {
	command -v sqfstar > /dev/null || skip "no sqfstar here"
	echo content > "a file"
	chmod 640 "a file"
	ln -s "a file" link
	local name
	for name in "a file" link; do
		pack "$name"
		run unsquashfs -lln "$(last_image)"
		assert_regex "$output" '-rw-r-----.*squashfs-root/file'
		assert_equal "$(unsquashfs -cat "$(last_image)" file)" content
	done
	assert_equal "$(count_images '*.squashfs')" 1
	truncate -s 3G holes
	pack holes
	[ "$(stat -c %s "$(last_image)")" -lt $((1 << 20)) ]
	refused "artifact" -v "a file:/x:rw"
	refused "'a file'" -r "a file"
	refused "0: .*file 'gone'|'gone'" -v gone:/x
}

@test "pack: an image is on the disk before it gets its name" {
	command -v strace > /dev/null || skip "no strace here"
	strace -f -qq -y -e trace=fdatasync,fsync,renameat,renameat2,rename -o trace "$MAYFLY" run -k "$GUESTS/hello.elf" \
		-v dir:/in:copy -- true < /dev/null || true
	assert_regex "$(< trace)" "sync\([0-9]+<[^>]*\.erofs\.[0-9.]+>\) += 0.*rename.*\.erofs"
}

@test "disk: one empty image for each size, a file for each run" {
	need_kvm
	export TMPDIR=$PWD/tmp
	mkdir tmp
	run_mayfly run -k "$GUESTS/hello.elf" --disk 8G -v dir:/in:copy -- true
	run_mayfly run -k "$GUESTS/hello.elf" --disk 8G -v dir:/in:copy -- true
	run_mayfly run -k "$GUESTS/hello.elf" --disk 1G -v dir:/in:copy -- true
	assert_equal "$(count_images '*.ext4')" 2
	refute_regex "$stderr" packing
	local image
	for image in "$images"/*.ext4; do
		e2fsck -fn "$image" > /dev/null
	done
	assert_equal "$(find tmp -mindepth 1)" ''
	without_programs "apt install e2fsprogs" --disk 2G -v dir:/in:copy
	TMPDIR=/nowhere refused "disk.*/nowhere" --disk 1G -v dir:/in:copy
	local size
	for size in 1M 100T 0 much; do
		refused disk --disk "$size" -v dir:/in:copy
	done
	run_mayfly run -k "$GUESTS/hello.elf" --disk 1G
	assert_equal "$status" 125
	assert_one_line command
	# What --dry-run prints is the same configuration.
	run_mayfly run -k "$GUESTS/hello.elf" --dry-run --disk 1G -v dir:/in:copy -v /own -r dir -- true
	printf '%s\n' "$output" > first.json
	run_mayfly run --config first.json --dry-run
	assert_equal "$output" "$(< first.json)"
}

@test "cache: it keeps to its size: the image that was not used for longest goes" {
	local i
	for i in 1 2 3 4; do
		mkdir "d$i"
		head -c 1M /dev/urandom > "d$i/data"
	done
	export MAYFLY_CACHE_MAX=2500K
	pack d1
	pack d2
	pack d1
	pack d3
	assert_equal "$(count_images)" 2
	run_mayfly cache ls
	assert_regex "$output" "$PWD/d1"
	refute_regex "$output" "$PWD/d2"
	# The only one is larger than all may be.
	MAYFLY_CACHE_MAX=4K pack d4
	assert_equal "$(count_images)" 1
	MAYFLY_CACHE_MAX=lots refused 'MAYFLY_CACHE_MAX' -v d1:/in:copy
}

@test "cache: what a VM uses stays" {
	need_kvm
	start_flat idle -d dir:ro
	in_use() { "$MAYFLY" cache ls | grep -q '\* '; }
	wait_for in_use
	echo two > dir/file
	pack dir
	assert_equal "$(count_images)" 2
	run_mayfly cache prune
	assert_equal "$(count_images)" 1
	kill "$pid"
	wait_end
	run_mayfly cache prune
	assert_equal "$(count_images)" 0
	assert_equal "$(find "$images" -mindepth 1)" ''
}

@test "cache: ls, prune and path" {
	run_mayfly cache path
	assert_equal "$status:$output" "0:$images"
	mkdir other
	pack dir
	pack other
	run_mayfly cache ls
	assert_equal "$status" 0
	assert_equal "$(grep -cE "$PWD/(dir|other)\$" <<< "$output")" 2
	touch "$images/unknown"
	run_mayfly cache prune 1G
	assert_equal "$status:$(count_images)" 0:2
	run_mayfly cache prune
	assert_equal "$status:$(count_images)" 0:0
	[ -e "$images/unknown" ] || fail "what is not of mayfly was removed"
	local arguments
	for arguments in '' bad 'ls more' 'prune much' 'prune 1G 2G' '--bad'; do
		# shellcheck disable=SC2086 # words
		run_mayfly cache $arguments
		assert_equal "$status:$output" 125:
		assert_one_line .
	done
	# shellcheck disable=SC2016 # for the inner shell
	run bash -c '"$1" cache path > /dev/full' bash "$MAYFLY"
	assert_equal "$status" 125
}

@test "cache: its place: XDG_CACHE_HOME, HOME, the home of /etc/passwd, TMPDIR" {
	at() { env -u XDG_CACHE_HOME -u HOME "$@" "$MAYFLY" cache path; }
	assert_equal "$(at XDG_CACHE_HOME="$PWD/x" HOME="$PWD/h")" "$PWD/x/mayfly/images"
	assert_equal "$(at HOME="$PWD/h")" "$PWD/h/.cache/mayfly/images"
	assert_equal "$(at XDG_CACHE_HOME=relative HOME="$PWD/h")" "$PWD/h/.cache/mayfly/images"
	assert_equal "$(at TMPDIR="$PWD")" "$(getent passwd "$EUID" | cut -d : -f 6)/.cache/mayfly/images"
	# A home that is none.
	assert_equal "$(at HOME=/dev/null TMPDIR="$PWD")" "$PWD/mayfly-$EUID/images"
	assert_equal "$(at HOME=/dev/null TMPDIR="$PWD")" "$PWD/mayfly-$EUID/images"
	# In a directory of all, what is there by that name may be another's.
	chmod 777 "mayfly-$EUID"
	run --separate-stderr at HOME=/dev/null TMPDIR="$PWD"
	assert_equal "$status:$output" 125:
	assert_one_line "mayfly-$EUID"
	rm -r "mayfly-$EUID"
	ln -s "$PWD/dir" "mayfly-$EUID"
	run --separate-stderr at HOME=/dev/null TMPDIR="$PWD"
	assert_equal "$status:$output" 125:
	run --separate-stderr env XDG_CACHE_HOME=/dev/null "$MAYFLY" cache path
	assert_equal "$status:$output" 125:
	assert_one_line /dev/null
}

@test "volumes and roots: what may stand behind the colon, and what the file must be" {
	truncate -s 1M ext4
	mkfs.ext4 -q ext4
	mkfs.erofs --quiet erofs dir 2> /dev/null
	check() { run_mayfly run -k "$GUESTS/hello.elf" --dry-run "$@" -- true; }
	local words
	for words in dir:/x dir:/x:ro dir:/x:rw dir:/x:copy ext4:/x ext4:/x:ro ext4:/x:rw erofs:/x erofs:/x:ro; do
		check -v "$words"
		assert_equal "$status" 0
	done
	check -v ext4:/x:rw
	assert_equal "$("$PYTHON" -c 'import json, sys; d = json.load(sys.stdin)["drives"][0]; print(d["read_only"], d["mount"], d["mount_read_only"])' <<< "$output")" \
		'False /x False'
	refused "'erofs'" -v erofs:/x:rw
	refused "'erofs'" -r erofs:rw
	refused "directory" -r dir:rw
	for words in rx RO ro:rw rw,ro '' /y 'ro '; do
		refused "':$words'" -v "ext4:/x:$words"
	done
	refused "dir/file:x" -v dir/file:x
}

# kind FILE REGEX: neither a root nor a volume, for what it is and with what to do.
kind() {
	refused "'$1' is .*$2" -r "$1"
	refused "'$1' is .*$2" -v "$1:/x"
}

@test "volumes and roots: files that are no file systems are named, with what makes one of them" {
	printf 'QFI\xfb\0\0\0\3' > disk.qcow2
	truncate -s 1M disk.qcow2
	kind disk.qcow2 "qemu-img convert -O raw 'disk.qcow2'"
	gzip -c dir/file > file.gz
	kind file.gz "gzip -d 'file.gz'"
	xz -c dir/file > file.xz
	kind file.xz "xz -d 'file.xz'"
	truncate -s 1M iso
	printf CD001 | dd of=iso bs=1 seek=32769 conv=notrunc status=none
	kind iso "'iso'"
	truncate -s 1M gpt
	printf 'EFI PART' | dd of=gpt bs=1 seek=512 conv=notrunc status=none
	kind gpt losetup
	truncate -s 1M mbr
	printf '\x80\0\0\0\x83\0\0\0\0\x08\0\0\0\x08\0\0' | dd of=mbr bs=1 seek=446 conv=notrunc status=none
	printf '\x55\xaa' | dd of=mbr bs=1 seek=510 conv=notrunc status=none
	kind mbr losetup
	# The boot sector of a file system is no partition table.
	truncate -s 1M ext4
	mkfs.ext4 -q ext4
	dd if=mbr of=ext4 bs=512 count=1 conv=notrunc status=none
	run_mayfly run -k "$GUESTS/hello.elf" --dry-run -r ext4 -v ext4:/x -- true
	assert_equal "$status" 0
}
