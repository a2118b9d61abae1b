/*
 * `mayfly oci create`: a VM that has booted, and whose command waits for `start`.
 *
 * The monitor is a child of this process, and the engine's container: it has the streams of this process, the network
 * namespace and the control group of the bundle. When it is in these, it says so (IN_PLACE), and waits for a byte (go): this
 * process has then written its PID to the state, and run the hooks. Then this process waits until the guest is ready (a NUL from
 * record_started), or for the sentence that says why there is none.
 *
 * Either may be killed at any time. The state is written before what it names is made, so `delete` finds all of it. A monitor
 * that is in no state reads EOF in place of the byte, and ends. If `delete` comes before the end, this process cannot write
 * the state any more, and fails.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"
#include "vmm/cmd/oci_parts.h"
#include "vmm/cmd/run.h"
#include "vmm/oci/console.h"
#include "vmm/oci/net_join.h"
#include "vmm/records/record.h"

struct create {
	const struct oci_options *options;
	char *bundle;
	struct spec spec;
	struct config config;
	struct container container;
	struct cgroup group;
	pid_t holder; /* of a scope of systemd, until the monitor is in it; or -1 */
	int report;   /* to the process that waits */
	int go;	      /* from it */
	bool made;
	bool hooked; /* hooks have run */
};

#define IN_PLACE 1 /* on the way to the process that waits; no sentence begins so */

/* It is the parser's, too, which gets no pointer of ours. */
static struct create *create_the_one(void)
{
	static struct create x; /* large, so it is set here: the binary has no copy */

	if (!x.made)
		x = (struct create){
			.container = { .root = -1, .dir = -1 }, .holder = -1, .report = -1, .go = -1, .made = true
		};
	return &x;
}

/* In the monitor. */

static int child_enter(const struct create *x, struct err *e)
{
	const struct spec *s = &x->spec;
	const char byte = IN_PLACE;
	char go;
	int r;

	if (x->group.dir && cgroup_add(&x->group, 0, e) < 0)
		return err_wrap(e, "control group");
	/* A hook may make interfaces in a new one. */
	if ((s->netns && s->net != SPEC_NET_NONE) || (s->hooks && s->net == SPEC_NET_JOIN && !s->host_net)) {
		if (net_join_enter(s->netns, e) < 0)
			return e->code;
	}
	r = fdio_write_all(x->report, &byte, 1);
	if (r == 0 && fdio_read(x->go, &go, 1) != 1)
		r = -ECANCELED;
	return r < 0 ? err_neg(e, r, "wait for the process that creates it") : 0;
}

/* All that needs its namespace, and the checks behind that. */
static int child_configure(const struct create *x, struct config *c, struct err *e)
{
	const struct spec *s = &x->spec;

	if (child_enter(x, e) < 0)
		return e->code;
	if (x->options->console_socket && s->terminal && console_attach(x->options->console_socket, s, e) < 0)
		return err_wrap(e, "terminal");
	if (s->net == SPEC_NET_JOIN && (s->netns || s->hooks) && net_join_take(c, e) < 0)
		return e->code;
	if (s->net == SPEC_NET_USER && config_set(c, "nets", "user", e) < 0)
		return err_wrap(e, "annotations.mayfly.net");
	return config_check(c, e);
}

static int child_parse(struct config *c, int argc, char **argv, struct err *e)
{
	struct create *x = create_the_one();
	int r;

	(void)argc; /* the bundle says all */
	(void)argv;
	config_done(c);
	*c = x->config;
	x->config = (struct config){ 0 };
	r = child_configure(x, c, e);
	c->ready_fd = x->report;
	return r;
}

static void __attribute__((noreturn)) child_run(struct create *x)
{
	static char name[] = "oci";
	char *argv[] = { name, NULL };

	(void)setsid(); /* cannot fail: a new process leads no group */
	container_done(&x->container);
	exit(run_vm(child_parse, 1, argv));
}

/* In the process that waits. */

/* Until the monitor says this byte. Returns 0, or -errno with e set: it is over. */
static int await(int fd, char byte, struct err *e)
{
	char text[ERR_TEXT_MAX];
	ssize_t n;

	n = fdio_read(fd, text, 1);
	if (n == 1 && *text == byte)
		return 0;
	if (n == 1)
		n = fdio_read(fd, text + 1, sizeof(text) - 2);
	if (n < 0)
		return err_neg(e, (int)n, "wait for the guest");
	if (n == 0)
		return err_set(e, -ECHILD, "the VM was killed before it was ready");
	text[n + 1] = '\0';
	return err_set(e, -ECHILD, "%s", text);
}

int oci_write_pid(const char *path, pid_t pid, struct err *e)
{
	MF_CLOSE int fd = -1;
	char part[PATH_MAX], text[16];
	int r;

	if (!path)
		return 0;
	snprintf(part, sizeof(part), "%s.mayfly", path);
	fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return err_sys(e, "pid file '%s'", part);
	snprintf(text, sizeof(text), "%d", pid);
	r = fdio_write_all(fd, text, strlen(text));
	if (r == 0 && rename(part, path) < 0)
		r = -errno;
	return r < 0 ? err_neg(e, r, "pid file '%s'", path) : 0;
}

/* Adds these members to the state, and frees them. Returns 0 or -errno with e set. */
static int write_state(const struct container *k, json_t *more, struct err *e)
{
	int r = more ? json_object_update(k->json, more) : -1;

	json_decref(more);
	return r < 0 ? err_set(e, -ENOMEM, "out of memory") : container_write(k, e);
}

/* Before there is anything. */
static int write_first(const struct create *x, const char *group, struct err *e)
{
	return write_state(&x->container,
			   json_pack("{s:s, s:i, s:s, s:s, s:O*, s:O*}", "bundle", x->bundle, "pid", 0, "name",
				     x->config.name, "cgroup", group ? group : "", "annotations", x->spec.annotations,
				     "hooks", x->spec.hooks),
			   e);
}

static int run_hooks(struct create *x, pid_t pid, struct err *e)
{
	static const char *const kinds[] = { "prestart", "createRuntime", "createContainer" };
	int r = 0;

	x->hooked = true;
	for (size_t i = 0; !r && i < MF_ARRAY_SIZE(kinds); i++)
		r = oci_run_hooks(&x->container, kinds[i], "creating", pid, e);
	return r;
}

/* From a monitor that was just made to one that is ready. */
static int lead(struct create *x, pid_t pid, int report, int go, struct err *e)
{
	const char byte = 0;
	int r;

	r = write_state(&x->container,
			json_pack("{s:i, s:I, s:s, s:b}", "pid", (int)pid, "ticks", (json_int_t)record_start_ticks(pid),
				  "cgroup", x->group.dir ? x->group.dir : "", "scope", x->holder > 0),
			e);
	if (!r)
		r = await(report, IN_PLACE, e);
	oci_scope_leave(&x->holder);
	if (!r)
		r = run_hooks(x, pid, e);
	if (r < 0)
		return r;
	(void)fdio_write_all(go, &byte, 1); /* if it has ended, it says why, or ends the pipe */
	r = await(report, '\0', e);
	if (!r)
		r = write_state(&x->container, json_pack("{s:b}", "ready", 1), e);
	return r < 0 ? r : oci_write_pid(x->options->pid_file, pid, e);
}

static int start_monitor(struct create *x, struct err *e)
{
	int fd[2], go[2], r, status;
	pid_t pid;

	if (pipe2(fd, O_CLOEXEC) < 0 || pipe2(go, O_CLOEXEC) < 0)
		return err_sys(e, "make a pipe");
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		close(fd[0]);
		close(go[1]);
		x->report = fd[1];
		x->go = go[0];
		child_run(x);
	}
	close(fd[1]);
	close(go[0]);
	(void)signal(SIGPIPE, SIG_IGN); /* of a monitor that has ended; cannot fail */
	r = pid < 0 ? err_sys(e, "fork") : lead(x, pid, fd[0], go[1], e);
	if (r < 0 && pid > 0) {
		(void)kill(pid, SIGKILL); /* our child: it has not been waited for, and says no more */
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	}
	close(fd[0]);
	close(go[1]);
	return r;
}

/* The VM's name for `mayfly ps`: the id, as far as a name can have it. */
static int set_name(struct config *c, const char *id, struct err *e)
{
	char name[CONFIG_ID_MAX + 1];

	snprintf(name, sizeof(name), "%.*s", CONFIG_ID_MAX, id);
	for (char *at = name; *at; at++)
		if (*at == '+')
			*at = '-';
	return config_set(c, "name", name, e) < 0 ? err_wrap(e, "container id") : config_set(c, "rm", "true", e);
}

static int create(struct create *x, struct err *e)
{
	const struct oci_options *o = x->options;

	x->bundle = realpath(o->bundle ? o->bundle : ".", NULL);
	if (!x->bundle)
		return err_sys(e, "bundle '%s'", o->bundle);
	if (container_check_id(o->id, e) < 0 || spec_read(&x->spec, &x->config, x->bundle, e) < 0)
		return e->code;
	if (x->spec.terminal && !o->console_socket)
		return err_set(e, -EINVAL, "process.terminal: needs --console-socket");
	x->config.command.held = true;
	return set_name(&x->config, o->id, e);
}

int oci_create(struct oci_options *o, struct err *e)
{
	struct create *x = create_the_one();
	MF_FREE char *group = NULL;
	int r;

	x->options = o;
	config_init(&x->config);
	r = create(x, e);
	if (!r)
		r = container_make(&x->container, o->root, o->id, e);
	if (r < 0)
		return r;
	group = oci_group_path(&x->spec, o->systemd_cgroup, e);
	r = write_first(x, group, e);
	if (!r)
		r = oci_group_make(&x->group, &x->holder, &x->spec, o->systemd_cgroup, e);
	if (!r)
		r = start_monitor(x, e);
	if (r < 0) {
		struct err late;

		oci_scope_leave(&x->holder);
		if (x->group.dir)
			cgroup_remove(&x->group);
		/* The first error counts. If `delete` was there before, the hooks were its affair. */
		if (container_remove(&x->container, &late) == 0 && x->hooked)
			oci_try_hooks(&x->container, "poststop", "stopped", 0);
	}
	return r;
}
