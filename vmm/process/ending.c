/*
 * Ends a run in time, whatever hangs; see ending.h.
 *
 * Theory of operation. A signal handler notices a request to end. The loop that reads
 * signals cannot do that: it may hang itself. The handler puts the signal's number into a
 * pipe, for the loop, and starts the clock. The clock is the process's interval timer
 * (setitimer(2), which counts by CLOCK_MONOTONIC). If it expires before the process has
 * ended, SIGALRM's handler restores the terminal, reports what has not ended, removes the
 * names of sockets and files, and ends the process.
 *
 * The clock has four causes, each with a time of its own; the earliest counts:
 *
 *	asked	a signal asks for the end, or vm_stop.c does	ENDING_ASKED_MS later
 *	cut	the same a second time				ENDING_CUT_MS later
 *	limit	--timeout is over, and the loop has not noticed	ENDING_ASKED_MS later; before there is a loop, at once
 *	close	the guest has ended by itself			ENDING_CLOSE_MS later
 *
 * In a jail, the process inside runs its own clock. The clock of the process outside ends
 * ENDING_SPARE_MS later; before that it kills the process inside (supervise.c).
 *
 * Handlers call async-signal-safe functions only. They run on the main thread, one at a
 * time. So the data that they share with it needs no lock; it is volatile or atomic.
 */
#include "vmm/process/ending.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/last_words.h"
#include "vmm/base/result.h"
#include "vmm/base/unix_socket.h"
#include "vmm/base/util.h"
#include "vmm/process/tty.h"

enum phase {
	PHASE_SETUP, /* nothing is lost: requests end the process at once */
	PHASE_SERVE,
	PHASE_OVER,
};

static struct {
	struct ending_kind kind;
	unsigned cut_ms;
	pid_t pid;
	bool inside;
	int fd; /* write end of the pipe */
	_Atomic enum phase phase;
	atomic_int status;
	const char *_Atomic step, *_Atomic step_id;
	_Atomic uint64_t asked_ms, cut_at_ms, limit_ms, close_ms; /* when; 0: it was not */
	_Atomic uint64_t int_ms;				  /* when the last SIGINT came */
	volatile pid_t child;
	const char *volatile file;
	void (*volatile last)(int status);
} ending = { .fd = -1, .step = "the main thread" };

static const int requests[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT };
static const int others[] = { SIGCONT, SIGCHLD, SIGUSR1, SIGUSR2, SIGWINCH };
#define OTHERS_NUM (ending.kind.command ? MF_ARRAY_SIZE(others) : MF_ARRAY_SIZE(others) - 3)

static void add_all(sigset_t *set, const int *signals, size_t num)
{
	for (size_t i = 0; i < num; i++)
		sigaddset(set, signals[i]);
}

/* The clock. */

uint64_t ending_due_ms(void)
{
	const struct {
		uint64_t since_ms;
		unsigned ms;
	} causes[] = {
		{ ending.kind.asked_ms ? ending.asked_ms : 0, ending.kind.asked_ms },
		{ ending.cut_at_ms, ending.cut_ms },
		{ ending.limit_ms, ending.phase == PHASE_SETUP ? 0 : ending.kind.asked_ms },
		{ ending.close_ms, ENDING_CLOSE_MS },
	};
	uint64_t due_ms = UINT64_MAX;

	for (size_t i = 0; i < MF_ARRAY_SIZE(causes); i++)
		if (causes[i].since_ms)
			due_ms = MF_MIN(due_ms, causes[i].since_ms + causes[i].ms);
	return due_ms;
}

/* A handler that interrupts this may find an earlier time. */
static void start_clock(void)
{
	struct itimerval timer = { 0 };
	uint64_t due_ms, now_ms, left_ms;

	while ((due_ms = ending_due_ms()) != UINT64_MAX) {
		now_ms = clock_now_ms();
		left_ms = due_ms > now_ms ? due_ms - now_ms : 1;
		timer.it_value.tv_sec = (time_t)(left_ms / 1000);
		timer.it_value.tv_usec = (suseconds_t)(left_ms % 1000) * 1000;
		(void)setitimer(ITIMER_REAL, &timer, NULL); /* cannot fail: the time is valid */
		if (due_ms == ending_due_ms())
			return;
	}
}

static void begin(_Atomic uint64_t *since_ms)
{
	uint64_t never = 0;

	atomic_compare_exchange_strong(since_ms, &never, clock_now_ms());
	start_clock();
}

void ending_limit(uint64_t limit_ms)
{
	ending.limit_ms = limit_ms;
	start_clock();
}

void ending_ask(int status)
{
	int none = 0;

	atomic_compare_exchange_strong(&ending.status, &none, status);
	begin(&ending.asked_ms);
}

void ending_cut(void)
{
	begin(&ending.cut_at_ms);
}

void ending_close(void)
{
	begin(&ending.close_ms);
}

bool ending_was_asked(void)
{
	return ending.asked_ms != 0;
}

bool ending_is_cut(void)
{
	return ending.cut_at_ms != 0;
}

int ending_status(void)
{
	return ending.status;
}

void ending_step(const char *what, const char *id)
{
	ending.step_id = NULL;
	ending.step = what;
	ending.step_id = id;
}

static void put_quoted(struct last_words *l, const char *id)
{
	last_words_put(l, " '");
	last_words_put(l, id);
	last_words_put(l, "'");
}

int ending_report(bool late)
{
	const char *id = ending.step_id;
	struct last_words line = { .len = 0 };
	int status = ending.status;

	if (!status)
		status = ending.close_ms ? STATUS_FAILED : STATUS_TIMEOUT;
	last_words_put(&line, "mayfly: ");
	if (status < 0) {
		last_words_put(&line, "ended by a signal (");
		last_words_put(&line, sigdescr_np(-status));
		last_words_put(&line, ")");
	} else {
		last_words_put(&line, status == STATUS_TIMEOUT ? "the time limit has passed" : "the VM has ended");
	}
	if (late) {
		last_words_put(&line, "; ");
		last_words_put(&line, ending.step);
		if (id)
			put_quoted(&line, id);
		last_words_put(&line, " did not end in time: data in flight may be lost");
	}
	last_words_put(&line, "\n");
	last_words_say(&line);
	if (status < 0)
		result_set(END_SIGNAL, -1, -status);
	else
		result_set(status == STATUS_TIMEOUT ? END_TIMEOUT : END_FAILED, -1, 0);
	return status;
}

void ending_at_last(void (*last)(int status))
{
	ending.last = last;
}

void ending_clean(int status)
{
	if (ending.last)
		ending.last(status);
	if (ending.child > 0)
		(void)kill(ending.child, SIGKILL); /* it may have ended */
	if (ending.file)
		(void)unlink(ending.file); /* it may not exist yet */
	if (!ending.inside)
		unix_socket_remove_all(); /* they belong to the process outside */
}

int ending_status_of(int status)
{
	sigset_t set;

	if (status >= 0)
		return status;
	(void)prctl(PR_SET_DUMPABLE, 0); /* cannot fail: SIGQUIT asked for the end, not for a core file */
	(void)signal(-status, SIG_DFL);	 /* cannot fail */
	sigemptyset(&set);
	sigaddset(&set, -status);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	(void)syscall(SYS_tgkill, ending.pid, ending.pid, -status); /* returns to PID 1 of a namespace */
	return STATUS_SIGNAL_BASE - status;
}

/* Handlers. */

static void ending_on_alarm(int sig)
{
	int status;

	(void)sig;
	if (clock_now_ms() < ending_due_ms()) {
		start_clock();
		return;
	}
	tty_restore();
	status = ending_report(ending.phase != PHASE_SETUP);
	ending_clean(status);
	_exit(ending_status_of(status));
}

bool ending_is_request(int sig)
{
	for (size_t i = 0; i < MF_ARRAY_SIZE(requests); i++)
		if (requests[i] == sig)
			return true;
	return false;
}

/*
 * Whether this signal alone asks for the end. With a command, the first SIGINT and each
 * SIGQUIT are the command's. Of `mayfly exec`, a second request cuts it short: the first
 * SIGINT is one.
 */
static bool asks(int sig)
{
	uint64_t now_ms = clock_now_ms(), last_ms;

	if (sig == SIGQUIT)
		return !ending.kind.command;
	if (sig != SIGINT || !ending.kind.asked_ms)
		return true;
	last_ms = atomic_exchange(&ending.int_ms, now_ms);
	return !ending.kind.command || (last_ms && now_ms - last_ms < ENDING_INT_MS);
}

/* Before there is anything to close. */
static void __attribute__((noreturn)) end_at_once(void)
{
	int status;

	tty_restore();
	status = ending_report(false);
	ending_clean(status);
	_exit(ending_status_of(status));
}

static void on_signal(int sig)
{
	const uint8_t number = (uint8_t)sig;
	int saved_errno = errno;

	if (ending.phase == PHASE_SETUP && getpid() != ending.pid)
		_exit(STATUS_FAILED); /* a child that is about to exec */
	if (ending.phase == PHASE_SETUP && ending_is_request(sig)) {
		ending_ask(-sig);
		end_at_once();
	}
	if (ending.phase == PHASE_SERVE) {
		if (ending_is_request(sig) && ending_was_asked())
			ending_cut();
		else if (ending_is_request(sig) && asks(sig))
			ending_ask(-sig);
		/* A full pipe: its reader, the loop, hangs. */
		(void)!write(ending.fd, &number, sizeof(number));
	}
	errno = saved_errno;
}

/* From outside. */

/* Whether our caller has it ignored, as nohup(1) has SIGHUP, and a shell without job control SIGINT and SIGQUIT. */
static bool stays_ignored(int sig)
{
	struct sigaction old;

	if (!ending_is_request(sig) && sig != SIGUSR1 && sig != SIGUSR2)
		return false;
	return sigaction(sig, NULL, &old) == 0 && old.sa_handler == SIG_IGN;
}

static int ending_install(const int *signals, size_t num, void (*handler)(int), struct err *e)
{
	struct sigaction sa = { .sa_handler = handler, .sa_flags = SA_RESTART };

	add_all(&sa.sa_mask, requests, MF_ARRAY_SIZE(requests));
	add_all(&sa.sa_mask, others, OTHERS_NUM);
	sigaddset(&sa.sa_mask, SIGALRM);
	for (size_t i = 0; i < num; i++)
		if (!stays_ignored(signals[i]) && sigaction(signals[i], &sa, NULL) < 0)
			return err_sys(e, "install the handler of signal %d", signals[i]);
	return 0;
}

int ending_setup(const struct ending_kind *kind, struct err *e)
{
	static const int alarm_signal = SIGALRM;
	sigset_t now, later;
	int fd[2];

	ending.kind = *kind;
	ending.cut_ms = ENDING_CUT_MS;
	ending.pid = getpid();
	if (pipe2(fd, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_sys(e, "make a pipe");
	ending.fd = fd[1];
	sigemptyset(&now);
	add_all(&now, requests, MF_ARRAY_SIZE(requests));
	sigaddset(&now, SIGALRM);
	sigemptyset(&later);
	add_all(&later, others, OTHERS_NUM);
	pthread_sigmask(SIG_BLOCK, &later, NULL);
	if (ending_install(requests, MF_ARRAY_SIZE(requests), on_signal, e) < 0 ||
	    ending_install(others, OTHERS_NUM, on_signal, e) < 0 ||
	    ending_install(&alarm_signal, 1, ending_on_alarm, e) < 0)
		return e->code;
	signal(SIGPIPE, SIG_IGN);
	pthread_sigmask(SIG_UNBLOCK, &now, NULL); /* our caller may have blocked any signal */
	return fd[0];
}

int ending_handlers_fd(void)
{
	return ending.fd;
}

void ending_serve(void)
{
	sigset_t set;

	if (ending.inside)
		return;
	ending.phase = PHASE_SERVE;
	sigemptyset(&set);
	add_all(&set, others, OTHERS_NUM);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

int ending_take(int fd)
{
	uint8_t number;

	return read(fd, &number, sizeof(number)) == (ssize_t)sizeof(number) ? number : 0;
}

bool ending_take_remote(int fd)
{
	uint8_t number = SIGHUP;
	bool there = read(fd, &number, sizeof(number)) == (ssize_t)sizeof(number), known = ending_is_request(number);

	for (size_t i = 0; i < OTHERS_NUM; i++)
		known |= others[i] == number && number != SIGCHLD;
	if (known) /* to this thread, so the handler has run when the call returns */
		(void)syscall(SYS_tgkill, ending.pid, ending.pid, number);
	return there;
}

void ending_block_all(pthread_attr_t *attr)
{
	sigset_t all;

	sigfillset(&all);
	(void)pthread_attr_setsigmask_np(attr, &all); /* fails only for lack of memory */
}

void ending_hold(bool on)
{
	sigset_t set;

	sigemptyset(&set);
	add_all(&set, requests, MF_ARRAY_SIZE(requests));
	if (ending.phase == PHASE_SERVE)
		add_all(&set, others, OTHERS_NUM);
	pthread_sigmask(on ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

void ending_inside(void)
{
	ending.inside = true;
	ending.phase = PHASE_SERVE;
	ending.pid = getpid();
	ending.asked_ms = ending.cut_at_ms = 0;
	ending.status = 0;
	start_clock(); /* of the time limit: a fork has no timer */
}

void ending_outside(void)
{
	ending.kind.asked_ms += ENDING_SPARE_MS;
	ending.cut_ms += ENDING_SPARE_MS;
	start_clock();
}

void ending_child(pid_t pid, const char *file)
{
	ending.file = file;
	ending.child = pid;
}

void ending_over(void)
{
	ending.phase = PHASE_OVER;
}
