/* `mayfly kill`: sends VMs a signal, SIGKILL by default. */
#include "vmm/cmd/kill.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/parse.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/cli/cli.h"
#include "vmm/cmd/vms.h"
#include "vmm/records/record.h"

struct kill_options {
	struct vms vms;
	int signo;
};

/* Those that mayfly handles: another one would stop the monitor, or end it without a word. */
static const int signals[] = { SIGKILL, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 };

static int kill_set_signal(void *target, const char *text, struct err *e)
{
	struct kill_options *o = target;
	int signo = 0;

	(void)parse_signal(text, &signo); /* 0 is none of them */
	for (size_t i = 0; i < MF_ARRAY_SIZE(signals); i++) {
		if (signo == signals[i]) {
			o->signo = signo;
			return 0;
		}
	}
	return err_set(e, -EINVAL, "must be KILL, TERM, INT, HUP, QUIT, USR1 or USR2, or a number of these");
}

static const struct cli_option kill_options[] = {
	{ 's', "signal", "SIGNAL", "KILL, TERM, INT, HUP, QUIT, USR1 or USR2; default: KILL", .set = kill_set_signal,
	  .words = "KILL TERM INT HUP QUIT USR1 USR2" },
	{ 'h', "help", NULL, "this text", .set = NULL },
	{ 0 },
};

const struct cli_usage kill_usage = {
	.command = "kill",
	.synopsis = "[-s SIGNAL] NAME...",
	.about = "Sends SIGNAL to mayfly, and prints the names. KILL ends the VM at once; TERM and HUP\n"
		 "end it gently; INT, QUIT, USR1 and USR2 go to the command in the guest.\n\n",
	.options = kill_options,
	.operand = vms_add_name,
	.list_operands = vms_list,
};

static int kill_one(int dir, struct record *r, void *ctx, struct err *e)
{
	const struct kill_options *o = ctx;
	MF_CLOSE int pidfd = record_open_process(r, e);

	if (pidfd < 0)
		return pidfd;
	if (o->signo == SIGKILL && vms_kill(dir, r, e) < 0)
		return e->code;
	if (o->signo != SIGKILL && pidfd_send_signal(pidfd, o->signo, NULL, 0) < 0)
		return err_sys(e, "send the signal");
	printf("%s\n", r->name);
	return 0;
}

int kill_command(int argc, char **argv)
{
	static struct kill_options o; /* large, so it is set here: the binary has no copy */
	struct err e;
	int status;

	o.signo = SIGKILL;
	if (vms_parse(&kill_usage, &o, argc, argv, &status) < 0)
		return status;
	status = vms_each(&o.vms, NULL, kill_one, &o);
	return cli_check_stdout(&e) < 0 ? report_err(&e) : status;
}
