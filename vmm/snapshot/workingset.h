/*
 * The `workingset` of a snapshot: pages of its memory that a command has read, and those that it has
 * written. It is optional, and a hint: docs/snapshot-format.md.
 */
#ifndef MF_SNAPSHOT_WORKINGSET_H
#define MF_SNAPSHOT_WORKINGSET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/core/state.h"
#include "vmm/snapshot/memory.h"

struct chain;
struct err;
struct mem;

#define WORKINGSET_TAG STATE_TAG('w', 's', 'e', 't')
#define WORKINGSET_VERSION 1
#define WORKINGSET_RUNS_MAX 2048U /* of each kind */
#define WORKINGSET_COPY_MAX (16 * MIB)

struct workingset_runs {
	uint32_t num;
	struct memory_run run[WORKINGSET_RUNS_MAX]; /* ascending */
};

struct workingset {
	uint64_t size, sum;		/* of the memory that it is of, as struct memory_map */
	struct workingset_runs read;	/* with the written ones; runs that are near each other are one */
	struct workingset_runs written; /* exactly those */
};

/*
 * What process pid, a VM that was restored from c, has in memory of c's files, and what it has written of it. The
 * caller frees *ret. Returns 0 or -errno with e set.
 */
int workingset_collect(struct workingset **ret, pid_t pid, const struct chain *c, struct err *e);

/* Writes it into the snapshot's directory, in the place of an older one. Returns 0 or -errno with e set. */
int workingset_write(const struct workingset *w, const char *dir, struct err *e);

/*
 * Reads that of the snapshot in dir. *ret is NULL if there is none, or it is of another memory; the caller frees it. Returns 0 or
 * -errno with e set.
 */
int workingset_read(struct workingset **ret, const char *dir, const struct memory_map *map, struct err *e);

/*
 * Tells the kernel what m, which has the snapshot's contents, is going to need: it reads ahead, in the order of the file,
 * without anybody waiting. copy: and what will be written is copied now, at most WORKINGSET_COPY_MAX. Before other threads run.
 */
void workingset_use(const struct workingset *w, const struct mem *m, bool copy);

#endif
