#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2154 # lines for other shells; variables of the helper
# The walls of a user network: what a guest reaches of the host and of its networks, with a real passt. Needs root for
# addresses and for a default route where there is none.

load helper

setup_file() {
	need_passt
}

# Services of the host: TCP and UDP ports 8131 and 8132 of all its addresses, which answer with their port. They do not
# close: of a connection that ends at once, Debian 12's passt loses the FIN at times, or resets it.
setup() {
	have_route6
	cat > "$BATS_TEST_TMPDIR/services" <<- 'END'
		import selectors, socket
		s, held = selectors.DefaultSelector(), []
		for port in 8131, 8132:
		    for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
		        one = socket.socket(socket.AF_INET6, kind)
		        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
		        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
		        one.bind(("::", port))
		        if kind == socket.SOCK_STREAM:
		            one.listen(16)
		        s.register(one, selectors.EVENT_READ, port)
		while True:
		    for key, _ in s.select():
		        if key.fileobj.type == socket.SOCK_DGRAM:
		            key.fileobj.sendto(b"open-%d\n" % key.data, key.fileobj.recvfrom(99)[1])
		            continue
		        held.append(key.fileobj.accept()[0])
		        held[-1].sendall(b"open-%d\n" % key.data)
	END
	"$PYTHON" -I -S "$BATS_TEST_TMPDIR/services" 3>&- &
	server=$!
	wait_for grep -q ":$(printf %04X 8132) " /proc/net/udp6
	(cat "$INITRAMFS" && cd "$BATS_TEST_TMPDIR" && mkdir bin && cp "$B/tests/guest/datagram" bin &&
		echo bin/datagram | cpio --quiet -o -H newc) > "$BATS_TEST_TMPDIR/initramfs"
	own=$(ip -4 -o address show scope global | sed -n '1s/.* inet \([0-9.]*\).*/\1/p')
	[ -n "$own" ] || fail "this host has no address"
}

teardown() {
	local id
	for id in "${started[@]}"; do
		kill -KILL "$id" 2> /dev/null || true
	done
	[ -z "${server:-}" ] || kill "$server" 2> /dev/null || true
	ip netns del mf-far 2> /dev/null || true
}

# What the guest runs: "try NAME ADDRESS PORT" prints NAME and what comes, or the error; "datagram" does so by UDP.
TRY='try() { echo "$1: $(timeout 6 nc -w 20 "$2" "$3" < /dev/null 2>&1)"; }
datagram() { echo "$1: $(/bin/datagram ask "$2" "$3" 2>&1)"; }
[ ! -e /proc/net/if_inet6 ] || echo has-ipv6
'

# guest OPTION... -- SHELL WORDS: sets $output.
guest() {
	local options=()
	while [ "$1" != -- ]; do
		options+=("$1")
		shift
	done
	run_mayfly run -k "$KERNEL" -i "$BATS_TEST_TMPDIR/initramfs" "${options[@]}" -- sh -c "$TRY$2"
	assert_equal "$status" 0
}

@test "walls: the host and link-local addresses are closed, and a program in the guest sees it at once" {
	guest --log-level info -n user -- "
		try loopback 10.0.2.2 8131
		try own $own 8131
		try metadata 169.254.169.254 80
		datagram gateway-udp 10.0.2.2 8131
		datagram own-udp $own 8131
		datagram metadata-udp 169.254.169.254 53
		try own6 fd00:9::2 8131
		try gateway6 fd6d:6179:666c::2 8131
		ping -c 1 -W 5 $own > /dev/null && echo pinged || echo no ping"
	refute_output --partial open-
	assert_line --regexp '^loopback: .*No route to host'
	assert_line --regexp '^own: .*No route to host'
	assert_line --regexp '^metadata: .*No route to host'
	for name in gateway own metadata; do
		assert_line "$name-udp: No route to host"
	done
	assert_line 'no ping'
	[[ $output != *has-ipv6* ]] || assert_line --regexp '^gateway6: .*Permission denied'
	# Each rule once.
	[ "$(grep -c "refused.* 169\.254\.169\.254 " <<< "$stderr")" = 1 ]
	[ "$(grep -c "refused.* 10\.0\.2\.2 " <<< "$stderr")" = 1 ]
}

@test "walls: host= opens single ports of the host's loopback, and allow an address of the host" {
	guest -n user,host=8131,8132/udp --allow "$own:8132" -- "
		try one 10.0.2.2 8131
		try two 10.0.2.2 8132
		datagram three 10.0.2.2 8132
		datagram four 10.0.2.2 8131
		try five $own 8132
		try six $own 8131
		try seven fd6d:6179:666c::2 8131
		try eight fd6d:6179:666c::2 8132"
	assert_line 'one: open-8131'
	refute_line --partial 'two: open'
	assert_line 'three: open-8132'
	refute_line --partial 'four: open'
	assert_line 'five: open-8132'
	refute_line --partial 'six: open'
	[[ $output != *has-ipv6* ]] || assert_line 'seven: open-8131'
	refute_line --partial 'eight: open'
}

# Another machine, 10.9.7.2 and fd00:8::2.
make_far() {
	ip netns add mf-far
	ip link add mf-near type veth peer name mf-far netns mf-far
	ip address add 10.9.7.1/24 dev mf-near
	ip -6 address add fd00:8::1/64 dev mf-near nodad
	ip link set mf-near up
	ip -n mf-far address add 10.9.7.2/24 dev mf-far
	ip -n mf-far -6 address add fd00:8::2/64 dev mf-far nodad
	ip -n mf-far link set mf-far up
	kill "$server"
	ip netns exec mf-far "$PYTHON" -I -S "$BATS_TEST_TMPDIR/services" 3>&- &
	server=$!
	wait_for ip netns exec mf-far grep -q ":$(printf %04X 8132) " /proc/net/udp6
}

@test "walls: private networks are open; deny closes them, and allow one port of them" {
	local tries='
		try one 10.9.7.2 8131
		try two 10.9.7.2 8132
		datagram three 10.9.7.2 8132
		try four fd00:8::2 8131'
	make_far
	guest -n user -- "$tries"
	assert_line 'one: open-8131'
	assert_line 'two: open-8132'
	assert_line 'three: open-8132'
	[[ $output != *has-ipv6* ]] || assert_line 'four: open-8131'
	guest -n user --deny private --allow 10.9.7.0/24:8132 -- "$tries"
	refute_line --partial 'one: open'
	assert_line 'two: open-8132'
	assert_line 'three: open-8132'
	refute_line --partial 'four: open'
	guest -n user --deny all -- "$tries"
	refute_output --partial open-
}

# Peers of published ports have any address: the loopback's and that of another machine.
@test "walls: published ports answer whoever asks, behind closed walls" {
	make_far
	start_mayfly run -k "$KERNEL" -i "$BATS_TEST_TMPDIR/initramfs" -p 0.0.0.0:8141:80 -p 0.0.0.0:8142:81/udp -n user --deny all -- sh -c '
		mkdir /w; echo published > /w/file; httpd -p 80 -h /w
		/bin/datagram serve 81 &
		echo ready
		wait'
	wait_said '^ready'
	cat > "$BATS_TEST_TMPDIR/ask" <<- 'END'
		import socket, sys
		s = socket.create_connection((sys.argv[1], 8141), 120)
		s.settimeout(120)
		s.sendall(b"GET /file HTTP/1.0\r\n\r\n")
		assert b"published" in s.makefile("rb").read()
		s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
		s.settimeout(10)
		for i in range(12):
		    s.sendto(b"x\n", (sys.argv[1], 8142))
		    try:
		        assert b"answered" in s.recv(99)
		        sys.exit(0)
		    except OSError:
		        s.close()
		        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
		        s.settimeout(10)
		sys.exit("no answer")
	END
	"$PYTHON" -I -S "$BATS_TEST_TMPDIR/ask" 127.0.0.1
	ip netns exec mf-far "$PYTHON" -I -S "$BATS_TEST_TMPDIR/ask" 10.9.7.1
}
