#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2154 # lines for other shells; variables of the helper
# A user network as its guest and the host's programs see it: published ports, the resolver, names, and IPv6. With a real
# passt. Needs root for a default route where there is none, and for a resolv.conf of the test's own.

load helper

setup_file() {
	need_passt
}

setup() {
	have_route6
}

teardown() {
	local id
	for id in "${started[@]}"; do
		kill -KILL "$id" 2> /dev/null || true
	done
	[ -z "${server:-}" ] || kill "$server" 2> /dev/null || true
	ip netns del mf-far 2> /dev/null || true
	if [ -z "${BATS_TEST_COMPLETED:-}" ] && [ -s "$BATS_TEST_TMPDIR/err" ]; then
		sed 's/^/stderr: /' "$BATS_TEST_TMPDIR/err"
		tail -c 1000 "$BATS_TEST_TMPDIR/out"
	fi
}

# start_guest OPTION... -- SHELL WORDS: a guest that runs the words, and then waits for its end.
start_guest() {
	local options=()
	while [ "$1" != -- ]; do
		options+=("$1")
		shift
	done
	start_mayfly run -k "$KERNEL" -i "$INITRAMFS" "${options[@]}" -- sh -ec "$2"$'\necho ready; cat > /dev/null'
	wait_said '^ready'
}

# fetch ADDRESS PORT: the file that the guest's web server has.
fetch() {
	timeout 60 bash -c 'exec 9<> "/dev/tcp/$1/$2"
		printf "GET /file HTTP/1.0\r\n\r\n" >&9
		sed "1,/^\r\$/d" <&9' fetch "$@" 3>&-
}

# The guest says whether its kernel has it.
say_ipv6='[ ! -e /proc/net/if_inet6 ] || echo has-ipv6'

# It says when the first datagram for a port without a program has come.
COUNT='{ until grep -q "^Udp: [0-9]* [1-9]" /proc/net/snmp; do sleep 0.1; done; echo got-datagram; }'
WEB='mkdir /w; echo one > /w/file; httpd -p 80 -h /w'

@test "publish: a port, a range, a protocol, and a free port; on 127.0.0.1 alone" {
	local address port
	start_guest -p 8080:80 -p 8100-8101:80-81 -p 5353:53/udp -p 80 -- \
		"$WEB; mkdir /x; echo two > /x/file; httpd -p 81 -h /x; $COUNT &"
	assert_equal "$(fetch 127.0.0.1 8080)" one
	assert_equal "$(fetch 127.0.0.1 8100)" one
	assert_equal "$(fetch 127.0.0.1 8101)" two
	port=$(sed -n 's/^mayfly: 127\.0\.0\.1:\([0-9]*\) .*/\1/p' "$BATS_TEST_TMPDIR/err")
	[ -n "$port" ] || fail "the port that was picked is not printed"
	assert_equal "$(fetch 127.0.0.1 "$port")" one
	# Nothing listens there: the guest counts it.
	"$PYTHON" -I -S -c 'import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"ping", ("127.0.0.1", 5353))'
	wait_said '^got-datagram'
	address=$(ip -4 -o address show scope global | sed -n '1s/.* inet \([0-9.]*\).*/\1/p')
	[ -n "$address" ] || fail "this host has no address"
	run bash -c ": > /dev/tcp/$address/8080"
	assert_failure
}

# bats test_tags=flat
@test "publish: a port that is taken is an error before the guest runs" {
	"$PYTHON" -I -S -c 'import socket, time
s = socket.create_server(("127.0.0.1", 8095))
time.sleep(300)' 3>&- &
	server=$!
	wait_for grep -q ":$(printf %04X 8095) " /proc/net/tcp
	for ports in 8095:80 127.0.0.1:8095:80 0.0.0.0:8095:80 8090-8099:80-89; do
		run_mayfly run -k "$GUESTS/hello.elf" -p "$ports"
		assert_equal "$status" 125
		assert_one_line 'port 8095 '
		refute_output --partial hello
	done
	run_flat hello -p 8096:80
	assert_output --partial hello
}

@test "names: the host's resolver, also on 127.0.0.53, and its search domains" {
	# It answers each question of type A with 192.0.2.77.
	cat > "$BATS_TEST_TMPDIR/resolver" <<- 'END'
		import socket
		s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
		s.bind(("127.0.0.53", 53))
		while True:
		    q, peer = s.recvfrom(512)
		    end = q.index(b"\0", 12) + 5
		    is_a = q[end - 4:end - 2] == b"\0\1" and q[12:end].lower().startswith(b"\3box\3lab\7example")
		    answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + bytes([192, 0, 2, 77]) if is_a else b""
		    flags = b"\x81\x80" if q[12:end].lower().startswith(b"\3box\3lab") else b"\x81\x83"
		    s.sendto(q[:2] + flags + b"\0\1" + bytes([0, len(answer) > 0]) + bytes(4) + q[12:end] + answer, peer)
	END
	"$PYTHON" -I -S "$BATS_TEST_TMPDIR/resolver" 3>&- &
	server=$!
	printf 'nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lab.example\n' > "$BATS_TEST_TMPDIR/resolv.conf"
	local binary=$MAYFLY
	MAYFLY=unshare start_mayfly -m sh -ec 'mount --bind "$0" /etc/resolv.conf; exec "$@"' "$BATS_TEST_TMPDIR/resolv.conf" \
		"$binary" run -k "$KERNEL" -i "$INITRAMFS" -n user -- \
		sh -ec 'cat /etc/resolv.conf; nslookup -type=a box.lab.example; ping -c 1 -W 1 box || true; echo ready'
	wait_said '^ready'
	wait_end
	said '^nameserver 10\.0\.2\.3' || fail "not the resolver's address"
	said '^search lab.example' || fail "not its search domains"
	said 'Address: 192\.0\.2\.77' || fail "no answer"
	said 'PING box.*192\.0\.2\.77' || fail "the search domain is not used"
}

@test "names: --dns, --dns-search, --add-host and a name with dots, without a network and with one" {
	run_mayfly run -k "$KERNEL" -i "$INITRAMFS" --dns 192.0.2.1 --dns fd00::53 --dns-search a.example --add-host db:192.0.2.9 \
		-- sh -c 'cat /etc/resolv.conf; ping -c 1 -W 1 db; cat /etc/hosts'
	assert_line --index 0 'nameserver 192.0.2.1'
	assert_line --index 1 'nameserver fd00::53'
	assert_line --index 2 'search a.example'
	assert_line --partial 'PING db (192.0.2.9)'
	assert_line '127.0.0.1	localhost'

	run_mayfly run -k "$KERNEL" -i "$INITRAMFS" -n user,dns=192.0.2.1 --add-host host.docker.internal=host-gateway -- \
		sh -c 'cat /etc/resolv.conf; ping -c 1 -W 1 host.docker.internal; hostname; hostname -i'
	assert_line --index 0 'nameserver 192.0.2.1'
	assert_line --partial 'PING host.docker.internal (10.0.2.2)'
	assert_line --regexp '^10\.0\.2\.1[56]$'
}

@test "ipv6: an address of the guest's own at once, and published ports reach a server that listens on [::]" {
	start_guest -p '[::1]:8080:80' -p 8081:80 -- \
		"$say_ipv6; $WEB; ip -6 address show eth0; sleep 3; ip -6 address show eth0 | sed s,^,later,; ip -6 route show default; ip address show lo"
	said '^has-ipv6' || fail "the guest's kernel has no IPv6"
	said 'inet6 fd6d:6179:666c::15/64' || fail "no address"
	! said tentative || fail "an address that cannot be used yet"
	said 'default via fd6d:6179:666c::2 ' || fail "no route"
	[ "$(grep -c '^later.*inet6 .*global' "$BATS_TEST_TMPDIR/out")" = 1 ] || fail "not one address"
	said 'inet6 ::1/128' || fail "localhost is not ::1"
	assert_equal "$(fetch ::1 8080)" one
	assert_equal "$(fetch 127.0.0.1 8081)" one
}

@test "ipv6: the guest reaches a server of another machine" {
	ip netns add mf-far
	ip link add mf-near type veth peer name mf-far netns mf-far
	ip -6 address add fd00:8::1/64 dev mf-near nodad
	ip link set mf-near up
	ip -n mf-far -6 address add fd00:8::2/64 dev mf-far nodad
	ip -n mf-far link set mf-far up
	ip netns exec mf-far "$PYTHON" -I -S -c 'import socket
s = socket.create_server(("::", 8123), family=socket.AF_INET6)
while True:
    c, peer = s.accept()
    c.recv(1000)
    c.sendall(b"HTTP/1.0 200 OK\r\n\r\nyou are " + peer[0].encode() + b"\n")
    c.close()' 3>&- &
	server=$!
	wait_for ip netns exec mf-far grep -q ":$(printf %04X 8123) " /proc/net/tcp6
	run_mayfly run -k "$KERNEL" -i "$INITRAMFS" -n user -- sh -c "$say_ipv6; wget -q -O - 'http://[fd00:8::2]:8123/'"
	[[ $output == *has-ipv6* ]] || fail "the guest's kernel has no IPv6"
	assert_line 'you are fd00:8::1'
}
