#!/usr/bin/env bats
# shellcheck disable=SC2016 # texts of programs
# shellcheck disable=SC2030,SC2031,SC2154 # each test is a subshell; the variables are of helper.bash
#
# The scripts that set things up: what they do about packages that are missing, and what is left of them when they are
# ended on their way. The programs that they call are replaced; nothing is installed.

load helper

setup() {
	cd "$BATS_TEST_TMPDIR" || return 1
	mkdir bin
	PATH=$PWD/bin:$PATH
	export HOME=$PWD XDG_CACHE_HOME=$PWD/cache
}

# stand_in NAME: a program that stdin is the text of.
stand_in() {
	{
		echo "#!/bin/bash"
		cat
	} > "bin/$1"
	chmod +x "bin/$1"
}

# A machine that has gcc, and whose apt knows and installs everything but UNKNOWN. The file "asked" lists what was installed.
machine() {
	stand_in dpkg-query <<< 'for p; do case $p in gcc) echo "installed gcc" ;; -*) ;; *) false ;; esac || lost=1; done; exit ${lost:-0}'
	stand_in sudo <<< 'exec "$@"'
	stand_in apt-get <<- 'END'
		[[ " $* " == *" install "* ]] || exit 0
		for p; do [[ $p != "$UNKNOWN" ]] || { echo "E: Unable to locate package $p"; exit 100; }; done
		printf '%s\n' "$@" >> asked
	END
	stand_in apt-cache <<< '[ "$2" = "$UNKNOWN" ] || echo "  Candidate: 1"'
}

@test "deps: all that dpkg has never heard of is installed, and what is there is not" {
	machine
	run "$root/tests/deps" build
	assert_success
	assert_output --partial liburing-dev
	run cat asked
	assert_line liburing-dev
	assert_line musl-tools
	refute_line gcc
	run "$root/tests/deps" --check build
	assert_failure 1
}

@test "deps: nothing is installed where dpkg-query fails or is not there" {
	machine
	stand_in dpkg-query <<< 'exit 2'
	run "$root/tests/deps" build
	assert_failure
	refute [ -e asked ]
	# A PATH that has nothing else than these.
	rm bin/dpkg-query
	for tool in bash env cat sed tr readlink; do ln -s "$(command -v "$tool")" "bin/$tool"; done
	PATH=$PWD/bin run "$root/tests/deps" build
	assert_failure
	refute [ -e asked ]
}

@test "deps: where apt does not know the kernel's source, the missing line of its sources is named" {
	machine
	UNKNOWN=linux-source-6.12 run "$root/tests/deps" kernel
	assert_failure 1
	assert_output --partial "deb http://security.debian.org/debian-security bookworm-security main"
	UNKNOWN="bc" run "$root/tests/deps" kernel
	assert_failure 1
	assert_output --partial bc
	refute_output --partial bookworm-security
	refute [ -e asked ]
}

# Begins SCRIPT, and waits until one of its programs, the stand-in for STOP, hangs there with a child. No signal is ignored, as
# SIGINT is for jobs of scripts, and SIGHUP below nohup.
begin() { # STOP SCRIPT [ARG...]
	stand_in "$1" <<< 'sleep 20 & echo $! > hangs.new; mv hangs.new hangs; wait'
	shift
	env --default-signal=INT,TERM,HUP "$@" > said 2>&1 3>&- &
	script=$!
	wait_for test -e hangs
	hangs=$(< hangs)
	rm hangs
}

gone() { ! kill -0 "$1" 2> /dev/null; }

# Those of this directory that a SCRIPT has half made.
half_made() { compgen -G "cache/mayfly/build.*" || compgen -G "cache/mayfly/*-*"; }

ended_on_its_way() { # STOP SCRIPT [ARG...]
	# shellcheck disable=SC2034 # for wait_for: less than what hangs takes
	local signal number=0 status began LIMIT=15
	for signal in INT TERM HUP; do
		begin "$@"
		kill "-$signal" "$script"
		status=0 began=$SECONDS
		wait "$script" || status=$?
		assert [ $((SECONDS - began)) -lt 15 ] # not only when what hangs has ended
		assert [ "$status" -gt 128 ]
		run half_made
		assert_failure
		assert gone "$hangs"
	done
	# Nobody can tidy up after this one, but its processes end, and the next run finds what is left.
	begin "$@"
	kill -KILL "$script"
	wait_for gone "$hangs"
	run half_made
	assert_success
	begin "$@"
	number=$(compgen -G "cache/mayfly/build.*" | wc -l)
	assert_equal "$number" 1
	kill -TERM "$script"
	wait_for gone "$script"
	run half_made
	assert_failure
}

@test "the kernel's build, ended on its way, leaves no process and nothing in the cache" {
	stand_in dpkg-query <<< 'echo 6.12.1'
	stand_in gcc <<< 'echo 12'
	mkdir kernel
	sed 's|^tarball=.*|tarball=$PWD/source|' "$root/configs/kernel/build" > kernel/build
	cp "$root"/configs/kernel/*.{fragment,patch} kernel
	cp "$root/configs/cached.sh" .
	touch source
	ended_on_its_way tar bash kernel/build . microvm minimal
}

@test "the Debian image's build, ended on its way, leaves no process and nothing in the cache" {
	ended_on_its_way mmdebstrap "$root/tests/debian/build"
}

@test "the lab's set-up, ended on its way, leaves no process and nothing in the cache" {
	stand_in apt-cache <<< 'echo "  Depends: linux-image-6.1.0-1-amd64"'
	stand_in apt-get < /dev/null
	for tool in qemu-system-x86_64 depmod lz4 xz zstd cpio gcc; do stand_in "$tool" < /dev/null; done
	ended_on_its_way dpkg-deb "$root/tests/lab/setup" --no-template
}

@test "a script that needs what another is making waits, and finds it" {
	cat > script <<- END
		set -euo pipefail
		. "$root/configs/cached.sh" thing
		make_it() { sleep 0.5; mkdir "\$work/result"; echo "\$BASHPID" > "\$work/result/by"; }
		cached "\$cache/thing-1" make_it
		cat "\$cache/thing-1/by"
	END
	bash script > one 2> /dev/null 3>&- &
	bash script > two 2> /dev/null
	wait "$!"
	run cmp one two
	assert_success
}

@test "what fails on its way leaves nothing in the cache, and its status" {
	cat > script <<- END
		set -euo pipefail
		. "$root/configs/cached.sh" thing
		make_it() { mkdir "\$work/result"; (exit 7); touch "\$work/result/late"; }
		cached "\$cache/thing-1" make_it
	END
	run bash script
	assert_failure 7
	run half_made
	assert_failure
}

@test "progress: a percentage and what comes next; one line on a terminal, a few where there is none" {
	cat > script <<- END
		. "$root/configs/cached.sh" thing
		seq 500 | progress_lines 0 100 500 . "counting" "nothing" > /dev/null
	END
	run bash script
	assert_output --partial " %, counting"
	assert [ "${#lines[@]}" -le 7 ]
	assert [ "${#lines[@]}" -ge 3 ]
	assert_output --partial "nothing"
	run "$PYTHON" "$BATS_TEST_DIRNAME/on-tty" -- bash script
	assert_success
	assert_equal "$(grep -c 'thing:' <<< "$output")" 1
}

@test "make: the compiler is gcc, or the one that was asked for" {
	compiler() { env -u MAKEFLAGS "$@" -C "$root" -pn help 2> /dev/null | sed -n 's/^CC :\?= //p'; }
	assert_equal "$(compiler env -u CC make)" gcc
	assert_equal "$(compiler env CC=clang make)" clang
	assert_equal "$(compiler env -u CC make CC=clang-14)" clang-14
}

# ci FRESH MAKE: what CI says last, if tests/fresh and make are these lines of shell; $status is CI's.
ci() {
	mkdir -p tree/.ci tree/tests
	cp "$root/.ci/run" tree/.ci/run
	ln -sf ../../bin/deps tree/tests/deps
	ln -sf ../../bin/fresh tree/tests/fresh
	stand_in deps <<< true
	stand_in sudo <<< 'exec "$@"'
	stand_in fresh <<< "$1"
	stand_in make <<< "$2"
	run tree/.ci/run
	[ "${#lines[@]}" -eq 0 ] || output=${lines[-1]}
}

@test "CI's last line is the sum of all parts, and what fails without a count is a failure" {
	local good='echo "3 passed, 0 failed, 1 skipped"' bad='echo "2 passed, 2 failed, 0 skipped"; echo "make: Error 1"; exit 2'
	ci "$good" "$good"
	assert_success
	assert_output "9 passed, 0 failed, 3 skipped"
	ci "$good" "$bad"
	assert_failure
	assert_output "7 passed, 4 failed, 1 skipped"
	ci "$bad" "$good"
	assert_failure
	assert_output "8 passed, 2 failed, 2 skipped"
	ci "$good" 'echo "cc: error"; exit 2'
	assert_failure
	assert_output "3 passed, 2 failed, 1 skipped"
	ci "$good" 'echo nothing'
	assert_failure
	ci "$good; exit 1" "$good"
	assert_failure
	assert_output "9 passed, 1 failed, 3 skipped"
}

@test "CI has all tiers of make check" {
	local all
	all=$(env -u MAKEFLAGS -u TIERS make -C "$root" -pn help 2> /dev/null | sed -n 's/^TIERS ?\?= //p')
	assert_equal "$(sed -n 's/^count make check TIERS="\(.*\)"$/\1/p' "$root/.ci/run" | xargs)" "$all"
}
