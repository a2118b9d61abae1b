#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2153,SC2154 # lines for guests; each test is a subshell; variables of helper.bash
#
# configs/engines: drivers for CI services. The tests play the services' part; the guests are Linux, and start from a template.

load helper
load systemd

GITLAB=$root/configs/engines/gitlab/mayfly-gitlab
GITHUB=$root/configs/engines/github/mayfly-github-runner
PORT=8141

# One cache for all tests, so that there is one template for each kind of VM.
setup_file() {
	load helper
	mkdir -p "$BATS_FILE_TMPDIR/roots/box/bin" "$BATS_FILE_TMPDIR/roots/box/runner" "$BATS_FILE_TMPDIR/bin"
	cd "$BATS_FILE_TMPDIR/roots/box" || return 1
	cp /bin/busybox bin
	local name
	for name in sh ls cat echo env sleep wget base64 sed hostname kill rm mkdir true httpd; do
		ln -s busybox "bin/$name"
	done
	# In the place of GitHub's runner: it knows its job by its configuration, which its job does not see.
	cat > runner/run.sh <<- 'END'
		#!/bin/sh
		config=$(echo "$ACTIONS_RUNNER_INPUT_JITCONFIG" | base64 -d) || exit 9
		unset ACTIONS_RUNNER_INPUT_JITCONFIG
		url=$(echo "$config" | sed 's/.*"url": "\([^"]*\)".*/\1/') id=$(echo "$config" | sed 's/.*"runner": \([0-9]*\).*/\1/')
		wget -qO /tmp/job "$url/job/$id" || exit 8
		URL=$url sh /tmp/job
		wget -qO /dev/null --post-data=x "$url/done/$id/$?"
	END
	chmod 755 runner/run.sh
	ln -s "$MAYFLY" "$BATS_FILE_TMPDIR/bin/mayfly"
}

setup() {
	started=() vm='' shared=''
	export MAYFLY_BOOT=auto MAYFLY_KERNEL=$KERNEL XDG_CACHE_HOME=$BATS_FILE_TMPDIR/cache
	export PATH=$BATS_FILE_TMPDIR/bin:$PATH
	cd "$BATS_TEST_TMPDIR" || return 1
}

teardown() {
	[ -z "$vm" ] || mayfly rm -f "$vm" > /dev/null 2>&1 || true # it may have ended
	kill_started
	[ -z "$shared" ] || rm -rf "$shared"
	end_test
}

# service [JOB...]: see ci-service; its files are in `service`.
service() {
	mkdir service
	"$PYTHON" -I -S "$BATS_TEST_DIRNAME/ci-service" "$PORT" service "$@" < /dev/null 3>&- &
	started+=("$!")
	wait_for test -s service/log
}

# gitlab STAGE [ARG...]: as GitLab Runner starts its driver: in a process group of its own, with the job's variables.
gitlab() {
	env "MAYFLY_VM=$vm" BUILD_FAILURE_EXIT_CODE=11 SYSTEM_FAILURE_EXIT_CODE=12 "BUILD_EXIT_CODE_FILE=$PWD/code" \
		"CUSTOM_ENV_CI_JOB_IMAGE=${image-box}" "CUSTOM_ENV_MAYFLY_VM=other" setsid --wait "$GITLAB" "$@"
}

# config: sets $vm to what the driver wants to have in later stages.
config() {
	vm=$(gitlab config | "$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)["job_env"]["MAYFLY_VM"])')
}

# prepare [OPTION...]: of mayfly. Sets $status, $output and $stderr.
prepare() {
	run --separate-stderr gitlab prepare --roots "$BATS_FILE_TMPDIR/roots" --default box --registry registry.example.org/ci/ -- "$@"
	echo "# prepare: $status $output $stderr" # shown if the test fails
}

# stage NAME LINE...: a stage's script, as GitLab Runner makes it. Sets $status, $output and $stderr.
stage() {
	mkdir -p scripts
	printf '%s\n' 'set -e' "${@:2}" > "scripts/$1"
	run --separate-stderr gitlab run "$PWD/scripts/$1" "$1"
	echo "# $1: $status $output $stderr"
}

# have_cache FILE SED: makes a secret, and $shared, a directory for the jobs' cache. Sets `given` to the options that the file has
# in a comment, with these two; the script takes them out of their line.
have_cache() {
	local line
	[ -x /usr/sbin/diod ] || skip "diod is not installed"
	echo 's3cret of this host' > registry.json
	shared=$(mktemp -d -p /dev/shm) # not on the overlay that the lab has here: diod may refuse it
	line=$(sed -n "$2" "$root/configs/engines/$1" | tr -d '",\n')
	read -ra given <<< "$line"
	given=("${given[@]/%=*registry*/=$PWD/registry.json}")
	given=("${given[@]/#\/*:\/cache/$shared:/cache}")
}

# Of the secret there is nothing where others look: in lists of processes, logs, the directory of VMs, and both caches.
assert_no_secret() {
	! grep -laE 's3cret of this hos[t]' /proc/[0-9]*/{cmdline,environ} 2> /dev/null || fail "seen in the list of processes"
	! grep -rlaE 's3cret of this hos[t]' "$XDG_CACHE_HOME" "$shared" /run/mayfly || fail "seen in a file"
	[[ $stderr != *'s3cret of'* ]] || fail "seen in an error"
}

assert_no_vm() {
	run -0 mayfly ps -a -q
	[[ $'\n'$output$'\n' != *$'\n'"$vm"$'\n'* ]] || fail "it is still there"
}

@test "gitlab: a VM for each job, from the template, with secrets, artifacts and a service beside it" {
	need_passt
	have_route
	service
	run --separate-stderr mayfly run --detach --name "db$$" -p 8142:80 -r "$BATS_FILE_TMPDIR/roots/box" -- \
		sh -c 'echo from the service > /index.html; exec httpd -f -h /'
	assert_equal "$status" 0
	local timeline=$PWD/timeline first given
	have_cache gitlab/config.toml '/^ *# "-.*,$/s/# / /p'
	assert_equal "${given[*]}" "--secret registry=$PWD/registry.json -v $shared:/cache"
	config
	prepare -n "user,host=$PORT,host=8142" "${given[@]}"
	assert_equal "$status" 0
	stage prepare_script 'echo "in $(hostname)"; echo one > /builds/mark'
	assert_equal "$status:$output" "0:in $vm"
	stage step_script "export SECRET='s3cret of the job'" 'cat /builds/mark' 'echo "$SECRET" | sed s/s3/S3/' \
		'wget -qO- http://10.0.2.2:8142/' 'sleep 1000 < /dev/null > /dev/null 2>&1 &' 'exit 7'
	assert_equal "$status" 11
	assert_equal "$output" $'one\nS3cret of the job\nfrom the service'
	assert_equal "$(< code)" 7
	stage archive_cache 'sed s/s3/S3/ /run/secrets/registry' 'echo kept > /cache/kept'
	assert_equal "$status:$output" '0:S3cret of this host'
	assert_no_secret
	run -0 mayfly logs "$vm"
	refute_output --partial s3cret
	stage upload_artifacts_on_failure "wget -qO /dev/null --post-file=/builds/mark http://10.0.2.2:$PORT/artifact/mark"
	assert_equal "$status" 0
	assert_equal "$(< service/mark)" one
	first=$vm
	run -0 gitlab cleanup
	assert_no_vm
	run -0 mayfly rm -f "db$$"
	# The second job has a VM of its own, from the template.
	wait_for compgen -G "$XDG_CACHE_HOME/mayfly/images/*.template/shape"
	config
	prepare -n "user,host=$PORT" --timeline "$timeline" "${given[@]/%:\/cache/:/cache:ro}"
	[ "$vm" != "$first" ] || fail "both have the name $vm"
	stage step_script 'echo /builds/*' 'cat /cache/kept; echo > /cache/kept || echo refused'
	assert_equal "$status:$output" $'0:/builds/*\nkept\nrefused'
	run -0 mayfly stop "$vm" # it writes the time line
	run -0 gitlab cleanup
	assert_no_vm
	grep -q '"boot": *"template"' "$timeline"
}

@test "gitlab: a job that is cancelled leaves nothing, and a VM that ends is no fault of the job" {
	local group
	config
	prepare
	assert_equal "$status" 0
	mkdir scripts
	echo 'echo begun; sleep 1000' > scripts/long
	MAYFLY_VM=$vm setsid "$GITLAB" run scripts/long step_script > said 2>&1 < /dev/null 3>&- &
	group=$!
	started+=("$group")
	wait_for grep -q begun said
	kill -TERM -- "-$group"
	wait_for has_ended "$group"
	run -0 gitlab cleanup
	assert_no_vm
	assert_none_left
	# While the VM starts.
	config
	MAYFLY_VM=$vm setsid "$GITLAB" prepare --roots "$BATS_FILE_TMPDIR/roots" --default box > said 2>&1 < /dev/null 3>&- &
	group=$!
	started+=("$group")
	is_listed() { mayfly ps -q | grep -qx "$vm"; }
	wait_for is_listed
	kill -TERM -- "-$group"
	wait_for has_ended "$group"
	run -0 gitlab cleanup
	assert_no_vm
	assert_none_left
	# A VM that ends.
	config
	prepare --timeout 3s
	assert_equal "$status" 0
	stage step_script 'sleep 1000'
	assert_equal "$status" 12
	assert_regex "$stderr" "the microVM ended in stage 'step_script'"
	assert_regex "$stderr" 'time limit|timeout'
	[ ! -e code ] || fail "it has told a status"
	run -0 gitlab cleanup
	assert_no_vm
	run -0 gitlab cleanup # again
}

# bats test_tags=flat
@test "gitlab: the job's author chooses among images, and nothing else of this machine" {
	mkdir bin
	printf '#!/bin/bash\nprintf "%%s " "$@" >> asked\n' > bin/mayfly
	chmod +x bin/mayfly
	PATH=$PWD/bin:$PATH
	config
	local image
	for image in /etc ./box ../roots/box oci:/etc docker-daemon:x:y dir:/etc -d --volume=/:/x 'box -v/:/x' $'box\n' missing .. . \
		evil.example.org/registry.example.org/ci/x 'registry.example.org/ci/$(id)' registry.example.org/cj/x; do
		prepare
		assert_equal "$status:$image" "11:$image"
		[[ $stderr == "mayfly-gitlab: no image '"* && $stderr != *$'\n'* ]] || fail "$stderr"
	done
	[ ! -e asked ] || fail "mayfly was called: $(< asked)"
	image=registry.example.org/ci/box:1 prepare -m 2G
	assert_equal "$status" 0
	assert_regex "$(< asked)" "^run --detach --name $vm -m 2G --entrypoint  docker://registry.example.org/ci/box:1 sh -c "
	rm asked
	image='' prepare
	assert_equal "$status" 0
	assert_regex "$(< asked)" "^run --detach --name $vm -r $BATS_FILE_TMPDIR/roots/box -- sh -c "
	# What is set up wrongly is not the job's fault.
	rm asked
	image=box
	vm=other prepare
	assert_equal "$status" 12
	run --separate-stderr gitlab prepare --roots "$PWD/none" -- -m 1G
	assert_equal "$status" 12
	run --separate-stderr gitlab prepare --mem 1G
	assert_equal "$status" 12
	run --separate-stderr gitlab sweep
	assert_equal "$status" 12
	[ ! -e asked ] || fail "mayfly was called: $(< asked)"
	printf '#!/bin/bash\necho "mayfly: no" >&2; exit 125\n' > bin/mayfly
	prepare
	assert_equal "$status" 12
	run --separate-stderr gitlab cleanup
	assert_equal "$status" 12
	vm=
}

# github [OPTION...]: sets $status, $output and $stderr.
github() {
	echo "${TOKEN-ghp_right}" > token
	run --separate-stderr timeout -k 5 "$LIMIT" "$GITHUB" --api "http://127.0.0.1:$PORT" --scope orgs/example --token token \
		--group 3 --labels self-hosted,mayfly --dir /runner "$@" < /dev/null
	echo "# github: $status $output $stderr"
}

@test "github: an ephemeral runner has one job in a VM of its own, and an artifact comes out" {
	need_passt
	have_route
	local given
	have_cache github/mayfly-github@.service 's/^#Environment="OPTIONS=//p'
	assert_equal "${given[*]}" "--secret registry=$PWD/registry.json -v $shared:/cache -u 0 -e RUNNER_ALLOW_RUNASROOT=1"
	service 'echo "job in $(hostname)"; sed s/s3/S3/ /run/secrets/registry; echo kept > /cache/kept; env | sed -n "s/JIT/found &/p"; echo result > /tmp/a
		wget -qO /dev/null --post-file=/tmp/a $URL/artifact/a; exit 5' 'cat /cache/kept; ls /tmp/a 2> /dev/null || exit 4'
	github -- -n "user,host=$PORT" "${given[@]}" -r "$BATS_FILE_TMPDIR/roots/box"
	assert_equal "$status" 0
	assert_output --regexp $'^job in mayfly-[0-9a-f-]+\nS3cret of this host$'
	assert_equal "$(< service/a)" result
	assert_no_secret
	github -- -n "user,host=$PORT" "${given[@]}" -r "$BATS_FILE_TMPDIR/roots/box"
	assert_equal "$status:$output" 0:kept
	assert_equal "$(< service/log)" "$(printf '%s\n' listening 'registered 1 3 self-hosted mayfly' 'fetched 1' 'done 1 5' \
		'registered 2 3 self-hosted mayfly' 'fetched 2' 'done 2 4')"
	run -0 mayfly ps -q
	assert_output ''
}

@test "github: a runner whose VM is stopped, or fails, is removed" {
	need_passt
	have_route
	service 'echo begun; sleep 1000' 'never'
	echo ghp_right > token
	"$GITHUB" --api "http://127.0.0.1:$PORT" --scope orgs/example --token token --dir /runner -- \
		-n "user,host=$PORT" -r "$BATS_FILE_TMPDIR/roots/box" > out 2> err < /dev/null 3>&- &
	pid=$!
	started+=("$pid")
	wait_said begun
	# Secrets are in no command line and no environment.
	! grep -lE 'ghp_righ[t]|eyJ1cm[w]i' /proc/[0-9]*/{cmdline,environ} 2> /dev/null || fail "seen by others"
	kill -TERM "$pid"
	wait_end
	assert_equal "$status" 143
	grep -qx 'removed 1' service/log
	github -- -r "$BATS_FILE_TMPDIR/roots/missing"
	assert_equal "$status" 1
	grep -qx 'removed 2' service/log
	run -0 mayfly ps -q
	assert_output ''
}

# bats test_tags=flat
@test "github: a token that is wrong, an answer that is odd, words that do not fit" {
	service
	TOKEN=ghp_wrong github -- -r box
	assert_equal "$status" 1
	assert_regex "$stderr" 'does not register a runner.*Bad credentials'
	TOKEN=$'two\nlines' github -- -r box
	assert_equal "$status" 1
	github -- -r box # no job is left
	assert_equal "$status" 1
	assert_regex "$stderr" 'Invalid'
	local odd=(--scope orgs/example/../x --labels 'a","b' --group x --memory 2G --token missing) at
	for ((at = 0; at < ${#odd[@]}; at += 2)); do # `run` uses i
		github "${odd[@]:at:2}" -- -r box
		assert_equal "$status" 1
		assert_regex "$stderr" "mayfly-github-runner: .*${odd[at]}"
	done
	github
	assert_equal "$status" 1
	assert_equal "$(< service/log)" $'listening\nrefused POST'
}

# words FILE KEY...: of one of the files, the strings at the end of that path, with zeros between.
words() {
	"$PYTHON" -I "$BATS_TEST_DIRNAME/engine-files" "$root/configs/engines/$1" | "$PYTHON" -I -S -c 'import json, sys
found = json.load(sys.stdin)
for key in sys.argv[1:]:
    found = found[int(key) if isinstance(found, list) else key]
for word in found if isinstance(found, list) else [found]:
    print(word, end="\0")' "${@:2}"
}

# nomad_task INDEX: sets `task` to the words of the command, as Nomad makes them, and with files of this machine.
nomad_task() {
	local at=('job microvms' 'group vm' 'task vm' config)
	mapfile -d '' -t task < <(words nomad/mayfly.nomad.hcl "${at[@]}" command && words nomad/mayfly.nomad.hcl "${at[@]}" args)
	wait "$!"
	task=("${task[@]//'${NOMAD_ALLOC_ID}'/00000000-0000-4000-8000-00000000000$1}")
	task=("${task[@]//'${NOMAD_TASK_DIR}'/$PWD}")
	task=("${task[@]//\/srv\/mayfly\/debian.erofs/$BATS_FILE_TMPDIR\/roots\/box}")
	assert_equal "${task[0]}" /usr/bin/mayfly
	task[0]=mayfly
}

# bats test_tags=flat
@test "engines: their files have the syntax of their kind, and mayfly takes each command line in them" {
	local options task dir=$root/configs/engines file
	for file in "$dir"/*/*.{toml,yaml,hcl,container}; do
		run -0 "$PYTHON" -I "$BATS_TEST_DIRNAME/engine-files" "$file"
	done
	"$PYTHON" -I -S -c 'import json, sys, tomllib
assert json.load(open(sys.argv[1]))["runtimes"]["mayfly"]["path"] == "/usr/bin/mayfly-oci"
engine = tomllib.load(open(sys.argv[2], "rb"))["engine"]
assert "/usr/bin/mayfly-oci" in engine["runtimes"]["mayfly"]' "$dir/docker/daemon.json" "$dir/podman/mayfly.conf"
	for file in 'a = 1 b' 'a = [1, 2' 'a { b = "x" ' 'a = b' 'a = 1 a = 2' 'a = "x'; do
		echo "$file" > bad.hcl
		run "$PYTHON" -I "$BATS_TEST_DIRNAME/engine-files" bad.hcl
		assert_failure
	done
	for file in 's/^Image=.*//' 's/^Image/Picture/' 's/^\[Service/[Servant/' 's/^\[Unit\]//' 's/^Restart=.*/Restart/'; do
		sed "$file" "$dir/podman/web.container" > bad.container
		run "$PYTHON" -I "$BATS_TEST_DIRNAME/engine-files" bad.container
		assert_failure
	done
	# GitLab: what follows prepare's --
	mapfile -d '' -t options < <(words gitlab/config.toml runners 0 custom prepare_args)
	wait "$!"
	assert_equal "${options[0]}" prepare
	while [ "${options[0]}" != -- ]; do options=("${options[@]:1}"); done
	sed 's/^\( *\)# "/\1"/' "$dir/gitlab/config.toml" > all.toml
	run -0 "$PYTHON" -I "$BATS_TEST_DIRNAME/engine-files" all.toml
	assert_output --partial /cache
	run_mayfly run --dry-run "${options[@]:1}" -r "$ROOTFS" -- true
	assert_equal "$status:$stderr" 0:
	# GitHub: the unit's, with the variables of its file
	file=$(sed -n '/^ExecStart=/,/[^\\]$/p' "$dir/github/mayfly-github@.service" | tr -d '\\\n')
	[[ $file == *' -- '* ]]
	(
		set -a
		# shellcheck source=/dev/null # a file of variables
		. "$dir/github/github.conf"
		export ROOT=$ROOTFS
		eval "options=(${file#* -- })"
		run_mayfly run --dry-run "${options[@]}" -- true
		assert_equal "$status:$stderr" 0:
	)
	nomad_task 1
	ln -s "$ROOTFS" box.ext4
	task=("${task[@]//"$BATS_FILE_TMPDIR/roots/box"/$PWD/box.ext4}")
	run_mayfly "${task[1]}" --dry-run "${task[@]:2}"
	assert_equal "$status:$stderr" 0:
	# Kata and Nomad's driver run mayfly by other names, or by an option of Firecracker's.
	for file in path jailer_path; do
		mapfile -d '' -t options < <(words kubernetes/kata-mayfly.toml hypervisor firecracker "$file")
		wait "$!"
		ln -s "$MAYFLY" "${options[0]##*/}"
	done
	run -0 ./firecracker --version
	assert_output --regexp '^Firecracker v'
	run -0 ./jailer --help
	assert_output --partial --exec-file
}

# bats test_tags=flat
@test "engines: Kubernetes' objects name each other" {
	assert_equal "$(words kubernetes/pod.yaml 0 spec runtimeClassName | tr -d '\0')" \
		"$(words kubernetes/runtimeclass.yaml 0 metadata name | tr -d '\0')"
	run -0 words kubernetes/containerd.toml plugins io.containerd.grpc.v1.cri containerd runtimes \
		"$(words kubernetes/runtimeclass.yaml 0 handler | tr -d '\0')" options ConfigPath
}

@test "nomad: raw_exec's command, as it stands" {
	local task
	nomad_task 2
	NOMAD_ALLOC_INDEX=2 run --separate-stderr timeout -k 5 "$LIMIT" "${task[@]}" < /dev/null
	assert_equal "$status:$output:$stderr" '0:microVM 2:'
	grep -q '"cause": "command"' result.json || fail "$(< result.json)"
}

# bats test_tags=flat
@test "systemd: the units pass systemd-analyze, and how exposed they are" {
	local unit score
	command -v systemd-analyze > /dev/null || skip "no systemd-analyze here"
	for unit in systemd/mayfly@ github/mayfly-github@; do
		# With the lines that are comments, too.
		sed "s,/usr/bin/mayfly,$MAYFLY,; s,/usr/lib/mayfly/mayfly-github-runner,$GITHUB,; /^Documentation=/d; s/^#\([A-Z]\)/\1/" \
			"$root/configs/engines/$unit.service" > "${unit##*/}web.service"
		run -0 systemd-analyze verify "./${unit##*/}web.service"
		assert_output ''
		run -0 systemd-analyze security --no-pager --offline=true --threshold=35 "./${unit##*/}web.service"
		score=$(grep -o 'Overall exposure level.*[0-9.]* [A-Z]*' <<< "$output")
		echo "# $score" >&3
	done
}

@test "systemd: the unit starts, its group holds the guest, it starts again when it was killed, and stops" {
	local inside before
	[ -n "${LAB:-}" ] || skip "only the lab's files and control groups are the test's to change"
	[ -x /lib/systemd/systemd ] || skip "no systemd here"
	mkdir -p /etc/mayfly
	install -m 755 "$MAYFLY" /usr/bin/mayfly
	install -m 644 -D "$GUESTS/idle.elf" /opt/idle.elf
	groupadd -fr kvm
	chgrp kvm /dev/kvm
	chmod 660 /dev/kvm
	start_systemd
	cp "$root/configs/engines/systemd/mayfly@.service" /opt/units
	mkdir /opt/units/mayfly@web.service.d
	printf '[Service]\nMemoryMax=200M\nRestartSec=0\nStandardError=file:/opt/errors\n' > /opt/units/mayfly@web.service.d/limit.conf
	/usr/bin/mayfly run -k /opt/idle.elf --dry-run > /etc/mayfly/web.json
	"${inside[@]}" systemctl daemon-reload
	run "${inside[@]}" systemctl start mayfly@web
	echo "# $output $(tail -n 5 systemd.log /opt/errors 2>&1)"
	assert_equal "$status" 0
	run -0 "${inside[@]}" systemctl show -P ActiveState -P StatusText mayfly@web
	assert_line active
	local group=/sys/fs/cgroup/services/system.slice/system-mayfly.slice/mayfly@web.service
	assert_equal "$(cat "$group/memory.max")" $((200 << 20))
	before=$(head -n 1 "$group/cgroup.procs")
	assert_equal "$(< "/proc/$before/comm")" mayfly
	[ "$(stat -c %u "/proc/$before")" -ne 0 ] || fail "it is root"
	kill -KILL "$before"
	restarted() { [ "$("${inside[@]}" systemctl show -P NRestarts -P ActiveState mayfly@web | xargs)" = "1 active" ]; }
	wait_for restarted
	run -0 "${inside[@]}" systemctl stop mayfly@web
	run -0 "${inside[@]}" systemctl show -P Result mayfly@web
	assert_output success
	run -0 "${inside[@]}" systemd-run --collect --unit=once -p Type=notify -p MemoryMax=200M /usr/bin/mayfly run -k /opt/idle.elf
	run -0 "${inside[@]}" systemctl show -P ActiveState -P MemoryMax once
	assert_output $'209715200\nactive'
	run -0 "${inside[@]}" systemctl stop once
	/usr/bin/mayfly run -k /opt/idle.elf --jail --dry-run > /etc/mayfly/jailed.json
	run "${inside[@]}" systemctl start mayfly@jailed
	echo "# jailed: $output"
	assert_equal "$status" 0
	run -0 "${inside[@]}" systemctl stop mayfly@jailed
}
