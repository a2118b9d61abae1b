/*
 * The cache of images: a directory with what mayfly has made of the user's files and can
 * make again.
 *
 * An image is the file SOURCE-STATE.KIND: two hashes, of what it was made from, and of
 * how that was then. Beside it, SOURCE-STATE.KIND.source is a symbolic link that says
 * what it was made from. An image that is being made is SOURCE-STATE.KIND.PID and is
 * renamed when it is complete, so that nobody sees half of one.
 *
 * A template (vmm/template/) is a directory SOURCE-STATE.template with the files of a snapshot. VMs need it
 * only until they have mapped its memory, so none has it locked.
 *
 * flock(2) says what is in use: who makes an image has it locked, and so has every VM
 * that runs from one. An image that nobody has locked may be removed at any time, by any
 * process.
 *
 * Main thread only.
 */
#ifndef MF_HELPER_IMAGE_CACHE_H
#define MF_HELPER_IMAGE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "vmm/base/util.h"

struct err;

#define IMAGE_CACHE_MAX_DEFAULT (8 * GIB)
#define IMAGE_CACHE_MAX_ENV "MAYFLY_CACHE_MAX" /* a size, as parse_size reads it */
#define IMAGE_KEY_TEXT_MAX 64
#define IMAGE_CACHE_TEMPLATE ".template"

/*
 * The parts of the name of an image. The hash (FNV-1a) finds changes; it is no defence
 * against forged ones.
 */
struct image_key {
	uint64_t source, state[2];
};

/* Begins with what it is made from, a path, and the options with which it is made. */
void image_key_begin(struct image_key *k, const char *source, const char *options);
void image_key_add(struct image_key *k, const void *data, size_t len);
void image_key_name(const struct image_key *k, const char *kind, char text[IMAGE_KEY_TEXT_MAX]);

/* Begin with { .fd = -1 }. */
struct image_cache {
	char *path;
	int fd;
	uint64_t max_bytes;
};

/*
 * Opens the cache, which is made if it is not there, and removes what dead processes have
 * left half made. It is in mayfly/images of the first of these: $XDG_CACHE_HOME; .cache
 * in $HOME, or in the user's home of /etc/passwd; or it is mayfly-UID/images in $TMPDIR
 * or /tmp. Returns 0 or -errno with e set.
 */
int image_cache_open(struct image_cache *c, struct err *e);

/* The same without a look at what is in it: max_bytes is not set, and nothing is removed. */
int image_cache_find(struct image_cache *c, struct err *e);
void image_cache_close(struct image_cache *c);

/*
 * Opens an image with these flags of open(2). It is in use until all copies of the
 * descriptor are closed, and has been used now. Returns the descriptor, -ENOENT if there
 * is none, or another -errno; e is set for each.
 */
int image_cache_take(const struct image_cache *c, const char *name, int flags, struct err *e);

/* An image that is being made. */
struct image_cache_part {
	char name[IMAGE_KEY_TEXT_MAX];
	char *path; /* of the file to write to, which is there */
	int fd;	    /* keeps it locked */
};

int image_cache_begin(const struct image_cache *c, const char *name, struct image_cache_part *part, struct err *e);

/*
 * Ends it. With source it is complete, made from the file or directory of that path:
 * other images of that source are removed, and then those that were not used for longest,
 * until the cache keeps to its size; what is in use stays. With NULL it is removed.
 * Returns 0 or -errno with e set.
 */
int image_cache_end(const struct image_cache *c, struct image_cache_part *part, const char *source, struct err *e);

/*
 * A template, a directory that its maker has locked, is complete, made for the kernel at source: as image_cache_end.
 */
int image_cache_keep(const struct image_cache *c, const char *name, const char *source, struct err *e);

struct image_cache_entry {
	char *name;
	char *source;	/* or NULL: not known */
	uint64_t bytes; /* on disk */
	struct timespec used;
	bool in_use;
};

/*
 * All images, those used last at the end. Returns 0 or -errno with e set;
 * image_cache_free_list frees it.
 */
int image_cache_list(const struct image_cache *c, struct image_cache_entry **ret, size_t *ret_num, struct err *e);
void image_cache_free_list(struct image_cache_entry *list, size_t num);

/* Removes an image, unless it is in use: then returns false. */
bool image_cache_remove(const struct image_cache *c, const char *name);

/*
 * Removes images, those not used for longest first, until all have no more than
 * max_bytes. Returns 0 or -errno with e set, and how much was removed and is left.
 */
int image_cache_prune(const struct image_cache *c, uint64_t max_bytes, uint64_t *ret_removed, uint64_t *ret_left,
		      struct err *e);

#endif
