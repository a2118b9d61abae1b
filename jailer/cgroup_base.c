/*
 * Theory of operation; see cgroup_base.h, cgroups(7), and systemd's "Control Group APIs and
 * Delegation".
 *
 * A user may make groups only in a subtree that was delegated: its directory, cgroup.procs and
 * cgroup.subtree_control are writable. That is this process's own group, or nothing; but if
 * that has other processes, and is itself a group that somebody made in a delegated one, its
 * parent will do (systemd's DelegateSubgroup=).
 *
 * Root may write anywhere. systemd marks the groups that it has delegated, and it takes back
 * what others write to its own. So root uses the own group if that is marked, and else the
 * root of the tree, as all container managers without systemd do.
 *
 * A group with processes cannot enable controllers for groups in it, except for the root of
 * the tree. So a process that is inside moves to a leaf, LEAF, which all mayflys of that group
 * share. It moves nobody else. At the end, the last of them disables the controllers, because
 * no process can return before that, and removes the leaf. The kernel refuses to disable a
 * controller while a group below still hands it on, so no VM loses a limit.
 */
#include "jailer/cgroup_base.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "jailer/cgroup.h"
#include "jailer/cgroup_mount.h"
#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"

#define LEAF "mayfly-outer"
#define LIST_MAX 1024 /* bytes of a list of controllers, or of processes that are looked at */
#define ENTER_MS 1000
#define LEAVE_MS 100
#define POLL_MS 5

const char *cgroup_base_advice(uid_t uid)
{
	return uid == 0 ? "systemd-run --scope -p Delegate=yes mayfly ..." :
			  "systemd-run --user --scope -p Delegate=yes mayfly ...";
}

/* Returns a file of dir, or -errno. */
static int open_in(const char *dir, const char *name, int flags)
{
	char path[PATH_MAX];
	int fd;

	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static bool may_write(const char *dir)
{
	static const char *const files[] = { ".", "cgroup.procs", "cgroup.subtree_control" };
	char path[PATH_MAX];

	for (size_t i = 0; i < MF_ARRAY_SIZE(files); i++)
		if (snprintf(path, sizeof(path), "%s/%s", dir, files[i]) >= (int)sizeof(path) ||
		    faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) < 0)
			return false;
	return true;
}

static bool is_tree_root(const char *dir)
{
	MF_CLOSE int fd = open_in(dir, "cgroup.type", O_RDONLY);

	return fd == -ENOENT; /* the root alone has no such file */
}

/* Whether systemd has marked it as delegated. */
static bool is_marked(const char *dir)
{
	static const char *const names[] = { "trusted.delegate", "user.delegate" };
	char value;

	for (size_t i = 0; i < MF_ARRAY_SIZE(names); i++)
		if (getxattr(dir, names[i], &value, 1) == 1 && value == '1')
			return true;
	return false;
}

/* Whether systemd makes and manages a group of this name. */
static bool is_unit(const char *dir)
{
	static const char *const kinds[] = { ".scope", ".service", ".slice" };
	const char *dot = strrchr(dir, '.');

	for (size_t i = 0; dot && i < MF_ARRAY_SIZE(kinds); i++)
		if (!strcmp(dot, kinds[i]))
			return true;
	return false;
}

/* Returns a process in the group, other than this one; 0: there is none; 1: of another PID namespace, perhaps. */
static long other_process(const char *dir)
{
	MF_CLOSE int fd = open_in(dir, "cgroup.procs", O_RDONLY);
	char text[LIST_MAX], *rest = text, *line;
	ssize_t n = fd < 0 ? fd : fdio_pread(fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	while ((line = strsep(&rest, "\n")) && *line) {
		long pid = strtol(line, NULL, 10);

		if (pid != getpid())
			return pid ? pid : 1;
	}
	return 0;
}

/*
 * The length of the path of own's parent, if somebody has made own in that, it is delegated, and it
 * has no processes; else 0.
 */
static size_t parent_length(const char *own, const char *top, bool only_marked)
{
	size_t len = (size_t)(strrchr(own, '/') - own);
	MF_FREE char *parent = strndup(own, len);

	if (!parent || len < strlen(top) || is_unit(own) || !may_write(parent) || (only_marked && !is_marked(parent)) ||
	    other_process(parent))
		return 0;
	return len;
}

/* own is the directory of this process's group, or NULL if the mount does not show it; top is that of the tree. */
static int choose(struct cgroup_base *b, const char *own, const char *top, uid_t uid, struct err *e)
{
	bool whole = uid == 0 && may_write(top);
	bool delegated = own && may_write(own) && (!whole || is_marked(own));
	size_t parent = own && (!delegated || other_process(own)) ? parent_length(own, top, whole) : 0;

	if (parent)
		b->dir = strndup(own, parent);
	else if (delegated || whole)
		b->dir = strdup(delegated ? own : top);
	else if (!own)
		return err_set(e, -EACCES, "the mount at '%s' does not show the control group of this process", top);
	else
		return err_set(e, -EACCES, "control group '%s' is not delegated to user %u, or is read-only", own,
			       (unsigned)uid);
	if (!b->dir)
		return err_set(e, -ENOMEM, "no memory for a path");
	b->inside = own && !strcmp(b->dir, own) && !is_tree_root(own);
	return 0;
}

/* Whether version 2 has any controller that limits need; on hosts in hybrid mode, version 1 has them. */
static bool has_controllers(const char *top)
{
	static const char *const needed[] = { "cpu", "io", "memory", "pids" };
	MF_CLOSE int fd = open_in(top, "cgroup.controllers", O_RDONLY);
	char text[LIST_MAX];
	ssize_t n = fd < 0 ? fd : fdio_pread(fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	for (size_t i = 0; i < MF_ARRAY_SIZE(needed); i++)
		if (cgroup_list_has(text, needed[i]))
			return true;
	return false;
}

int cgroup_base_find(struct cgroup_base *ret, const char *proc, uid_t uid, struct err *e)
{
	MF_FREE char *own = NULL, *top = NULL;
	struct cgroup_base b = { .procs_fd = -1, .control_fd = -1 };

	if (cgroup_find_own(proc, &own, &top, e) < 0)
		return e->code;
	if (!has_controllers(top))
		return err_set(e, -ENOENT,
			       "cgroup v2 at '%s' has no controllers: version 1 has them (boot with "
			       "systemd.unified_cgroup_hierarchy=1), or they are not delegated",
			       top);
	if (choose(&b, own, top, uid, e) < 0)
		return e->code;
	*ret = b;
	return 0;
}

int cgroup_base_check(const struct cgroup_base *b, struct err *e)
{
	long other = b->inside ? other_process(b->dir) : 0;

	if (!other)
		return 0;
	return err_set(e, -EBUSY,
		       "control group '%s' has other processes (such as %ld), so groups in it can have no limits",
		       b->dir, other);
}

int cgroup_base_open(struct cgroup_base *b, struct err *e)
{
	if (!b->leaf)
		return 0;
	b->procs_fd = open_in(b->dir, "cgroup.procs", O_WRONLY);
	if (b->procs_fd < 0)
		return err_neg(e, b->procs_fd, "open '%s/cgroup.procs'", b->dir);
	b->control_fd = open_in(b->dir, "cgroup.subtree_control", O_RDWR);
	if (b->control_fd < 0)
		return err_neg(e, b->control_fd, "open '%s/cgroup.subtree_control'", b->dir);
	return 0;
}

static int move_to_leaf(struct cgroup_base *b, struct err *e)
{
	MF_FREE char *leaf = NULL;
	struct cgroup g;

	if (asprintf(&leaf, "%s/" LEAF, b->dir) < 0) {
		leaf = NULL; /* asprintf leaves it undefined */
		return err_set(e, -ENOMEM, "no memory for a path");
	}
	if (mkdir(leaf, 0755) < 0 && errno != EEXIST)
		return err_sys(e, "make control group '%s'", leaf);
	g.dir = leaf;
	if (cgroup_add(&g, 0, e) < 0) {
		(void)rmdir(leaf); /* another mayfly may be in it */
		return e->code;
	}
	b->leaf = mf_take_ptr(&leaf);
	return 0;
}

int cgroup_base_enter(struct cgroup_base *b, struct err *e)
{
	const uint64_t until = clock_now_ms() + ENTER_MS;

	if (!b->inside)
		return 0;
	/* Another mayfly may just have removed the leaf, or is yet to move, or has just returned. */
	while ((!b->leaf && move_to_leaf(b, e) < 0) || cgroup_base_check(b, e) < 0) {
		if (clock_now_ms() >= until || (e->code != -EBUSY && e->code != -ENOENT && e->code != -ENODEV))
			return e->code;
		(void)poll(NULL, 0, POLL_MS); /* however short it was, the clock decides */
	}
	return 0;
}

/* Disables all controllers for groups in it. */
static void disable(const struct cgroup_base *b)
{
	char text[LIST_MAX], minus[2 * LIST_MAX] = "", *rest = text, *word;
	ssize_t n = fdio_pread(b->control_fd, text, sizeof(text) - 1, 0);
	size_t len = 0;

	text[n > 0 ? n : 0] = '\0';
	while ((word = strsep(&rest, " \n")))
		if (*word)
			len += (size_t)snprintf(minus + len, sizeof(minus) - len, "%s-%s", len ? " " : "", word);
	(void)!write(b->control_fd, minus, len); /* refused while other VMs need them */
}

void cgroup_base_leave(struct cgroup_base *b)
{
	const uint64_t until = clock_now_ms() + LEAVE_MS;
	struct err e;

	if (b->leaf && (b->control_fd >= 0 || cgroup_base_open(b, &e) == 0)) {
		disable(b);
		/* Refused if another mayfly has controllers enabled. A child may still be about to end. */
		if (write(b->procs_fd, "0", 1) == 1)
			while (rmdir(b->leaf) < 0 && errno == EBUSY && clock_now_ms() < until)
				(void)poll(NULL, 0, POLL_MS); /* however short it was, the clock decides */
	}
	if (b->dir && b->procs_fd >= 0)
		close(b->procs_fd);
	if (b->dir && b->control_fd >= 0)
		close(b->control_fd);
	free(b->dir);
	free(b->leaf);
	*b = (struct cgroup_base){ 0 };
}
