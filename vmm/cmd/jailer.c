/* `mayfly jailer`: the options; see jailer.h. */
#include "vmm/cmd/jailer.h"

#include <stdio.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"

/* A key is an option's name. */
static int jailer_set(void *target, const char *key, const char *text, struct err *e)
{
	struct jailer_options *o = target;

	if (!strcmp(key, "version")) {
		o->version = true;
		return 0;
	}
	return fcjailer_set(&o->params, key, text, e);
}

/* clang-format off */
static const struct cli_option jailer_options[] = {
	{ 0, "id", "ID", "the jail's name: up to 64 letters, digits, '-'", .key = "id" },
	{ 0, "exec-file", "FILE", "the program, which must be static", .key = "exec-file" },
	{ 0, "uid", "N", "the user it runs as", .key = "uid" },
	{ 0, "gid", "N", "the group it runs as", .key = "gid" },
	{ 0, "chroot-base-dir", "DIR", "where jails are; default: /srv/jailer", .key = "chroot-base-dir",
	  .words = CLI_FILES },
	{ 0, "netns", "FILE", "the network namespace to join", .key = "netns" },
	{ 0, "daemonize", NULL, "as a session of its own, its streams /dev/null", .key = "daemonize" },
	{ 0, "new-pid-ns", NULL, "in a PID namespace of its own", .key = "new-pid-ns" },
	{ 0, "cgroup", "FILE=VALUE", "a limit, such as cpu.weight=10; repeatable", .key = "cgroup",
	  .repeatable = true },
	{ 0, "cgroup-version", "N", "of control groups: 2", .key = "cgroup-version", .words = "2" },
	{ 0, "parent-cgroup", "NAME", "above the jail's; default: the program's name", .key = "parent-cgroup" },
	{ 0, "resource-limit", "NAME=N", "fsize (bytes of a file) or no-file (open files;\ndefault: 2048); repeatable",
	  .key = "resource-limit", .words = "fsize= no-file=", .repeatable = true },
	{ 0, "version", NULL, "print the version", .key = "version" },
	{ 0, "help", NULL, "this text", .set = NULL },
	{ 0 },
};
/* clang-format on */

const struct cli_usage jailer_usage = {
	.command = "jailer",
	.synopsis = "--id ID --exec-file FILE --uid N --gid N [...] [-- ARG...]",
	.about = "Runs a static program as a user without privileges, in a directory as its root,\n"
		 "DIR/PROGRAM/ID/root, with the options of Firecracker's jailer. ARGs are the\n"
		 "program's. Also run if mayfly is called as 'jailer'. Must be started by root.\n"
		 "The first four options must be given.\n\n",
	.options = jailer_options,
	.set_key = jailer_set,
};

int jailer_parse(struct jailer_options *o, int argc, char **argv, struct err *e)
{
	int rest, r = cli_parse_strict(&jailer_usage, o, argc, argv, &rest, e);

	if (r != 0 || o->version)
		return r;
	o->params.extra = argv + rest;
	o->params.num_extra = (unsigned)(argc - rest);
	return fcjailer_check(&o->params, e);
}

int jailer_command(int argc, char **argv)
{
	struct jailer_options o = { .version = false };
	struct err e;
	int r;

	fcjailer_init(&o.params);
	r = jailer_parse(&o, argc, argv, &e);
	if (r == 0 && o.version) {
		printf("mayfly %s\n", MF_VERSION);
		r = cli_check_stdout(&e);
	} else if (r == 0) {
		r = fcjailer_run(&o.params, &e);
	}
	fcjailer_done(&o.params);
	return r < 0 ? report_err(&e) : STATUS_OK;
}
