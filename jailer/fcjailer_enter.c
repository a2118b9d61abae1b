/* Namespaces, limits and privileges of the jailer; see fcjailer.h. */
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include "jailer/fcjailer_parts.h"
#include "jailer/namespaces.h"
#include "jailer/privileges.h"
#include "jailer/rlimit.h"
#include "jailer/seccomp.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"

int fcjail_join_netns(const char *path, struct err *e)
{
	MF_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return err_sys(e, "open network namespace '%s'", path);
	if (setns(fd, CLONE_NEWNET) < 0)
		return err_sys(e, "join network namespace '%s'", path);
	return 0;
}

int fcjail_limit(uint64_t no_file, uint64_t fsize, struct err *e)
{
	if (rlimit_set(RLIMIT_NOFILE, "no-file", no_file, false, e) < 0 ||
	    (fsize != UINT64_MAX && rlimit_set(RLIMIT_FSIZE, "fsize", fsize, false, e) < 0))
		return err_wrap(e, "set resource limits");
	return 0;
}

/*
 * As a slave, the namespace sees later mounts of the host in the jail's directory, and
 * the host sees none of its mounts. The root must be a mount: a copy of its directory,
 * with the mounts in it, on top of itself. The directory is the one that was opened,
 * wherever its path leads by now. It is the current directory when the namespace is made:
 * unlike an fd, that is carried over into the namespace.
 */
int fcjail_enter(struct fcjail *j, struct err *e)
{
	MF_CLOSE int tree = -1, root = -1;

	if (fchdir(j->root) < 0)
		return err_sys(e, "change to '%s'", j->path);
	if (unshare(CLONE_NEWNS) < 0)
		return err_sys(e, "make a mount namespace");
	if (mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0)
		return err_sys(e, "make all mounts slaves of the host's");
	tree = open_tree(AT_FDCWD, ".", AT_RECURSIVE | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0)
		return err_sys(e, "make a mount of '%s'", j->path);
	if (move_mount(tree, "", AT_FDCWD, ".", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_sys(e, "mount '%s' on itself", j->path);
	if (fchdir(tree) < 0)
		return err_sys(e, "change to '%s'", j->path);
	if (namespaces_pivot(e) < 0)
		return err_wrap(e, "make '%s' the root", j->path);
	/* From here on in this mount, and still by the same number. */
	root = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0 || dup3(root, j->root, O_CLOEXEC) < 0)
		return err_sys(e, "open the new root");
	return 0;
}

/*
 * The kernel clears the capabilities of a process that stops being root, unless it has
 * inherited securebits that forbid it. So do not rely on that. Root keeps its
 * capabilities, since --uid 0 asks for them.
 */
int fcjail_drop(uid_t uid, gid_t gid, struct err *e)
{
	if (privileges_set_ids(uid, gid, e) < 0)
		return e->code;
	return uid == 0 ? seccomp_no_new_privs(e) : privileges_drop(0, e);
}
