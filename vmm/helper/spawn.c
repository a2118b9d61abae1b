/* Programs of the host; see spawn.h. */
#include "vmm/helper/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/printable.h"
#include "vmm/base/util.h"

/* The child's descriptor for errno when it cannot become the program; all above it are closed. */
#define REPORT_FD SPAWN_FDS

/* In the child: puts a copy of from, which is above all of them, at to. */
static bool put_fd(int from, int to)
{
	return from > REPORT_FD && dup2(from, to) == to;
}

/* In the child, which has one thread. */
static void __attribute__((noreturn))
become(char *const argv[], const int fd[SPAWN_FDS], int report, pid_t parent, int end_signal)
{
	int high[REPORT_FD + 1], null, code;
	sigset_t none;

	/* A group of its own: Ctrl-C on the terminal is mayfly's affair. */
	(void)setpgid(0, 0); /* cannot fail */
	if (prctl(PR_SET_PDEATHSIG, end_signal) < 0 || getppid() != parent)
		_exit(1);
	(void)signal(SIGPIPE, SIG_DFL); /* cannot fail, nor can these */
	(void)signal(SIGXFSZ, SIG_DFL);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	null = open("/dev/null", O_RDWR);
	for (int i = 0; i <= REPORT_FD; i++) {
		int from = i == REPORT_FD ? report : fd[i];

		high[i] = fcntl(from < 0 ? null : from, F_DUPFD_CLOEXEC, REPORT_FD + 1);
	}
	for (int i = 0; i <= REPORT_FD; i++)
		if (!put_fd(high[i], i))
			_exit(1);
	(void)fcntl(REPORT_FD, F_SETFD, FD_CLOEXEC); /* cannot fail */
	/* Inherited files may lack CLOEXEC: a tap (fd=N), or a file that a shell has left open. */
	closefrom(REPORT_FD + 1);
	execvp(argv[0], argv);
	code = errno;
	(void)!write(REPORT_FD, &code, sizeof(code)); /* if it fails, the program seems to have ended at once */
	_exit(1);
}

pid_t spawn_start(const char *const argv[], const int fd[SPAWN_FDS], int end_signal, const char *package, struct err *e)
{
	MF_CLOSE int read_end = -1;
	MF_CLOSE int write_end = -1;
	int report[2], code = 0;
	pid_t parent = getpid(), pid;
	ssize_t n;

	if (pipe2(report, O_CLOEXEC) < 0)
		return err_sys(e, "make a pipe");
	read_end = report[0];
	write_end = report[1];
	pid = fork();
	if (pid < 0)
		return err_sys(e, "fork");
	if (pid == 0)
		become((char *const *)(uintptr_t)argv, fd, write_end, parent, end_signal);
	close(mf_take_fd(&write_end));
	do
		n = read(read_end, &code, sizeof(code));
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(code))
		return pid;
	(void)waitpid(pid, NULL, 0); /* it is ours and has ended */
	if (code == ENOENT)
		return err_set(e, -code, "%s is not installed ('apt install %s')", argv[0], package);
	return err_neg(e, -code, "start %s", argv[0]);
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

bool spawn_read_end(int fd, char *said, size_t size)
{
	size_t have = 0;
	bool lost = false;
	ssize_t n;

	while ((n = read(fd, said + have, size - 1 - have)) > 0 || (n < 0 && errno == EINTR)) {
		have += (size_t)MF_MAX(n, (ssize_t)0);
		if (have < size - 1)
			continue;
		have = size / 2;
		memmove(said, said + size - 1 - have, have);
		lost = true;
	}
	said[have] = '\0';
	return lost;
}

static bool begins_with_one(const char *line, const char *const words[])
{
	while (*words && strncmp(line, *words, strlen(*words)) != 0)
		words++;
	return *words != NULL;
}

const char *spawn_last_line(char *text, const char *const skip[])
{
	static char nothing[] = "it said nothing";
	char *best = nothing, *rest = text, *line;

	while ((line = strsep(&rest, "\n")))
		if (*line && !begins_with_one(line, skip))
			best = line;
	printable_guest(best, strlen(best) + 1, best);
	return best;
}
