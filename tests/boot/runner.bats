#!/usr/bin/env bats
# tests/run itself, with programs in place of the tests that end in every way a test program can end: whatever happens to
# them, the tier is red.

# shellcheck disable=SC2016 # what is in single quotes is for the stand-ins

bats_require_minimum_version 1.5.0
bats_load_library bats-support
bats_load_library bats-assert

# A tree with the runner and nothing else, and stand-ins for what it runs; $PATH has no bats but theirs.
setup() {
	tree=$BATS_TEST_TMPDIR/tree
	mkdir -p "$tree"/tests/{boot,unit,init,hostile,seccomp,fuzz} "$tree"/build/{tests/unit,tests/guest,fuzz} "$tree/bin"
	cp "$BATS_TEST_DIRNAME"/../{run,tap,limit} "$tree/tests/"
	stand_in build/mayfly 'exit 0'
	stand_in build/kvm-runs-kernels 'exit 0'
	stand_in tests/with-kvm 'until [ "$1" = -- ]; do shift; done; shift; exec "$@"'
	stand_in tests/seccomp/trace 'exec "$@"'
	stand_in tests/seccomp/compare 'exit 0'
	stand_in bin/bats 'echo 1..1; echo ok 1 good in 3ms'
	stand_in bin/make 'exit 0'
	touch "$tree"/tests/unit/test_one.c "$tree"/tests/fuzz/fuzz_one.c "$tree"/tests/boot/one.bats
	python tests/hostile/run 'print("ok - good")' 'print("1..1")'
	good
}

# stand_in FILE LINE...
stand_in() {
	{ echo '#!/bin/bash'; printf '%s\n' "${@:2}"; } > "$tree/$1"
	chmod +x "$tree/$1"
}

# python FILE LINE...
python() {
	{ echo '#!/usr/bin/python3 -IS'; printf '%s\n' "${@:2}"; } > "$tree/$1"
	chmod +x "$tree/$1"
}

good() {
	stand_in build/tests/unit/test_one 'echo 1..2; echo ok 1 - a; echo ok 2 - b'
	python tests/init/run 'print("1..1")' 'print("ok 1 - init: good")'
}

# run_tier TIER: as tests/run does, without the bats of this machine.
run_tier() {
	unset B MAYFLY LAB
	PATH=$tree/bin:$(no_bats) run --separate-stderr "$tree/tests/run" "$1"
	echo "# $output"
}

# Prints a PATH that has all programs of this one but bats.
no_bats() {
	local dir=$BATS_TEST_TMPDIR/path
	if [ ! -d "$dir" ]; then
		mkdir "$dir"
		ln -s /usr/bin/* /bin/* "$dir" 2> /dev/null || true
		rm -f "$dir/bats"
	fi
	printf '%s\n' "$dir"
}

# green TIER SUM, red TIER NAME: it has passed with this sum; it has failed, and NAME is among what is named.
green() {
	run_tier "$1"
	assert_equal "$status" 0
	assert_equal "${lines[-1]}" "$2"
}

red() {
	run_tier "$1"
	assert_equal "$status" 1
	assert_regex "${lines[-1]}" '[1-9][0-9]* failed'
	assert_regex "$output" $'\nfailed:\n.*'"$2"
}

@test "what passes is green, and every result is counted" {
	green unit '2 passed, 0 failed, 0 skipped'
	green cli '3 passed, 0 failed, 0 skipped'
	green boot '2 passed, 0 failed, 0 skipped'
	green hostile '4 passed, 0 failed, 0 skipped'
	stand_in build/tests/unit/test_one 'echo 1..2; echo ok 1 - a; echo "ok 2 - b # skip no such thing"'
	green unit '1 passed, 0 failed, 1 skipped'
}

@test "a result that failed is red, whatever the status" {
	for status in 0 1; do
		stand_in build/tests/unit/test_one 'echo 1..2; echo ok 1 - a; echo not ok 2 - b' "exit $status"
		red unit b
	done
}

@test "a unit program that ends early is red with every status" {
	for status in 0 1 2 77 124 255; do
		stand_in build/tests/unit/test_one 'echo 1..2; echo ok 1 - a' "exit $status"
		red unit test_one
	done
}

@test "a unit program with all results and a status other than 0 is red" {
	for status in 1 2 124; do
		stand_in build/tests/unit/test_one 'echo 1..2; echo ok 1 - a; echo ok 2 - b' "exit $status"
		red unit test_one
	done
}

@test "a unit program that crashes, even after its last result, is red" {
	for signal in ABRT SEGV KILL; do
		stand_in build/tests/unit/test_one 'echo 1..2; echo ok 1 - a; echo ok 2 - b' "kill -$signal \$\$"
		red unit test_one
		stand_in build/tests/unit/test_one 'echo 1..2; printf "ok 1"' "kill -$signal \$\$"
		red unit test_one
	done
}

@test "a unit program without a plan, without tests, with too many results, or that is not there, is red" {
	stand_in build/tests/unit/test_one 'echo ok 1 - a'
	red unit test_one
	stand_in build/tests/unit/test_one 'echo 1..0'
	red unit test_one
	stand_in build/tests/unit/test_one 'exit 0'
	red unit test_one
	stand_in build/tests/unit/test_one 'echo 1..1; echo ok 1 - a; echo ok 2 - b'
	red unit test_one
	rm "$tree/build/tests/unit/test_one"
	red unit test_one
}

@test "one program that ends early is red among others that pass" {
	touch "$tree"/tests/unit/test_{two,three}.c
	stand_in build/tests/unit/test_two 'echo 1..3; echo ok 1 - a'
	stand_in build/tests/unit/test_three 'echo 1..1; echo ok 1 - a'
	red unit test_two
	assert_equal "${lines[-1]}" '4 passed, 1 failed, 0 skipped'
}

@test "without bats the tiers that need it are red" {
	rm "$tree/bin/bats"
	red cli cli
	red boot one.bats
}

@test "bats that ends early, dies or fails without a word is red" {
	local body
	for body in 'echo 1..2; echo ok 1 a' 'echo 1..1; echo ok 1 a; exit 1' 'echo 1..1; echo ok 1 a; kill -KILL $$' 'exit 0'; do
		stand_in bin/bats "$body"
		red cli cli
		red boot one.bats
	done
}

@test "tests that boot no Linux run here where KVM can do no more, the others in the lab, and each once" {
	stand_in build/kvm-runs-kernels 'exit 1'
	stand_in tests/with-kvm 'until [ "$1" = -- ]; do shift; done; shift; IN=lab exec "$@"'
	stand_in bin/bats 'echo 1..1; echo "ok 1 ${IN:-here} ${*:3}"'
	echo '# bats test_tags=flat' > "$tree/tests/boot/one.bats"
	echo '# bats file_tags=flat' > "$tree/tests/boot/abuse.bats"
	echo '# flat' > "$tree/tests/boot/two.bats"
	green boot "$((EUID ? 4 : 5)) passed, 0 failed, 0 skipped"
	run sed -n 's/^ok 1 //p' <<< "$output"
	assert_line 'here --filter-tags flat tests/boot/abuse.bats'
	refute_line --regexp 'lab .*abuse'
	assert_line 'lab tests/boot/two.bats'
	if [ "$EUID" -eq 0 ]; then
		assert_line 'here --filter-tags flat tests/boot/one.bats'
		assert_line 'lab --filter-tags !flat tests/boot/one.bats'
	else
		assert_line 'lab tests/boot/one.bats'
	fi
	# Tests that strace would be a part of run without it, and the others of their file with it.
	stand_in tests/seccomp/trace 'TRACED=traced exec "$@"'
	stand_in bin/bats 'echo 1..1; echo "ok 1 ${IN:-here} ${TRACED:-plain} ${*:3}"'
	printf '# bats %s\n' file_tags=flat test_tags=untraced > "$tree/tests/boot/one.bats"
	touch "$tree/tests/boot/net.bats"
	green boot "6 passed, 0 failed, 0 skipped"
	run sed -n 's/^ok 1 //p' <<< "$output"
	# In labs without it, too, but for some files, as long as flat tests run here.
	if [ "$EUID" -eq 0 ]; then
		assert_line 'here traced --filter-tags flat,!untraced tests/boot/one.bats'
		assert_line 'here plain --filter-tags flat,untraced tests/boot/one.bats'
		assert_line 'lab plain tests/boot/two.bats'
	else
		assert_line 'lab traced tests/boot/two.bats'
	fi
	assert_line 'here plain --filter-tags flat tests/boot/abuse.bats'
	assert_line 'lab traced tests/boot/net.bats'
	rm "$tree/tests/boot/net.bats"
	stand_in tests/seccomp/trace 'exec "$@"'
	echo '# bats test_tags=flat' > "$tree/tests/boot/one.bats"
	stand_in bin/bats 'echo 1..1; echo "ok 1 ${IN:-here} ${*:3}"'
	# Where it can do that, all of them run here, and where it cannot do even this, in the lab.
	stand_in build/kvm-runs-kernels 'exit 0'
	green boot '4 passed, 0 failed, 0 skipped'
	refute_output --partial 'flat'
	stand_in build/kvm-runs-kernels 'exit 1'
	stand_in build/mayfly 'exit 1'
	green boot '4 passed, 0 failed, 0 skipped'
	refute_output --partial 'here'
}

@test "tests that take minutes in the lab have a tier of their own" {
	stand_in bin/bats 'echo 1..1; echo "ok 1 ${*:3}"'
	echo '# bats test_tags=slow' > "$tree/tests/boot/one.bats"
	touch "$tree/tests/boot/two.bats"
	green boot '3 passed, 0 failed, 0 skipped'
	assert_line 'ok 1 --filter-tags !slow tests/boot/one.bats'
	assert_line 'ok 1 tests/boot/two.bats'
	green slow '1 passed, 0 failed, 0 skipped'
	assert_line 'ok 1 --filter-tags slow tests/boot/one.bats'
	rm "$tree/tests/boot/one.bats"
	red slow slow
}

@test "a lab that fails twice is red, once is not" {
	stand_in tests/with-kvm 'exit 125'
	red boot one.bats
	stand_in tests/with-kvm 'until [ "$1" = -- ]; do shift; done; shift' '[ -e again ] || { touch again; exit 125; }' 'exec "$@"'
	green boot '2 passed, 0 failed, 0 skipped'
}

@test "tests that hang are red when their time is over, and what hung is named" {
	export FILE_SECONDS=2
	stand_in bin/bats 'echo 1..2; echo ok 1 a; exec -a hung sleep 50'
	red cli cli
	assert_regex "$output" 'processes that were started meanwhile:.* hung 50'
	red boot one.bats
	assert_regex "$output" 'processes that were started meanwhile:.* hung 50'
}

@test "a program that has left another with its output is not waited for" {
	stand_in bin/bats 'echo 1..1; echo ok 1 a; sleep 50 &'
	SECONDS=0
	green boot '2 passed, 0 failed, 0 skipped'
	[ "$SECONDS" -lt 40 ]
}

@test "the tests of init and the hostile guest are red after an exception, before, amid and after the results" {
	python tests/init/run 'raise ValueError'
	red cli init
	python tests/init/run 'print("1..2")' 'print("ok 1 - init: good", flush=True)' 'raise ValueError'
	red cli init
	python tests/init/run 'print("1..1")' 'print("ok 1 - init: good", flush=True)' 'raise ValueError'
	red cli init
	python tests/init/run 'print("1..2")' 'print("ok 1 - init: good", flush=True)'
	red cli init
	python tests/hostile/run 'raise ValueError'
	red hostile hostile
	python tests/hostile/run 'print("ok - good", flush=True)' 'raise ValueError'
	red hostile hostile
	python tests/hostile/run 'print("ok - good")' 'print("1..1", flush=True)' 'raise ValueError'
	red hostile hostile
}

@test "a fuzzer that finds something, or is not there, is red; it starts from the corpus, which stays as it is" {
	mkdir -p "$tree/tests/fuzz/corpus/one"
	red fuzz fuzz_one
	# libFuzzer writes to the first directory.
	stand_in build/fuzz/fuzz_one 'for dir; do [[ $dir == -* ]] || { : > "$dir/new"; break; }; done' \
		'[[ " $* " == *" -runs=0 "* ]] && rm -f tests/fuzz/corpus/one/new' '[[ " $* " == *" tests/fuzz/corpus/one "* ]]'
	green fuzz '2 passed, 0 failed, 0 skipped'
	[ ! -e "$tree/tests/fuzz/corpus/one/new" ]
	stand_in build/fuzz/fuzz_one '[[ " $* " != *" -max_total_time="* ]]'
	red fuzz fuzz_one
}

@test "a tier of which nothing comes, or that stops half-way, is red" {
	sed -i 's/^run_unit() {/&\n\treturn 0/' "$tree/tests/run"
	red unit 'tier unit'
	sed -i 's/^\treturn 0/\techo ok - early\n\t: "$nothing_has_this_name"/' "$tree/tests/run"
	red unit 'tier unit'
	rm "$tree/tests/fuzz/fuzz_one.c"
	red fuzz fuzz_
}

@test "tests/style/bats finds assertions that cannot fail, and no others" {
	# Bats would take an @test for one of its own.
	sed 's/^@T/@test/' > "$BATS_TEST_TMPDIR/some.bats" <<- 'END'
		checks() {
			assert_equal "$1" 1
			[ -e /x ]
		}
		outer() {
			checks 2
			true
		}
		@T "bad" {
			[ -e /x ] && [ -e /y ]
			[[ a && b ]] && true
			! true
			checks 1 || fail "no"
			if outer; then true; fi
			while ! outer 'a }
				b'; do true; done
			for x in 1 2; do [ -e /x ] && true; done
			x=$(checks 1) || { [ -e /x ] && true; }
			outer \
				&& true
		}
		@T "good" {
			[ -e /x ] || [ -e /y ]
			[[ a && b ]] # [ a ] && [ b ]
			[ -e /x ] && [ -e /y ] || fail "no"
			! true || fail "no"
			if [ -e /x ] && ! true; then checks 1; fi
			x="$(true && true)"
			case $x in a | b) checks 1 ;; *) true ;; esac
			[ -z "$x" ] || checks 1
			cat <<- EOF
				[ a ] && [ b ]
			EOF
			(cd / && true)
			[ -e /x ] && [ -e /y ]
		}
	END
	run "$BATS_TEST_DIRNAME/../style/bats" "$BATS_TEST_TMPDIR/some.bats"
	assert_equal "$status" 1
	run grep -o 'bats:[0-9]*:' <<< "$output"
	assert_equal "$(tr '\n' ' ' <<< "$output")" "$(printf 'bats:%d: ' 10 11 12 13 14 15 17 18 19)"
}

@test "tests/style/words finds phrases that are not plain English, with file and line, and no others" {
	cat > "$BATS_TEST_TMPDIR/bad.h" <<- 'END'
		/* Who opens it closes it. */
		/*
		 * The guest is told. The host waits for
		 * ever for what cannot be had.
		 */
		return "no memory: it was told anew";
		/* The files of others, for want of a better word. */
	END
	cat > "$BATS_TEST_TMPDIR/good.h" <<- 'END'
		/* The opener, who closes it, tells the guest. Whose file is it? */
		int test_is_told, anew_max; /* those of other users; whatever is there */
	END
	run "$BATS_TEST_DIRNAME/../style/words" "$BATS_TEST_TMPDIR"/{bad,good}.h
	assert_equal "$status" 1
	run grep -o '[a-z]*\.h:[0-9]*:' <<< "$output"
	assert_equal "$(sort <<< "$output" | tr '\n' ' ')" "$(printf 'bad.h:%d: ' 1 3 4 4 6 6 7 7)"
}

@test "the comparison of system calls wants what is listed, but for what only some machines need, and nothing else" {
	cp "$BATS_TEST_DIRNAME/../seccomp/compare" "$tree/tests/seccomp/"
	mkdir -p "$tree/build/vmm/filters"
	stand_in build/vmm/filters/compile 'echo main read; echo main write; echo io read; echo main clock_gettime rarely'
	printf '# used %s\n' 'main read' 'main write' > "$tree/one"
	echo '# used io read' > "$tree/two"
	run env B=build "$tree/tests/seccomp/compare" "$tree"/{one,two}
	assert_success
	echo '# used main clock_gettime' >> "$tree/two"
	run env B=build "$tree/tests/seccomp/compare" "$tree"/{one,two}
	assert_success
	run env B=build "$tree/tests/seccomp/compare" "$tree/one"
	assert_failure
	assert_equal "${#lines[@]}" 1
	assert_output --partial 'io read'
	echo '# used io clock_gettime' >> "$tree/two"
	run env B=build "$tree/tests/seccomp/compare" "$tree"/{one,two}
	assert_failure
	assert_equal "${#lines[@]}" 1
	assert_output --partial 'io clock_gettime'
}

@test "runner: what a unit test skips is no failure, and is counted" {
	stand_in build/tests/unit/test_one 'echo 1..2; echo ok 1 - a; echo "not ok 2 # SKIP b"'
	green unit '1 passed, 0 failed, 1 skipped'
	stand_in build/tests/unit/test_one 'echo 1..2; echo ok 1 - a; echo "not ok 2 - SKIP"'
	red unit SKIP
}
