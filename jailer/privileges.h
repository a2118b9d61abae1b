/*
 * The privileges of a process. Each function but privileges_keep is for a process with
 * one thread.
 */
#ifndef MF_JAILER_PRIVILEGES_H
#define MF_JAILER_PRIVILEGES_H

#include <stdint.h>
#include <sys/types.h>

struct err;

/*
 * Cuts the link between users, programs and capabilities: sets and locks securebits, and
 * empties the bounding set. Needs CAP_SETPCAP. Returns 0 or -errno with e set.
 */
int privileges_lock(struct err *e);

/*
 * Switches to another user, without supplementary groups. After privileges_lock,
 * capabilities stay. Returns as above.
 */
int privileges_set_ids(uid_t uid, gid_t gid, struct err *e);

/*
 * Drops all capabilities that are not in mask (1 << CAP_...), and keeps the others as
 * permitted and effective only. Sets no_new_privs, and clears dumpable, so that no other
 * process of this user may inspect this one. Returns as above.
 */
int privileges_drop(uint64_t mask, struct err *e);

/*
 * Drops the calling thread's capabilities that are not in mask; the others stay permitted
 * and effective. For a thread of a process that did not drop them as a whole. Returns as
 * above.
 */
int privileges_keep(uint64_t mask, struct err *e);

/*
 * Wipes the initial environment in memory, which other processes can read, and clears
 * environ.
 */
void privileges_clear_environment(void);

#endif
