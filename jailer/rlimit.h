/* Resource limits of the calling process. */
#ifndef MF_JAILER_RLIMIT_H
#define MF_JAILER_RLIMIT_H

#include <stdbool.h>
#include <stdint.h>

struct err;

/*
 * Sets both the soft and the hard limit of a resource, RLIMIT_...; messages call it name.
 * With if_lower, a hard limit that is lower already stays. Otherwise raising it needs
 * CAP_SYS_RESOURCE. Returns 0 or -errno with e set.
 */
int rlimit_set(int resource, const char *name, uint64_t value, bool if_lower, struct err *e);

#endif
