/*
 * A walk through a directory that is to be packed: what is in it, what is not to be
 * packed, and what cannot be.
 */
#ifndef MF_HELPER_TREE_H
#define MF_HELPER_TREE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "vmm/helper/image_cache.h"

struct err;

#define TREE_LEFT_OUT_MAX 256
#define TREE_NAME_MAX (NAME_MAX - 1) /* bytes of a name, which erofs-utils 1.5 can pack */

/* Names are relative to the directory. */
struct tree {
	/* What to look for: set by the caller, all else is 0. */
	const char *dir; /* an absolute path without symbolic links */
	int cache_fd;	 /* a directory that is left out, wherever it is in the tree */
	bool probe;	 /* open each file, and not only those that look unreadable */
	/* What was found: */
	struct image_key *key; /* gets what stat(2) says of all that is in it */
	uint64_t files, bytes, holes;
	char *left_out[TREE_LEFT_OUT_MAX]; /* directories on which something is mounted: they stay empty */
	unsigned num_left_out;
	char *cache;	 /* or NULL: it is not in the tree */
	char *long_name; /* or NULL: a file whose name is longer than TREE_NAME_MAX */
	char *changed;	 /* what has changed last, or NULL */
	uint64_t changed_ns;
	/* For the walk itself. */
	char path[PATH_MAX];
	size_t dir_len;
	dev_t dev, cache_dev;
	ino_t cache_ino;
};

/*
 * Walks through it. Files that vanish meanwhile are ignored. Returns 0, or -errno with e
 * set to what cannot be packed, by its name, and what to do about it. tree_done is to be
 * called in any case.
 */
int tree_scan(struct tree *t, struct err *e);
void tree_done(struct tree *t);

#endif
