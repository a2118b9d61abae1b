#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2034,SC2153,SC2154 # each test is a subshell; the variables are of helper.bash
#
# The runtime of container engines: a container's life, and what is refused. The engines are in containers.bats.

load helper

setup() {
	started=() live=''
	umask 022
	cd "$BATS_TEST_TMPDIR" || return 1
	ln -s "$MAYFLY" mayfly-oci
	id=oci$BASHPID.$BATS_TEST_NUMBER
	mkdir -p bundle/rootfs/bin
}

teardown() {
	oci delete --force "$id" > /dev/null 2>&1 || true
	[ -z "$live" ] || rm -rf "$live"
	end_test
}

oci() {
	timeout -k 5 "$LIMIT" ./mayfly-oci --root "$BATS_TEST_TMPDIR/root" --log log --log-format json "$@"
}

# bundle EXPRESSION: writes config.json, c of which the Python expression may change first.
bundle() {
	"$PYTHON" - "$@" > bundle/config.json << 'EOF'
import json, sys
c = {"ociVersion": "1.0.2", "root": {"path": "rootfs"}, "hostname": "web",
     "process": {"user": {"uid": 1000, "gid": 100, "additionalGids": [7]}, "cwd": "/tmp", "env": ["A=b"],
                 "args": ["/bin/busybox", "sh", "-c", "true"],
                 "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]},
     "linux": {"namespaces": [{"type": t} for t in ("pid", "ipc", "uts", "mount", "network")]},
     "annotations": {"mayfly.boot": "cold", "mayfly.kernel": sys.argv[2], "org.example": "x"}}
exec(sys.argv[1])
json.dump(c, sys.stdout)
EOF
}

# is STATUS
is() {
	[ "$(oci state "$id" | "$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)["status"])')" = "$1" ]
}

# bats test_tags=flat
@test "oci: what an engine asks of the runtime itself" {
	run -0 ./mayfly-oci --version
	assert_output --partial "spec: 1."
	run -0 "$MAYFLY" oci features
	"$PYTHON" -c 'import json, sys; assert json.loads(sys.argv[1])["ociVersionMin"] == "1.0.0"' "$output"
	run -0 oci list --format json
	assert_output "[]"
	run -0 stat -c %a root
	assert_output 700
}

# bats test_tags=flat
@test "oci: a container that is not there, and an id that is none" {
	local verb
	for verb in state start kill delete pause resume exec; do
		run -125 --separate-stderr oci "$verb" "$id"
		[[ $stderr == *"'$id' does not exist"* ]] || fail "$verb: $stderr"
	done
	run -0 oci delete --force "$id"
	run -125 --separate-stderr oci state ../x
	[[ $stderr == *"container id"* ]]
	run -125 --separate-stderr oci state
	[[ $stderr == *"which container"* ]]
	run -125 --separate-stderr oci frob "$id"
	[[ $stderr == *"'frob'"* ]]
}

# bats test_tags=flat
@test "oci: a bundle that cannot be is refused by the field's name, in the log, too, and nothing is left" {
	local case field
	for case in 'c["process"]["args"] = []|process.args' 'c["linux"]["namespaces"].pop(0)|linux.namespaces' \
		'c["linux"]["devices"] = [{"path": "/dev/kvm"}]|linux.devices' 'c["root"]["path"] = "no"|root.path' \
		'c["annotations"]["mayfly.frob"] = ""|annotations.mayfly.frob' 'c["process"]["terminal"] = True|process.terminal'; do
		field=${case#*|}
		bundle "${case%|*}" "$GUESTS/idle.elf"
		rm -f log
		run -125 --separate-stderr oci create --bundle bundle --pid-file pid "$id"
		[[ $stderr == *"$field: "* ]] || fail "$field: $stderr"
		"$PYTHON" -c 'import json, sys; assert sys.argv[1] in json.load(open("log"))["msg"]' "$field"
		run -125 oci state "$id"
		[ ! -e pid ]
	done
}

# bats test_tags=flat
@test "oci: a guest that does not become ready ends create, and nothing is left" {
	bundle 'c["annotations"]["mayfly.boot_timeout"] = "1s"' "$GUESTS/idle.elf"
	run -125 --separate-stderr oci create --bundle bundle --pid-file pid "$id"
	[[ $stderr == *"has not started the command"* ]] || fail "$stderr"
	grep -q "has not started the command" log || fail "an engine does not get the reason: $(cat log)"
	[ ! -e pid ]
	[ ! -e "root/$id" ]
	assert_none_left
}

# hook KIND LINE: for `bundle`: a hook that runs a line of sh, which has the state in $S.
hook() {
	printf 'c.setdefault("hooks", {}).setdefault("%s", []).append({"path": "/bin/sh", "args": ["sh", "-c", """%s"""], "timeout": 60})\n' \
		"$1" "S=\$(cat); $2"
}

# bats test_tags=flat
@test "oci: hooks run before the guest, in their order, and those of the end run when it fails" {
	export MAYFLY_BOOT_TIMEOUT=1s
	local log=$PWD/hooks
	bundle "$(hook prestart "echo prestart >> $log"; hook createRuntime "echo \$S >> $log"
		hook createContainer "readlink /proc/self/ns/net >> $log"; hook poststart "echo poststart >> $log"
		hook poststop "echo poststop >> $log")" "$GUESTS/idle.elf"
	run -125 oci create --bundle bundle "$id"
	run -0 cat hooks
	assert_equal "${#lines[@]}" 4
	assert_equal "${lines[0]} ${lines[3]}" "prestart poststop"
	"$PYTHON" -c 'import json, sys; s = json.loads(sys.argv[1]); assert s["status"] == "creating" and s["pid"] > 1' "${lines[1]}"
	[ "${lines[2]}" != "$(readlink /proc/self/ns/net)" ] || fail "createContainer ran in the host's network"
	bundle "$(hook createRuntime 'echo no bridge >&2; exit 3'; hook createContainer "echo not > $log")" "$GUESTS/idle.elf"
	run -125 --separate-stderr oci create --bundle bundle "$id"
	[[ $stderr == *"hooks.createRuntime[0]: "*"status 3: no bridge"* ]] || fail "$stderr"
	[[ $(< hooks) != not ]] || fail "the next hook ran"
	[ ! -e "root/$id" ]
	assert_none_left
}

# bats test_tags=flat
@test "oci: create is killed at each of its steps, and delete --force leaves nothing" {
	local when pid
	for when in prestart guest; do
		rm -f reached
		bundle "$(hook prestart "touch $PWD/reached; [ $when = guest ] || sleep 60")" "$GUESTS/idle.elf"
		./mayfly-oci --root "$PWD/root" create --bundle bundle "$id" < /dev/null > /dev/null 2>&1 3>&- &
		pid=$!
		wait_for test -e reached
		run -0 oci state "$id"
		[[ $output == *'"creating"'* ]] || fail "$output"
		run -125 oci start "$id"
		kill -KILL "$pid"
		wait "$pid" || true
		run -0 oci delete --force "$id"
		run -125 oci state "$id"
		[ ! -e "root/$id" ]
		assert_none_left
	done
}

# bats test_tags=flat
@test "oci: create is under way when two remove it by force: it fails, and the hooks of the end run once" {
	local pids=() i when
	for when in prestart guest; do
		rm -f reached
		bundle "$(hook prestart "touch $PWD/reached; [ $when = guest ] || sleep 2"; hook poststop "echo poststop >> $PWD/hooks")" \
			"$GUESTS/idle.elf"
		oci create --bundle bundle --pid-file pid "$id" < /dev/null > out 2>&1 3>&- &
		pids[0]=$!
		wait_for test -e reached
		for i in 1 2; do
			oci delete --force "$id" < /dev/null > "out$i" 2>&1 3>&- &
			pids[i]=$!
		done
		status=0
		wait "${pids[0]}" || status=$?
		assert_equal "$status" 125
		for i in 1 2; do
			wait "${pids[i]}" || fail "delete $i: $? $(cat "out$i")"
		done
		[ ! -e pid ]
		[ ! -e "root/$id" ]
		assert_none_left
	done
	assert_equal "$(< hooks)" $'poststop\npoststop'
}

@test "oci: create boots and holds, start runs the process, and the state follows" {
	cp "$(command -v busybox)" bundle/rootfs/bin/busybox
	mkdir bundle/rootfs/tmp
	bundle 'c["process"]["args"][3] = "/bin/busybox id; ulimit -n; pwd; echo $A; /bin/busybox hostname; read x; exit 7"' "$KERNEL"
	mkfifo input
	exec 8<> input
	oci create --bundle bundle --pid-file pid "$id" < input > out 2> err 8>&- || fail "$(cat err)"
	is created
	[ ! -s out ] || fail "it has begun: $(cat out)"
	run -125 --separate-stderr oci create --bundle bundle "$id"
	[[ $stderr == *"there is one already"* ]]
	run -125 oci exec --process bundle/config.json "$id"
	run -0 oci start "$id" 8>&-
	is running
	run -125 --separate-stderr oci start "$id"
	[[ $stderr == *"started already"* ]]
	run -125 oci delete "$id"
	echo '{"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["/bin/busybox", "sh", "-c", "echo in; exit 5"]}' > process
	run -5 oci exec --process process "$id" < /dev/null 8>&-
	assert_output in
	wait_for grep -q web out
	run -0 cat out
	assert_output $'uid=1000 gid=100 groups=7\n100\n/tmp\nb\nweb'
	run -0 oci kill "$id" TERM
	wait_for is stopped
	exec 8>&-
	run -125 oci kill "$id"
	run -0 oci delete "$id"
	run -125 oci state "$id"
}

@test "oci: settings of the guest's kernel, a root that is live and read-only, and the hooks of start and delete" {
	# Not on the overlay that the lab has here: diod may refuse it.
	live=$(mktemp -d -p /dev/shm)
	mkdir "$live"/{bin,tmp,etc,run}
	cp "$(command -v busybox)" "$live/bin/busybox"
	cat > "$live/script" <<- 'END'
		cd /bin
		./busybox cat /proc/sys/kernel/shmmax /proc/sys/kernel/domainname
		echo > /run/x
		./busybox stat -c %a /run/x
		echo > /x
		for i in 1 2 3 4 5 6 7 8 9 10 11 12; do ./busybox sleep 1 & done
		echo not here
	END
	bundle "$(hook poststart "echo poststart >> $PWD/hooks"; hook poststop "echo poststop >> $PWD/hooks")
c['root'] = {'path': '$live', 'readonly': True}
c['annotations']['mayfly.root'] = 'live'
c['domainname'] = 'lab'
c['linux'].update(sysctl={'kernel.shmmax': '12345'}, resources={'pids': {'limit': 8}})
c['process'].update(user={'uid': 0, 'gid': 0, 'umask': 0o77}, args=['/bin/busybox', 'sh', '/script'])" "$KERNEL"
	oci create --bundle bundle "$id" < /dev/null > out 2> err || fail "$(cat err)"
	run -0 oci start "$id"
	wait_for is stopped
	run -0 cat out
	assert_output $'12345\nlab\n600'
	grep -q 'Read-only' err || fail "it wrote to the root: $(cat err)"
	grep -q "can't fork" err || fail "there is no limit of threads: $(cat err)"
	run -0 oci delete "$id"
	assert_equal "$(< hooks)" $'poststart\npoststop'
}

@test "oci: an interface that a hook makes is the guest's, with addresses of both families" {
	cp "$(command -v busybox)" bundle/rootfs/bin/busybox
	mkdir bundle/rootfs/tmp
	cat > wire <<- 'END'
		pid=$(sed 's/.*"pid":\([0-9]*\).*/\1/')
		ip link add oci0 type veth peer name eth0 netns "$pid"
		ip addr add 10.66.0.1/24 dev oci0
		ip addr add fd66::1/64 dev oci0 nodad
		ip link set oci0 up
		nsenter -t "$pid" -n sh -c 'ip link set eth0 up; ip addr add 10.66.0.2/24 dev eth0; ip addr add fd66::2/64 dev eth0 nodad
			ip route add default via 10.66.0.1; ip route add default via fd66::1'
	END
	bundle "c['hooks'] = {'prestart': [{'path': '/bin/sh', 'args': ['sh', '-eu', '$PWD/wire']}]}
c['process'].update(user={'uid': 0, 'gid': 0}, args=['/bin/busybox', 'sh', '-c', '/bin/busybox ip -4 route; /bin/busybox ip -6 route; exec /bin/busybox httpd -f -h /bin'])" "$KERNEL"
	oci create --bundle bundle "$id" < /dev/null > out 2> err || fail "$(cat err)"
	run -0 oci start "$id"
	wait_for busybox wget -qO page http://10.66.0.2/busybox
	cmp page bundle/rootfs/bin/busybox
	wait_for busybox wget -qO page 'http://[fd66::2]/busybox'
	grep -q '^default via 10.66.0.1' out || fail "$(cat out)"
	grep -q '^default via fd66::1' out || fail "$(cat out)"
	run -0 oci delete --force "$id"
}

@test "oci: a created container that is killed, and one that is removed by force" {
	cp "$(command -v busybox)" bundle/rootfs/bin/busybox
	mkdir bundle/rootfs/tmp
	bundle '' "$KERNEL"
	oci create --bundle bundle "$id" < /dev/null > out 2>&1 || fail "$(cat out)"
	run -0 oci kill "$id"
	wait_for is stopped
	run -0 oci delete "$id"
	oci create --bundle bundle "$id" < /dev/null > out 2>&1 || fail "$(cat out)"
	run -0 oci delete --force "$id"
	run -125 oci state "$id"
	assert_none_left
}

# bats test_tags=slow
@test "oci: 20 containers at once, parts of which are killed, and none leaves anything" {
	local i pids=() groups=/sys/fs/cgroup/oci$$
	live=$(mktemp -d -p /dev/shm)
	mkdir bundle/rootfs/tmp
	cp "$(command -v busybox)" bundle/rootfs/bin/busybox
	for i in {1..20}; do
		bundle "c['root']['path'] = '$PWD/bundle/rootfs'
c['linux']['cgroupsPath'] = '/oci$$/c$i'
c['annotations']['mayfly.mem'] = '64M'
c['mounts'] = [{'destination': '/live', 'type': 'bind', 'source': '$live', 'options': ['bind', 'ro']}]
c['process'].update(args=['/bin/busybox', 'sleep', '1000'])" "$KERNEL"
		mkdir "b$i"
		mv bundle/config.json "b$i"
		./mayfly-oci --root root create --bundle "b$i" --pid-file "p$i" "$id-$i" < /dev/null > "out$i" 2>&1 3>&- &
		pids[i]=$!
		# The runtime itself, at a time that differs from one to the next.
		if ((i % 5 == 0)); then
			sleep "0.$((i / 2))"
			kill -KILL "${pids[i]}"
		fi
	done
	for i in {1..20}; do
		status=0
		wait "${pids[i]}" || status=$?
		[ "$status" -eq $((i % 5 ? 0 : 137)) ] || fail "$i: $status $(cat "out$i")"
	done
	for i in {1..20}; do
		((i % 5 == 0)) || oci start "$id-$i"
	done
	run -0 oci list
	[ "$(grep -c '"running"' <<< "$output")" = 16 ] || fail "$output"
	# The monitor of one, the server of another's live directory.
	for i in 1 2 3; do
		kill -KILL "$(< "p$i")"
	done
	for i in 6 7 8; do
		pkill -KILL -P "$(< "p$i")" || true
	done
	for i in {1..20}; do
		oci delete --force "$id-$i" > "out$i" 2>&1 &
		pids[i]=$!
	done
	for i in {1..20}; do
		wait "${pids[i]}" || fail "$i: $(cat "out$i")"
	done
	run -0 ls root
	assert_output ""
	run -0 "$MAYFLY" ps -a -q
	[[ $output != *"$id"* ]] || fail "a record is left: $output"
	run -0 find "$groups" -mindepth 1 -type d
	assert_output ""
	assert_none_left
}
