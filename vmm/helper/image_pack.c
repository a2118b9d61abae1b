/*
 * Directories and tar archives as images; see image_pack.h.
 *
 * A directory is not quiet while it is packed. When mkfs.erofs fails, and the directory has changed since it was walked
 * through, it is packed again; else the next walk opens every file, and finds the one that cannot be read.
 */
#include "vmm/helper/image_pack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/fdstore.h"
#include "vmm/base/log.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/config/image_kind.h"
#include "vmm/helper/image_cache.h"
#include "vmm/helper/image_make.h"
#include "vmm/helper/tree.h"

#define TRIES_MAX 5
#define ARGS_MAX (12 + TREE_LEFT_OUT_MAX)
#define NAMES_SHOWN 8 /* of what is left out */
/*
 * A tree with holes gets an image of chunks, of which those that are alike are kept once. 600 MiB of hole: 629 MB and 3.4 s
 * as mkfs.erofs writes it by itself, 2.1 MB with chunks of 1 MiB, 0.2 MB and 2.3 s with these. A tree without, of 1.2 GB
 * in 10,700 files, takes 10.7 s with chunks, and 6.4 s without.
 */
#define CHUNK_OPTION "--chunksize=65536"
#define CHUNK_HOLES_MIN MIB

struct pack {
	const struct config_drive *drive;
	const struct image_cache *cache;
	const char *options; /* all that the image depends on beside its source */
	char *source;	     /* the absolute path of the directory or the archive */
};

/* Directories. */

/* "--exclude-regex=^PATH/": all that is in it, but not the directory. A new string, or NULL. */
static char *exclude_below(const char *path)
{
	static const char before[] = "--exclude-regex=^";
	char *text = malloc(sizeof(before) + 2 * strlen(path) + 1), *at = text;

	if (!text)
		return NULL;
	at = stpcpy(at, before);
	for (; *path; path++) {
		if (strchr("\\.[]{}()*+?^$|", *path))
			*at++ = '\\';
		*at++ = *path;
	}
	strcpy(at, "/");
	return text;
}

static int make_of_tree(const struct pack *p, const struct tree *t, const char *name, struct err *e)
{
	const char *argv[ARGS_MAX] = { "mkfs.erofs", "--quiet", NULL, p->source };
	struct image_make m = { .cache = p->cache,
				.shown = p->drive->path,
				.source = p->source,
				.files = t->files,
				.bytes = t->bytes,
				.argv = argv,
				.out = &argv[2],
				.package = "erofs-utils",
				.stdin_fd = -1 };
	char *excluded[TREE_LEFT_OUT_MAX + 1] = { NULL };
	unsigned args = 4, num = 0;
	int r = 0;

	if (*p->options)
		argv[args++] = p->options;
	if (t->holes >= CHUNK_HOLES_MIN)
		argv[args++] = CHUNK_OPTION;
	if (t->cache && asprintf(&excluded[num++], "--exclude-path=%s", t->cache) < 0)
		excluded[num - 1] = NULL; /* asprintf leaves it undefined */
	for (unsigned i = 0; i < t->num_left_out; i++)
		excluded[num++] = exclude_below(t->left_out[i]);
	for (unsigned i = 0; i < num; i++) {
		argv[args++] = excluded[i];
		if (!excluded[i])
			r = err_set(e, -ENOMEM, "out of memory");
	}
	if (r == 0)
		r = image_make(&m, name, e);
	for (unsigned i = 0; i < num; i++)
		free(excluded[i]);
	return r;
}

static void say_left_out(const struct pack *p, const struct tree *t)
{
	char names[512] = "";
	size_t len = 0;

	for (unsigned i = 0; i < MF_MIN(t->num_left_out, NAMES_SHOWN) && len < sizeof(names); i++)
		len += (size_t)snprintf(names + len, sizeof(names) - len, "%s'%s'", i ? ", " : "", t->left_out[i]);
	if (t->num_left_out && log_enabled(LOG_LEVEL_WARN))
		report_line("directory '%s': what is mounted in it is left out: %s%s", p->drive->path, names,
			    t->num_left_out > NAMES_SHOWN ? ", and more" : "");
}

/* Explains why a tree that does not change cannot be packed. */
static int explain(const struct tree *t, struct err *e)
{
	if (t->long_name)
		return err_set(e, e->code,
			       "the name of '%s' in it has %d bytes, with which mkfs.erofs (1.5) fails: make it shorter",
			       t->long_name, TREE_NAME_MAX + 1);
	return e->code;
}

/* The outcome of the last attempt. */
struct attempt {
	bool again;
	uint64_t state; /* of the tree that could not be packed, or 0, */
	struct err why; /* and why not */
};

/* Takes the image of the tree as it is, or makes it. Returns its descriptor or a negative errno. */
static int try_directory(const struct pack *p, struct tree *t, struct attempt *last, struct err *e)
{
	const int flags = O_RDONLY | (p->drive->direct ? O_DIRECT : 0);
	char name[IMAGE_KEY_TEXT_MAX];
	int fd;

	image_key_begin(t->key, p->source, p->options);
	last->again = false;
	if (tree_scan(t, e) < 0)
		return e->code;
	if (last->state && last->state == t->key->state[0]) {
		*e = last->why;
		return explain(t, e);
	}
	image_key_name(t->key, ".erofs", name);
	fd = image_cache_take(p->cache, name, flags, e);
	if (fd == -ENOENT) {
		if (make_of_tree(p, t, name, e) < 0) {
			*last = (struct attempt){ e->code == -ECHILD, t->key->state[0], *e };
			return e->code;
		}
		fd = image_cache_take(p->cache, name, flags, e);
		*last = (struct attempt){ .again = fd == -ENOENT }; /* another process has removed it */
	}
	if (fd >= 0)
		say_left_out(p, t);
	return fd;
}

static int pack_directory(const struct pack *p, struct err *e)
{
	struct attempt last = { .again = true };
	struct image_key key;
	int fd = -EBUSY;

	for (unsigned tries = 1; last.again && tries <= TRIES_MAX; tries++) {
		struct tree t = { .dir = p->source, .cache_fd = p->cache->fd, .key = &key, .probe = tries > 1 };

		fd = try_directory(p, &t, &last, e);
		if (last.again && tries == TRIES_MAX)
			fd = err_set(e, -EBUSY,
				     "it changes while it is packed (%d times; '%s' in it changed last): end what writes "
				     "to it, or give a copy",
				     TRIES_MAX, t.changed);
		tree_done(&t);
	}
	return fd;
}

/* Archives. */

static int pack_tar(const struct pack *p, struct err *e)
{
	/* sqfstar 4.5.1 takes nothing of the root from the archive, and makes it the caller's, whatever -root-uid says. */
	const char *argv[ARGS_MAX] = { "sqfstar", "-quiet", "-no-progress", "-force", "-root-mode", "755" };
	const int flags = O_RDONLY | (p->drive->direct ? O_DIRECT : 0);
	const char *feeder[] = { NULL, "-dc", NULL };
	MF_CLOSE int tar = open(p->source, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	char name[IMAGE_KEY_TEXT_MAX];
	struct image_key key;
	struct image_make m = { .cache = p->cache,
				.shown = p->drive->path,
				.source = p->source,
				.files = 1,
				.argv = argv,
				.package = "squashfs-tools" };
	unsigned args = 6;
	struct stat st;
	int fd;

	if (tar < 0 || fstat(tar, &st) < 0)
		return err_sys(e, "open it");
	m.bytes = (uint64_t)st.st_size;
	m.stdin_fd = tar;
	feeder[0] = image_kind_decompressor(tar, &m.feeder_package);
	if (feeder[0])
		m.feeder = feeder;
	image_key_begin(&key, p->source, p->options);
	image_key_add(&key, &(uint64_t[]){ st.st_dev, st.st_ino, m.bytes }, 3 * sizeof(uint64_t));
	image_key_add(&key, &st.st_mtim, sizeof(st.st_mtim));
	image_key_add(&key, &st.st_ctim, sizeof(st.st_ctim));
	image_key_name(&key, ".squashfs", name);
	fd = image_cache_take(p->cache, name, flags, e);
	if (fd != -ENOENT)
		return fd;
	if (*p->options)
		argv[args++] = p->options + 1; /* it has one dash */
	m.out = &argv[args];
	if (image_make(&m, name, e) < 0)
		return e->code;
	return image_cache_take(p->cache, name, flags, e);
}

static int pack_drive(const struct config *c, const struct config_drive *d, const struct image_cache *cache,
		      struct err *e)
{
	MF_FREE char *source = realpath(d->path, NULL);
	const struct pack p = { d, cache, c->all_root ? "--all-root" : "", source };
	int fd;

	if (!source)
		return err_sys(e, "find it");
	fd = d->tar ? pack_tar(&p, e) : pack_directory(&p, e);
	return fd < 0 ? fd : fdstore_provide(d->path, O_RDONLY | (d->direct ? O_DIRECT : 0), fd, e);
}

int image_pack_drives(const struct config *c, struct err *e)
{
	struct image_cache cache = { .fd = -1 };
	int r = 0, any = 0;

	for (unsigned i = 0; r >= 0 && i < c->num_drives; i++) {
		const struct config_drive *d = &c->drive[i];

		if (!d->directory && !d->tar)
			continue;
		if (!any++)
			r = image_cache_open(&cache, e);
		if (r >= 0 && pack_drive(c, d, &cache, e) < 0)
			r = err_wrap(e, "drive '%s': %s '%s'", d->id, d->tar ? "archive" : "directory", d->path);
	}
	image_cache_close(&cache);
	return r < 0 ? r : any > 0;
}
