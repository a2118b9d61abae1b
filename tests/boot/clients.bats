#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2154 # tests are subshells; variables of helper.bash
#
# What clients of Firecracker send, in their order and with their odd values, each to a running guest and to its end.
# Flat guests only.

# bats file_tags=flat
load helper
load api

# send METHOD PATH STATUS [BODY]: by curl, on a connection of its own, as some clients do.
send() {
	run "$CURL" -s -o "$BATS_TEST_TMPDIR/answer" -w '%{http_code}' --max-time 60 --unix-socket "$api" -X "$1" \
		-H 'Accept: application/json' -H 'Content-Type: application/json' "http://localhost$2" ${4+-d "$4"}
	assert_equal "$1 $2 $output" "$1 $2 $3"
}

setup() {
	CURL=$(command -v curl) || skip "curl is not installed"
	api=$BATS_TEST_TMPDIR/api
	truncate -s 1M "$BATS_TEST_TMPDIR/root" "$BATS_TEST_TMPDIR/data"{,0,1,2,3,4,5,6,7}
	: > "$BATS_TEST_TMPDIR/empty"
}

@test "clients: the Go SDK, firectl and Nomad: FIFOs that nobody reads, smt with one CPU, root by any id, /machine-config twice" {
	local d=$BATS_TEST_TMPDIR
	watch_mayfly --api-sock "$api" --id a-b-c --no-seccomp
	wait_for api_listens
	mkfifo "$d/log" "$d/metrics" # after the socket is there; nobody opens the second one
	send GET /machine-config 200
	send PUT /logger 204 '{"level":"Info","log_path":"'"$d"'/log","show_level":true,"show_log_origin":false}'
	send PUT /metrics 204 '{"metrics_path":"'"$d"'/metrics"}'
	send PUT /machine-config 204 '{"mem_size_mib":512,"smt":true,"vcpu_count":1}'
	send GET /machine-config 200
	send PUT /boot-source 204 '{"boot_args":"ro console=ttyS0 noapic reboot=k panic=1 pci=off nomodules","kernel_image_path":"'"$GUESTS"'/idle.elf"}'
	send PUT /drives/2 204 '{"drive_id":"2","is_read_only":true,"is_root_device":false,"path_on_host":"'"$d"'/data"}'
	send PUT /drives/1 204 '{"drive_id":"1","is_read_only":false,"is_root_device":true,"path_on_host":"'"$d"'/root","rate_limiter":{"bandwidth":{"refill_time":1000,"size":1048576},"ops":{"one_time_burst":7,"refill_time":100,"size":10}}}'
	send PUT /vsock 204 '{"guest_cid":3,"uds_path":"'"$d"'/v","vsock_id":"1"}'
	send PUT /actions 204 '{"action_type":"InstanceStart"}'
	send GET / 200
	run cat "$d/answer"
	assert_output '{"id":"a-b-c","state":"Running","vmm_version":"1.17.0","app_name":"Firecracker"}'
	send PATCH /vm 204 '{"state":"Paused"}'
	send PATCH /vm 204 '{"state":"Paused"}'
	send PATCH /vm 204 '{"state":"Resumed"}'
	watched_ends "signal 15" TERM # StopVMM, and Wait has to report an error
}

@test "clients: Kata by its file: placeholders of no bytes, limiters {}, the vsock's socket before Running, PATCH of a path" {
	local d=$BATS_TEST_TMPDIR i drives
	drives='{"drive_id":"rootfs","path_on_host":"'"$d"'/root","is_root_device":false,"is_read_only":true}'
	for i in {0..7}; do
		: > "$d/drive$i"
		drives+=',{"drive_id":"drive_'"$i"'","path_on_host":"'"$d"'/drive'$i'","is_root_device":false,"is_read_only":false}'
	done
	echo '{"boot-source":{"kernel_image_path":"'"$GUESTS"'/idle.elf","boot_args":"acpi=off pci=off iommu=off reboot=k panic=1"},
		"drives":['"$drives"'],"machine-config":{"vcpu_count":1,"mem_size_mib":128,"smt":false},
		"vsock":{"guest_cid":3,"uds_path":"'"$d"'/kata.hvsock"},"network-interfaces":[],
		"logger":{"log_path":"'"$d"'/log","level":"Error"},"metrics":{"metrics_path":"'"$d"'/metrics"}}' > "$d/fcConfig.json"
	run "$MAYFLY" --api-sock "$api" --version
	[[ ${lines[0]} =~ ^Firecracker\ v[0-9.]+$ ]]
	watch_mayfly --api-sock "$api" --config-file "$d/fcConfig.json"
	wait_for api_listens
	test -S "$d/kata.hvsock"
	send GET / 200
	assert_equal "$(cat "$d/answer")" '{"id":"anonymous-instance","state":"Running","vmm_version":"1.17.0","app_name":"Firecracker"}'
	for i in {0..7}; do
		send PATCH "/drives/drive_$i" 204 '{"drive_id":"drive_'"$i"'","path_on_host":"'"$d"'/data'"$i"'"}'
	done
	watched_ends "signal 15" TERM
}

@test "clients: Kata over HTTP repeats each request, with null as a MAC and a limiter" {
	local d=$BATS_TEST_TMPDIR tap=cl-$$ i
	[ "$(id -u)" = 0 ] || skip "only root can make a tap"
	ip tuntap add dev "$tap" mode tap
	watch_mayfly --api-sock "$api"
	wait_for api_listens
	for i in 1 2; do
		send PUT /boot-source 204 '{"kernel_image_path":"'"$GUESTS"'/idle.elf","boot_args":"reboot=k"}'
		send PUT /machine-config 204 '{"mem_size_mib":128,"vcpu_count":1}'
		send PUT /drives/rootfs 204 '{"drive_id":"rootfs","path_on_host":"'"$d"'/root","is_root_device":false,"is_read_only":true}'
		send PUT /drives/drive1 204 '{"drive_id":"drive1","path_on_host":"'"$d"'/empty","is_root_device":false,"is_read_only":false}'
		send PUT /network-interfaces/eth0 204 '{"iface_id":"eth0","guest_mac":null,"host_dev_name":"'"$tap"'","rx_rate_limiter":{},"tx_rate_limiter":{}}'
		send PUT /vsock 204 '{"vsock_id":"root","guest_cid":3,"uds_path":"'"$d"'/root.hvsock"}'
	done
	send PUT /actions 204 '{"action_type":"InstanceStart"}'
	send PUT /actions 400 '{"action_type":"InstanceStart"}'
	send PATCH /drives/drive1 204 '{"drive_id":"drive1","path_on_host":"'"$d"'/data","rate_limiter":null}'
	send PATCH /network-interfaces/eth0 204 '{"iface_id":"eth0","rx_rate_limiter":{"bandwidth":{"size":9,"refill_time":9}}}'
	watched_ends "signal 9" KILL
	wait_for ip tuntap del dev "$tap" mode tap
}

@test "clients: logger and metrics last, no machine, relative paths, devices that are not there, and a guest that ends" {
	cd "$BATS_TEST_TMPDIR"
	cp "$GUESTS/hello.elf" kernel
	watch_mayfly --api-sock api
	wait_for api_listens
	"$PYTHON" -I -S -c '
import socket, sys
for line in b"GET / HTTP/1.1\r\n\r\n", b"GET / HT", b"":  # clients that leave early
    s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(line); s.recv(9) if line.endswith(b"\n") else 0; s.close()' api
	send PUT /boot-source 204 '{"kernel_image_path":"kernel"}'
	send PUT /balloon 400 '{"amount_mib":0,"deflate_on_oom":true}'
	send PUT /drives/data 204 '{"drive_id":"data","is_root_device":false,"path_on_host":"data","cache_type":"Writeback","io_engine":"Async"}'
	send PUT /drives/rootfs 204 '{"drive_id":"rootfs","is_root_device":true,"path_on_host":"root","is_read_only":true}'
	send PUT /vsock 204 '{"guest_cid":3,"uds_path":"v"}'
	send PUT /logger 204 '{"log_path":"log"}'
	send PUT /metrics 204 '{"metrics_path":"metrics"}'
	send GET /vm/config 200
	run cat answer
	assert_output --partial '"drives":[{"drive_id":"rootfs"'
	send PUT /actions 204 '{"action_type":"InstanceStart"}'
	watched_ends "exit 0"
	[ ! -e api ]
	[ ! -e v ]
}
