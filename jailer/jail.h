/*
 * The jail of one process: what it cannot reach, whatever it does. What cannot be had here (an old kernel, a host that
 * forbids it) is said in a line of the log each, or, if the jail is to be strict, an error.
 */
#ifndef MF_JAILER_JAIL_H
#define MF_JAILER_JAIL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct cgroup;
struct err;

#define JAIL_FILES_DEFAULT 2048U /* open files, if the limit is not lower already */
#define JAIL_ID_DEFAULT 65534U	 /* who root becomes: nobody */

struct jail_params {
	bool strict;
	bool is_root; /* it becomes another user; else it stays uid and gid, which are its own */
	uid_t uid;
	gid_t gid;
	const struct cgroup *cgroup; /* or NULL */
	uint64_t nofile, fsize;	     /* limits; 0: JAIL_FILES_DEFAULT, and none */
	const int *keep;	     /* the fds that stay open, ascending; standard streams do anyway */
	unsigned num_keep;
	/* Lets a process outside, which waits for it, do namespaces_map for this one. Returns 0 or -errno with e set. */
	int (*map_ids)(void *ctx, struct err *e);
	void *ctx;
};

/* It cannot be had: a line of the log and 0, or, if strict, e->code. */
int jail_lacks(bool strict, struct err *e);

/*
 * Enters the jail (jail.c has the order). The process has one thread, and will not be what lives in the jail: jail_fork
 * makes that. Returns 0, with *ret_own_pids set if there is a new PID namespace for its children; or -errno with e set,
 * and then the process is good for nothing any more.
 */
int jail_enter(const struct jail_params *p, bool *ret_own_pids, struct err *e);

struct jail_pids {
	pid_t main;
	pid_t init; /* PID 1 of the jail's namespace, or 0 */
};

/*
 * Makes the process that lives in the jail; its parent is the caller's parent, in whose PID namespace the ids are, as that
 * of its init is. Both are killed when that parent ends. Init ends, and with it all others, at the end of file of
 * life_fd, which is closed in the other. Returns 1 in the new process, 0 in the caller, or -errno with e set.
 */
int jail_fork(struct jail_pids *ret, bool own_pids, int life_fd, struct err *e);

#endif
