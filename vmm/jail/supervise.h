/* `mayfly run --jail`: the VM in a process of its own, in a jail, and this one outside of it. */
#ifndef MF_JAIL_SUPERVISE_H
#define MF_JAIL_SUPERVISE_H

#include <stdbool.h>

struct config;
struct jail_parent;

#define JAIL_RUN_KEEP_MAX 8

/*
 * Splits the process in two. Returns true in the one that is to run the VM: it is in the jail, and all that it will need
 * is provided or in *o. Returns false in the other when the first has ended, or was never made, and all that there was is
 * removed, with the exit status in *ret_status. keep: fds, or -1, that the VM needs beside those of o.
 */
bool supervise(const struct config *c, struct jail_parent *o, const int *keep, unsigned num_keep, int *ret_status);

#endif
