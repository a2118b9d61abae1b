#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2034,SC2154 # the guest's shell; tests are subshells; variables are of helper.bash
#
# Live directories (-v DIR:/GUEST): what the guest does there, what the host does, who is who, and what ends. A client that
# speaks 9P as it likes is in tests/unit/test_live.c.

load helper
DEBIAN=${DEBIAN:-$B/debian}

setup() {
	started=()
	cd "$BATS_TEST_TMPDIR" || return 1
	[ -x /usr/sbin/diod ] || skip "diod is not installed"
	mkdir dir
	# As it is in the lab.
	[ "$(stat -f -c %t dir)" != 794c7630 ] || mount -t tmpfs live dir
}

# Another file system in place of dir.
mount_dir() {
	! mountpoint -q dir || umount dir
	mount "$@" dir
}

teardown() {
	kill_started
	! mountpoint -q "$BATS_TEST_TMPDIR/dir" || umount -l "$BATS_TEST_TMPDIR/dir"
	end_test
}

# with_live OPTION... -- SHELL WORDS: runs them with dir as /d.
with_live() {
	local options=()
	while [ "$1" != -- ]; do
		options+=("$1")
		shift
	done
	shift
	run_mayfly run -k "$KERNEL" -r "$ROOTFS" -v dir:/d "${options[@]}" -- sh -c "$*"
}

@test "live: files, links, modes and times are the host's, and the guest's" {
	echo 'of the host' > dir/file
	chmod 640 dir/file
	touch -d @1000000000 dir/old
	with_live -v dir:/fixed:ro -- '
		cd /d
		cat file; stat -c "%a %u" file; stat -c %Y old
		echo new > new; chmod 750 new; touch -d @1234567890 new
		mkdir -p deep/er; echo x > deep/er/x; mv deep/er moved
		ln new hard; ln -s new soft; cat hard soft
		stat -c %h new
		echo gone > gone; exec 5< gone 6>> gone; rm gone; echo more >&6; cat <&5; exec 5<&- 6>&-
		mkfifo fifo; test -p fifo && echo fifo
		echo 12345 > cut; : >> cut; truncate -s 2 cut; cat cut; echo
		: > "a name  with
lines"; rmdir deep
		mknod null c 1 3 || echo no device
		touch /fixed/x || echo read-only
		mount -o remount,rw /fixed; touch /fixed/x || echo still read-only
		cat /fixed/file
		i=0; while [ $i -lt 60 ]; do : > many-$i; i=$((i + 1)); done; ls | grep -c many-' 2>&1
	assert_success
	assert_output $'of the host\n640 '"$EUID"$'\n1000000000\nnew\nnew\n2\ngone\nmore\nfifo\n12\nno device\nread-only\nstill read-only\nof the host\n60'
	assert_equal "$(stat -c '%a %Y %h %u' dir/new)" "750 1234567890 2 $EUID"
	assert_equal "$(readlink dir/soft):$(cat dir/moved/x):$(cat dir/cut)" new:x:12
	[ -f $'dir/a name  with\nlines' ] && [ ! -e dir/deep ] && [ ! -e dir/null ] && [ ! -e dir/gone ]
}

@test "live: what the host writes, the guest sees within a second" {
	start_mayfly run -k "$KERNEL" -r "$ROOTFS" -v dir:/d -- sh -c '
		cat /d/f 2>&1; echo ready
		read x; cat /d/f
		read x; stat -c %s /d/f; ls /d; echo told > /d/answer; echo ready
		read x'
	wait_said "No such file"
	echo one > dir/f
	echo >&"$to"
	wait_said ^one
	echo three > dir/f
	: > dir/g
	sleep 1
	echo >&"$to"
	wait_said ^6
	wait_said ^g
	wait_for test -s dir/answer
	assert_equal "$(cat dir/answer)" told
	echo >&"$to"
	wait_end
	assert_equal "$status" 0
}

@test "live: a large file with holes, a full file system, and its limit of files" {
	[ "$EUID" -eq 0 ] || skip "mounts a file system"
	mount_dir -t tmpfs -o size=8m,nr_inodes=60 live
	with_live -- '
		cd /d
		truncate -s 4G big; printf end | dd of=big bs=1 seek=4294967290 conv=notrunc 2> /dev/null
		stat -c %s big; tail -c 6 big | od -An -c | tr -d " "; rm big
		dd if=/dev/zero of=full bs=64k count=200 || echo full; rm full
		i=0; while touch n-$i 2> /dev/null; do i=$((i + 1)); done; echo many; rm n-*
		echo after > after; sync; cat after' 2>&1
	assert_success
	assert_line 4294967296
	assert_line 'end\0\0\0'
	assert_line full
	assert_line many
	assert_line after
	assert_regex "$stderr" 'No space left'
}

@test "live: git, make, a compiler, SQLite and locks; shared mappings, names that change" {
	[ -f "$DEBIAN/root.ext4" ] || skip "no Debian image"
	cat > dir/Makefile <<- 'END'
		objects := $(addsuffix .o,$(basename $(wildcard *.c)))
		all: $(objects)
		%.o: %.c; tcc -c $< -o $@
	END
	local i
	for ((i = 0; i < 10; i++)); do
		echo "int f$i(int x) { return x + $i; }" > "dir/f$i.c"
	done
	mkdir dir/tools
	cat > dir/tools/map.c <<- 'END'
		#include <errno.h>
		#include <fcntl.h>
		#include <stdio.h>
		#include <string.h>
		#include <sys/mman.h>
		#include <sys/wait.h>
		#include <unistd.h>
		int main(void)
		{
			int fd = open("mapped", O_RDWR | O_CREAT, 0644), opened = 0, n = 0, status = 0;
			char *map, got[4];
			if (ftruncate(fd, 8192) || (map = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) == MAP_FAILED)
				return 1;
			memcpy(map + 4094, "over", 4);
			if (msync(map, 8192, MS_SYNC) || pread(fd, got, 4, 4094) != 4 || memcmp(got, "over", 4))
				return 2;
			memcpy(map, "last", 4);
			munmap(map, 8192);
			close(fd);
			if (fork() == 0) {
				for (int i = 0; i < 60; i++)
					if (rename("a", "b") || rename("b", "a"))
						_exit(1);
				_exit(0);
			}
			for (; waitpid(-1, &status, WNOHANG) == 0; close(fd)) {
				fd = open(n++ % 2 ? "a" : "b", O_RDONLY);
				opened += fd >= 0;
				if (fd < 0 ? errno != ENOENT : read(fd, got, 4) != 4 || memcmp(got, "same", 4))
					return 3;
			}
			return status || puts(opened ? "mapped, and the same" : "never opened") < 0;
		}
	END
	printf same > dir/a
	run_mayfly run -k "$KERNEL" -r "$DEBIAN/root.ext4" -m 512M -v dir:/d -w /d -e HOME=/tmp -- sh -ec '
		git init -q . && git config user.name x && git config user.email x@x && git add . && git commit -qm one
		git clone -q . /tmp/clone && git -C /tmp/clone status --short && git -C /tmp/clone log --format=%s
		make -sj4 && ls f*.o | wc -l && git status --short | wc -l
		sqlite3 db "create table t (x); begin; insert into t values (1), (2); commit; select sum(x) from t;"
		sqlite3 db "insert into t values (4); select sum(x) from t; pragma integrity_check"
		sqlite3 db "pragma journal_mode=wal" # it asks by F_GETLK
		printf "%s\n" "begin; insert into t values (8);" ".shell sqlite3 db \"select sum(x) from t\"; ls db-*" \
			"commit; select sum(x) from t; pragma integrity_check;" | sqlite3 db
		(flock 9; echo locked; sleep 1; echo unlocked) 9> lock & sleep 0.5; (flock 9; echo then) 9> lock; wait
		tcc -run tools/map.c
		mkdir tree && tar -C /usr/share -cf - git-core | tar -C tree -xf - && diff -r /usr/share/git-core tree/git-core && echo same'
	assert_success
	assert_output $'one\n10\n10\n3\n7\nok\nwal\n7\ndb-shm\ndb-wal\n15\nok\nlocked\nunlocked\nthen\nmapped, and the same\nsame'
	assert_equal "$(head -c 4 dir/mapped):$(tail -c +4095 dir/mapped | head -c 4)" last:over
	run git -c safe.directory='*' -C dir fsck
	assert_success
}

@test "live: users of the guest are root's users of the host, and an ordinary user's subordinate ones" {
	[ "$EUID" -eq 0 ] || skip "becomes other users"
	chmod 777 dir
	with_live -u 1000:1000 -- 'echo x > /d/of-1000; stat -c %u:%g /d/of-1000'
	assert_success
	assert_output 1000:1000
	assert_equal "$(stat -c %u:%g dir/of-1000)" 1000:1000
	# A user with subordinate ids, in a mount namespace.
	{ cat /etc/passwd; echo mayfly-test:x:1234:1234::/:/bin/sh; } > passwd
	echo mayfly-test:200000:1000 > ids
	chmod 755 . "$BATS_RUN_TMPDIR" "$BATS_FILE_TMPDIR" "${BATS_FILE_TMPDIR%/*}" 2> /dev/null || true
	cp "$MAYFLY" "$KERNEL" "$ROOTFS" .
	chmod 755 ./mayfly "./${KERNEL##*/}" "./${ROOTFS##*/}"
	local script='cd /d; echo x > of-root; chown 5:6 of-root && echo given; stat -c %u:%g of-root of-1000
		echo x > mine; su nobody -s /bin/sh -c "echo x > /d/of-nobody" 2> /dev/null || echo no nobody'
	as_user() {
		run --separate-stderr unshare -m sh -c '
			mount --bind passwd /etc/passwd && mount --bind ids /etc/subuid && mount --bind ids /etc/subgid && exec "$@"' sh \
			"${as_nobody[@]}" env HOME="$PWD" XDG_RUNTIME_DIR= timeout -k 5 "$LIMIT" ./mayfly run -k "./${KERNEL##*/}" \
			-r "./${ROOTFS##*/}" -v dir:/d "$@" < /dev/null
	}
	as_user -- sh -c "$script"
	echo "# $stderr"
	assert_success
	assert_output $'given\n5:6\n65534:65534\nno nobody' # a user of the guest beyond those ids
	assert_equal "$(stat -c %u:%g dir/of-root dir/mine)" $'200004:200005\n1234:1234'
	rm -f dir/of-root dir/mine dir/of-nobody
	: > ids
	as_user -- sh -c 'cd /d; echo x > mine; chown 5:6 mine || echo not given; stat -c %u mine'
	echo "# $stderr"
	assert_success
	assert_output $'not given\n0'
	assert_equal "$(stat -c %u dir/mine)" 1234
}

server() {
	pgrep -P "$(pgrep -P "$pid" mayfly-live)" diod
}

@test "live: when the server is killed the guest gets errors, and goes on" {
	start_mayfly run -k "$KERNEL" -r "$ROOTFS" -v dir:/d -- sh -c 'echo ready; read x; cat /d/f || echo failed; ls /d > /d/x || echo failed; echo on'
	wait_said ready
	echo text > dir/f
	kill -9 "$(server)"
	wait_for grep -q 'volume.*server has ended' "$BATS_TEST_TMPDIR/err"
	echo >&"$to"
	wait_said ^on
	wait_end
	assert_equal "$status" 0
	assert_equal "$(grep -c ^failed out)" 2
	assert_equal "$(grep -c "mayfly\|warn" err)" 1
	assert_regex "$stderr" "volume 'dir': its server has ended: signal 9 has ended diod; continuing"
}

@test "live: a template's clone, and a jail; snapshots are refused" {
	export XDG_CACHE_HOME=$PWD/cache MAYFLY_BOOT=auto
	mkdir cache
	local round
	for round in 1 2; do
		with_live --jail --timeline "time-$round" -- "echo $round > /d/$round; cat /d/*"
		assert_success
		wait_for test -n "$(find cache -name '*.template' -o -name 'template*' | head -n 1)"
	done
	assert_output $'1\n2'
	assert_equal "$(cat dir/*)" $'1\n2'
	export MAYFLY_BOOT=cold
	run_mayfly run -k "$KERNEL" -r "$ROOTFS" -v dir:/d --snapshot snap -- true
	assert_equal "$status" 125
	assert_one_line 'snapshot and live directories'
	start_mayfly run -k "$KERNEL" -r "$ROOTFS" -v dir:/d --control "$PWD/control" -- sh -c 'echo ready; read x'
	wait_said ready
	run_mayfly snapshot "$PWD/control" snap
	assert_equal "$status" 125
	assert_one_line '1 live directories'
	[ ! -e snap ]
	echo >&"$to"
	wait_end
	assert_equal "$status" 0
}

@test "live: four guests at once in one directory" {
	local i pids=()
	for ((i = 0; i < 4; i++)); do
		"$MAYFLY" run -k "$KERNEL" -r "$ROOTFS" -v dir:/d -- sh -c "
			i=0; while [ \$i -lt 20 ]; do echo $i > /d/$i-\$i; i=\$((i + 1)); done; cat /d/$i-* | wc -l" < /dev/null > "out-$i" 2>&1 3>&- &
		pids+=("$!")
	done
	for ((i = 0; i < 4; i++)); do
		wait "${pids[i]}"
		assert_equal "$(cat "out-$i")" 20
	done
	assert_equal "$(find dir -type f | wc -l)" 80
}

# put FILE OFFSET TEXT
put() { printf %s "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }

# The two that are tagged "large" are those of `make check-large`.
# bats test_tags=large
@test "live: a file of more than 4 GiB, of the host and of the guest" {
	local offsets=(0 2147483645 4294967293 4831838208 5368709114) size=5368709120 offset
	truncate -s "$size" dir/host
	for offset in "${offsets[@]}"; do put dir/host "$offset" "$(printf %06x $((offset >> 12 & 0xffffff)))"; done
	with_live -- "
		cd /d; set -e
		stat -c %s host
		for offset in ${offsets[*]}; do
			dd if=host bs=1 skip=\$offset count=6 2> /dev/null; echo
			printf %06x \$((offset >> 12 & 0xffffff)) | dd of=guest bs=1 seek=\$offset conv=notrunc 2> /dev/null
		done
		stat -c %s guest; echo more >> guest; stat -c %s guest; truncate -s $size guest; stat -c %s guest
		dd if=host of=/tmp/part bs=64k skip=65534 count=4 2> /dev/null; dd if=guest bs=64k skip=65534 count=4 2> /dev/null | cmp - /tmp/part"
	assert_success
	assert_output "$size"$'\n000000\n07ffff\n0fffff\n120000\n13ffff\n'"$size"$'\n'"$((size + 5))"$'\n'"$size"
	cmp dir/host dir/guest
	[ "$(stat -c %b dir/guest)" -lt 2048 ] # blocks of 512 bytes: the rest are holes
}

# LIVE_VMS of them. One takes 18 MiB of the lab's memory, of which 8 GiB are room for 400; 100 take five minutes to start there.
# bats test_tags=large
@test "live: 100 guests at once in one directory" {
	local num=${LIVE_VMS:-100} i before pids=()
	mkfifo go
	sleep 86400 > go &
	started+=("$!")
	exec 4< go
	sync
	before=$(awk '/MemAvailable/ { print $2 }' /proc/meminfo)
	for ((i = 0; i < num; i++)); do
		timeout -k 5 3600 "$MAYFLY" run -k "$KERNEL" -r "$ROOTFS" -v dir:/d -- sh -c "
			echo $i > /d/up-$i; read x
			mkdir /d/claim 2> /dev/null && echo $i > /d/winner-$i
			echo $i > /d/$i; mv /d/$i /d/done-$i
			ls /d | grep -c ^up-" <&4 > "out-$i" 2>&1 3>&- &
		pids+=("$!")
		started+=("$!")
		wait_for test -s "dir/up-$i"
	done
	echo "# $num guests take $(((before - $(awk '/MemAvailable/ { print $2 }' /proc/meminfo)) / num)) KiB each" >&3
	[ "$(pgrep -c diod)" -ge "$num" ]
	kill "${started[0]}" # all of them read the end of their input
	for ((i = 0; i < num; i++)); do
		wait "${pids[i]}"
		assert_equal "$(cat "out-$i")" "$num"
	done
	assert_equal "$(find dir -name 'winner-*' | wc -l)" 1
	assert_equal "$(cat dir/done-* | sort -n)" "$(seq 0 $((num - 1)))"
}

# bats test_tags=slow
@test "live: a kernel without 9P says so" {
	run_mayfly run --kernel minimal -r "$ROOTFS" -v dir:/d -- true
	assert_equal "$status" 125
	assert_one_line 'the kernel has no file system of this kind.*/d'
}

# bats test_tags=flat
@test "live: without diod, or with a directory that is gone or closed, the error names what to do" {
	[ "$EUID" -eq 0 ] || skip "mounts over diod"
	run --separate-stderr unshare -m sh -c 'mount --bind /dev/null /usr/sbin/diod && exec "$@"' sh \
		"$MAYFLY" run -k "$GUESTS/hello.elf" -v dir:/d -- true
	assert_equal "$status" 125
	assert_one_line "volume 'dir': .*apt install diod.*:copy"
	chmod 700 "$PWD" dir
	run --separate-stderr "${as_nobody[@]}" "$MAYFLY" run -k "$GUESTS/hello.elf" -v "$PWD/dir:/d" -- true
	assert_equal "$status" 125
	assert_one_line "dir.*Permission denied"
}

# bats test_tags=flat
@test "live: a directory on overlayfs whose files have other device numbers is refused" {
	[ "$EUID" -eq 0 ] || skip "mounts file systems"
	mkdir lower upper
	mount -t tmpfs live lower
	mount -t tmpfs live upper
	mkdir upper/{upper,work} lower/sub
	mount_dir -t overlay -o lowerdir=lower,upperdir=upper/upper,workdir=upper/work,xino=off live
	local what
	for what in dir dir/sub; do
		run_flat hello -v "$what:/d" -- true
		assert_equal "$status" 125
		assert_one_line "volume '$what': it is on overlayfs.*:copy"
	done
	assert_equal "$(find dir)" $'dir\ndir/sub'
	umount -l dir lower upper
}

# bats test_tags=flat
@test "live: limits that diod wants to raise do not keep it from its work" {
	run --separate-stderr sh -c 'ulimit -c 0; ulimit -n 400; exec "$@"' sh \
		"$MAYFLY" run -k "$GUESTS/hello.elf" -v dir:/d -v dir:/e:ro -- true
	refute_regex "$stderr" diod
	assert_regex "$stderr" 'guest ended before the command'
}

@test "secrets: a file in the guest's memory, and nowhere else" {
	export XDG_CACHE_HOME=$PWD/cache MAYFLY_BOOT=auto
	mkdir cache
	printf 'hush-hush-%s' 0123456789abcdef > key
	head -c 300000 /dev/urandom > big
	: > empty
	local round
	for round in 1 2; do
		run_mayfly run -k "$KERNEL" -r "$ROOTFS" --name secretive --log-level debug --log log --secret key=key --secret db.pass=big \
			--secret empty=empty -u 1000 -- sh -c '
			cat /run/secrets/key; echo; sha256sum < /run/secrets/db.pass; stat -c %s /run/secrets/empty
			grep -c "/run/secrets tmpfs ro" /proc/mounts; touch /run/secrets/x || ls /run/secrets | xargs'
		assert_success
		assert_output "hush-hush-0123456789abcdef"$'\n'"$(sha256sum < big)"$'\n0\n1\ndb.pass empty key'
		wait_for test -n "$(find cache -type d -name '*template*' -o -name '*.template' | head -n 1)"
	done
	run_mayfly run -k "$KERNEL" -r "$ROOTFS" --secret key=key --dry-run -- true
	assert_output --partial key=
	# In hexadecimal digits, too: init gets those.
	local hex
	hex=$(od -An -v -tx1 key | tr -d ' \n')
	run grep -rlaE "hush-hush-0123|$hex" cache log "/run/mayfly" <(echo "$output")
	assert_output ''
}

# bats test_tags=flat
@test "secrets: names and files that cannot be are refused" {
	refused() {
		run_flat hello "${@:2}" -- true
		assert_equal "$status" 125
		assert_one_line "$1"
	}
	echo x > key
	refused "secret.*NAME=FILE" --secret key
	refused "secret.*NAME=FILE" --secret key=
	refused "secret.*name must be" --secret =key
	refused "secret.*name must be" --secret ../x=key
	refused "secret.*name must be" --secret .x=key
	refused "secret.*'a' is given twice" --secret a=key --secret a=key
	refused "secret 'a': open 'gone'.*No such" --secret a=gone
	refused "secret 'a': read '.'.*directory" --secret a=.
	head -c 524289 /dev/zero > big
	refused "secret 'b': 'big' has more than" --secret a=key --secret b=big
	run_flat hello --secret a=key
	assert_equal "$status" 125
	assert_one_line "secrets.*need a command"
}
