# shellcheck shell=bash
# shellcheck disable=SC2119,SC2120,SC2154 # options of start_api are the tests'; variables of helper.bash
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

# setup_api: $d, and requests, for tests of VMs that are paused, and of their snapshots.
# shellcheck disable=SC2034 # for the tests
setup_api() {
	umask 022
	started=()
	d=$BATS_TEST_TMPDIR
	paused='PATCH /vm {"state":"Paused"}'
	resumed='PATCH /vm {"state":"Resumed"}'
}

# The VMs of a test that has passed may run, where it says so by this.
teardown_api() {
	kill_started
	end_test
}

# load_of DIR: the beginning of a request to load the snapshot in it.
load_of() {
	echo 'PUT /snapshot/load {"snapshot_path":"'"$1"'/state","mem_backend":{"backend_type":"File","backend_path":"'"$1"'/memory"}'
}

# keep [REQUEST...]: the guest that keeps what it reads, configured by requests, too. It has said so.
keep() {
	start_api
	each 204 'PUT /boot-source {"kernel_image_path":"'"$GUESTS"'/keep.elf","boot_args":"a=b"}' \
		'PUT /machine-config {"vcpu_count":1,"mem_size_mib":32}' "$@" 'PUT /actions {"action_type":"InstanceStart"}'
	wait_said '^keep'
}

# says TEXT [KEPT]: that guest has kept KEPT (one), and says that and TEXT.
says() {
	local out
	tell "$1"
	wait_said "^$1"
	out=$(tr -d '\r' < "$d/out")
	assert_equal "$out" "${2:-one}"$'\n'"$1"
}
