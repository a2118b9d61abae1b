#!/usr/bin/env bats
# shellcheck disable=SC2034,SC2154 # the variables are of helper.bash
#
# The package in configs/python, by pytest: tests/python. Each test there is a line of this test's output.

load helper

setup() {
	umask 022
	started=()
	export MAYFLY KERNEL ROOTFS B PYTHONDONTWRITEBYTECODE=1
	cd "$BATS_TEST_TMPDIR" || return 1
}

# run_pytest FILE...: of tests/python. A test that hangs shows where, and is interrupted in the end.
run_pytest() {
	local files=("${@/#/$root/tests/python/}")
	timeout -s INT -k 30 800 "$PYTHON" -m pytest -p no:cacheprovider -v --tb=short --durations=5 \
		-o faulthandler_timeout=$((LIMIT * 2)) --basetemp="$BATS_TEST_TMPDIR/pytest" "${files[@]}"
}

# bats test_tags=flat
@test "python: parts, and VMs that are cancelled before their guest runs" {
	run_pytest test_parts.py test_flat.py
}

@test "python: sandboxes with Linux in them" {
	run_pytest test_guest.py
}
