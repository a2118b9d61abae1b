/* The mount namespace that jails begin with; see mounts.h. */
#include "jailer/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jailer/namespaces.h"
#include "vmm/base/err.h"
#include "vmm/base/parse.h"
#include "vmm/base/util.h"

#define STACK_SIZE (16 * KIB)
#define FIRST_FD 10 /* above those that a program is started with by number */

struct maker {
	int fd; /* or -1 */
	bool needed;
	struct err e;
};

/* A process that shares our memory and our files; we wait for its end. */
static int make(void *arg)
{
	struct maker *m = arg;
	int r;

	if (namespaces_unshare(NAMESPACES_NO_MOUNTS) == 0) {
		m->needed = false;
		_exit(0);
	}
	r = namespaces_unshare(CLONE_NEWNS);
	if (r < 0) {
		err_neg(&m->e, r, "mount namespace");
		_exit(0);
	}
	m->fd = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC); /* while there is a /proc */
	if (m->fd < 0)
		err_sys(&m->e, "open '/proc/self/ns/mnt'");
	else if (namespaces_empty_root(false, &m->e) < 0)
		close(mf_take_fd(&m->fd));
	_exit(0);
}

int mounts_offer(struct err *e)
{
	static uint8_t stack[STACK_SIZE] __attribute__((aligned(16)));
	struct maker m = { .fd = -1, .needed = true };
	MF_CLOSE int first = -1;
	char number[16];
	pid_t pid;
	int fd;

	err_set(&m.e, -ECHILD, "its process was killed");
	/* No signal tells of its end: SIGCHLD is the caller's. */
	pid = clone(make, stack + sizeof(stack), CLONE_VM | CLONE_FILES | CLONE_VFORK, &m);
	if (pid < 0)
		return err_sys(e, "start a process");
	while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
		;
	if (!m.needed)
		return 0;
	first = m.fd;
	if (first < 0) {
		*e = m.e;
		return e->code;
	}
	fd = fcntl(first, F_DUPFD, FIRST_FD);
	if (fd < 0)
		return err_sys(e, "copy a descriptor");
	snprintf(number, sizeof(number), "%d", fd);
	if (setenv(MOUNTS_VARIABLE, number, 1) < 0) {
		err_sys(e, "set %s", MOUNTS_VARIABLE);
		close(fd);
		return e->code;
	}
	return 0;
}

int mounts_take(void)
{
	const char *text = getenv(MOUNTS_VARIABLE);
	uint64_t number;
	int fd;

	if (!text || parse_u64(text, &number) < 0 || number > INT_MAX)
		return -1;
	(void)unsetenv(MOUNTS_VARIABLE); /* cannot fail: the name is valid */
	fd = (int)number;
	if (fd <= STDERR_FILENO || ioctl(fd, NS_GET_NSTYPE) != CLONE_NEWNS || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -1; /* another program's variable: not even a descriptor, perhaps */
	return fd;
}
