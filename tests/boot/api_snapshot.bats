#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2034,SC2154 # tests are subshells; variables of helper.bash
#
# Snapshots by Firecracker's API: what is written, loaded, refused, and left when something fails. Flat guests.

# bats file_tags=flat
load helper
load api

setup() {
	setup_api
	load='PUT /snapshot/load {"snapshot_path":"'$d'/s","mem_file_path":"'$d'/m"'
	create='PUT /snapshot/create {"snapshot_path":"'$d'/s","mem_file_path":"'$d'/m"'
}

teardown() { teardown_api; }

# drive ID PATH [MORE]: a request.
drive() {
	echo "PUT /drives/$1 {\"drive_id\":\"$1\",\"is_root_device\":false,\"path_on_host\":\"$2\"${3:+,$3}}"
}

# snapshot [REQUEST...]: of it, which ends then.
snapshot() {
	tell one
	wait_said '^one'
	each 204 "$@" "$paused" "$create}"
	end_api
}

# load_fails TEXT REQUEST: it is answered with 400 and TEXT, and ends the process as Firecracker's.
load_fails() {
	local text=$1
	shift
	watch_mayfly --api-sock "$d/fails"
	api=$d/fails
	wait_for api_listens
	talk "$@"
	[[ $output == 400\ *"$text"* ]] || fail "no '$text' in: $output"
	watched_ends "exit 1"
	assert_equal "$(grep -c . "$d/err")" 1
	[ ! -e "$api" ]
}

# It waits for a page, and so it is in D or has asked for one; or it has ended, because it was refused.
has_asked() {
	has_ended "$pid" || grep -q handle_userfault "/proc/$pid/task/"*/stack
}

# loads: a VM of the snapshot, which runs.
loads() {
	start_api
	each 204 'PUT /snapshot/load {"snapshot_path":"'"$d"'/s","mem_backend":{"backend_type":"File","backend_path":"'"$d"'/m"},"resume_vm":true}'
}

# send_and_go REQUEST: whose answer nobody waits for.
send_and_go() {
	"$PYTHON" -I -S -c 'import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
line, body = sys.argv[2].split(" {", 1)
s.sendall(f"{line} HTTP/1.1\r\nContent-Length: {len(body) + 1}\r\n\r\n{{{body}".encode())' "$api" "$1"
}

need_strace() {
	command -v strace > /dev/null || skip "no strace here"
}

# inject FAULT: into the system calls of mayfly and of its children from now on, as strace has it, until inject_end.
inject() {
	strace -f -qq -o "$d/strace" -p "$pid" -e trace="${1%%:*}" -e inject="$1" 3>&- &
	injector=$!
	started+=("$injector")
	wait_for is_traced
}

is_traced() {
	[ "$(grep -Lc '^TracerPid:[[:space:]]*0$' /proc/"$pid"/task/*/status | wc -l)" = "$(find /proc/"$pid"/task -mindepth 1 -maxdepth 1 | wc -l)" ]
}

inject_end() {
	kill "$injector" 2> /dev/null || true
	wait "$injector" || true
}

@test "api snapshot: the guest goes on, and so does each VM that is loaded, paused or not" {
	export TRACE_ALL=1 # tests/seccomp/traced
	keep
	snapshot
	assert_equal "$(stat -c '%a %s' "$d/m")" "600 $((32 << 20))"
	[ "$(du -k "$d/m" | cut -f 1)" -lt 256 ]
	assert_equal "$(find "$d" -name '*.new')" ""
	start_api
	talk "$load}" 'GET /' "$resumed" 'GET /' 'GET /mayfly/timeline'
	assert_line --index 0 '204 deprecated '
	assert_line --index 1 --partial '"state":"Paused"'
	assert_line --index 3 --partial '"state":"Running"'
	assert_line --index 4 --regexp '^200 .*"boot": *"snapshot"'
	says two
	each 204 "$paused" "$create,\"snapshot_type\":\"Diff\"}" # it is mapped from the old file
	each 204 "$resumed"
	tell three
	wait_said '^three'
	end_api
	start_api
	talk 'PUT /snapshot/load {"snapshot_path":"'"$d"'/s","mem_backend":{"backend_type":"File","backend_path":"'"$d"'/m"},"resume_vm":true}' 'GET /'
	assert_line --index 0 '204 '
	assert_line --index 1 --partial '"state":"Running"'
	says four $'one\ntwo'
	end_api
}

@test "api snapshot: what a request to create is refused for" {
	start_api
	each 400 "$create}" # before the start
	end_api
	keep
	each 400 "$create}" # running
	[[ $output == *"Create snapshot error"* ]]
	each 204 "$paused"
	each 400 'PUT /snapshot/create' 'PUT /snapshot/create {' 'PUT /snapshot/create []' 'PUT /snapshot/create {}' \
		'PUT /snapshot/create {"snapshot_path":"s"}' 'PUT /snapshot/create {"snapshot_path":null,"mem_file_path":"m"}' \
		'PUT /snapshot/create {"snapshot_path":1,"mem_file_path":"m"}' "$create,\"x\":1}" \
		"$create,\"snapshot_path\":\"$d/s\"}" "$create,\"snapshot_type\":null}" "$create,\"snapshot_type\":\"full\"}" \
		'PATCH /snapshot/create {"snapshot_path":"s","mem_file_path":"m"}' 'GET /snapshot/create' 'PUT /snapshot {}' \
		'PUT /snapshot/other {}' 'PUT /snapshot/create {"snapshot_path":"","mem_file_path":"'"$d"'/m"}' \
		'PUT /snapshot/create {"snapshot_path":"/none/s","mem_file_path":"'"$d"'/m"}' \
		'PUT /snapshot/create {"snapshot_path":"'"$d"'/s","mem_file_path":"/none/m"}' \
		'PUT /snapshot/create {"snapshot_path":"'"$d"'","mem_file_path":"'"$d"'/m"}' \
		'PUT /snapshot/create {"snapshot_path":"'"$d"'/s","mem_file_path":"'"$d"'/s"}' \
		'PUT /snapshot/create {"snapshot_path":"'"$d"'/s","mem_file_path":"'"$d"'/in"}' # a FIFO
	assert_equal "$(find "$d" -name '*.new' -o -name s -o -name m)" ""
	each 204 "$create}" "$resumed"
	tell one
	wait_said '^one'
	end_api
}

@test "api snapshot: what a request to load is refused for, and the process lives on" {
	keep
	snapshot
	start_api
	each 400 'PUT /snapshot/load' 'PUT /snapshot/load null' 'PUT /snapshot/load []' 'PUT /snapshot/load {}' \
		'PUT /snapshot/load {"snapshot_path":"s"}' 'PUT /snapshot/load {"mem_file_path":"m"}' \
		"$load,\"mem_backend\":{\"backend_type\":\"File\",\"backend_path\":\"m\"}}" \
		'PUT /snapshot/load {"snapshot_path":"s","mem_backend":null}' 'PUT /snapshot/load {"snapshot_path":"s","mem_backend":"m"}' \
		'PUT /snapshot/load {"snapshot_path":"s","mem_backend":{"backend_type":"file","backend_path":"m"}}' \
		'PUT /snapshot/load {"snapshot_path":"s","mem_backend":{"backend_type":"File"}}' \
		'PUT /snapshot/load {"snapshot_path":"s","mem_backend":{"backend_path":"m"}}' \
		'PUT /snapshot/load {"snapshot_path":"s","mem_backend":{"backend_type":"File","backend_path":"m","x":1}}' \
		"$load,\"x\":1}" "$load,\"snapshot_path\":\"s\"}" "$load,\"resume_vm\":null}" "$load,\"resume_vm\":1}" \
		"$load,\"enable_diff_snapshots\":null}" "$load,\"track_dirty_pages\":null}" "$load,\"clock_realtime\":null}" \
		"$load,\"network_overrides\":null}" "$load,\"network_overrides\":{}}" "$load,\"network_overrides\":[1]}" \
		"$load,\"network_overrides\":[{\"iface_id\":\"1\",\"host_dev_name\":\"t\"},{\"iface_id\":\"1\"}]}" \
		"$load,\"drive_overrides\":[{\"drive_id\":\"1\"}]}" "$load,\"vsock_override\":{}}" "$load,\"vsock_override\":1}" \
		"$load,\"huge_pages\":\"1G\"}" "$load,\"huge_pages\":null}" 'PATCH /snapshot/load {}' 'GET /snapshot/load'
	each 204 'PUT /logger {"level":"Info"}' "PUT /metrics {\"metrics_path\":\"$d/metrics\",\"emit_id\":true,\"properties\":{\"a\":\"b\"}}"
	talk "$load,\"vsock_override\":null,\"track_dirty_pages\":true,\"huge_pages\":\"Transparent\"}" 'GET /machine-config'
	assert_line --index 0 '204 deprecated '
	assert_line --index 1 '200 {"vcpu_count":1,"mem_size_mib":32,"smt":false,"track_dirty_pages":true,"huge_pages":"Transparent"}'
	talk 'PUT /snapshot/load {"snapshot_path":"s"}' "$load}" # the body before the state
	assert_line --index 0 --regexp '^400 .*mem_backend'
	assert_line --index 1 --regexp '^400 deprecated .*after starting'
	each 400 'PUT /boot-source {"kernel_image_path":"'"$GUESTS"'/idle.elf"}' 'PUT /machine-config {"vcpu_count":1,"mem_size_mib":64}' \
		"$(drive b "$d/s")" 'PUT /actions {"action_type":"InstanceStart"}' 'PUT /vsock {"guest_cid":3,"uds_path":"'"$d"'/v"}' \
		"PUT /logger {\"log_path\":\"$d/log\"}"
	each 204 "$paused" "$create}" "$create,\"snapshot_type\":\"Diff\"}" 'PUT /actions {"action_type":"FlushMetrics"}'
	end_api
	"$PYTHON" -c 'import json, sys
l = json.loads(open(sys.argv[1]).readlines()[-1])
assert l["id"] == "anonymous-instance" and l["properties"] == {"a": "b"}, l
l = l["latencies_us"]
assert l["load_snapshot"] > 0 and l["full_create_snapshot"] > 0 and l["diff_create_snapshot"] > 0, l' "$d/metrics"
	local request
	for request in 'PUT /machine-config {"vcpu_count":1,"mem_size_mib":32}' 'PATCH /machine-config {"vcpu_count":0}' \
		"$(drive a /none)" 'PUT /boot-source {"kernel_image_path":"/none"}' 'PUT /vsock {"guest_cid":3,"uds_path":"/none/v"}' \
		'PUT /network-interfaces/1 {"iface_id":"1","host_dev_name":"t0"}' 'PUT /mmds/config {"network_interfaces":["1"]}'; do
		start_api
		talk "$request" "$load}" 'GET /'
		assert_line --index 1 --partial 'not allowed after configuring boot-specific resources'
		assert_line --index 2 --partial '"state":"Not started"'
		end_api
	done
}

@test "api snapshot: a load that fails is answered, and ends the process with status 1" {
	truncate -s 1M "$d/disk"
	keep "$(drive a "$d/disk")"
	snapshot
	head -c 1000 "$d/s" > "$d/short"
	printf '\0\0\0\144\206\204\031\020\0071.0.0' > "$d/firecracker"
	truncate -s 31M "$d/m31"
	local file
	for file in none short firecracker in m /; do
		load_fails "$file" "${load/$d\/s/$d\/$file}}"
	done
	load_fails 'No such file or directory' "${load/$d\/m/$d\/none}}"
	load_fails 'file offset and length is greater' "${load/$d\/m/$d\/m31}}"
	load_fails 'Unknown Network Device' "$load,\"network_overrides\":[{\"iface_id\":\"1\",\"host_dev_name\":\"t\"}]}"
	load_fails 'Unknown Block Device' "$load,\"drive_overrides\":[{\"drive_id\":\"b\",\"path_on_host\":\"$d/disk\"}]}"
	load_fails 'Unknown Vsock Device' "$load,\"vsock_override\":{\"uds_path\":\"$d/v\"}}"
	load_fails "$d/gone" "$load,\"drive_overrides\":[{\"drive_id\":\"a\",\"path_on_host\":\"$d/gone\"}]}"
	load_fails huge_pages "$load,\"huge_pages\":\"2M\"}"
	load_fails "$d/none" 'PUT /snapshot/load {"snapshot_path":"'"$d"'/s","mem_backend":{"backend_type":"Uffd","backend_path":"'"$d"'/none"}}'
	mv "$d/disk" "$d/moved"
	load_fails "No such file or directory (os error 2) $d/disk\"" "$load,\"resume_vm\":true}"
	truncate -s 2M "$d/disk"
	load_fails "'a'" "$load}"
}

@test "api snapshot: a drive may come by PATCH before the VM resumes, or with the load" {
	local b='"drive_id":"b"'
	truncate -s 1M "$d/a" "$d/b"
	keep "$(drive a "$d/a")" "$(drive b "$d/b" '"is_read_only":true,"rate_limiter":{"ops":{"size":7,"refill_time":6}}')"
	truncate -s 1M "$d/new"
	snapshot "PATCH /drives/b {$b,\"path_on_host\":\"$d/new\"}"
	rm "$d/a" "$d/b"
	mv "$d/new" "$d/moved"
	start_api
	each 204 'PUT /logger {"level":"Warn"}'
	talk "$load}" 'GET /'
	assert_line --index 0 '204 deprecated '
	assert_line --index 1 --partial '"state":"Paused"'
	each 400 "$resumed" "$create}" "PATCH /drives/b {$b,\"path_on_host\":\"$d/none\"}"
	each 204 "PATCH /drives/b {$b,\"path_on_host\":\"$d/moved\"}"
	each 400 "$resumed"
	truncate -s 3M "$d/other"
	each 204 "PATCH /drives/a {\"drive_id\":\"a\",\"path_on_host\":\"$d/other\"}" "$resumed"
	talk 'GET /vm/config'
	assert_output --partial "\"path_on_host\":\"$d/other\""
	assert_output --partial "\"path_on_host\":\"$d/moved\",\"rate_limiter\":{\"bandwidth\":null,\"ops\":{\"size\":7,\"one_time_burst\":null,\"refill_time\":6}}"
	assert_output --partial '"boot_args":"a=b"'
	says two
	snapshot
	start_api
	talk "$load,\"resume_vm\":true,\"drive_overrides\":[{\"drive_id\":\"a\",\"path_on_host\":\"$d/moved\",\"x\":1}]}"
	assert_output --regexp "^400 .*in use" # both drives have it, and one of them writes
	wait_end
	cp "$d/moved" "$d/copy"
	touch "$d/moved" # it has changed, and has the size
	start_api
	talk "$load,\"resume_vm\":true,\"drive_overrides\":[{\"drive_id\":\"a\",\"path_on_host\":\"$d/copy\"}]}"
	assert_output '204 deprecated '
	grep -q "drive 'b'.*continuing" "$d/err"
	run grep "drive 'a'" "$d/err"
	assert_failure
	end_api
}

@test "api snapshot: --snapshot-version and --describe-snapshot" {
	keep
	snapshot
	run "$MAYFLY" --api-sock "$d/x" --snapshot-version
	assert_success
	assert_output --regexp '^v[0-9]+\.[0-9]+\.[0-9]+$'
	local version=$output words
	run "$MAYFLY" --describe-snapshot "$d/s" --level loud
	assert_success
	assert_output "$version"
	run "$MAYFLY" --describe-snapshot "$d/none" --snapshot-version
	assert_output "$version"
	for words in none m in ''; do
		run --separate-stderr "$MAYFLY" --describe-snapshot "$d/$words"
		assert_equal "$status" 1
		assert_one_line "$d/$words"
	done
	for words in '--describe-snapshot' '--snapshot-version x' '--snapshot-version --nothing'; do
		# shellcheck disable=SC2086 # words
		run --separate-stderr "$MAYFLY" $words
		assert_equal "$status" 153
	done
}

@test "api snapshot: a Diff against the loaded one, which a client merges; all others are complete" {
	local diff='PUT /snapshot/create {"snapshot_type":"Diff","snapshot_path":"'$d'/s2","mem_file_path":"'$d'/m2"'
	keep
	snapshot
	loads
	says two
	each 204 "$paused" "$diff}" "${diff//2\"/3\"}}"
	end_api
	[ "$(stat -c %b "$d/m2")" -lt "$(stat -c %b "$d/m")" ]
	[ "$(stat -c %b "$d/m3")" -ge "$(stat -c %b "$d/m")" ]
	cp --sparse=always "$d/m" "$d/m4"
	"$PYTHON" -I -S - "$d/m2" "$d/m4" <<< '
import os, sys
diff, base = (os.open(path, os.O_RDWR) for path in sys.argv[1:])
at = 0
while True:
    try: at = os.lseek(diff, at, os.SEEK_DATA)
    except OSError: break
    end = os.lseek(diff, at, os.SEEK_HOLE)
    os.pwrite(base, os.pread(diff, end - at, at), at)
    at = end'
	mv "$d/m4" "$d/m2"
	local n
	for n in 2 3; do
		mv "$d/s$n" "$d/s"
		mv "$d/m$n" "$d/m"
		loads
		says three $'one\ntwo'
		each 204 "$paused" "$create,\"snapshot_type\":\"Diff\"}" # where there is a file
		end_api
		loads
		says four $'one\ntwo\nthree'
		end_api
	done
}

@test "api snapshot: pages from another process, by userfaultfd" {
	keep
	snapshot
	"$PYTHON" -I -S "$BATS_TEST_DIRNAME/page-server" "$d/pages" "$d/m" > "$d/server" 2>&1 3>&- &
	started+=("$!")
	wait_for test -S "$d/pages"
	start_api
	talk 'PUT /snapshot/load {"snapshot_path":"'"$d"'/s","mem_backend":{"backend_type":"Uffd","backend_path":"'"$d"'/pages"}}'
	if [[ $output == 400\ *userfaultfd* ]]; then
		wait_end
		[ "$status" = 1 ]
		skip "this host forbids userfaultfd"
	fi
	assert_output '204 '
	assert_regex "$(head -n 1 "$d/server")" '^\[\{"base_host_virt_addr":[0-9]+,"size":33554432,"offset":0,"page_size":4096,"page_size_kib":4096\}\]$'
	each 204 "$resumed"
	says two
	mv "$d/m" "$d/old"
	each 204 "$paused" "$create,\"snapshot_type\":\"Diff\"}" # of all pages, also those that the guest has not touched
	end_api
	wait_for grep -q "^served" "$d/server"
	assert_equal "$(sed -n 's/^served //p' "$d/server")" $((32 << 8))
	start_api
	each 204 'PUT /snapshot/load {"snapshot_path":"'"$d"'/s","mem_backend":{"backend_type":"File","backend_path":"'"$d"'/m"},"resume_vm":true}'
	says three $'one\ntwo'
	end_api
}

@test "api snapshot: a page server that ends, or does not answer: the VM waits, and ends when it is asked to" {
	keep
	snapshot
	# It accepts, and reads nothing.
	"$PYTHON" -I -S -c 'import socket, sys, time
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); c = s.accept(); time.sleep(600)' "$d/pages" 3>&- &
	local server=$!
	started+=("$server")
	wait_for test -S "$d/pages"
	watch_mayfly --api-sock "$d/api2"
	api=$d/api2
	wait_for api_listens
	send_and_go 'PUT /snapshot/load {"snapshot_path":"'"$d"'/s","mem_backend":{"backend_type":"Uffd","backend_path":"'"$d"'/pages"},"resume_vm":true}'
	wait_for has_asked
	if has_ended "$pid"; then
		skip "this host forbids userfaultfd"
	fi
	kill "$server"
	watched_ends "signal 15" TERM
}

@test "api snapshot: twenty VMs at once from one, each with its own drive, tap and socket" {
	[ "$(id -u)" = 0 ] || skip "only root can make taps"
	local i tap=as$$x
	truncate -s 1M "$d/disk"
	for i in {0..20}; do
		ip tuntap add dev "$tap$i" mode tap
		cp "$d/disk" "$d/disk$i"
	done
	keep "$(drive a "$d/disk")" "PUT /network-interfaces/1 {\"iface_id\":\"1\",\"host_dev_name\":\"${tap}0\",\"mtu\":1400}" \
		"PUT /vsock {\"guest_cid\":3,\"uds_path\":\"$d/v\"}"
	snapshot
	[ ! -e "$d/v" ]
	"$PYTHON" -I -S - "$MAYFLY" "$d" "$tap" <<< '
import http.client, json, os, socket, subprocess, sys, time
mayfly, d, tap = sys.argv[1:]
def request(i, method, path, body=None):
    c = http.client.HTTPConnection("x"); c.sock = socket.socket(socket.AF_UNIX); c.sock.settimeout(60)
    c.sock.connect(f"{d}/api{i}"); c.request(method, path, body and json.dumps(body)); a = c.getresponse()
    return a.status, a.read().decode()
vms = [subprocess.Popen([mayfly, "--api-sock", f"{d}/api{i}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
       for i in range(1, 21)]
for i, vm in enumerate(vms, 1):
    while socket.socket(socket.AF_UNIX).connect_ex(f"{d}/api{i}"): time.sleep(0.01) # it has its name before it listens
    r = request(i, "PUT", "/snapshot/load", {"snapshot_path": f"{d}/s", "mem_file_path": f"{d}/m", "resume_vm": i % 2 == 0,
        "network_overrides": [{"iface_id": "1", "host_dev_name": f"{tap}{i}"}],
        "drive_overrides": [{"drive_id": "a", "path_on_host": f"{d}/disk{i}"}], "vsock_override": {"uds_path": f"{d}/v{i}"}})
    assert r == (204, ""), r
for i, vm in enumerate(vms, 1):
    r = request(i, "PATCH", "/vm", {"state": "Resumed"}); assert r == (204, ""), r
    c = json.loads(request(i, "GET", "/vm/config")[1])
    assert c["network-interfaces"][0]["host_dev_name"] == f"{tap}{i}" and c["network-interfaces"][0]["mtu"] == 1400, c
    assert c["drives"][0]["path_on_host"] == f"{d}/disk{i}" and c["vsock"]["uds_path"] == f"{d}/v{i}", c
    assert os.path.exists(f"{d}/v{i}")
    vm.stdin.write(f"vm {i}\n".encode()); vm.stdin.flush()
for i, vm in enumerate(vms, 1):
    text = b""
    while f"vm {i}".encode() not in text: text += vm.stdout.read1()
    assert text.replace(b"\r", b"") == f"one\nvm {i}\n".encode(), text
    vm.terminate(); assert vm.wait() == -15
    assert not os.path.exists(f"{d}/v{i}") and not os.path.exists(f"{d}/api{i}")
print("twenty")'
	for i in '' 0123456789abcdef 'a b' 'tap%d'; do # the kernel would cut off, refuse or change these
		load_fails host_dev_name "$load,\"network_overrides\":[{\"iface_id\":\"1\",\"host_dev_name\":\"$i\"}]}"
	done
	for i in {0..20}; do
		wait_for ip tuntap del dev "$tap$i" mode tap
	done
}

# The program in the jail would be strace(1).
# bats test_tags=untraced
@test "api snapshot: in Firecracker's jailer, relative to its root" {
	[ "$(id -u)" = 0 ] || skip "only root can make the jail"
	local inside id
	mkdir -m 755 "$d/base"
	chmod 755 "$d" "$BATS_RUN_TMPDIR"
	cp "$MAYFLY" "$d/firecracker"
	for id in one two; do
		start_mayfly jailer --id "$id" --exec-file "$d/firecracker" --uid 1234 --gid 1234 --chroot-base-dir "$d/base" \
			-- --api-sock /run/api
		inside=$d/base/firecracker/$id/root
		api=$inside/run/api
		wait_for api_listens
		truncate -s 1M "$inside/disk"
		chown 1234 "$inside/disk"
		if [ "$id" = one ]; then
			cp "$GUESTS/keep.elf" "$inside/kernel"
			each 204 'PUT /boot-source {"kernel_image_path":"/kernel"}' "$(drive a disk)" \
				'PUT /vsock {"guest_cid":3,"uds_path":"v"}' 'PUT /actions {"action_type":"InstanceStart"}'
			wait_said '^keep'
			tell one
			wait_said '^one'
			each 204 "$paused" 'PUT /snapshot/create {"snapshot_path":"/s","mem_file_path":"m"}'
			assert_equal "$(stat -c %u "$inside/s" "$inside/m" | sort -u)" 1234
		else
			cp --preserve=ownership --sparse=always "$d/base/firecracker/one/root/"[sm] "$inside" # and another drive, at the same path
			talk 'PUT /snapshot/load {"snapshot_path":"s","mem_file_path":"/m","resume_vm":true}'
			assert_output '204 deprecated '
			[ -S "$inside/v" ]
			says two
		fi
		pid=$(< "$inside/firecracker.pid")
		end_api
	done
}

# bats test_tags=untraced
@test "api snapshot: a client that vanishes, a writer that is killed, SIGTERM" {
	keep
	tell one
	wait_said '^one'
	each 204 "$paused"
	send_and_go "$create}"
	wait_for test -e "$d/s"
	each 200 'GET /'
	need_strace
	inject fsync:signal=SIGKILL
	each 400 "$create}"
	inject_end
	assert_equal "$(find "$d" -name '*.new')" ""
	talk 'GET /'
	assert_output --partial '"state":"Paused"'
	inject fsync:delay_enter=60000000
	send_and_go "$create}"
	wait_for test -e "$d/.m.new"
	end_api
	inject_end
	assert_equal "$(find "$d" -name '*.new')" ""
	loads
	says three
	end_api
}

# bats test_tags=untraced
@test "api snapshot: SIGKILL at each step: the old snapshot, the new one, or no state" {
	need_strace
	keep
	snapshot
	mv "$d/s" "$d/s.kept"
	mv "$d/m" "$d/m.kept"
	local at text none=0 old=0 new=0
	for at in openat:1 ftruncate:1 ftruncate:4 clone:1 unlinkat:1 renameat2:1 renameat2:2 openat:4; do
		cp --sparse=always "$d/s.kept" "$d/s"
		cp --sparse=always "$d/m.kept" "$d/m"
		loads
		says two
		each 204 "$paused"
		inject "${at%:*}:signal=SIGKILL:when=${at#*:}"
		send_and_go "$create}"
		wait_end
		assert_equal "$status" 137
		inject_end
		if [ ! -e "$d/s" ]; then
			none=$((none + 1))
			continue
		fi
		loads
		tell three
		wait_said '^three'
		text=$(tr -d '\r' < "$d/out")
		if [ "$text" = $'one\nthree' ]; then
			old=$((old + 1))
		else
			assert_equal "$text" $'one\ntwo\nthree'
			new=$((new + 1))
		fi
		each 204 "$paused" "$create}" # over what the other has left
		end_api
		assert_equal "$(find "$d" -name '*.new')" ""
	done
	[ "$old" -gt 0 ] && [ "$new" -gt 0 ] && [ "$none" -gt 0 ] || fail "$old old, $new new, $none without a state"
}
