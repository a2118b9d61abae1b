/*
 * What becomes an image; see image_pack.h.
 *
 * A directory is not quiet while it is packed. When mkfs.erofs fails, and the directory
 * has changed since it was walked through, it is packed again; else the next walk opens
 * every file, and finds the one that cannot be read.
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

#include "loader/init/proto.h"
#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/fdstore.h"
#include "vmm/base/log.h"
#include "vmm/base/parse.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/config/image_kind.h"
#include "vmm/helper/archive_bound.h"
#include "vmm/helper/image_cache.h"
#include "vmm/helper/image_make.h"
#include "vmm/helper/tree.h"

#define TRIES_MAX 5
#define ARGS_MAX (16 + TREE_LEFT_OUT_MAX)
#define NAMES_SHOWN 8 /* of what is left out */
/*
 * A tree with holes gets an image of chunks, of which those that are alike are kept once.
 * 600 MiB of hole: 629 MB and 3.4 s as mkfs.erofs writes it by itself, 2.1 MB with chunks
 * of 1 MiB, 0.2 MB and 2.3 s with these. A tree without, of 1.2 GB in 10,700 files, takes
 * 10.7 s with chunks, and 6.4 s without.
 */
#define CHUNK_OPTION "--chunksize=65536"
#define CHUNK_HOLES_MIN MIB
#define EROFS_HOLES_MAX GIB

/* How the programs are called. */
#define SQFSTAR "sqfstar", "-quiet", "-no-progress", "-force"
#define SQFSTAR_ARGS 4
#define TAR                                                                                                            \
	"tar", "--create", "--file=-", "--format=posix", "--sparse", "--sparse-version=0.0", "--numeric-owner",        \
		"--xattrs", "--xattrs-include=*"
#define TAR_ARGS 9
/*
 * All features are listed, since mke2fs.conf has others on each system. No journal: a
 * guest's changes are lost. With uninit_bg the groups of a large disk take no space: 4T
 * is 53 MB instead of 301.
 */
#define MKE2FS_FEATURES                                                                                                \
	"none,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,uninit_bg"
#define MKE2FS "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0", "-O", MKE2FS_FEATURES
#define MKE2FS_ARGS 13

struct pack {
	const struct config_drive *drive;
	const struct image_cache *cache;
	bool all_root;
	char *source; /* the absolute path of the directory, the archive or the file; NULL: there is none */
};

/* Directories. */

/*
 * PREFIX PATH SUFFIX, with a backslash before each character of special. A new string, or
 * NULL.
 */
static char *pattern(const char *prefix, const char *path, const char *special, const char *suffix)
{
	char *text = malloc(strlen(prefix) + 2 * strlen(path) + strlen(suffix) + 1), *at = text;

	if (!text)
		return NULL;
	at = stpcpy(at, prefix);
	for (; *path; path++) {
		if (strchr(special, *path))
			*at++ = '\\';
		*at++ = *path;
	}
	strcpy(at, suffix);
	return text;
}

/*
 * Arguments that leave out what is not packed: all of the cache, and what is in
 * directories with other file systems.
 */
struct excluded {
	char *text[TREE_LEFT_OUT_MAX + 1];
	unsigned num;
};

static int exclude(struct excluded *x, const struct tree *t, bool tar, const char **argv, unsigned *args, struct err *e)
{
	int r = 0;

	x->num = 0;
	if (t->cache)
		x->text[x->num++] = tar ? pattern("--exclude=./", t->cache, "*?[\\", "") :
					  pattern("--exclude-path=", t->cache, "", "");
	for (unsigned i = 0; i < t->num_left_out; i++)
		x->text[x->num++] = tar ? pattern("--exclude=./", t->left_out[i], "*?[\\", "/*") :
					  pattern("--exclude-regex=^", t->left_out[i], "\\.[]{}()*+?^$|", "/");
	for (unsigned i = 0; i < x->num; i++) {
		argv[(*args)++] = x->text[i];
		if (!x->text[i])
			r = err_set(e, -ENOMEM, "out of memory");
	}
	return r;
}

static void free_excluded(struct excluded *x)
{
	for (unsigned i = 0; i < x->num; i++)
		free(x->text[i]);
}

/* The programs and their output are still missing. */
static struct image_make make_of(const struct pack *p, const char *source, uint64_t files, uint64_t bytes)
{
	return (struct image_make){ .cache = p->cache,
				    .shown = p->drive->path,
				    .source = source,
				    .files = files,
				    .bytes = bytes,
				    .stdin_fd = -1 };
}

static int make_erofs(const struct pack *p, const struct tree *t, struct image_make *m, const char *name, struct err *e)
{
	const char *argv[ARGS_MAX] = { "mkfs.erofs", "--quiet", NULL, p->source };
	struct excluded x;
	unsigned args = 4;
	int r;

	if (p->all_root)
		argv[args++] = "--all-root";
	if (t->holes >= CHUNK_HOLES_MIN)
		argv[args++] = CHUNK_OPTION;
	m->argv = argv;
	m->out = &argv[2];
	m->package = "erofs-utils";
	r = exclude(&x, t, false, argv, &args, e);
	if (r == 0)
		r = image_make(m, name, e);
	free_excluded(&x);
	return r;
}

/* mke2fs skips holes. The image is sparse, so it may have room for more than all data. */
static int make_ext4(const struct pack *p, const struct tree *t, struct image_make *m, const char *name, struct err *e)
{
	char size[32], inodes[32];
	const char *argv[] = { MKE2FS, "-d", p->source, "-N", inodes, NULL, size, NULL };

	snprintf(inodes, sizeof(inodes), "%llu", (unsigned long long)(t->files + t->files / 8 + 64));
	snprintf(size, sizeof(size), "%lluk",
		 (unsigned long long)((t->bytes - MF_MIN(t->holes, t->bytes)) / KIB * 2 + t->files * 8 + MIB));
	m->argv = argv;
	m->out = &argv[MKE2FS_ARGS + 4];
	m->package = "e2fsprogs";
	return image_make(m, name, e);
}

/* sqfstar writes none of a hole, but goes through it: 4 to 8 GiB in a second. */
static int make_squashfs(const struct pack *p, const struct tree *t, struct image_make *m, const char *name,
			 struct err *e)
{
	char mode[16];
	const char *argv[] = { SQFSTAR, "-root-mode", mode, NULL, NULL };
	const char *feeder[ARGS_MAX + 8] = { TAR,	    "--one-file-system", "--anchored",
					     "--wildcards", "--directory",	 p->source };
	unsigned args = TAR_ARGS + 5;
	struct excluded x;
	struct stat st;
	int r = exclude(&x, t, true, feeder, &args, e);

	snprintf(mode, sizeof(mode), "%o", stat(p->source, &st) == 0 ? st.st_mode & 07777 : 0755);
	if (p->all_root)
		feeder[args++] = "--owner=0", feeder[args++] = "--group=0";
	feeder[args] = ".";
	m->argv = argv;
	m->out = &argv[SQFSTAR_ARGS + 2];
	m->package = "squashfs-tools";
	m->feeder = feeder;
	m->feeder_package = "tar";
	if (r == 0)
		r = image_make(m, name, e);
	free_excluded(&x);
	return r;
}

/* The kinds of images for a tree. mkfs.erofs 1.5 reads holes, 0.3 GB in a second. */
static const struct way {
	const char *kind;
	int (*make)(const struct pack *p, const struct tree *t, struct image_make *m, const char *name, struct err *e);
} erofs_way = { ".erofs", make_erofs }, ext4_way = { ".ext4", make_ext4 },
  squashfs_way = { ".squashfs", make_squashfs };

static const struct way *choose_way(const struct pack *p, const struct tree *t)
{
	if (t->holes <= EROFS_HOLES_MAX)
		return &erofs_way;
	/* mke2fs leaves out nothing, and changes no owners. */
	return t->num_left_out || t->cache || p->all_root ? &squashfs_way : &ext4_way;
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

/*
 * Takes the image of the tree as it is, or makes it. Returns its descriptor or a negative
 * errno.
 */
static int try_directory(const struct pack *p, struct tree *t, struct attempt *last, struct err *e)
{
	const int flags = O_RDONLY | (p->drive->direct ? O_DIRECT : 0);
	const struct way *way;
	char name[IMAGE_KEY_TEXT_MAX];
	struct image_make m;
	int fd;

	image_key_begin(t->key, p->source, p->all_root ? "--all-root" : "");
	last->again = false;
	if (tree_scan(t, e) < 0)
		return e->code;
	if (last->state && last->state == t->key->state[0]) {
		*e = last->why;
		return explain(t, e);
	}
	way = choose_way(p, t);
	image_key_name(t->key, way->kind, name);
	m = make_of(p, p->source, t->files, t->bytes - MF_MIN(t->holes, t->bytes));
	fd = image_cache_take(p->cache, name, flags, e);
	if (fd == -ENOENT) {
		if (way->make(p, t, &m, name, e) < 0) {
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

/* Archives, files, and nothing. */

static void key_of_file(const struct pack *p, const char *options, const struct stat *st, struct image_key *key)
{
	image_key_begin(key, p->source, options);
	image_key_add(key, &(uint64_t[]){ st->st_dev, st->st_ino, (uint64_t)st->st_size }, 3 * sizeof(uint64_t));
	image_key_add(key, &st->st_mtim, sizeof(st->st_mtim));
	image_key_add(key, &st->st_ctim, sizeof(st->st_ctim));
}

/* Before it is packed, so that the cache has no part of what is too large. */
static int bound_archive(const struct image_make *m, struct err *e)
{
	static const char *const argv[] = { "tar", ARCHIVE_BOUND_OPTIONS, "--file=-", NULL };
	const struct archive_feeder by = { m->feeder, m->feeder_package };
	struct archive_bound bound;
	int r = archive_bound_init(&bound, e);

	if (!r)
		r = archive_bound_add(&bound, argv, &by, m->stdin_fd, e);
	return !r && lseek(m->stdin_fd, 0, SEEK_SET) < 0 ? err_sys(e, "go back to its beginning") : r;
}

/*
 * Takes the image of that key, or makes it. Returns its descriptor or a negative errno.
 */
static int take_or_make(const struct pack *p, const struct image_key *key, const char *kind, const struct image_make *m,
			struct err *e)
{
	const int flags = O_RDONLY | (p->drive->direct ? O_DIRECT : 0);
	char name[IMAGE_KEY_TEXT_MAX];
	int fd;

	image_key_name(key, kind, name);
	fd = image_cache_take(p->cache, name, flags, e);
	if (fd != -ENOENT)
		return fd;
	if (m->archive && bound_archive(m, e) < 0)
		return e->code;
	return image_make(m, name, e) < 0 ? e->code : image_cache_take(p->cache, name, flags, e);
}

static int pack_tar(const struct pack *p, struct err *e)
{
	/*
	 * sqfstar 4.5.1 takes nothing of the root from the archive, and makes it the
	 * caller's, whatever -root-uid says.
	 */
	const char *argv[ARGS_MAX] = { SQFSTAR, "-root-mode", "755" };
	const char *feeder[] = { NULL, "-dc", NULL };
	MF_CLOSE int tar = open(p->source, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	unsigned args = SQFSTAR_ARGS + 2;
	struct image_make m;
	struct image_key key;
	struct stat st;

	if (tar < 0 || fstat(tar, &st) < 0)
		return err_sys(e, "open it");
	m = make_of(p, p->source, 1, (uint64_t)st.st_size);
	m.argv = argv;
	m.package = "squashfs-tools";
	m.stdin_fd = tar;
	m.archive = true;
	feeder[0] = image_kind_decompressor(tar, &m.feeder_package);
	if (feeder[0])
		m.feeder = feeder;
	if (p->all_root)
		argv[args++] = "-all-root";
	m.out = &argv[args];
	key_of_file(p, p->all_root ? "--all-root" : "", &st, &key);
	return take_or_make(p, &key, ".squashfs", &m, e);
}

/* By tar(1), which keeps holes, into an image in which it has a name that init knows. */
static int pack_file(const struct pack *p, struct err *e)
{
	const char *argv[ARGS_MAX] = { SQFSTAR };
	const char *feeder[] = {
		TAR, "--absolute-names", "--transform=s,.*," INIT_FILE_NAME ",", "--", p->source, NULL
	};
	unsigned args = SQFSTAR_ARGS;
	struct image_make m;
	struct image_key key;
	struct stat st;

	if (stat(p->source, &st) < 0)
		return err_sys(e, "find it");
	m = make_of(p, p->source, 1, (uint64_t)st.st_blocks * 512);
	m.argv = argv;
	m.package = "squashfs-tools";
	m.feeder = feeder;
	m.feeder_package = "tar";
	if (p->all_root)
		argv[args++] = "-all-root";
	m.out = &argv[args];
	key_of_file(p, p->all_root ? "file --all-root" : "file", &st, &key);
	return take_or_make(p, &key, ".squashfs", &m, e);
}

/*
 * One image for all disks of a size: each guest writes to a layer of its own. 8G takes
 * 0.7 MB, and 10 ms once.
 */
static int pack_empty(const struct pack *p, struct err *e)
{
	char size[32], shown[PARSE_SIZE_TEXT_MAX], source[64];
	const char *argv[] = { MKE2FS, NULL, size, NULL };
	struct image_make m = make_of(p, source, 0, 0);
	struct image_key key;

	snprintf(size, sizeof(size), "%lluk", (unsigned long long)(p->drive->empty / KIB));
	parse_format_size(p->drive->empty, shown);
	snprintf(source, sizeof(source), "an empty ext4 of %s", shown);
	image_key_begin(&key, source, "");
	m.argv = argv;
	m.out = &argv[MKE2FS_ARGS];
	m.package = "e2fsprogs";
	return take_or_make(p, &key, ".ext4", &m, e);
}

static int pack_drive(const struct config *c, const struct config_drive *d, const struct image_cache *cache,
		      struct err *e)
{
	MF_FREE char *source = d->empty ? NULL : realpath(d->path, NULL);
	const struct pack p = { d, cache, c->all_root, source };
	int fd;

	if (!source && !d->empty)
		return err_sys(e, "find it");
	fd = d->empty ? pack_empty(&p, e) :
	     d->tar   ? pack_tar(&p, e) :
	     d->file  ? pack_file(&p, e) :
			pack_directory(&p, e);
	return fd < 0 ? fd : fdstore_provide(d->path, O_RDONLY | (d->direct ? O_DIRECT : 0), fd, e);
}

int image_pack_drives(const struct config *c, struct err *e)
{
	struct image_cache cache = { .fd = -1 };
	int r = 0, any = 0;

	for (unsigned i = 0; r >= 0 && i < c->num_drives; i++) {
		const struct config_drive *d = &c->drive[i];

		if (!config_drive_is_made(d))
			continue;
		if (!any++)
			r = image_cache_open(&cache, e);
		if (r >= 0 && pack_drive(c, d, &cache, e) < 0)
			r = d->empty ? err_wrap(e, "drive '%s'", d->id) :
				       err_wrap(e, "drive '%s': %s '%s'", d->id,
						d->tar	     ? "archive" :
						d->directory ? "directory" :
							       "file",
						d->path);
	}
	image_cache_close(&cache);
	return r < 0 ? r : any > 0;
}
