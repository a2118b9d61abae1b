/*
 * The memory of a VM that runs, as other VMs share it: a chain whose memories are descriptors without names. The first
 * layer has the pages that have changed since the second one, and so on; all are frozen. Such a VM's `state` ends with a section
 * `fork` for each layer, which says what it has.
 */
#ifndef MF_SNAPSHOT_FORK_H
#define MF_SNAPSHOT_FORK_H

#include <stdint.h>

#include "vmm/snapshot/chain.h"

struct err;
struct state_out;

#define FORK_TAG STATE_TAG('f', 'o', 'r', 'k')
#define FORK_VERSION 1

/* Of all layers; more do not fit into a state. */
#define FORK_RUNS_MAX 100000

/*
 * Puts a layer in front of those of *c, which is made if it is NULL: fd, a memory of size bytes, has these runs, in ascending
 * order. Takes fd over. Returns 0; or -errno with e set, and all is as it was.
 */
int fork_add(struct chain **c, int fd, uint64_t size, const struct memory_run *run, unsigned num, struct err *e);

/* The same in place of all layers of c, which are closed. */
int fork_replace(struct chain *c, int fd, uint64_t size, const struct memory_run *run, unsigned num, struct err *e);

/* How many runs the layers have. */
unsigned fork_count_runs(const struct chain *c);

/* The sections; and reads the one of that number into the size and the runs of l. The second returns 0 or -errno with e set. */
void fork_put(const struct chain *c, struct state_out *out);
int fork_get_layer(struct chain_layer *l, struct state_in *in, unsigned number, struct err *e);

/*
 * Opens the state at path and makes a chain of these num memories, which it takes over, whatever happens. Both are hostile: they come from
 * a VM. Returns 0 or -errno with e set.
 */
int fork_open(struct chain **ret, const char *path, const int *memory, unsigned num, struct err *e);

#endif
