/*
 * A process that `mayfly bench` starts; see bench.h.
 *
 * clone(CLONE_VM | CLONE_VFORK) starts it, as posix_spawn(3) does: no page of ours is copied on its
 * clock, and it can note the time right before execve(2), and why that has failed, in our memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/printable.h"
#include "vmm/base/util.h"
#include "vmm/bench/bench.h"

#define CHILD_STACK (32 * KIB)
#define CHILD_FD_MIN 16 /* descriptors are put there first, out of the way of 0 to 3 */

struct become {
	char path[PATH_MAX]; /* of this program: a process has the name of its file */
	char *const *argv;
	const cpu_set_t *cpus; /* or NULL */
	int fd[BENCH_FDS];
	uint64_t exec_ns;
	int error;
};

/* In the child, which shares our memory and waits for nothing. */
static int become(void *arg)
{
	struct become *c = arg;
	sigset_t none;

	(void)setpgid(0, 0);			/* cannot fail; Ctrl-C on the terminal is ours */
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM); /* nor can this */
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL); /* nor this */
	if (c->cpus && sched_setaffinity(0, sizeof(*c->cpus), c->cpus) < 0)
		goto failed;
	for (int i = 0; i < BENCH_FDS; i++)
		if (dup2(c->fd[i], i) < 0)
			goto failed;
	closefrom(BENCH_FDS);
	c->exec_ns = clock_now_ns();
	(void)execv(c->path, c->argv);
	(void)execv("/proc/self/exe", c->argv); /* its file was replaced, as by `make` */
failed:
	c->error = errno;
	_exit(1);
}

/* A copy of fd, or of an open /dev/null, that no number below CHILD_FD_MIN has. */
static int high_copy(int fd, struct err *e)
{
	MF_CLOSE int null = fd < 0 ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;
	int high = fcntl(fd < 0 ? null : fd, F_DUPFD_CLOEXEC, CHILD_FD_MIN);

	return high < 0 ? err_sys(e, "open a file for a run") : high;
}

/* Starts it with the files. Returns 0 or -errno with e set. */
static int start(struct bench_child *c, struct become *how, struct err *e)
{
	static uint8_t stack[CHILD_STACK] __attribute__((aligned(16)));

	c->pid = clone(become, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, how);
	if (c->pid < 0)
		return err_sys(e, "start a process");
	if (how->error) {
		(void)waitpid(c->pid, NULL, 0); /* it is ours and has ended */
		return err_neg(e, -how->error, "start mayfly");
	}
	c->exec_ns = how->exec_ns;
	c->pidfd = pidfd_open(c->pid, 0);
	if (c->pidfd < 0) {
		err_sys(e, "watch a process");
		(void)kill(c->pid, SIGKILL);
		(void)waitpid(c->pid, NULL, 0);
		return e->code;
	}
	return 0;
}

int bench_child_start(struct bench_child *c, const struct bench *b, char *const argv[], int stdin_fd, struct err *e)
{
	static struct become how;
	MF_CLOSE int said = -1;
	int pair[2], r = 0;

	how = (struct become){ .argv = argv, .cpus = b->pinned ? &b->cpus : NULL, .fd = { -1, -1, -1, -1 } };
	(void)!readlink("/proc/self/exe", how.path, sizeof(how.path) - 1); /* else the path is "" */
	*c = BENCH_CHILD_NONE;
	if (pipe2(pair, O_CLOEXEC) < 0)
		return err_sys(e, "make a pipe");
	c->said_fd = pair[0];
	said = pair[1];
	c->timeline_fd = memfd_create("timeline", MFD_CLOEXEC);
	if (fcntl(c->said_fd, F_SETFL, O_NONBLOCK) < 0 || c->timeline_fd < 0)
		r = err_sys(e, "open a file for a run");
	for (int i = 0; r >= 0 && i < BENCH_FDS; i++) {
		r = high_copy(i == BENCH_STDIN	  ? stdin_fd :
			      i == BENCH_STDERR	  ? said :
			      i == BENCH_TIMELINE ? c->timeline_fd :
						    -1,
			      e);
		how.fd[i] = r;
	}
	if (r >= 0)
		r = start(c, &how, e);
	for (int i = 0; i < BENCH_FDS; i++)
		if (how.fd[i] >= 0)
			close(how.fd[i]);
	if (r < 0)
		bench_child_done(c);
	return r;
}

void bench_child_listen(struct bench_child *c)
{
	char text[4096];
	const size_t room = sizeof(c->said) - 1;
	ssize_t n;

	/* A turn is bounded: what is left comes with the next. */
	n = read(c->said_fd, text, sizeof(text));
	if (n <= 0) {
		if (n == 0 || errno != EAGAIN)
			close(mf_take_fd(&c->said_fd));
		return;
	}
	if ((size_t)n >= room) {
		memcpy(c->said, text + n - room, room);
		c->said_len = room;
		return;
	}
	if (c->said_len + (size_t)n > room) {
		size_t drop = c->said_len + (size_t)n - room;

		memmove(c->said, c->said + drop, c->said_len - drop);
		c->said_len -= drop;
	}
	memcpy(c->said + c->said_len, text, (size_t)n);
	c->said_len += (size_t)n;
}

bool bench_child_was_plain(const struct bench_child *c)
{
	static const char word[] = ": a plain clone\n"; /* vmm/cmd/claim.c */

	return memmem(c->said, c->said_len, word, sizeof(word) - 1);
}

const char *bench_child_said(struct bench_child *c)
{
	static const char own[] = "mayfly: ";
	size_t len = c->said_len;
	char *line;

	for (size_t i = 0; i < len; i++)
		if (!c->said[i])
			c->said[i] = '.';
	while (len && c->said[len - 1] == '\n')
		len--;
	c->said[len] = '\0';
	line = memrchr(c->said, '\n', len);
	line = line ? line + 1 : c->said;
	if (!strncmp(line, own, sizeof(own) - 1))
		line += sizeof(own) - 1;
	printable_line(line);
	return line;
}

void bench_child_done(struct bench_child *c)
{
	if (c->pidfd >= 0) {
		(void)kill(c->pid, SIGKILL); /* it is ours, and not waited for yet */
		(void)waitpid(c->pid, NULL, 0);
		close(c->pidfd);
	}
	if (c->said_fd >= 0)
		close(c->said_fd);
	if (c->timeline_fd >= 0)
		close(c->timeline_fd);
	c->pidfd = c->said_fd = c->timeline_fd = -1;
}
