#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2034,SC2153,SC2154 # each test is a subshell; the variables are of helper.bash
#
# Container engines start mayfly: podman of root and of a user, containerd, Docker. `make check-engines` installs Debian's.

load helper
load systemd

setup() {
	started=() systemd=''
	[ "${LAB:-}" ] || skip "outside of the lab it would change this host's containers"
	# Not on the overlay that the lab has here. The kernel is found beside the binary.
	place=$(mktemp -d -p /dev/shm)
	chmod 755 "$place"
	cd "$place" || return 1
	cp "$MAYFLY" mayfly-oci
	cp "$KERNEL" vmlinux
	mkdir -p rootfs/{bin,tmp,etc} live
	cp "$(command -v busybox)" rootfs/bin/busybox
	ln -s busybox rootfs/bin/sh
	ln -s busybox rootfs/bin/sleep
	ln -s busybox rootfs/bin/cat
	echo live > live/file
}

teardown() {
	[ -n "$systemd" ] || stop_engine # SIGTERM does not end that
	kill_started
	rm -rf "$place"
	end_test
}

# An engine's own processes end with it, if it is asked.
stop_engine() {
	[ "${#started[@]}" -eq 0 ] || kill -TERM "${started[@]}" 2> /dev/null || true # it may have ended
	is_over() { ! kill -0 "${started[@]}" 2> /dev/null; }
	wait_for is_over
	started=()
}

has() {
	command -v "$1" > /dev/null || skip "no $1 here: make check-engines installs it"
}

# What a container's process is that ends by SIGTERM, and by nothing else.
WAITS='trap "echo end; exit 9" TERM; echo begin; while :; do sleep 0.1; done'

@test "podman: of root: run, exec, stop, logs; what is refused; a live root can be committed" {
	has podman
	podman() { command podman --root "$place/c" --runroot "$place/r" --storage-driver vfs --cgroup-manager cgroupfs --events-backend file \
		--runtime "$place/mayfly-oci" "$@"; }
	local options=(--network none --annotation mayfly.boot=cold)
	tar c -C rootfs . | podman import -q - box
	run -7 --separate-stderr podman run --rm "${options[@]}" -v "$place/live:/live" box sh -c 'cat /live/file; echo err >&2; exit 7'
	assert_equal "$output:$stderr" live:err
	run -0 podman run -d --name c "${options[@]}" box sh -c "$WAITS"
	run -4 podman exec c sh -c 'exit 4'
	run -0 podman stop c
	run -0 podman logs c
	assert_output $'begin\nend'
	run -0 podman inspect -f '{{.State.ExitCode}}' c
	assert_output 9
	run -0 podman rm c
	run -126 podman run --rm --privileged "${options[@]}" box true
	assert_output --partial linux.devices
	run -0 podman run --name made "${options[@]}" --annotation mayfly.root=live box sh -c 'echo made > /etc/made'
	run -0 podman commit -q made new
	run -0 podman run --rm "${options[@]}" new cat /etc/made
	assert_output made
	run -0 podman rm made
	assert_none_left
}

# bats test_tags=slow
@test "podman: with groups by systemd: a scope that it knows, whose limits stay" {
	local inside group unit id
	has podman
	[ -x /lib/systemd/systemd ] || skip "no systemd here"
	start_systemd
	podman() { "${inside[@]}" podman --root "$place/c" --runroot "$place/r" --storage-driver vfs --cgroup-manager systemd \
		--events-backend file --runtime "$place/mayfly-oci" "$@"; }
	tar c -C rootfs . > box.tar
	run -0 podman import -q "$place/box.tar" box
	run -0 podman run -d --name c -m 128m --cpus 0.5 --network none --annotation mayfly.boot=cold box sh -c "$WAITS"
	id=$output unit=libpod-$output.scope group=/sys/fs/cgroup/services/machine.slice/libpod-$output.scope
	assert_equal "$(cat "$group"/{memory,cpu}.max)" $'201326592\n50000 100000'
	echo '{"memory": {"limit": 67108864}, "cpu": {"quota": 25000, "period": 100000}}' > limits
	run -0 "${inside[@]}" "$place/mayfly-oci" update --resources "$place/limits" "$id"
	# A change in the slice takes controllers away from groups that systemd does not know.
	run -0 "${inside[@]}" systemctl daemon-reload
	run -0 "${inside[@]}" systemd-run --scope --quiet --slice=machine.slice true
	assert_equal "$(cat "$group"/{memory,cpu}.max)" $'134217728\n25000 100000'
	run -0 "${inside[@]}" systemctl show -P ActiveState -P MemoryMax -P CPUQuotaPerSecUSec "$unit"
	assert_output $'250ms\n134217728\nactive'
	assert_equal "$(cat "/proc/$(head -n 1 "$group/cgroup.procs")/comm")" mayfly
	run -0 podman stop c
	run -0 podman rm c
	assert_output c
	[ ! -d "$group" ] || fail "$group is left: $(cat "$group/cgroup.procs")"
	run -0 "${inside[@]}" systemctl list-units --all --plain --no-legend "$unit"
	assert_output ''
	assert_none_left
}

@test "podman: of a user: the guest has the user's files, and its network namespace" {
	has podman
	has newuidmap
	has slirp4netns
	useradd -u 4711 rootless
	echo rootless:200000:65536 | tee /etc/subuid > /etc/subgid
	chmod 666 /dev/kvm /dev/vhost-vsock /dev/net/tun
	mkdir -p run home
	chmod 700 run
	chown -R rootless . # its live directory, too
	cat > script <<- 'END'
		podman() { command podman --storage-driver vfs --cgroup-manager cgroupfs --events-backend file --runtime "$PWD/mayfly-oci" "$@"; }
		tar c -C rootfs . | podman import -q - box
		podman run --name one -d -p 4712:80 --annotation mayfly.boot=cold -v "$PWD/live:/live" \
			box sh -c 'echo new > /live/new; exec /bin/busybox httpd -f -h /live'
		for i in 1 2 3 4 5 6 7 8 9 10; do
			/bin/busybox wget -qO- http://127.0.0.1:4712/file && break
			sleep 1
		done
		podman logs one; podman inspect -f '{{.State.Status}} {{.State.ExitCode}}' one
		podman exec one sh -c 'exit 4' || echo "exec $?"
		podman rm -f -t 0 one
	END
	run -0 setpriv --reuid rootless --regid rootless --init-groups env -i PATH="$PATH" HOME="$PWD/home" XDG_RUNTIME_DIR="$PWD/run" \
		bash -eu script < /dev/null
	assert_line live
	assert_line "exec 4"
	assert_equal "$(stat -c %U live/new)" rootless
	run -0 find run -name state.json
	assert_output ""
	assert_none_left
}

@test "containerd: run, exec, pause, kill, and what a task had" {
	has ctr
	cat > config.toml <<- END
		version = 2
		root = "$place/root"
		state = "$place/state"
		disabled_plugins = ["io.containerd.grpc.v1.cri"]
		[grpc]
		address = "$place/sock"
	END
	containerd -c config.toml > containerd.log 2>&1 3>&- &
	started+=("$!")
	ctr() { command ctr -a "$place/sock" "$@"; }
	wait_for ctr version
	local options=(--runtime io.containerd.runc.v2 --runc-binary "$place/mayfly-oci" --annotation mayfly.boot=cold --rootfs "$place/rootfs")
	run -7 --separate-stderr ctr run --rm "${options[@]}" one sh -c 'echo out; exit 7'
	assert_output out
	run -0 ctr run -d "${options[@]}" two sh -c "$WAITS"
	run -4 ctr task exec --exec-id e two sh -c 'exit 4'
	run -0 ctr task ps two
	run -0 ctr task pause two
	run -0 ctr task ls
	assert_output --partial PAUSED
	run -0 ctr task resume two
	run -0 ctr task kill -s TERM two
	is_stopped() { ctr task ls | grep -q STOPPED; }
	wait_for is_stopped
	run -0 ctr task rm two
	assert_output --partial 'exit code 9'
	run -0 ctr container rm two
	stop_engine
	assert_none_left
}

@test "docker: run, exec, a limit of threads, stop" {
	local address
	has dockerd
	cat > daemon.json <<- END
		{"runtimes": {"mayfly": {"path": "$place/mayfly-oci"}}, "storage-driver": "vfs", "data-root": "$place/data",
		 "exec-root": "$place/exec", "pidfile": "$place/pid", "exec-opts": ["native.cgroupdriver=cgroupfs"]}
	END
	dockerd --config-file daemon.json -H "unix://$place/sock" > docker.log 2>&1 3>&- &
	started+=("$!")
	docker() { /usr/bin/docker -H "unix://$place/sock" "$@"; }
	wait_for docker version
	tar c -C rootfs . | docker import - box
	run -2 --separate-stderr docker run --rm --runtime mayfly --pids-limit 8 --read-only box sh -c '
		echo > /etc/x; for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1 & done'
	[[ $stderr == *Read-only* && $stderr == *"can't fork"* ]] || fail "$stderr"
	run -0 docker run -d --name two -m 128m --runtime mayfly box sh -c "/bin/busybox httpd -h /bin; $WAITS"
	run -4 docker exec two sh -c 'exit 4'
	address=$(docker inspect -f '{{.NetworkSettings.IPAddress}}' two)
	wait_for busybox wget -qO page "http://$address/busybox"
	cmp page rootfs/bin/busybox
	run -0 docker stop two
	run -0 docker logs two
	assert_output $'begin\nend'
	run -0 docker rm two
	stop_engine
	assert_none_left
}
