/* A file of a snapshot that has a path of its own; see file.h. */
#include "vmm/snapshot/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"

/* Bytes of the directory's name in path, with the slash. */
static int dir_len(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? (int)(slash - path) + 1 : 0;
}

static int name_files(struct snapshot_file *f, const char *path, struct err *e)
{
	int len = dir_len(path);

	if (!path[len])
		return err_set(e, *path ? -EISDIR : -ENOENT, "'%s': %s", path, strerror(*path ? EISDIR : ENOENT));
	f->path = strdup(path);
	if (!f->path || asprintf(&f->temporary, "%.*s.%s.new", len, path, path + len) < 0) {
		f->temporary = NULL;
		return err_set(e, -ENOMEM, "out of memory");
	}
	return 0;
}

/* What has the name is replaced, so it may be nothing that only looks like a file of ours. */
static int check_old(struct snapshot_file *f, struct err *e)
{
	struct stat st;

	if (fstatat(AT_FDCWD, f->path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_sys(e, "'%s'", f->path);
	f->replaces = true;
	if (S_ISDIR(st.st_mode))
		return err_set(e, -EISDIR, "'%s': %s", f->path, strerror(EISDIR));
	return S_ISREG(st.st_mode) ? 0 : err_set(e, -EEXIST, "'%s' exists, and is no regular file", f->path);
}

/*
 * The lock tells a file that a killed process has left from one that is being written, and ends with the
 * file's last descriptor. Another writer may have renamed or removed it before: its name tells.
 */
static int lock_new(const struct snapshot_file *f, struct err *e)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct stat locked, named;

	if (fstatat(f->fd, "", &locked, AT_EMPTY_PATH) < 0)
		return err_sys(e, "'%s'", f->temporary);
	if (!S_ISREG(locked.st_mode))
		return err_set(e, -EEXIST, "'%s' exists, and is no regular file", f->temporary);
	if (fcntl(f->fd, F_OFD_SETLK, &lock) < 0 || fstatat(AT_FDCWD, f->temporary, &named, AT_SYMLINK_NOFOLLOW) < 0 ||
	    named.st_ino != locked.st_ino || named.st_dev != locked.st_dev)
		return err_set(e, -EBUSY, "'%s': another snapshot is being written there", f->path);
	return 0;
}

int snapshot_file_begin(struct snapshot_file *f, const char *path, uint64_t size, struct err *e)
{
	*f = SNAPSHOT_FILE_INIT;
	if (name_files(f, path, e) < 0 || check_old(f, e) < 0)
		return e->code;
	f->fd = open(f->temporary, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	if (f->fd < 0)
		return err_sys(e, "'%s'", path);
	if (lock_new(f, e) < 0) {
		/* It is another's: snapshot_file_done must leave it. */
		close(f->fd);
		f->fd = -1;
		return e->code;
	}
	if (ftruncate(f->fd, 0) < 0 || ftruncate(f->fd, (off_t)size) < 0)
		return err_sys(e, "'%s' of %llu bytes", path, (unsigned long long)size);
	return 0;
}

static int sync_dir(const char *path, struct err *e)
{
	int len = dir_len(path);
	MF_FREE char *name = len ? strndup(path, (size_t)len) : strdup(".");
	MF_CLOSE int fd = name ? open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	return fd < 0 || fsync(fd) < 0 ? err_sys(e, "sync the directory of '%s'", path) : 0;
}

int snapshot_file_commit(struct snapshot_file *f, struct err *e)
{
	/* Not by renameat2(3), which without flags is renameat(2). */
	if (syscall(SYS_renameat2, AT_FDCWD, f->temporary, AT_FDCWD, f->path, 0) < 0)
		return err_sys(e, "rename '%s'", f->temporary);
	free(f->temporary);
	f->temporary = NULL;
	return sync_dir(f->path, e);
}

int snapshot_file_remove(const struct snapshot_file *f, struct err *e)
{
	return unlinkat(AT_FDCWD, f->path, 0) < 0 && errno != ENOENT ? err_sys(e, "remove '%s'", f->path) : 0;
}

void snapshot_file_done(struct snapshot_file *f)
{
	if (f->temporary && f->fd >= 0)
		(void)unlinkat(AT_FDCWD, f->temporary, 0); /* the next snapshot takes what stays */
	if (f->fd >= 0)
		close(f->fd);
	free(f->path);
	free(f->temporary);
	*f = SNAPSHOT_FILE_INIT;
}
