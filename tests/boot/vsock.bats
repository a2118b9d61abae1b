#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2034,SC2094,SC2154 # the guest expands what is in single quotes, variables are of
# helper.bash, what is read and written under one name is a FIFO
# vsock with Linux in the guest: both directions, much data, many connections, and hosts that misbehave. The other end is
# tests/guest/vsock.c, in the guest and on the host.

load helper

VSOCK=$B/tests/guest/vsock

setup_file() {
	cd "$BATS_FILE_TMPDIR" || return 1
	mkdir -p root/bin
	cp "$B/tests/guest/vsock" root/bin/vsock
	# A second archive behind the first: the kernel unpacks both.
	(cat "$INITRAMFS" && cd root && echo bin/vsock | cpio --quiet -o -H newc) > initramfs
	head -c "${VSOCK_MIB:-64}M" /dev/urandom > data
}

setup() {
	started=()
	INITRAMFS=$BATS_FILE_TMPDIR/initramfs
	cd "$BATS_TEST_TMPDIR" || return 1
}

# On the host, in the background; what it prints goes to FILE.
host() { # host FILE COMMAND ARG...
	local file=$1
	shift
	"$VSOCK" "$@" < /dev/null > "$file" 2>> host.err 3>&- &
	host_pid=$!
}

# From the host to a port of the guest, as soon as somebody listens there.
to_guest() {
	local end=$((SECONDS + LIMIT))
	until "$VSOCK" pipe "hybrid:$PWD/v:$1" 2> /dev/null; do
		[ "$SECONDS" -lt "$end" ] || fail "nobody listens on the guest's port $1"
		sleep 0.2
	done
}

is_socket() {
	[ -S "$1" ]
}

@test "a guest connects to the host, and the host to the guest; both half-close" {
	mkfifo back
	# The answer needs the end of the question.
	"$VSOCK" serve "unix:$PWD/v_52" < back 3>&- | sha256sum > back &
	wait_for is_socket v_52
	start_linux --vsock v,cid=7 -- \
		'echo question | vsock pipe vsock:52; mkfifo f; vsock serve vsock:99 < f | sha256sum > f; echo served'
	sum=$(echo question | sha256sum)
	wait_said "$sum"
	[ -S v ]
	assert_equal "$(echo question | to_guest 99)" "$sum"
	wait_said '^served'
	wait_end
	assert_equal "$status" 0
	[ ! -e v ]
}

@test "much data from the guest to the host arrives as it was" {
	sum=$(sha256sum < "$BATS_FILE_TMPDIR/data")
	"$VSOCK" serve "unix:$PWD/v_52" < /dev/null 3>&- | sha256sum > sum &
	wait_for is_socket v_52
	run_linux -d "$BATS_FILE_TMPDIR/data:ro" --vsock v -- 'vsock pipe vsock:52 < /dev/vda; echo sent $?'
	assert_equal "$status" 0
	assert_output --partial 'sent 0'
	wait_for grep -q . sum
	assert_equal "$(< sum)" "$sum"
}

@test "much data from the host to the guest arrives as it was" {
	start_linux --vsock v -- 'vsock serve vsock:99 < /dev/null | sha256sum'
	to_guest 99 < "$BATS_FILE_TMPDIR/data"
	wait_said "$(sha256sum < "$BATS_FILE_TMPDIR/data")"
	wait_end
	assert_equal "$status" 0
}

@test "200 connections at once, each way" {
	host echo echo "unix:$PWD/v_52" 200
	wait_for is_socket v_52
	start_linux --vsock v -- 'vsock storm vsock:52 200; vsock echo vsock:99 200'
	wait_said 'storm: 200 echoed, 0 refused'
	wait_said '^listening'
	run "$VSOCK" storm "hybrid:$PWD/v:99" 200
	assert_output 'storm: 200 echoed, 0 refused'
	wait_end
	assert_equal "$status" 0
}

@test "more than 1023 connections are refused, and those that are there go on" {
	start_linux --vsock v -- 'vsock echo vsock:99 1024; echo over'
	wait_said '^listening'
	mkfifo hold
	exec {holder}<> hold
	"$VSOCK" storm "hybrid:$PWD/v:99" 1100 hold < hold > storm 3>&- {holder}>&- &
	wait_for grep -q held storm
	assert_equal "$(head -n 1 storm)" 'storm: 1023 echoed, 77 refused'
	run "$VSOCK" pipe "hybrid:$PWD/v:99"
	assert_equal "$status" 1
	echo > hold
	exec {holder}>&-
	kill %%
	assert_equal "$(echo again | to_guest 99)" again
	wait_said '^over'
	wait_end
	assert_equal "$status" 0
}

@test "a host that never reads stops one connection and no other" {
	mkfifo never
	exec {held}<> never
	# Its output goes to a pipe that nobody reads, so it stops reading the guest, too.
	"$VSOCK" serve "unix:$PWD/v_52" < /dev/null > never 3>&- {held}>&- &
	host echo echo "unix:$PWD/v_53" 1
	wait_for is_socket v_53
	start_linux --vsock v -- 'vsock stall vsock:52 < /dev/ttyS0 & sleep 4; echo other | vsock pipe vsock:53; cat'
	wait_said '^stalled after [0-9]* bytes'
	bytes=$(sed -n 's/^stalled after \([0-9]*\) bytes.*/\1/p' out)
	[ "$bytes" -ge 65536 ]
	[ "$bytes" -le 2000000 ]
	wait_said '^other'
	kill -TERM "$pid"
	wait_end
	assert_equal "$status" 143
	exec {held}>&-
	[ ! -e v ]
}

@test "ports of the host where nobody listens are refused at once" {
	mkdir v_61
	ln -s v_52 v_62
	"$PYTHON" -c 'import socket; socket.socket(socket.AF_UNIX).bind("v_63")'
	host out52 serve "unix:$PWD/v_52"
	wait_for is_socket v_52
	run_linux --vsock v --log-level debug -- 'for p in 60 61 62 63; do vsock pipe vsock:$p < /dev/null 2>&1 || echo refused $p; done'
	assert_equal "$status" 0
	for p in 60 61 62 63; do
		assert_output --partial "refused $p"
	done
	assert_output --partial 'vsock: connect: Connection reset by peer'
	refute_output --partial 'timed out'
	assert_regex "$stderr" '\[vsock(-sync)?\] vsock_conn: connection of the guest to port 60'
	kill "$host_pid"
}

@test "a guest that resets its device loses its connections and can make new ones" {
	local driver=/sys/bus/virtio/drivers/vmw_vsock_virtio_transport
	host first serve "unix:$PWD/v_52"
	wait_for is_socket v_52
	start_linux --vsock v -- "(sleep 1000 | vsock pipe vsock:52) & sleep 2; cd $driver; echo virtio0 > unbind;" \
		"echo unbound; sleep 1; echo virtio0 > bind; echo bound; vsock serve vsock:99 < /dev/null"
	wait_said '^unbound'
	wait_for has_ended "$host_pid"
	wait_said '^bound'
	echo 'after reset' | to_guest 99
	wait_said '^after reset'
	wait_end
	assert_equal "$status" 0
}

@test "a client that does not end its line is closed after 5 seconds" {
	start_linux --vsock v -- 'cat'
	wait_for is_socket v
	now_ms
	local began=$ms
	run "$VSOCK" storm "unix:$PWD/v" 1
	now_ms
	assert_output 'storm: 0 echoed, 0 refused'
	[ $((ms - began)) -ge 5000 ]
	kill -TERM "$pid"
	wait_end
	assert_equal "$status" 143
}

@test "a socket that is in use is refused, one that was left is replaced" {
	start_linux --vsock v -- 'cat'
	wait_for is_socket v
	run_mayfly run -k "$KERNEL" --vsock v
	assert_equal "$status" 125
	assert_one_line "vsock 'v': another process listens there"
	kill -KILL "$pid"
	wait_end
	[ -S v ]
	run_linux --vsock v -- 'true'
	assert_equal "$status" 0
	[ ! -e v ]
	run_mayfly run -k "$KERNEL" --vsock "$(printf 'p%.0s' {1..97})"
	assert_equal "$status" 125
	assert_one_line 'is longer than 96 bytes'
	run_mayfly run -k "$KERNEL" --vsock v,cid=2
	assert_equal "$status" 125
	assert_one_line 'cid: must be 3 to 4294967294'
}

@test "what is meant for init, no other program of the guest gets: the streams of exec, the artifacts" {
	# Ports of loader/init/proto.h: the artifact, and the streams of number 1, the next command of exec.
	start_mayfly run -k "$KERNEL" -i "$INITRAMFS" --control ./ctl --artifact /result=got -u 65534 -- sh -c '
		vsock pipe vsock:1835204608 < /dev/null && echo taken: artifact
		for port in 1835270148 1835270149 1835270150; do
			while :; do echo fake | vsock pipe vsock:$port 2> /dev/null && echo taken: $port; done &
		done
		echo attacking; head -n 1 > /dev/null; kill $(jobs -p); echo over'
	wait_said '^attacking'
	for n in 1 2 3 4 5; do
		run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" exec ./ctl -u 0 -- sh -c "cat; echo err $n >&2; exit $n" <<< "secret $n"
		assert_equal "$status:$output:$stderr" "$n:secret $n:err $n"
	done
	"$MAYFLY" exec ./ctl -u 0 -- sh -c 'echo true > /result' < /dev/null
	tell end
	wait_end
	refute_regex "$(< out)" taken
	assert_regex "$(< out)" over
	assert_equal "$status:$(< got/result)" 0:true
}
