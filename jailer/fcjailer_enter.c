/* Namespaces, limits and privileges of the jailer; see fcjailer.h. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jailer/fcjailer_parts.h"
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

static int limit(int resource, const char *name, uint64_t value, struct err *e)
{
	struct rlimit r = { .rlim_cur = value, .rlim_max = value }, old;

	if (setrlimit(resource, &r) == 0)
		return 0;
	if (errno == EPERM && getrlimit(resource, &old) == 0 && value > old.rlim_max)
		return err_set(e, -EPERM,
			       "set resource limit %s to %" PRIu64
			       ": no permission to raise it (CAP_SYS_RESOURCE) above %" PRIu64,
			       name, value, (uint64_t)old.rlim_max);
	return err_sys(e, "set resource limit %s to %" PRIu64, name, value);
}

int fcjail_limit(uint64_t no_file, uint64_t fsize, struct err *e)
{
	if (limit(RLIMIT_NOFILE, "no-file", no_file, e) < 0)
		return e->code;
	return fsize == UINT64_MAX ? 0 : limit(RLIMIT_FSIZE, "fsize", fsize, e);
}

/*
 * As a slave, the namespace sees what is mounted on the host in the jail's directory later, and the host sees nothing of
 * what is mounted here. The root must be a mount: a copy of its directory, with the mounts in it, on top of itself. The
 * directory is the one that was opened, whatever its path leads to by now: it is the current one when the namespace is
 * made, because that, unlike a fd, is carried over into it. pivot_root(".", ".") puts the old root on top of the new one,
 * from where it is taken off (pivot_root(2), "Notes").
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
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return err_sys(e, "make '%s' the root", j->path);
	if (umount2(".", MNT_DETACH) < 0)
		return err_sys(e, "unmount the old root");
	if (chdir("/") < 0)
		return err_sys(e, "change to the new root");
	/* From here on in this mount, and still by the same number. */
	root = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0 || dup3(root, j->root, O_CLOEXEC) < 0)
		return err_sys(e, "open the new root");
	return 0;
}

static int check_dropped(uid_t uid, gid_t gid, struct err *e)
{
	uid_t ruid, euid, suid;
	gid_t rgid, egid, sgid;

	if (getresuid(&ruid, &euid, &suid) < 0 || getresgid(&rgid, &egid, &sgid) < 0)
		return err_sys(e, "ask for user and group");
	if (ruid != uid || euid != uid || suid != uid || rgid != gid || egid != gid || sgid != gid ||
	    getgroups(0, NULL) != 0)
		return err_set(e, -EPERM, "user %u and group %u were set, but are not what this process has", uid, gid);
	return 0;
}

/*
 * Groups first, because a user has no right to change them. The kernel clears the capabilities of who is no longer
 * root, unless told not to by securebits that were inherited: so that is not relied on. Root keeps them, since that is
 * what --uid 0 asks for.
 */
int fcjail_drop(uid_t uid, gid_t gid, struct err *e)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };

	if (setgroups(0, NULL) < 0)
		return err_sys(e, "drop the supplementary groups");
	if (setresgid(gid, gid, gid) < 0)
		return err_sys(e, "become group %u", gid);
	if (setresuid(uid, uid, uid) < 0)
		return err_sys(e, "become user %u", uid);
	if (uid != 0 && syscall(SYS_capset, &head, none) < 0)
		return err_sys(e, "drop the capabilities");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_sys(e, "set no_new_privs");
	return check_dropped(uid, gid, e);
}
