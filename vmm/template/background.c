/* A process that a run leaves behind; see background.h. */
#include "vmm/template/background.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"

struct config_template_link *background_link(void)
{
	void *link = mmap(NULL, sizeof(struct config_template_link), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			  -1, 0);

	return link == MAP_FAILED ? NULL : link;
}

/* The run's child forks it, so that the run is not the one that has to wait for it. */
void background_start(void (*work)(void *ctx), void *ctx)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		pid = fork();
		if (pid == 0)
			work(ctx);
		_exit(pid < 0);
	}
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

bool background_leave(int fd)
{
	const struct rlimit no_core = { 0 };
	MF_CLOSE int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t all;

	for (int sig = 1; sig < NSIG; sig++)
		(void)signal(sig, SIG_DFL); /* some have no handlers */
	(void)signal(SIGXFSZ, SIG_IGN);
	(void)signal(SIGPIPE, SIG_IGN);
	sigemptyset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, NULL);
	(void)setsid();
	(void)setrlimit(RLIMIT_CORE, &no_core);
	(void)prctl(PR_SET_NAME, "mayfly-template");
	umask(077);
	if (chdir("/") < 0 || null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
	    dup2(null, STDERR_FILENO) < 0)
		return false;
	if (fd != BACKGROUND_FD && dup2(fd, BACKGROUND_FD) < 0)
		return false;
	closefrom(BACKGROUND_FD + 1);
	log_setup(LOG_LEVEL_ERROR, -1);
	return true;
}

void background_yield(void)
{
	static const struct sched_param lowest;

	/* Lower is nicer, and each may be forbidden. */
	(void)setpriority(PRIO_PROCESS, 0, 19);
	(void)sched_setscheduler(0, SCHED_IDLE, &lowest);
}
