#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2034,SC2154 # tests are subshells, variables are of helper.bash
#
# Snapshots that this host, or this mayfly, cannot run: they are refused before anything is built.

# bats file_tags=flat
load helper

setup() {
	snapshot_names
	start_flat keep -m 64M --control "$ctl" --vsock "$dir/vsock"
	wait_said '^keep'
	run "$MAYFLY" snapshot --stop "$ctl" "$snap"
	assert_success
	wait_end
	chmod u+w "$snap"/*
	cp "$snap/state" "$dir/state"
	options=(--control "$dir/made" --vsock "$dir/vsock" --name "refused$$")
	[ "$(id -u)" != 0 ] || options+=(--jail)
}

teardown() {
	kill_started
	end_test
}

# refused TEXT...: a restore of the snapshot is, in a message with each TEXT, and has made nothing: no socket, directory, file
# or process.
refused() {
	local text
	run --separate-stderr timeout -k 5 "$LIMIT" strace -f -qq -o "$dir/calls" \
		-e trace=bind,mkdir,mkdirat,mknod,clone,clone3,fork,vfork,open,openat,rename,renameat2,ioctl,connect \
		"$MAYFLY" restore "${options[@]}" "$snap" < /dev/null
	echo "# mayfly said: $stderr"
	assert_equal "$status" 125
	for text in "$@"; do
		assert_one_line "$text"
	done
	run grep -E '^[0-9]+ +(bind|mk|clone|fork|vfork|rename|connect)|O_CREAT|O_TMPFILE|TUNSETIFF' "$dir/calls"
	assert_equal "$output" ''
	cp "$dir/state" "$snap/state"
}

alter() {
	"$BATS_TEST_DIRNAME/altered-snapshot" "$snap/state" "$@"
}

@test "refused: nothing is, of a snapshot as it was written" {
	run --separate-stderr timeout -k 5 "$LIMIT" "$MAYFLY" restore "${options[@]}" "$snap" <<< $'one\n\4'
	strip_returns
	assert_equal "$status" 0
	assert_equal "$output" one
}

@test "refused: another CPU, with what it has and what this one has" {
	alter cpid 0 20 41414141 # ebx of the first entry, which is CPUID 0
	refused 0x41414141 'CPUID 0 ebx'
	# The features of CPUID 1.
	at=$("$PYTHON" -IS -c '
import struct, sys
state = open(sys.argv[1], "rb").read()
start = at = state.index(b"cpid") + 24
for at in range(start + 4, len(state), 28):
    if struct.unpack_from("<I", state, at)[0] == 1:
        sys.exit(print(at - start))
' "$snap/state")
	alter cpid 0 $((at + 20)) ffffffff # ecx, and one bit of it is always off
	refused 'CPUID 0x1.0 ecx' 0xffffffff
}

@test "refused: another TSC, which this host cannot scale; an MSR and an XSAVE that it lacks" {
	if "$PYTHON" -IS -c 'import fcntl, os, sys
sys.exit(fcntl.ioctl(os.open("/dev/kvm", os.O_RDWR), 0xAE03, 60) > 0)'; then
		alter vcpu 0 4 40420f00 # 1 GHz
		refused '1000000 kHz'
	fi
	alter vcpu 0 -12 785634120100000000000000
	refused 0x12345678
}

@test "refused: other versions, and pages of another size" {
	for tag in 'vm  ' 'mem ' cpid vcpu clck ioap uart; do
		alter "$tag" 0 version 0900
		refused "'$tag' 0" 'version 9'
	done
	alter mem 0 24 00400000
	refused pages
}

@test "refused: a VM of another shape" {
	sed -i 's/"mem": "64M"/"mem": "32M"/' "$snap/config.json"
	refused '64 MiB' 32
	sed -i 's/"mem": "32M"/"mem": "64M"/; s/"cpus": 1/"cpus": 2/' "$snap/config.json"
	refused '1 vCPUs' 2
}
