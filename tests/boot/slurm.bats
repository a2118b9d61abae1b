#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2034,SC2153,SC2154,SC2317 # lines for guests; each test is a subshell; variables of helper.bash
#
# mayfly as the job of a Slurm cluster, which has one node: this machine, or the lab. Needs root, and Slurm and munge, which
# `make check-engines` installs.

load helper

ENGINES=$root/configs/engines/slurm
PREFIX=slurm-${BATS_RUN_TMPDIR##*-} # of the names of these VMs

# daemon NAME COMMAND...: in the background until the end of the file.
daemon() {
	"${@:2}" < /dev/null > "$1.out" 2>&1 3>&- &
	echo "$!" >> pids
}

# A cluster of its own below $BATS_FILE_TMPDIR, whose node claims to have 64 CPUs. In the lab its jobs have control groups.
# missing: prints why there can be no Slurm here. (Bats knows no skip in setup_file.)
missing() {
	local program
	for program in munged slurmctld slurmd sbatch; do
		if ! command -v "$program" > /dev/null; then
			echo "no $program here: make check-engines installs it"
			return
		fi
	done
	[ "$EUID" -eq 0 ] || echo "only root may start Slurm's daemons"
}

setup_file() {
	load helper
	local dir=$BATS_FILE_TMPDIR host
	[ -z "$(missing)" ] || return 0
	cd "$dir" || return 1
	mkdir -m 755 munge state spool bin
	ln -s "$MAYFLY" bin/mayfly
	export PATH=$dir/bin:$PATH
	(umask 077 && head -c 1024 /dev/urandom > munge.key)
	host=$(uname -n)
	cat > slurm.conf <<- END
		ClusterName=test
		SlurmctldHost=$host(127.0.0.1)
		SlurmUser=root
		SlurmctldPort=16817
		SlurmdPort=16818
		AuthType=auth/munge
		AuthInfo=socket=$dir/munge/socket
		StateSaveLocation=$dir/state
		SlurmdSpoolDir=$dir/spool
		SlurmctldPidFile=$dir/slurmctld.pid
		SlurmdPidFile=$dir/slurmd.pid
		SlurmctldLogFile=$dir/slurmctld.log
		SlurmdLogFile=$dir/slurmd.log
		MpiDefault=none
		SlurmdParameters=config_overrides
		ReturnToService=2
		NodeName=node NodeHostname=$host NodeAddr=127.0.0.1 Port=16818 CPUs=64 RealMemory=100000 State=UNKNOWN
		PartitionName=main Nodes=node Default=YES MaxTime=INFINITE State=UP
	END
	if [ -n "${LAB:-}" ]; then
		cat "$ENGINES/slurm.conf" >> slurm.conf
		# No systemd makes the groups, and the lab has one CPU.
		{ sed '/^ConstrainCores/d' "$ENGINES/cgroup.conf"; echo IgnoreSystemd=yes; } > cgroup.conf
		mkdir -p /sys/fs/cgroup/system.slice
		echo '+cpu +memory +pids' > /sys/fs/cgroup/system.slice/cgroup.subtree_control
		have_route # without an address beside the loopback's, 127.0.0.1 is no name that getaddrinfo() knows
	else
		# Without a service manager and without control groups of version 2.
		sed 's/^ProctrackType=.*/ProctrackType=proctrack\/linuxproc/; s/^TaskPlugin=.*/TaskPlugin=task\/none/; /^JobAcct/d' \
			"$ENGINES/slurm.conf" >> slurm.conf
	fi
	mkdir -p box/bin
	cp /bin/busybox box/bin
	ln -s busybox box/bin/sh
	ln -s busybox box/bin/dd
	daemon munged munged --foreground --force --key-file="$dir/munge.key" --socket="$dir/munge/socket" \
		--pid-file="$dir/munge/pid" --log-file="$dir/munge/log" --seed-file="$dir/munge/seed"
	export SLURM_CONF=$dir/slurm.conf
	wait_for test -S munge/socket
	daemon slurmctld slurmctld -D
	daemon slurmd slurmd -D -N node
	wait_for node_is idle
	# A time limit is a minute at least: it passes beside the other tests.
	(unset MAYFLY_TEST && submit --time=1 idle > limited) # it is no leftover of the tests between
}

teardown_file() {
	local id
	[ -s "$BATS_FILE_TMPDIR/pids" ] || return 0
	cd "$BATS_FILE_TMPDIR" || return 1
	scancel -u root || true # its daemons may have failed
	while read -r id; do
		kill "$id" || true
	done < pids
	tail -n 3 ./*.out slurmd.log slurmctld.log >&2
}

setup() {
	local why
	started=()
	why=$(missing)
	[ -z "$why" ] || skip "$why"
	[ -z "${BATS_TEST_NUMBER:-}" ] || cd "$BATS_TEST_TMPDIR" || return 1
	export SLURM_CONF=$BATS_FILE_TMPDIR/slurm.conf PATH=$BATS_FILE_TMPDIR/bin:$PATH
	export MAYFLY_BOOT=auto MAYFLY_KERNEL=$KERNEL XDG_CACHE_HOME=$BATS_FILE_TMPDIR/cache
}

teardown() {
	[ -n "${BATS_TEST_COMPLETED:-}" ] || scancel -u root || true # the cluster may be down
	end_test
}

# node_is STATE: for wait_for.
node_is() {
	[ "$(sinfo -h -o %T 2> /dev/null)" = "$1" ]
}

# submit [OPTION...] GUEST: a job that is a guest of tests/guest. Prints its number.
submit() {
	sbatch --parsable --mem=150M "${@:1:$#-1}" --output="$BATS_FILE_TMPDIR/%A_%a.out" --wrap \
		"exec mayfly run --name $PREFIX-\$SLURM_JOB_ID -k '$GUESTS/${!#}.elf'"
}

# field JOB NAME: of what `scontrol show job` prints.
field() {
	scontrol show job "$1" | sed -n "s/^\(.* \)\? *$2=\([^ ]*\).*/\2/p"
}

# has_state JOB STATE: for wait_for.
has_state() {
	[ "$(field "$1" JobState)" = "$2" ]
}

# has_ended_job JOB: for wait_for.
has_ended_job() {
	[[ $(field "$1" JobState) =~ ^(COMPLETED|FAILED|CANCELLED|TIMEOUT|OUT_OF_MEMORY)$ ]]
}

# running N: so many VMs of these tests; for wait_for.
running() {
	[ "$(mayfly ps -q | grep -c "^$PREFIX-")" -eq "$1" ]
}

# bats test_tags=flat
@test "slurm: the guest's end is the job's: status, output, and what scancel does" {
	local job
	job=$(submit hello)
	wait_for has_state "$job" COMPLETED
	assert_equal "$(field "$job" ExitCode)" 0:0
	grep -qx hello "$BATS_FILE_TMPDIR/${job}_4294967294.out"
	job=$(submit triple)
	wait_for has_state "$job" FAILED
	assert_equal "$(field "$job" ExitCode)" 102:0
	run --separate-stderr srun --quiet --mem=150M mayfly run -k "$GUESTS/triple.elf"
	assert_equal "$status" 102
	job=$(submit idle)
	wait_for grep -qs idle "$BATS_FILE_TMPDIR/${job}_4294967294.out"
	scancel "$job"
	wait_for has_state "$job" CANCELLED
	wait_for grep -q 'mayfly: ended by a signal' "$BATS_FILE_TMPDIR/${job}_4294967294.out"
	assert_equal "$(field "$job" ExitCode)" 0:15
}

# bats test_tags=flat
@test "slurm: 50 jobs at once, on a node that is drained while they run" {
	local job late
	job=$(submit --array=1-50 idle)
	wait_for running 51 # with that of setup_file
	scontrol update nodename=node state=drain reason=test
	late=$(submit hello)
	sleep 2
	assert_equal "$(sinfo -h -o %T)" draining
	assert_equal "$(field "$late" JobState)" PENDING
	running 51
	scancel "$job"
	wait_for running 1
	run -0 mayfly ps -a --json
	run -0 "$PYTHON" -c 'import json, sys
print(*sorted({vm["code"] for vm in json.loads(sys.argv[1]) if vm["name"].startswith(sys.argv[2]) and vm["state"] == "ended"}))' "$output" "$PREFIX"
	assert_output '0 102 143' # with those of the test before
	scontrol update nodename=node state=resume
	wait_for has_state "$late" COMPLETED
}

# bats test_tags=flat
@test "slurm: the time limit ends the guest as a signal does" {
	local job
	job=$(< "$BATS_FILE_TMPDIR/limited")
	wait_for has_state "$job" TIMEOUT
	assert_equal "$(field "$job" ExitCode)" 0:15
	grep -q 'DUE TO TIME LIMIT' "$BATS_FILE_TMPDIR/${job}_4294967294.out"
	wait_for grep -q 'mayfly: ended by a signal' "$BATS_FILE_TMPDIR/${job}_4294967294.out"
}

@test "slurm: an array of commands in guests: status, output, environment" {
	local job task
	job=$(sbatch --parsable --array=1-3 --output="$PWD/%a" "$ENGINES/mayfly.sbatch" "$BATS_FILE_TMPDIR/box" \
		sh -c 'echo "task $SLURM_ARRAY_TASK_ID"; exit $((SLURM_ARRAY_TASK_ID - 1))')
	for task in 1 2 3; do
		wait_for has_ended_job "${job}_$task"
		assert_equal "$(field "${job}_$task" ExitCode)" "$((task - 1)):0"
		assert_equal "$(grep -v ^mayfly: "$task")" "task $task" # the first packs the root, and says so
	done
}

@test "slurm: a guest that takes more than --mem is out of memory, and nothing else is" {
	local job
	[ -n "${LAB:-}" ] || skip "only the lab's control groups are Slurm's to take"
	job=$(sbatch --parsable --mem=150M --output="$PWD/out" --wrap \
		"exec mayfly run -r '$BATS_FILE_TMPDIR/box' -m 512M -- dd if=/dev/zero of=/tmp/x bs=1M count=200")
	wait_for has_ended_job "$job"
	echo "# $(< out)" # shown if the test fails
	assert_equal "$(field "$job" JobState)" OUT_OF_MEMORY
	job=$(sbatch --parsable --mem=400M --output="$PWD/fits" --wrap \
		"exec mayfly run -r '$BATS_FILE_TMPDIR/box' -m 512M -- dd if=/dev/zero of=/tmp/x bs=1M count=200")
	wait_for has_ended_job "$job"
	assert_equal "$(field "$job" JobState)" COMPLETED
}
