#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2034,SC2154 # tests are subshells; variables of helper.bash
#
# Snapshots that pass between `mayfly snapshot` or `mayfly restore` and Firecracker's API. Flat guests.

# bats file_tags=flat
load helper
load api

setup() {
	setup_api
	ctl=$d/control.sock
	snap=$d/snap
	load=$(load_of "$snap")
}

teardown() { teardown_api; }

# create_in DIR: a request.
create_in() {
	mkdir -p "$1"
	echo 'PUT /snapshot/create {"snapshot_path":"'"$1"'/state","mem_file_path":"'"$1"'/memory"}'
}

# own [OPTION...]: a snapshot of the guest that keeps what it reads, and has read one, by `mayfly snapshot`. It has ended.
own() {
	start_flat keep -m 32M --control "$ctl" "$@"
	wait_said '^keep'
	tell one
	wait_said '^one'
	run "$MAYFLY" snapshot --stop "$ctl" "$snap"
	assert_success
	wait_end
}

# of_api [REQUEST...]: the same in DIR $snap by the API, configured by requests, too.
of_api() {
	keep "$@"
	tell one
	wait_said '^one'
	each 204 "$paused" "$(create_in "$snap")"
	end_api
}

# restored TEXT [OPTION...]: `mayfly restore` of a VM, which gets TEXT and ^D, and says what the other one has kept, and TEXT.
restored() {
	run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" restore "${@:2}" <<< "$1"$'\n\4'
	strip_returns
	assert_equal "$status" 0
	assert_equal "$output" $'one\n'"$1"
}

# load_fails TEXT REQUEST: it is answered with 400 and TEXT, and ends the process.
load_fails() {
	start_api
	talk "$2"
	[[ $output == 400\ *"$1"* ]] || fail "no '$1' in: $output"
	wait_end
	assert_equal "$status" 1
}

@test "api own: a snapshot of mayfly's own is loaded, shown, and written again for either" {
	export TRACE_ALL=1 # tests/seccomp/traced
	truncate -s 1M "$d/disk"
	own -d "$d/disk:ro:id=a"
	start_api
	talk "$load}" 'GET /vm/config' 'GET /' 'PATCH /vm {"state":"Resumed"}'
	assert_line --index 0 '204 '
	assert_line --index 1 --partial '"mem_size_mib":32'
	assert_line --index 1 --partial '"drive_id":"a"'
	assert_line --index 1 --partial "\"path_on_host\":\"$d/disk\""
	assert_line --index 1 --partial "/keep.elf\""
	assert_line --index 2 --partial '"state":"Paused"'
	assert_line --index 3 '204 '
	says two
	truncate -s 1M "$d/other"
	each 204 "PATCH /drives/a {\"drive_id\":\"a\",\"path_on_host\":\"$d/other\"}" "$paused" "$(create_in "$d/next")"
	end_api
	rm "$d/disk" # the new one has the other image
	start_api
	each 204 "$(load_of "$d/next"),\"resume_vm\":true}"
	says three $'one\ntwo'
	end_api
	run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" restore "$d/next" <<< $'four\n\4'
	strip_returns
	assert_equal "$status" 0
	assert_equal "$output" $'one\ntwo\nfour'
}

@test "api own: a drive's layer, a diff, and what the request overrides" {
	truncate -s 1M "$d/disk" "$d/other"
	own -d "$d/disk:overlay:id=a" -d "$d/disk:ro:id=b"
	assert_equal "$(ls "$snap/disks")" a
	start_api
	each 204 "$load,\"drive_overrides\":[{\"drive_id\":\"b\",\"path_on_host\":\"$d/other\"}],\"resume_vm\":true}"
	each 400 "PATCH /drives/a {\"drive_id\":\"a\",\"path_on_host\":\"$d/other\"}"
	says two
	each 204 "$paused" "$(create_in "$d/next")"
	[ -s "$d/next/state.a" ]
	end_api
	start_api
	each 204 "$(load_of "$d/next"),\"resume_vm\":true}"
	says three $'one\ntwo'
	end_api
	# A diff of `mayfly snapshot` needs its parent, which nobody has merged.
	start_mayfly restore --control "$ctl" "$snap"
	tell two
	wait_said '^two'
	run "$MAYFLY" snapshot --stop --diff "$ctl" "$d/diff"
	assert_success
	wait_end
	start_api
	each 204 "$(load_of "$d/diff"),\"resume_vm\":true}"
	says three $'one\ntwo'
	end_api
	mv "$snap" "$d/moved"
	load_fails "$d/diff/state" "$(load_of "$d/diff")}"
}

@test "api own: what is refused of a snapshot of mayfly's own" {
	truncate -s 1M "$d/disk"
	own -d "$d/disk:overlay:id=a"
	load_fails 'Unknown Block Device' "$load,\"drive_overrides\":[{\"drive_id\":\"b\",\"path_on_host\":\"$d/disk\"}]}"
	mv "$d/disk" "$d/moved"
	load_fails "'a'" "$load}" # the layer needs it
	mv "$d/moved" "$d/disk"
	local text config
	config=$(< "$snap/config.json")
	chmod u+w "$snap/config.json"
	for text in '' '{' '[]' '{"x":1}' "${config/\"id\": \"a\"/\"id\": \"b\"}" "${config/32M/64M}" "${config/32M/x}"; do
		printf '%s' "$text" > "$snap/config.json"
		load_fails "$snap" "$load}"
	done
	rm "$snap/config.json"
	load_fails config.json "$load}"
}

@test "api own: a jail is left out with a warning, a directory is packed, and a net must be a tap" {
	mkdir "$d/tree"
	echo text > "$d/tree/file"
	own --jail -d "$d/tree:ro:id=a"
	start_api
	each 204 "$load,\"resume_vm\":true}"
	says two
	end_api
	grep -q 'jail.*continuing' "$d/err"
	command -v passt > /dev/null || skip "no passt here"
	own -n user
	load_fails "'net0'" "$load}"
}

@test "api own: mayfly restore and clone take a snapshot that the API wrote" {
	truncate -s 1M "$d/disk" "$d/moved"
	of_api "PUT /drives/a {\"drive_id\":\"a\",\"is_root_device\":false,\"path_on_host\":\"$d/disk\"}"
	restored two "$snap"
	restored two --state "$snap/state" --memory "$snap/memory"
	rm "$d/disk"
	restored two -d "a=$d/moved" "$snap"
	run --separate-stderr "$MAYFLY" restore -d "b=$d/moved" "$snap"
	assert_equal "$status" 125
	run --separate-stderr "$MAYFLY" restore --dry-run -d "a=$d/moved" "$snap"
	assert_success
	assert_output --partial '"mem": "32M"'
	run timeout -k 5 "$LIMIT" "$MAYFLY" clone "$snap" --number 2 --drive "a=$d/moved" --timeout 1s
	[[ $output == *1:* && $output == *2:* ]]
}

@test "api own: what mayfly restore says of a directory without a configuration" {
	own
	rm "$snap/config.json"
	run --separate-stderr "$MAYFLY" restore "$snap"
	assert_equal "$status" 125
	assert_one_line "$snap/state"
	run --separate-stderr "$MAYFLY" restore "$d/none"
	assert_equal "$status" 125
	assert_one_line "$d/none"
	run --separate-stderr "$MAYFLY" restore --state "$snap/state"
	assert_equal "$status" 125
	assert_one_line 'which snapshot'
}
