/*
 * A snapshot with those that it was saved against: its parent, the parent of that, and so on to
 * one that is complete. All files of it are hostile. Each is named in the message that refuses
 * it.
 *
 * A parent is a directory with `state` and `memory`, no symlinks, whose identity is the one that
 * its child has noted. It is looked for beside its child first, and then where it was.
 */
#ifndef MF_SNAPSHOT_CHAIN_H
#define MF_SNAPSHOT_CHAIN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/core/state.h"
#include "vmm/snapshot/diff.h"
#include "vmm/snapshot/memory.h"

struct err;
struct mem;

#define CHAIN_MAX 16 /* snapshots, with the complete one */

struct chain_layer {
	char *state, *memory; /* paths */
	char *dir;	      /* that `state` is in; absolute */
	int fd;		      /* of `memory` */
	dev_t dev;	      /* of `state` */
	ino_t inode;
	struct diff_identity identity;
	struct memory_map map;
	struct memory_run *run; /* of `memory`, ascending */
	unsigned num_runs;
};

struct chain {
	uint8_t *data;	    /* the first one's `state`; whoever takes it sets it to NULL */
	struct state_in in; /* in data; without the section `diff` */
	bool live;	    /* its memories are those of VMs that run, and have no names (fork.h) */
	unsigned num;
	struct chain_layer layer[CHAIN_MAX]; /* the one that was asked for, then its parent, ... */
};

struct chain_params {
	const char *state, *memory; /* paths; memory NULL: it is not opened, and chain_load does not follow */
	const char *parent;	    /* the directory of its parent; NULL: as it says itself */
	bool merged;		    /* memory is complete, whatever state says: somebody has merged it */
};

/* Opens and checks all files. Returns 0 or -errno with e set. */
int chain_open(struct chain **ret, const struct chain_params *p, struct err *e);
void chain_free(struct chain *c);

/* The same for a snapshot's directory. */
int chain_open_dir(struct chain **ret, const char *dir, const char *parent, struct err *e);

/*
 * Gives m, which is new and of the size of the snapshot, the chain's contents. Large runs are
 * mapped, the others copied, so that there are at most MEMORY_RUNS_MAX mappings. Returns 0 or
 * -errno with e set.
 */
int chain_load(const struct chain *c, struct mem *m, struct err *e);

/* Reads a page of the chain's memory. Returns 0 or -errno. */
int chain_read(const struct chain *c, uint64_t offset, void *page);

/* Whether every file of memory still has its size. If not, a guest that runs on it has pages that cannot be read. */
bool chain_is_whole(const struct chain *c);

/* Reads all of the memory of each, and compares the checksums. Returns 0 or -errno with e set. */
int chain_check(const struct chain *c, struct err *e);

/*
 * Whether a snapshot beside the one in dir was saved against it, as far as their states say. Returns 1 with *ret, its path,
 * which the caller frees; 0: none is known; or -errno with e set.
 */
int chain_find_child(char **ret, const char *dir, struct err *e);

/*
 * Writes the chain to fd, a file of zeros of its size, as one complete memory, and its `state` to state_fd, an empty file.
 * Returns 0 or -errno with e set.
 */
int chain_merge(const struct chain *c, int fd, int state_fd, struct err *e);

#endif
