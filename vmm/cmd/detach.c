/* A VM in the background: the caller, and the way into the VM's process; see detach.h. */
#include "vmm/cmd/detach.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/fdio.h"
#include "vmm/base/fdstore.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/cli/cli.h"
#include "vmm/config/config.h"
#include "vmm/process/ending.h"
#include "vmm/records/record.h"
#include "vmm/snapshot/chain.h"

/* The pipe on which the caller waits: its write end, in the VM's process. */
static int caller_fd = -1;

/* In the caller. */

static volatile pid_t vm_pid;

static void pass_on(int sig)
{
	(void)sig;
	(void)kill(vm_pid, SIGTERM); /* our child: it has not been waited for */
}

/* Passes on what asks for the end, unless it is ignored. */
static void install_handlers(void)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT };
	struct sigaction old, sa = { .sa_handler = pass_on, .sa_flags = SA_RESTART };

	for (size_t i = 0; i < MF_ARRAY_SIZE(signals); i++)
		if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			(void)sigaction(signals[i], &sa, NULL); /* cannot fail */
}

/* Waits for the name of the VM, or for its end. Returns the exit status. */
static int await_name(int fd)
{
	char name[RECORD_NAME_MAX + 2];
	struct err e;
	ssize_t n = fdio_read(fd, name, sizeof(name));
	int status;

	if (n > 1 && name[n - 1] == '\n') {
		printf("%.*s", (int)n, name);
		return cli_check_stdout(&e) < 0 ? report_err(&e) : STATUS_OK;
	}
	while (waitpid(vm_pid, &status, 0) < 0)
		if (errno != EINTR)
			return STATUS_FAILED;
	return WIFEXITED(status) ? WEXITSTATUS(status) : STATUS_SIGNAL_BASE + WTERMSIG(status);
}

/* In the VM's process. */

/* Closes what the caller has open, but for the interfaces of -n fd=N, and what mayfly has opened in advance. */
static void close_inherited(const struct config *c, int keep_fd)
{
	int keep[FILES_MAX + CONFIG_NETS_MAX + CHAIN_MAX + 2];
	unsigned first = STDERR_FILENO + 1, num = fdstore_list(keep);

	keep[num++] = caller_fd;
	keep[num++] = keep_fd; /* -1 is beyond all */
	for (unsigned i = 0; c->restore_chain && i < c->restore_chain->num; i++)
		keep[num++] = c->restore_chain->layer[i].fd; /* a fork's, which have no names */
	for (unsigned i = 0; i < c->num_nets; i++)
		if (c->net[i].kind == CONFIG_NET_FD)
			keep[num++] = c->net[i].fd;
	for (;;) {
		unsigned kept = ~0U;

		for (unsigned i = 0; i < num; i++)
			if ((unsigned)keep[i] >= first)
				kept = MF_MIN(kept, (unsigned)keep[i]);
		if (kept > first)
			(void)close_range(first, kept == ~0U ? kept : kept - 1, 0); /* Linux 5.9 */
		if (kept == ~0U)
			return;
		first = kept + 1;
	}
}

static int use_null(int fd, int flags)
{
	MF_CLOSE int null = open("/dev/null", flags | O_CLOEXEC);

	return null < 0 || dup2(null, fd) < 0 ? -errno : 0;
}

bool detach_fork(struct config *c, int keep_fd, int *ret_status)
{
	struct err e;
	int fd[2];

	*ret_status = STATUS_FAILED;
	if (c->command.tty == CONFIG_TTY_AUTO)
		c->command.terminal = false;
	fflush(NULL);
	if (pipe2(fd, O_CLOEXEC) < 0) {
		err_sys(&e, "detach: make a pipe");
		(void)report_err(&e);
		return false;
	}
	vm_pid = fork();
	if (vm_pid < 0) {
		err_sys(&e, "detach: fork");
		(void)report_err(&e);
		return false;
	}
	if (vm_pid) {
		install_handlers();
		close(fd[1]);
		*ret_status = await_name(fd[0]);
		return false;
	}
	close(fd[0]);
	caller_fd = fd[1];
	(void)setsid(); /* cannot fail: a new process leads no group */
	close_inherited(c, keep_fd);
	if (use_null(STDIN_FILENO, O_RDONLY) < 0 || use_null(STDOUT_FILENO, O_WRONLY) < 0) {
		err_sys(&e, "detach: open /dev/null");
		_exit(report_err(&e));
	}
	*ret_status = STATUS_OK;
	return true;
}

/* The log's files; their path is in the record. */
static int make_log(struct detach_log *l, struct record_writer *w, struct err *e)
{
	MF_FREE char *path = NULL;
	int r;

	l->dir = record_open_logs(w, &path, e);
	if (l->dir < 0)
		return l->dir;
	r = detach_log_open(l);
	if (r < 0)
		return err_neg(e, r, "make '%s'", path);
	record_add_text(w, "log", path);
	return 0;
}

int detach_start_log(const struct config *c, struct record_writer *w, struct err *e)
{
	struct detach_log l = { .caller = caller_fd,
				.err = STDERR_FILENO,
				.file = -1,
				.name = w->name,
				.half_max = (c->log_max ? c->log_max : DETACH_LOG_DEFAULT) / 2,
				.remove = c->remove };
	int out[2], ready[2];
	pid_t pid;

	snprintf(l.id, sizeof(l.id), "%s", w->id);
	if (make_log(&l, w, e) < 0)
		return err_wrap(e, "log");
	if (pipe2(out, O_CLOEXEC) < 0 || pipe2(ready, O_CLOEXEC) < 0)
		return err_sys(e, "log: make a pipe");
	l.from = out[0];
	l.ready = ready[0];
	ending_hold(true);
	pid = fork();
	if (pid == 0)
		detach_log_run(&l);
	ending_hold(false);
	if (pid < 0)
		return err_sys(e, "log: fork");
	if (dup2(out[1], STDOUT_FILENO) < 0 || dup2(out[1], STDERR_FILENO) < 0)
		return err_sys(e, "log: copy a descriptor");
	w->ready_fd = ready[1];
	close(out[0]);
	close(out[1]);
	close(ready[0]);
	close(l.file);
	close(l.dir);
	close(mf_take_fd(&caller_fd));
	return 0;
}
