/*
 * Crashes, and forbidden system calls.
 *
 * Theory of operation. The thread that it happens to may do next to nothing: its filter lets a vCPU thread write to
 * eventfds alone. So its handler leaves a note, signals the main thread (CRASH_SIGNAL, which interrupts whatever that
 * does: waiting for a lock, for a thread, in poll) and waits for the end; the main thread's handler restores the terminal
 * and writes the line. Only the first crash is reported. If the main thread does not answer within CRASH_WAIT_MS, the process
 * ends with the same status and no line.
 *
 * Handlers call async-signal-safe functions only, take no lock, and access the record by
 * atomics. So it does not matter which locks are held.
 *
 * After the line mayfly dies of the signal, with a core file where the user wants one.
 * PID 1 of a namespace does not die of its own signals: it exits with the status that a
 * shell would show. A forbidden system call is not a crash, and was not made:
 * SECCOMP_RET_TRAP raises SIGSYS in its place.
 */
#include "vmm/process/crash.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/last_words.h"
#include "vmm/base/log.h"
#include "vmm/base/result.h"
#include "vmm/base/util.h"
#include "vmm/process/confine.h"
#include "vmm/process/ending.h"
#include "vmm/process/tty.h"

#define CRASH_WAIT_MS 2000
#define CRASH_STACK_SIZE 8192

static const struct {
	int sig;
	const char *name, *hint;
} crashes[] = {
	{ SIGSEGV, "SIGSEGV", "this is a bug in mayfly" },
	{ SIGBUS, "SIGBUS", "was the kernel, or a snapshot's memory, truncated while the guest ran?" },
	{ SIGILL, "SIGILL", "this is a bug in mayfly" },
	{ SIGFPE, "SIGFPE", "this is a bug in mayfly" },
	{ SIGABRT, "SIGABRT", "this is a bug in mayfly" },
};

static struct {
	pid_t pid, main_tid;
	pthread_t main;
	atomic_bool taken, told;
	/* The crash record; only the thread that won `taken` writes it. */
	int sig, call; /* call: -1, or the forbidden system call */
	uintptr_t address;
	const char *thread;
} crash;

static void put_call(struct last_words *l)
{
	const char *name = confine_call_name(crash.call);

	last_words_put(l, "mayfly: thread ");
	last_words_put(l, crash.thread);
	last_words_put(l, " wanted a system call that it may not make: ");
	last_words_put(l, name ? name : "unknown");
	last_words_put(l, " (");
	last_words_put_number(l, (uint64_t)crash.call, 10);
	last_words_put(l, "); ended before it was made\n");
}

static void put_crash(struct last_words *l)
{
	size_t i = 0;

	while (i < MF_ARRAY_SIZE(crashes) - 1 && crashes[i].sig != crash.sig)
		i++;
	last_words_put(l, "mayfly: crashed: ");
	last_words_put(l, crashes[i].name);
	last_words_put(l, " in thread ");
	last_words_put(l, crash.thread);
	last_words_put(l, " at address 0x");
	last_words_put_number(l, crash.address, 16);
	last_words_put(l, " (");
	last_words_put(l, crashes[i].hint);
	last_words_put(l, ")\n");
}

static int exit_status(void)
{
	return crash.call >= 0 ? STATUS_SECCOMP : STATUS_SIGNAL_BASE + crash.sig;
}

/* On the main thread. */
static void __attribute__((noreturn)) crash_tell(void)
{
	struct last_words line = { .len = 0 };

	if (atomic_exchange(&crash.told, true))
		_exit(exit_status()); /* crashed while telling */
	tty_restore();
	if (crash.call >= 0)
		put_call(&line);
	else
		put_crash(&line);
	last_words_say(&line);
	result_set(END_KILLED, -1, crash.sig);
	ending_clean(exit_status());
	if (crash.call < 0) {
		(void)signal(crash.sig, SIG_DFL); /* not earlier: another crash must not end us here */
		(void)syscall(SYS_tgkill, crash.pid, crash.main_tid, crash.sig);
	}
	_exit(exit_status());
}

/* The main thread's handler may interrupt this. */
static void __attribute__((noreturn)) crash_wait_for_end(void)
{
	static uint32_t never;
	const struct timespec until = clock_deadline(CRASH_WAIT_MS);

	/* A point in time: a vCPU thread may be kicked again and again. */
	while (syscall(SYS_futex, &never, FUTEX_WAIT_BITSET_PRIVATE, 0, &until, NULL, FUTEX_BITSET_MATCH_ANY) < 0 &&
	       errno != ETIMEDOUT)
		;
	_exit(exit_status());
}

static void on_crash(int sig, siginfo_t *info, void *context)
{
	bool is_main = pthread_equal(pthread_self(), crash.main);

	(void)context;
	if (atomic_exchange(&crash.taken, true)) {
		if (is_main && atomic_load(&crash.told))
			_exit(exit_status());
		crash_wait_for_end();
	}
	crash.sig = sig;
	crash.call = sig == SIGSYS && info->si_code > 0 ? info->si_syscall : -1;
	crash.address = sig == SIGSYS || info->si_code <= 0 ? 0 : (uintptr_t)info->si_addr;
	crash.thread = log_thread();
	if (is_main)
		crash_tell();
	(void)syscall(SYS_tgkill, crash.pid, crash.main_tid, CRASH_SIGNAL);
	crash_wait_for_end();
}

static void on_told(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	if (info->si_pid == crash.pid && atomic_load(&crash.taken))
		crash_tell();
}

static int crash_install(int sig, void (*handler)(int, siginfo_t *, void *), int flags, struct err *e)
{
	struct sigaction sa = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | flags };

	return sigaction(sig, &sa, NULL) < 0 ? err_sys(e, "install the handler of signal %d", sig) : 0;
}

/* Sanitizers have given each thread a signal stack, and would unmap a replacement. */
static void set_signal_stack(void)
{
#ifndef MF_SANITIZED
	static uint8_t stacks[CRASH_STACKS][CRASH_STACK_SIZE]; /* takes no memory until it is used */
	static atomic_uint used;
	unsigned n = atomic_fetch_add(&used, 1);
	const stack_t s = { .ss_sp = stacks[n % CRASH_STACKS], .ss_size = CRASH_STACK_SIZE };

	(void)sigaltstack(&s, NULL); /* cannot fail; without the stack, only a stack overflow would go unreported */
#endif
}

void crash_thread(void)
{
	sigset_t set;

	set_signal_stack();
	sigemptyset(&set);
	for (size_t i = 0; i < MF_ARRAY_SIZE(crashes); i++)
		sigaddset(&set, crashes[i].sig);
	sigaddset(&set, SIGSYS);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL); /* otherwise the kernel would end the process at once */
}

int crash_setup(struct err *e)
{
	int r = 0;

	crash.pid = getpid();
	crash.main_tid = gettid();
	crash.main = pthread_self();
	crash_thread();
	for (size_t i = 0; !r && i < MF_ARRAY_SIZE(crashes); i++)
		r = crash_install(crashes[i].sig, on_crash, SA_NODEFER, e);
	if (!r)
		r = crash_install(SIGSYS, on_crash, 0, e);
	return r ? r : crash_install(CRASH_SIGNAL, on_told, 0, e);
}
