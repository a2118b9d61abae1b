#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2154 # tests are subshells; variables of helper.bash
#
# Firecracker's MMDS: metadata that a client puts and the guest reads by vsock.

load helper
load api

DENIED='400 {"fault_message":"MMDS error: The MMDS data store is not initialized."}'

# bats test_tags=flat
@test "mmds: the data are not in the log" {
	start_api --log-path "$BATS_TEST_TMPDIR/log" --level Info
	each 204 'PUT /mmds {"secret":"hidden"}' 'PATCH /mmds {"other":"hidden"}' 'PUT /machine-config {"vcpu_count":1,"mem_size_mib":64}'
	end_api
	run cat "$BATS_TEST_TMPDIR/log"
	assert_output --partial 'received a Put request on "/mmds".'
	assert_output --partial 'received a Put request on "/machine-config" with body "{"vcpu_count":1'
	refute_output --partial hidden
}

# bats test_tags=flat
@test "mmds: any JSON is stored, printed in the order of its keys, and patched by RFC 7396" {
	start_api
	talk 'GET /mmds' 'PATCH /mmds {"a":1}' 'PUT /mmds {"b":1,"a":{"z":0.1,"y":[1,null],"x":"\u0000"},"a":{"c":"d","e":null,"f":1}}' \
		'GET /mmds' 'GET /mmds/any/path' 'PATCH /mmds {"a":{"c":null,"g":{"h":null,"i":2}},"b":null,"none":null}' 'GET /mmds' \
		'PATCH /mmds/any "text"' 'GET /mmds' 'PATCH /mmds {"a":[1.5,1000.0]}' 'GET /mmds' 'PUT /mmds null' 'GET /mmds' \
		'PATCH /mmds {"j":true}' 'GET /mmds'
	assert_output "200 {}
$DENIED
204 
200 {\"a\":{\"c\":\"d\",\"e\":null,\"f\":1},\"b\":1}
200 {\"a\":{\"c\":\"d\",\"e\":null,\"f\":1},\"b\":1}
204 
200 {\"a\":{\"e\":null,\"f\":1,\"g\":{\"i\":2}}}
204 
200 \"text\"
204 
200 {\"a\":[1.5,1000.0]}
204 
200 {}
204 
200 {\"j\":true}"
	each 400 'PUT /mmds' 'PUT /mmds {' 'PUT /mmds {} x' 'PATCH /mmds' 'PUT /mmds/x {}' 'DELETE /mmds' 'GET /mmds {}'
	end_api
}

# bats test_tags=flat
@test "mmds: the size limit is that of what is stored" {
	local long
	long=$(printf '%092d' 0)
	start_api --mmds-size-limit 100
	each 204 'PUT /mmds {"a":     "'"$long"'"}' 'PATCH /mmds {"a":"b"}'
	each 413 'PUT /mmds {"a":"'"$long"'0"}' 'PATCH /mmds {"c":"'"$long"'"}'
	talk 'GET /mmds'
	assert_output '200 {"a":"b"}'
	end_api
	start_api --http-api-max-payload-size 120
	each 204 'PUT /mmds {"a":"'"$long"'"}'
	each 413 'PATCH /mmds {"c":"'"$long"'"}'
	end_api
}

# bats test_tags=flat
@test "mmds: its configuration names interfaces that exist and a link-local address, before the start" {
	local d=$BATS_TEST_TMPDIR c="PUT /mmds/config" config
	start_api
	each 204 'PUT /network-interfaces/1 {"iface_id":"1","host_dev_name":"none"}'
	talk 'GET /vm/config' "$c {\"network_interfaces\":[\"1\"]}" 'GET /vm/config' \
		"$c {\"version\":\"V2\",\"ipv4_address\":\"169.254.1.0\",\"network_interfaces\":[\"1\"],\"imds_compat\":true}" 'GET /vm/config' \
		"$c {\"network_interfaces\":[]}" "$c {\"version\":\"V2\",\"network_interfaces\":[\"2\"]}" "$c {\"network_interfaces\":[3]}"
	assert_line --index 0 --partial '"mmds-config":null'
	assert_line --index 1 '204 deprecated '
	assert_line --index 2 --partial '"mmds-config":{"version":"V1","network_interfaces":["1"],"ipv4_address":"169.254.169.254","imds_compat":false}'
	assert_line --index 3 '204 '
	assert_line --index 4 --partial '"mmds-config":{"version":"V2","network_interfaces":["1"],"ipv4_address":"169.254.1.0","imds_compat":true}'
	assert_line --index 5 --regexp '^400 deprecated \{"fault_message":"MMMDS config error: '
	assert_line --index 6 --regexp '^400 \{"fault_message":"MMMDS config error: '
	assert_line --index 7 --regexp '^400 \{"fault_message":"An error occurred when deserializing'
	for config in '{}' '{"network_interfaces":null}' '{"network_interfaces":"1"}' '{"version":null,"network_interfaces":["1"]}' \
		'{"version":"V3","network_interfaces":["1"]}' '{"version":"V2","imds_compat":null,"network_interfaces":["1"]}' \
		'{"version":"V2","ipv4_address":"bad","network_interfaces":["1"]}' '{"version":"V2","x":1,"network_interfaces":["1"]}' \
		'{"version":"V2","ipv4_address":"169.254.0.255","network_interfaces":["1"]}' \
		'{"version":"V2","ipv4_address":"169.254.255.0","network_interfaces":["1"]}' \
		'{"version":"V2","ipv4_address":"10.0.0.1","network_interfaces":["1"]}'; do
		each 400 "$c $config"
	done
	end_api
	start_api
	each 204 'PUT /mmds {"a":1}' 'PUT /boot-source {"kernel_image_path":"'"$GUESTS"'/idle.elf"}' 'PUT /actions {"action_type":"InstanceStart"}'
	talk 'GET /mmds' 'PUT /mmds {}' 'PATCH /mmds {}' "$c {\"network_interfaces\":[\"1\"]}"
	assert_output "$DENIED
$DENIED
$DENIED
400 deprecated {\"fault_message\":\"The requested operation is not supported after starting the microVM.\"}"
	end_api
}

# bats test_tags=flat
@test "mmds: from a file, and from a configuration file; a file that is no JSON ends with 1" {
	local d=$BATS_TEST_TMPDIR
	echo '{"a":1}' > "$d/data"
	start_api --metadata "$d/data"
	talk 'GET /mmds'
	assert_output '200 {"a":1}'
	end_api
	echo '{"boot-source":{"kernel_image_path":"'"$GUESTS"'/idle.elf"},"drives":[],"mmds-config":{"network_interfaces":["1"]}}' > "$d/config"
	run "$MAYFLY" --no-api --config-file "$d/config"
	assert_equal "$status" 1
	echo '{' > "$d/data"
	run "$MAYFLY" --api-sock "$d/s" --metadata "$d/data"
	assert_equal "$status" 1
	run "$MAYFLY" --api-sock "$d/s" --metadata "$d/none"
	assert_equal "$status" 1
	echo '{"a":1}' > "$d/data"
	run "$MAYFLY" --api-sock "$d/s" --metadata "$d/data" --mmds-size-limit 3
	assert_equal "$status" 1
}

# A guest with vsock and a network reads what was put before the start and what is changed while it runs.
@test "mmds: the guest reads the data at the host's port 169254, and what has changed" {
	local d=$BATS_TEST_TMPDIR tap=mmds-$$
	mkdir -p "$d/root/bin"
	cp "$B/tests/guest/vsock" "$d/root/bin/vsock"
	(cat "$INITRAMFS" && cd "$d/root" && echo bin/vsock | cpio --quiet -o -H newc) > "$d/initramfs"
	ip tuntap add dev "$tap" mode tap
	start_api
	each 204 'PUT /network-interfaces/1 {"iface_id":"1","host_dev_name":"'"$tap"'"}' 'PUT /vsock {"guest_cid":3,"uds_path":"'"$d"'/v"}' \
		'PUT /mmds/config {"version":"V2","network_interfaces":["1"]}' 'PUT /mmds {"id":"one"}' \
		'PUT /boot-source {"kernel_image_path":"'"$KERNEL"'","initrd_path":"'"$d"'/initramfs","boot_args":"console=ttyS0 reboot=k panic=-1 quiet -- \"vsock pipe vsock:169254 < /dev/null; echo; until vsock pipe vsock:169254 < /dev/null | grep two; do sleep 0.1; done; vsock pipe vsock:169254 < /dev/null | wc -c\""}' \
		'PUT /actions {"action_type":"InstanceStart"}'
	wait_said '^{"id":"one"}'
	talk 'PATCH /mmds {"more":"'"$(printf '%040000d' 0)"'","id":"two"}'
	assert_output '204 '
	wait_end
	assert_equal "$status" 0
	said '^40022'
	[ ! -e "$d/v_169254" ]
	wait_for ip tuntap del dev "$tap" mode tap
}
