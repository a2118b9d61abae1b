/* A session with a command in a guest; see session.h. */
#include "vmm/cmd/session.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
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
#include "vmm/base/result.h"
#include "vmm/base/util.h"
#include "vmm/guest/control.h"
#include "vmm/process/crash.h"
#include "vmm/process/ending.h"
#include "vmm/process/tty.h"

#define SESSION_TIME_MAX_MS (1000ULL * 3600 * 1000)
#define SESSION_GRACE_MS 600U /* from SIGTERM to SIGKILL, and from that until nothing is waited for */
#define SESSION_END_MS 1000U  /* for output that is not written when the command has ended */

static void session_tell(struct session *x, enum init_msg_type type, uint32_t value)
{
	const struct init_msg msg = { .type = type, .value = value };

	/* If the monitor has ended, the next receive reports it. */
	(void)send(x->fd, &msg, sizeof(msg), MSG_NOSIGNAL);
}

/*
 * Forwards a signal to the command. A second request to end is ours, as is the first one while the
 * guest has not started it, and when only its output is waited for. Returns 0, or -errno with e set.
 */
static int session_take_signal(struct session *x, struct err *e)
{
	int signo = ending_take(x->signal_fd);

	if (signo == SIGWINCH && x->relay.tty)
		session_tell(x, INIT_MSG_SIZE, stdio_relay_tty_size());
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
	session_tell(x, INIT_MSG_SIGNAL, (uint32_t)signo);
	if (signo != SIGUSR1 && signo != SIGUSR2)
		x->passed = signo;
	return 0;
}

/* Returns 0, or -errno with e set if the monitor has ended. */
static int session_take_message(struct session *x, struct err *e)
{
	struct control_client monitor = { .fd = x->fd };
	struct init_msg msg;

	if (control_client_receive(&monitor, &msg, x->payload) < 0)
		return err_set(e, -EPIPE, "the guest has ended");
	x->started |= msg.type == INIT_MSG_STARTED;
	if (msg.type == INIT_MSG_STARTED)
		result_at(RESULT_COMMAND);
	if (msg.type == INIT_MSG_STARTED && x->relay.tty)
		session_tell(x, INIT_MSG_SIZE, stdio_relay_tty_size());
	if (msg.type != INIT_MSG_EXIT)
		return 0;
	x->exited = true;
	x->status = msg.value & 0xff;
	x->signalled = msg.flags & INIT_SIGNALLED;
	x->oom = msg.flags & INIT_OOM;
	if (msg.len) {
		printable_guest(x->payload, INIT_COMMAND_MAX + 1, x->payload);
		report_line("%s", x->payload);
	}
	return 0;
}

/* Does what the time limit has due. Returns the timeout for poll(2), or -errno with e set. */
static int session_check_limit(struct session *x, struct err *e)
{
	uint64_t now_ms = x->due_ms ? clock_now_ms() : 0;

	if (!x->due_ms)
		return -1;
	if (now_ms >= x->due_ms) {
		if (x->limit == SESSION_LEAVE)
			return err_set(e, -ETIME, "the time limit has passed, and the command has not ended");
		session_tell(x, INIT_MSG_SIGNAL, x->limit == SESSION_TERM ? SIGTERM : SIGKILL);
		x->limit++;
		x->due_ms = now_ms + SESSION_GRACE_MS;
	}
	return (int)MF_MIN(x->due_ms - now_ms, (uint64_t)INT_MAX);
}

static int session_serve(struct session *x, struct err *e)
{
	struct pollfd fds[] = {
		{ .fd = x->fd, .events = POLLIN },
		{ .fd = x->signal_fd, .events = POLLIN },
		{ .fd = x->relay.changed_fd, .events = POLLIN },
	};
	uint64_t count;

	while (!x->exited || !stdio_relay_is_done(&x->relay)) {
		int wait_ms = session_check_limit(x, e);

		if (wait_ms < -1)
			return wait_ms;
		if (poll(fds, MF_ARRAY_SIZE(fds), wait_ms) < 0)
			continue; /* EINTR */
		if (fds[1].revents && session_take_signal(x, e) < 0)
			return e->code;
		if (fds[2].revents && read(x->relay.changed_fd, &count, sizeof(count)) == sizeof(count)) {
			if (atomic_load(&x->relay.left))
				return err_set(e, -ECANCELED, "left by Ctrl-] three times; the command got SIGHUP");
			if (atomic_exchange(&x->relay.foreground, false))
				tty_again(x->relay.tty);
		}
		if (fds[0].revents && !x->exited && session_take_message(x, e) < 0)
			return e->code;
		if (x->exited)
			fds[0].fd = -1;
	}
	return 0;
}

/* Runs on a thread of the command's streams. */
static int session_on_thread(void *ctx, const struct stdio_relay_thread *thread, struct err *e)
{
	const struct session *x = ctx;

	return stdio_relay_confine(thread, &x->confine, e);
}

/* Called when the threads of the streams run. */
static int session_confine(const struct session *x, struct err *e)
{
	struct confine_own own = CONFINE_OWN_NONE;

	own.own = x->fd;
	own.changed = x->relay.changed_fd;
	own.watch[0] = x->signal_fd;
	return confine_thread(&x->confine, THREAD_EXEC, &own, e);
}

int session_set_time(uint64_t *ret_ms, const char *text, struct err *e)
{
	if (parse_duration(text, ret_ms) < 0 || !*ret_ms || *ret_ms > SESSION_TIME_MAX_MS)
		return err_set(e, -EINVAL, "must be a time of up to 1000h: 30s, 500ms, 5m, 1h30m");
	return 0;
}

int session_open(struct session *x, const struct session_params *p, struct err *e)
{
	const struct ending_kind kind = { .command = true };

	*x = (struct session){ .params = p, .fd = -1 };
	x->signal_fd = ending_setup(&kind, e);
	if (x->signal_fd < 0 || crash_setup(e) < 0 || seccomp_no_new_privs(e) < 0)
		return e->code;
	x->payload = malloc(INIT_COMMAND_MAX + 1);
	if (!x->payload)
		return err_set(e, -ENOMEM, "out of memory");
	confine_warn(p->seccomp);
	x->relay.guard = session_on_thread;
	x->relay.ctx = x;
	x->fd = control_connect(p->guest, p->wait_ms, e);
	return x->fd < 0 ? x->fd : 0;
}

int session_run(struct session *x, const char *text, size_t len, struct err *e)
{
	const struct session_params *p = x->params;
	int streams[STDIO_RELAY_STREAMS], r;

	confine_init(&x->confine, p->seccomp);
	if (control_request(x->fd, text, len, p->tty, streams, e) < 0)
		return e->code;
	if (p->told_fd)
		(void)!write(p->told_fd, "", 1); /* if nobody waits for it, nobody misses it */
	if (p->no_errors) {
		close(streams[2]);
		streams[2] = open("/dev/null", O_RDONLY | O_CLOEXEC); /* or -1, which is at its end, too */
	}
	x->due_ms = p->timeout_ms ? clock_now_ms() + p->timeout_ms : 0;
	tty_keep_group();
	if (p->tty)
		tty_raw(STDIN_FILENO);
	ending_serve();
	r = stdio_relay_start(&x->relay, p->tty, streams, e);
	if (!r)
		r = session_confine(x, e);
	if (!r)
		r = session_serve(x, e);
	/* A user who leaves does not wait for output, nor does the time limit. */
	stdio_relay_end(&x->relay, r == -EINTR || r == -ECANCELED || r == -ETIME ? 0 : SESSION_END_MS);
	tty_restore();
	return r;
}

void session_note_end(const struct session *x, int r)
{
	const int status = (int)x->status;

	if (r == -ETIME || (r == 0 && x->limit != SESSION_TERM))
		result_set(END_TIMEOUT, -1, 0);
	else if (r == -ECANCELED)
		result_set(END_USER, -1, 0);
	else if (r < 0)
		result_set(x->ended_by ? END_SIGNAL : END_FAILED, -1, x->ended_by);
	else
		result_set_command(status, x->signalled, x->oom,
				   status == STATUS_SIGNAL_BASE + x->passed ? x->passed : 0);
}

int session_status(const struct session *x, int r, struct err *e, const char *command)
{
	if (r < 0) {
		err_wrap(e, "%s", command);
		(void)report_err(e);
		if (r == -ETIME)
			return STATUS_TIMEOUT;
		return x->ended_by ? ending_status_of(-x->ended_by) : STATUS_FAILED;
	}
	if (x->limit != SESSION_TERM) {
		report_line("%s: the time limit has passed (%llu.%03llu s)", command,
			    (unsigned long long)x->params->timeout_ms / 1000,
			    (unsigned long long)x->params->timeout_ms % 1000);
		return STATUS_TIMEOUT;
	}
	/* A signal that came to us, and ended the command, ends us, too: a shell's loop ends by SIGINT. */
	if (x->passed && x->status == (unsigned)(STATUS_SIGNAL_BASE + x->passed))
		return ending_status_of(-x->passed);
	return x->status == STATUS_OK && atomic_load(&x->relay.lost) ? STATUS_FAILED : (int)x->status;
}
