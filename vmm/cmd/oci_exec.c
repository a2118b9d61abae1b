/*
 * `mayfly oci exec`: another process in a container. It is a session of the control socket, as that of `mayfly exec`. With
 * --detach it is a child of this process, which ends when the guest was asked to run the command: the child's PID is the
 * process's for the engine, and its status is the command's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/cmd/oci_parts.h"
#include "vmm/cmd/session.h"
#include "vmm/guest/init_text.h"
#include "vmm/oci/console.h"
#include "vmm/oci/json_at.h"

static int read_process(struct oci_options *o, struct spec *s, struct err *e)
{
	struct json_at top = { .json = NULL };

	if (!o->process)
		return err_set(e, -EINVAL, "which process? give --process FILE; `mayfly exec NAME` takes a command");
	if (json_at_read(&s->json, o->process, e) < 0)
		return e->code;
	top.json = s->json;
	return spec_read_process(s, &o->config, &top, e) < 0 ? err_wrap(e, "%s", o->process) : 0;
}

/* Runs it with our streams. Returns its status. report: or 0: where what fails before it runs goes. */
static int run(struct oci_options *o, const struct spec *s, const char *name, int report)
{
	static struct session_params params;
	static struct session x; /* its threads may run until the process ends */
	char size[STDIO_RELAY_TTY_TEXT_MAX];
	struct config_command *c = &o->config.command;
	MF_FREE char *text = NULL;
	size_t len = 0;
	struct err e;
	int r = 0;

	if (o->console_socket && s->terminal)
		r = console_attach(o->console_socket, s, &e);
	config_complete_command(c);
	params = (struct session_params){ .guest = name, .tty = c->terminal, .told_fd = report };
	if (!r) {
		text = init_text_command(c, c->terminal ? stdio_relay_tty_text(size) : NULL, &len);
		r = text ? session_open(&x, &params, &e) : err_set(&e, -ENOMEM, "out of memory");
	}
	if (!r)
		r = session_run(&x, text, len, &e);
	/* A failure to write it means that the other process has ended. */
	if (r < 0 && report)
		(void)fdio_write_all(report, e.text, strlen(e.text));
	return session_status(&x, r, &e, "exec");
}

static int run_detached(struct oci_options *o, const struct spec *s, const char *name, struct err *e)
{
	char text[ERR_TEXT_MAX] = "";
	ssize_t n;
	pid_t pid;
	int fd[2], status;

	if (pipe2(fd, O_CLOEXEC) < 0)
		return err_sys(e, "make a pipe");
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		(void)setsid(); /* cannot fail: a new process leads no group */
		close(fd[0]);
		exit(run(o, s, name, fd[1]));
	}
	close(fd[1]);
	n = pid < 0 ? 0 : fdio_read(fd[0], text, 1);
	if (n == 1 && *text)
		(void)fdio_read(fd[0], text + 1, sizeof(text) - 2); /* the rest of a sentence */
	close(fd[0]);
	if (pid < 0)
		return err_sys(e, "fork");
	if (n == 1 && !*text)
		return oci_write_pid(o->pid_file, pid, e);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return err_set(e, -ECHILD, "%s", *text ? text : "the process that runs the command has ended");
}

int oci_exec(struct oci_options *o, struct err *e)
{
	struct container k;
	struct spec s = { .json = NULL };
	MF_FREE char *name = NULL;
	int r = container_open(&k, o->root, o->id, e);

	log_set_thread("exec");
	if (!r && !container_is(&k, "started"))
		r = err_set(e, -EINVAL, "container '%s' is not running", o->id);
	if (!r)
		r = read_process(o, &s, e);
	if (!r && s.terminal && o->detach && !o->console_socket)
		r = err_set(e, -EINVAL, "a terminal needs --console-socket with --detach");
	name = strdup(container_text(&k, "name"));
	container_done(&k); /* the session's filter allows no close(2) */
	if (r < 0 || !name)
		return r < 0 ? r : err_set(e, -ENOMEM, "out of memory");
	if (o->detach)
		return run_detached(o, &s, name, e);
	return oci_write_pid(o->pid_file, getpid(), e) < 0 ? e->code : run(o, &s, name, 0);
}
