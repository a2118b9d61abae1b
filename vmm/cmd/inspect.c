/* `mayfly inspect`: all that is known of VMs, as JSON. */
#include "vmm/cmd/inspect.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/cli/cli.h"
#include "vmm/cmd/look.h"
#include "vmm/cmd/vms.h"
#include "vmm/records/record.h"

struct inspect_options {
	struct vms vms;
	bool json; /* which it is without the option, too */
};

static const struct cli_option inspect_options[] = {
	{ 0, "json", NULL, "print JSON, as without this option", .flag = CLI_FLAG(struct inspect_options, json) },
	{ 'h', "help", NULL, "this text", .set = NULL },
	{ 0 },
};

const struct cli_usage inspect_usage = {
	.command = "inspect",
	.synopsis = "NAME|PATH...",
	.about = "Prints what is known of a VM, as JSON: its record; and while it runs, with a COMMAND,\n"
		 "its configuration, the steps of its start, and what its devices have done. PATH is\n"
		 "that of `mayfly run --control PATH`, and has a slash.\n\n",
	.options = inspect_options,
	.operand = vms_add_name,
	.list_operands = vms_list,
};

/* Adds what the VM says. Returns 0 or -errno with e set. */
static int add_look(json_t *to, const char *target, struct err *e)
{
	struct look l;
	int r = look_at(&l, target, e);

	if (r == 0) {
		(void)json_object_update_missing(to, l.info); /* a member that is missing is no loss */
		if (l.config)
			(void)json_object_set(to, "config", l.config);
		if (l.pid)
			(void)json_object_set_new(to, "vm_pid", json_integer(l.pid));
	}
	look_done(&l);
	return r;
}

static int inspect_record(const char *name, json_t *to, struct err *e)
{
	const char *control;
	struct record r;
	struct err ignored;

	if (record_find(name, &r, e) < 0)
		return e->code;
	(void)json_object_update(to, r.json); /* as above */
	control = record_text(&r, "control");
	/* One that has no control socket, or ends just now, has its record. */
	if (r.alive && control)
		(void)add_look(to, control, &ignored);
	record_done(&r);
	return 0;
}

static int inspect_one(const char *target, struct err *e)
{
	json_t *json = json_object();
	int r = strchr(target, '/') ? add_look(json, target, e) : inspect_record(target, json, e);

	if (r == 0 && json_dumpf(json, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(15) | JSON_ENSURE_ASCII) < 0)
		r = err_set(e, -EIO, "print it");
	if (r == 0)
		printf("\n");
	json_decref(json);
	return r < 0 ? r : cli_check_stdout(e);
}

int inspect_command(int argc, char **argv)
{
	static struct inspect_options o;
	const struct vms *v = &o.vms;
	int status = STATUS_OK;
	struct err e;

	if (vms_parse(&inspect_usage, &o, argc, argv, &status) < 0)
		return status;
	for (unsigned i = 0; i < v->num; i++) {
		if (inspect_one(v->name[i], &e) == 0)
			continue;
		err_wrap(&e, "inspect '%s'", v->name[i]);
		status = report_err(&e);
	}
	return status;
}
