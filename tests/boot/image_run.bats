#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2153,SC2154 # for the shells of guests; each test is a subshell; variables of helper.bash
#
# Images of containers in a guest. What becomes of an image without one is in image.bats.

load helper

setup() {
	# shellcheck disable=SC2034 # end_test uses it
	started=()
	cd "$BATS_TEST_TMPDIR" || return 1
	export XDG_CACHE_HOME=$BATS_FILE_TMPDIR/cache HOME=$PWD
	export MAYFLY_KERNEL=$KERNEL
	bwrap --unshare-pid --ro-bind / / true || skip "bubblewrap cannot make a sandbox here"
	image=oci:$BATS_FILE_TMPDIR/oci:box
}

teardown() {
	end_test
}

setup_file() {
	load helper
	local words='d:bin d:dev d:proc d:sys d:tmp:1777 d:srv:755:1000:1000 d:etc d:srv/u:755:1000:1000' command
	for command in sh cat echo id pwd env ls stat sleep true nc touch sed; do
		words+=" s:bin/$command:busybox"
	done
	# Names with colons and line feeds are beyond the words of oci-image.
	printf 'root:x:0:0::/root:/bin/sh\nu:x:1000:1001::/srv/u:/bin/sh\n' > "$BATS_FILE_TMPDIR/passwd"
	printf '#!/bin/sh\nid -u; id -g; pwd; echo $A $B; echo "$@"\n' > "$BATS_FILE_TMPDIR/entry"
	"$PYTHON" -I -S "$BATS_TEST_DIRNAME/oci-image" "$BATS_FILE_TMPDIR/oci:box" \
		'{"Entrypoint": ["/bin/entry"], "Cmd": ["from", "cmd"], "Env": ["A=image", "B=image"], "WorkingDir": "/srv",
		"User": "u", "StopSignal": "SIGUSR1", "ExposedPorts": {"8080/tcp": {}}, "Volumes": {"/srv": {}}}' \
		"$words b:bin/busybox:/bin/busybox" \
		'f:srv/u/file:4751:1000:1001:text f:srv/of-image:644:1000:1000:data' \
		"b:etc/passwd:$BATS_FILE_TMPDIR/passwd b:bin/entry:$BATS_FILE_TMPDIR/entry"
}

@test "image: its command runs as it says, and as the user says" {
	run_mayfly run "$image"
	assert_equal "$status" 0
	assert_equal "$output" $'1000\n1001\n/srv\nimage image\nfrom cmd'
	run_mayfly run -e B=mine -w / -u 0:5 "$image" -x "two words"
	assert_equal "$status" 0
	assert_equal "$output" $'0\n5\n/\nimage mine\n-x two words'
	refute_regex "$stderr" unpacking # it was there
	run_mayfly run --entrypoint /bin/sh "$image" -c 'echo $B; exit 7'
	assert_equal "$status" 7
	assert_equal "$output" image
}

@test "image: its files have their owners, modes and capabilities, and can be changed" {
	run_mayfly run -u root --entrypoint sh "$image" -c \
		'stat -c "%a %u %g" /srv/u/file; cat of-image; echo more > of-image; cat of-image; touch /new; ls -d /new'
	assert_equal "$status" 0
	assert_equal "$output" $'4751 1000 1001\ndatamore\n/new'
	run_mayfly run "$image" # and the changes are lost
	assert_equal "$status" 0
	run_mayfly run --entrypoint sh "$image" -c 'ls -d /new; cat of-image'
	assert_regex "$output" data
	refute_regex "$output" 'new|more'
}

@test "image: in the background, by a name, in a jail, with a layer on disk" {
	local name
	name=$("$MAYFLY" run --detach --name box --disk 64M --entrypoint sleep "$image" 1000 2> err < /dev/null)
	assert_equal "$name" box
	run_mayfly exec box -- cat /srv/of-image
	assert_equal "$output" data
	run_mayfly images ls
	assert_regex "$output" '\* oci:'
	run_mayfly images rm "$image"
	assert_equal "$status" 125
	assert_regex "$stderr" 'uses it'
	run_mayfly images prune
	assert_equal "$status" 0
	run_mayfly exec box -- cat /bin/entry
	assert_equal "$status" 0
	run_mayfly kill box
	run_mayfly wait box
	run_mayfly rm box
	[ "$EUID" -eq 0 ] || return 0
	run_mayfly run --jail "$image"
	assert_equal "$status" 0
	assert_regex "$output" 'from cmd'
}

@test "image: what asks its processes to end" {
	local signal
	# shellcheck disable=SC2016 # for the guest's shell
	for signal in '' USR2; do
		start_mayfly run ${signal:+--stop-signal "$signal"} --entrypoint sh "$image" -c \
			'trap "echo USR1; exit 1" USR1; trap "echo USR2; exit 1" USR2; trap "echo TERM" TERM; echo ready; while :; do sleep 1; done'
		wait_for grep -q ready "$BATS_TEST_TMPDIR/out"
		kill "$pid"
		wait_for has_ended "$pid"
		assert_regex "$(< "$BATS_TEST_TMPDIR/out")" "^ready[[:space:]]+${signal:-USR1}[[:space:]]*$"
	done
}
