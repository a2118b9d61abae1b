/* `mayfly oci`: its command line, which is that of runc and crun, and its errors, which an engine reads from a file. */
#include "vmm/cmd/oci.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/fdio.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/cli/cli.h"
#include "vmm/cmd/oci_parts.h"

static int print_features(struct oci_options *o, struct err *e)
{
	(void)o;
	(void)e;
	printf("{\"ociVersionMin\": \"1.0.0\", \"ociVersionMax\": \"" SPEC_VERSION
	       "\", \"hooks\": [\"prestart\", \"createRuntime\", "
	       "\"createContainer\", \"poststart\", \"poststop\"], \"mountOptions\": "
	       "[\"bind\", \"rbind\", \"ro\", \"rw\", \"size\", \"mode\"], \"linux\": {\"namespaces\": [\"ipc\", "
	       "\"mount\", \"network\", \"pid\", \"uts\"], \"capabilities\": [], \"cgroup\": {\"v1\": false, \"v2\": "
	       "true, \"systemd\": true}, \"seccomp\": {\"enabled\": false}}}\n");
	return 0;
}

static const struct verb {
	const char *name;
	int (*run)(struct oci_options *o, struct err *e);
	bool has_id;
} verbs[] = {
	{ "create", oci_create, true }, { "start", oci_start, true },	{ "state", oci_state, true },
	{ "kill", oci_kill, true },	{ "delete", oci_delete, true }, { "exec", oci_exec, true },
	{ "pause", oci_pause, true },	{ "resume", oci_resume, true }, { "update", oci_update, true },
	{ "list", oci_list, false },	{ "ps", oci_ps, true },		{ "features", print_features, false },
};

/* The command, the container, and of kill the signal. */
static int set_word(void *target, const char *text, struct err *e)
{
	struct oci_options *o = target;
	const char **word = !o->verb ? &o->verb : !o->id ? &o->id : &o->signal;

	if (*word || (word == &o->signal && strcmp(o->verb, "kill") != 0))
		return err_set(e, -EINVAL, "unexpected argument '%.64s'", text);
	*word = text;
	return 0;
}

#define TEXT(member)                                                                                                   \
	static int set_##member(void *target, const char *text, struct err *e)                                         \
	{                                                                                                              \
		(void)e; /* any text */                                                                                \
		((struct oci_options *)target)->member = text;                                                         \
		return 0;                                                                                              \
	}

/* clang-format off */
TEXT(root) TEXT(log) TEXT(log_format) TEXT(bundle) TEXT(console_socket) TEXT(pid_file) TEXT(process) TEXT(resources) TEXT(format)
	/* clang-format on */

	/* What has nothing to act on: there is no pivot_root, no keyring, and no descriptor is passed on to a guest. */
	static int ignore(void *target, const char *text, struct err *e)
{
	(void)target;
	(void)text;
	(void)e;
	return 0;
}

#define FLAG(member) .flag = CLI_FLAG(struct oci_options, member)

static const struct cli_option oci_options[] = {
	{ .help = "For all" },
	{ 0, "root", "DIR", "where containers are kept; default: /run/mayfly-oci,\nor $XDG_RUNTIME_DIR/mayfly-oci-UID",
	  .set = set_root },
	{ 0, "log", "FILE", "append errors to FILE, too", .set = set_log, .early = true },
	{ 0, "log-format", "HOW", "text or json; default: text", .set = set_log_format, .early = true,
	  .words = "text json" },
	{ 0, "systemd-cgroup", NULL, "cgroupsPath is SLICE:PREFIX:NAME", FLAG(systemd_cgroup) },
	{ 0, "version", NULL, "print the version", FLAG(version) },
	{ 0, "debug", NULL, "accepted, without effect", .set = ignore, .fixed = "" },
	{ 'h', "help", NULL, "this text", .set = NULL },

	{ .help = "Of create and exec" },
	{ 'b', "bundle", "DIR", "the directory with config.json; default: this one", .set = set_bundle },
	{ 0, "console-socket", "PATH", "a socket that gets the terminal", .set = set_console_socket },
	{ 0, "pid-file", "FILE", "gets the process's id", .set = set_pid_file },
	{ 'p', "process", "FILE", "exec: the process, as config.json has it", .set = set_process },
	{ 'd', "detach", NULL, "exec: return when it was started", FLAG(detach) },
	{ 0, "no-pivot", NULL, "accepted, without effect", .set = ignore, .fixed = "" },
	{ 0, "no-new-keyring", NULL, "accepted, without effect", .set = ignore, .fixed = "" },

	{ .help = "Of others" },
	{ 'f', "force", NULL, "delete: kill it first; none is no error", FLAG(force) },
	{ 'a', "all", NULL, "kill: all processes, which SIGKILL does anyway", .set = ignore, .fixed = "" },
	{ 'r', "resources", "FILE", "update: limits, as config.json has them; -: stdin", .set = set_resources },
	{ 0, "format", "HOW", "ps: json or table; list: json, which it is anyway", .set = set_format,
	  .words = "json table" },
	{ 0 },
};

const struct cli_usage oci_usage = {
	.command = "oci",
	.synopsis = "[options] COMMAND [ID [SIGNAL]]",
	.about = "A runtime for container engines (OCI runtime-spec 1.1): each container is a VM.\n"
		 "As mayfly-oci it is called without 'oci'. COMMAND is one of\n"
		 "  create ID      boots the bundle's root, and holds its process\n"
		 "  start ID       runs it\n"
		 "  state ID       prints what it is, as JSON\n"
		 "  kill ID [SIG]  sends its process a signal; default: TERM\n"
		 "  delete ID      removes it when it has ended\n"
		 "  exec ID        runs another process in it\n"
		 "  ps ID          prints the monitor's process id: the guest's are in no list of this host\n"
		 "  pause, resume, update, list, features\n",
	.options = oci_options,
	.operand = set_word,
	.operands = "create start state kill delete exec pause resume update list ps features",
};

/* Engines read the last error from the log. What fails here is on stderr anyway. */
static void log_error_to_file(const struct oci_options *o, const struct err *why)
{
	MF_CLOSE int fd = open(o->log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
	json_t *json = json_pack("{s:s, s:s}", "level", "error", "msg", why->text);
	MF_FREE char *line = json && o->log_format && !strcmp(o->log_format, "json") ? json_dumps(json, JSON_COMPACT) :
										       NULL;

	json_decref(json);
	if (fd >= 0)
		(void)dprintf(fd, "%s\n", line ? line : why->text);
}

static const struct verb *find_verb(const struct oci_options *o, struct err *e)
{
	const struct verb *v = NULL;

	for (size_t i = 0; o->verb && i < MF_ARRAY_SIZE(verbs); i++)
		if (!strcmp(o->verb, verbs[i].name))
			v = &verbs[i];
	if (!v)
		err_set(e, -EINVAL, "oci: %s%s%s; try 'mayfly oci --help'",
			o->verb ? "unknown command '" : "no command", o->verb ? o->verb : "", o->verb ? "'" : "");
	else if (v->has_id && !o->id)
		err_set(e, -EINVAL, "oci: which container? %s needs an ID", v->name);
	else
		return v;
	return NULL;
}

int oci_command(int argc, char **argv)
{
	static struct oci_options o;
	const struct verb *v = NULL;
	struct err e = { 0 };
	int r;

	config_init(&o.config);
	r = cli_parse(&oci_usage, &o, argc, argv, &e);
	if (r > 0)
		return STATUS_OK;
	if (r == 0 && o.version) {
		printf("mayfly-oci version " MF_VERSION "\nspec: " SPEC_VERSION "\n");
		return cli_check_stdout(&e) < 0 ? report_err(&e) : STATUS_OK;
	}
	if (r == 0 && !o.root) {
		o.root = container_default_root();
		r = o.root ? 0 : err_set(&e, -ENOMEM, "out of memory");
	}
	if (r == 0)
		v = find_verb(&o, &e);
	r = v ? v->run(&o, &e) : -EINVAL;
	if (r >= 0 && cli_check_stdout(&e) < 0)
		r = e.code;
	if (r < 0 && o.log)
		log_error_to_file(&o, &e);
	return r < 0 ? report_err(&e) : r;
}
