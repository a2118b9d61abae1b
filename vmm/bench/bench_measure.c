/*
 * The runs of `mayfly bench`; see bench.h.
 *
 * One loop waits for all that run, for signals and for the time at which a run is too late. Whenever a
 * place is free, the next run takes it.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/fdio.h"
#include "vmm/base/report.h"
#include "vmm/base/signals.h"
#include "vmm/base/util.h"
#include "vmm/bench/bench.h"

#define TIMELINE_BYTES_MAX (256 * KIB)
#define REPORTS_MAX 10	/* failures that are reported one by one */
#define GRACE_MS 3000U	/* from SIGTERM to SIGKILL */
#define VM_END_MS 1000	/* from the end of a command in a VM until that has ended */
#define PROGRESS_MS 100 /* between two lines of progress */
#define LISTENS_MAX 64	/* reads of what a process has said at its end: more than a pipe holds */

struct place {
	struct bench_child child;
	struct bench_run *run; /* NULL: the place is free */
	unsigned number;       /* of the run, from 1 */
	uint64_t due_ms;       /* when it is killed */
};

struct bench_loop {
	struct bench *b;
	struct place *place;
	struct pollfd *fds; /* the signals, the VM, and two for each place */
	int signal_fd;
	struct bench_child vm;
	int vm_stdin; /* its command ends at EOF there */
	unsigned busy;
	bool warming, stopping;
	struct err warm_up; /* the first failure of a run that warms up */
	uint64_t shown_ms;
};

enum { FD_SIGNAL, FD_VM, FD_VM_SAID, FD_PLACES };

static void take_usage(struct bench *b, struct bench_run *run, const struct rusage *u)
{
	const uint64_t us = ((uint64_t)u->ru_utime.tv_sec + (uint64_t)u->ru_stime.tv_sec) * 1000000 +
			    (uint64_t)u->ru_utime.tv_usec + (uint64_t)u->ru_stime.tv_usec;

	bench_count(b, run, "minor_faults", (uint64_t)u->ru_minflt);
	bench_count(b, run, "major_faults", (uint64_t)u->ru_majflt);
	bench_count(b, run, "cpu_us", us);
}

/* Takes the marks that the run has left. Returns 0 or -errno with e set. */
static int take_marks(struct bench *b, struct place *p, struct err *e)
{
	MF_FREE char *text = malloc(TIMELINE_BYTES_MAX);
	ssize_t n = text ? fdio_pread(p->child.timeline_fd, text, TIMELINE_BYTES_MAX, 0) : -ENOMEM;

	if (n < 0)
		return err_neg(e, (int)n, "read its times");
	return bench_take_timeline(b, p->run, text, (size_t)n, e);
}

/* Of a run that warms up, the failure is the error of the whole. */
static void report_failure(struct bench_loop *l, const struct place *p, const char *why)
{
	const int status = p->run->status;
	struct err e;

	err_set(&e, -ECHILD, "%s %u failed, %s %d%s%s", l->warming ? "warm-up" : "run", p->number,
		status < 0 ? "ended by signal" : "status", status < 0 ? -status : status, *why ? ": " : "", why);
	if (l->warming && l->b->failed == 1)
		l->warm_up = e;
	if (l->warming || l->b->failed > REPORTS_MAX)
		return;
	if (l->b->progress)
		fputs("\r\033[K", stderr);
	report_line("bench: %s", e.text);
	if (l->b->failed == REPORTS_MAX)
		report_line("bench: further failures are counted only");
}

/* Its process has ended. */
static void finish(struct bench_loop *l, struct place *p, uint64_t now_ns)
{
	struct bench_run *run = p->run;
	struct rusage usage;
	struct err e = { 0 };
	int status = 0;

	(void)wait4(p->child.pid, &status, 0, &usage); /* it is ours and has ended */
	close(mf_take_fd(&p->child.pidfd));
	run->end_ns = now_ns;
	run->exec_ns = p->child.exec_ns;
	run->status = WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
	run->failed = run->status != STATUS_OK;
	for (int i = 0; p->child.said_fd >= 0 && i < LISTENS_MAX; i++)
		bench_child_listen(&p->child);
	if (!run->failed && !l->b->kind->in_one_vm && !l->b->of_pool && take_marks(l->b, p, &e) < 0)
		run->failed = true;
	if (l->b->of_pool)
		bench_count(l->b, run, BENCH_PLAIN, bench_child_was_plain(&p->child));
	take_usage(l->b, run, &usage);
	/* A process that our own signal has ended counts neither as a failure nor as a run. */
	run->ended = !l->stopping;
	if (run->ended && run->failed) {
		l->b->failed++;
		report_failure(l, p, e.code ? e.text : bench_child_said(&p->child));
	}
	bench_child_done(&p->child);
	p->run = NULL;
	l->busy--;
}

static void show_progress(struct bench_loop *l, unsigned done, unsigned num)
{
	uint64_t now_ms = clock_now_ms();

	if (!l->b->progress || (done < num && now_ms - l->shown_ms < PROGRESS_MS))
		return;
	l->shown_ms = now_ms;
	fprintf(stderr, "\r\033[K%s: %s %u of %u", l->b->kind->name, l->warming ? "warm-up" : "run", done, num);
	if (done == num)
		fputs("\r\033[K", stderr);
	fflush(stderr);
}

/* Asks all that run to end; the second time, kills them. */
static void stop(struct bench_loop *l)
{
	for (unsigned i = 0; i < l->b->jobs; i++)
		if (l->place[i].run) {
			(void)kill(l->place[i].child.pid, l->stopping ? SIGKILL : SIGTERM); /* not waited for yet */
			l->place[i].due_ms = MF_MIN(l->place[i].due_ms, clock_now_ms() + GRACE_MS);
		}
	l->stopping = true;
}

static void take_signal(struct bench_loop *l)
{
	struct signalfd_siginfo info;

	if (read(l->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	l->b->signal = (int)info.ssi_signo;
	stop(l);
}

/* Kills what is too late. Returns how long poll(2) may wait. */
static int check_limits(struct bench_loop *l)
{
	uint64_t now_ms = clock_now_ms(), next_ms = UINT64_MAX;

	for (unsigned i = 0; i < l->b->jobs; i++) {
		struct place *p = &l->place[i];

		if (!p->run)
			continue;
		if (now_ms >= p->due_ms) {
			(void)kill(p->child.pid, SIGKILL); /* not waited for yet */
			p->due_ms = UINT64_MAX;
		}
		next_ms = MF_MIN(next_ms, p->due_ms);
	}
	return next_ms == UINT64_MAX ? -1 : (int)MF_MIN(next_ms - MF_MIN(next_ms, now_ms) + 1, (uint64_t)INT_MAX);
}

/* Whether the VM has ended, which is why a command in it has failed: that one may be seen first. Sets e. */
static bool has_vm_ended(struct bench_loop *l, struct err *e)
{
	struct pollfd end = { .fd = l->vm.pidfd, .events = POLLIN };

	if (l->vm.pidfd < 0 || poll(&end, 1, VM_END_MS) <= 0)
		return false;
	if (l->vm.said_fd >= 0)
		bench_child_listen(&l->vm);
	err_set(e, -EPIPE, "the VM has ended: %s", bench_child_said(&l->vm));
	return true;
}

/* Waits until something has happened, and does what follows. Returns 0, or -EPIPE with e set: the VM has ended. */
static int turn(struct bench_loop *l, struct err *e)
{
	const unsigned num = FD_PLACES + 2 * l->b->jobs;
	uint64_t now_ns;

	l->fds[FD_SIGNAL] = (struct pollfd){ .fd = l->signal_fd, .events = POLLIN };
	l->fds[FD_VM] = (struct pollfd){ .fd = l->vm.pidfd, .events = POLLIN };
	l->fds[FD_VM_SAID] = (struct pollfd){ .fd = l->vm.said_fd, .events = POLLIN };
	for (unsigned i = 0; i < l->b->jobs; i++) {
		const struct bench_child *c = &l->place[i].child;

		l->fds[FD_PLACES + 2 * i] = (struct pollfd){ .fd = c->pidfd, .events = POLLIN };
		l->fds[FD_PLACES + 2 * i + 1] = (struct pollfd){ .fd = c->said_fd, .events = POLLIN };
	}
	if (poll(l->fds, num, check_limits(l)) <= 0)
		return 0;
	now_ns = clock_now_ns();
	for (unsigned i = 0; i < l->b->jobs; i++) {
		struct place *p = &l->place[i];

		if (l->fds[FD_PLACES + 2 * i + 1].revents)
			bench_child_listen(&p->child);
		if (l->fds[FD_PLACES + 2 * i].revents)
			finish(l, p, now_ns);
	}
	if (l->fds[FD_VM_SAID].revents)
		bench_child_listen(&l->vm);
	if (l->fds[FD_SIGNAL].revents)
		take_signal(l);
	return l->fds[FD_VM].revents && !l->stopping && has_vm_ended(l, e) ? e->code : 0;
}

static struct place *free_place(struct bench_loop *l)
{
	for (unsigned i = 0; i < l->b->jobs; i++)
		if (!l->place[i].run)
			return &l->place[i];
	return NULL;
}

/* Whether further runs are to start. */
static bool is_going_on(const struct bench_loop *l)
{
	return !l->stopping && !(l->warming && l->b->failed);
}

/* Does num runs. Returns 0 or -errno with e set; none is left running then. */
static int series(struct bench_loop *l, struct bench_run *run, unsigned num, struct err *e)
{
	unsigned next = 0;
	int r = 0;

	while (r >= 0 && (l->busy || (next < num && is_going_on(l)))) {
		struct place *p = next < num && is_going_on(l) ? free_place(l) : NULL;

		if (!p) {
			r = turn(l, e);
			show_progress(l, next - l->busy, num);
			continue;
		}
		r = bench_child_start(&p->child, l->b, l->b->argv, -1, e);
		if (r < 0)
			break;
		p->run = &run[next++];
		p->number = next;
		p->due_ms = clock_now_ms() + l->b->limit_ms;
		l->busy++;
	}
	for (unsigned i = 0; i < l->b->jobs; i++) {
		bench_child_done(&l->place[i].child);
		l->place[i].run = NULL;
	}
	l->busy = 0;
	return r;
}

/* Runs that are not counted. The first `mayfly exec` waits until the guest takes commands. */
static int warm_up(struct bench_loop *l, struct err *e)
{
	const unsigned num = l->b->kind->in_one_vm ? MF_MAX(l->b->warm, 1U) : l->b->warm;
	MF_FREE struct bench_run *run = num ? calloc(num, sizeof(*run)) : NULL;
	int r;

	if (!num)
		return 0;
	if (!run)
		return err_set(e, -ENOMEM, "out of memory");
	l->warming = true;
	r = series(l, run, num, e);
	l->warming = false;
	if (r < 0 || !l->b->failed)
		return r;
	if (!has_vm_ended(l, e))
		*e = l->warm_up;
	return e->code;
}

/* Starts the VM of in_one_vm, whose command reads from our pipe: it ends when we do. */
static int start_vm(struct bench_loop *l, struct err *e)
{
	MF_CLOSE int end = -1;
	int pair[2];

	if (!l->b->kind->in_one_vm)
		return 0;
	if (pipe2(pair, O_CLOEXEC) < 0)
		return err_sys(e, "make a pipe");
	end = pair[0];
	l->vm_stdin = pair[1];
	return bench_child_start(&l->vm, l->b, l->b->vm_argv, end, e);
}

/* Ends the VM as its user would, and after a while by force. */
static void end_vm(struct bench_loop *l)
{
	struct pollfd end = { .fd = l->vm.pidfd, .events = POLLIN };

	if (l->vm_stdin >= 0)
		close(l->vm_stdin);
	if (l->vm.pidfd >= 0) {
		(void)kill(l->vm.pid, SIGTERM); /* not waited for yet */
		(void)poll(&end, 1, GRACE_MS);
	}
	bench_child_done(&l->vm);
}

static int open_signals(struct err *e)
{
	static const int taken[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	int fd = signals_open(taken, MF_ARRAY_SIZE(taken), NULL);

	return fd < 0 ? err_neg(e, fd, "take signals") : fd;
}

/* Leaves the runs that have come to their end, in their order. */
static void keep_ended(struct bench *b)
{
	b->num = 0;
	for (unsigned i = 0; i < b->runs; i++)
		if (b->run[i].ended)
			b->run[b->num++] = b->run[i];
}

int bench_measure(struct bench *b, struct err *e)
{
	struct bench_loop l = { .b = b, .vm = BENCH_CHILD_NONE, .vm_stdin = -1 };
	MF_CLOSE int signal_fd = open_signals(e);
	MF_FREE struct place *place = calloc(b->jobs, sizeof(*place));
	MF_FREE struct pollfd *fds = calloc(FD_PLACES + 2 * (size_t)b->jobs, sizeof(*fds));
	int r = signal_fd;

	b->run = calloc(b->runs, sizeof(*b->run));
	if (r >= 0 && (!place || !fds || !b->run))
		r = err_set(e, -ENOMEM, "out of memory");
	if (r < 0)
		return r;
	l.signal_fd = signal_fd;
	l.place = place;
	l.fds = fds;
	for (unsigned i = 0; i < b->jobs; i++)
		place[i].child = BENCH_CHILD_NONE;
	r = start_vm(&l, e);
	if (r >= 0)
		r = warm_up(&l, e);
	b->began_ns = clock_now_ns();
	if (r >= 0)
		r = series(&l, b->run, b->runs, e);
	b->ended_ns = clock_now_ns();
	end_vm(&l);
	keep_ended(b);
	return r;
}

void bench_done(struct bench *b)
{
	free(b->run);
	b->run = NULL;
	b->num = 0;
}
