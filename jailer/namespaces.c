/* Namespaces, and the empty root; see namespaces.h. */
#include "jailer/namespaces.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"

/* In the order in which they are made when they are made one by one. */
const struct namespaces_kind namespaces_kinds[] = {
	{ CLONE_NEWNS, "mount namespace" },
	{ CLONE_NEWPID, "PID namespace" },
	{ CLONE_NEWNET, "network namespace" },
	{ CLONE_NEWIPC, "IPC namespace" },
	{ CLONE_NEWUTS, "UTS namespace" },
	{ CLONE_NEWCGROUP, "cgroup namespace" },
	{ 0, NULL },
};

int namespaces_unshare(int flags)
{
	return unshare(flags) < 0 ? -errno : 0;
}

static int write_proc(pid_t pid, const char *name, const char *text, struct err *e)
{
	char path[64];
	MF_CLOSE int fd = -1;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		return err_sys(e, "write '%s' to '%s'", text, path);
	return 0;
}

static int write_maps(pid_t pid, uid_t inside, uid_t uid, gid_t group_inside, gid_t gid, struct err *e)
{
	char text[64];

	snprintf(text, sizeof(text), "%u %u 1", group_inside, gid);
	if (write_proc(pid, "gid_map", text, e) < 0)
		return e->code;
	snprintf(text, sizeof(text), "%u %u 1", inside, uid);
	return write_proc(pid, "uid_map", text, e);
}

int namespaces_map(pid_t pid, uid_t uid, gid_t gid, bool is_root, struct err *e)
{
	/*
	 * Without root, a process must give up setgroups(2) first: leaving a group that
	 * denies rights would gain rights.
	 */
	if (!is_root && write_proc(pid, "setgroups", "deny", e) < 0)
		return e->code;
	return write_maps(pid, uid, uid, gid, gid, e);
}

int namespaces_map_root(pid_t pid, uid_t uid, gid_t gid, struct err *e)
{
	if (write_proc(pid, "setgroups", "deny", e) < 0)
		return e->code;
	return write_maps(pid, 0, uid, 0, gid, e);
}

int namespaces_pivot(struct err *e)
{
	/*
	 * The old root is then on top of the new one. It is unmounted with all mounts in
	 * it (pivot_root(2), "Notes").
	 */
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return err_sys(e, "pivot_root");
	if (umount2(".", MNT_DETACH) < 0)
		return err_sys(e, "unmount the old root");
	return chdir("/") < 0 ? err_sys(e, "enter the new root") : 0;
}

int namespaces_empty_root(bool no_mounts, struct err *e)
{
	const unsigned long flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;

	/*
	 * Otherwise mounts made here would be visible outside, if the root is a shared
	 * mount.
	 */
	if (!no_mounts && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_sys(e, "make the mounts private");
	if (mount("jail", "/", "tmpfs", flags, "mode=555,size=4k,nr_inodes=1") < 0)
		return err_sys(e, "mount a tmpfs");
	/* On top of the root; only its parent, which is itself, leads there. */
	if (chdir("/..") < 0)
		return err_sys(e, "enter the tmpfs");
	if (!no_mounts)
		return namespaces_pivot(e);
	/* The root of such a namespace cannot be exchanged. Below the tmpfs there is no file to go to. */
	return chroot(".") < 0 ? err_sys(e, "enter the new root") : 0;
}
