/* The options of `mayfly run`. One table: a new option is a line here and a setter in config.c. */
#include "vmm/base/err.h"
#include "vmm/cli.h"

static const struct cli_option run_options[] = {
	{ .help = "Guest" },
	{ 'k', "kernel", "FILE",
	  "an ELF vmlinux or a bzImage; default: $MAYFLY_KERNEL,\nvmlinux beside mayfly, or in share/mayfly",
	  .set = config_set_kernel },
	{ 'i', "initrd", "FILE", "initial RAM disk", .set = config_set_initrd },
	{ 'a', "append", "TEXT", "add TEXT to the kernel command line", .set = config_set_append },
	{ 0, "cmdline", "TEXT", "TEXT is the whole kernel command line", .set = config_set_cmdline },
	{ 0, "entry", "HOW", "auto, linux64 or pvh; default: auto", .set = config_set_entry,
	  .words = "auto linux64 pvh" },
	{ 'c', "cpus", "N", "vCPUs, 1 to 32; default: 1", .set = config_set_cpus },
	{ 'm', "mem", "SIZE", "memory: 128M, 2G, ...; default: 128M", .set = config_set_mem },

	{ .help = "Devices" },
	{ 'd', "drive", "SPEC",
	  "PATH[:ro|:rw][:overlay[=SIZE]][:id=ID][:serial=S]...;\nsee mayfly(1); may be repeated; the first is the root",
	  .set = config_add_drive, .words = CLI_FILES },
	{ 'r', "rootfs", "ROOT", "directory or image as the root; changes are lost,\nunless it is IMAGE:rw",
	  .set = config_set_rootfs, .words = CLI_FILES },
	{ 'n', "net", "SPEC",
	  "none, tap=NAME, fd=N or user (passt), then\n[,mac=MAC][,mtu=N], user also [,tcp=HOST:GUEST]\n"
	  "[,udp=HOST:GUEST]; may be repeated; default: none",
	  .set = config_add_net, .words = "none tap= fd= user" },
	{ 0, "vsock", "SPEC",
	  "PATH[,cid=N]: sockets between guest and host, which has\nPATH and PATH_PORT; default: cid=3",
	  .set = config_set_vsock, .words = CLI_FILES },

	{ .help = "Command, run in the guest by mayfly's own init" },
	CLI_COMMAND_OPTIONS,
	{ 'v', "volume", "SPEC",
	  "HOST:/GUEST[:ro]: a directory or image of the host at\n/GUEST; changes are lost; repeatable",
	  .set = config_add_volume, .words = CLI_FILES },
	{ 0, "artifact", "SPEC", "/GUEST=HOSTDIR: copied out at the end; repeatable", .set = config_add_artifact,
	  .words = CLI_FILES },
	{ 0, "name", "NAME", "host name, and how `mayfly exec` finds it", .set = config_set_name },
	{ 0, "control", "PATH", "the socket for `mayfly exec`; default: by NAME", .set = config_set_control,
	  .words = CLI_FILES },
	{ 0, "console", NULL, "show the guest's console on stderr", .set = config_set_console, .fixed = "true" },

	{ .help = "Running" },
	{ 0, "jail", "SPEC",
	  "run it in a jail; SPEC is any of strict, id=NAME,\nuid=N, gid=N, cpu-max=, memory-max=SIZE, pids-max=N,\n"
	  "io-max=, nofile=N, fsize=SIZE; see mayfly(1)",
	  .set = config_set_jail, .fixed = "true",
	  .words = "strict id= uid= gid= cpu-max= memory-max= pids-max= io-max= nofile= fsize=" },
	{ 0, "timeout", "TIME", "end it after TIME: 30s, 500ms, 5m; status 124", .set = config_set_timeout },
	{ 0, "io-engine", "HOW", "ring (io_uring) or sync (where that is forbidden);\ndefault: ring",
	  .set = config_set_io_engine, .words = "ring sync" },
	{ 0, "config", "FILE", "read the options from JSON; those given here win,\ndrives are added",
	  .set = config_read_file, .first = true },
	{ 0, "dry-run", NULL, "print the configuration as JSON and exit", .set = config_set_dry_run, .fixed = "true" },
	{ 0, "time", NULL, "print the boot time line at exit", .set = config_set_time, .fixed = "true" },
	{ 0, "timeline", "FILE", "write the times as JSON; see `mayfly timeline`", .set = config_set_timeline,
	  .words = CLI_FILES },
	{ 'h', "help", NULL, "this text", .set = NULL },

	{ .help = "Safety" },
	{ 0, "seccomp", "POLICY", "kill, or for debugging: log (in the kernel's log), off;\ndefault: kill",
	  .set = config_set_seccomp, .words = "kill log off" },
	{ 0, "no-seccomp", NULL, "the same as --seccomp off", .set = config_set_seccomp, .fixed = "off" },

	{ .help = "Messages" },
	{ 0, "log-level", "LEVEL", "error, warn, info or debug; default: warn", .set = config_set_log_level,
	  .words = "error warn info debug" },
	{ 0, "log", "FILE", "append the log to FILE; default: stderr", .set = config_set_log_file },
	{ 0, "quiet", NULL, "the same as --log-level error", .set = config_set_log_level, .fixed = "error" },
	{ 0 },
};

const struct cli_usage cli_run_usage = {
	.command = "run",
	.synopsis = "[options] [-- COMMAND [ARG...]]",
	.about = "Boots a VM. With COMMAND it runs that in the guest, with this stdin, stdout and\n"
		 "stderr, and returns its status; without, its serial console is stdin and stdout.\n",
	.options = run_options,
	.argument = config_add_arg,
};

int cli_parse_run(struct config *c, int argc, char **argv, struct err *e)
{
	int r = cli_parse(&cli_run_usage, c, argc, argv, e);

	return r == 0 ? config_check(c, e) : r;
}
