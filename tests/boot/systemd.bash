# shellcheck shell=bash
# shellcheck disable=SC2016,SC2034,SC2317 # lines for other shells; variables of the tests; wait_for calls it
# systemd in the lab, whose own PID 1 it is not. After helper.bash.

# start_systemd: as PID 1 of namespaces, with our units and few of its own. Sets `inside` to the words by which a command runs
# there, and `systemd` to its PID.
start_systemd() {
	mkdir -p /opt/units /sys/fs/cgroup/services
	cp /lib/systemd/system/*.target /opt/units
	cat > start <<- 'END'
		# Who waits for it remains in a group of its own: one with processes cannot hand on controllers.
		exec unshare --pid --fork bash -c 'echo 0 > /sys/fs/cgroup/services/cgroup.procs
			exec unshare --mount --mount-proc --cgroup --uts --ipc bash -c "mount -t tmpfs tmpfs /run
				mount --bind /sys/fs/cgroup/services /sys/fs/cgroup
				exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_UNIT_PATH=/opt/units:/run/systemd/system.control:/run/systemd/transient \\
					/lib/systemd/systemd --system --unit=multi-user.target --show-status=no --log-target=console"'
	END
	bash start < /dev/null > systemd.log 2>&1 3>&- &
	started+=("$!")
	is_up() {
		systemd=$(pgrep -nx systemd) || return 1
		nsenter -t "$systemd" -a systemctl is-system-running > running 2> /dev/null || true # "degraded" has a status, too
		grep -qsE 'running|degraded' running
	}
	wait_for is_up
	started+=("$systemd")
	# From a group of its tree: what comes from outside, it cannot move.
	inside=(bash -c 'mkdir -p "$1/lab" && echo 0 > "$1/lab/cgroup.procs" && shift && exec "$@"' bash /sys/fs/cgroup/services
		nsenter -t "$systemd" -a)
}
