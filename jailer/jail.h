/*
 * The jail of one process: what the process cannot reach even if it is compromised. A
 * protection may be unavailable (an old kernel, a host that forbids it). Each such
 * protection is logged as a warning or, in a strict jail, is an error.
 */
#ifndef MF_JAILER_JAIL_H
#define MF_JAILER_JAIL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct cgroup;
struct err;

#define JAIL_FILES_DEFAULT 2048U /* open files, if the limit is not lower already */
#define JAIL_ID_DEFAULT 65534U	 /* the user that root becomes: nobody */

struct jail_params {
	bool strict;
	bool is_root; /* switches to another user; otherwise uid and gid are its own and stay */
	uid_t uid;
	gid_t gid;
	gid_t harmless_gid;	     /* a supplementary group that gives no right beyond what the jail has; 0: none */
	const struct cgroup *cgroup; /* or NULL */
	uint64_t nofile, fsize;	     /* limits; 0: JAIL_FILES_DEFAULT, and none */
	int mounts_fd;		     /* of mounts_take; or -1 */
	const int *keep;	     /* the fds that stay open, ascending; standard streams always stay */
	unsigned num_keep;
	/*
	 * Asks a process outside, which waits for the request, to call namespaces_map for
	 * this one. Returns 0 or -errno with e set.
	 */
	int (*map_ids)(void *ctx, struct err *e);
	void *ctx;
};

/* Handles a missing protection: warns and returns 0, or returns e->code if strict. */
int jail_lacks(bool strict, struct err *e);

/*
 * Enters the jail (jail.c has the order). The process has one thread. It does not live in
 * the jail itself: jail_fork makes the process that does. Returns 0, and sets
 * *ret_own_pids if its children get a new PID namespace. On -errno, e is set and the
 * process is unusable.
 */
int jail_enter(const struct jail_params *p, bool *ret_own_pids, struct err *e);

struct jail_pids {
	pid_t main;
	pid_t init; /* PID 1 of the jail's namespace, or 0 */
};

/*
 * Makes the process that lives in the jail. Its parent is the caller's parent, in whose
 * PID namespace the ids are; the same goes for its init. Both are killed when that parent
 * ends. Init ends, and with it all others, on EOF of life_fd, which the other closes.
 * Returns 1 in the new process, 0 in the caller, or -errno with e set.
 */
int jail_fork(struct jail_pids *ret, bool own_pids, int life_fd, struct err *e);

#endif
