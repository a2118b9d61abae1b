/*
 * Directories and tar archives as images; see image_pack.h.
 *
 * A directory is not quiet while it is packed. When mkfs.erofs fails, and the directory has changed since it was walked
 * through, it is packed again; else the next walk opens every file, and finds the one that cannot be read.
 */
#include "vmm/helper/image_pack.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/fdstore.h"
#include "vmm/base/log.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/helper/image_cache.h"
#include "vmm/helper/spawn.h"
#include "vmm/helper/tree.h"
#include "vmm/process/ending.h"
#include "vmm/process/notify.h"

#define TRIES_MAX 5
#define SAY_MS 1000 /* packing that takes longer says so meanwhile, else at its end */
#define SHOW_MS 200 /* between two states of the progress on a terminal */
#define SAID_MAX 4096
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

/* What is packed, in words. */
struct amount {
	uint64_t files, bytes;
};

/* Says that it packs, on the terminal how far it is; at the end, and there only if it was not said before. */
static void say(const struct pack *p, const struct amount *a, uint64_t done, bool end, bool *said)
{
	bool terminal = isatty(STDERR_FILENO) == 1;

	if (!log_enabled(LOG_LEVEL_WARN))
		return;
	if (terminal && *said)
		fprintf(stderr, "\r\033[K");
	if (terminal && !end)
		fprintf(stderr, "mayfly: packing: %.1f of %.1f MiB", (double)MF_MIN(done, a->bytes) / (double)MIB,
			(double)a->bytes / (double)MIB);
	else if (terminal || !*said)
		report_line("packing '%s': %llu files, %.1f MiB%s", p->drive->path, (unsigned long long)a->files,
			    (double)a->bytes / (double)MIB, end ? ", done" : "");
	*said = true;
}

/* Waits for the program's end, and says how far it is. */
static int wait_saying(const struct pack *p, const struct amount *a, pid_t pid, const char *name, int part_fd,
		       struct err *e)
{
	MF_CLOSE int pidfd = pidfd_open(pid, 0); /* -1, before Linux 5.3: nothing is said until the end */
	struct pollfd poll_fd = { .fd = pidfd, .events = POLLIN };
	int wait_ms = SAY_MS, r;
	bool said = false;
	struct stat st;

	while (pidfd >= 0 && (r = poll(&poll_fd, 1, wait_ms)) <= 0) {
		if (r < 0)
			continue; /* a signal: its handler has seen to it */
		if (fstat(part_fd, &st) == 0)
			say(p, a, (uint64_t)st.st_blocks * 512, false, &said);
		wait_ms = isatty(STDERR_FILENO) == 1 ? SHOW_MS : -1;
	}
	r = spawn_wait(pid, name, e);
	if (r == 0 || said)
		say(p, a, a->bytes, true, &said);
	return r;
}

/* The last words of the program, in place of its status. */
static int quote(const char *name, const struct image_cache *cache, int said_fd, struct err *e)
{
	static const char *const skip[] = { "usage", " ", "\t", "Available", NULL };
	char said[SAID_MAX];
	ssize_t len = fdio_pread(said_fd, said, sizeof(said) - 1, 0);

	if (len <= 0)
		return err_wrap(e, "pack it");
	said[len] = '\0';
	return err_set(e, -ECHILD, "%s has failed: %s (its image would be in '%s')", name, spawn_last_line(said, skip),
		       cache->path);
}

/* Runs the program that writes to part. */
static int run_program(const struct pack *p, const char *const argv[], int stdin_fd, const char *package,
		       const struct amount *a, struct image_cache_part *part, struct err *e)
{
	MF_CLOSE int said = memfd_create("mayfly-said", MFD_CLOEXEC);
	const int fd[SPAWN_FDS] = { stdin_fd, -1, said, -1 };
	pid_t pid;
	int r;

	if (said < 0)
		return err_sys(e, "make a file for what %s says", argv[0]);
	log_info("packing '%s'", p->source);
	notify_status("packing a directory");
	ending_hold(true);
	pid = spawn_start(argv, fd, SIGKILL, package, e);
	ending_child(MF_MAX(pid, 0), part->path);
	ending_hold(false);
	if (pid < 0)
		return pid;
	r = wait_saying(p, a, pid, argv[0], part->fd, e);
	ending_child(0, part->path);
	return r == -ECHILD ? quote(argv[0], p->cache, said, e) : r;
}

/* Makes the image of that name. *out, one of argv, becomes the file to write to. */
static int make_image(const struct pack *p, const char *name, const char *argv[], const char **out, int stdin_fd,
		      const char *package, const struct amount *a, struct err *e)
{
	struct image_cache_part part;
	struct err none;
	int r = image_cache_begin(p->cache, name, &part, e);

	if (r < 0)
		return r;
	*out = part.path;
	r = run_program(p, argv, stdin_fd, package, a, &part, e);
	ending_hold(true); /* the handlers know part.path */
	ending_child(0, NULL);
	if (r == 0)
		r = image_cache_end(p->cache, &part, p->source, e);
	else
		(void)image_cache_end(p->cache, &part, NULL, &none); /* e says what is wrong */
	ending_hold(false);
	return r;
}

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
	const struct amount a = { t->files, t->bytes };
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
		r = make_image(p, name, argv, &argv[2], -1, "erofs-utils", &a, e);
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
	MF_CLOSE int tar = open(p->source, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	char name[IMAGE_KEY_TEXT_MAX];
	struct image_key key;
	struct amount a = { .files = 1 };
	unsigned args = 6;
	struct stat st;
	int fd;

	if (tar < 0 || fstat(tar, &st) < 0)
		return err_sys(e, "open it");
	a.bytes = (uint64_t)st.st_size;
	image_key_begin(&key, p->source, p->options);
	image_key_add(&key, &(uint64_t[]){ st.st_dev, st.st_ino, a.bytes }, 3 * sizeof(uint64_t));
	image_key_add(&key, &st.st_mtim, sizeof(st.st_mtim));
	image_key_add(&key, &st.st_ctim, sizeof(st.st_ctim));
	image_key_name(&key, ".squashfs", name);
	fd = image_cache_take(p->cache, name, flags, e);
	if (fd != -ENOENT)
		return fd;
	if (*p->options)
		argv[args++] = p->options + 1; /* it has one dash */
	if (make_image(p, name, argv, &argv[args], tar, "squashfs-tools", &a, e) < 0)
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
