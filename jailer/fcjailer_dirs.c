/*
 * The files of a jail; see fcjailer.h. This runs as root in directories to which others
 * may have written: a user who may start microVMs, or the microVM that had this id
 * before. So
 *
 * * each directory on the way to the jail is opened by its name in the one above, without
 *   following links. It must be root's, and writable by root alone. A directory with the
 *   sticky bit (/tmp) is accepted: root's files in it cannot be replaced.
 * * the root and its contents may also be the user's, who had the same jail before. A
 *   file made there must be new, whatever it is (O_EXCL, mknod), and from then on it is
 *   examined by its fd.
 * * nothing is given to the user before everything is made.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "jailer/fcjailer.h"
#include "jailer/fcjailer_parts.h"
#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"

#include "vmm/base/log.h"

#define CHUNK 65536
#define MODE_ABOVE 0755 /* of the directories above the root */
#define MODE_JAIL 0700	/* of the root and those in it */
#define MODE_EXEC 0555
#define MODE_FILE 0644
#define MODE_DEVICE 0600
#define MISC_MAJOR 10
#define KVM_MINOR 232
#define TUN_MINOR 200
#define MEM_MAJOR 1
#define URANDOM_MINOR 9
#define OPEN_DIR (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

static const size_t fds[] = {
	offsetof(struct fcjail, exec),	 offsetof(struct fcjail, base_dir), offsetof(struct fcjail, exec_dir),
	offsetof(struct fcjail, id_dir), offsetof(struct fcjail, root),	    offsetof(struct fcjail, dev),
	offsetof(struct fcjail, net),	 offsetof(struct fcjail, run),
};

static int *fd_at(struct fcjail *j, size_t i)
{
	return (int *)(void *)((char *)j + fds[i]);
}

void fcjail_init(struct fcjail *j, uid_t uid, gid_t gid)
{
	*j = (struct fcjail){ .uid = uid, .gid = gid, .userfault_minor = -1 };
	for (size_t i = 0; i < MF_ARRAY_SIZE(fds); i++)
		*fd_at(j, i) = -1;
}

void fcjail_done(struct fcjail *j)
{
	for (size_t i = 0; i < MF_ARRAY_SIZE(fds); i++) {
		mf_cleanup_close(fd_at(j, i));
		*fd_at(j, i) = -1;
	}
}

void fcjail_undo(const struct fcjail *j)
{
	for (unsigned i = j->num_made; i-- > 0;)
		(void)unlinkat(j->made[i].dir, j->made[i].name, j->made[i].flags); /* what cannot go, stays */
}

static void remember(struct fcjail *j, int dir, const char *name, int flags)
{
	if (j->num_made == FCJAIL_MADE_MAX)
		return; /* more than there are names for: cannot be */
	j->made[j->num_made].dir = dir;
	j->made[j->num_made].flags = flags;
	snprintf(j->made[j->num_made++].name, NAME_MAX + 1, "%s", name);
}

/*
 * Checks that others cannot replace files in a directory. owner may own it besides root.
 */
static int check_safe(int fd, const char *path, uid_t owner, struct err *e)
{
	struct stat st;
	bool others;

	if (fstat(fd, &st) < 0)
		return err_sys(e, "stat '%s'", path);
	if (st.st_uid != 0 && st.st_uid != owner)
		return err_set(e, -EPERM, "directory '%s' is user %u's, who could replace the jail: make it root's",
			       path, st.st_uid);
	others = (st.st_mode & S_IWOTH) || ((st.st_mode & S_IWGRP) && st.st_gid != 0);
	if (others && !(st.st_mode & S_ISVTX))
		return err_set(e, -EPERM,
			       "directory '%s' (mode %04o) is writable by others, who could replace the jail: "
			       "chmod go-w",
			       path, st.st_mode & 07777);
	return 0;
}

/* Names the file that is in the way, for a message. */
static const char *kind_at(int dir, const char *name)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return "something";
	switch (st.st_mode & S_IFMT) {
	case S_IFDIR:
		return "a directory";
	case S_IFREG:
		return st.st_nlink > 1 ? "a file with several names" : "a file";
	case S_IFLNK:
		return "a symbolic link";
	case S_IFIFO:
		return "a FIFO";
	case S_IFSOCK:
		return "a socket";
	default:
		return "a device";
	}
}

static int refuse_existing(const struct fcjail *j, int dir, const char *where, const char *name, struct err *e)
{
	return err_set(e, -EEXIST, "'%s%s%s' exists, as %s: a jail is used once; remove it, or choose another --id",
		       j->path, where, name, kind_at(dir, name));
}

/* Opens a directory in dir, whose path becomes path, and makes it if it is not there. */
static int open_or_make(struct fcjail *j, int dir, const char *name, mode_t mode, uid_t owner, int *ret,
			const char *path, struct err *e)
{
	bool made = mkdirat(dir, name, mode) == 0;
	int fd;

	if (!made && errno != EEXIST)
		return err_sys(e, "make directory '%s'", path);
	if (made)
		remember(j, dir, name, AT_REMOVEDIR);
	fd = openat(dir, name, OPEN_DIR);
	if (fd < 0 && (errno == ELOOP || errno == ENOTDIR))
		return err_set(e, -ENOTDIR, "'%s' is %s, not a directory: remove it", path, kind_at(dir, name));
	if (fd < 0)
		return err_sys(e, "open directory '%s'", path);
	*ret = fd;
	if (made && fchmod(fd, mode) < 0) /* whatever the umask is */
		return err_sys(e, "set the mode of '%s'", path);
	return check_safe(fd, path, owner, e);
}

/* Opens base, without links, each part of which is safe. Returns the fd, or -errno with e set. */
static int open_base(const char *base, char real[PATH_MAX], struct err *e)
{
	MF_CLOSE int fd = -1;
	char part[NAME_MAX + 1], *p;
	int next;

	if (!realpath(base, real))
		return err_sys(e, "chroot base directory '%s'", base);
	fd = open("/", OPEN_DIR);
	if (fd < 0)
		return err_sys(e, "open '/'");
	if (check_safe(fd, "/", 0, e) < 0)
		return e->code;
	p = real;
	while (*p) {
		size_t len = strcspn(++p, "/");

		if (len == 0)
			break; /* the base is "/" */
		if (len > NAME_MAX)
			return err_set(e, -ENAMETOOLONG, "chroot base directory '%s'", base);
		memcpy(part, p, len);
		part[len] = '\0';
		next = openat(fd, part, OPEN_DIR);
		if (next < 0)
			return err_sys(e, "chroot base directory '%s': open '%s'", real, part);
		close(fd);
		fd = next;
		if (check_safe(fd, part, 0, e) < 0)
			return err_wrap(e, "chroot base directory '%s'", real);
		p += len;
	}
	return mf_take_fd(&fd);
}

static int append(char path[PATH_MAX], const char *name, struct err *e)
{
	size_t len = strlen(path);

	if ((size_t)snprintf(path + len, PATH_MAX - len, "%s%s", len && path[len - 1] == '/' ? "" : "/", name) >=
	    PATH_MAX - len)
		return err_set(e, -ENAMETOOLONG, "the path of the jail is longer than %d bytes", PATH_MAX - 1);
	return 0;
}

int fcjail_open_exec(struct fcjail *j, const char *exec_file, struct err *e)
{
	if (!realpath(exec_file, j->exec_path))
		return err_sys(e, "executable '%s'", exec_file);
	j->name = strrchr(j->exec_path, '/') + 1;
	j->exec = fdio_open_file(j->exec_path, O_RDONLY | O_NOFOLLOW, false, &j->exec_size, e);
	if (j->exec < 0)
		return err_wrap(e, "executable");
	if (j->exec_size == 0 || j->exec_size > FCJAILER_EXEC_MAX)
		return err_set(e, -EINVAL, "executable '%s' has %llu bytes; 1 to %llu are possible", j->exec_path,
			       (unsigned long long)j->exec_size, (unsigned long long)FCJAILER_EXEC_MAX);
	return 0;
}

int fcjail_make_root(struct fcjail *j, const char *base, const char *id, struct err *e)
{
	struct statvfs fs;

	j->base_dir = open_base(base, j->path, e);
	if (j->base_dir < 0)
		return j->base_dir;
	if (append(j->path, j->name, e) < 0 ||
	    open_or_make(j, j->base_dir, j->name, MODE_ABOVE, 0, &j->exec_dir, j->path, e) < 0 ||
	    append(j->path, id, e) < 0 || open_or_make(j, j->exec_dir, id, MODE_ABOVE, 0, &j->id_dir, j->path, e) < 0 ||
	    append(j->path, "root", e) < 0 ||
	    open_or_make(j, j->id_dir, "root", MODE_JAIL, j->uid, &j->root, j->path, e) < 0)
		return e->code;
	if (fstatvfs(j->root, &fs) < 0)
		return err_sys(e, "look at the file system of '%s'", j->path);
	if (fs.f_flag & (ST_RDONLY | ST_NOEXEC))
		return err_set(e, -EACCES,
			       "'%s' is on a file system that is mounted %s: choose another --chroot-base-dir", j->path,
			       fs.f_flag & ST_RDONLY ? "read-only" : "noexec");
	if (fs.f_flag & ST_NODEV)
		log_warn("'%s' is on a file system that is mounted nodev, so that devices cannot be opened there; "
			 "continuing",
			 j->path);
	return 0;
}

int fcjail_make_file(struct fcjail *j, const char *name, struct err *e)
{
	MF_CLOSE int fd = openat(j->root, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, MODE_FILE);

	if (fd < 0 && errno == EEXIST)
		return refuse_existing(j, j->root, "/", name, e);
	if (fd < 0)
		return err_sys(e, "make '%s/%s'", j->path, name);
	remember(j, j->root, name, 0);
	if (fchmod(fd, MODE_FILE) < 0)
		return err_sys(e, "set the mode of '%s/%s'", j->path, name);
	return mf_take_fd(&fd);
}

static int copy(int from, int to, uint64_t size)
{
	MF_FREE char *buf = malloc(CHUNK);
	uint64_t done = 0;
	ssize_t n;
	int r;

	if (!buf)
		return -ENOMEM;
	/* It may grow meanwhile, so that the size is not the end. */
	while (done < size) {
		n = fdio_pread(from, buf, MF_MIN((uint64_t)CHUNK, size - done), done);
		if (n <= 0)
			return n < 0 ? (int)n : -ENODATA;
		r = fdio_write_all(to, buf, (size_t)n);
		if (r < 0)
			return r;
		done += (uint64_t)n;
	}
	return 0;
}

/* Root owns the copy, so that the user cannot write to the program that it runs. */
int fcjail_copy_exec(struct fcjail *j, struct err *e)
{
	MF_CLOSE int to = fcjail_make_file(j, j->name, e);
	int r;

	if (to < 0)
		return to;
	r = copy(j->exec, to, j->exec_size);
	if (r < 0)
		return err_neg(e, r, "copy '%s' to '%s/%s'", j->exec_path, j->path, j->name);
	if (fchmod(to, MODE_EXEC) < 0)
		return err_sys(e, "set the mode of '%s/%s'", j->path, j->name);
	return 0;
}

/*
 * Makes a device and gives it to the user. The chown applies to the fd of the node just
 * made.
 */
static int make_device(struct fcjail *j, int dir, const char *where, const char *name, dev_t number, struct err *e)
{
	MF_CLOSE int fd = -1;
	struct stat st;

	if (mknodat(dir, name, S_IFCHR | MODE_DEVICE, number) < 0) {
		if (errno == EEXIST)
			return refuse_existing(j, dir, where, name, e);
		return err_sys(e, "make device '%s%s%s'", j->path, where, name);
	}
	remember(j, dir, name, 0);
	fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, "open device '%s%s%s'", j->path, where, name);
	if (!S_ISCHR(st.st_mode) || st.st_rdev != number || st.st_nlink != 1)
		return err_set(e, -EPERM, "device '%s%s%s' was replaced by another file", j->path, where, name);
	if (fchownat(fd, "", j->uid, j->gid, AT_EMPTY_PATH) < 0)
		return err_sys(e, "give device '%s%s%s' to the user", j->path, where, name);
	return 0;
}

static int make_all_devices(struct fcjail *j, struct err *e)
{
	struct err reason;

	if (make_device(j, j->net, "/dev/net/", "tun", makedev(MISC_MAJOR, TUN_MINOR), e) < 0 ||
	    make_device(j, j->dev, "/dev/", "kvm", makedev(MISC_MAJOR, KVM_MINOR), e) < 0)
		return e->code;
	if (make_device(j, j->dev, "/dev/", "urandom", makedev(MEM_MAJOR, URANDOM_MINOR), &reason) < 0)
		log_warn("%s; continuing without it", reason.text);
	if (j->userfault_minor < 0)
		return 0;
	return make_device(j, j->dev, "/dev/", "userfaultfd", makedev(MISC_MAJOR, (unsigned)j->userfault_minor), e);
}

int fcjail_make_devices(struct fcjail *j, struct err *e)
{
	if (open_or_make(j, j->root, "dev", MODE_JAIL, j->uid, &j->dev, "/dev in the jail", e) < 0 ||
	    open_or_make(j, j->dev, "net", MODE_JAIL, j->uid, &j->net, "/dev/net in the jail", e) < 0 ||
	    open_or_make(j, j->root, "run", MODE_JAIL, j->uid, &j->run, "/run in the jail", e) < 0 ||
	    make_all_devices(j, e) < 0)
		return e->code;
	for (size_t i = 0; i < 4; i++) {
		int fd = (int[]){ j->net, j->dev, j->run, j->root }[i];

		if (fchmod(fd, MODE_JAIL) < 0 || fchown(fd, j->uid, j->gid) < 0)
			return err_sys(e, "give the directories of '%s' to the user", j->path);
	}
	return 0;
}
