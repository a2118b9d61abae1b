/*
 * Theory of operation.
 *
 * Each step here drops something. The order is fixed, because each step also needs
 * something that a later step drops:
 *
 *  1. limits and control group	while root may raise a limit, and the group's files can be reached
 *     the small mount namespace	if a parent has made one (mounts.h): while root may enter it
 *  2. user namespace		in it we have all capabilities, which the other steps need, and outside of it none. A
 *				process outside, which still can, maps a single user
 *  3. securebits, bounding set	while there is CAP_SETPCAP. From here on a change of the user drops no capabilities
 *  4. the other namespaces	mount, PID (of the children), network, IPC, UTS; cgroup, whose root is the group of step 1
 *  5. the empty root		a tmpfs without room for a single file, read-only; pivot_root, then the old root is unmounted
 *  6. the user			switches to another user, who might not reach the old root
 *  7. open files		files that were opened for us stay, no directories among them; and no environment
 *  8. capabilities		all sets are emptied; no_new_privs, undumpable
 *  9. Landlock			after no_new_privs, without which it is for root, and after the mounts, which it forbids
 *
 * Without user namespaces, root enters the same jail, except for step 2.
 *
 * The PID namespace is for children, so jail_fork makes two, and the process that has
 * entered ends. The first is PID 1, and only waits for its end. The main process must not
 * be PID 1: the terminal could not stop it, its own abort() would not kill it, and its
 * end would wait for the process that tears the VM down (vmm/process/async_teardown.c).
 * Both are children of the process outside, which therefore gets the main process's true
 * status at once.
 */
#include "jailer/jail.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jailer/cgroup.h"
#include "jailer/landlock.h"
#include "jailer/namespaces.h"
#include "jailer/privileges.h"
#include "jailer/rlimit.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define INIT_STACK_SIZE (8 * KIB)
#define HOST_NAME "jail"

int jail_lacks(bool strict, struct err *e)
{
	if (strict)
		return e->code;
	log_warn("%s; continuing without", e->text);
	return 0;
}

static int set_limits(const struct jail_params *p, struct err *e)
{
	int r = rlimit_set(RLIMIT_NOFILE, "nofile", p->nofile ? p->nofile : JAIL_FILES_DEFAULT, !p->nofile, e);

	if (!r && p->fsize)
		r = rlimit_set(RLIMIT_FSIZE, "fsize", p->fsize, false, e);
	return r ? r : rlimit_set(RLIMIT_CORE, "core", 0, true, e);
}

/* Groups beside our own are of no use without files, but they are there. */
static int check_groups(const struct jail_params *p, struct err *e)
{
	static gid_t group[NGROUPS_MAX]; /* too large for a stack; once, in the child */
	int num = p->is_root ? 0 : getgroups(NGROUPS_MAX, group);

	for (int i = 0; i < num; i++) {
		if (group[i] == p->gid || (p->harmless_gid && group[i] == p->harmless_gid))
			continue;
		err_set(e, -EPERM,
			"supplementary groups (such as %u): only root can drop them (setpriv --reuid=USER --regid=GROUP "
			"--groups=kvm mayfly ...)",
			(unsigned)group[i]);
		return jail_lacks(p->strict, e);
	}
	return 0;
}

static int enter_user_namespace(const struct jail_params *p, struct err *e)
{
	int r = check_groups(p, e);

	if (r < 0)
		return r;
	r = namespaces_unshare(CLONE_NEWUSER);
	if (r < 0) {
		err_neg(e, r, "user namespace%s",
			r == -ENOSPC ? " (sysctl user.max_user_namespaces)" :
			r == -EPERM  ? " (forbidden here, or this is a chroot)" :
				       "");
		r = jail_lacks(p->strict, e);
	} else {
		r = p->map_ids(p->ctx, e);
	}
	if (r < 0)
		return r;
	/* Without a user namespace only root can. */
	return privileges_lock(e) < 0 && (p->is_root || jail_lacks(p->strict, e) < 0) ? e->code : 0;
}

/* Sets *ret to the flags of those that we have; NAMESPACES_NO_MOUNTS beside CLONE_NEWNS, if that is so. */
static int make_namespaces(const struct jail_params *p, int *ret, struct err *e)
{
	int all = 0, r;

	for (const struct namespaces_kind *k = namespaces_kinds; k->flag; k++)
		all |= k->flag;
	*ret = 0;
	/* Otherwise each mount of the host is copied, and the copy unmounted again. */
	if (namespaces_unshare((all & ~CLONE_NEWNS) | NAMESPACES_NO_MOUNTS) == 0) {
		*ret = all | NAMESPACES_NO_MOUNTS;
		return 0;
	}
	if (namespaces_unshare(all) == 0) {
		*ret = all;
		return 0;
	}
	for (const struct namespaces_kind *k = namespaces_kinds; k->flag; k++) {
		r = namespaces_unshare(k->flag);
		if (r == 0)
			*ret |= k->flag;
		else if (err_neg(e, r, "%s", k->name), jail_lacks(p->strict, e) < 0)
			return e->code;
	}
	return 0;
}

static int close_others(const struct jail_params *p, struct err *e)
{
	unsigned first = STDERR_FILENO + 1;

	for (unsigned i = 0; i <= p->num_keep; i++) {
		unsigned next = i < p->num_keep ? (unsigned)p->keep[i] : ~0U;

		if (next > first && close_range(first, i < p->num_keep ? next - 1 : ~0U, 0) < 0)
			return err_sys(e, "close other files");
		first = next + 1;
	}
	return 0;
}

/* A directory that is open is a way out of an empty root. */
static int check_streams(struct err *e)
{
	struct stat st;

	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
			return err_set(e, -EISDIR, "standard stream %d is a directory", fd);
	return 0;
}

int jail_enter(const struct jail_params *p, bool *ret_own_pids, struct err *e)
{
	int have = 0;

	if (check_streams(e) < 0 || set_limits(p, e) < 0)
		return e->code;
	if (p->cgroup && cgroup_add(p->cgroup, getpid(), e) < 0)
		return e->code;
	if (p->mounts_fd >= 0)
		(void)setns(p->mounts_fd, CLONE_NEWNS); /* without it, the next step takes longer, and that is all */
	if (enter_user_namespace(p, e) < 0 || make_namespaces(p, &have, e) < 0)
		return e->code;
	if (have & CLONE_NEWNS && namespaces_empty_root(have & NAMESPACES_NO_MOUNTS, e) < 0 &&
	    jail_lacks(p->strict, e) < 0)
		return e->code;
	if (p->is_root && privileges_set_ids(p->uid, p->gid, e) < 0)
		return e->code;
	if (have & CLONE_NEWUTS)
		(void)!sethostname(HOST_NAME, sizeof(HOST_NAME) - 1); /* that of the host is no secret */
	(void)umask(0077);
	if (close_others(p, e) < 0)
		return e->code;
	privileges_clear_environment();
	if (privileges_drop(0, e) < 0)
		return e->code;
	if (landlock_restrict(NULL, 0, e) < 0 && (err_wrap(e, "Landlock"), jail_lacks(p->strict, e) < 0))
		return e->code;
	*ret_own_pids = have & CLONE_NEWPID;
	return 0;
}

/* PID 1: shares the memory of the process that has entered, which has ended, so it makes system calls only. */
static int wait_for_end(void *arg)
{
	int life_fd = (int)(intptr_t)arg;
	char byte;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "mayfly-jail");
	signal(SIGCHLD, SIG_IGN); /* so that nothing is left of those that become its children */
	if (life_fd > 0)
		close_range(0, (unsigned)life_fd - 1, 0);
	close_range((unsigned)life_fd + 1, ~0U, 0);
	while (read(life_fd, &byte, 1) < 0 && errno == EINTR)
		;
	_exit(0);
}

static pid_t start_init(int life_fd)
{
	static uint8_t stack[INIT_STACK_SIZE] __attribute__((aligned(16)));

	return clone(wait_for_end, stack + sizeof(stack), CLONE_VM | CLONE_PARENT | SIGCHLD, (void *)(intptr_t)life_fd);
}

int jail_fork(struct jail_pids *ret, bool own_pids, int life_fd, struct err *e)
{
	struct jail_pids pids = { .init = 0 };

	if (own_pids) {
		pids.init = start_init(life_fd);
		if (pids.init < 0)
			return err_sys(e, "start init");
	}
	/* fork(2) for our parent, which libc has no function for. */
	pids.main = (pid_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL);
	if (pids.main < 0)
		return err_sys(e, "fork");
	if (pids.main > 0) {
		*ret = pids;
		return 0;
	}
	close(life_fd);
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* if the parent has ended already, init sees EOF on life_fd */
	return 1;
}
