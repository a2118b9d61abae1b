/* Where artifacts go; see artifact_dir.h. */
#include "vmm/helper/artifact_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"

#define OLD ".old" /* what was at the place, where files cannot be exchanged; behind a name in the fresh directory */

/* Opens a directory; one of another file system, or behind a link, is refused. Returns it or -errno. */
static int open_below(int dir, const char *name)
{
	const struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
	};
	int fd = (int)syscall(SYS_openat2, dir, name, &how, sizeof(how));

	return fd < 0 ? -errno : fd;
}

typedef int visit_fn(int dir, const char *name, void *ctx, struct err *e);

/* For all names in a directory but "." and "..". */
static int for_each(int dir, visit_fn *visit, void *ctx, struct err *e)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (!stream) {
		r = err_sys(e, "read a directory");
		if (fd >= 0)
			close(fd);
		return r;
	}
	while (!r && (errno = 0, entry = readdir(stream)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			r = visit(dir, entry->d_name, ctx, e);
	if (!r && errno)
		r = err_sys(e, "read a directory");
	closedir(stream);
	return r;
}

static int remove_one(int dir, const char *name, void *ctx, struct err *e)
{
	MF_CLOSE int fd = -1;

	if (unlinkat(dir, name, 0) == 0)
		return 0;
	if (errno != EISDIR)
		return err_sys(e, "remove '%s'", name);
	fd = open_below(dir, name);
	if (fd < 0)
		return err_neg(e, fd, "remove directory '%s'", name);
	(void)fchmod(fd, S_IRWXU); /* what cannot be removed then will tell */
	if (for_each(fd, remove_one, ctx, e) < 0)
		return e->code;
	return unlinkat(dir, name, AT_REMOVEDIR) < 0 ? err_sys(e, "remove directory '%s'", name) : 0;
}

/*
 * Left by a process that was killed: its lock is free. Files of other users, or that
 * cannot be removed, stay.
 */
static int remove_left(int dir, const char *name, void *ctx, struct err *e)
{
	MF_CLOSE int fd = -1;
	struct stat st;

	if (strncmp(name, ARTIFACT_DIR_PREFIX, strlen(ARTIFACT_DIR_PREFIX)) != 0)
		return 0;
	fd = open_below(dir, name);
	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_uid == geteuid() && flock(fd, LOCK_EX | LOCK_NB) == 0)
		(void)remove_one(dir, name, ctx, e);
	return 0;
}

static int make_fresh(struct artifact_dir *d, struct err *e)
{
	struct stat made, there;
	uint32_t random;

	for (;;) {
		if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
			return err_sys(e, "choose a name");
		snprintf(d->fresh_name, sizeof(d->fresh_name), ARTIFACT_DIR_PREFIX "%08x", random);
		if (mkdirat(d->host, d->fresh_name, S_IRWXU) < 0 && errno == EEXIST)
			continue;
		d->fresh = openat(d->host, d->fresh_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (d->fresh < 0)
			return err_sys(e, "make directory '%s'", d->fresh_name);
		/* Where there are no such locks, others cannot lock it, either. */
		(void)flock(d->fresh, LOCK_EX | LOCK_NB);
		/* Another process may have taken it for left before it was locked. */
		if (fstat(d->fresh, &made) == 0 && fstatat(d->host, d->fresh_name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
		    made.st_ino == there.st_ino)
			return 0;
		close(mf_take_fd(&d->fresh));
	}
}

static int refuse_one(int dir, const char *name, void *ctx, struct err *e)
{
	(void)dir;
	(void)ctx;
	return err_set(e, -ENOTEMPTY, "what is in a directory needs a directory that is empty, and there is '%s'",
		       name);
}

int artifact_dir_open(struct artifact_dir *d, const struct config_artifact *config, struct err *e)
{
	int r = 0;

	*d = (struct artifact_dir){ .host = -1, .fresh = -1 };
	d->as = config->as;
	d->merge = config->merge;
	snprintf(d->name, sizeof(d->name), "%s", config_artifact_name(config));
	d->name[strcspn(d->name, "/")] = '\0';
	if (mkdir(config->host, 0777) < 0 && errno != EEXIST)
		return err_sys(e, "make directory '%s'", config->host);
	d->host = open(config->host, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->host < 0)
		return err_sys(e, "open directory '%s'", config->host);
	r = for_each(d->host, remove_left, NULL, e);
	if (!r && !strcmp(d->name, ".") && !d->merge)
		r = for_each(d->host, refuse_one, NULL, e);
	if (!r)
		r = make_fresh(d, e);
	if (r < 0) {
		artifact_dir_close(d);
		return err_wrap(e, "in '%s'", config->host);
	}
	return 0;
}

struct budget {
	uint64_t members, bytes;
	struct name {
		uint64_t inode, links; /* how many names it has */
	} * name;		       /* those of files with more than one; NULL: none so far */
	size_t num_names, max_names;
};

static int add_name(struct budget *b, const struct stat *st, struct err *e)
{
	if (b->num_names == b->max_names) {
		size_t max = b->max_names ? 2 * b->max_names : 64;
		struct name *more = reallocarray(b->name, max, sizeof(*more));

		if (!more)
			return err_set(e, -ENOMEM, "out of memory");
		b->name = more;
		b->max_names = max;
	}
	b->name[b->num_names++] = (struct name){ .inode = st->st_ino, .links = st->st_nlink };
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	const struct name *x = a, *y = b;

	return x->inode < y->inode ? -1 : x->inode > y->inode;
}

/* Whether all names of the files that have more than one are here: one elsewhere would be a link out. */
static int check_names(struct budget *b, struct err *e)
{
	if (b->num_names)
		qsort(b->name, b->num_names, sizeof(*b->name), compare_names);
	for (size_t i = 0, n; i < b->num_names; i += n) {
		for (n = 1; i + n < b->num_names && b->name[i + n].inode == b->name[i].inode;)
			n++;
		if (n != b->name[i].links)
			return err_set(e, -EPERM, "a file is linked to one that was not sent");
	}
	return 0;
}

/* Whatever has unpacked it: only what init sends may be there. */
static int check_one(int dir, const char *name, void *ctx, struct err *e)
{
	struct budget *left = ctx;
	MF_CLOSE int fd = -1;
	uint64_t bytes = 0;
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, "look at '%s'", name);
	/* Holes are no bytes, nor is what a file system rounds up to. */
	if (S_ISREG(st.st_mode))
		bytes = MF_MIN((uint64_t)st.st_size, (uint64_t)st.st_blocks * 512) / st.st_nlink;
	if (left->members-- == 0 || bytes > left->bytes)
		return err_set(e, -EDQUOT, "more has arrived than may");
	left->bytes -= bytes;
	if (S_ISLNK(st.st_mode))
		return 0;
	if (S_ISDIR(st.st_mode)) {
		fd = open_below(dir, name);
		return fd < 0 ? err_neg(e, fd, "look at directory '%s'", name) : for_each(fd, check_one, left, e);
	}
	if (!S_ISREG(st.st_mode) || st.st_mode & (S_ISUID | S_ISGID | S_ISVTX))
		return err_set(e, -EPERM, "'%s' is of a kind that is not sent", name);
	return st.st_nlink > 1 ? add_name(left, &st, e) : 0;
}

static int place(const struct artifact_dir *d, const char *name, struct err *e)
{
	char old[NAME_MAX + sizeof(OLD)];

	if (renameat2(d->fresh, name, d->host, name, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno == EEXIST && renameat2(d->fresh, name, d->host, name, RENAME_EXCHANGE) == 0)
		return 0;
	if (errno != EINVAL)
		return err_sys(e, "move '%s' to its place", name);
	/* A file system without these. */
	snprintf(old, sizeof(old), "%.*s" OLD, (int)(NAME_MAX + 1 - sizeof(OLD)), name);
	if ((renameat(d->host, name, d->fresh, old) < 0 && errno != ENOENT) ||
	    renameat(d->fresh, name, d->host, name) < 0)
		return err_sys(e, "move '%s' to its place", name);
	return 0;
}

static int place_one(int dir, const char *name, void *ctx, struct err *e)
{
	const struct artifact_dir *d = ctx;

	if (renameat2(dir, name, d->host, name, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno == EINVAL && faccessat(d->host, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT &&
	    renameat(dir, name, d->host, name) == 0)
		return 0;
	return err_sys(e, "move '%s' to its place", name);
}

struct merge {
	int to;		/* the directory that it goes to */
	const char *as; /* or NULL: the same name */
};

/* Moves what is called name in dir, or merges it with the directory that has its place. */
static int merge_one(int dir, const char *name, void *ctx, struct err *e)
{
	const struct merge *m = ctx;
	const char *as = m->as ? m->as : name;
	MF_CLOSE int from = -1;
	MF_CLOSE int to = -1;
	struct stat st, there;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, "look at '%s'", name);
	if (fstatat(m->to, as, &there, AT_SYMLINK_NOFOLLOW) < 0 && errno != ENOENT)
		return err_sys(e, "look at '%s'", as);
	if (errno == ENOENT || (!S_ISDIR(st.st_mode) && !S_ISDIR(there.st_mode)))
		return renameat(dir, name, m->to, as) < 0 ? err_sys(e, "move '%s' to its place", as) : 0;
	if (!S_ISDIR(st.st_mode) || !S_ISDIR(there.st_mode))
		return err_set(e, -EEXIST, "'%s' is %s directory there, and here it is not", as,
			       S_ISDIR(there.st_mode) ? "a" : "no");
	from = open_below(dir, name);
	to = open_below(m->to, as);
	if (from < 0 || to < 0)
		return err_neg(e, from < 0 ? from : to, "open directory '%s'", as);
	return for_each(from, merge_one, &(struct merge){ .to = to }, e);
}

int artifact_dir_move(const struct artifact_dir *d, uint64_t max_members, uint64_t max_bytes, struct err *e)
{
	struct budget left = { .members = max_members, .bytes = max_bytes };
	struct stat st;
	int r = for_each(d->fresh, check_one, &left, e);

	if (!r)
		r = check_names(&left, e);
	free(left.name);
	if (r < 0)
		return r;
	if (d->merge && !strcmp(d->name, "."))
		return for_each(d->fresh, merge_one, &(struct merge){ .to = d->host }, e);
	if (!strcmp(d->name, "."))
		return for_each(d->fresh, place_one, (void *)(uintptr_t)d, e);
	if (fstatat(d->fresh, d->name, &st, AT_SYMLINK_NOFOLLOW) < 0 || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)))
		return err_set(e, -ENOENT, "neither a file nor a directory '%s' has arrived", d->name);
	if (d->merge)
		return merge_one(d->fresh, d->name, &(struct merge){ .to = d->host, .as = d->as }, e);
	return place(d, d->name, e);
}

int artifact_dir_remove(const struct artifact_dir *d, struct err *e)
{
	return remove_one(d->host, d->fresh_name, NULL, e);
}

void artifact_dir_close(struct artifact_dir *d)
{
	if (d->host >= 0)
		close(mf_take_fd(&d->host));
	if (d->fresh >= 0)
		close(mf_take_fd(&d->fresh));
}
