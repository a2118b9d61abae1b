#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2154 # lines for other shells; variables of the helper
# Network interfaces of a guest: taps and what can happen to them, limits, floods, and networks through passt. Needs root
# for the taps; each test makes its own.

load helper

setup_file() {
	[ "$(id -u)" = 0 ] || skip "taps need root"
	[ -c /dev/net/tun ] || skip "no /dev/net/tun"
	# What passt wants: an interface with a default route. The lab has none.
	if [ -z "$(ip route show default)" ]; then
		ip link add mf-up type veth peer name mf-out
		ip address add 10.9.0.2/24 dev mf-out
		ip link set mf-up up
		ip link set mf-out up
		ip route add default via 10.9.0.1
	fi
}

# make_tap NAME: a tap with the address 10.1.0.1, and its guest's at 10.1.0.2.
make_tap() {
	tap=$1
	ip tuntap add dev "$tap" mode tap
	ip address add 10.1.0.1/24 dev "$tap"
	ip link set "$tap" up
}

# boot_net SPEC: a guest with that interface and a shell.
boot_net() {
	start_mayfly run -k "$KERNEL" -i "$INITRAMFS" -n "$1" "${@:2}"
	wait_said '[#$] '
}

# do_guest LINE: a line for the guest's shell; waits until it is done.
do_guest() {
	step=$((${step:-0} + 1))
	tell "$1; echo done-\$(($step + 1000))"
	wait_said "done-$((step + 1000))"
}

# cpu_ticks: what mayfly has used, sets $ticks (100 a second).
cpu_ticks() {
	local stat
	stat=$(< "/proc/$pid/stat")
	# shellcheck disable=SC2206 # words
	stat=(${stat##*) })
	ticks=$((stat[11] + stat[12]))
}

rss_kib() {
	rss=$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$pid/status")
}

end_guest() {
	tell 'reboot -f'
	wait_end
	assert_equal "$status" 0
	[ -z "${tap:-}" ] || ip link del "$tap" 2> /dev/null || true
}

# receive PORT: writes count and SHA-256 of what one connection brings to $BATS_TEST_TMPDIR/received. It says something
# first, for Debian 12's passt: that resets a connection after 24 s on which only the guest has sent anything.
receive() {
	rm -f "$BATS_TEST_TMPDIR/received"
	"$PYTHON" -I -S - "$1" > "$BATS_TEST_TMPDIR/received" 3>&- <<- 'END' &
		import hashlib, socket, sys
		s = socket.create_server(("", int(sys.argv[1])))
		s.settimeout(240)
		c, count, h = s.accept()[0], 0, hashlib.sha256()
		c.settimeout(240)
		c.sendall(b"\n")
		while data := c.recv(1 << 18):
		    count += len(data)
		    h.update(data)
		print(count, h.hexdigest())
	END
	receiver=$!
	wait_for bash -c "grep -q :$(printf %04X "$1") /proc/net/tcp"
}

# fetch ADDRESS PORT: the SHA-256 of what the guest's httpd has as "many".
fetch() {
	"$PYTHON" -I -S - "$@" 3>&- <<- 'END'
		import hashlib, socket, sys
		s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 240)
		s.sendall(b"GET /many HTTP/1.0\r\n\r\n")
		stream, h = s.makefile("rb"), hashlib.sha256()
		while stream.readline().strip():
		    pass
		while data := stream.read(1 << 18):
		    h.update(data)
		print(h.hexdigest())
	END
}

# What both sides have: busybox, 2 MiB, so many times.
many() {
	local i
	for ((i = 0; i < $1; i++)); do cat "$(command -v busybox)"; done
}

teardown() {
	ip link del mf-tap 2> /dev/null || true
	[ -z "${receiver:-}" ] || kill "$receiver" 2> /dev/null || true # one that still waits has the port
	local code=0
	[ -n "${BATS_TEST_COMPLETED:-}" ] || code=1
	for id in "${started[@]}"; do
		[ "$code" = 0 ] || kill -KILL "$id" 2> /dev/null || true
	done
	if [ "$code" = 1 ] && [ -s "$BATS_TEST_TMPDIR/err" ]; then
		sed 's/^/stderr: /' "$BATS_TEST_TMPDIR/err"
		tail -c 600 "$BATS_TEST_TMPDIR/out"
	fi
	[ "$code" = 1 ] || assert_none_left
}

# iperf ADDRESS MIB: iperf3 in the guest, which has $TOOLS as its only drive, both ways with a server here. 8 MiB
# are enough for every buffer to have been used many times, and take the lab some seconds each way; IPERF_MIB=1000 for a
# native KVM.
iperf() {
	local direction
	do_guest 'mkdir -p /t; mount -o ro /dev/vda /t'
	for direction in '' -R; do
		iperf3 -s -1 -p 5201 > "$BATS_TEST_TMPDIR/iperf" 2>&1 3>&- &
		wait_for grep -q ":$(printf %04X 5201) " /proc/net/tcp /proc/net/tcp6
		do_guest "/t/bin/iperf3 $direction -f k -c $1 -p 5201 -n ${IPERF_MIB:-$2}M && echo iperf\"\"-ok${direction:-up}"
		said "^iperf-ok${direction:-up}" || fail "iperf3 failed: $(cat "$BATS_TEST_TMPDIR/iperf")"
		wait $!
	done
	run grep -c ' [1-9][0-9]* Kbits/sec .*receiver' "$BATS_TEST_TMPDIR/out"
	assert_output 2
}

@test "net: a tap: pings, much data both ways, and iperf3 both ways" {
	local sum times=32 # of some 2 MiB
	[ -z "${LAB:-}" ] || times=8
	make_tap mf-tap
	boot_net tap=mf-tap,mac=02:00:00:00:00:42,mtu=1400 -m 256M -d "$TOOLS:ro"
	do_guest 'cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu; ifconfig eth0 10.1.0.2 up'
	said '02:00:00:00:00:42' || fail "not its address"
	said '^1400' || fail "not its mtu"
	do_guest 'ping -c 2 10.1.0.1 | grep received'
	said '2 packets received' || fail "no answers to the guest"
	busybox ping -q -c 2 -W 20 10.1.0.2

	many "$times" > "$BATS_TEST_TMPDIR/many"
	sum=$(sha256sum < "$BATS_TEST_TMPDIR/many")
	tell 'nc -l -p 5000 | sha256sum'
	wait_for bash -c 'cat "$0" > /dev/tcp/10.1.0.2/5000' "$BATS_TEST_TMPDIR/many" 2> /dev/null
	wait_said "${sum%% *}"

	# By sendfile: nc writes 1 KiB at a time, which takes the lab two minutes.
	do_guest 'mkdir /tmp/w; i=0; while [ $i -lt '$times' ]; do cat /bin/busybox; i=$((i+1)); done > /tmp/w/many; httpd -p 5000 -h /tmp/w'
	assert_equal "$(fetch 10.1.0.2 5000)" "${sum%% *}"
	iperf 10.1.0.1 8
	end_guest
	assert_equal "$(grep -c warn "$BATS_TEST_TMPDIR/err")" 0
}

@test "net: a tap goes down and up, and is deleted, while the guest sends" {
	local before
	make_tap mf-tap
	boot_net tap=mf-tap
	do_guest 'ifconfig eth0 10.1.0.2 up; ping -c 1 10.1.0.1'
	# The ring reads and writes it itself: frames take no worker threads of the kernel's.
	local tracing=/sys/kernel/tracing count
	if [ -w $tracing/events/io_uring/io_uring_queue_async_work/enable ]; then
		echo 1 > $tracing/events/io_uring/io_uring_queue_async_work/enable
		echo > $tracing/trace
		busybox ping -q -c 20 -i 0.1 -W 20 10.1.0.2
		echo 0 > $tracing/events/io_uring/io_uring_queue_async_work/enable
		count=$(grep -c ' io-.*io_uring_queue_async_work' $tracing/trace || true)
		[ "$count" -lt 10 ] || fail "$count operations for 20 frames each way went to worker threads"
	fi
	ip link set mf-tap down
	do_guest 'ping -c 2 -W 1 10.1.0.1 | grep received'
	said ' 0 packets received' || fail "answers from a tap that is down"
	ip link set mf-tap up
	do_guest 'ping -c 1 10.1.0.1 | grep received'
	said ' 1 packets received' || fail "no answer after the tap was up again"
	do_guest 'cat /sys/class/net/eth0/carrier | tr 01 NY'
	said '^Y' || fail "no carrier"

	ip link del mf-tap
	wait_for grep -q "continuing with the link down" "$BATS_TEST_TMPDIR/err"
	do_guest 'cat /sys/class/net/eth0/carrier | tr 01 NY'
	said '^N' || fail "the guest does not see that the link is down"
	do_guest 'ifconfig eth0 down; ifconfig eth0 up'
	cpu_ticks
	before=$ticks
	sleep 3
	cpu_ticks
	[ $((ticks - before)) -lt 100 ] || fail "used $((ticks - before)) ticks in 3 s"
	end_guest
}

@test "net: a flood while the guest does not read costs nothing, and traffic resumes" {
	local before rss_before
	make_tap mf-tap
	boot_net tap=mf-tap,mac=02:00:00:00:00:42
	cpu_ticks
	before=$ticks
	rss_kib
	rss_before=$rss
	"$PYTHON" -I -S - mf-tap <<- 'END'
		import socket, sys, time
		s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
		s.bind((sys.argv[1], 0))
		frame = bytes.fromhex("020000000042") + bytes(6) + b"\x88\xb5" + bytes(1000)
		end = time.monotonic() + 4
		while time.monotonic() < end:
		    try:
		        s.send(frame)
		    except OSError:
		        pass
	END
	cpu_ticks
	rss_kib
	[ $((ticks - before)) -lt 100 ] || fail "used $((ticks - before)) ticks in 4 s"
	[ $((rss - rss_before)) -lt 1024 ] || fail "grew by $((rss - rss_before)) KiB"
	# The frames that wait are before the answer, which may be dropped meanwhile.
	do_guest 'ifconfig eth0 10.1.0.2 up; i=0; until ping -c 1 -W 1 10.1.0.1 > /dev/null || [ $i = 60 ]; do i=$((i+1)); done; echo tries-$i-'
	said '^tries-' || fail "no answer"
	! said '^tries-60-' || fail "the interface is stuck"
	end_guest
}

@test "net: limits hold in both directions" {
	local began
	make_tap mf-tap
	boot_net tap=mf-tap,rx_bandwidth=1M/1000,tx_bandwidth=1M/1000
	do_guest 'ifconfig eth0 10.1.0.2 up; ping -c 1 10.1.0.1'
	tell 'nc -l -p 5000 | wc -c | sed s/^/got-/'
	# Some 5 MiB: the first is free, the others take a second each.
	many 3 | head -c 5000000 > "$BATS_TEST_TMPDIR/many"
	now_ms
	began=$ms
	wait_for bash -c 'cat "$0" > /dev/tcp/10.1.0.2/5000' "$BATS_TEST_TMPDIR/many" 2> /dev/null
	wait_said 'got-5000000'
	now_ms
	[ $((ms - began)) -ge 3500 ] || fail "5 MB to the guest in $((ms - began)) ms"
	[ $((ms - began)) -lt $((LIMIT * 1000)) ] || fail "5 MB to the guest only in $((ms - began)) ms"

	receive 5001
	began=$ms
	do_guest 'head -c 5000000 /dev/zero | nc 10.1.0.1 5001'
	wait_for test -s "$BATS_TEST_TMPDIR/received"
	assert_regex "$(< "$BATS_TEST_TMPDIR/received")" '^5000000 '
	now_ms
	[ $((ms - began)) -ge 3500 ] || fail "5 MB from the guest in $((ms - began)) ms"
	[ $((ms - began)) -lt $((LIMIT * 1000)) ] || fail "5 MB from the guest only in $((ms - began)) ms"
	end_guest
}

@test "net: a tap that was made for it, and an inherited descriptor" {
	# Two interfaces: the first tap does not exist, the second comes as descriptor 7.
	cat > "$BATS_TEST_TMPDIR/with-tap" <<- 'END'
		import fcntl, os, struct, sys
		fd = os.open("/dev/net/tun", os.O_RDWR)
		fcntl.ioctl(fd, 0x400454ca, struct.pack("16sH22x", b"mf-fd", 0x0002 | 0x1000 | 0x4000))
		os.dup2(fd, 7)
		os.system("ip address add 10.2.0.1/24 dev mf-fd; ip link set mf-fd up")
		os.execv(sys.argv[1], sys.argv[1:])
	END
	local binary=$MAYFLY
	MAYFLY=$PYTHON start_mayfly -I -S "$BATS_TEST_TMPDIR/with-tap" "$binary" run -k "$KERNEL" -i "$INITRAMFS" \
		-n tap=mf-new -n fd=7
	wait_said '[#$] '
	ip address add 10.1.0.1/24 dev mf-new
	do_guest 'ifconfig eth0 10.1.0.2 up; ifconfig eth1 10.2.0.2 up; ping -c 2 10.1.0.1; ping -c 2 10.2.0.1'
	[ "$(grep -c '2 packets received' "$BATS_TEST_TMPDIR/out")" = 2 ] || fail "no answers"
	end_guest
	wait_for bash -c '! ip link show mf-new 2> /dev/null'
}

@test "net: taps and descriptors that cannot be used" {
	make_tap mf-tap
	start_mayfly run -k "$KERNEL" -i "$INITRAMFS" -n tap=mf-tap
	wait_said '[#$] '
	run_mayfly run -k "$KERNEL" -n tap=mf-tap
	assert_equal "$status" 125
	assert_one_line "net 'net0': tap 'mf-tap' is in use"
	run_mayfly run -k "$KERNEL" -n fd=77
	assert_equal "$status" 125
	assert_one_line "net 'net0': fd 77 is not open"
	run_mayfly run -k "$KERNEL" -n tap=lo
	assert_equal "$status" 125
	assert_one_line "net 'net0': 'lo' is not a tap"
	run --separate-stderr timeout 20 setpriv --bounding-set -net_admin --inh-caps -net_admin \
		"$MAYFLY" run -k "$KERNEL" -n tap=mf-other < /dev/null
	assert_equal "$status" 125
	assert_one_line "there is no tap 'mf-other', and making one needs CAP_NET_ADMIN"
	end_guest
}

# The guest's own addresses, as passt's DHCP would give them; its gateway leads to ports that host= opens.
boot_user() {
	command -v passt > /dev/null || skip "passt is not installed"
	boot_net "$@"
	do_guest 'ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up; route add default gw 10.0.2.2'
	host=10.0.2.2
}

# 64 MiB; in the lab, where passt is an emulated process beside an emulated guest and moves less than 1 MiB a second, 8.
@test "net: through passt: a forwarded port, much data both ways, and iperf3 both ways" {
	local sum times=32
	[ -z "${LAB:-}" ] || times=4
	boot_user user,tcp=2222:5000,host=5001,5201 -d "$TOOLS:ro"
	do_guest 'cat /sys/class/net/eth0/mtu'
	said '^65520' || fail "not the mtu of a user network"
	many "$times" > "$BATS_TEST_TMPDIR/many"
	sum=$(sha256sum < "$BATS_TEST_TMPDIR/many")
	tell 'nc -l -p 5000 | sha256sum'
	do_host() { cat "$BATS_TEST_TMPDIR/many" > /dev/tcp/127.0.0.1/2222; }
	wait_for do_host
	wait_said "${sum%% *}"

	receive 5001
	do_guest "i=0; while [ \$i -lt $times ]; do cat /bin/busybox; i=\$((i+1)); done | nc $host 5001"
	wait_for test -s "$BATS_TEST_TMPDIR/received"
	assert_regex "$(< "$BATS_TEST_TMPDIR/received")" " ${sum%% *}$"
	iperf "$host" 4 # within the 24 s of receive()
	pgrep -P "$pid" -x 'passt.*' > "$BATS_TEST_TMPDIR/passt"
	end_guest
	wait_for has_ended "$(< "$BATS_TEST_TMPDIR/passt")"
}

@test "net: passt dies, the guest continues; mayfly dies, passt ends" {
	boot_user user
	local passt
	passt=$(pgrep -P "$pid" -x 'passt.*')
	kill -KILL "$passt"
	wait_for grep -q "passt has ended.*continuing with the link down" "$BATS_TEST_TMPDIR/err"
	do_guest 'cat /sys/class/net/eth0/carrier | tr 01 NY'
	said '^N' || fail "the guest does not see that the link is down"
	end_guest

	step=0
	rm -f "$BATS_TEST_TMPDIR"/{out,err}
	boot_user user
	passt=$(pgrep -P "$pid" -x 'passt.*')
	kill -KILL "$pid"
	wait_for has_ended "$passt"
	wait "$pid" || true
}

# bats test_tags=flat
@test "net: passt that is not there" {
	run --separate-stderr env PATH=/nonexistent "$MAYFLY" run -k "$KERNEL" -n user
	assert_equal "$status" 125
	assert_one_line "net 'net0': passt is not installed"
}
