#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2154 # tests are subshells; variables of helper.bash
#
# The serial port and the boot timer of Firecracker's API. Flat guests only.

# bats file_tags=flat
load helper
load api

# starts GUEST [SERIAL]: by requests.
starts() {
	[ -z "${2:-}" ] || each 204 "PUT /serial $2"
	each 204 'PUT /boot-source {"kernel_image_path":"'"$GUESTS/$1"'.elf"}' 'PUT /actions {"action_type":"InstanceStart"}'
}

@test "serial: what a request may say, and that it comes before the start" {
	local d=$BATS_TEST_TMPDIR
	start_api
	each 204 'PUT /serial {}' 'PUT /serial {"serial_out_path":null,"rate_limiter":null}' 'PUT /serial {"serial_out_path":"/none/x"}' \
		'PUT /serial {"serial_out_path":"'"$d"'/s","rate_limiter":{"size":0,"refill_time":0,"x":1}}'
	each 400 'PUT /serial null' 'PUT /serial {"serial_out_path":3}' 'PUT /serial {"x":1}' 'PUT /serial' 'GET /serial' 'PATCH /serial {}' \
		'PUT /serial {"rate_limiter":{"size":1}}'
	[ ! -e "$d/s" ]
	starts idle
	each 400 'PUT /serial {}' 'PUT /serial {"serial_out_path":"'"$d"'/t"}'
	end_api
	assert_equal "$(< "$d/s")" idle
	assert_equal "$(< "$d/out")" ""
}

@test "serial: a file that cannot be opened fails the start, which can be tried again; one that exists is overwritten" {
	local d=$BATS_TEST_TMPDIR
	printf 'before and after' > "$d/s"
	start_api
	each 204 'PUT /boot-source {"kernel_image_path":"'"$GUESTS"'/idle.elf"}' 'PUT /serial {"serial_out_path":"'"$d"'"}'
	each 400 'PUT /actions {"action_type":"InstanceStart"}' 'PUT /actions {"action_type":"InstanceStart"}'
	starts idle '{"serial_out_path":"'"$d"'/s"}'
	wait_for grep -q '^idle' "$d/s"
	assert_equal "$(< "$d/s")" $'idle\ne and after'
	end_api
}

@test "serial: output beyond the limit is dropped: the bucket and its burst, then nothing" {
	local d=$BATS_TEST_TMPDIR
	start_api
	starts hello '{"serial_out_path":"'"$d"'/s","rate_limiter":{"size":2,"one_time_burst":3,"refill_time":1000000}}'
	wait_end
	assert_equal "$status" 0
	start_flat hello
	wait_end
	assert_equal "$(< "$d/s")" "$(head -c 5 "$d/out")"
}

@test "serial: a FIFO that nobody reads holds up neither the guest nor the end" {
	local d=$BATS_TEST_TMPDIR
	mkfifo "$d/s"
	start_api
	starts flood '{"serial_out_path":"'"$d"'/s"}'
	talk 'GET /'
	assert_output --partial Running
	end_api
}

@test "boot timer: a line in the log for the first magic byte, and for nothing else" {
	local d=$BATS_TEST_TMPDIR
	start_api --boot-timer
	starts timer
	wait_end
	assert_equal "$status" 0
	assert_equal "$(grep -cE 'Guest-boot-time = +[0-9]+ us [0-9]+ ms, +[0-9]+ CPU us [0-9]+ CPU ms' <<< "$stderr")" 1
	start_api
	starts timer
	wait_end
	assert_equal "$status" 0
	refute_regex "$stderr" Guest-boot-time
}
