/*
 * The directory of `mayfly clone NAME`; see clone_dir.h.
 *
 * Its keeper, a process of its own, waits for the end of a pipe, and removes the directory then. The pipe also ends if this
 * process is killed. The process that writes the snapshot locks it until it ends, and it ends with its parent.
 */
#include "vmm/cmd/clone_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/snapshot/dir.h"

/* What a writer has left that has ended, or ends now. */
static void remove_temporary(const char *dir, const char *name)
{
	struct snapshot_dir d = SNAPSHOT_DIR_INIT;
	char path[CLONE_DIR_MAX + 32];
	struct err e;
	int fd;

	snprintf(path, sizeof(path), "%s/.%s.new", dir, name);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return;
	(void)flock(fd, LOCK_EX);
	close(fd);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	(void)snapshot_dir_begin(&d, path, &e); /* it fails if the writer has removed it */
	snapshot_dir_done(&d);
}

static void remove_all(const char *dir)
{
	char path[CLONE_DIR_MAX + 32];
	struct err e;

	remove_temporary(dir, CLONE_DIR_FORK);
	remove_temporary(dir, CLONE_DIR_SNAPSHOT);
	snprintf(path, sizeof(path), "%s/" CLONE_DIR_SNAPSHOT, dir);
	if (access(path, F_OK) == 0 && snapshot_dir_remove(path, &e) < 0)
		report_line("'%s': %s; it is left there", path, e.text);
	(void)rmdir(dir); /* fails if something is left */
}

static void __attribute__((noreturn)) keep(const char *dir, int fd)
{
	sigset_t all;
	char byte;

	sigfillset(&all);
	(void)sigprocmask(SIG_BLOCK, &all, NULL); /* cannot fail */
	(void)setpgid(0, 0);
	(void)prctl(PR_SET_NAME, "mayfly-clone");
	(void)dup2(fd, STDIN_FILENO);
	(void)close_range(STDERR_FILENO + 1, ~0U, 0);
	close(STDOUT_FILENO); /* whoever reads that waits for the VMs alone */
	while (read(STDIN_FILENO, &byte, 1) < 0 && errno == EINTR)
		;
	remove_all(dir);
	_exit(0);
}

int clone_dir_make(struct clone_dir *d, struct err *e)
{
	const char *tmp = getenv("TMPDIR");
	int fd[2];

	if (snprintf(d->path, sizeof(d->path), "%s/mayfly-clone-XXXXXX", tmp && *tmp == '/' ? tmp : "/tmp") >=
	    (int)sizeof(d->path))
		return err_set(e, -ENAMETOOLONG, "the directory $TMPDIR has a path of more than %d bytes",
			       CLONE_DIR_MAX - 32);
	if (pipe2(fd, O_CLOEXEC) < 0)
		return err_sys(e, "make a pipe");
	if (!mkdtemp(d->path)) {
		err_sys(e, "make '%s'", d->path);
		close(fd[0]);
		close(fd[1]);
		return e->code;
	}
	d->keeper = fork();
	if (d->keeper == 0) {
		close(fd[1]);
		keep(d->path, fd[0]);
	}
	close(fd[0]);
	d->fd = fd[1];
	if (d->keeper > 0)
		return 0;
	err_sys(e, "fork");
	(void)rmdir(d->path);
	close(d->fd);
	return e->code;
}

void clone_dir_done(struct clone_dir *d)
{
	close(d->fd);
	while (waitpid(d->keeper, NULL, 0) < 0 && errno == EINTR)
		;
}
