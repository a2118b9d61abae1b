/*
 * The jailer: its order; see fcjailer.h.
 *
 * Steps that need the host's files come first: the executable, the directories, the
 * network namespace, the control group. Then the process gives up everything but its
 * directory (fcjail_enter) and makes the files that its program needs there. Last, it
 * sets its limits, which must not apply to its own work, and drops its privileges. A
 * failure of any step ends the jailer: nothing runs with less protection than was
 * requested.
 *
 * Without daemonize and new_pid_ns this process becomes the program. With one of them the
 * program is a process of its own:
 *
 *	daemonize	jailer -- fork, setsid, /dev/null --> middle -- fork --> program
 *	new_pid_ns	jailer -- fork into the namespace --> program
 *	both		jailer -- fork, setsid, /dev/null --> middle -- fork into the namespace --> program
 *
 * Its parent knows its pid, and writes that into the file. Until then the program's
 * process waits on the pipe `go`. The jailer waits on the pipe `report`. It reads EOF
 * when the program runs (O_CLOEXEC), or the sentence of an error. So once the jailer has
 * ended with status 0, the program runs and its pid can be read.
 *
 * no_new_privs is set, although the programs for which this is made set it themselves: no
 * file in a jail has privileges that need it unset.
 */
#include "jailer/fcjailer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "jailer/fcjailer_parts.h"
#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"

#define MISC "/proc/misc"
#define CHILD_FAILED 125
#define OWN_ARGS 9 /* of the program: its name, four options with values */
#define NUMBER_MAX 24

struct jailer {
	const struct fcjailer_params *p;
	struct fcjail jail;
	int pid_file, null; /* owned, or -1 */
	int report[2], go[2];
	uint64_t parent_cpu_us; /* what was used by processes before this one */
};

static uint64_t cpu_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts); /* it is always there */
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* The minor number of /dev/userfaultfd, or -1 if this kernel has none: "126 userfaultfd". */
static int userfault_minor(void)
{
	char name[32];
	int minor;
	FILE *f = fopen(MISC, "re");

	if (!f)
		return -1;
	while (fscanf(f, "%d %31s", &minor, name) == 2) {
		if (strcmp(name, "userfaultfd") != 0)
			continue;
		fclose(f);
		return minor;
	}
	fclose(f);
	return -1;
}

/* Without --cgroup, the program stays in the caller's group. */
static int enter_cgroup(struct jailer *w, struct err *e)
{
	const struct fcjailer_params *p = w->p;
	struct cgroup_params cp = { .parent = p->parent ? p->parent : w->jail.name, .name = p->id };
	struct cgroup g = { .dir = NULL };

	if (p->num_cgroups == 0)
		return 0;
	cp.num_settings = p->num_cgroups;
	memcpy(cp.setting, p->cgroup, sizeof(cp.setting));
	if (cgroup_make(&g, &cp, e) < 0)
		return e->code;
	if (cgroup_add(&g, getpid(), e) < 0) {
		cgroup_remove(&g);
		return e->code;
	}
	cgroup_free(&g);
	return 0;
}

/* Everything up to the processes. */
static int build(struct jailer *w, struct err *e)
{
	const struct fcjailer_params *p = w->p;
	struct fcjail *j = &w->jail;
	char pid_name[NAME_MAX + 1];

	if (fcjail_open_exec(j, p->exec_file, e) < 0 || fcjail_make_root(j, p->chroot_base, p->id, e) < 0 ||
	    fcjail_copy_exec(j, e) < 0)
		return e->code;
	if ((size_t)snprintf(pid_name, sizeof(pid_name), "%s.pid", j->name) >= sizeof(pid_name))
		return err_set(e, -ENAMETOOLONG, "the name of '%s' is too long", j->exec_path);
	w->pid_file = fcjail_make_file(j, pid_name, e);
	if (w->pid_file < 0)
		return w->pid_file;
	j->userfault_minor = userfault_minor();
	w->null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (w->null < 0)
		return err_sys(e, "open '/dev/null'");
	if (p->netns && fcjail_join_netns(p->netns, e) < 0)
		return e->code;
	if (enter_cgroup(w, e) < 0 || fcjail_enter(j, e) < 0)
		return e->code;
	return fcjail_make_devices(j, e);
}

static int write_pid(const struct jailer *w, pid_t pid, struct err *e)
{
	char text[NUMBER_MAX];
	int r;

	/* No newline: who reads it may take it for the number as it is. */
	snprintf(text, sizeof(text), "%d", (int)pid);
	r = fdio_write_all(w->pid_file, text, strlen(text));
	return r < 0 ? err_neg(e, r, "write '%s/%s.pid'", w->jail.path, w->jail.name) : 0;
}

/* Becomes the program. Returns only if that fails. */
static int become(const struct jailer *w, uint64_t start_cpu_us, struct err *e)
{
	const struct fcjailer_params *p = w->p;
	char start[NUMBER_MAX], start_cpu[NUMBER_MAX], parent_cpu[NUMBER_MAX], path[NAME_MAX + 2];
	const char *const own[OWN_ARGS] = { path,      "--id",
					    p->id,     "--start-time-us",
					    start,     "--start-time-cpu-us",
					    start_cpu, "--parent-cpu-time-us",
					    parent_cpu };
	MF_FREE const char **argv = calloc(OWN_ARGS + p->num_extra + 1, sizeof(*argv));
	char *const none[] = { NULL };

	if (!argv)
		return err_set(e, -ENOMEM, "no memory for arguments");
	snprintf(path, sizeof(path), "/%s", w->jail.name);
	snprintf(start, sizeof(start), "%" PRIu64, p->start_us);
	snprintf(start_cpu, sizeof(start_cpu), "%" PRIu64, start_cpu_us);
	snprintf(parent_cpu, sizeof(parent_cpu), "%" PRIu64, w->parent_cpu_us);
	memcpy(argv, own, sizeof(own));
	memcpy(argv + OWN_ARGS, p->extra, p->num_extra * sizeof(*argv));
	if (fcjail_limit(p->no_file, p->fsize, e) < 0 || fcjail_drop(w->jail.uid, w->jail.gid, e) < 0)
		return e->code;
	(void)signal(SIGXFSZ, SIG_DFL); /* the program has signals as its caller had them */
	execve(path, (char *const *)(uintptr_t)argv, none);
	if (errno == ENOENT)
		return err_set(e, -ENOENT,
			       "run '%s' in the jail: it is not statically linked, and there are no libraries", path);
	return err_sys(e, "run '%s' in the jail", path);
}

/* In a process that is not the jailer: hands the sentence over to it. */
static void __attribute__((noreturn)) report(const struct jailer *w, const struct err *e)
{
	(void)fdio_write_all(w->report[1], e->text, strlen(e->text)); /* there is nowhere else to report it */
	_exit(CHILD_FAILED);
}

/* Starts the program's process, and lets it go when its pid is written. */
static int spawn(struct jailer *w, uint64_t start_cpu_us, struct err *e)
{
	char go = 0;
	pid_t pid;
	int r;

	if (w->p->new_pid_ns && unshare(CLONE_NEWPID) < 0)
		return err_sys(e, "make a PID namespace");
	if (pipe2(w->go, O_CLOEXEC) < 0)
		return err_sys(e, "make a pipe");
	w->parent_cpu_us += cpu_us() - start_cpu_us;
	pid = fork();
	if (pid < 0)
		return err_sys(e, "start a process");
	if (pid == 0) {
		close(w->go[1]);
		if (fdio_read(w->go[0], &go, 1) != 1)
			_exit(CHILD_FAILED); /* the parent has told why */
		become(w, 0, e);
		report(w, e);
	}
	close(w->go[0]);
	r = write_pid(w, pid, e);
	if (r == 0) {
		signal(SIGPIPE, SIG_IGN); /* if somebody has killed it */
		r = fdio_write_all(w->go[1], &go, 1);
		if (r < 0)
			err_neg(e, r, "start the program");
	}
	close(w->go[1]);
	return r;
}

/* The process between the jailer and a daemon. */
static void __attribute__((noreturn)) middle(struct jailer *w, struct err *e)
{
	int r = setsid() < 0 ? err_sys(e, "make a session") : 0;

	for (int fd = 0; fd <= 2 && r == 0; fd++)
		r = dup2(w->null, fd) < 0 ? err_sys(e, "redirect the standard streams") : 0;
	if (r == 0)
		r = spawn(w, 0, e);
	if (r < 0)
		report(w, e);
	_exit(0);
}

/* Waits until the program runs or reports an error. */
static int wait_for_report(struct jailer *w, struct err *e)
{
	char text[ERR_TEXT_MAX];
	ssize_t n = fdio_read(w->report[0], text, sizeof(text) - 1);

	if (n < 0)
		return err_neg(e, (int)n, "wait for the program");
	text[n] = '\0';
	return n == 0 ? 0 : err_set(e, -ECHILD, "%s", text);
}

static int run_apart(struct jailer *w, struct err *e)
{
	pid_t pid;
	int r;

	if (pipe2(w->report, O_CLOEXEC) < 0)
		return err_sys(e, "make a pipe");
	if (w->p->daemonize) {
		w->parent_cpu_us = cpu_us() - w->p->start_cpu_us;
		pid = fork();
		if (pid < 0)
			return err_sys(e, "start a process");
		if (pid == 0)
			middle(w, e);
	} else if (spawn(w, w->p->start_cpu_us, e) < 0) {
		return e->code;
	}
	close(w->report[1]);
	r = wait_for_report(w, e);
	close(w->report[0]);
	return r;
}

static int run_here(struct jailer *w, struct err *e)
{
	if (write_pid(w, getpid(), e) < 0)
		return e->code;
	return become(w, w->p->start_cpu_us, e);
}

int fcjailer_run(const struct fcjailer_params *p, struct err *e)
{
	struct jailer w = { .p = p, .pid_file = -1, .null = -1 };
	int r;

	if (geteuid() != 0)
		return err_set(e, -EPERM, "the jailer must be started by root");
	if (close_range(3, ~0U, 0) < 0)
		return err_sys(e, "close the files from 3 up");
	clearenv();
	fcjail_init(&w.jail, (uid_t)p->uid, (gid_t)p->gid);
	r = build(&w, e);
	if (r == 0 && (p->daemonize || p->new_pid_ns))
		r = run_apart(&w, e);
	else if (r == 0)
		r = run_here(&w, e);
	if (r < 0)
		fcjail_undo(&w.jail);
	fcjail_done(&w.jail);
	mf_cleanup_close(&w.pid_file);
	mf_cleanup_close(&w.null);
	return r;
}
