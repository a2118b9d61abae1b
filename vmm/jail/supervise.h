/* `mayfly run --jail`: the VM in a process of its own, in a jail, and this one outside of it. */
#ifndef MF_JAIL_SUPERVISE_H
#define MF_JAIL_SUPERVISE_H

#include <stdbool.h>

struct config;
struct jail_parent;

#define JAIL_RUN_KEEP_MAX 24 /* with the files of a chain of snapshots */

/*
 * Splits the process in two. Returns true in the jailed process, which has to run the VM: the
 * files that it needs are in the fdstore or in *o. Returns false in the process outside when
 * the VM has ended or could not start, with everything removed and the exit status in
 * *ret_status. keep: further descriptors that the VM needs, or -1.
 */
bool supervise(const struct config *c, struct jail_parent *o, const int *keep, unsigned num_keep, int *ret_status);

#endif
