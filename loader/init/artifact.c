/*
 * Sends the files that the boot text names to the host. A process of its own, a copy of
 * init, does it, because it waits for the drive and for the host. Errors come back
 * through a pipe. It has init's signal mask: only SIGKILL ends it.
 */
#include "loader/init/artifact.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loader/init/fd.h"
#include "loader/init/link.h"
#include "loader/init/proto.h"
#include "loader/init/tar.h"

#define FILES_MAX 4096 /* open at once: one for each directory on the way down; the kernel's usual limit */

static pid_t sender;
static int report = -1;

/* In the process. */
static void artifact_send(const char *boot, size_t len, int to) __attribute__((noreturn));

static void artifact_send(const char *boot, size_t len, int to)
{
	const struct rlimit files = { FILES_MAX, FILES_MAX };
	struct text why = { 0 };
	uint32_t number = 0;
	size_t at = 0;
	const char *s;

	/* Only trees that are very deep miss it. */
	(void)syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &files, NULL);
	(void)fd_write_file("/proc/self/oom_score_adj", "0");
	while ((s = text_next(boot, len, &at)) != NULL) {
		struct text what = { 0 };
		int link;

		if (s[0] != 'o')
			continue;
		link = link_connect(INIT_ARTIFACT_PORT + number++);
		if (link < 0) {
			text_add(&what, s + 1, NULL);
			text_add_error(&what, -link);
		} else {
			(void)tar_send(s + 1, link, true, &what);
		}
		fd_close(&link);
		if (what.len > 0)
			text_add(&why, why.len > 0 ? "; " : "", what.s, NULL);
	}
	(void)fd_write(to, why.s, why.len);
	_exit(0);
}

bool artifact_start(const char *boot, size_t len, struct text *why)
{
	int ends[2];

	if (text_find(boot, len, 'o') == NULL)
		return false;
	if (pipe2(ends, O_CLOEXEC) < 0) {
		text_add(why, "a pipe", NULL);
		text_add_error(why, errno);
		return false;
	}
	sender = (pid_t)syscall(SYS_fork);
	if (sender == 0)
		artifact_send(boot, len, ends[1]);
	close(ends[1]);
	report = ends[0];
	if (sender < 0) {
		text_add(why, "a process for them", NULL);
		text_add_error(why, errno);
		fd_close(&report);
		sender = 0;
	}
	return sender > 0;
}

bool artifact_is_running(void)
{
	return sender > 0;
}

bool artifact_reaped(pid_t pid, int status, struct text *why)
{
	char said[sizeof(why->s)];
	ssize_t n;

	if (pid != sender)
		return false;
	sender = 0;
	n = read(report, said, sizeof(said) - 1);
	said[n < 0 ? 0 : n] = '\0';
	text_add(why, said, NULL);
	fd_close(&report);
	if (WIFSIGNALED(status))
		text_add(why, "not all were sent: stopped", NULL);
	return true;
}
