/* `mayfly stop`: ends VMs gently, and after a time, by SIGKILL. */
#include "vmm/cmd/stop.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/parse.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/cli/cli.h"
#include "vmm/cmd/vms.h"
#include "vmm/records/record.h"

#define STOP_MS 10000U

struct stop_options {
	struct vms vms;
	uint64_t ms;
};

static int stop_set_time(void *target, const char *text, struct err *e)
{
	struct stop_options *o = target;

	if (parse_duration(text, &o->ms) < 0 || o->ms > INT_MAX)
		return err_set(e, -EINVAL, "must be a time such as 10, 500ms or 1m; 0 kills at once");
	return 0;
}

static const struct cli_option stop_options[] = {
	{ 't', "time", "TIME", "wait that long, then kill it; default: 10s", .set = stop_set_time },
	{ 'h', "help", NULL, "this text", .set = NULL },
	{ 0 },
};

const struct cli_usage stop_usage = {
	.command = "stop",
	.synopsis = "[-t TIME] NAME...",
	.about = "Ends VMs as SIGTERM does: the guest's processes get SIGTERM and a moment to end.\n"
		 "Returns when they have ended, and prints their names.\n\n",
	.options = stop_options,
	.operand = vms_add_name,
	.list_operands = vms_list,
};

/* Asks all of them, before any is waited for. One that has ended is stopped. */
static int stop_begin(int dir, struct record *r, void *ctx, struct err *e)
{
	const struct stop_options *o = ctx;
	MF_CLOSE int pidfd = record_open_process(r, e);

	(void)dir;
	if (pidfd < 0)
		return pidfd == -ESRCH ? 0 : pidfd;
	if (o->ms && pidfd_send_signal(pidfd, SIGTERM, NULL, 0) < 0 && errno != ESRCH)
		return err_sys(e, "send SIGTERM");
	return 0;
}

static int stop_finish(int dir, struct record *r, void *ctx, struct err *e)
{
	const struct stop_options *o = ctx;
	MF_CLOSE int pidfd = record_open_process(r, e);

	if (pidfd < 0 && pidfd != -ESRCH)
		return pidfd;
	if (pidfd >= 0 && !vms_await_end(pidfd, (int)o->ms) && vms_kill(dir, r, e) < 0)
		return e->code;
	printf("%s\n", r->name);
	return 0;
}

int stop_command(int argc, char **argv)
{
	static struct stop_options o; /* large, so it is set here: the binary has no copy */
	struct err e;
	int status;

	o.ms = STOP_MS;
	if (vms_parse(&stop_usage, &o, argc, argv, &status) < 0)
		return status;
	status = vms_each(&o.vms, stop_begin, stop_finish, &o);
	return cli_check_stdout(&e) < 0 ? report_err(&e) : status;
}
