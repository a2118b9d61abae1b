#!/usr/bin/env bats
# shellcheck disable=SC2034 # helper.bash uses it
# Our own kernel at its largest: 32 vCPUs, memory above 4 GiB.

load helper

LIMIT=240

@test "large: 32 vCPUs all start and are seen" {
	run_linux -c 32 -m 512M -- "nproc; grep -c ^processor /proc/cpuinfo; cat /sys/devices/system/cpu/online"
	assert_equal "$status" 0
	assert_regex "$output" $'32\n32\n0-31\nmayfly-init: status 0'
}

# What is read into the page cache goes to the highest memory first: the drive writes above 4 GiB.
@test "large: 5 GiB, and a drive that is read into memory above 4 GiB" {
	local sum
	sum=$(sha256sum < "$ROOTFS")
	run_linux -m 5G -d "$ROOTFS:ro" -- "grep RAM /proc/iomem; grep MemTotal /proc/meminfo; sha256sum < /dev/vda"
	assert_equal "$status" 0
	assert_regex "$output" '00200000-bfffffff : System RAM'
	assert_regex "$output" '100000000-17fffffff : System RAM'
	[[ $output =~ MemTotal:\ +([0-9]+)\ kB ]]
	[ "${BASH_REMATCH[1]}" -gt 5000000 ]
	assert_regex "$output" "${sum%% *}"
}
