/*
 * A snapshot against an older one, its parent: `memory` has the pages that differ, and all
 * others are the parent's. The section `diff` of `state` lists those pages, and says which
 * snapshot the parent is. It is the last one, since its length depends on them.
 */
#ifndef MF_SNAPSHOT_DIFF_H
#define MF_SNAPSHOT_DIFF_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/snapshot/memory.h"

struct chain;
struct err;
struct mem;
struct state_in;
struct state_out;

#define DIFF_TAG STATE_TAG('d', 'i', 'f', 'f')
#define DIFF_VERSION 1
#define DIFF_RUNS_MAX 16384

/*
 * Which snapshot: the length and a checksum of all its sections but `mem ` and `diff`. So a
 * snapshot keeps its identity when a chain is merged into it.
 */
struct diff_identity {
	uint64_t len, sum;
};

struct diff {
	struct diff_identity parent;
	char path[PATH_MAX]; /* of its directory when this snapshot was taken; absolute */
	unsigned num_runs;
	struct memory_run run[DIFF_RUNS_MAX]; /* ascending; every page of them is in `memory` */
};

/* Of the state that in begins with. */
struct diff_identity diff_identify(const struct state_in *in);

/*
 * Fills in the runs of *ret: the pages of m that differ from those of the chain; with copies, also others that m has copies of, which
 * takes a fraction of the time, since nothing is compared. As diff_write else. Returns 0 or -errno.
 */
int diff_find(const struct mem *m, int pagemap_fd, const struct chain *parent, bool copies, struct diff *ret);

/*
 * Writes the pages of m that differ from those of the chain to fd, a file of m->size bytes of
 * zeros. Fills in map, and the runs of *ret. pagemap_fd, /proc/self/pagemap of this process or
 * of the one that it is a fork of, says which pages cannot differ: those of a file that have no
 * copy of their own. -1: every page is compared. Makes no system call but pread and pwrite and
 * allocates nothing. m does not change meanwhile. Returns 0 or -errno.
 */
int diff_write(const struct mem *m, int pagemap_fd, const struct chain *parent, int fd, struct memory_map *map,
	       struct diff *ret);

/* The section. diff_get is for a memory of map->size bytes. */
void diff_put(const struct diff *d, struct state_out *out);
int diff_get(struct diff *ret, const struct memory_map *map, struct state_in *in, struct err *e);

#endif
