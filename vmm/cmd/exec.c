/* `mayfly exec`: another command in a guest that runs one already. */
#include "vmm/cmd/exec.h"

#include <errno.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/log.h"
#include "vmm/base/report.h"
#include "vmm/base/result.h"
#include "vmm/base/util.h"
#include "vmm/cli/cli.h"
#include "vmm/cmd/session.h"
#include "vmm/cmd/vms.h"
#include "vmm/config/config.h"
#include "vmm/guest/init_text.h"
#include "vmm/guest/stdio_relay.h"
#include "vmm/process/ending.h"

struct exec_options {
	struct config config; /* only the command's keys, seccomp and result are used */
	struct session_params session;
};

static int exec_set_guest(void *target, const char *text, struct err *e)
{
	struct exec_options *o = target;

	if (!*text)
		return err_set(e, -EINVAL, "must not be empty");
	if (strlen(text) > CONFIG_CONTROL_MAX)
		return err_set(e, -EINVAL, "is longer than the %d bytes that a socket's name has", CONFIG_CONTROL_MAX);
	o->session.guest = text;
	return 0;
}

static int exec_set_key(void *target, const char *key, const char *text, struct err *e)
{
	return config_set(&((struct exec_options *)target)->config, key, text, e);
}

static int exec_set_wait(void *target, const char *text, struct err *e)
{
	return session_set_time(&((struct exec_options *)target)->session.wait_ms, text, e);
}

static int exec_set_timeout(void *target, const char *text, struct err *e)
{
	return session_set_time(&((struct exec_options *)target)->session.timeout_ms, text, e);
}

static int exec_add_argument(void *target, const char *text, struct err *e)
{
	return exec_set_key(target, "command", text, e);
}

static const struct cli_option exec_options[] = {
	{ .help = "Command" },
	CLI_COMMAND_OPTIONS,
	{ 0, "wait", "TIME", "wait until the guest takes commands, if it does not\nyet; default: for 30s",
	  .set = exec_set_wait, .fixed = "30s" },
	{ 0, "timeout", "TIME", "end it after TIME: 30s, 500ms, 5m; status 124", .set = exec_set_timeout },
	{ 0, "result", "FILE", "write why and how it ended to FILE, as JSON", .key = "result", .early = true,
	  .words = CLI_FILES },
	{ 'h', "help", NULL, "this text", .set = NULL },
	CLI_SAFETY_OPTIONS,
	{ 0 },
};

const struct cli_usage cli_exec_usage = {
	.command = "exec",
	.synopsis = "[options] NAME|PATH [--] COMMAND [ARG...]",
	.about = "Runs COMMAND in the guest of `mayfly run --name NAME`, or `--control PATH` (a\n"
		 "PATH has a slash), with this stdin, stdout and stderr, and returns its status.\n",
	.options = exec_options,
	.argument = exec_add_argument,
	.set_key = exec_set_key,
	.operand = exec_set_guest,
	.list_operands = vms_list,
};

/* In a signal handler that ends the process, too. */
static void exec_at_last(int status)
{
	result_set(END_FAILED, -1, 0); /* if nothing else has ended it */
	(void)result_end(status);      /* what fails here has no place to be reported */
}

/* The last that it does. Returns its exit status. */
static int exec_end(const char *result_file, int status)
{
	int r = result_end(status);

	if (r < 0)
		report_line("exec: result '%s': %s", result_file, strerror(-r));
	return r < 0 && status == STATUS_OK ? STATUS_FAILED : status;
}

int exec_command(int argc, char **argv)
{
	static struct exec_options o;
	static struct session x; /* its threads may run until the process ends */
	char size[STDIO_RELAY_TTY_TEXT_MAX];
	MF_FREE char *text = NULL;
	size_t len = 0;
	struct err e, late;
	int r;

	result_init();
	config_init(&o.config);
	r = cli_parse(&cli_exec_usage, &o, argc, argv, &e);
	if (r > 0)
		return STATUS_OK;
	if (r == 0 && !o.session.guest)
		r = err_set(&e, -EINVAL, "which guest? try 'mayfly exec --help'");
	if (r == 0 && !o.config.command.args.num)
		r = err_set(&e, -EINVAL, "no COMMAND; try 'mayfly exec --help'");
	if (o.config.result_file && result_open(o.config.result_file, r < 0 ? &late : &e) < 0)
		r = -EINVAL;
	ending_at_last(exec_at_last);
	if (r == 0) {
		log_set_thread("exec");
		config_complete_command(&o.config.command);
		o.session.tty = o.config.command.terminal;
		o.session.seccomp = o.config.seccomp;
		text = init_text_command(&o.config.command, o.session.tty ? stdio_relay_tty_text(size) : NULL, &len);
		r = text ? session_open(&x, &o.session, &e) : err_set(&e, -ENOMEM, "out of memory");
	}
	if (r == 0)
		r = session_run(&x, text, len, &e);
	session_note_end(&x, r);
	return exec_end(o.config.result_file, session_status(&x, r, &e, "exec"));
}
