/* `mayfly exec`: another command in a guest that runs one already. */
#include "vmm/cmd/exec.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/log.h"
#include "vmm/base/parse.h"
#include "vmm/base/printable.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/cli/cli.h"
#include "vmm/cmd/vms.h"
#include "vmm/config/config.h"
#include "vmm/guest/control.h"
#include "vmm/guest/guest_client.h"
#include "vmm/guest/init_text.h"
#include "vmm/guest/stdio_relay.h"
#include "vmm/process/confine.h"
#include "vmm/process/crash.h"
#include "vmm/process/ending.h"
#include "vmm/process/tty.h"

#define EXEC_TIME_MAX_MS (1000ULL * 3600 * 1000)
#define EXEC_GRACE_MS 600U /* from SIGTERM to SIGKILL, and from that until nothing is waited for */
#define END_MS 1000U	   /* for output that is not written when the command has ended */

struct exec_options {
	struct config config; /* only the command's keys and seccomp are used */
	const char *guest;    /* NAME or PATH, an argument of main; NULL: none was given */
	uint64_t wait_ms, timeout_ms;
};

static int exec_set_guest(void *target, const char *text, struct err *e)
{
	struct exec_options *o = target;

	if (!*text)
		return err_set(e, -EINVAL, "must not be empty");
	if (strlen(text) > CONFIG_CONTROL_MAX)
		return err_set(e, -EINVAL, "is longer than the %d bytes that a socket's name has", CONFIG_CONTROL_MAX);
	o->guest = text;
	return 0;
}

static int exec_set_key(void *target, const char *key, const char *text, struct err *e)
{
	return config_set(&((struct exec_options *)target)->config, key, text, e);
}

static int exec_set_time(uint64_t *ret_ms, const char *text, struct err *e)
{
	if (parse_duration(text, ret_ms) < 0 || !*ret_ms || *ret_ms > EXEC_TIME_MAX_MS)
		return err_set(e, -EINVAL, "must be a time of up to 1000h: 30s, 500ms, 5m, 1h30m");
	return 0;
}

static int exec_set_wait(void *target, const char *text, struct err *e)
{
	return exec_set_time(&((struct exec_options *)target)->wait_ms, text, e);
}

static int exec_set_timeout(void *target, const char *text, struct err *e)
{
	return exec_set_time(&((struct exec_options *)target)->timeout_ms, text, e);
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

struct exec {
	int fd, signal_fd;
	struct stdio_relay relay;
	struct confine confine;
	bool started, exited;
	unsigned status;
	/* The time limit: what is due next, and when by clock_now_ms; 0: there is none. */
	enum exec_limit { EXEC_TERM, EXEC_KILL, EXEC_LEAVE } limit;
	uint64_t due_ms;
	int passed;    /* the last request to end that the command got; 0: none */
	int ended_by;  /* a signal; 0: none */
	char *payload; /* of a message, INIT_COMMAND_MAX + 1 bytes */
};

static void exec_tell(struct exec *x, enum init_msg_type type, uint32_t value)
{
	const struct init_msg msg = { .type = type, .value = value };

	/* If the monitor has ended, the next receive reports it. */
	(void)send(x->fd, &msg, sizeof(msg), MSG_NOSIGNAL);
}

/*
 * Forwards a signal to the command. A second request to end is ours, as is the first one while the
 * guest has not started it, and when only its output is waited for. Returns 0, or -errno with e set.
 */
static int exec_take_signal(struct exec *x, struct err *e)
{
	int signo = ending_take(x->signal_fd);

	if (signo == SIGWINCH && x->relay.tty)
		exec_tell(x, INIT_MSG_SIZE, stdio_relay_tty_size());
	if (signo == 0 || signo == SIGWINCH || signo == SIGCHLD)
		return 0;
	if (signo == SIGCONT) {
		tty_again(x->relay.tty);
		return 0;
	}
	if (ending_is_cut() || ((x->exited || !x->started) && signo != SIGUSR1 && signo != SIGUSR2)) {
		x->ended_by = ending_status() ? -ending_status() : signo;
		return err_set(e, -EINTR, "ended by a signal (%s)", strsignal(x->ended_by));
	}
	exec_tell(x, INIT_MSG_SIGNAL, (uint32_t)signo);
	if (signo != SIGUSR1 && signo != SIGUSR2)
		x->passed = signo;
	return 0;
}

/* Returns 0, or -errno with e set if the monitor has ended. */
static int exec_take_message(struct exec *x, struct err *e)
{
	struct control_client monitor = { .fd = x->fd };
	struct init_msg msg;

	if (control_client_receive(&monitor, &msg, x->payload) < 0)
		return err_set(e, -EPIPE, "the guest has ended");
	x->started |= msg.type == INIT_MSG_STARTED;
	if (msg.type == INIT_MSG_STARTED && x->relay.tty)
		exec_tell(x, INIT_MSG_SIZE, stdio_relay_tty_size());
	if (msg.type != INIT_MSG_EXIT)
		return 0;
	x->exited = true;
	x->status = msg.value & 0xff;
	if (msg.len) {
		printable_guest(x->payload, INIT_COMMAND_MAX + 1, x->payload);
		report_line("%s", x->payload);
	}
	return 0;
}

/* Does what the time limit has due. Returns the timeout for poll(2), or -errno with e set. */
static int exec_check_limit(struct exec *x, struct err *e)
{
	uint64_t now_ms = x->due_ms ? clock_now_ms() : 0;

	if (!x->due_ms)
		return -1;
	if (now_ms >= x->due_ms) {
		if (x->limit == EXEC_LEAVE)
			return err_set(e, -ETIME, "the time limit has passed, and the command has not ended");
		exec_tell(x, INIT_MSG_SIGNAL, x->limit == EXEC_TERM ? SIGTERM : SIGKILL);
		x->limit++;
		x->due_ms = now_ms + EXEC_GRACE_MS;
	}
	return (int)MF_MIN(x->due_ms - now_ms, (uint64_t)INT_MAX);
}

static int exec_serve(struct exec *x, struct err *e)
{
	struct pollfd fds[] = {
		{ .fd = x->fd, .events = POLLIN },
		{ .fd = x->signal_fd, .events = POLLIN },
		{ .fd = x->relay.changed_fd, .events = POLLIN },
	};
	uint64_t count;

	while (!x->exited || !stdio_relay_is_done(&x->relay)) {
		int wait_ms = exec_check_limit(x, e);

		if (wait_ms < -1)
			return wait_ms;
		if (poll(fds, MF_ARRAY_SIZE(fds), wait_ms) < 0)
			continue; /* EINTR */
		if (fds[1].revents && exec_take_signal(x, e) < 0)
			return e->code;
		if (fds[2].revents && read(x->relay.changed_fd, &count, sizeof(count)) == sizeof(count)) {
			if (atomic_load(&x->relay.left))
				return err_set(e, -ECANCELED, "left by Ctrl-] three times; the command got SIGHUP");
			if (atomic_exchange(&x->relay.foreground, false))
				tty_again(x->relay.tty);
		}
		if (fds[0].revents && !x->exited && exec_take_message(x, e) < 0)
			return e->code;
		if (x->exited)
			fds[0].fd = -1;
	}
	return 0;
}

/* Runs on a thread of the command's streams. */
static int exec_on_pump(void *ctx, const struct stdio_relay_pump *pump, struct err *e)
{
	const struct exec *x = ctx;

	return stdio_relay_confine(pump, &x->confine, e);
}

/* Called when the threads of the streams run. */
static int exec_confine(const struct exec *x, struct err *e)
{
	struct confine_own own = CONFINE_OWN_NONE;

	own.own = x->fd;
	own.changed = x->relay.changed_fd;
	own.watch[0] = x->signal_fd;
	return confine_thread(&x->confine, THREAD_EXEC, &own, e);
}

static int exec_run(struct exec *x, const struct exec_options *o, struct err *e)
{
	const struct ending_kind kind = { .command = true };
	const struct config *c = &o->config;
	const bool tty = c->command.terminal;
	char size[STDIO_RELAY_TTY_TEXT_MAX];
	MF_FREE char *text = NULL;
	int streams[STDIO_RELAY_STREAMS], r;
	size_t len = 0;

	x->signal_fd = ending_setup(&kind, e);
	log_set_thread("exec");
	if (x->signal_fd < 0 || crash_setup(e) < 0 || seccomp_no_new_privs(e) < 0)
		return e->code;
	x->payload = malloc(INIT_COMMAND_MAX + 1);
	text = init_text_command(&c->command, tty ? stdio_relay_tty_text(size) : NULL, &len);
	if (!x->payload || !text)
		return err_set(e, -ENOMEM, "out of memory");
	confine_warn(c->seccomp);
	confine_init(&x->confine, c->seccomp);
	x->relay.guard = exec_on_pump;
	x->relay.ctx = x;
	x->fd = control_connect(o->guest, o->wait_ms, e);
	if (x->fd < 0 || control_request(x->fd, text, len, tty, streams, e) < 0)
		return e->code;
	x->due_ms = o->timeout_ms ? clock_now_ms() + o->timeout_ms : 0;
	tty_keep_group();
	if (tty)
		tty_raw(STDIN_FILENO);
	ending_serve();
	r = stdio_relay_start(&x->relay, tty, streams, e);
	if (!r)
		r = exec_confine(x, e);
	if (!r)
		r = exec_serve(x, e);
	/* A user who leaves does not wait for output, nor does the time limit. */
	stdio_relay_end(&x->relay, r == -EINTR || r == -ECANCELED || r == -ETIME ? 0 : END_MS);
	tty_restore();
	return r;
}

int exec_command(int argc, char **argv)
{
	static struct exec_options o;
	static struct exec x; /* its threads may run until the process ends */
	struct err e;
	int r;

	config_init(&o.config);
	r = cli_parse(&cli_exec_usage, &o, argc, argv, &e);
	if (r > 0)
		return STATUS_OK;
	if (r == 0 && !o.guest)
		r = err_set(&e, -EINVAL, "which guest? try 'mayfly exec --help'");
	if (r == 0 && !o.config.command.args.num)
		r = err_set(&e, -EINVAL, "no COMMAND; try 'mayfly exec --help'");
	if (r == 0) {
		config_complete_command(&o.config.command);
		r = exec_run(&x, &o, &e);
	}
	if (r < 0) {
		err_wrap(&e, "exec");
		(void)report_err(&e);
		if (r == -ETIME)
			return STATUS_TIMEOUT;
		return x.ended_by ? ending_status_of(-x.ended_by) : STATUS_FAILED;
	}
	if (x.limit != EXEC_TERM) {
		report_line("exec: the time limit has passed (%llu.%03llu s)", (unsigned long long)o.timeout_ms / 1000,
			    (unsigned long long)o.timeout_ms % 1000);
		return STATUS_TIMEOUT;
	}
	/* A signal that came to us, and ended the command, ends us, too: a shell's loop ends by SIGINT. */
	if (x.passed && x.status == (unsigned)(STATUS_SIGNAL_BASE + x.passed))
		return ending_status_of(-x.passed);
	return x.status == STATUS_OK && atomic_load(&x.relay.lost) ? STATUS_FAILED : (int)x.status;
}
