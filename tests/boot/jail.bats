#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2153,SC2154 # each test is a subshell; the variables are of helper.bash
#
# `mayfly run --jail`: what is left of a VM's process in there, seen from outside; that everything works as without it; and
# that nothing remains. Most of it with flat guests, so that it runs wherever these do.

load helper

setup() {
	started=()
	cd "$BATS_TEST_TMPDIR" || return 1
}

need_root() {
	[ "$(id -u)" = 0 ] || skip "needs root"
}

# start_jailed GUEST [OPTION...]: with --jail unless the options have one; waits for its word. Sets $vm, the process in the
# jail, and $init, PID 1 there.
start_jailed() {
	local jail=(--jail)
	[[ "$*" != *--jail* ]] || jail=()
	start_flat "$1" "${jail[@]}" "${@:2}"
	case $1 in
	idle) wait_said idle ;;
	spin) wait_said spinning ;;
	echo) wait_said echo ;;
	esac
	vm=$(pgrep -P "$pid" -x mayfly)
	init=$(pgrep -P "$pid" -x mayfly-jail)
}

# end_jailed: as SIGTERM ends it.
end_jailed() {
	kill -TERM "$pid"
	wait_end
	assert_equal "$status" 143
}

# field PID NAME: a line of /proc/PID/status, its fields with one space between them.
field() {
	awk -v name="$2:" '$1 == name { $1 = ""; print substr($0, 2) }' "/proc/$1/status"
}

# And without user namespaces. The rest is what bash -c runs.
# shellcheck disable=SC2016
without_userns=("${as_nobody[@]}" unshare -c --keep-caps bash -c 'echo 0 > /proc/sys/user/max_user_namespaces
	exec setpriv --ambient-caps -all --inh-caps -all "$@"' bash)

# run_as COMMAND...: to its end, without input.
run_as() {
	need_root
	run --separate-stderr timeout -k 5 "$LIMIT" "$@" < /dev/null
	strip_returns
}

# bats test_tags=flat
@test "jail: a guest and its end are as without" {
	run_flat hello --jail=strict
	assert_equal "$status" 0
	assert_output hello
	assert_one_line 'the guest rebooted'
	run_flat triple --jail
	assert_equal "$status" 102
	run_flat idle --jail --timeout 200ms
	assert_equal "$status" 124
	run_flat missing --jail
	assert_equal "$status" 125
	assert_one_line "kernel '.*missing.elf': open"
	truncate -s 1000 odd
	run_flat hello --jail -d odd
	assert_equal "$status" 125
	assert_one_line "drive 'drive0': the size"
	head -c 5000 /dev/urandom > random
	run_mayfly run --jail -k random
	assert_equal "$status" 125
	assert_one_line "kernel 'random'"
	printf abc > text
	start_jailed echo
	tell abc
	wait_said abc
	printf '\x04' >&"$to"
	wait_end
	assert_equal "$status" 0
}

# bats test_tags=flat
@test "jail: no privileges inside, none to gain, and hardly any outside" {
	need_root
	start_jailed idle
	for id in "$vm" "$init"; do
		assert_equal "$(field "$id" Uid)" '65534 65534 65534 65534'
		assert_equal "$(field "$id" Gid)" '65534 65534 65534 65534'
		assert_equal "$(field "$id" Groups)" ''
		for set in CapInh CapPrm CapEff CapBnd CapAmb; do
			assert_equal "$set $(field "$id" $set)" "$set 0000000000000000"
		done
		assert_equal "$(field "$id" NoNewPrivs)" 1
		assert_equal "$(tr -d '\0' < "/proc/$id/environ" | wc -c)" 0
		# Not dumpable: these are root's, though the process is not.
		assert_equal "$(stat -c %u "/proc/$id/fd")" 0
		grep -q '^Max core file size *0 *0 ' "/proc/$id/limits"
		grep -q '^Max open files *2048 *2048 ' "/proc/$id/limits"
	done
	for thread in "/proc/$vm/task/"*; do
		assert_equal "$(field "$vm/task/${thread##*/}" Seccomp)" 2
	done
	for set in CapPrm CapEff CapBnd CapAmb; do
		assert_equal "$set $(field "$pid" $set)" "$set 0000000000000000"
	done
	assert_equal "$(field "$pid" NoNewPrivs)" 1
	assert_equal "$(field "$pid" Seccomp)" 2
	end_jailed
	# To remove a socket's name where root is not the owner: CAP_DAC_OVERRIDE.
	start_jailed idle --vsock v
	assert_equal "$(field "$pid" CapInh) $(field "$pid" CapPrm)" '0000000000000000 0000000000000002'
	assert_equal "$(field "$pid" CapBnd) $(field "$pid" CapAmb)" '0000000000000000 0000000000000000'
	end_jailed
}

# bats test_tags=flat
@test "jail: namespaces of its own, and a root with nothing in it" {
	need_root
	start_jailed idle
	for space in cgroup ipc mnt net pid user uts; do
		[ "$(readlink "/proc/$vm/ns/$space")" != "$(readlink "/proc/$$/ns/$space")" ] || fail "the same $space namespace"
		assert_equal "$(readlink "/proc/$vm/ns/$space")" "$(readlink "/proc/$init/ns/$space")"
	done
	assert_equal "$(field "$init" NSpid)" "$init 1"
	assert_equal "$(field "$vm" NSpid)" "$vm 2"
	assert_equal "$(wc -l < "/proc/$vm/mountinfo")" 1
	grep -q ' / / ro,nosuid,nodev,noexec.* - tmpfs ' "/proc/$vm/mountinfo"
	assert_equal "$(find "/proc/$vm/root/" | wc -l)" 1
	assert_equal "$(readlink "/proc/$vm/cwd")" /
	end_jailed
}

# bats test_tags=flat
@test "jail: the open files are those that the VM needs" {
	need_root
	truncate -s 1M disk
	# Files that the caller has left open are not inherited, least of all a directory.
	exec 60< / 61< /etc/passwd
	truncate -s 1M disk2
	start_jailed idle -d disk -d disk2:overlay:overlay-dir=. --vsock v --log log --timeline times
	exec 60<&- 61<&-
	for fd in "/proc/$vm/fd/"*; do
		[ ! -d "$fd" ] || fail "a directory: $(readlink "$fd")"
		case $(readlink "$fd") in
		*/out | */err | */in | */log | */times | */disk | */disk2 | "$PWD/"*' (deleted)') ;;
		anon_inode:kvm-vm-stats | anon_inode:kvm-vcpu-stats:0) ;; # of --timeline
		/dev/kvm | anon_inode:kvm-vm | anon_inode:kvm-vcpu:0 | 'anon_inode:[eventfd]') ;;
		'anon_inode:[io_uring]' | 'anon_inode:[eventpoll]') ;;
		pipe:* | socket:*) ;;
		*) fail "an open file: $fd is $(readlink "$fd")" ;;
		esac
	done
	# The sockets: one that listens, and two to the process outside. One pipe, of signals.
	assert_equal "$(find "/proc/$vm/fd" -lname 'socket:*' | wc -l)" 3
	[ "$(find "/proc/$vm/fd" -lname 'pipe:*' | wc -l)" -le 3 ]
	assert_equal "$(find "/proc/$init/fd" -type l | wc -l)" 1
	[ -S v ]
	end_jailed
	[ ! -e v ]
	grep -q '"jail"' times
}

# bats test_tags=flat
@test "jail: another user, a user of a range, and limits" {
	need_root
	start_jailed idle --jail=uid=5000,gid=5001,nofile=300,fsize=1M
	assert_equal "$(field "$vm" Uid)" '5000 5000 5000 5000'
	assert_equal "$(field "$vm" Gid)" '5001 5001 5001 5001'
	grep -q '^Max open files *300 *300 ' "/proc/$vm/limits"
	grep -q '^Max file size *1048576 *1048576 ' "/proc/$vm/limits"
	end_jailed
	start_jailed idle --jail=uid=70000-79999
	assert_equal "$(field "$vm" Uid | cut -d ' ' -f 1)" $((70000 + pid % 10000))
	end_jailed
	ulimit -n 400
	run_flat hello --jail=nofile=500
	if [ "$status" = 125 ]; then # else we may raise it
		assert_one_line 'jail: nofile: 500.* 400'
	fi
	run --separate-stderr "$MAYFLY" run --jail -k "$GUESTS/hello.elf" < /
	assert_equal "$status" 125
	assert_one_line 'jail: standard stream 0 is a directory'
}

# bats test_tags=flat
@test "jail: a user without privileges" {
	run_as "${as_nobody[@]}" "$MAYFLY" run --jail=strict -k "$GUESTS/hello.elf"
	assert_equal "$status" 0
	assert_output hello
	mkfifo in
	exec {to}<> in
	"${as_nobody[@]}" "${DEFAULT_SIGNALS[@]}" "$MAYFLY" run --jail=strict -k "$GUESTS/idle.elf" < in > out 2> err {to}>&- 3>&- &
	pid=$!
	started+=("$pid")
	wait_said idle
	vm=$(pgrep -P "$pid" -x mayfly)
	assert_equal "$(field "$vm" Uid)" '1234 1234 1234 1234'
	assert_equal "$(field "$vm" CapBnd)" 0000000000000000
	for space in cgroup ipc mnt net pid user uts; do
		[ "$(readlink "/proc/$vm/ns/$space")" != "$(readlink "/proc/$$/ns/$space")" ] || fail "the same $space namespace"
	done
	assert_equal "$(wc -l < "/proc/$vm/mountinfo")" 1
	end_jailed
	run_as "${as_nobody[@]}" "$MAYFLY" run --jail=uid=5 -k "$GUESTS/hello.elf"
	assert_equal "$status" 125
	assert_one_line 'only root can choose'
}

# bats test_tags=flat
@test "jail: a missing protection is reported, and is an error of a strict one" {
	run_as "${without_userns[@]}" "$MAYFLY" run --jail -k "$GUESTS/hello.elf"
	assert_equal "$status" 0
	assert_output hello
	for what in 'user namespace (sysctl user.max_user_namespaces)' 'mount namespace' 'PID namespace' 'set the securebits'; do
		[[ $stderr == *"jail: $what: "*'; continuing without'* ]] || fail "nothing about $what in: $stderr"
	done
	run_as "${without_userns[@]}" "$MAYFLY" run --jail=strict -k "$GUESTS/hello.elf"
	assert_equal "$status" 125
	assert_one_line 'jail: user namespace'
	run_as "${with_kvm[@]}" --groups 4,5 "$MAYFLY" run --jail=strict -k "$GUESTS/hello.elf"
	assert_equal "$status" 125
	assert_one_line 'jail: supplementary groups .*only root can drop them'
}

# bats test_tags=flat
@test "jail: the group that opens /dev/kvm is no finding of a strict one, any other is" {
	export KVM_MODE=660 KVM_GROUP=5 # for with_kvm
	run_as "${with_kvm[@]}" --groups 5 "$MAYFLY" run --jail=strict -k "$GUESTS/hello.elf"
	assert_equal "$status" 0
	assert_output hello
	run_as "${with_kvm[@]}" --groups 5,1234 "$MAYFLY" run --jail -k "$GUESTS/hello.elf"
	assert_equal "$status" 0
	[[ $stderr != *groups* ]] || fail "$stderr"
	run_as "${with_kvm[@]}" --groups 4,5 "$MAYFLY" run --jail=strict -k "$GUESTS/hello.elf"
	assert_equal "$status" 125
	assert_one_line 'jail: supplementary groups .*4'
	run_as "${with_kvm[@]}" --groups 4,5 "$MAYFLY" run --jail -k "$GUESTS/hello.elf"
	assert_equal "$status" 0
	[[ $stderr == *'supplementary groups'*'continuing without'* ]] || fail "$stderr"
	# Group 0 opens more than that.
	KVM_GROUP=0 run_as "${with_kvm[@]}" --groups 0 "$MAYFLY" run --jail=strict -k "$GUESTS/hello.elf"
	assert_equal "$status" 125
}

# bats test_tags=flat
@test "jail: as root without user namespaces" {
	need_root
	mkdir -p root
	# In a chroot there are none.
	run_as unshare -m bash -c 'mount --rbind / root; exec chroot root "$@"' bash "$MAYFLY" run --jail -k "$GUESTS/hello.elf"
	assert_equal "$status" 0
	assert_output hello
	assert_equal "$(grep -c 'continuing without' <<< "$stderr")" 1
	[[ $stderr == *'jail: user namespace (forbidden here, or this is a chroot)'* ]]
}

# bats test_tags=flat
@test "jail: of a root directory that is root's alone" {
	run_as unshare -m bash -c 'mkdir -m 700 new; mount --bind new new; for d in dev proc sys tmp; do
		mkdir new/$d; mount --rbind /$d new/$d; done; cp "$1" "$2" new; cd new; mkdir old; pivot_root . old; umount -l old
		exec /mayfly run --jail=strict -k "/${2##*/}"' bash "${TRACED:-$MAYFLY}" "$GUESTS/hello.elf"
	assert_equal "$status" 0
	assert_output hello
}

# bats test_tags=flat
@test "jail: signals are passed on, and a death inside is reported" {
	for end in TERM=143 INT=130 HUP=129 QUIT=131; do
		start_jailed spin
		kill "-${end%=*}" "$pid"
		wait_end
		assert_equal "$status" "${end#*=}"
	done
	# Of the jail itself.
	start_jailed spin
	kill -KILL "$vm"
	wait_end
	assert_equal "$status" 137
	assert_one_line 'the VM in the jail was killed'
	start_jailed spin
	kill -SEGV "$vm"
	wait_end
	assert_equal "$status" 139
	assert_one_line 'crashed: SIGSEGV'
	start_jailed spin
	kill -KILL "$init"
	wait_end
	assert_equal "$status" 137
}

is_stopped() {
	[[ $(field "$1" State) == T* ]]
}

is_running() {
	[[ $(field "$1" State) == [RS]* ]]
}

# bats test_tags=flat
@test "jail: the terminal's job control stops and continues both" {
	MAYFLY=${TRACED:-$MAYFLY} # strace's own stops look different
	set -m
	start_jailed echo
	set +m
	kill -TSTP -- "-$pid"
	wait_for is_stopped "$vm"
	wait_for is_stopped "$pid"
	kill -CONT -- "-$pid"
	wait_for is_running "$vm"
	tell xyz
	wait_said xyz
	printf '\x04' >&"$to"
	wait_end
	assert_equal "$status" 0
}

# bats test_tags=flat
@test "jail: a terminal is raw meanwhile, and as before after each end" {
	on_tty 'expect=spinning' raw 'send=\x01x' -- "$MAYFLY" run --jail -k "$GUESTS/spin.elf"
	assert_equal "$status" 0
	assert_line 'terminal: unchanged'
	assert_line --regexp '^mayfly: ended by the user'
	for end in TERM=143 SEGV=139; do
		on_tty 'expect=spinning' raw "kill=${end%=*}" -- "$MAYFLY" run --jail -k "$GUESTS/spin.elf"
		assert_equal "$status" "${end#*=}"
		assert_line 'terminal: unchanged'
	done
	# Killed inside.
	on_tty 'expect=spinning' raw -- bash -c '(sleep 0.5; until pkill -KILL -P "$(pgrep -P $$ -x mayfly)" -x mayfly; do sleep 0.1; done) &
		"$0" run --jail -k "$1"; exit $?' "$MAYFLY" "$GUESTS/spin.elf"
	assert_equal "$status" 137
	assert_line 'terminal: unchanged'
}

none_left() {
	[ -z "$(leftovers)" ]
}

# bats test_tags=flat
@test "jail: SIGKILL of the process outside ends all; the next one with its names starts" {
	start_jailed spin --vsock v
	kill -KILL "$pid"
	wait_end
	assert_equal "$status" 137
	wait_for none_left
	[ -S v ]
	start_jailed spin --vsock v
	end_jailed
	[ ! -e v ]
}

need_controllers() {
	need_root
	grep -qw memory /sys/fs/cgroup/cgroup.controllers 2> /dev/null || skip "no controllers of cgroup v2 here"
}

group=/sys/fs/cgroup/mayfly/test

@test "jail: a control group with limits, that goes with it" {
	need_controllers
	start_jailed idle --jail=strict,id=test,cpu-max='50000 100000',memory-max=300M,pids-max=40
	assert_equal "$(< $group/cpu.max)" '50000 100000'
	assert_equal "$(< $group/memory.max)" $((300 << 20))
	assert_equal "$(< $group/pids.max)" 40
	grep -qx "$vm" $group/cgroup.procs # and a thread of KVM's
	grep -qx "$init" $group/cgroup.procs
	# In there it is the root.
	assert_equal "$(nsenter -t "$vm" -C cat "/proc/$vm/cgroup")" 0::/
	run_flat hello --jail=id=test,pids-max=50
	assert_equal "$status" 125
	assert_one_line "jail: control group '$group' has processes"
	end_jailed
	[ ! -e ${group%/*} ]
	# A death that is not for lack of memory.
	start_jailed spin --jail=id=test,memory-max=300M
	kill -KILL "$vm"
	wait_end
	assert_equal "$status" 137
	assert_one_line 'the VM in the jail was killed'
	[ ! -e ${group%/*} ]
	# Killed, it leaves the group to the next one with that id.
	start_jailed spin --jail=id=test,pids-max=40
	kill -KILL "$pid"
	wait_end
	[ -d $group ]
	# Without its limits.
	start_jailed idle --jail=strict,id=test,memory-max=300M
	assert_equal "$(< $group/pids.max)" max
	end_jailed
	[ ! -e ${group%/*} ]
}

@test "jail: a memory limit, or one of threads, that is too small" {
	MAYFLY=${TRACED:-$MAYFLY} # strace is a process of the group
	need_controllers
	# The program is in memory already, charged to no group. From a disk it would be dropped and read again without end, which
	# is very slow, but not the end.
	local dir
	dir=$(mktemp -d /dev/shm/jail.XXXXXX)
	cp "$MAYFLY" "$KERNEL" "$dir"
	MAYFLY=$dir/mayfly KERNEL=$dir/vmlinux run_linux --jail=strict,memory-max=64M -m 256M -- \
		'dd if=/dev/zero of=/file bs=1M count=100'
	rm -r "$dir"
	assert_equal "$status" 137
	assert_one_line 'the jail has used up its memory'
	run_flat hello --jail=strict,pids-max=3
	assert_equal "$status" 125
	assert_one_line 'Resource temporarily unavailable'
	[ ! -e ${group%/*} ]
}

@test "jail: a command with all that there is" {
	mkdir root out
	truncate -s 1M data
	"$B/tests/guest/vsock" serve "unix:$PWD/v_52" < /dev/null > from-guest 2> host.err 3>&- &
	host_pid=$!
	(cat "$INITRAMFS" && cd root && mkdir bin && cp "$B/tests/guest/vsock" bin && echo bin/vsock | cpio --quiet -o -H newc) > initramfs
	status=0
	echo question | timeout "$LIMIT" "$MAYFLY" run --jail=strict -i initramfs -d data -d data2:overlay --quiet -- true 2> err > out.txt ||
		status=$?
	assert_equal "$status" 125
	truncate -s 1M data2
	echo question | timeout "$LIMIT" "$MAYFLY" run --jail=strict --log log --timeline times --vsock v --control ctl -i initramfs \
		-d data -d data2:overlay --artifact /res=out -- sh -c 'cat; mkdir /res; echo result > /res/file
		echo hello > /dev/vda; sync; echo from the guest | vsock pipe vsock:52
		touch /ready; until [ -e /go ]; do sleep 0.1; done; ls /dev/vd?; echo err >&2; exit 7' > out.txt 2> err 3>&- &
	pid=$!
	started+=("$pid")
	wait_for ready
	run "$MAYFLY" exec ./ctl -- touch /go < /dev/null
	assert_equal "$status" 0
	wait_end
	assert_equal "$status" 7
	assert_equal "$(< out.txt)" "$(printf '%s\n' question /dev/vda /dev/vdb)"
	assert_equal "$(< err)" err
	assert_equal "$(< out/res/file)" result
	assert_equal "$(head -c 5 data)" hello
	wait "$host_pid"
	assert_equal "$(< from-guest)" 'from the guest'
	[ ! -e v ]
	[ ! -e ctl ]
	grep -q '"jail"' times
}

ready() {
	! has_ended "$pid" || fail "it has ended: $(< err)"
	[ -S ctl ] && "$MAYFLY" exec ./ctl -- test -e /ready < /dev/null 2> /dev/null
}

# bats test_tags=flat
@test "jail: taps and passt are there" {
	need_root
	ip tuntap add dev mfjail0 mode tap
	ip link set mfjail0 up
	run_flat hello --jail=strict -n tap=mfjail0
	ip link del mfjail0
	assert_equal "$status" 0
	run_flat hello --jail=strict -n tap=mfjail1
	assert_equal "$status" 0
	run ! ip link show mfjail1
	if command -v passt > /dev/null; then
		run_flat hello --jail=strict -n user
		[ "$status" = 0 ] || assert_regex "$stderr" 'passt has ended'
	fi
}
