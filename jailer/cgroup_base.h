/*
 * The group below which this process may make groups: a subtree that was delegated to it,
 * or for root the whole tree. See cgroup_base.c.
 */
#ifndef MF_JAILER_CGROUP_BASE_H
#define MF_JAILER_CGROUP_BASE_H

#include <stdbool.h>
#include <sys/types.h>

struct err;

/* Zeroed: none. */
struct cgroup_base {
	char *dir;    /* owned: its directory */
	bool inside;  /* this process is in it, and it is not the root of the tree: cgroup_base_enter has to move it */
	char *leaf;   /* owned: the group that this process was moved to; NULL: it was not moved */
	int procs_fd; /* for the way back: cgroup.procs of dir, for writing */
	int control_fd; /* the same: cgroup.subtree_control, for reading and writing */
};

/*
 * Finds it for a process of user uid. proc is the directory with its files "cgroup" and
 * "mountinfo". Returns 0, and the caller calls cgroup_base_leave; or -errno with e set:
 * -ENOENT without cgroup v2 or its controllers, -EACCES if nothing is delegated to that user.
 */
int cgroup_base_find(struct cgroup_base *ret, const char *proc, uid_t uid, struct err *e);

/* Returns 0, or -EBUSY with e set if other processes are in it. */
int cgroup_base_check(const struct cgroup_base *b, struct err *e);

/*
 * Makes controllers available in it: moves this process to a group of its own, if it is
 * inside. Processes that it starts later are there, too. Waits a second for other
 * processes that do the same. Returns 0 or -errno with e set.
 */
int cgroup_base_enter(struct cgroup_base *b, struct err *e);

/*
 * Opens the way back, for a process that will open no more files. Between cgroup_base_enter and this
 * the base has no descriptor. Returns 0 or -errno with e set.
 */
int cgroup_base_open(struct cgroup_base *b, struct err *e);

/*
 * Undoes all, and frees. While others have groups in it, this process stays in the group
 * it was moved to, which the last of them removes.
 */
void cgroup_base_leave(struct cgroup_base *b);

/* The command that starts mayfly in a delegated group of its own: what helps against -EACCES and -EBUSY. */
const char *cgroup_base_advice(uid_t uid);

#endif
