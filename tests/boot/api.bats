#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2154 # tests are subshells; variables of helper.bash
#
# Firecracker's API: `mayfly --api-sock PATH`. Flat guests only.

# bats file_tags=flat
load helper
load api

@test "api: what it is and what is configured, before anything is" {
	export TRACE_ALL=1 # tests/seccomp/traced
	start_api --id vm-7
	talk "GET /" "GET /version" "GET /machine-config" "GET /vm/config"
	assert_line '200 {"id":"vm-7","state":"Not started","vmm_version":"1.17.0","app_name":"Firecracker"}'
	assert_line '200 {"firecracker_version":"1.17.0"}'
	assert_line '200 {"vcpu_count":1,"mem_size_mib":128,"smt":false,"track_dirty_pages":false,"huge_pages":"None"}'
	assert_line --partial '"drives":[],"boot-source":{"kernel_image_path":"","initrd_path":null,"boot_args":null},"cpu-config":null'
	end_api
}

@test "api: it goes on after SIGSTOP and SIGCONT" {
	start_api
	kill -STOP "$pid"
	wait_for has_state "[Tt]" # below strace: t
	kill -CONT "$pid"
	wait_for has_state S
	each 200 'GET /'
	end_api
}

# has_state PATTERN: of a letter, for every thread of mayfly.
has_state() {
	# shellcheck disable=SC2053 # the right side is a pattern
	[[ $(sed -n 's/^State:\t\(.\).*/\1/p' "/proc/$pid/task/"*/status | sort -u) == $1 ]]
}

@test "api: the machine: ranges, types, unknown and repeated keys, what a PATCH leaves" {
	start_api
	each 204 'PUT /machine-config {"vcpu_count":2,"mem_size_mib":64,"smt":true}' \
		'PUT /machine-config {"vcpu_count":1,"mem_size_mib":64,"smt":true,"cpu_template":null}' \
		'PUT /machine-config/ {"vcpu_count":4,"mem_size_mib":256,"track_dirty_pages":true}' \
		'PATCH /machine-config {"mem_size_mib":96}'
	talk 'GET /machine-config'
	assert_output '200 {"vcpu_count":4,"mem_size_mib":96,"smt":false,"track_dirty_pages":true,"huge_pages":"None"}'
	each 400 'PUT /machine-config' 'PUT /machine-config {' 'PUT /machine-config []' 'PUT /machine-config null' \
		'PUT /machine-config {"vcpu_count":1}' 'PUT /machine-config {"vcpu_count":0,"mem_size_mib":64}' \
		'PUT /machine-config {"vcpu_count":33,"mem_size_mib":64}' 'PUT /machine-config {"vcpu_count":256,"mem_size_mib":64}' \
		'PUT /machine-config {"vcpu_count":-1,"mem_size_mib":64}' 'PUT /machine-config {"vcpu_count":1.5,"mem_size_mib":64}' \
		'PUT /machine-config {"vcpu_count":"1","mem_size_mib":64}' 'PUT /machine-config {"vcpu_count":null,"mem_size_mib":64}' \
		'PUT /machine-config {"vcpu_count":1,"mem_size_mib":0}' 'PUT /machine-config {"vcpu_count":3,"mem_size_mib":64,"smt":true}' \
		'PUT /machine-config {"vcpu_count":1,"mem_size_mib":63,"huge_pages":"2M"}' \
		'PUT /machine-config {"vcpu_count":1,"mem_size_mib":64,"x":1}' 'PUT /machine-config {"vcpu_count":1,"mem_size_mib":64,"smt":null}' \
		'PUT /machine-config {"vcpu_count":1,"mem_size_mib":64,"huge_pages":null}' 'PUT /machine-config?a {"vcpu_count":1,"mem_size_mib":64}' \
		'PUT /machine-config {"vcpu_count":1,"mem_size_mib":64,"track_dirty_pages":null}' \
		'PUT /machine-config {"vcpu_count":1,"mem_size_mib":64,"vcpu_count":1}' \
		'PATCH /machine-config {}' 'PATCH /machine-config {"smt":null}' 'PATCH /machine-config {"vcpu_count":0}' \
		'DELETE /machine-config' 'PUT /' 'PUT /nothing {}' 'GET /nothing' 'GET /vm' 'GET / {}'
	talk 'GET /machine-config' 'PUT /machine-config {"vcpu_count":1,"mem_size_mib":64,"cpu_template":"T2"}'
	assert_line '200 {"vcpu_count":4,"mem_size_mib":96,"smt":false,"track_dirty_pages":true,"huge_pages":"None"}'
	assert_line '204 deprecated '
	talk 'PUT /machine-config {"vcpu_count":1,"mem_size_mib":9999999999999}' 'GET /machine-config' \
		'PUT /machine-config {"vcpu_count":0,"mem_size_mib":64,"cpu_template":"None"}' \
		'PATCH /machine-config {"cpu_template":"None"}' 'GET /machine-config'
	assert_line --index 1 '200 {"vcpu_count":1,"mem_size_mib":9999999999999,"smt":false,"cpu_template":"T2","track_dirty_pages":false,"huge_pages":"None"}'
	assert_line --index 2 --regexp '^400 deprecated '
	assert_line --index 4 '200 {"vcpu_count":1,"mem_size_mib":9999999999999,"smt":false,"track_dirty_pages":false,"huge_pages":"None"}'
	each 204 'PUT /boot-source {"kernel_image_path":"'"$GUESTS"'/idle.elf"}'
	each 400 'PUT /actions {"action_type":"InstanceStart"}'
	end_api
}

@test "api: drives: ids, one root which is the first, replaced by the next of the same id" {
	local d=$BATS_TEST_TMPDIR/d
	truncate -s 1M "$d"
	start_api
	each 204 'PUT /drives/a {"drive_id":"a","is_root_device":false,"path_on_host":"'"$d"'","rate_limiter":{}}' \
		'PUT /drives/r {"drive_id":"r","is_root_device":true,"path_on_host":"'"$d"'","is_read_only":true,"rate_limiter":{"ops":{"size":0,"refill_time":9}}}' \
		'PUT /drives/a {"drive_id":"a","is_root_device":false,"path_on_host":"'"$d"'","cache_type":"Writeback","io_engine":"Async","partuuid":null,"rate_limiter":{"ops":{"size":10,"refill_time":100}}}'
	talk 'GET /vm/config'
	assert_output --partial '"drives":[{"drive_id":"r","partuuid":null,"is_root_device":true,"cache_type":"Unsafe","is_read_only":true,"path_on_host":"'"$d"'","rate_limiter":null,"io_engine":"Sync","socket":null},{"drive_id":"a","partuuid":null,"is_root_device":false,"cache_type":"Writeback","is_read_only":false,"path_on_host":"'"$d"'","rate_limiter":{"bandwidth":null,"ops":{"size":10,"one_time_burst":null,"refill_time":100}},"io_engine":"Async","socket":null}]'
	each 400 'PUT /drives/b {"drive_id":"b","is_root_device":true,"path_on_host":"'"$d"'"}' \
		'PUT /drives/b {"drive_id":"c","is_root_device":false,"path_on_host":"'"$d"'"}' \
		'PUT /drives/b {"drive_id":"b","is_root_device":false}' 'PUT /drives/b {"drive_id":"b","path_on_host":"'"$d"'"}' \
		'PUT /drives/b {"drive_id":"b","is_root_device":false,"path_on_host":"/none"}' \
		'PUT /drives/b {"drive_id":"b","is_root_device":false,"path_on_host":"/"}' \
		'PUT /drives/b-c {"drive_id":"b-c","is_root_device":false,"path_on_host":"'"$d"'"}' \
		'PUT /drives {"drive_id":"","is_root_device":false,"path_on_host":"'"$d"'"}' \
		'PUT /drives/b {"drive_id":"b","is_root_device":false,"path_on_host":"'"$d"'","cache_type":"unsafe"}' \
		'PUT /drives/b {"drive_id":"b","is_root_device":false,"path_on_host":"'"$d"'","cache_type":null}' \
		'PUT /drives/b {"drive_id":"b","is_root_device":false,"path_on_host":"'"$d"'","socket":"/s"}' \
		'PUT /drives/b {"drive_id":"b","is_root_device":false,"path_on_host":"'"$d"'","rate_limiter":{"ops":{"size":1}}}' \
		'GET /drives/a'
	end_api
}

@test "api: interfaces, vsock, log and metrics" {
	local d=$BATS_TEST_TMPDIR
	start_api
	each 204 'PUT /network-interfaces/1 {"iface_id":"1","host_dev_name":"t0","guest_mac":"aa:fc:00:00:00:01","mtu":1400}' \
		'PUT /network-interfaces/1 {"iface_id":"1","host_dev_name":"t0","guest_mac":"AA:FC:00:00:00:01"}' \
		'PUT /network-interfaces/2 {"iface_id":"2","host_dev_name":"t1","guest_mac":null,"rx_rate_limiter":{}}' \
		'PUT /network-interfaces/1 {"iface_id":"1","host_dev_name":"t0","guest_mac":"AA:FC:00:00:00:01","mtu":1300,"rx_rate_limiter":{"ops":{"size":0,"refill_time":1}},"tx_rate_limiter":{"bandwidth":{"size":1,"refill_time":0},"ops":{"size":1,"refill_time":1}}}' \
		'PUT /vsock {"guest_cid":3,"uds_path":"'"$d"'/v"}' 'PUT /vsock {"guest_cid":4,"uds_path":"'"$d"'/v"}' \
		'PUT /logger {"log_path":"'"$d"'/log","level":"DEBUG","show_level":true,"show_log_origin":false}' \
		'PUT /metrics {"metrics_path":"'"$d"'/metrics","other":1}'
	test -S "$d/v" # it listens before the VM starts
	talk 'PUT /vsock {"guest_cid":5,"uds_path":"'"$d"'/v","vsock_id":"x"}' 'GET /vm/config'
	assert_line '204 deprecated '
	assert_line --partial '"vsock":{"guest_cid":5,"uds_path":"'"$d"'/v"}'
	assert_line --partial '"network-interfaces":[{"iface_id":"2","host_dev_name":"t1","guest_mac":null,"mtu":null,"rx_rate_limiter":null,"tx_rate_limiter":null},{"iface_id":"1","host_dev_name":"t0","guest_mac":"aa:fc:00:00:00:01","mtu":1300,"rx_rate_limiter":null,"tx_rate_limiter":{"bandwidth":null,"ops":{"size":1,"one_time_burst":null,"refill_time":1}}}'
	each 204 'PUT /logger {"show_level":true}' 'PUT /logger {"show_log_origin":true,"level":"error"}'
	each 400 'PUT /logger {"level":"none"}'
	local lines_of
	mapfile -t lines_of < "$d/log"
	local time='^20[0-9-]+T[0-9:]+\.[0-9]{9}'
	[[ ${lines_of[0]} =~ $time\ \[anonymous-instance:main:INFO\]\ .*Put.*\"/metrics\" ]]
	[[ ${lines_of[-1]} =~ $time\ \[anonymous-instance:main:ERROR:api\.c\]\ .*400 ]]
	each 400 'PUT /network-interfaces/3 {"iface_id":"3","host_dev_name":"t2","guest_mac":"aa:fc:00:00:00:01"}' \
		'PUT /network-interfaces/3 {"iface_id":"2","host_dev_name":"t2"}' \
		'PUT /network-interfaces/3 {"iface_id":"3","host_dev_name":"t2","guest_mac":"aa:fc"}' \
		'PUT /network-interfaces/3 {"iface_id":"3","host_dev_name":"t1"}' 'PUT /network-interfaces/3 {"iface_id":"3","host_dev_name":"0123456789012345"}' \
		'PUT /network-interfaces/3 {"iface_id":"3","host_dev_name":"t2","mtu":67}' 'PUT /network-interfaces/3 {"iface_id":"3"}' \
		'PUT /vsock {"guest_cid":4294967296,"uds_path":"'"$d"'/w"}' 'PUT /vsock {"guest_cid":3,"uds_path":"/none/w"}' \
		'PUT /logger {"log_path":"/none/log"}' 'PUT /logger {"level":"loud"}' \
		'PUT /metrics {"metrics_path":"'"$d"'/metrics"}' 'PUT /balloon {"amount_mib":1,"deflate_on_oom":true}' 'PUT /entropy {}' \
		'GET /balloon'
	end_api
}

@test "api: a start that fails can be tried again; nothing is configured later; SIGTERM ends it by that signal" {
	local d=$BATS_TEST_TMPDIR
	api=$d/api
	echo no kernel > "$d/text"
	watch_mayfly --api-sock "$api"
	wait_for api_listens
	each 400 'PUT /actions {"action_type":"InstanceStart"}' 'PUT /actions {"action_type":"FlushMetrics"}' \
		'PUT /actions {"action_type":"Stop"}' 'PUT /boot-source {"kernel_image_path":"/none"}' \
		'PUT /boot-source {"kernel_image_path":"'"$d"'/text","initrd_path":"/none"}' 'PUT /boot-source {"boot_args":"a"}' \
		'PUT /boot-source {"kernel_image_path":"'"$d"'/text","boot_args":"'"$(printf '%2048s' '' | tr ' ' a)"'"}'
	each 204 'PUT /boot-source {"kernel_image_path":"'"$d"'","boot_args":"'"$(printf '%2047s' '' | tr ' ' a)"'"}' \
		'PUT /boot-source {"kernel_image_path":"'"$d"'/text","boot_args":"a\tb\u00e9"}' 'PUT /vsock {"guest_cid":3,"uds_path":"'"$d"'/v"}'
	each 400 'PUT /actions {"action_type":"InstanceStart"}'
	each 204 'PUT /boot-source {"kernel_image_path":"'"$GUESTS"'/idle.elf","boot_args":"a=b"}' \
		'PUT /actions {"action_type":"InstanceStart"}'
	talk 'GET /'
	assert_output --partial '"state":"Running"'
	test -S "$d/v"
	each 400 'PUT /actions {"action_type":"InstanceStart"}' 'PUT /machine-config {"vcpu_count":1,"mem_size_mib":64}' \
		'PUT /boot-source {"kernel_image_path":"'"$GUESTS"'/idle.elf"}'
	watched_ends "signal 15" TERM
	[ ! -e "$api" ]
	[ ! -e "$d/v" ]
}

@test "api: a VM that runs: paused, resumed, drives that get another image, limits" {
	local d=$BATS_TEST_TMPDIR b='"drive_id":"b"' tap=api-$$
	start_api
	truncate -s 1M "$d/one"
	truncate -s 2000 "$d/odd"
	truncate -s 100 "$d/two"
	: > "$d/none"
	ip tuntap add dev "$tap" mode tap
	each 400 'PATCH /vm {"state":"Paused"}' "PATCH /drives/b {$b}" 'PATCH /network-interfaces/1 {"iface_id":"1"}' \
		'PATCH /drives/b {"drive_id":"c"}' 'DELETE /drives/b' 'DELETE /drives' 'DELETE /drives/b {}' 'DELETE /vm'
	each 204 'PUT /boot-source {"kernel_image_path":"'"$GUESTS"'/idle.elf"}' \
		"PUT /drives/a {\"drive_id\":\"a\",\"is_root_device\":false,\"path_on_host\":\"$d/odd\"}" \
		"PUT /drives/b {$b,\"is_root_device\":false,\"path_on_host\":\"$d/none\",\"is_read_only\":true}" \
		"PUT /network-interfaces/1 {\"iface_id\":\"1\",\"host_dev_name\":\"$tap\"}" \
		'PUT /actions {"action_type":"InstanceStart"}' \
		'PATCH /vm {"state":"Resumed"}' 'PATCH /vm {"state":"Paused"}' 'PATCH /vm {"state":"Paused"}' "PATCH /drives/b {$b,\"rate_limiter\":{}}"
	talk 'GET /'
	assert_output --partial '"state":"Paused"'
	each 204 "PATCH /drives/b {$b,\"path_on_host\":\"$d/one\"}" 'PATCH /vm {"state":"Resumed"}' 'PATCH /vm {"state":"Resumed"}' \
		"PATCH /drives/b {$b,\"path_on_host\":\"$d/one\"}" \
		"PATCH /drives/a {\"drive_id\":\"a\",\"path_on_host\":\"$d/two\"}" \
		"PATCH /drives/b {$b,\"path_on_host\":\"$d/none\"}" \
		"PATCH /drives/a {\"drive_id\":\"a\",\"path_on_host\":\"$d/odd\"}" \
		"PATCH /drives/b {$b,\"path_on_host\":null,\"rate_limiter\":{\"bandwidth\":{\"size\":9,\"refill_time\":8},\"ops\":{\"size\":7,\"refill_time\":6}}}" \
		"PATCH /drives/b {$b,\"rate_limiter\":{\"bandwidth\":{\"size\":0,\"refill_time\":0}}}" \
		'PATCH /network-interfaces/1 {"iface_id":"1","rx_rate_limiter":{"ops":{"size":5,"refill_time":4}},"tx_rate_limiter":{}}'
	talk 'GET /' 'GET /vm/config'
	assert_line --partial '"state":"Running"'
	assert_line --partial "\"path_on_host\":\"$d/none\",\"rate_limiter\":{\"bandwidth\":null,\"ops\":{\"size\":7,\"one_time_burst\":null,\"refill_time\":6}}"
	assert_line --partial '"rx_rate_limiter":{"bandwidth":null,"ops":{"size":5,"one_time_burst":null,"refill_time":4}},"tx_rate_limiter":null'
	each 400 'PATCH /vm {}' 'PATCH /vm {"state":"Off"}' 'PATCH /vm {"state":"Paused","x":1}' 'PUT /vm {"state":"Paused"}' \
		'PATCH /drives/c {"drive_id":"c"}' "PATCH /drives/b {$b}" "PATCH /drives/b {$b,\"path_on_host\":null,\"rate_limiter\":null}" 'PATCH /drives/b {"drive_id":"c"}' "PATCH /drives/b {$b,\"is_read_only\":false}" \
		"PATCH /drives/b {$b,\"path_on_host\":\"/none\"}" "PATCH /drives/b {$b,\"path_on_host\":\"/\"}" "PATCH /drives {$b}" \
		"PATCH /drives/b {$b,\"rate_limiter\":{\"ops\":{\"size\":1}}}" 'DELETE /drives/b' \
		'PATCH /network-interfaces/2 {"iface_id":"2"}' 'PATCH /network-interfaces/1 {"iface_id":"2"}'
	each 204 'PATCH /vm {"state":"Paused"}'
	end_api # also while it is paused
	wait_for ip tuntap del dev "$tap" mode tap
}

@test "api: ten connections, long bodies, clients that stop in the middle or vanish: others are served" {
	start_api --http-api-max-payload-size 100
	run "$PYTHON" -I -S - "$api" <<< '
import socket, sys
def connect():
    s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.settimeout(60); return s
def ask(s):
    s.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n"); return s.recv(4096)
ten = [connect() for _ in range(10)]
assert all(b" 200 " in ask(s) for s in ten)
eleventh = connect()
assert b" 503 " in eleventh.recv(4096) and not eleventh.recv(1)
for s in ten[1:]: s.close()
while b" 200 " not in ask(connect()): pass
half = connect(); half.sendall(b"PUT /machine-config HTTP/1.1\r\nContent-Le")
body = connect(); body.sendall(b"PUT /machine-config HTTP/1.1\r\nContent-Length: 90\r\n\r\n{")
gone = connect(); gone.sendall(b"GET / HTTP/1.1\r\n\r\n"); gone.close()
long = connect(); long.sendall(b"PUT /machine-config HTTP/1.1\r\nContent-Length: 101\r\n\r\n" + b"x" * 101)
assert b" 400 " in long.recv(4096)
for last in b"HTTP/1.1\r\nConnection: close\r\n\r\n", b"HTTP/1.0\r\n\r\n", b"HTTP/1.1\r\n\r\n":
    s = connect(); s.sendall(b"GET /version " + last)
    if b"close" not in last: s.shutdown(socket.SHUT_WR)
    text = b"".join(iter(lambda: s.recv(4096), b""))
    assert text.startswith(b"HTTP/1.1 200 \r\nServer: Firecracker API\r\n") and text.endswith(b"1.17.0\"}"), text
slow = connect()
for byte in b"PUT /machine-config HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n": slow.sendall(bytes([byte]))
assert slow.recv(4096).startswith(b"HTTP/1.1 100 "); slow.sendall(b"{}"); assert b" 400 " in slow.recv(4096)
for head in b"POST / HTTP/1.1", b"GET / HTTP/2", b"GET /\xe9 HTTP/1.1", b"HEAD / HTTP/1.1":
    s = connect(); s.sendall(head + b"\r\nContent-Length: 3\r\n\r\n"); s.sendall(b"abc")
    text = s.recv(4096); assert b" 400 " in text and b"\"error\"" in text, text
    assert b" 200 " in ask(s)
s = connect(); s.sendall(b"PUT / HTTP/1.1\r\nContent-Length: x\r\n\r\n"); assert b" 400 " in s.recv(4096) and not s.recv(1)
deaf = connect(); deaf.settimeout(1)
try: deaf.sendall(b"GET /vm/config HTTP/1.1\r\n\r\n" * 100000)
except TimeoutError: pass
s = connect(); s.sendall(b"GET /version HTTP/1.1\r\n" + b"X: y\r\n" * 200000 + b"\r\n"); assert b" 200 " in s.recv(4096)
s = connect(); s.sendall(b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
assert b" 400 " in s.recv(4096) and not s.recv(1)
s.close()
many = [connect() for _ in range(1000)]
assert sum(b" 503 " in s.recv(4096) for s in many[-900:]) == 900
for s in many: s.close()
while b" 200 " not in ask(connect()): pass
two = connect(); two.sendall(b"GET /version HTTP/1.1\r\n\r\n" * 2)
text = b""
while text.count(b"1.17.0") < 2: text += two.recv(4096)
print("served")'
	assert_output served
	each 200 'GET /'
	end_api
}

@test "api: 20,000 requests (or API_REQUESTS) leave memory and descriptors as they were" {
	start_api
	each 204 'PUT /boot-source {"kernel_image_path":"'"$GUESTS"'/idle.elf"}' 'PUT /actions {"action_type":"InstanceStart"}'
	run "$PYTHON" -I -S "$BATS_TEST_DIRNAME/api-many" "$api" "$pid" "${API_REQUESTS:-20000}"
	assert_success
	[[ $output =~ ^memory\ ([0-9]+)\ descriptors\ 0$ ]]
	[ "${BASH_REMATCH[1]}" -le 64 ]
	end_api
}

@test "api: no request is answered after SIGTERM" {
	for _ in {1..10}; do
		start_api
		each 204 'PUT /boot-source {"kernel_image_path":"'"$GUESTS"'/idle.elf"}' 'PUT /actions {"action_type":"InstanceStart"}'
		run "$PYTHON" -I -S - "$api" "$pid" <<< '
import os, signal, socket, sys
s = socket.socket(socket.AF_UNIX); s.settimeout(60); s.connect(sys.argv[1])
body = b"{\"state\":\"Paused\"}"
os.kill(int(sys.argv[2]), signal.SIGTERM)
try:
    s.sendall(b"PATCH /vm HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    assert not s.recv(100)
except (ConnectionResetError, BrokenPipeError): pass
print("none")'
		assert_output none
		wait_end
	done
}

# config [KEY VALUE]: a file for --config-file, with another member first.
config() {
	printf '{%s"boot-source":{"kernel_image_path":"%s"},"drives":[{"drive_id":"a","is_root_device":true,"path_on_host":"%s","rate_limiter":{}}],"machine-config":{"vcpu_count":1,"mem_size_mib":32},"balloon":null,"other":1}\n' \
		"${1:+\"$1\":$2,}" "$GUESTS/idle.elf" "$d/disk" > "$d/config"
}

@test "api: a configuration file starts the VM, with a server and without; what is wrong in it ends with 1" {
	local d=$BATS_TEST_TMPDIR wrong
	truncate -s 1M "$d/disk"
	config logger '{"log_path":"'"$d"'/log","level":"Debug"}'
	start_api --config-file "$d/config" --metrics-path "$d/metrics" --level Warning
	talk 'GET /' 'GET /vm/config'
	assert_line --partial '"state":"Running"'
	assert_line --partial '"drive_id":"a"'
	test -e "$d/log"
	test -e "$d/metrics"
	each 400 'PUT /actions {"action_type":"InstanceStart"}' 'PUT /metrics {"metrics_path":"'"$d"'/other"}'
	each 204 'PATCH /vm {"state":"Paused"}' 'PUT /actions {"action_type":"FlushMetrics"}'
	talk 'GET /mayfly/metrics'
	assert_line '200 # TYPE mayfly_running gauge'
	assert_line 'mayfly_running 0'
	assert_line 'mayfly_api_requests_total{method="PATCH",endpoint="vm"} 1'
	assert_line 'mayfly_api_failures_total{method="PUT",endpoint="actions"} 1'
	assert_line 'mayfly_device_bytes_total{kind="drive",id="a",direction="to_guest"} 0'
	assert_line --regexp '^mayfly_start_seconds\{phase="first KVM_RUN"\} [0-9.]+$'
	each 400 'GET /mayfly' 'PUT /mayfly/metrics {}' 'GET /mayfly/other'
	end_api
	run "$PYTHON" -I -S -c '
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
for line in lines: print(line["put_api_requests"]["actions_count"], line["put_api_requests"]["actions_fails"],
    line["patch_api_requests"]["vm_count"], line["block_a"]["read_bytes"], line["utc_timestamp_ms"] > 1600000000000)' "$d/metrics"
	assert_output "0 0 0 0 True
2 1 1 0 True
0 0 0 0 True"
	watch_mayfly --no-api --config-file "$d/config"
	wait_for grep -q idle "$d/out"
	watched_ends "signal 15" TERM
	for wrong in 'vsock {"guest_cid":3}' 'balloon {}' 'network-interfaces {}' 'metrics {"metrics_path":"/none/x"}' \
		'vsock {"guest_cid":3,"uds_path":"/none/v"}'; do
		config "${wrong%% *}" "${wrong#* }"
		run --separate-stderr "$MAYFLY" --no-api --config-file "$d/config"
		assert_equal "$status" 1
		assert_one_line .
	done
	for wrong in '{}' '[]' '{' '{"boot-source":{"kernel_image_path":"/none"},"drives":[]}'; do
		echo "$wrong" > "$d/config"
		run --separate-stderr "$MAYFLY" --no-api --config-file "$d/config"
		assert_equal "$status" 1
		assert_one_line .
	done
	run --separate-stderr "$MAYFLY" --no-api --config-file "$d/none"
	assert_equal "$status" 1
	run --separate-stderr "$MAYFLY" --api-sock "$d/s" --log-path /none/log
	assert_equal "$status" 1
	run --separate-stderr "$MAYFLY" --api-sock "$d/s" --level loud
	assert_equal "$status" 152
}

# What GET /mayfly/timeline answers is what such a start has.
timeline() {
	talk 'GET /mayfly/timeline'
	[[ $output == "200 {"* ]] || fail "$output"
	run "$PYTHON" -I -S -c '
import json, sys
t = json.loads(sys.argv[1])
at = [(s["step"], s["at_ns"]) for s in t["steps"]]
print(t["version"], t["boot"], t["host_kernel"] == sys.argv[2], t["start_ns"] > 0, t["kernel"].endswith("idle.elf"),
    at[0][0], "KVM objects" in dict(at), at[-1][0], all(ns > 0 for _, ns in at))' \
		"${output#200 }" "$(uname -r)"
	assert_output "1 cold True True True exec True first KVM_RUN True"
}

@test "api: the time line of a start, once there is one" {
	start_api
	each 400 'GET /mayfly/timeline' 'GET /mayfly/timeline {}' 'PUT /mayfly/timeline {}' 'PATCH /mayfly/timeline {}'
	each 204 'PUT /boot-source {"kernel_image_path":"'"$GUESTS"'/idle.elf"}' 'PUT /actions {"action_type":"InstanceStart"}'
	wait_said idle
	timeline
	each 400 'GET /mayfly/timeline {}'
	each 204 'PATCH /vm {"state":"Paused"}'
	timeline
	each 204 'PATCH /vm {"state":"Resumed"}'
	end_api
}

@test "api: Firecracker's options: --version, and the statuses of what is wrong" {
	run "$MAYFLY" --api-sock "$BATS_TEST_TMPDIR/s" --version
	assert_success
	assert_line --index 0 --regexp '^Firecracker v1\.17\.0$'
	ln -s "${TRACED:-$MAYFLY}" "$BATS_TEST_TMPDIR/firecracker" # strace(1) would not keep the name
	run "$BATS_TEST_TMPDIR/firecracker" --version
	assert_line --index 0 'Firecracker v1.17.0'
	run "$MAYFLY" firecracker --help # messages name it
	assert_success
	assert_line --partial --api-sock
	run "$MAYFLY" --id a -h
	assert_success
	local words
	for words in '--nothing' -x '--id' '--id a --id b' '--id a_b' '--api-sock a b' '--http-api-max-payload-size 0' \
		--no-api '--seccomp-filter f' '--metadata' --enable-pci '--config-file'; do
		# shellcheck disable=SC2086 # words
		run --separate-stderr "$BATS_TEST_TMPDIR/firecracker" $words
		assert_equal "$status" 153
		assert_one_line .
	done
	start_api
	run --separate-stderr "$MAYFLY" --api-sock "$api"
	assert_equal "$status" 1
	assert_one_line "$api"
	each 200 'GET /'
	end_api
}

# The program in the jail would be strace(1).
# bats test_tags=untraced
@test "api: in Firecracker's jailer, as an ordinary user: to a running guest, and its end" {
	[ "$(id -u)" = 0 ] || skip "only root can make the jail"
	local dir=$BATS_TEST_TMPDIR inside file
	mkdir -m 755 "$dir/base"
	chmod 755 "$dir" "$BATS_RUN_TMPDIR"
	cp "$MAYFLY" "$dir/firecracker"
	start_mayfly jailer --id one --exec-file "$dir/firecracker" --uid 1234 --gid 1234 --chroot-base-dir "$dir/base" \
		-- --no-seccomp --api-sock /run/api
	inside=$dir/base/firecracker/one/root
	api=$inside/run/api
	wait_for api_listens
	cp "$GUESTS/idle.elf" "$inside/kernel"
	for file in a:1000 b:0 c:4096; do # what is no whole sector is not there; a drive may be empty
		truncate -s "${file#*:}" "$inside/${file%:*}"
		chown 1234 "$inside/${file%:*}"
	done
	each 204 'PUT /boot-source {"kernel_image_path":"/kernel"}' \
		'PUT /drives/a {"drive_id":"a","is_root_device":false,"path_on_host":"a"}' \
		'PUT /drives/b {"drive_id":"b","is_root_device":false,"path_on_host":"/b"}' \
		'PUT /machine-config {"vcpu_count":1,"mem_size_mib":64,"smt":true}' 'PUT /vsock {"guest_cid":3,"uds_path":"v"}' \
		'PUT /actions {"action_type":"InstanceStart"}' 'PATCH /vm {"state":"Paused"}' 'PATCH /vm {"state":"Resumed"}' \
		'PATCH /drives/b {"drive_id":"b","path_on_host":"/c"}'
	each 400 'PATCH /drives/b {"drive_id":"b","path_on_host":"/none"}'
	pid=$(< "$inside/firecracker.pid")
	assert_equal "$(sed -n 's/^Uid:\t\([0-9]*\)\t.*/\1/p' "/proc/$pid/status")" 1234
	assert_equal "$(sed -n 's/^Seccomp:\t//p' "/proc/$pid/status")" 2
	end_api
	[ ! -e "$inside/v" ]
}
