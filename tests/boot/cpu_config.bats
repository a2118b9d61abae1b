#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2154 # tests are subshells; variables of helper.bash
#
# CPU templates of Firecracker's API. Flat guests only.

# bats file_tags=flat
load helper
load api

# 0bxxx...: the letters "MAYF" and "LY!\n" in a register, the first in the lowest byte.
NAME='{"leaf":"0x80000002","subleaf":"0x0","flags":0,"modifiers":[{"register":"eax","bitmap":"0b01000110_01011001_01000001_01001101"}]}'
MSR='{"addr":"0x174","bitmap":"0bxxxxxxxx_00100001_01011001_01001100"}'

leaf() {
	echo 'PUT /cpu-config {"cpuid_modifiers":[{"leaf":'"$1"',"subleaf":"0b0","flags":0,"modifiers":'"${2:-[]}"'}]}'
}

@test "cpu-config: what a template may say" {
	start_api
	each 204 'PUT /cpu-config {}' 'PUT /cpu-config {"kvm_capabilities":["!171","172"],"cpuid_modifiers":[],"msr_modifiers":[]}' \
		"$(leaf '"0x1"')" "$(leaf '"0b1"' '[{"register":"edx","bitmap":"1x0_1","x":1}]')" 'PUT /cpu-config {"msr_modifiers":[{"addr":"0x1","bitmap":"0b"}]}'
	talk 'GET /vm/config'
	assert_output --partial '"cpu-config":null'
	each 400 'PUT /cpu-config' 'PUT /cpu-config null' 'PUT /cpu-config ""' 'PUT /cpu-config {"x":1}' 'PUT /cpu-config {"vcpu_features":[]}' \
		'PUT /cpu-config {"kvm_capabilities":null}' 'PUT /cpu-config {"kvm_capabilities":["!!1"]}' 'PUT /cpu-config {"kvm_capabilities":[1]}' \
		'PUT /cpu-config {"kvm_capabilities":["4294967296"]}' 'PUT /cpu-config {"kvm_capabilities":["0x1"]}' \
		'PUT /cpu-config {"cpuid_modifiers":[{}]}' "$(leaf 1)" "$(leaf '"1"')" "$(leaf '"0x"')" "$(leaf '"0X1"')" "$(leaf '"0x100000000"')" \
		"$(leaf '"0x1"' null)" "$(leaf '"0x1"' '[{"register":"EAX","bitmap":"1"}]')" "$(leaf '"0x1"' '[{"register":"eax"}]')" \
		"$(leaf '"0x1"' '[{"register":"eax","bitmap":"2"}]')" "$(leaf '"0x1"' '[{"register":"eax","bitmap":"'"$(printf '%033d' 0)"'"}]')" \
		'PUT /cpu-config {"msr_modifiers":[{"addr":"0x1"}]}' 'PUT /cpu-config {"msr_modifiers":[{"addr":"1","bitmap":"1"}]}' \
		'PUT /cpu-config {"msr_modifiers":[{"addr":"0x1","bitmap":"'"$(printf '%065d' 0)"'"}]}' 'GET /cpu-config' 'PATCH /cpu-config {}'
	end_api
}

@test "cpu-config: the guest sees what a template changes; what the host lacks fails the start" {
	local start='PUT /actions {"action_type":"InstanceStart"}'
	start_api
	each 204 'PUT /boot-source {"kernel_image_path":"'"$GUESTS"'/cpuid.elf"}' "$(leaf '"0x7ffffff0"' '[{"register":"eax","bitmap":"1"}]')"
	each 400 "$start"
	each 204 'PUT /cpu-config {"msr_modifiers":[{"addr":"0x7ffffff0","bitmap":"1"}]}'
	each 400 "$start"
	each 204 'PUT /cpu-config {"kvm_capabilities":["4000000000"]}'
	each 400 "$start"
	each 204 'PUT /cpu-config {"cpuid_modifiers":['"$NAME"'],"msr_modifiers":['"$MSR"']}' "$start"
	wait_end
	assert_equal "$status" 0
	said '^MAYFLY!'
}

@test "cpu-config: in a configuration file, itself or by its path; refused after the start" {
	local d=$BATS_TEST_TMPDIR cpu='{"cpuid_modifiers":['"$NAME"'],"msr_modifiers":['"$MSR"']}' what
	echo "$cpu" > "$d/cpu"
	for what in "$cpu" "\"$d/cpu\""; do
		echo '{"boot-source":{"kernel_image_path":"'"$GUESTS"'/cpuid.elf"},"drives":[],"cpu-config":'"$what"'}' > "$d/config"
		run --separate-stderr "$MAYFLY" --no-api --config-file "$d/config"
		assert_equal "$status" 0
		assert_output --partial 'MAYFLY!'
	done
	for what in '"/none"' '{"x":1}' 3; do
		echo '{"boot-source":{"kernel_image_path":"'"$GUESTS"'/cpuid.elf"},"drives":[],"cpu-config":'"$what"'}' > "$d/config"
		run "$MAYFLY" --no-api --config-file "$d/config"
		assert_equal "$status" 1
	done
	start_api
	each 204 'PUT /boot-source {"kernel_image_path":"'"$GUESTS"'/idle.elf"}' 'PUT /actions {"action_type":"InstanceStart"}'
	each 400 'PUT /cpu-config {}'
	end_api
}
