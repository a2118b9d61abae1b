/* The cache of images; see image_cache.h. */
#include "vmm/helper/image_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/parse.h"

#define SOURCE_SUFFIX ".source"
#define SOURCE_CHARS 17 /* of a name: the hash of the source, and '-' */
#define PART_TRIES 100

static const char *const kinds[] = { ".erofs", ".squashfs", ".ext4", IMAGE_CACHE_TEMPLATE };

/* Names. */

/* What follows the name of an image in name; NULL: it does not begin with one. */
static const char *after_image(const char *name)
{
	const char *found;

	for (size_t i = 0; i < MF_ARRAY_SIZE(kinds); i++)
		if ((found = strstr(name, kinds[i])))
			return found + strlen(kinds[i]);
	return NULL;
}

static bool is_image(const char *name)
{
	const char *rest = after_image(name);

	return rest && !*rest;
}

static bool is_source(const char *name)
{
	const char *rest = after_image(name);

	return rest && !strcmp(rest, SOURCE_SUFFIX);
}

static bool is_part(const char *name)
{
	const char *rest = after_image(name);

	return rest && *rest == '.' && !is_source(name);
}

static void source_name(const char *name, char text[NAME_MAX + 1])
{
	snprintf(text, NAME_MAX + 1, "%s" SOURCE_SUFFIX, name);
}

/* Whether name is still the file of fd. */
static bool is_file_of(const struct image_cache *c, const char *name, int fd)
{
	struct stat open_one, there;

	return fstat(fd, &open_one) == 0 && fstatat(c->fd, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
	       open_one.st_ino == there.st_ino && open_one.st_dev == there.st_dev;
}

/* Whether nobody uses it. On a file system without locks nobody knows. */
static bool is_unused(const struct image_cache *c, const char *name)
{
	MF_CLOSE int fd = openat(c->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
}

/* Opens a directory again, to be read from its beginning; or NULL. */
static DIR *read_again(int parent, const char *name)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir && fd >= 0)
		close(fd);
	return dir;
}

/* The bytes of the files in a template's directory. remove: removes them instead. */
static uint64_t measure_template(int parent, const char *name, bool remove)
{
	DIR *dir = read_again(parent, name);
	struct dirent *entry;
	uint64_t bytes = 0;
	struct stat st;

	if (!dir)
		return 0;
	while ((entry = readdir(dir))) {
		if (remove)
			(void)unlinkat(dirfd(dir), entry->d_name, 0); /* what is left keeps the directory */
		else if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
			bytes += (uint64_t)st.st_blocks * 512;
	}
	closedir(dir);
	return bytes;
}

/* The same, and removes it while it is locked. */
static bool remove_unused(const struct image_cache *c, const char *name)
{
	MF_CLOSE int fd = openat(c->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 || !is_file_of(c, name, fd))
		return false;
	if (unlinkat(c->fd, name, 0) == 0)
		return true;
	(void)measure_template(c->fd, name, true);
	return unlinkat(c->fd, name, AT_REMOVEDIR) == 0;
}

/* Opens the cache's directory, to be read from its beginning; NULL with e set. */
static DIR *begin_reading(const struct image_cache *c, struct err *e)
{
	DIR *dir = read_again(c->fd, ".");

	if (!dir)
		err_sys(e, "read directory '%s'", c->path);
	return dir;
}

/*
 * Removes unfinished images of dead processes, and leftovers of images that others have
 * removed.
 */
static int sweep(const struct image_cache *c, struct err *e)
{
	DIR *dir = begin_reading(c, e);
	struct dirent *entry;
	char image[NAME_MAX + 1];

	if (!dir)
		return e->code;
	while ((entry = readdir(dir))) {
		if (is_part(entry->d_name)) {
			(void)remove_unused(c, entry->d_name); /* the next run will try again */
		} else if (is_source(entry->d_name)) {
			snprintf(image, sizeof(image), "%.*s", (int)(strlen(entry->d_name) - strlen(SOURCE_SUFFIX)),
				 entry->d_name);
			if (faccessat(c->fd, image, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
				(void)unlinkat(c->fd, entry->d_name, 0); /* the same */
		}
	}
	closedir(dir);
	return 0;
}

int image_cache_open(struct image_cache *c, struct err *e)
{
	const char *max = getenv(IMAGE_CACHE_MAX_ENV);

	c->max_bytes = IMAGE_CACHE_MAX_DEFAULT;
	if (max && *max && parse_size(max, &c->max_bytes) < 0)
		return err_set(e, -EINVAL, "$" IMAGE_CACHE_MAX_ENV ": must be a size such as 512M or 8G");
	if (image_cache_find(c, e) < 0)
		return err_wrap(e, "the cache of images (it is in $XDG_CACHE_HOME, if that is set)");
	return sweep(c, e);
}

void image_cache_close(struct image_cache *c)
{
	if (c->fd >= 0)
		close(c->fd);
	free(c->path);
	*c = (struct image_cache){ .fd = -1 };
}

/* Images. */

int image_cache_take(const struct image_cache *c, const char *name, int flags, struct err *e)
{
	MF_CLOSE int fd = openat(c->fd, name, flags | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW);
	unsigned tries = 0;
	int r;

	if (fd < 0)
		return err_sys(e, "open its image%s", flags & O_DIRECT ? " for direct I/O" : "");
	/*
	 * One that looks whether it is in use has it for a moment. A file system without
	 * locks does without.
	 */
	while ((r = flock(fd, LOCK_SH | LOCK_NB)) < 0 && errno == EWOULDBLOCK && fdio_linger(&tries))
		;
	if ((r < 0 && errno == EWOULDBLOCK) || !is_file_of(c, name, fd))
		return err_set(e, -ENOENT, "its image has been removed");
	(void)futimens(fd, NULL); /* it is another user's, perhaps: then its time is not kept */
	return mf_take_fd(&fd);
}

int image_cache_begin(const struct image_cache *c, const char *name, struct image_cache_part *part, struct err *e)
{
	*part = (struct image_cache_part){ .fd = -1 };
	snprintf(part->name, sizeof(part->name), "%s", name);
	for (unsigned i = 0; i < PART_TRIES; i++) {
		MF_CLOSE int fd = -1;
		MF_FREE char *path = NULL;

		if (asprintf(&path, "%s/%s.%d.%u", c->path, name, (int)getpid(), i) < 0) {
			path = NULL; /* asprintf leaves it undefined */
			return err_set(e, -ENOMEM, "out of memory");
		}
		fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd < 0 && errno != EEXIST)
			return err_sys(e, "make '%s'", path);
		/* Another process may have taken it for left before it was locked. */
		if (fd >= 0 && (flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) &&
		    is_file_of(c, strrchr(path, '/') + 1, fd)) {
			part->fd = mf_take_fd(&fd);
			part->path = mf_take_ptr(&path);
			return 0;
		}
	}
	return err_set(e, -EBUSY, "'%s' is being made by too many", name);
}

/*
 * Beside the image, for those who look into the cache. Without it the image works as
 * well.
 */
static void say_source(const struct image_cache *c, const char *name, const char *source)
{
	char link[NAME_MAX + 1];

	source_name(name, link);
	(void)unlinkat(c->fd, link, 0);
	(void)!symlinkat(source, c->fd, link);
}

bool image_cache_remove(const struct image_cache *c, const char *name)
{
	char link[NAME_MAX + 1];

	if (!remove_unused(c, name))
		return false;
	source_name(name, link);
	(void)unlinkat(c->fd, link, 0); /* sweep would remove it, too */
	return true;
}

static void remove_image(const struct image_cache *c, struct image_cache_entry *i, uint64_t *total)
{
	if (!image_cache_remove(c, i->name))
		return;
	*total -= i->bytes;
	i->bytes = 0;
}

/*
 * Removes images until total, which is what they have, is max at most; source: NULL, or
 * whose are removed in any case.
 */
static int prune(const struct image_cache *c, uint64_t max, const char *source, uint64_t *ret_removed,
		 uint64_t *ret_left, struct err *e)
{
	struct image_cache_entry *list;
	uint64_t all = 0, total;
	size_t num;

	if (image_cache_list(c, &list, &num, e) < 0)
		return e->code;
	for (size_t i = 0; i < num; i++)
		all += list[i].bytes;
	total = all;
	for (size_t i = 0; source && i < num; i++)
		if (!strncmp(list[i].name, source, SOURCE_CHARS))
			remove_image(c, &list[i], &total);
	for (size_t i = 0; i < num && total > max; i++)
		if (list[i].bytes)
			remove_image(c, &list[i], &total);
	image_cache_free_list(list, num);
	*ret_removed = all - total;
	*ret_left = total;
	return 0;
}

int image_cache_end(const struct image_cache *c, struct image_cache_part *part, const char *source, struct err *e)
{
	uint64_t removed, left;
	int r = 0;

	if (part->fd < 0)
		return 0;
	/*
	 * A crash of the host must not leave an image with zeros by this name, which the
	 * next run would take.
	 */
	if (source && fdatasync(part->fd) < 0) {
		r = err_sys(e, "write '%s'", part->path);
		source = NULL;
	}
	if (!source || renameat(AT_FDCWD, part->path, c->fd, part->name) < 0) {
		if (source)
			r = err_sys(e, "rename '%s'", part->path);
		(void)unlink(part->path); /* the next run removes it, too */
	} else {
		say_source(c, part->name, source);
		r = prune(c, c->max_bytes, part->name, &removed, &left, e); /* but not this one: it is locked */
	}
	close(mf_take_fd(&part->fd));
	free(mf_take_ptr(&part->path));
	return r;
}

int image_cache_keep(const struct image_cache *c, const char *name, const char *source, struct err *e)
{
	uint64_t removed, left;

	say_source(c, name, source);
	return prune(c, c->max_bytes, name, &removed, &left, e);
}

int image_cache_prune(const struct image_cache *c, uint64_t max_bytes, uint64_t *ret_removed, uint64_t *ret_left,
		      struct err *e)
{
	return prune(c, max_bytes, NULL, ret_removed, ret_left, e);
}

/* The list. */

static char *read_source(const struct image_cache *c, const char *name)
{
	char link[NAME_MAX + 1], source[PATH_MAX];
	ssize_t len;

	source_name(name, link);
	len = readlinkat(c->fd, link, source, sizeof(source) - 1);
	return len > 0 ? strndup(source, (size_t)len) : NULL;
}

static int compare_use(const void *a, const void *b)
{
	const struct image_cache_entry *x = a, *y = b;

	if (x->used.tv_sec != y->used.tv_sec)
		return x->used.tv_sec < y->used.tv_sec ? -1 : 1;
	if (x->used.tv_nsec != y->used.tv_nsec)
		return x->used.tv_nsec < y->used.tv_nsec ? -1 : 1;
	return strcmp(x->name, y->name);
}

/* Adds name to the list, if it is an image. Returns 0 or -ENOMEM. */
static int add_entry(const struct image_cache *c, const char *name, struct image_cache_entry **list, size_t *num)
{
	struct image_cache_entry *grown, entry = { .name = NULL };
	struct stat st;

	if (!is_image(name) || fstatat(c->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)))
		return 0;
	grown = reallocarray(*list, *num + 1, sizeof(entry));
	if (!grown)
		return -ENOMEM;
	*list = grown;
	entry.name = strdup(name);
	entry.source = read_source(c, name);
	entry.bytes = S_ISDIR(st.st_mode) ? measure_template(c->fd, name, false) : (uint64_t)st.st_blocks * 512;
	entry.used = st.st_mtim;
	entry.in_use = !is_unused(c, name);
	grown[*num] = entry;
	*num += entry.name ? 1 : 0;
	return entry.name ? 0 : -ENOMEM;
}

int image_cache_list(const struct image_cache *c, struct image_cache_entry **ret, size_t *ret_num, struct err *e)
{
	struct image_cache_entry *list = NULL;
	DIR *dir = begin_reading(c, e);
	struct dirent *entry;
	size_t num = 0;
	int r = 0;

	if (!dir)
		return e->code;
	while (r == 0 && (entry = readdir(dir)))
		r = add_entry(c, entry->d_name, &list, &num);
	closedir(dir);
	if (r < 0) {
		image_cache_free_list(list, num);
		return err_set(e, r, "out of memory");
	}
	if (num)
		qsort(list, num, sizeof(*list), compare_use);
	*ret = list;
	*ret_num = num;
	return 0;
}

void image_cache_free_list(struct image_cache_entry *list, size_t num)
{
	for (size_t i = 0; i < num; i++) {
		free(list[i].name);
		free(list[i].source);
	}
	free(list);
}
