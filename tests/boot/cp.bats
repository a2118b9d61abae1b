#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2034,SC2153,SC2154 # each test is a subshell; the variables are of helper.bash
#
# `mayfly cp`: files out of a running guest, and into it.

load helper

setup() {
	started=()
	cd "$BATS_TEST_TMPDIR" || return 1
	export XDG_RUNTIME_DIR=$BATS_TEST_TMPDIR
	name=cp$$
}

teardown() {
	kill_started
}

mf() {
	run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" "$@" < /dev/null
	echo "# mayfly $*: $status $stderr"
}

# guest WORDS: in the guest, which must succeed.
guest() {
	mf exec "$name" -- sh -c "$1"
	assert_equal "$status" 0
}

start_guest() {
	start_mayfly run -k "$KERNEL" -d "$ROOTFS:ro" -m 192M --name "$name" -- sh -c 'echo ready; cat'
	mf exec --wait="$LIMIT" "$name" -- true
	assert_equal "$status" 0
}

# same DIR DIR: types, modes, sizes, times and contents.
same() {
	local dir lists=()
	for dir; do
		lists+=("$(cd "$dir" && find . -mindepth 1 \( -type d -printf '%P %y %m %Ts\n' \) -o -printf '%P %y %m %s %l %Ts\n' | sort)")
	done
	assert_equal "${lists[1]}" "${lists[0]}"
	diff -r --no-dereference "$@"
}
make_tree() {
	mkdir -p t/d/e t/empty
	echo one > t/one
	seq 100000 > t/d/many
	ln -s nowhere/at/all t/d/link
	ln t/one t/d/e/again
	chmod 751 t/one
	truncate -s 3M t/hole
	touch -h -d '1999-01-02' t/d/link t/hole t/d/e t/d
}

@test "cp: a tree into the guest and back, the same" {
	start_guest
	make_tree
	mf cp t "$name:/tmp"
	assert_equal "$status" 0
	assert_equal "$output$stderr" ''
	guest 'cat /tmp/t/d/e/again; stat -c "%a %u" /tmp/t/one; readlink /tmp/t/d/link'
	assert_output $'one\n751 0\nnowhere/at/all'
	mf cp "$name:/tmp/t" back
	assert_equal "$status" 0
	same t back
	# Into a directory; what is in one; a relative path of the guest begins at its root.
	mkdir dest
	mf cp "$name:tmp/t" dest
	assert_equal "$status" 0
	same t dest/t
	echo mine > dest/mine
	mf cp "$name:/tmp/t/." dest
	assert_equal "$status" 0
	cmp t/d/many dest/d/many
	assert_equal "$(cat dest/mine)" mine
	mf cp t/. "$name:/tmp/u"
	assert_equal "$status" 0
	mf cp "$name:/tmp/u/." ./u
	assert_equal "$status" 0
	same t u
	# Archives.
	"$MAYFLY" cp "$name:/tmp/t" - < /dev/null | tar -x --one-top-level=x
	same t x/t
	tar -c t | "$MAYFLY" cp - "$name:/run"
	guest 'cmp /run/t/d/many /tmp/t/d/many'
	# Owners.
	chown 12:34 t/one
	mf cp -a t/one "$name:/tmp/owned"
	guest 'stat -c "%u %g" /tmp/owned'
	assert_output '12 34'
	assert_none_of_ours
}

# Nothing is left beside what was copied.
assert_none_of_ours() {
	run find . -name '.mayfly*'
	assert_output ''
}

@test "cp: single files, names with colons, and what cannot be copied" {
	start_guest
	echo one > one
	echo colon > a:b
	mf cp one "$name:/tmp/two"
	assert_equal "$status" 0
	mf cp "$name:/tmp/two" two
	assert_equal "$status" 0
	cmp one two
	echo other > two
	mf cp "$name:/tmp/two" two
	cmp one two
	mf cp ./a:b "$name:/tmp"
	assert_equal "$status" 0
	mf cp "$name:/tmp/a:b" ./c:d
	assert_equal "$status" 0
	cmp a:b c:d
	# A file of /proc has no size: that it is not whole is an error. Its kernel's own file, and a link, are followed.
	mf cp "$name:/proc/cpuinfo" .
	assert_equal "$status" 125
	assert_regex "$stderr" cpuinfo
	mf cp "$name:/nothing" nothing
	assert_equal "$status" 125
	assert_regex "$stderr" '/nothing'
	refute [ -e nothing ]
	mf cp nothing "$name:/tmp"
	assert_equal "$status" 125
	assert_one_line nothing
	mf cp one "$name:/tmp/none/two"
	assert_equal "$status" 125
	assert_one_line '/tmp/none/two'
	mf cp one "$name:/tmp/none/"
	assert_equal "$status" 125
	mkdir dir
	guest 'mkdir -p /tmp/w/one'
	run --separate-stderr "$MAYFLY" cp - "$name:/tmp/w" < <(tar -c one)
	assert_equal "$status" 125
	assert_one_line '/tmp/w/one: '
	mf cp dir "$name:/tmp/two"
	assert_equal "$status" 125
	assert_one_line '/tmp/two'
	mf cp "$name:/tmp" one
	assert_equal "$status" 125
	assert_equal "$(cat one)" one
	mf cp "$name:/tmp/two" none/
	assert_equal "$status" 125
	mf cp "$name:/tmp/two" none/two
	assert_equal "$status" 125
	# More than may come, and a guest's drive that is full.
	guest 'dd if=/dev/zero of=/tmp/large bs=1M count=3 2> /dev/null'
	mf cp --max 1M "$name:/tmp/large" .
	assert_equal "$status" 125
	refute [ -e large ]
	mf cp --max 4M "$name:/tmp/large" .
	assert_equal "$status" 0
	truncate -s 300M huge
	seq 30000000 > huge
	mf cp huge "$name:/tmp"
	assert_equal "$status" 125
	assert_one_line '/tmp/huge'
	rm huge
	guest 'rm /tmp/huge /tmp/large'
	# A device is left out, and the rest is there.
	guest 'mkdir /tmp/dev && echo x > /tmp/dev/x && mknod /tmp/dev/null c 1 3'
	mf cp "$name:/tmp/dev" .
	assert_equal "$status" 125
	assert_regex "$stderr" 'dev/null'
	for args in one "one two" "$name:/a $name:/b" "one ''" "a b c"; do
		eval "mf cp $args"
		assert_equal "$status" 125
	done
	mf cp "no-such-guest:/tmp/x" .
	assert_equal "$status" 125
	assert_none_of_ours
	# The command of the guest goes on.
	exec {to}>&-
	kill -TERM "$pid"
	wait_end
}

@test "cp: a signal ends it, and nothing is left" {
	start_guest
	guest 'mkfifo /tmp/fifo'
	# A guest whose files have no end.
	mkdir dest
	guest 'mkdir /tmp/d && seq 3000000 > /tmp/d/many'
	"${DEFAULT_SIGNALS[@]}" "$MAYFLY" cp "$name:/tmp/d" dest < /dev/null 2> err 3>&- &
	copy=$!
	wait_for test -n "$(ls -A dest)" -o ! -d "/proc/$copy"
	kill -INT "$copy" 2> /dev/null || true
	status=0
	wait "$copy" || status=$?
	if [ "$status" != 0 ]; then
		assert_equal "$status" 130
		run ls -A dest
		assert_output ''
	fi
	guest 'cat /tmp/d/many | wc -l'
	assert_output 3000000
}
