/*
 * Directories as images; see erofs_image.h.
 *
 * An image's name is a hash of its directory's path and of what stat(2) says of all that is in it (types, modes, owners,
 * sizes, inodes, times of modification and of change), so a directory in which anything was written or renamed has
 * another image. The hash is FNV-1a, twice with different starts: it is to find out what has changed by itself, not what
 * somebody makes look unchanged, who could change the cache as well.
 *
 * An image is made under a name of its own and renamed when it is complete, so that several at once do no harm, and
 * nobody sees half of one. Its time of modification is that of its last use: those of more than PACK_KEEP_DAYS days are
 * removed when another is made.
 */
#include "vmm/helper/erofs_image.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdstore.h"
#define MF_LOG_MODULE "pack"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/helper/spawn.h"
#include "vmm/process/ending.h"

#define PACK_KEEP_DAYS 30
#define WALK_FDS 64
#define SUFFIX ".erofs"

/* nftw(3) has no argument for its function. Main thread only. */
static uint64_t walk_hash[2];

static void hash(const void *data, size_t len)
{
	const uint8_t *byte = data;

	for (size_t i = 0; i < len; i++)
		for (unsigned h = 0; h < 2; h++)
			walk_hash[h] = (walk_hash[h] ^ byte[i]) * 0x100000001b3ULL;
}

static int hash_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	uint64_t facts[] = { st->st_mode,
			     st->st_uid,
			     st->st_gid,
			     (uint64_t)st->st_size,
			     st->st_ino,
			     st->st_dev,
			     st->st_rdev,
			     (uint64_t)st->st_mtim.tv_sec,
			     (uint64_t)st->st_mtim.tv_nsec,
			     (uint64_t)st->st_ctim.tv_sec,
			     (uint64_t)st->st_ctim.tv_nsec };

	(void)ftw;
	if (type == FTW_NS || type == FTW_DNR) {
		errno = EACCES;
		return -1;
	}
	hash(path, strlen(path) + 1);
	hash(facts, sizeof(facts));
	return 0;
}

static int hash_directory(const char *dir, struct err *e)
{
	walk_hash[0] = 0xcbf29ce484222325ULL;
	walk_hash[1] = 0x6c62272e07bb0142ULL;
	if (nftw(dir, hash_entry, WALK_FDS, FTW_PHYS) != 0)
		return err_sys(e, "look through it");
	return 0;
}

/* Makes dir, whose parent may be missing, too. */
static int make_directories(char *dir, struct err *e)
{
	for (char *slash = strchr(dir + 1, '/');; slash = strchr(slash + 1, '/')) {
		int r;

		if (slash)
			*slash = '\0';
		r = mkdir(dir, 0700);
		if (slash)
			*slash = '/';
		if (r < 0 && errno != EEXIST)
			return err_sys(e, "make directory '%s'", dir);
		if (!slash)
			return 0;
	}
}

static int cache_directory(char **ret, struct err *e)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	int n;

	if (cache && *cache == '/')
		n = asprintf(ret, "%s/mayfly/images", cache);
	else if (home && *home == '/')
		n = asprintf(ret, "%s/.cache/mayfly/images", home);
	else
		return err_set(e, -ENOENT, "there is no place for its image: neither $XDG_CACHE_HOME nor $HOME is set");
	if (n < 0) {
		*ret = NULL; /* asprintf leaves it undefined */
		return err_set(e, -ENOMEM, "out of memory");
	}
	return make_directories(*ret, e);
}

/* What has not been used for long. What cannot be removed stays. */
static void remove_old(const char *cache)
{
	time_t oldest = time(NULL) - PACK_KEEP_DAYS * 24 * 3600;
	DIR *dir = opendir(cache);
	struct dirent *entry;
	struct stat st;

	while (dir && (entry = readdir(dir))) {
		if (strstr(entry->d_name, SUFFIX) &&
		    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_mtime < oldest)
			(void)unlinkat(dirfd(dir), entry->d_name, 0);
	}
	if (dir)
		closedir(dir);
}

static int make_image(const char *dir, const char *image, struct err *e)
{
	MF_FREE char *part = NULL;
	const char *argv[] = { "mkfs.erofs", "--quiet", NULL, NULL, NULL };
	pid_t pid;
	int r;

	if (asprintf(&part, "%s.%d", image, (int)getpid()) < 0) {
		part = NULL; /* asprintf leaves it undefined */
		return err_set(e, -ENOMEM, "out of memory");
	}
	argv[2] = part;
	argv[3] = dir;
	log_info("packing '%s'", dir);
	ending_hold(true);
	pid = spawn_start(argv, (const int[SPAWN_FDS]){ -1, -1, STDERR_FILENO, -1 }, SIGKILL, "erofs-utils", e);
	ending_child(pid, part);
	ending_hold(false);
	r = pid < 0 ? pid : spawn_wait(pid, argv[0], e);
	ending_child(0, part);
	if (r == 0 && rename(part, image) < 0)
		r = err_sys(e, "rename its image");
	if (r < 0)
		(void)unlink(part); /* if there is one */
	ending_child(0, NULL);
	return r;
}

/* The drive will open the image by the name of its directory, which is what the user knows and messages say. */
static int provide(const struct config_drive *d, const char *image, struct err *e)
{
	const int flags = O_RDONLY | (d->direct ? O_DIRECT : 0);
	int fd = open(image, flags | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return err_sys(e, "open its image%s", d->direct ? " for direct I/O" : "");
	return fdstore_provide(d->path, flags, fd, e);
}

static int pack(const struct config_drive *d, struct err *e)
{
	MF_FREE char *dir = realpath(d->path, NULL);
	MF_FREE char *cache = NULL;
	MF_FREE char *image = NULL;

	if (!dir)
		return err_sys(e, "find it");
	if (cache_directory(&cache, e) < 0 || hash_directory(dir, e) < 0)
		return e->code;
	if (asprintf(&image, "%s/%016" PRIx64 "%016" PRIx64 SUFFIX, cache, walk_hash[0], walk_hash[1]) < 0) {
		image = NULL; /* asprintf leaves it undefined */
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (utimensat(AT_FDCWD, image, NULL, 0) < 0) {
		remove_old(cache);
		if (make_image(dir, image, e) < 0)
			return e->code;
	}
	return provide(d, image, e);
}

int erofs_image_pack(const struct config *c, struct err *e)
{
	for (unsigned i = 0; i < c->num_drives; i++) {
		const struct config_drive *d = &c->drive[i];

		if (d->directory && pack(d, e) < 0)
			return err_wrap(e, "drive '%s': directory '%s'", d->id, d->path);
	}
	return 0;
}
