/* `mayfly rm`: removes the records and logs of VMs that have ended. */
#include "vmm/cmd/rm.h"

#include <errno.h>
#include <stdio.h>

#include "vmm/base/err.h"
#include "vmm/base/report.h"
#include "vmm/cli/cli.h"
#include "vmm/cmd/vms.h"
#include "vmm/records/record.h"

struct rm_options {
	struct vms vms;
	bool force;
};

static const struct cli_option rm_options[] = {
	{ 'f', "force", NULL, "kill a VM that runs", .flag = CLI_FLAG(struct rm_options, force) },
	{ 'h', "help", NULL, "this text", .set = NULL },
	{ 0 },
};

const struct cli_usage rm_usage = {
	.command = "rm",
	.synopsis = "[-f] NAME...",
	.about = "Removes what is kept of VMs that have ended, and their logs. Prints their names.\n\n",
	.options = rm_options,
	.operand = vms_add_name,
	.list_operands = vms_list,
};

static int rm_one(int dir, struct record *r, void *ctx, struct err *e)
{
	const struct rm_options *o = ctx;
	int code;

	if (r->alive && o->force && vms_kill(dir, r, e) < 0)
		return e->code;
	code = record_remove(dir, r->name);
	if (code == -EBUSY)
		return err_set(e, code, "it runs: stop it first (mayfly stop %s), or add -f", r->name);
	if (code < 0 && code != -ENOENT)
		return err_neg(e, code, "remove its record");
	printf("%s\n", r->name);
	return 0;
}

int rm_command(int argc, char **argv)
{
	static struct rm_options o;
	struct err e;
	int status;

	if (vms_parse(&rm_usage, &o, argc, argv, &status) < 0)
		return status;
	status = vms_each(&o.vms, NULL, rm_one, &o);
	return cli_check_stdout(&e) < 0 ? report_err(&e) : status;
}
