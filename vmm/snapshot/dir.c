/* The directory of a snapshot; see dir.h. */
#include "vmm/snapshot/dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"

static const char *const files[] = { SNAPSHOT_STATE,	  SNAPSHOT_MEMORY,	   SNAPSHOT_CONFIG,
				     SNAPSHOT_WORKINGSET, SNAPSHOT_WORKINGSET_NEW, SNAPSHOT_SHAPE };

/* Calls each with the name of every entry, until it fails. Returns 0 or -errno. */
static int for_each(int dir, int (*each)(int dir, const char *name))
{
	MF_CLOSE int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	int r = 0;

	if (!list)
		return -errno;
	fd = -1; /* closedir closes it */
	while (r == 0 && (entry = readdir(list)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			r = each(dir, entry->d_name);
	closedir(list);
	return r;
}

static int remove_file(int dir, const char *name)
{
	return unlinkat(dir, name, 0) < 0 ? -errno : 0;
}

static int remove_disks(int dir)
{
	MF_CLOSE int fd = openat(dir, SNAPSHOT_DISKS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int r;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	r = for_each(fd, remove_file);
	return r < 0 ? r : unlinkat(dir, SNAPSHOT_DISKS, AT_REMOVEDIR) < 0 ? -errno : 0;
}

/* Only our own files: a directory that has others does not become empty. */
static int empty(int dir)
{
	for (size_t i = 0; i < MF_ARRAY_SIZE(files); i++)
		if (unlinkat(dir, files[i], 0) < 0 && errno != ENOENT)
			return -errno;
	return remove_disks(dir);
}

/*
 * Opens the directory and locks it: for one writer, or one that removes it. The lock is on the
 * directory that has the name, which another process may rename or remove before: -EBUSY then, and
 * if it has the lock. Returns the descriptor, which ends the lock, or -errno.
 */
static int lock_dir(int parent, const char *name)
{
	MF_CLOSE int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat locked, named;

	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	if (fstat(fd, &locked) < 0)
		return -errno;
	if (fstatat(parent, name, &named, AT_SYMLINK_NOFOLLOW) < 0 || named.st_ino != locked.st_ino ||
	    named.st_dev != locked.st_dev)
		return -EBUSY;
	return mf_take_fd(&fd);
}

/* Removes the directory, whose lock the caller has by fd. */
static void remove_locked(int parent, const char *name, int fd)
{
	if (empty(fd) == 0)
		(void)unlinkat(parent, name, AT_REMOVEDIR); /* the next snapshot tries again */
}

static int is_ours(int dir, const char *name)
{
	(void)dir;
	for (size_t i = 0; i < MF_ARRAY_SIZE(files); i++)
		if (!strcmp(name, files[i]))
			return 0;
	return strcmp(name, SNAPSHOT_DISKS) == 0 ? 0 : -EEXIST;
}

static int refuse_file(int dir, const char *name)
{
	(void)dir;
	(void)name;
	return -ENOTEMPTY;
}

/* Whether there is something at name that is no snapshot. */
static bool is_other(int parent, const char *name)
{
	MF_CLOSE int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? errno != ENOENT : for_each(fd, is_ours) < 0;
}

/* Splits path into an open directory and a name. */
static int open_parent(struct snapshot_dir *d, const char *path, struct err *e)
{
	MF_FREE char *copy = strdup(path);
	size_t len = strlen(path);
	char *slash;

	if (!copy)
		return err_set(e, -ENOMEM, "out of memory");
	while (len > 1 && copy[len - 1] == '/')
		copy[--len] = '\0';
	slash = strrchr(copy, '/');
	d->name = strdup(slash ? slash + 1 : copy);
	if (!d->name || asprintf(&d->temporary, ".%s.new", d->name) < 0) {
		d->temporary = NULL;
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (!*d->name || !strcmp(d->name, ".") || !strcmp(d->name, ".."))
		return err_set(e, -EINVAL, "it must be a directory's own name");
	if (slash)
		slash[slash == copy] = '\0';
	d->parent = open(slash ? copy : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return d->parent < 0 ? err_sys(e, "open the directory that it is in") : 0;
}

int snapshot_dir_begin(struct snapshot_dir *d, const char *path, struct err *e)
{
	int r;

	*d = SNAPSHOT_DIR_INIT;
	if (open_parent(d, path, e) < 0)
		return e->code;
	if (is_other(d->parent, d->name))
		return err_set(e, -EEXIST, "it exists, and is no snapshot");
	if (mkdirat(d->parent, d->temporary, 0700) < 0 && errno != EEXIST)
		return err_sys(e, "make '%s'", d->temporary);
	/* A lock on the parent would last too long; on the directory, it ends with a writer that is killed. */
	d->fd = lock_dir(d->parent, d->temporary);
	if (d->fd == -EBUSY)
		return err_set(e, -EBUSY, "another snapshot is being written there");
	if (d->fd < 0)
		return err_neg(e, d->fd, "open '%s'", d->temporary);
	/* It may be of a writer that was killed: begin with an empty one. */
	r = empty(d->fd);
	if (r == 0)
		r = for_each(d->fd, refuse_file);
	return r < 0 ? err_neg(e, r, "empty an older '%s'", d->temporary) : 0;
}

static int create(int dir, const char *name, struct err *e)
{
	int fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0400);

	return fd < 0 ? err_sys(e, "make '%s'", name) : fd;
}

int snapshot_dir_create(const struct snapshot_dir *d, const char *name, uint64_t size, struct err *e)
{
	MF_CLOSE int fd = create(d->fd, name, e);

	if (fd < 0)
		return fd;
	if (size && ftruncate(fd, (off_t)size) < 0)
		return err_sys(e, "'%s' of %llu bytes", name, (unsigned long long)size);
	return mf_take_fd(&fd);
}

int snapshot_dir_make_disks(struct snapshot_dir *d, struct err *e)
{
	if (mkdirat(d->fd, SNAPSHOT_DISKS, 0700) < 0)
		return err_sys(e, "make '%s'", SNAPSHOT_DISKS);
	d->disks = openat(d->fd, SNAPSHOT_DISKS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return d->disks < 0 ? err_sys(e, "open '%s'", SNAPSHOT_DISKS) : 0;
}

int snapshot_dir_create_disk(const struct snapshot_dir *d, const char *id, struct err *e)
{
	return create(d->disks, id, e);
}

int snapshot_dir_sync(int fd, const char *name, struct err *e)
{
	return fsync(fd) < 0 ? err_sys(e, "sync '%s'", name) : 0;
}

int snapshot_dir_commit(struct snapshot_dir *d, struct err *e)
{
	int r;

	if ((d->disks >= 0 && snapshot_dir_sync(d->disks, SNAPSHOT_DISKS, e) < 0) ||
	    snapshot_dir_sync(d->fd, d->temporary, e) < 0)
		return e->code;
	r = renameat2(d->parent, d->temporary, d->parent, d->name, RENAME_NOREPLACE);
	if (r < 0 && errno == EEXIST) {
		r = renameat2(d->parent, d->temporary, d->parent, d->name, RENAME_EXCHANGE);
		d->exchanged = r == 0;
	}
	if (r < 0)
		return err_sys(e, "rename '%s'", d->temporary);
	d->committed = true;
	return snapshot_dir_sync(d->parent, "its directory", e);
}

/* An older snapshot, or what a killed writer has left: it has the temporary name. Another writer may begin with it. */
static void remove_older(const struct snapshot_dir *d)
{
	MF_CLOSE int fd = lock_dir(d->parent, d->temporary);

	if (fd >= 0)
		remove_locked(d->parent, d->temporary, fd);
}

void snapshot_dir_done(struct snapshot_dir *d)
{
	if (d->fd >= 0 && !d->committed)
		remove_locked(d->parent, d->temporary, d->fd);
	/* Our lock first: what has the temporary name may be what we have written, if another writer has exchanged that already. */
	if (d->fd >= 0)
		close(d->fd);
	if (d->exchanged)
		remove_older(d);
	if (d->disks >= 0)
		close(d->disks);
	if (d->parent >= 0)
		close(d->parent);
	free(d->name);
	free(d->temporary);
	*d = SNAPSHOT_DIR_INIT;
}

static int remove_snapshot(struct snapshot_dir *d, const char *path, struct err *e)
{
	if (open_parent(d, path, e) < 0)
		return e->code;
	d->fd = lock_dir(d->parent, d->name);
	if (d->fd < 0)
		return err_neg(e, d->fd, "open it");
	if (for_each(d->fd, is_ours) < 0 || faccessat(d->fd, SNAPSHOT_STATE, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(e, -EINVAL, "it is no snapshot");
	remove_older(d);
	if (renameat2(d->parent, d->name, d->parent, d->temporary, RENAME_NOREPLACE) < 0)
		return err_sys(e, "rename it to '%s'", d->temporary);
	return 0; /* snapshot_dir_done removes what has the temporary name */
}

int snapshot_dir_remove(const char *path, struct err *e)
{
	struct snapshot_dir d = SNAPSHOT_DIR_INIT;
	int r = remove_snapshot(&d, path, e);

	if (r < 0)
		d.committed = true; /* it stays */
	snapshot_dir_done(&d);
	return r;
}
