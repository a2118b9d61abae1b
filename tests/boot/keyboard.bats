#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2154 # tests are subshells; variables of helper.bash
#
# SendCtrlAltDel of Firecracker's API: flat guests, and a kernel that has a driver of the keyboard.

load helper
load api

DEBIAN=${DEBIAN:-$B/debian}
export LIMIT=100
KEYS='PUT /actions {"action_type":"SendCtrlAltDel"}'

# bats test_tags=flat
@test "keyboard: Ctrl+Alt+Del reaches the guest, whose reset ends mayfly with 0; refused before the start" {
	start_api
	each 400 "$KEYS" 'PUT /actions {"action_type":"SendCtrlAltDel","x":1}'
	each 204 'PUT /boot-source {"kernel_image_path":"'"$GUESTS"'/keys.elf"}' 'PUT /actions {"action_type":"InstanceStart"}'
	wait_said keys
	each 204 "$KEYS"
	wait_end
	assert_equal "$status" 0
	said 'Ctrl+Alt+Del'
}

# bats test_tags=flat
@test "keyboard: what a guest does not read is typed four times; also while it is paused" {
	start_api
	each 204 'PUT /boot-source {"kernel_image_path":"'"$GUESTS"'/idle.elf"}' 'PUT /actions {"action_type":"InstanceStart"}' \
		"$KEYS" "$KEYS" 'PATCH /vm {"state":"Paused"}' "$KEYS" "$KEYS"
	each 400 "$KEYS"
	each 204 'PATCH /vm {"state":"Resumed"}'
	each 400 "$KEYS"
	end_api
}

# bats test_tags=flat
@test "keyboard: without the API there is none: its status is that of no controller" {
	start_flat keys
	wait_said keys
	wait_said 'wrong: key'
	wait_end
}

# The driver is in Debian's kernels, which need ACPI.
types_to_debian() {
	[ -e "$DEBIAN/vmlinuz-$1" ] || skip "no Debian kernel: run make debian"
	start_api
	each 204 'PUT /machine-config {"vcpu_count":2,"mem_size_mib":512}' \
		'PUT /boot-source {"kernel_image_path":"'"$DEBIAN/vmlinuz-$1"'","initrd_path":"'"$INITRAMFS"'","boot_args":"console=ttyS0 reboot=k panic=-1 cryptomgr.notests '"$2"' -- \"until grep -q AT.*keyboard /proc/bus/input/devices; do sleep 0.1; done; echo ready; sleep 1000\""}' \
		'PUT /actions {"action_type":"InstanceStart"}'
	wait_said '^ready'
	each 204 "$KEYS"
	wait_end
	assert_equal "$status" 0
	said 'reboot: Restarting system'
}

@test "keyboard: Linux's driver finds it by ACPI, asks it all it asks a keyboard, and restarts" {
	types_to_debian 6.12 ''
}

@test "keyboard: Linux's driver, with Firecracker's words for it, only listens" {
	types_to_debian 6.1 'i8042.noaux i8042.nomux i8042.dumbkbd'
}
