/* What a process could do because of who it is. Each function but privileges_keep is for a process with one thread. */
#ifndef MF_JAILER_PRIVILEGES_H
#define MF_JAILER_PRIVILEGES_H

#include <stdint.h>
#include <sys/types.h>

struct err;

/*
 * Nothing that happens to users or programs gives capabilities any more, or takes them away: securebits, locked, and an
 * empty bounding set. Needs CAP_SETPCAP, and /proc. Returns 0 or -errno with e set.
 */
int privileges_lock(struct err *e);

/* Becomes another user, without supplementary groups. After privileges_lock, capabilities stay. Returns as above. */
int privileges_set_ids(uid_t uid, gid_t gid, struct err *e);

/*
 * Keeps the capabilities of mask (1 << CAP_...) at most, and those only as permitted and effective; no_new_privs. And no
 * other process of this user may look inside (dumpable). Returns as above.
 */
int privileges_drop(uint64_t mask, struct err *e);

/*
 * The calling thread keeps those of its capabilities that are in mask, as permitted and effective, and no others. For a
 * thread of a process that did not drop them as a whole. Returns as above.
 */
int privileges_keep(uint64_t mask, struct err *e);

/* Wipes the environment where the process was started with it, which others can read, and forgets it. */
void privileges_clear_environment(void);

#endif
