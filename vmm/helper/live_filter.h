/* The seccomp filter of a live directory's server; see live_sandbox.h. */
#ifndef MF_HELPER_LIVE_FILTER_H
#define MF_HELPER_LIVE_FILTER_H

#include <stdbool.h>

struct err;

/*
 * Loads it into the calling process, which has no_new_privs and is about to become the
 * server. own_groups: it may set its groups. Returns 0 or -errno with e set.
 */
int live_filter_load(bool own_groups, struct err *e);

#endif
