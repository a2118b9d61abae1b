/* Parts of chain.c that fork.c has, too. */
#ifndef MF_SNAPSHOT_CHAIN_PARTS_H
#define MF_SNAPSHOT_CHAIN_PARTS_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/snapshot/chain.h"

struct err;

/* Without layers; NULL: out of memory. */
struct chain *chain_new(void);

/*
 * Reads the state at path, which is opened with flags, into *ret, which the caller frees, with in at its first section. l gets what tells
 * it from others. Returns 0 or -errno with e set.
 */
int chain_read_state(struct chain_layer *l, const char *path, int flags, uint8_t **ret, struct state_in *in,
		     struct err *e);

/* Passes over the sections before the one with that tag. Returns false if there is none. */
bool chain_seek(struct state_in *in, uint32_t tag);

/* l gets a copy of the runs. Returns 0 or -errno with e set. */
int chain_copy_runs(struct chain_layer *l, const struct memory_run *run, unsigned num, struct err *e);

/* l is as one that was not opened. */
void chain_close_layer(struct chain_layer *l);

#endif
