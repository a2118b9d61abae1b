/* Programs of the host; see spawn.h. */
#include "vmm/helper/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/err.h"

extern char **environ;

pid_t spawn_start(const char *const argv[], int stdin_fd, const char *package, struct err *e)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t set;
	pid_t pid;
	int r;

	/* These fail for want of memory only, and what is missing makes posix_spawnp fail. */
	(void)posix_spawn_file_actions_init(&files);
	(void)posix_spawnattr_init(&attr);
	if (stdin_fd >= 0)
		(void)posix_spawn_file_actions_adddup2(&files, stdin_fd, STDIN_FILENO);
	else
		(void)posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	(void)posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	/* What our own caller has handed down need not have CLOEXEC: a tap (fd=N), or what a shell has left open. */
	(void)posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
	sigemptyset(&set);
	(void)posix_spawnattr_setsigmask(&attr, &set);
	sigaddset(&set, SIGPIPE);
	sigaddset(&set, SIGXFSZ);
	(void)posix_spawnattr_setsigdefault(&attr, &set);
	/* A group of its own: Ctrl-C on the terminal is mayfly's affair. */
	(void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
	r = posix_spawnp(&pid, argv[0], &files, &attr, (char *const *)(uintptr_t)argv, environ);
	(void)posix_spawnattr_destroy(&attr);
	(void)posix_spawn_file_actions_destroy(&files);
	if (r == ENOENT)
		return err_set(e, -r, "%s is not installed ('apt install %s')", argv[0], package);
	return r ? err_neg(e, -r, "start %s", argv[0]) : pid;
}

int spawn_wait(pid_t pid, const char *name, struct err *e)
{
	int status = 0;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_sys(e, "wait for %s", name);
	if (WIFSIGNALED(status))
		return err_set(e, -ECHILD, "%s was ended by a signal (%s)", name, strsignal(WTERMSIG(status)));
	if (WEXITSTATUS(status))
		return err_set(e, -ECHILD, "%s has failed with status %d", name, WEXITSTATUS(status));
	return 0;
}
