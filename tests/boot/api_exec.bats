#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2034,SC2154 # tests are subshells; variables of helper.bash
#
# /mayfly/ready and /mayfly/exec of the API, in Linux guests with mayfly's init.

load helper
load api

setup() {
	setup_api
	snap=$d/snap
	ready='PUT /mayfly/ready {"timeout_ms":'
}

teardown() { teardown_api; }

# load_it [MORE]: a VM of the snapshot in $snap.
load_it() {
	start_api
	each 204 "$(load_of "$snap")${1:-}}"
}

# exec_of TIMEOUT_MS MORE WORD...: a request.
exec_of() {
	local words
	words=$("$PYTHON" -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "${@:3}")
	printf 'PUT /mayfly/exec {"timeout_ms":%s,"argv":%s%s}' "$1" "$words" "${2:+,$2}"
}

# ran STATUS OUT ERR [WHAT]: the answer in $output is that; WHAT is true in it: timed_out, stdout_cut, ...
ran() {
	"$PYTHON" -I -S -c 'import base64, json, sys
code, body = sys.argv[1].split(" ", 1)
r = json.loads(body)
assert code == "200", sys.argv[1]
out, err = (base64.b64decode(r[key], validate=True).decode() for key in ("stdout", "stderr"))
assert str(r["status"]) == sys.argv[2] and out == sys.argv[3] and err == sys.argv[4], (r, out, err)
true = [key for key in ("timed_out", "signalled", "oom", "stdout_cut", "stderr_cut") if r[key]]
assert true == sys.argv[5:], true' "$output" "$@"
}

# client REQUEST [FILE]: sends it, and leaves it unanswered; its process is $client, and its answer goes to $d/client or FILE.
client() {
	"$PYTHON" -I -S "$BATS_TEST_DIRNAME/api-talk" "$api" <<< "$1" > "${2:-$d/client}" 2>&1 3>&- &
	client=$!
	started+=("$client")
}

@test "api exec: commands in a VM of mayfly's own snapshot; others are served meanwhile; all is bounded" {
	export TRACE_ALL=1 # tests/seccomp/traced
	start_mayfly run -k "$KERNEL" -i "$INITRAMFS" -m 128M -e A=first --control "$d/ctl" -- sh -c 'echo up; exec sleep 100000'
	wait_said ^up
	run "$MAYFLY" snapshot --stop "$d/ctl" "$snap"
	assert_success
	wait_end
	load_it
	each 400 "$(exec_of 1000 '' true)" "${ready}300}" "${ready}0}" # paused
	client "${ready}200000}"
	each 204 "$resumed"
	wait_for has_ended "$client"
	assert_equal "$(< "$d/client")" '204 '
	talk "$(exec_of 60000 '"env":["B=second"],"workdir":"/tmp","stdin":"in put"' sh -c 'echo $A $B; pwd; cat; echo error >&2; exit 7')"
	ran 7 $'first second\n/tmp\nin put' $'error\n'
	talk "$(exec_of 60000 '' no-such-program)"
	ran 127 '' ''
	[[ $output == *'"error":"'*no-such-program* ]]
	talk "$(exec_of 60000 '' sh -c 'kill -KILL $$')"
	ran 137 '' '' signalled
	# Bytes that are no text; a large input; more output than there is room for.
	talk "$(exec_of 60000 '' printf '\377\001')"
	[[ $output == *'"stdout":"/wE="'* ]]
	talk "$(exec_of 60000 "\"stdin\":\"$(printf '%040000d' 0)\"" wc -c)"
	ran 0 $'40000\n' ''
	talk "$(exec_of 60000 '' sh -c 'head -c 32768 /dev/zero | tr "\0" a; head -c 32768 /dev/zero | tr "\0" b >&2')"
	ran 0 "$(printf '%032768d' 0 | tr 0 a)" "$(printf '%032768d' 0 | tr 0 b)"
	talk "$(exec_of 60000 '' sh -c 'trap "" PIPE; head -c 32769 /dev/zero; echo there >&2; exec cat /dev/zero')"
	[[ $output == *'"stdout_cut":true'* && $output == *'"timed_out":false'* ]]
	# One that waits for another, which is served meanwhile; one that does not end.
	client "$(exec_of 300000 '' sh -c 'until [ -e /tmp/go ]; do sleep 1; done; echo went')"
	talk 'GET /' "$(exec_of 200000 '' sh -c ': > /tmp/go; echo beside')"
	assert_line --index 0 --partial '"state":"Running"'
	assert_line --index 1 --partial "\"stdout\":\"$(printf 'beside\n' | base64)\""
	wait_for has_ended "$client"
	output=$(< "$d/client")
	ran 0 $'went\n' ''
	talk "$(exec_of 2000 '' sh -c 'trap "" HUP TERM; exec sleep 100000')"
	ran None '' '' timed_out
	talk "$(exec_of 60000 '' sh -c 'ps | grep -c "[s]leep 100000"')"
	ran 0 $'1\n' '' # the snapshot's own
	# A client that leaves.
	client "$(exec_of 300000 '' sh -c 'trap "echo > /tmp/hup; exit" HUP; : > /tmp/waits; while :; do sleep 1; done')"
	talk "$(exec_of 200000 '' sh -c 'until [ -e /tmp/waits ]; do sleep 1; done')"
	ran 0 '' ''
	each 204 "$paused"
	each 400 'PUT /snapshot/create {"snapshot_path":"'"$d"'/s","mem_file_path":"'"$d"'/m"}'
	each 204 "$resumed"
	kill -KILL "$client"
	talk "$(exec_of 200000 '' sh -c 'until [ -e /tmp/hup ]; do sleep 1; done')"
	ran 0 '' ''
	# What is refused, and as many at once as there may be.
	each 400 "$ready-1}" "${ready}3600001}" 'PUT /mayfly/ready {}' 'PUT /mayfly/exec {}' 'PUT /mayfly/exec {"timeout_ms":1}' \
		'PUT /mayfly/exec {"argv":["true"]}' 'PUT /mayfly/exec {"timeout_ms":1,"argv":[]}' 'PUT /mayfly/exec {"timeout_ms":1,"argv":"true"}' \
		'PUT /mayfly/exec {"timeout_ms":1,"argv":[1]}' "$(exec_of 1 '' '')" "$(exec_of 1 '"env":["A"]' true)" "$(exec_of 1 '"env":"A=b"' true)" \
		"$(exec_of 1 '"env":["=b"]' true)" "$(exec_of 1 '"workdir":"tmp"' true)" "$(exec_of 1 '"user":""' true)" "$(exec_of 1 '"stdin":1' true)" \
		"$(exec_of 1 '"x":1' true)" 'GET /mayfly/exec' 'GET /mayfly/ready'
	local i clients=()
	for ((i = 0; i < 7; i++)); do
		client "$(exec_of 300000 '' sh -c ": > /tmp/at-once-$i; exec sleep 100000")" "$d/client-$i"
		clients+=("$client")
	done
	talk "$(exec_of 200000 '' sh -c 'until [ "$(ls /tmp/at-once-* | wc -l)" = 7 ]; do sleep 1; done')"
	ran 0 '' ''
	client=
	wait_for all_wait
	# The VM is stopped while they wait: commands that end by SIGTERM in time are answered, and all connections end.
	end_api
	for i in "${clients[@]}" "$client"; do
		wait_for has_ended "$i"
	done
	assert_equal "$(grep -lE '^200 .*"signalled":true|RemoteDisconnected' "$d"/client-* | wc -l)" 8
}

# The eighth waits, too, and a ninth is refused. One of these asks may have the place that the eighth wants.
all_wait() {
	if [ -z "$client" ] || has_ended "$client"; then
		client "$(exec_of 300000 '' sleep 100000)" "$d/client-7"
	fi
	talk "$(exec_of 1 '' true)"
	[[ $output == 400\ *wait\ already* ]] && ! has_ended "$client"
}

@test "api exec: a snapshot that was taken when the guest was ready takes commands, and their ends are not the VM's" {
	run_mayfly run -k "$KERNEL" -i "$INITRAMFS" -m 128M --snapshot "$snap" --until ready
	assert_success
	load_it ',"resume_vm":true'
	each 204 "${ready}200000}"
	talk "$(exec_of 60000 '' sh -c 'echo kept > /tmp/file')"
	ran 0 '' ''
	each 204 "$paused" 'PUT /snapshot/create {"snapshot_path":"'"$d"'/state","mem_file_path":"'"$d"'/memory"}'
	end_api
	snap=$d
	load_it ',"resume_vm":true'
	each 204 "${ready}200000}"
	talk "$(exec_of 60000 '' cat /tmp/file)"
	ran 0 $'kept\n' ''
	run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" restore "$d" -- cat /tmp/file
	assert_equal "$status" 0
	assert_output kept
	end_api
}
