#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2034,SC2154 # tests are subshells, variables are of helper.bash
#
# `mayfly run --snapshot DIR --until WHEN` with flat guests: when it is taken, and that nothing is left where it is not.

# bats file_tags=flat
load helper

setup() {
	snapshot_names
}

teardown() {
	kill_started
	end_test
}

# keep [OPTION...]: starts the guest that keeps what it reads, with a snapshot.
keep() {
	start_mayfly run -k "$GUESTS/keep.elf" -m 64M --snapshot "$snap" "$@"
}

# ends STATUS: it does.
ends() {
	wait_end
	assert_equal "$status" "$1"
}

# restored TEXT: a VM from the snapshot gets TEXT and ^D. Sets $output.
restored() {
	run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" restore "$snap" <<< "$1"$'\n\4'
	strip_returns
	output=${output#$'\n'} # of the line in which the text was seen
	assert_equal "$status" 0
}

# is_clean: there is no snapshot, and no part of one.
is_clean() {
	[ -z "$(find "$dir" -mindepth 1 -maxdepth 1 -name '*snap*')" ]
}

nothing_left() {
	is_clean || fail "$(find "$dir" -name '*snap*')"
}

# writer: sets it to the process that writes the snapshot.
find_writer() {
	writer=$(pgrep -P "$pid" -x snapshot)
}

@test "until: a text on the console, in one piece of output or several" {
	keep --until 'one two'
	wait_said '^keep'
	tell 'one one'
	tell 'one two'
	ends 0
	assert_equal "$stderr" ''
	restored three
	assert_equal "$output" $'one one\none two\nthree'
	assert_equal "$(stat -c %a "$snap/state" "$snap/memory" "$snap/config.json" | sort -u)" 400
	run "$MAYFLY" snap check "$snap"
	assert_success
}

@test "until: a time, which replaces the older snapshot; also with a name and a control socket" {
	local control=
	keep --until 300ms
	wait_said '^keep'
	ends 0
	for control in --name="until$$" --control="$dir/c"; do
		keep --until 300ms "$control"
		ends 0
		restored one
		assert_equal "${output##*$'\n'}" one
	done
	assert_equal "$(find "$dir" -maxdepth 1 -name '*new*')" ''
}

@test "until: in a jail, and with --io-engine sync" {
	[ "$(id -u)" = 0 ] || skip "the jail needs root"
	keep --jail --io-engine sync --until one
	wait_said '^keep'
	tell one
	ends 0
	restored two
	assert_equal "$output" $'one\ntwo'
}

@test "until: ready, a time and a text differ; what is none is refused, and so are options that do not go with it" {
	local words
	for words in '--until 5x' '--until 5s5s' '--until=' '--until text=' '--until 1000h' "--until $(printf '%0200d' 1)" \
		"--until $(printf 'x%.0s' {1..129})" '' '--until 1s --detach' '--until 1s -t -- true' \
		'--until 1s --artifact /x=/tmp -- true'; do
		# shellcheck disable=SC2086 # words
		run_mayfly run -k "$GUESTS/keep.elf" --snapshot "$snap" $words
		assert_equal "$status" 125
		assert_one_line .
		nothing_left
	done
	run_mayfly run -k "$GUESTS/keep.elf" --until ready
	assert_equal "$status" 125
	assert_one_line -- --snapshot
	keep --until text=5s
	wait_said '^keep'
	tell 'after 5s'
	ends 0
	rm -rf "$snap"
	keep --until text=text=x
	wait_said '^keep'
	tell 'text=x'
	ends 0
}

@test "until: a guest that ends before, and a text that never comes, leave nothing" {
	keep --until never
	wait_said '^keep'
	tell $'\4' # it reboots
	ends 125
	nothing_left
	run_mayfly run -k "$GUESTS/triple.elf" --snapshot "$snap" --until never
	assert_equal "$status" 102
	nothing_left
	keep --until never --timeout 500ms
	ends 124
	nothing_left
	# No init answers there.
	run_mayfly run -k "$GUESTS/keep.elf" --snapshot "$snap" --until ready --boot-timeout 500ms
	assert_equal "$status" 125
	nothing_left
	# The older snapshot stays.
	keep --until keep
	ends 0
	keep --until never --timeout 500ms
	ends 124
	restored one
	assert_equal "$output" one
}

@test "until: a directory that cannot be made, or is something else, is refused before the VM starts" {
	mkdir "$dir/other"
	echo mine > "$dir/other/file"
	for snap in "$dir/other" "$dir/no/such" "$dir/other/file" /proc/snap; do
		run_mayfly run -k "$GUESTS/hello.elf" --snapshot "$snap" --until never
		assert_equal "$status" 125
		assert_equal "$output" ''
		assert_one_line "$snap"
	done
	assert_equal "$(ls -A "$dir/other")" file
}

@test "until: without space there is no snapshot, and the status says so" {
	[ "$(id -u)" = 0 ] || skip "needs root, to mount a tmpfs"
	mkdir "$dir/small"
	mount -t tmpfs -o size=16k none "$dir/small"
	run_mayfly run -k "$GUESTS/keep.elf" -m 64M --snapshot "$dir/small/snap" --until 300ms
	run -0 ls -A "$dir/small"
	local left=$output
	umount "$dir/small"
	assert_equal "$left" ''
	assert_regex "$stderr" 'No space'
}

# has_written: the configuration is synced, and another file is being synced.
has_written() {
	[ "$(grep -c fsync "$dir/trace" 2> /dev/null)" -ge 2 ]
}

@test "until: SIGTERM before it is due, and while it is written" {
	local monitor
	keep --until never
	wait_said '^keep'
	kill -TERM "$pid"
	ends 143
	nothing_left
	command -v strace || skip "needs strace"
	# Its writer waits for a disk then.
	monitor=$MAYFLY
	MAYFLY=strace
	start_mayfly -f -qq -o "$dir/trace" -e trace=fsync -e inject=fsync:delay_enter=2s "$monitor" \
		run -k "$GUESTS/keep.elf" -m 64M --snapshot "$snap" --until 100ms
	MAYFLY=$monitor
	wait_for has_written
	kill -TERM "$(pgrep -P "$pid" -x mayfly)"
	wait_end
	assert_equal "$status" 143
	wait_for is_clean
}

@test "until: what is left of a killed run, or of a killed writer, is nothing" {
	keep --until never
	wait_said '^keep'
	kill -KILL "$pid"
	wait_end
	wait_for is_clean
	keep --until never
	wait_said '^keep'
	wait_for find_writer
	kill -KILL "$writer"
	ends 125
	keep --until 100ms # takes over what that has left
	ends 0
	assert_equal "$(find "$dir" -maxdepth 1 -name '*new*')" ''
}

@test "until: two runs with one directory: the second is refused" {
	local first
	keep --until one
	wait_said '^keep'
	first=$pid
	run_mayfly run -k "$GUESTS/hello.elf" --snapshot "$snap" --until never
	assert_equal "$status" 125
	assert_one_line "$snap"
	kill -0 "$first"
	tell one
	ends 0
	restored two
	assert_equal "$output" $'one\ntwo'
}
