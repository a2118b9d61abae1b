/*
 * The process that writes the log of a VM in the background; see detach.h. It parses nothing, and
 * moves bytes from a pipe to a file. When that has half of the size, it takes the place of the older
 * half, and a new one begins. What cannot be written (a full disk) is dropped: the VM does not wait.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "jailer/landlock.h"
#include "jailer/privileges.h"
#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/fdio.h"
#include "vmm/base/log.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/cmd/detach.h"
#include "vmm/config/config.h"
#include "vmm/process/confine.h"

#define BUF_SIZE (64 * KIB)

static char buf[BUF_SIZE];

_Static_assert(BUF_SIZE <= CONFIG_LOG_MIN / 2, "a read fits into a half");

int detach_log_open(struct detach_log *l)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	l->file = openat(l->dir, l->id, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (l->file < 0)
		return -errno;
	(void)fcntl(l->file, F_OFD_SETLK, &lock); /* without it, `mayfly logs -f` ends early */
	return 0;
}

static void rotate(struct detach_log *l)
{
	char old[sizeof(l->id) + 1];
	int file = mf_take_fd(&l->file);

	snprintf(old, sizeof(old), "%s~", l->id);
	(void)renameat(l->dir, l->id, l->dir, old); /* if it fails, the name is taken, and the next line fails */
	(void)detach_log_open(l);		    /* tried again for what comes next */
	/* Last: a reader that notices it looks for the new file. */
	if (file >= 0)
		close(file);
}

static void put(struct detach_log *l, size_t len, uint64_t *size)
{
	if (l->file < 0 || *size + len > l->half_max) {
		rotate(l);
		*size = 0;
	}
	if (l->file >= 0 && fdio_write_all(l->file, buf, len) == 0)
		*size += len;
}

/* The guest's command runs: the caller may go. */
static void tell_caller(struct detach_log *l)
{
	char line[128];
	int len = snprintf(line, sizeof(line), "%s\n", l->name);

	close(mf_take_fd(&l->err));
	(void)!write(l->caller, line, (size_t)len); /* it may have been killed */
	close(mf_take_fd(&l->caller));
}

static int log_confine(const struct detach_log *l, struct err *e)
{
	struct confine_own own = CONFINE_OWN_NONE;
	static const struct landlock_dir dir = { ".", LANDLOCK_LOG };
	struct confine confine;

	own.own = l->dir;
	if (fchdir(l->dir) < 0 || seccomp_no_new_privs(e) < 0)
		return -1;
	if (landlock_restrict(&dir, 1, e) < 0)
		log_debug("log: %s", e->text); /* this kernel has none: the filter and the permissions remain */
	if (privileges_drop(0, e) < 0)
		return e->code;
	confine_init(&confine, SECCOMP_POLICY_KILL);
	return confine_thread(&confine, THREAD_LOG, &own, e);
}

/* Signals end the VM, whose last words are written, too. */
static void log_begin(struct detach_log *l)
{
	static const int ignored[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPIPE, SIGUSR1, SIGUSR2 };
	int *const fds[] = { &l->from, &l->ready, &l->caller, &l->err, &l->dir, &l->file };
	const int num = MF_ARRAY_SIZE(fds);
	struct err e;

	(void)prctl(PR_SET_NAME, "mayfly-log"); /* for people, and tests */
	for (size_t i = 0; i < MF_ARRAY_SIZE(ignored); i++)
		(void)signal(ignored[i], SIG_IGN); /* cannot fail */
	for (int i = 0; i < num; i++)
		*fds[i] = fcntl(*fds[i], F_DUPFD_CLOEXEC, num);
	for (int i = 0; i < num; i++)
		*fds[i] = dup2(*fds[i], i);
	(void)close_range((unsigned)num, ~0U, 0); /* Linux 5.9 */
	if (log_confine(l, &e) < 0)
		_exit(STATUS_FAILED); /* the VM's writes fail then */
}

void detach_log_run(struct detach_log *l)
{
	struct pollfd fds[2];
	uint64_t size = 0;
	ssize_t n = 1;

	log_begin(l);
	fds[0] = (struct pollfd){ .fd = l->ready, .events = POLLIN };
	fds[1] = (struct pollfd){ .fd = l->from, .events = POLLIN };
	while (n > 0) {
		if (poll(fds, MF_ARRAY_SIZE(fds), -1) < 0)
			continue; /* EINTR */
		if (fds[0].revents & POLLIN)
			tell_caller(l);
		if (fds[0].revents)
			fds[0].fd = -1;
		if (!fds[1].revents)
			continue;
		n = read(l->from, buf, sizeof(buf));
		if (n > 0 && l->err >= 0)
			(void)fdio_write_all(l->err, buf, (size_t)n); /* the log has it, too */
		if (n > 0)
			put(l, (size_t)n, &size);
		if (n < 0 && errno == EINTR)
			n = 1;
	}
	if (l->remove) {
		char old[sizeof(l->id) + 1];

		snprintf(old, sizeof(old), "%s~", l->id);
		(void)unlinkat(l->dir, l->id, 0); /* records_clean removes what is left */
		(void)unlinkat(l->dir, old, 0);
	}
	_exit(STATUS_OK);
}
