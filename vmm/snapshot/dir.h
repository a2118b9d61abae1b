/*
 * The directory of a snapshot, which appears complete, or not at all. It is written beside
 * its final place, as ".NAME.new", and exchanged with what is there. docs/snapshot-format.md
 * lists its files.
 */
#ifndef MF_SNAPSHOT_DIR_H
#define MF_SNAPSHOT_DIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

#define SNAPSHOT_STATE "state"
#define SNAPSHOT_MEMORY "memory"
#define SNAPSHOT_CONFIG "config.json"
#define SNAPSHOT_WORKINGSET "workingset"	  /* which need not be there */
#define SNAPSHOT_WORKINGSET_NEW ".workingset.new" /* while it is written */
#define SNAPSHOT_SHAPE "shape"			  /* of a template (vmm/template/) */
#define SNAPSHOT_DISKS "disks"			  /* a directory */

struct snapshot_dir {
	int parent, fd, disks; /* or -1 */
	char *name, *temporary;
	bool committed, exchanged; /* it has the name; an older one had it, and has the temporary name now */
};

#define SNAPSHOT_DIR_INIT ((struct snapshot_dir){ .parent = -1, .fd = -1, .disks = -1 })

/*
 * Makes the temporary directory for path, where an older snapshot may be, or nothing, or an
 * empty directory. What a process that was killed has left there is removed. Returns 0 or
 * -errno with e set.
 */
int snapshot_dir_begin(struct snapshot_dir *d, const char *path, struct err *e);

/* Makes the directory of layers, and a layer in it. The second returns as snapshot_dir_create. */
int snapshot_dir_make_disks(struct snapshot_dir *d, struct err *e);
int snapshot_dir_create_disk(const struct snapshot_dir *d, const char *id, struct err *e);

/* Makes a file in it, with size bytes of zeros. Returns the descriptor, or -errno with e set. */
int snapshot_dir_create(const struct snapshot_dir *d, const char *name, uint64_t size, struct err *e);

/* Syncs a file of it, after which nothing writes to it. Returns 0 or -errno with e set. */
int snapshot_dir_sync(int fd, const char *name, struct err *e);

/* Gives the directory its name, and removes the older snapshot. Returns 0 or -errno with e set. */
int snapshot_dir_commit(struct snapshot_dir *d, struct err *e);

/* Removes the temporary directory, if there is one. */
void snapshot_dir_done(struct snapshot_dir *d);

/*
 * Removes the snapshot at path: first its name, so that no half of one has it. Refuses what is no
 * snapshot, and one that is being written. Returns 0 or -errno with e set.
 */
int snapshot_dir_remove(const char *path, struct err *e);

#endif
