#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2034,SC2154 # tests are subshells; variables of helper.bash
#
# Linux in a snapshot of Firecracker's API.

load helper
load api

@test "api restore: Linux goes on with its memory, its clock and its drive, which is another file" {
	local d=$BATS_TEST_TMPDIR body
	truncate -s 1M "$d/disk"
	printf 'first line\n' | dd of="$d/disk" conv=notrunc status=none
	start_api
	# shellcheck disable=SC2016 # for the guest's shell
	body='echo up; read line; echo got $line; head -n 1 /dev/vda; date +%s; read line; echo then $line; reboot -f'
	each 204 'PUT /boot-source {"kernel_image_path":"'"$KERNEL"'","initrd_path":"'"$INITRAMFS"'","boot_args":"console=ttyS0 quiet reboot=k panic=-1 -- \"'"$body"'\""}' \
		'PUT /drives/a {"drive_id":"a","is_root_device":false,"path_on_host":"'"$d"'/disk"}' \
		'PUT /actions {"action_type":"InstanceStart"}'
	wait_said '^up'
	each 204 'PATCH /vm {"state":"Paused"}' 'PUT /snapshot/create {"snapshot_path":"'"$d"'/s","mem_file_path":"'"$d"'/m"}'
	end_api
	rm "$d/disk"
	truncate -s 1M "$d/other"
	printf 'other line\n' | dd of="$d/other" conv=notrunc status=none
	start_api
	each 204 'PUT /snapshot/load {"snapshot_path":"'"$d"'/s","mem_backend":{"backend_type":"File","backend_path":"'"$d"'/m"},"clock_realtime":true}' \
		'PATCH /drives/a {"drive_id":"a","path_on_host":"'"$d"'/other"}' 'PATCH /vm {"state":"Resumed"}'
	tell word
	wait_said '^got word'
	wait_said '^other line'
	tell end
	wait_said '^then end'
	wait_end
	assert_equal "$status" 0
}
