/*
 * The `memory` of a snapshot: guest RAM, page by page, in a sparse file without a header.
 * What is at offset n of it is at offset n of RAM (struct mem: its regions, one behind the
 * other). docs/snapshot-format.md describes the section of `state` that belongs to it.
 */
#ifndef MF_SNAPSHOT_MEMORY_H
#define MF_SNAPSHOT_MEMORY_H

#include <stdint.h>

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

/* The section; its length is always the same. */
void memory_put(const struct memory_map *map, struct state_out *out);
int memory_get(struct memory_map *ret, struct state_in *in, struct err *e);

/*
 * Checks that fd is a memory file of map->size bytes, and maps its runs privately over the
 * RAM of m, which is new. Returns 0 or -errno with e set.
 */
int memory_load(struct mem *m, const struct memory_map *map, int fd, struct err *e);

/* Reads all of the file and compares its sum with the map's. Returns 0 or -errno with e set. */
int memory_check(const struct memory_map *map, int fd, struct err *e);

#endif
