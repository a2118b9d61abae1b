/* mayfly: a microVM monitor. main() is the table of commands; each is in a file of its name. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>

#include "vmm/base/exit_status.h"
#include "vmm/cli/cli.h"
#include "vmm/cli/completion.h"
#include "vmm/cli/manual.h"
#include "vmm/cmd/bench.h"
#include "vmm/cmd/cache.h"
#include "vmm/cmd/clone.h"
#include "vmm/cmd/cp.h"
#include "vmm/cmd/exec.h"
#include "vmm/cmd/firecracker.h"
#include "vmm/cmd/fork.h"
#include "vmm/cmd/images.h"
#include "vmm/cmd/inspect.h"
#include "vmm/cmd/jailer.h"
#include "vmm/cmd/kill.h"
#include "vmm/cmd/logs.h"
#include "vmm/cmd/member.h"
#include "vmm/cmd/oci.h"
#include "vmm/cmd/pool.h"
#include "vmm/cmd/ps.h"
#include "vmm/cmd/restore.h"
#include "vmm/cmd/rm.h"
#include "vmm/cmd/run.h"
#include "vmm/cmd/snap.h"
#include "vmm/cmd/snapshot.h"
#include "vmm/cmd/stats.h"
#include "vmm/cmd/stop.h"
#include "vmm/cmd/wait.h"
#include "vmm/doctor/doctor.h"

const struct cli_command cli_commands[] = {
	{ "run", "boot a VM, and run a command in it", run_command, &cli_run_usage },
	{ "exec", "run another command in a running VM", exec_command, &cli_exec_usage },
	{ "cp", "copy files from or into a running VM", cp_command, &cli_cp_usage },
	{ "ps", "list VMs", ps_command, &ps_usage },
	{ "logs", "print what a VM in the background has said", logs_command, &logs_usage },
	{ "inspect", "print what is known of a VM, as JSON", inspect_command, &inspect_usage },
	{ "stats", "print what VMs use", stats_command, &stats_usage },
	{ "stop", "end VMs gently", stop_command, &stop_usage },
	{ "kill", "kill VMs, or send them a signal", kill_command, &kill_usage },
	{ "wait", "wait for the end of VMs, and return their status", wait_command, &wait_usage },
	{ "rm", "remove what is kept of VMs that have ended", rm_command, &rm_usage },
	{ "snapshot", "write a snapshot of a running VM", snapshot_command, &snapshot_usage },
	{ "restore", "start a VM from a snapshot", restore_command, &restore_usage },
	{ "bench", "time boots and commands: percentiles, exits, a chart", bench_command, &bench_usage },
	{ "clone", "start several VMs from a snapshot, or a running VM", clone_command, &clone_usage },
	{ "pool", "keep VMs from a snapshot ready, for clone --pool", pool_command, &pool_usage },
	{ "snap", "check, list and remove snapshots", snap_command, &snap_usage },
	{ "oci", "be the runtime of a container engine", oci_command, &oci_usage },
	{ "jailer", "start a program as Firecracker's jailer does", jailer_command, &jailer_usage },
	{ "doctor", "check this host, and say what to do", doctor_command, &doctor_usage },
	{ "cache", "list or remove the images of packed directories", cache_command, &cache_usage },
	{ "images", "fetch, list or remove images of containers", images_command, &images_usage },
	{ "manual", "print a manual page", manual_command, &manual_usage },
	{ "completion", "print a completion script for a shell", completion_command, &completion_usage },
	{ 0 },
};

/* If the caller closed fd 0, 1 or 2, a file of ours would get that number, and messages would be written into it. */
static int hold_standard_fds(void)
{
	for (int fd = 0; fd <= 2; fd++) {
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDWR) != fd)
			return -1;
	}
	return 0;
}

/* For programs that start another by its name only, mayfly can have that name: as a link, or a copy. */
static bool called_as(const char *path, const char *name)
{
	const char *slash = strrchr(path, '/');

	return !strcmp(slash ? slash + 1 : path, name);
}

int main(int argc, char **argv)
{
	if (hold_standard_fds() < 0)
		return STATUS_FAILED;
	(void)signal(SIGCHLD, SIG_DFL); /* of a process whose caller ignores it, children end unseen */
	if (argc > 0 && called_as(argv[0], "jailer"))
		return jailer_command(argc, argv);
	(void)signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error, and says so */
	if (argc > 0 && (called_as(argv[0], "firecracker") || firecracker_is_meant(argc, argv)))
		return firecracker_command(argc, argv);
	if (argc > 1 && !strcmp(argv[1], "firecracker")) /* its messages name a command: mayfly firecracker --help */
		return firecracker_command(argc - 1, argv + 1);
	if (argc > 0 && called_as(argv[0], "mayfly-oci"))
		return oci_command(argc, argv);
	if (argc > 0 && called_as(argv[0], POOL_MEMBER_NAME))
		return member_command(argc, argv);
	if (argc > 0 && called_as(argv[0], FORK_NAME))
		return fork_command(argc, argv);
	return cli_main(argc, argv, cli_commands);
}
