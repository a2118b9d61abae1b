/*
 * `mayfly run --jail`: the process outside of the jail.
 *
 * Theory of operation. The process that the user started stays outside of the jail. First it
 * does what needs the host: it opens files, attaches to taps, binds sockets, starts passt and
 * the keepers of artifacts, and makes the control group. Then it forks. The child enters the
 * jail (jailer/jail.c) and forks the process that runs the VM. So only a jailed process ever
 * parses kernels, images and rings, which may be hostile. During the set-up the two talk
 * through the socket pair "start":
 *
 *	outside				child
 *	  <-- START_MAP			it has made a user namespace, and needs its ID maps
 *	  namespaces_map
 *	  START_MAP -->
 *	  <-- START_DONE, the PIDs	the VM's process and PID 1 of its namespace, both children of the outside
 *
 * Then the process outside drops its privileges and loads its seccomp filter (outer_rules). It
 * forwards signals through a pipe, which the VM reads in place of its own: a terminal sends its
 * signals to both processes, and each must count once. It answers the VM's questions
 * (privsep.h), and reports a passt that has ended. When the VM has ended, it removes sockets, and
 * run.c the control group; it exits with the VM's status. EOF on the pipe "life", whose write end it has,
 * ends PID 1 of the jail, and so everything in the jail: its SIGKILL leaves no process behind.
 *
 * The VM is not trusted to end when it is asked to. The process outside has a clock of its own
 * (ending.c), and kills the jail shortly before that runs out; what the kernel cannot kill stays.
 */
#include "vmm/jail/supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jailer/landlock.h"
#include "jailer/namespaces.h"
#include "jailer/privileges.h"
#include "virtio/vsock.h"
#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/fdstore.h"
#include "vmm/base/log.h"
#include "vmm/base/report.h"
#include "vmm/base/result.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/helper/helpers.h"
#include "vmm/jail/jail_group.h"
#include "vmm/jail/parent.h"
#include "vmm/jail/privsep.h"
#include "vmm/jail/supervise_parts.h"
#include "vmm/process/confine.h"
#include "vmm/process/crash.h"
#include "vmm/process/ending.h"
#include "vmm/process/notify.h"
#include "vmm/process/tty.h"
#include "vmm/records/record.h"

static int pick(const struct config_ids *ids, unsigned own)
{
	if (geteuid() != 0)
		return (int)own;
	return ids->num ? (int)(ids->first + (uint64_t)getpid() % ids->num) : (int)JAIL_ID_DEFAULT;
}

static int make_pair(int pair[2], struct err *e)
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ? err_sys(e, "make a socket pair") : 0;
}

/* A pipe; the write end is outside. */
static int make_pipe(int pair[2], struct err *e)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC) < 0)
		return err_sys(e, "make a pipe");
	pair[INSIDE] = fd[0];
	pair[OUTSIDE] = fd[1];
	return 0;
}

static int supervise_prepare(struct outer *o, struct err *e)
{
	const struct config *c = o->config;
	struct jail_group *g = o->parent->group;
	const bool has_vsock = c->vsock.path || (c->pool && config_has_vsock(c)); /* or it comes with a claim */

	if (jail_files_provide(c, &o->names, e) < 0)
		return e->code;
	ending_serve(); /* a signal handler could not undo what follows */
	if (jail_group_make(g, &c->jail, e) < 0 || make_pair(o->start, e) < 0 || make_pipe(o->life, e) < 0 ||
	    make_pipe(o->signals, e) < 0 || make_pair(o->tty, e) < 0 || (has_vsock && make_pair(o->vsock, e) < 0))
		return err_wrap(e, "jail");
	if (g->made)
		record_add_text(o->parent->record, "cgroup", g->cgroup.dir);
	/* A VM that does not read its signals must not block us. */
	(void)fcntl(o->signals[OUTSIDE], F_SETFL, O_NONBLOCK); /* cannot fail */
	return 0;
}

static void close_ends(struct outer *o, int which)
{
	int *const pairs[] = { o->start, o->life, o->signals, o->tty, o->vsock };

	for (size_t i = 0; i < MF_ARRAY_SIZE(pairs); i++) {
		if (pairs[i][which] >= 0)
			close(mf_take_fd(&pairs[i][which]));
	}
}

/* Outside. */

/* If the pipe is full, the VM has plenty of signals to read. */
static void supervise_forward(const struct outer *o, int signo)
{
	const uint8_t number = (uint8_t)signo;

	(void)!write(o->signals[OUTSIDE], &number, sizeof(number));
}

/* Waits for a message from the child. Returns false if it has ended, or the end was requested. */
static bool await_start(struct outer *o, struct start_msg *ret)
{
	struct pollfd fds[] = {
		{ .fd = o->start[OUTSIDE], .events = POLLIN },
		{ .fd = o->parent->signal_fd, .events = POLLIN },
	};
	int signo;

	while (!fds[0].revents) {
		if (poll(fds, MF_ARRAY_SIZE(fds), -1) < 0)
			fds[0].revents = fds[1].revents = 0; /* EINTR */
		if (!fds[1].revents)
			continue;
		signo = ending_take(o->parent->signal_fd);
		if (ending_was_asked())
			return false;
		if (signo)
			supervise_forward(o, signo);
	}
	return recv(o->start[OUTSIDE], ret, sizeof(*ret), MSG_DONTWAIT) == (ssize_t)sizeof(*ret);
}

/* Serves the child until the VM's process runs. Returns 0, or the exit status of a child that failed. */
static int attend_start(struct outer *o)
{
	struct start_msg msg = { .what = START_MAP };
	struct err e;
	int status;

	while (await_start(o, &msg) && msg.what == START_MAP) {
		msg.result = namespaces_map(o->child, o->uid, o->gid, geteuid() == 0, &e);
		if (msg.result < 0)
			log_error("%s", e.text);
		(void)send(o->start[OUTSIDE], &msg, sizeof(msg), MSG_NOSIGNAL); /* or the next recv fails */
	}
	if (ending_was_asked()) {
		(void)kill(o->child, SIGKILL); /* our child; EOF on "life" ends what it has started */
		return ending_report(false);
	}
	if (waitpid(o->child, &status, 0) != o->child || !WIFEXITED(status))
		return STATUS_FAILED;
	close(mf_take_fd(&o->start[OUTSIDE]));
	o->pids = msg.pids;
	return WEXITSTATUS(status) || msg.what == START_DONE ? WEXITSTATUS(status) : STATUS_FAILED;
}

static const char *directory_of(char *path)
{
	return path ? dirname(path) : NULL;
}

/*
 * Drops the rights that are no longer needed: only names of sockets and groups are still to be
 * removed. Without Landlock it continues with capabilities and filter. Returns 0, or -errno with e
 * set if there is no filter.
 */
static int confine_outer(const struct outer *o, struct err *e)
{
	const struct jail_group *g = o->parent->group;
	const struct config *c = o->config;
	/* The root of cgroup v2 is not writable, not even for its owner. */
	bool has_names = c->vsock.path || o->names.control.bound || g->made || result_dir_fd() >= 0;
	/* Without a PID namespace, we have to kill the VM's process, which is another user's. */
	uint64_t mask = (has_names ? 1ULL << CAP_DAC_OVERRIDE : 0) | (o->pids.init ? 0 : 1ULL << CAP_KILL);
	MF_FREE char *vsock = c->vsock.path ? strdup(c->vsock.path) : NULL;
	MF_FREE char *control = o->names.control.bound ? strdup(c->control) : NULL;
	MF_FREE char *group = g->parent ? strdup(g->parent) : NULL;
	MF_FREE char *records = record_directory(o->parent->record);
	MF_FREE char *result = result_dir_fd() >= 0 ? strdup(c->result_file) : NULL;
	const struct landlock_dir dirs[] = {
		{ directory_of(vsock), LANDLOCK_REMOVE_SOCKETS },
		{ directory_of(control), LANDLOCK_REMOVE_SOCKETS },
		{ g->parent, LANDLOCK_REMOVE_DIRS },
		{ directory_of(group), LANDLOCK_REMOVE_DIRS },
		{ records, LANDLOCK_REMOVE_FILES },
		{ directory_of(result), LANDLOCK_RENAME_FILES },
	};
	struct confine_own own = CONFINE_OWN_NONE;
	struct confine confine;

	if (geteuid() == 0 && privileges_lock(e) < 0)
		log_debug("outside: %s", e->text);
	if (privileges_drop(geteuid() == 0 ? mask : 0, e) < 0 || landlock_restrict(dirs, MF_ARRAY_SIZE(dirs), e) < 0)
		log_debug("outside: %s", e->text);
	tty_keep_group();
	confine_init(&confine, c->seccomp);
	confine.capabilities = mask;
	confine.value[SLOT_CHILD] = o->pids.main;
	confine.value[SLOT_RECORD] = o->parent->record->fd;
	confine.value[SLOT_READY] = o->parent->record->ready_fd;
	confine.value[SLOT_EVENTS] = g->made ? g->events_fd : -1;
	confine.value[SLOT_CLIENT] = o->parent->member ? o->parent->member->client_fd : -1;
	own.to = o->signals[OUTSIDE];
	own.watch[0] = o->tty[OUTSIDE];
	own.watch[1] = o->vsock[OUTSIDE];
	if (g->base.leaf) {
		own.watch[2] = g->base.control_fd;
		own.watch[3] = g->base.procs_fd;
	}
	return confine_thread(&confine, THREAD_OUTER, &own, e);
}

static int supervise_answer(void *ctx, enum privsep_call call, uint32_t value)
{
	struct outer *o = ctx;

	switch (call) {
	case PRIVSEP_TTY_RAW:
		o->tty_raw = tty_raw(STDIN_FILENO);
		return o->tty_raw;
	case PRIVSEP_TTY_RESTORE:
		o->tty_raw = false;
		tty_restore();
		return 0;
	case PRIVSEP_CONNECT:
		return o->config->vsock.path ? vsock_connect_host(o->config->vsock.path, value) : -ECONNREFUSED;
	case PRIVSEP_STARTED:
		record_started(o->parent->record);
		notify_ready();
		if (o->parent->member)
			o->parent->member->running(o->parent->member);
		return 0;
	}
	return -EINVAL;
}

/* Returns false if the VM has ended. */
static bool supervise_take_signal(struct outer *o)
{
	int signo = ending_take(o->parent->signal_fd);

	switch (signo) {
	case 0:
		return true;
	case SIGCHLD:
		helpers_check(o->parent->helpers);
		return waitpid(o->pids.main, &o->status, WNOHANG) == 0;
	case SIGCONT:
		tty_again(o->tty_raw);
		return true;
	default:
		supervise_forward(o, signo);
		if (ending_was_asked())
			notify_stopping();
		return true;
	}
}

/* The timeout of poll(2) in ms: when the jail has to be killed. -1: no clock runs, or it was killed. */
static int kill_wait_ms(const struct outer *o)
{
	uint64_t due_ms = ending_due_ms(), now_ms = clock_now_ms();

	if (o->killed || due_ms == UINT64_MAX)
		return -1;
	due_ms -= ENDING_SPARE_MS / 2;
	return due_ms > now_ms ? (int)MF_MIN(due_ms - now_ms, (uint64_t)INT_MAX) : 0;
}

/* If the kernel cannot end the jail's processes, the clock of ending.c still ends us. */
static void kill_jail(struct outer *o)
{
	ending_step("the VM in its jail, which was killed,", NULL);
	close(mf_take_fd(&o->life[OUTSIDE]));
	(void)kill(o->pids.main, SIGKILL); /* the PID is still its own: we have not waited for it */
	o->killed = true;
}

static void supervise_watch(struct outer *o)
{
	struct pollfd fds[] = {
		{ .fd = o->parent->signal_fd, .events = POLLIN },
		{ .fd = o->tty[OUTSIDE], .events = POLLIN },
		{ .fd = o->vsock[OUTSIDE], .events = POLLIN },
		{ .fd = o->parent->member ? o->parent->member->client_fd : -1, .events = POLLIN },
	};

	ending_step("the VM in its jail", NULL);
	for (;;) {
		int n = poll(fds, MF_ARRAY_SIZE(fds), kill_wait_ms(o));

		if (kill_wait_ms(o) == 0)
			kill_jail(o);
		if (n < 0)
			continue; /* EINTR */
		if (fds[3].revents && !ending_take_remote(fds[3].fd))
			fds[3].fd = -1; /* the client has gone, and the jail ends by SIGHUP */
		for (size_t i = 1; i < 3; i++)
			if (fds[i].revents && privsep_serve(fds[i].fd, supervise_answer, o) < 0)
				fds[i].fd = -1; /* the VM has ended, or is about to */
		if (fds[0].revents && !supervise_take_signal(o))
			return;
	}
}

/* The exit status, as vm_main has it. Reports a death that the VM's process could not report itself. */
static int status_of(const struct outer *o)
{
	int signo;

	if (WIFEXITED(o->status))
		return WEXITSTATUS(o->status);
	signo = WTERMSIG(o->status);
	if (signo == SIGKILL && o->killed)
		return ending_report(true);
	if (ending_is_request(signo))
		return -signo; /* it has reported that itself */
	if (signo == SIGKILL && jail_group_had_oom(o->parent->group))
		report_line("the jail has used up its memory (memory-max), so its VM was killed");
	else if (signo == SIGKILL)
		report_line("the VM in the jail was killed (SIGKILL: by a user, or for lack of memory)");
	else if (signo != SIGSEGV && signo != SIGBUS && signo != SIGILL && signo != SIGFPE && signo != SIGABRT)
		report_line("the VM in the jail was ended by a signal (%s)", strsignal(signo));
	result_set(END_KILLED, -1, signo);
	return STATUS_SIGNAL_BASE + signo;
}

static int go_outside(struct outer *o)
{
	struct jail_member *m = o->parent->member;
	struct err e;
	int status;

	log_set_thread("outer");
	if (crash_setup(&e) < 0)
		log_warn("%s; continuing", e.text);
	ending_outside();
	close_ends(o, INSIDE);
	fdstore_close();
	helpers_leave_sockets(o->parent->helpers);
	status = attend_start(o);
	if (status)
		return status;
	if (m && m->settle_outside(m, &o->names, &e) < 0) {
		kill_jail(o);
		while (waitpid(o->pids.main, &o->status, 0) < 0 && errno == EINTR)
			;
		return e.code == -ECANCELED ? STATUS_OK : report_err(&e);
	}
	if (confine_outer(o, &e) < 0) {
		kill_jail(o);
		return report_err(&e);
	}
	supervise_watch(o);
	notify_stopping();
	tty_restore(); /* however the VM has ended */
	status = status_of(o);
	ending_close();
	ending_step("an artifact", NULL);
	if (!helpers_finish(o->parent->helpers) && status == STATUS_OK)
		status = STATUS_FAILED;
	return status;
}

bool supervise(const struct config *c, struct jail_parent *parent, const int *keep, unsigned num_keep, int *ret_status)
{
	static struct outer o; /* the VM's process uses parts of it until its end */
	struct err e;

	o = (struct outer){
		.config = c,
		.parent = parent,
		.uid = (uid_t)pick(&c->jail.uid, geteuid()),
		.gid = (gid_t)pick(&c->jail.gid, getegid()),
		.start = { -1, -1 },
		.life = { -1, -1 },
		.signals = { -1, -1 },
		.tty = { -1, -1 },
		.vsock = { -1, -1 },
		.child = -1,
	};
	fflush(NULL); /* or both processes would write what is buffered */
	if (supervise_prepare(&o, &e) == 0) {
		ending_hold(true);
		result_share();
		o.child = fork();
		if (o.child < 0)
			err_sys(&e, "jail: fork");
		if (o.child)
			ending_hold(false);
	}
	if (o.child == 0) {
		/* Cannot fail. A change of the user clears it, and jail_fork sets it again. */
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		close_ends(&o, OUTSIDE);
		result_leave();
		inside_enter(&o, keep, num_keep);
		return true;
	}
	if (parent->mounts_fd >= 0)
		close(mf_take_fd(&parent->mounts_fd));
	*ret_status = o.child < 0 ? report_err(&e) : go_outside(&o);
	close_ends(&o, OUTSIDE);
	unix_socket_remove(&o.names.vsock);
	unix_socket_remove(&o.names.control);
	helpers_end(parent->helpers);
	return false;
}
