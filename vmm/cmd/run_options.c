/* The options of `mayfly run`. A new one is a line here that names a key of vmm/config/config_fields.c. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/parse.h"
#include "vmm/base/util.h"
#include "vmm/cli/cli.h"
#include "vmm/cmd/detach.h"
#include "vmm/config/config.h"
#include "vmm/image/image.h"
#include "vmm/image/reference.h"

#define ENV_FILE_MAX MIB

int cli_set_config_key(void *target, const char *key, const char *text, struct err *e)
{
	return config_set(target, key, text, e);
}

int cli_add_command_argument(void *target, const char *text, struct err *e)
{
	return config_set(target, "command", text, e);
}

static int run_read_file(void *target, const char *path, struct err *e)
{
	return config_read_file(target, path, e);
}

/* docker's. */
static const struct cli_foreign run_foreign[] = {
	{ "it", "-t gives the command a terminal; stdin is always the command's" },
	{ "ti", "-t gives the command a terminal; stdin is always the command's" },
	{ "memory", "-m SIZE" },
	{ "cidfile", "--name NAME; 'mayfly ps' lists VMs by name" },
	{ "network", "-n user, or -n tap=NAME" },
	{ "link", "-n tap=NAME for each guest, on a bridge of the host" },
	{ "hostname", "--name NAME" },
	{ "mount", "-v HOST:/GUEST, or --tmpfs /GUEST" },
	{ "privileged", "the command is root of a machine of its own; leave it out" },
	{ "cap-add", "the command is root of a machine of its own; leave it out" },
	{ "security-opt", "the command is root of a machine of its own; leave it out" },
	{ "read-only", "what a guest changes is lost at its end; leave it out" },
	{ "shm-size", "--tmpfs /dev/shm:size=SIZE, or --scratch SIZE" },
	{ "init", "PID 1 of the guest is an init already; leave it out" },
	{ "restart", "a unit of systemd restarts it: Restart=; see mayfly(1)" },
	{ "device", "-d FILE for a block device; no other devices are passed on" },
	{ "gpus", "no devices of the host are passed on, but block devices by -d FILE" },
	{ NULL, NULL },
};

static int run_set_initrd(void *target, const char *text, struct err *e)
{
	if (*text == '-' && access(text, F_OK) < 0)
		return err_set(e, -ENOENT,
			       "-i is the initrd; for a terminal -t alone, since stdin is always the command's");
	return cli_set_config_key(target, "initrd", text, e);
}

#define DRIVE_HINT "-d is a drive; --detach runs the VM in the background"

/* docker's -d takes no value: an option follows it, or a name with a tag. */
static int run_add_drive(void *target, const char *text, struct err *e)
{
	const char *colon = strchr(text, ':');
	bool tag = colon && (isdigit((unsigned char)colon[1]) || !strcmp(colon + 1, "latest"));

	if ((*text == '-' || tag) && access(text, F_OK) < 0)
		return err_set(e, -ENOENT, DRIVE_HINT);
	return cli_set_config_key(target, "drives", text, e);
}

/* "-d NAME" in front of a command looks like a drive and an image. */
static int run_check_drives(const struct config *c, struct err *e)
{
	for (unsigned i = 0; c->image && i < c->num_drives; i++)
		if (access(c->drive[i].path, F_OK) < 0)
			return err_sys(e, "drive '%s' (%s)", c->drive[i].path, DRIVE_HINT);
	return 0;
}

static int run_set_cpus(void *target, const char *text, struct err *e)
{
	if (strchr(text, '.'))
		return err_set(
			e, -EINVAL,
			"must be 1 to 32, in whole numbers; --jail=cpu-max=50000 is half of a CPU's time for a VM in a jail");
	return cli_set_config_key(target, "cpus", text, e);
}

/* A word in front of the command: the path of a root, or the name of an image. */
static int run_set_image(void *target, const char *text, struct err *e)
{
	return cli_set_config_key(target, image_reference_is_path(text) ? "rootfs" : "image", text, e);
}

/* Lines as docker has them: NAME=VALUE, or NAME; empty ones, and those that begin with '#', are skipped. */
static int run_read_env(void *target, const char *path, struct err *e)
{
	MF_CLOSE int fd = -1;
	MF_FREE char *text = NULL;
	char *rest, *line;
	uint64_t size;
	int r;

	fd = fdio_open_file(path, O_RDONLY, false, &size, e);
	if (fd < 0)
		return fd;
	if (size > ENV_FILE_MAX)
		return err_set(e, -EFBIG, "has more than %llu KiB", (unsigned long long)(ENV_FILE_MAX / KIB));
	rest = text = calloc(1, size + 1);
	if (!text)
		return err_set(e, -ENOMEM, "out of memory");
	r = fdio_pread_all(fd, text, size, 0);
	if (r < 0)
		return err_neg(e, r, "read it");
	if (memchr(text, '\0', size))
		return err_set(e, -EINVAL, "has a NUL byte");
	for (unsigned number = 1; (line = strsep(&rest, "\n")); number++) {
		line[strcspn(line, "\r")] = '\0';
		if (*line && *line != '#' && cli_set_config_key(target, "env", line, e) < 0)
			return err_wrap(e, "line %u", number);
	}
	return 0;
}

/* What docker's users type is how it is anyway. */
static int run_ignore(void *target, const char *text, struct err *e)
{
	(void)target;
	(void)text;
	(void)e;
	return 0;
}

static const struct cli_option run_options[] = {
	{ .help = "Guest" },
	{ 'k', "kernel", "FILE",
	  "microvm, minimal, or the file of an ELF vmlinux or a\nbzImage; default: $MAYFLY_KERNEL, else microvm",
	  .key = "kernel" },
	{ 'i', "initrd", "FILE", "initial RAM disk", .key = "initrd", .set = run_set_initrd },
	{ 'a', "append", "TEXT", "add TEXT to the kernel command line", .key = "append" },
	{ 0, "cmdline", "TEXT", "TEXT is the whole kernel command line", .key = "cmdline" },
	{ 0, "entry", "HOW", "auto, linux64 or pvh; default: auto", .key = "entry" },
	{ 'c', "cpus", "N", "vCPUs, 1 to 32; default: 1", .key = "cpus", .set = run_set_cpus },
	{ 'm', "mem", "SIZE", "memory: 128M, 2G, ...; default: 128M", .key = "mem" },

	{ .help = "Devices" },
	{ 'd', "drive", "SPEC",
	  "PATH[:ro|:rw][:overlay[=SIZE]][:id=ID][:serial=S]...;\nsee mayfly(1); may be repeated; the first is the root",
	  .key = "drives", .set = run_add_drive, .words = CLI_FILES },
	{ 'r', "rootfs", "ROOT",
	  "directory, image or tar archive as the root; changes\nare lost, unless it is IMAGE:rw", .key = "rootfs",
	  .words = CLI_FILES },
	{ 0, "pull", "WHEN", "whether IMAGE is fetched: missing, always or never;\ndefault: missing", .key = "pull" },
	{ 0, "entrypoint", "WORD", "in place of IMAGE's ENTRYPOINT and CMD; '': none", .key = "entrypoint" },
	{ 0, "all-root", NULL, "files of directories and archives belong to root", .key = "all_root", .fixed = "true" },
	{ 'n', "net", "SPEC",
	  "none, tap=NAME, fd=N or user (passt), then\n[,mac=MAC][,mtu=N], user also [,tcp=HOST:GUEST]\n"
	  "[,udp=HOST:GUEST]; may be repeated; default: none",
	  .key = "nets", .words = "none tap= fd= user" },
	{ 'p', "publish", "PORTS",
	  "[ADDRESS:]HOST:GUEST[/udp]: port HOST of the host, on\nADDRESS or 127.0.0.1, leads to port GUEST; ranges\n"
	  "too; GUEST alone picks a free port; implies -n user",
	  .key = "publish" },
	{ 'P', "publish-all", NULL, "publish the ports that IMAGE exposes, on free ones", .key = "publish_all",
	  .fixed = "true" },
	{ 0, "allow", "NET",
	  "what a guest with -n user may reach: 10.0.0.0/8,\n192.0.2.1:443, [fd00::1]:80-90, private or all; the\n"
	  "most specific of --allow and --deny decides;\nrepeatable",
	  .key = "allow" },
	{ 0, "deny", "NET", "what it may not reach; repeatable; see mayfly(1)", .key = "deny" },
	{ 0, "vsock", "SPEC",
	  "PATH[,cid=N]: sockets between guest and host, which\nhas PATH and PATH_PORT; default: cid=3", .key = "vsock",
	  .words = CLI_FILES },

	{ .help = "Command, run in the guest by mayfly's own init" },
	CLI_COMMAND_OPTIONS,
	{ 0, "env-file", "FILE", "VARs for it, one in each line; repeatable", .set = run_read_env },
	{ 0, "interactive", NULL, "stdin is the command's: it always is", .set = run_ignore, .fixed = "true" },
	{ 'v', "volume", "SPEC",
	  "HOST:/GUEST[:ro|:rw]: a directory of the host as it\nis; HOST:/GUEST:copy: a copy of it, as is always that\n"
	  "of an archive, file or image, unless it is\nIMAGE:/GUEST:rw; or /GUEST: an empty directory, for\n"
	  "overlays of the guest; repeatable",
	  .key = "volumes", .words = CLI_FILES },
	{ 0, "secret", "SPEC",
	  "NAME=FILE: the guest has the file's content as\n/run/secrets/NAME, in its memory only; repeatable",
	  .key = "secrets", .words = CLI_FILES },
	{ 0, "tmpfs", "SPEC", "/GUEST[:size=SIZE][,mode=OCTAL]: a file system in the\nguest's memory; repeatable",
	  .key = "tmpfs" },
	{ 0, "disk", "SIZE",
	  "changes to the root and volumes, and /tmp, go to a\nsparse file of SIZE on the host, not to memory",
	  .key = "disk" },
	{ 0, "scratch", "SIZE",
	  "how much of the guest's memory the changes to its\nroot and volumes, /tmp, /run and /dev/shm may take\n"
	  "together; default: half of it",
	  .key = "scratch" },
	{ 0, "artifact", "SPEC", "/GUEST=HOSTDIR: copied out at the end; repeatable", .key = "artifacts",
	  .words = CLI_FILES },
	{ 0, "artifact-max", "SIZE", "how much each may be; default: 8G", .key = "artifact_max" },
	{ 0, "name", "NAME", "host name, and how `mayfly exec` finds it", .key = "name" },
	{ 0, "dns", "ADDRESS",
	  "name server of the guest; repeatable; default: the\nhost's with -n user, otherwise the root's own",
	  .key = "dns" },
	{ 0, "dns-search", "DOMAIN", "search domain, or '.' for none; repeatable", .key = "dns_search" },
	{ 0, "add-host", "SPEC",
	  "NAME:ADDRESS, a line of the guest's /etc/hosts; the\nADDRESS host-gateway is its gateway; repeatable",
	  .key = "add_host" },
	{ 0, "control", "PATH", "the socket for `mayfly exec`; default: by NAME", .key = "control",
	  .words = CLI_FILES },
	{ 0, "console", NULL, "show the guest's console on stderr", .key = "console", .fixed = "true" },

	{ .help = "Running" },
	{ 0, "jail", "SPEC",
	  "run it in a jail; SPEC is any of strict, id=NAME,\nuid=N, gid=N, cpu-max=, memory-max=SIZE, pids-max=N,\n"
	  "io-max=, nofile=N, fsize=SIZE; see mayfly(1)",
	  .key = "jail", .fixed = "true", .words = CLI_SPEC },
	{ 0, "timeout", "TIME", "end it after TIME: 30s, 500ms, 5m; status 124", .key = "timeout" },
	{ 0, "boot-timeout", "TIME",
	  "how long the guest may take to start COMMAND, or\nnone; then 125; default: $MAYFLY_BOOT_TIMEOUT, or 30s",
	  .key = "boot_timeout" },
	{ 0, "boot", "HOW",
	  "auto, cold, or template: from a snapshot of a booted\nkernel in the cache, which a run with auto leaves\n"
	  "there; auto: template if there is one, else cold;\ndefault: $MAYFLY_BOOT, or auto",
	  .key = "boot" },
	{ 0, "forkable", NULL, "`mayfly clone NAME` shares the guest's memory instead\nof copying it; boots cold",
	  .key = "forkable", .fixed = "true" },
	{ 0, "snapshot", "DIR",
	  "end with a snapshot of the guest in DIR, when COMMAND\nhas ended with status 0, or --until says; then 0",
	  .key = "snapshot", .words = CLI_FILES },
	{ 0, "until", "WHEN", "ready (the default), a time such as 5s, or a text\nthat is printed; text=5s is a text",
	  .key = "until", .words = "ready" },
	{ 0, "io-engine", "HOW",
	  "ring (io_uring), sync (system calls), or auto: ring,\nor sync where the host forbids that; default: auto",
	  .key = "io_engine" },
	{ 0, "stop-signal", "SIG", "asks processes to end; default: IMAGE's, or TERM", .key = "stop_signal" },
	{ 0, "detach", NULL, "return when COMMAND runs, and print the VM's name;\n`mayfly logs` has its output",
	  .key = "detach", .fixed = "true" },
	{ 0, "log-max", "SIZE", "how much of that is kept; default: 2M", .key = "log_max" },
	{ 0, "rm", NULL, "forget the VM, and its log, when it has ended", .key = "rm", .fixed = "true" },
	{ 0, "config", "FILE", "read the options from JSON; those given here win,\ndrives are added",
	  .set = run_read_file, .first = true },
	{ 0, "dry-run", NULL, "print the configuration as JSON and exit", .key = "dry_run", .fixed = "true" },
	CLI_REPORT_OPTIONS,

	CLI_SAFETY_OPTIONS,

	CLI_MESSAGE_OPTIONS,
	{ 0 },
};

const struct cli_usage cli_run_usage = {
	.command = "run",
	.synopsis = "[options] [IMAGE | ROOT] [[--] COMMAND [ARG...]]",
	.about = "Boots a VM. With COMMAND it runs that in the guest, with this stdin, stdout and\n"
		 "stderr, and returns its status; without, its serial console is stdin and stdout.\n"
		 "IMAGE is the name of a container's image, and has a command of its own; a word\n"
		 "that begins with '/' or '.' is the path of a root, as that of -r.\n",
	.options = run_options,
	.operand = run_set_image,
	.operand_ends = true,
	.argument = cli_add_command_argument,
	.set_key = cli_set_config_key,
	.foreign = run_foreign,
};

int cli_parse_run(struct config *c, int argc, char **argv, struct err *e)
{
	const char *boot = getenv(CONFIG_BOOT_ENV);
	int r;

	if (boot && *boot && config_set(c, "boot", boot, e) < 0)
		return err_wrap(e, "$" CONFIG_BOOT_ENV);
	r = cli_parse(&cli_run_usage, c, argc, argv, e);
	if (r == 0)
		r = run_check_drives(c, e);
	if (r == 0)
		r = image_resolve(c, e);
	return r == 0 ? config_check(c, e) : r;
}
