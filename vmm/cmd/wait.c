/* `mayfly wait`: waits for the end of VMs, and has their status. */
#include "vmm/cmd/wait.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/cli/cli.h"
#include "vmm/cmd/vms.h"
#include "vmm/records/record.h"

static const struct cli_option wait_options[] = {
	{ 'h', "help", NULL, "this text", .set = NULL },
	{ 0 },
};

const struct cli_usage wait_usage = {
	.command = "wait",
	.synopsis = "NAME...",
	.about = "Waits until the VMs have ended, prints the exit status of each, and returns that of\n"
		 "the last. A VM that was killed has 137.\n\n",
	.options = wait_options,
	.operand = vms_add_name,
	.list_operands = vms_list,
};

/* The record is still open here, and has the status, even if its VM has removed it. */
static int wait_one(int dir, struct record *r, void *ctx, struct err *e)
{
	MF_CLOSE int pidfd = record_open_process(r, e);
	int *status = ctx, code;

	if (pidfd < 0 && pidfd != -ESRCH)
		return pidfd;
	while (pidfd >= 0 && !vms_await_end(pidfd, -1))
		;				     /* a signal that was handled */
	(void)record_settle(dir, r->name, END_LOST); /* what fails is done by another process */
	code = record_update(r);
	if (code < 0)
		return err_neg(e, code, "read its record");
	*status = record_status(r);
	printf("%d\n", *status);
	return 0;
}

int wait_command(int argc, char **argv)
{
	static struct vms v;
	struct err e;
	int status, last = STATUS_OK;

	if (vms_parse(&wait_usage, &v, argc, argv, &status) < 0)
		return status;
	status = vms_each(&v, NULL, wait_one, &last);
	if (cli_check_stdout(&e) < 0)
		return report_err(&e);
	return status ? status : last;
}
