/*
 * The `memory` of a snapshot: guest RAM, page by page, in a sparse file without a header.
 * What is at offset n of it is at offset n of RAM (struct mem: its regions, one behind the
 * other). docs/snapshot-format.md describes the section of `state` that belongs to it.
 */
#ifndef MF_SNAPSHOT_MEMORY_H
#define MF_SNAPSHOT_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/util.h"

struct err;
struct mem;
struct state_in;
struct state_out;

#define MEMORY_TAG STATE_TAG('m', 'e', 'm', ' ')
#define MEMORY_VERSION 1
#define MEMORY_RUNS_MAX 64 /* each is a mapping of every VM that is restored */

struct memory_run {
	uint64_t offset, len; /* multiples of MF_PAGE_SIZE, len more than 0 */
};

/* What of RAM has data. All else is zeros. */
struct memory_map {
	uint64_t size;	/* of RAM and of the file */
	uint64_t pages; /* with data: the file's blocks, about */
	uint64_t sum;	/* of them and their offsets */
	unsigned num_runs;
	struct memory_run run[MEMORY_RUNS_MAX]; /* ascending; may have pages of zeros in them */
};

/*
 * Writes the pages of m that have data to fd, a file of m->size bytes of zeros, and fills in
 * *ret. Touches no page that has none, as far as pagemap_fd says (/proc/self/pagemap, or -1).
 * Makes no system call but pread and pwrite and allocates nothing. m does not change
 * meanwhile. Returns 0 or -errno.
 */
int memory_write(const struct mem *m, int pagemap_fd, int fd, struct memory_map *ret);

/*
 * Fills in the size and the runs of a memory file of size bytes: what of it has data, by SEEK_DATA. Returns 0 or -errno.
 */
int memory_find(struct memory_map *ret, int fd, uint64_t size);

/* Adds what has got data since then; data stays. It takes as long as there are holes, and no longer. Returns as that. */
int memory_find_more(struct memory_map *map, int fd);

/* The section; its length is always the same. */
void memory_put(const struct memory_map *map, struct state_out *out);
int memory_get(struct memory_map *ret, struct state_in *in, struct err *e);

/* Checks that fd is a memory file of map->size bytes. Returns 0 or -errno with e set. */
int memory_check_file(const struct memory_map *map, int fd, struct err *e);

/*
 * Gives the RAM of m these runs of a memory file, which it is as large as: those of min bytes
 * and more are mapped privately, the others copied. Returns 0 or -errno with e set.
 */
int memory_load(struct mem *m, const struct memory_run *run, unsigned num, uint64_t min, int fd, struct err *e);

/* Reads all of the file and compares its sum with the map's. Returns 0 or -errno with e set. */
int memory_check(const struct memory_map *map, int fd, struct err *e);

/*
 * Parts of these, for diff.c.
 *
 * memory_add_run: behind all that were added before, or over the last one.
 * memory_read_pagemap: entries of the pages of [offset, offset + len), of MEMORY_PIECE_SIZE at most. Returns entries, or NULL:
 * nothing is known. memory_may_differ: whether the page can differ from what m began with.
 */
#define MEMORY_PIECE_PAGES 512
#define MEMORY_PIECE_SIZE (MEMORY_PIECE_PAGES * (uint64_t)MF_PAGE_SIZE)

void memory_add_run(struct memory_map *map, uint64_t offset, uint64_t len);
uint64_t memory_sum_page(uint64_t sum, uint64_t offset, const uint64_t *page);
const uint64_t *memory_read_pagemap(const struct mem *m, int pagemap_fd, uint64_t offset, uint64_t len,
				    uint64_t entries[MEMORY_PIECE_PAGES]);
bool memory_is_zero(const uint64_t *page);
bool memory_may_differ(const struct mem *m, uint64_t offset, const uint64_t *entry);

#endif
