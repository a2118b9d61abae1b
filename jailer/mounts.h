/*
 * The mount namespace that jails begin with. A new one is a copy of the process's own, mount by mount, and processes that make
 * one wait for each other in the kernel. So a process that starts many jails makes a namespace with an empty root and nothing
 * else once. Each jail moves there, and copies that.
 *
 * It saves time, and protects nothing: the jail's own namespace and root are made as without. It is for root. A jail of an ordinary
 * user gets its rights from its user namespace, and these are none over a namespace that was made before.
 */
#ifndef MF_JAILER_MOUNTS_H
#define MF_JAILER_MOUNTS_H

struct err;

#define MOUNTS_VARIABLE "MAYFLY_MOUNTS_FD" /* in the environment of a process that gets one: its descriptor */

/*
 * Makes one, and leaves it open, with MOUNTS_VARIABLE, for all programs that this process starts from now on. Returns 0, also
 * where jails do not need it, since the kernel has namespaces without mounts; or -errno with e set, and then jails cost what they
 * cost without. One thread.
 */
int mounts_offer(struct err *e);

/* Takes the one that the process was started with: later programs do not get it. Returns its descriptor, or -1: there is none. */
int mounts_take(void);

#endif
