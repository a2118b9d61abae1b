/*
 * Holds all other processes still while a snapshot is taken: a restored machine sets its clock
 * and reseeds its random number generator before they run again.
 *
 * The freezer of cgroup v2 does it. SIGSTOP would reach the parents of processes as SIGCHLD, and
 * could not be undone for a process that was stopped before. Commands are born in a cgroup of
 * their own, since the root cgroup does not freeze. init, and the hook that it runs after a
 * restore, stay in the root cgroup. A container engine has cgroups beside that of the commands,
 * so all of them are frozen.
 */
#include "loader/init/hold.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "loader/init/fd.h"

#define HOLD_ROOT "/sys/fs/cgroup"
#define HOLD_GROUP HOLD_ROOT "/commands"
#define HOLD_MS 5000 /* for a process that waits for a drive */

static int group = -1; /* a descriptor of the commands' cgroup */

/* error: of errno, negative. */
static bool hold_failed(struct text *why, int error)
{
	text_add(why, "cgroup v2, which holds processes still", NULL);
	text_add_error(why, -error);
	return false;
}

bool hold_prepare(struct text *why)
{
	int error;

	(void)mkdir(HOLD_GROUP, 0755); /* what follows reports it */
	error = fd_write_file(HOLD_GROUP "/cgroup.freeze", "0");
	group = open(HOLD_GROUP, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return (error == 0 && group >= 0) || hold_failed(why, error);
}

pid_t hold_fork(void)
{
	/* There is no moment at which the child is in the root cgroup. */
	const struct clone_args args = {
		.flags = group < 0 ? 0 : CLONE_INTO_CGROUP,
		.exit_signal = SIGCHLD,
		.cgroup = (uint64_t)group,
	};

	/* Not fork(): its care for threads would be a sixth of the program. */
	if (group < 0)
		return (pid_t)syscall(SYS_fork);
	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

/* A file of a cgroup, or of what is none. */
static struct text hold_path(const char *name, const char *file)
{
	struct text path = { 0 };

	text_add(&path, HOLD_ROOT "/", name, file, NULL);
	return path;
}

/* The text is of lines: a key, a space, 0 or 1. */
static bool hold_is_frozen(int fd)
{
	static const char key[] = "frozen 1";
	char events[128];
	ssize_t n;

	(void)lseek(fd, 0, SEEK_SET); /* cannot fail */
	n = read(fd, events, sizeof(events));
	for (ssize_t at = 0; at + (ssize_t)sizeof(key) <= n; at++) {
		if (memcmp(&events[at], key, sizeof(key) - 1) == 0)
			return true;
	}
	return n < 0; /* a cgroup that is removed meanwhile has no process */
}

/* Waits until the kernel reports that the cgroup is frozen. False: it does not in time. */
static bool hold_await(const char *name, int64_t end)
{
	const struct text path = hold_path(name, "/cgroup.events");
	struct pollfd polled = { .fd = open(path.s, O_RDONLY | O_CLOEXEC), .events = POLLPRI };
	int64_t left = 1;
	bool frozen;

	while (!(frozen = hold_is_frozen(polled.fd)) && left > 0) {
		left = end - clock_ms();
		(void)poll(&polled, 1, left < 0 ? 0 : (int)left);
	}
	fd_close(&polled.fd);
	return frozen;
}

bool hold_all(bool still, struct text *why)
{
	static char entries[4096] __attribute__((aligned(8)));
	int64_t end = clock_ms() + HOLD_MS;
	int root = open(HOLD_ROOT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool done = true, found = false;
	long n;

	if (group < 0)
		return true;
	while (done && (n = syscall(SYS_getdents64, root, entries, sizeof(entries))) > 0) {
		for (long at = 0; at < n && done;) {
			const struct dirent *entry = (const void *)&entries[at];
			const struct text path = hold_path(entry->d_name, "/cgroup.freeze");

			/* What is no cgroup has no such file. */
			if (entry->d_name[0] != '.' && fd_write_file(path.s, still ? "1" : "0") == 0) {
				found = true;
				done = !still || hold_await(entry->d_name, end);
			}
			at += entry->d_reclen;
		}
	}
	fd_close(&root);
	/* A guest that has unmounted it has none. */
	return (done && found) || hold_failed(why, found ? -ETIMEDOUT : -ENOENT);
}
