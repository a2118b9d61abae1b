# shellcheck shell=bash
# shellcheck disable=SC2154 # variables of helper.bash
# For tests of Firecracker's API: a server, and requests to it. After helper.bash.

# start_api [OPTION...]: a server at $api.
start_api() {
	api=$BATS_TEST_TMPDIR/api
	start_mayfly --api-sock "$api" "$@"
	wait_for api_listens
}

end_api() {
	kill "$pid"
	wait_end
	[ ! -e "$api" ]
}

api_listens() {
	[ -S "$api" ] && talk "GET /" > /dev/null 2>&1
}

# talk REQUEST...: sets $output and $lines to the answers, a line each: the status and the body.
talk() {
	run "$PYTHON" -I -S "$BATS_TEST_DIRNAME/api-talk" "$api" <<< "$(printf '%s\n' "$@")"
	[ "$status" = 0 ]
}

# each STATUS REQUEST...: all are answered with it; one of 400 has a sentence in it, one of 204 nothing.
each() {
	local want=$1 i
	shift
	talk "$@"
	for i in "${!lines[@]}"; do
		case $want in
		204) assert_equal "${lines[i]}" "204 " ;;
		400) [[ ${lines[i]} =~ ^400\ \{\"fault_message\":\".+\"\}$ ]] || fail "${*:i+1:1}: ${lines[i]}" ;;
		*) [[ ${lines[i]} == "$want "* ]] || fail "${*:i+1:1}: ${lines[i]}" ;;
		esac
	done
	assert_equal "${#lines[@]}" $#
}
