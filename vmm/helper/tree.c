/*
 * A walk through a directory; see tree.h.
 *
 * The types, modes, owners, sizes, inodes, and times of modification and of change of all
 * that is in it go into a key, so that a directory in which anything was written or
 * renamed has another key.
 *
 * One descriptor is open at a time: the names of subdirectories are kept until their
 * directory is closed. The depth of the recursion is bounded by the length of a path.
 */
#include "vmm/helper/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "vmm/base/err.h"

#define EXTENTS_MAX 10000   /* of a file, when its holes are counted */
#define HOLES_COUNT_MIN MIB /* a file with less is packed as it is */
#define SHOWN_MAX 200	    /* bytes of a path that is too long, in a message */
#define BLOCK 512	    /* bytes, of stx_blocks */

struct names {
	char *text; /* each with its NUL */
	size_t len, size;
};

static const char *relative(const struct tree *t)
{
	return t->path[t->dir_len] ? t->path + t->dir_len + 1 : ".";
}

static int keep(char **ret, const char *text, struct err *e)
{
	char *copy = strdup(text);

	if (!copy)
		return err_sys(e, "keep a name");
	free(*ret);
	*ret = copy;
	return 0;
}

static int add_name(struct names *names, const char *name, struct err *e)
{
	size_t len = strlen(name) + 1;

	if (names->size - names->len < len) {
		size_t size = 2 * names->size + len;
		char *grown = realloc(names->text, size);

		if (!grown)
			return err_sys(e, "keep a name");
		names->text = grown;
		names->size = size;
	}
	memcpy(names->text + names->len, name, len);
	names->len += len;
	return 0;
}

static int refuse(const struct tree *t, struct err *e)
{
	const char *hint = errno == EACCES || errno == EPERM ?
				   "; make it readable for the user who runs mayfly, or move it out of the directory" :
				   "";
	int code = -errno;

	return err_set(e, code, "read '%s' in it: %s%s", relative(t), strerror(-code), hint);
}

static dev_t device_of(const struct statx *st)
{
	return makedev(st->stx_dev_major, st->stx_dev_minor);
}

/* One file of the host on another, as containers have them, is a file like others. */
static bool is_mount(const struct tree *t, const struct statx *st)
{
	if (!S_ISDIR(st->stx_mode))
		return false;
	if (st->stx_attributes_mask & STATX_ATTR_MOUNT_ROOT)
		return st->stx_attributes & STATX_ATTR_MOUNT_ROOT;
	return device_of(st) != t->dev; /* before Linux 5.8 */
}

static void add_facts(struct tree *t, const struct statx *st)
{
	uint64_t facts[] = { st->stx_mode,
			     st->stx_uid,
			     st->stx_gid,
			     st->stx_size,
			     st->stx_ino,
			     device_of(st),
			     makedev(st->stx_rdev_major, st->stx_rdev_minor),
			     (uint64_t)st->stx_mtime.tv_sec,
			     st->stx_mtime.tv_nsec,
			     (uint64_t)st->stx_ctime.tv_sec,
			     st->stx_ctime.tv_nsec };

	image_key_add(t->key, facts, sizeof(facts));
}

/*
 * What the modes alone say; lists of access rights may say less, for which mkfs.erofs
 * fails, and the next walk probes.
 */
static bool looks_readable(const struct statx *st)
{
	if (geteuid() == 0)
		return true;
	return st->stx_uid == geteuid() ? st->stx_mode & 0400 : (st->stx_mode & 0044) == 0044;
}

/* Adds up the holes of the file at fd. */
static void count_holes(struct tree *t, int fd, uint64_t size)
{
	uint64_t data = 0;
	off_t at = 0, start;

	for (unsigned i = 0; i < EXTENTS_MAX && (start = lseek(fd, at, SEEK_DATA)) >= 0; i++) {
		at = lseek(fd, start, SEEK_HOLE);
		if (at < 0)
			return; /* it has become smaller */
		data += (uint64_t)(at - start);
	}
	t->holes += data < size ? size - data : 0;
}

static int look_into_file(struct tree *t, int dir, const char *name, const struct statx *st, struct err *e)
{
	bool sparse = st->stx_blocks * BLOCK + HOLES_COUNT_MIN <= st->stx_size;
	MF_CLOSE int fd = -1;

	t->bytes += st->stx_size;
	if (!t->probe && !sparse && looks_readable(st))
		return 0;
	fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : refuse(t, e);
	if (sparse)
		count_holes(t, fd, st->stx_size);
	return 0;
}

static int leave_out(struct tree *t, struct err *e)
{
	static const char mark[] = "mounted";

	if (t->num_left_out == TREE_LEFT_OUT_MAX)
		return err_set(e, -EMFILE, "more than %d file systems are mounted in it", TREE_LEFT_OUT_MAX);
	image_key_add(t->key, mark, sizeof(mark));
	return keep(&t->left_out[t->num_left_out++], relative(t), e);
}

static int note_change(struct tree *t, const struct statx *st, struct err *e)
{
	uint64_t ns = (uint64_t)st->stx_ctime.tv_sec * 1000000000 + st->stx_ctime.tv_nsec;

	if (ns <= t->changed_ns)
		return 0;
	t->changed_ns = ns;
	return keep(&t->changed, relative(t), e);
}

/*
 * What t->path is. name: of it in the directory dir; subdirectories are added to names.
 */
static int visit(struct tree *t, int dir, const char *name, struct names *names, struct err *e)
{
	struct statx st;

	if (statx(dir, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &st) < 0)
		return errno == ENOENT ? 0 : refuse(t, e);
	if (S_ISDIR(st.stx_mode) && st.stx_ino == t->cache_ino && device_of(&st) == t->cache_dev)
		return keep(&t->cache, relative(t), e);
	image_key_add(t->key, relative(t), strlen(relative(t)) + 1);
	if (is_mount(t, &st))
		return leave_out(t, e);
	add_facts(t, &st);
	t->files++;
	if (strlen(name) > TREE_NAME_MAX && !t->long_name && keep(&t->long_name, relative(t), e) < 0)
		return e->code;
	if (note_change(t, &st, e) < 0)
		return e->code;
	if (S_ISREG(st.stx_mode))
		return look_into_file(t, dir, name, &st, e);
	return S_ISDIR(st.stx_mode) ? add_name(names, name, e) : 0;
}

/* Puts name behind t->path, whose length is len. */
static int enter(struct tree *t, size_t len, const char *name, struct err *e)
{
	if (len + 1 + strlen(name) >= sizeof(t->path)) {
		t->path[t->dir_len + 1 + SHOWN_MAX] = '\0';
		return err_set(e, -ENAMETOOLONG,
			       "a path in it has more than %d bytes, which mkfs.erofs cannot read: it begins with '%s' "
			       "and ends in '%s'",
			       PATH_MAX - 1, relative(t), name);
	}
	t->path[len] = '/';
	strcpy(t->path + len + 1, name);
	return 0;
}

/* All but the subdirectories of the directory t->path, which go into names. */
static int scan_entries(struct tree *t, struct names *names, struct err *e)
{
	size_t len = strlen(t->path);
	int fd = open(len ? t->path : "/", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), r = 0;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		r = errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? 0 : refuse(t, e);
		if (fd >= 0)
			close(fd);
		return r;
	}
	while (r == 0 && (errno = 0, entry = readdir(dir))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		r = enter(t, len, entry->d_name, e);
		if (r == 0)
			r = visit(t, fd, entry->d_name, names, e);
		t->path[len] = '\0';
	}
	if (r == 0 && !entry && errno && errno != ENOENT)
		r = refuse(t, e);
	closedir(dir);
	return r;
}

static int scan_directory(struct tree *t, struct err *e)
{
	struct names names = { .text = NULL };
	size_t len = strlen(t->path);
	int r = scan_entries(t, &names, e);

	for (size_t at = 0; r == 0 && at < names.len; at += strlen(names.text + at) + 1) {
		r = enter(t, len, names.text + at, e);
		if (r == 0)
			r = scan_directory(t, e);
		t->path[len] = '\0';
	}
	free(names.text);
	return r;
}

int tree_scan(struct tree *t, struct err *e)
{
	struct stat cache = { .st_ino = 0 };
	struct statx root;

	t->dir_len = strlen(t->dir) > 1 ? strlen(t->dir) : 0; /* "/" has its slash already */
	if (strlen(t->dir) >= sizeof(t->path) - SHOWN_MAX - 1)
		return err_set(e, -ENAMETOOLONG, "its path is too long");
	snprintf(t->path, sizeof(t->path), "%s", t->dir_len ? t->dir : "");
	if ((t->cache_fd >= 0 && fstat(t->cache_fd, &cache) < 0) ||
	    statx(AT_FDCWD, t->dir, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &root) < 0)
		return err_sys(e, "find it");
	t->cache_ino = cache.st_ino;
	t->cache_dev = cache.st_dev;
	t->dev = device_of(&root);
	if (root.stx_ino == t->cache_ino && t->dev == t->cache_dev)
		return err_set(e, -EINVAL, "is the cache of images itself");
	add_facts(t, &root);
	return note_change(t, &root, e) < 0 ? e->code : scan_directory(t, e);
}

void tree_done(struct tree *t)
{
	for (unsigned i = 0; i < t->num_left_out; i++)
		free(t->left_out[i]);
	free(t->cache);
	free(t->long_name);
	free(t->changed);
}
