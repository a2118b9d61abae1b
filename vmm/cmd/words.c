/* See words.h. */
#include "vmm/cmd/words.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jailer/mounts.h"
#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/log.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/cli/cli.h"

int words_add(struct words *w, const char *text, struct err *e)
{
	if (w->num == WORDS_MAX)
		return err_set(e, -E2BIG, "more than %d words", WORDS_MAX);
	w->word[w->num] = strdup(text);
	return w->word[w->num++] ? 0 : err_set(e, -ENOMEM, "out of memory");
}

int words_add_all(struct words *w, const struct words *more, struct err *e)
{
	for (unsigned i = 0; i < more->num; i++)
		if (words_add(w, more->word[i], e) < 0)
			return e->code;
	return 0;
}

int words_add_option(struct words *w, const struct cli_option *o, const char *value, struct err *e)
{
	MF_FREE char *text = NULL;

	if (asprintf(&text, value ? "--%s=%s" : "--%s", o->long_name, value) < 0) {
		text = NULL;
		return err_set(e, -ENOMEM, "out of memory");
	}
	return words_add(w, text, e);
}

void words_prepare_jails(const struct words *options)
{
	struct err e;
	bool jail = false;

	for (unsigned i = 0; i < options->num; i++)
		jail = jail || !strcmp(options->word[i], "--jail") || !strncmp(options->word[i], "--jail=", 7);
	if (jail && mounts_offer(&e) < 0)
		log_debug("a small mount namespace: %s; jails are made without", e.text);
}

/* In the child. out: what becomes stdout and stderr, or -1: they stay. */
static void __attribute__((noreturn)) become(struct words *w, const int out[WORDS_STREAMS])
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	sigset_t none;

	(void)setpgid(0, 0); /* Ctrl-C on the terminal is ours */
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0)
		_exit(STATUS_FAILED);
	for (int i = 0; i < WORDS_STREAMS; i++)
		if (out[i] >= 0 && dup2(out[i], STDOUT_FILENO + i) < 0)
			_exit(STATUS_FAILED);
	(void)execv("/proc/self/exe", w->word);
	report_line("start 'mayfly %s': %s", w->word[1], strerror(errno));
	_exit(STATUS_FAILED);
}

pid_t words_start(struct words *w, int ret_fd[WORDS_STREAMS], struct err *e)
{
	int pipes[WORDS_STREAMS][2] = { { -1, -1 }, { -1, -1 } }, out[WORDS_STREAMS] = { -1, -1 };
	pid_t pid = -1;

	for (int i = 0; ret_fd && i < WORDS_STREAMS; i++) {
		if (pipe2(pipes[i], O_CLOEXEC) < 0)
			goto failed;
		out[i] = pipes[i][1];
	}
	pid = fork();
	if (pid == 0)
		become(w, out);
failed:
	if (pid < 0)
		err_sys(e, "start a process");
	for (int i = 0; i < WORDS_STREAMS; i++) {
		if (pipes[i][1] >= 0)
			close(pipes[i][1]);
		if (ret_fd && pid >= 0)
			ret_fd[i] = pipes[i][0];
		else if (pipes[i][0] >= 0)
			close(pipes[i][0]);
	}
	return pid < 0 ? e->code : pid;
}

int words_status(int wait_status)
{
	return WIFSIGNALED(wait_status) ? STATUS_SIGNAL_BASE + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

int words_wait(pid_t pid)
{
	int status = 0;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return words_status(status);
}
