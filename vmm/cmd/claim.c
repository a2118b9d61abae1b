/*
 * The client of a pool; see claim.h, and vmm/pool/claim.h for what is sent.
 *
 * The VM has this process's streams, so there is nothing to do but to pass signals on, and to wait for the status. A pool that
 * is not there, or has no member, is no failure: a plain clone takes this process's place, and one line says so.
 */
#include "vmm/cmd/claim.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/report.h"
#include "vmm/base/signals.h"
#include "vmm/base/unix_socket.h"
#include "vmm/base/util.h"
#include "vmm/cmd/claim_files.h"
#include "vmm/cmd/member_claim.h"
#include "vmm/pool/claim.h"
#include "vmm/process/ending.h"

#define TRIES 3	      /* members that end before they take the claim */
#define TAKEN_MS 5000 /* for the pool, and the member, to answer */

struct client {
	const struct claim_params *params;
	struct pool_claim claim;
	struct claim_files files;
	int signal_fd;
	sigset_t old_mask;
	bool is_tty;
	struct termios mode; /* of the terminal; the member changes it */
};

enum outcome { ABSENT, SILENT, EMPTY, LOST, OVER };

/* "--env=NAME" means the value that it has here. One that is not set is left out. */
static int add_option(struct pool_claim *c, const char *option, struct err *e)
{
	const char *name = option + strlen("--env="), *value;
	MF_FREE char *whole = NULL;

	if (strncmp(option, "--env=", strlen("--env=")) != 0 || strchr(name, '='))
		return pool_claim_add(c, POOL_OPTIONS, option, e);
	value = getenv(name);
	if (!value)
		return 0;
	if (asprintf(&whole, "%s=%s", option, value) < 0) {
		whole = NULL; /* asprintf leaves it undefined */
		return err_set(e, -ENOMEM, "out of memory");
	}
	return pool_claim_add(c, POOL_OPTIONS, whole, e);
}

static int add_options(struct client *x, enum pool_part part, struct err *e)
{
	const struct words *o = x->params->options;
	struct pool_claim *c = &x->claim;
	int r = 0;

	for (unsigned i = 0; i < o->num && !r; i++) {
		const char *option = o->word[i];

		if (pool_whose_option(option) == POOL_WITH_FILE)
			r = claim_files_add(&x->files, c, part, option, e);
		if (part == POOL_OPTIONS && !strcmp(option, "--console"))
			c->extras |= POOL_COLD;
		if (part == POOL_OPTIONS && pool_whose_option(option) == POOL_OF_CLAIM)
			r = add_option(c, option, e);
		if (part == POOL_SHARED && pool_whose_option(option) == POOL_OF_POOL)
			r = pool_claim_add(c, POOL_SHARED, option, e);
		if (pool_whose_option(option) == POOL_OF_NOBODY)
			r = err_set(e, -EINVAL, "%.40s is not for VMs of a pool", option);
	}
	return r;
}

static int make_claim(struct client *x, struct err *e)
{
	const struct claim_params *p = x->params;
	struct pool_claim *c = &x->claim;
	char text[POOL_IDENTITY_MAX], name[128];
	int r = pool_claim_init(c) < 0 ? err_set(e, -ENOMEM, "out of memory") : 0;

	for (int i = 0; i < POOL_STREAMS; i++)
		c->fd[c->num_fds++] = i;
	/* Without a snapshot there, a plain clone says what is missing. */
	if (!r && p->dir && pool_identity(text, p->dir) == 0)
		r = pool_claim_add(c, POOL_FROM, text, e);
	if (!r)
		r = add_options(x, POOL_SHARED, e);
	if (!r)
		r = add_options(x, POOL_OPTIONS, e);
	snprintf(name, sizeof(name), "--name=%.100s", p->name ? p->name : "");
	if (!r && p->name)
		r = pool_claim_add(c, POOL_OPTIONS, name, e);
	for (unsigned part = POOL_DRIVES; part <= POOL_VSOCK && !r; part++)
		r = add_options(x, part, e);
	if (!p->command->num)
		c->extras |= POOL_COLD;
	for (unsigned i = 0; i < p->command->num && !r; i++)
		r = pool_claim_add(c, POOL_COMMAND, p->command->word[i], e);
	return r;
}

/* A plain clone: with our options alone, or with those of a pool that is empty. */
static int clone_plainly(struct client *x, const struct pool_claim *of_pool, struct err *e)
{
	const struct pool_claim *shared = of_pool ? of_pool : &x->claim;
	const char *dir = of_pool ? pool_claim_part(of_pool, POOL_FROM)[0] : x->params->dir;
	static struct words w;
	int r = words_add(&w, "mayfly", e) < 0 ? e->code : words_add(&w, "restore", e);

	for (unsigned i = 0; i < shared->num[POOL_SHARED] && !r; i++)
		r = words_add(&w, pool_claim_part(shared, POOL_SHARED)[i], e);
	if (!r)
		r = member_claim_words(&w, &x->claim, dir, e);
	if (r < 0)
		return r;
	claim_files_done(&x->files);			    /* that VM makes its own */
	(void)sigprocmask(SIG_SETMASK, &x->old_mask, NULL); /* cannot fail */
	(void)execv("/proc/self/exe", w.word);
	return err_sys(e, "start 'mayfly restore'");
}

/* The pool has said that it has no VM, and why, unless it is empty. It says now what a client does by itself. */
static int clone_of_pool(struct client *x, int fd, const char *why, struct err *e)
{
	struct pool_claim plain;
	char now[POOL_IDENTITY_MAX];
	const char *other;
	int r = pool_claim_init(&plain) < 0 ? err_set(e, -ENOMEM, "out of memory") :
					      pool_claim_receive(fd, &plain, 0, e);

	if (r < 0)
		return r;
	if (r == 0 || plain.num[POOL_FROM] != 1)
		return err_set(e, -EPROTO, "it does not say of which snapshot it is");
	other = pool_claim_differs(&x->claim, POOL_SHARED, pool_claim_part(&plain, POOL_SHARED),
				   plain.num[POOL_SHARED]);
	if (other)
		return err_set(e, -EINVAL, "the pool was not started with %.100s", other);
	if (x->claim.num[POOL_FROM] && (pool_identity(now, pool_claim_part(&plain, POOL_FROM)[0]) < 0 ||
					strcmp(now, pool_claim_part(&x->claim, POOL_FROM)[0]) != 0))
		return err_set(e, -EINVAL, "the pool is of another snapshot, '%s'",
			       pool_claim_part(&plain, POOL_FROM)[0]);
	report_line("the pool at '%s' %s: a plain clone", x->params->pool, *why ? why : "is empty");
	return clone_plainly(x, &plain, e);
}

/* Returns the signal that has come, or 0. */
static int take_signal(const struct client *x)
{
	struct signalfd_siginfo info;

	return read(x->signal_fd, &info, sizeof(info)) == sizeof(info) ? (int)info.ssi_signo : 0;
}

/*
 * Waits until it is said who serves the claim. Nobody does so far, whom a signal could be passed on to: one that asks for the end
 * ends this process, and a member that has just taken the claim sees that. Returns 1; 0 if the other side has gone; -EINTR, with
 * *ret_signo set; -ETIMEDOUT; or -EPROTO.
 */
static int await_taker(const struct client *x, int fd, struct pool_answer *ret, int *ret_signo)
{
	struct pollfd fds[] = { { .fd = fd, .events = POLLIN }, { .fd = x->signal_fd, .events = POLLIN } };
	const uint64_t end_ms = clock_now_ms() + TAKEN_MS;
	uint64_t now_ms;

	while ((now_ms = clock_now_ms()) < end_ms) {
		int n = poll(fds, MF_ARRAY_SIZE(fds), (int)(end_ms - now_ms)), r;

		if (n > 0 && fds[1].revents) {
			*ret_signo = take_signal(x);
			if (ending_is_request(*ret_signo))
				return -EINTR;
		}
		if (n > 0 && fds[0].revents && (r = pool_answer_receive(fd, ret)) != -EINTR)
			return r;
	}
	return -ETIMEDOUT;
}

/* Waits for the end of the VM, and passes signals on. Returns 1; 0 if the other side has gone; or -EPROTO. */
static int await_end(const struct client *x, int fd, struct pool_answer *ret)
{
	struct pollfd fds[] = { { .fd = fd, .events = POLLIN }, { .fd = x->signal_fd, .events = POLLIN } };
	int r = -EINTR;
	uint8_t number;

	while (r == -EINTR) {
		if (poll(fds, MF_ARRAY_SIZE(fds), -1) < 0)
			continue;
		/* A VM that has ended takes none, and has sent its status. */
		if (fds[1].revents && (number = (uint8_t)take_signal(x)))
			(void)send(fd, &number, sizeof(number), MSG_NOSIGNAL);
		if (fds[0].revents)
			r = pool_answer_receive(fd, ret);
	}
	return r;
}

static enum outcome claim_once(struct client *x, int *ret_status, struct err *e)
{
	MF_CLOSE int fd = unix_socket_connect(x->params->pool, SOCK_SEQPACKET);
	struct pool_answer a;
	int r, signo;

	*ret_status = STATUS_FAILED;
	if (fd < 0)
		return ABSENT;
	r = pool_claim_send(fd, &x->claim, e);
	if (r < 0 && r != -EPIPE && r != -ECONNRESET) /* an empty pool answers at once, and hangs up */
		return OVER;
	e->code = 0;
	r = await_taker(x, fd, &a, &signo);
	if (r == 0)
		return LOST;
	if (r == -ETIMEDOUT)
		return SILENT;
	if (r == -EINTR) {
		*ret_status = -signo;
		return OVER;
	}
	if (r > 0 && a.type == POOL_EMPTY) {
		(void)fcntl(fd, F_SETFL, 0); /* cannot fail: what follows is waited for */
		clone_of_pool(x, fd, a.text, e);
		return EMPTY;
	}
	if (r > 0 && a.type == POOL_REFUSED)
		err_set(e, -EINVAL, "%s", a.text);
	else if (r < 0 || a.type != POOL_TAKEN)
		err_set(e, -EPROTO, "what it answers is no answer of a pool");
	if (r < 0 || a.type != POOL_TAKEN)
		return OVER;
	e->code = 0;
	for (unsigned i = POOL_STREAMS; i < x->claim.num_fds; i++)
		close(x->claim.fd[i]); /* the VM's alone */
	if (await_end(x, fd, &a) == 1 && a.type == POOL_ENDED) {
		*ret_status = MF_MAX(a.value, -(NSIG - 1));
	} else {
		report_line("the VM of the pool was killed");
		*ret_status = STATUS_SIGNAL_BASE + SIGKILL;
	}
	return OVER;
}

static int begin(struct client *x, struct err *e)
{
	static const int passed[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT };

	if (strlen(x->params->pool) > UNIXNAME_MAX)
		return err_set(e, -ENAMETOOLONG, "must be 1 to %d bytes long", UNIXNAME_MAX);
	if (make_claim(x, e) < 0)
		return e->code;
	x->is_tty = tcgetattr(STDIN_FILENO, &x->mode) == 0;
	x->signal_fd = signals_open(passed, MF_ARRAY_SIZE(passed), &x->old_mask);
	return x->signal_fd < 0 ? err_neg(e, x->signal_fd, "make a signalfd") : 0;
}

/* The member has set it, and may have been killed. */
static void restore_terminal(const struct client *x)
{
	if (x->is_tty && tcgetpgrp(STDIN_FILENO) == getpgrp())
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &x->mode); /* a terminal that has hung up needs none */
}

int claim_run(const struct claim_params *p)
{
	static struct client x;
	enum outcome outcome = LOST;
	int status = STATUS_FAILED;
	struct err e = { 0 };

	x.params = p;
	x.files = CLAIM_FILES_INIT;
	if (begin(&x, &e) < 0) {
		claim_files_done(&x.files);
		return report_err(&e);
	}
	for (unsigned i = 0; i < TRIES && outcome == LOST; i++)
		outcome = claim_once(&x, &status, &e);
	restore_terminal(&x);
	if (outcome == ABSENT || outcome == SILENT || outcome == LOST) {
		const char *why = outcome == ABSENT ? "no pool listens at" :
				  outcome == SILENT ? "the pool does not answer at" :
						      "no VM has taken the claim at";

		if (!p->dir)
			err_set(&e, -ENOENT, "%s '%s', and no DIR says what to clone", why, p->pool);
		else
			report_line("%s '%s': a plain clone", why, p->pool);
		if (p->dir)
			(void)clone_plainly(&x, NULL, &e); /* it returns with e set only */
	}
	claim_files_done(&x.files);
	if (e.code)
		err_wrap(&e, "pool '%s'", p->pool);
	return e.code ? report_err(&e) : status;
}
