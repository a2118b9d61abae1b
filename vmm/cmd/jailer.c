/* `mayfly jailer`: the options; see jailer.h. */
#include "vmm/cmd/jailer.h"

#include <stdio.h>

#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"

static int set_id(void *target, const char *text, struct err *e)
{
	return fcjailer_set_id(&((struct jailer_options *)target)->params, text, e);
}

static int set_exec_file(void *target, const char *text, struct err *e)
{
	return fcjailer_set_path(&((struct jailer_options *)target)->params.exec_file, text, e);
}

static int set_uid(void *target, const char *text, struct err *e)
{
	return fcjailer_set_uid(&((struct jailer_options *)target)->params, text, e);
}

static int set_gid(void *target, const char *text, struct err *e)
{
	return fcjailer_set_gid(&((struct jailer_options *)target)->params, text, e);
}

static int set_chroot_base(void *target, const char *text, struct err *e)
{
	return fcjailer_set_path(&((struct jailer_options *)target)->params.chroot_base, text, e);
}

static int set_netns(void *target, const char *text, struct err *e)
{
	return fcjailer_set_path(&((struct jailer_options *)target)->params.netns, text, e);
}

static int set_cgroup_version(void *target, const char *text, struct err *e)
{
	(void)target; /* there is one version */
	return fcjailer_check_cgroup_version(text, e);
}

static int set_parent(void *target, const char *text, struct err *e)
{
	return fcjailer_set_parent(&((struct jailer_options *)target)->params, text, e);
}

static int add_cgroup(void *target, const char *text, struct err *e)
{
	return fcjailer_add_cgroup(&((struct jailer_options *)target)->params, text, e);
}

static int add_limit(void *target, const char *text, struct err *e)
{
	return fcjailer_add_limit(&((struct jailer_options *)target)->params, text, e);
}

static int set_flag(bool *flag)
{
	*flag = true;
	return 0;
}

/* These three have no value, and cannot fail. */
static int set_daemonize(void *target, const char *text, struct err *e)
{
	(void)text;
	(void)e;
	return set_flag(&((struct jailer_options *)target)->params.daemonize);
}

static int set_new_pid_ns(void *target, const char *text, struct err *e)
{
	(void)text;
	(void)e;
	return set_flag(&((struct jailer_options *)target)->params.new_pid_ns);
}

static int set_version(void *target, const char *text, struct err *e)
{
	(void)text;
	(void)e;
	return set_flag(&((struct jailer_options *)target)->version);
}

/* clang-format off */
static const struct cli_option jailer_options[] = {
	{ 0, "id", "ID", "the jail's name: up to 64 letters, digits, '-'", .set = set_id },
	{ 0, "exec-file", "FILE", "the program, which must be static", .set = set_exec_file },
	{ 0, "uid", "N", "the user it runs as", .set = set_uid },
	{ 0, "gid", "N", "the group it runs as", .set = set_gid },
	{ 0, "chroot-base-dir", "DIR", "where jails are; default: /srv/jailer", .set = set_chroot_base,
	  .words = CLI_FILES },
	{ 0, "netns", "FILE", "the network namespace to join", .set = set_netns },
	{ 0, "daemonize", NULL, "as a session of its own, its streams /dev/null", .set = set_daemonize },
	{ 0, "new-pid-ns", NULL, "in a PID namespace of its own", .set = set_new_pid_ns },
	{ 0, "cgroup", "FILE=VALUE", "a limit, such as cpu.weight=10; repeatable", .set = add_cgroup,
	  .repeatable = true },
	{ 0, "cgroup-version", "N", "of control groups: 2", .set = set_cgroup_version, .words = "2" },
	{ 0, "parent-cgroup", "NAME", "above the jail's; default: the program's name", .set = set_parent },
	{ 0, "resource-limit", "NAME=N", "fsize (bytes of a file) or no-file (open files;\ndefault: 2048); repeatable",
	  .set = add_limit, .words = "fsize= no-file=", .repeatable = true },
	{ 0, "version", NULL, "print the version", .set = set_version },
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
