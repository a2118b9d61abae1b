/*
 * A member of a pool, as vmm/pool/serve.c starts it: a `mayfly restore` that waits for its client with everything that is the
 * same for each. Then the client's streams become this process's, its options are added to the configuration, and the VM is
 * that of a plain clone.
 *
 * One whose guest has mayfly's init runs before the claim, as any VM, until its guest is idle (vmm/guest/guest_claim.c). All of
 * it is there: only the claim itself, and what has a name or a number that is the client's, are left to a thread whose filter
 * allows that, and which ends with the claim. What such a VM cannot get later is no part of it: a jail, whose process outside
 * has its filter after the claim, drives of the client, a console.
 *
 * Another has the snapshot's memory, KVM's objects, the jail and programs of the host before the claim. What depends on the claim
 * is made after it, so that nothing of it has to be exchanged, and no filter is loaded before: devices, their rings and
 * threads, the state of the vCPUs, clock and random numbers. The guest has not run.
 */
#ifndef MF_CMD_MEMBER_H
#define MF_CMD_MEMBER_H

/* What it is called as; argv[1] is its number of drives, argv[2] one of these, and the last its snapshot. */
#define POOL_MEMBER_NAME "mayfly-member"
#define POOL_MEMBER_RUNS "runs" /* before there is a client, if it can */
#define POOL_MEMBER_COLD "cold"

struct config;
struct err;
struct jail_member;
struct jail_parent;

/* main() of a member. Returns mayfly's exit status. */
int member_command(int argc, char **argv);

/*
 * For run.c: sets parent->member, if this process is a member, of a VM of c, and makes what its jail needs. choose_log: returns
 * the descriptor of a log for the stderr that the process has then. Returns 0 or -errno with e set.
 */
int member_begin(struct config *c, struct jail_parent *parent, int (*choose_log)(const struct config *c, struct err *e),
		 struct err *e);

/* Where the log goes that choose_log has returned: to a descriptor of its own, if another takes its place with the claim. */
int member_log_fd(int fd);

/* The descriptor that the jail keeps; -1: none. */
int member_kept_fd(void);

/* Tells the client the status, if there is one; in the process that the client knows. Async-signal-safe. */
void member_tell_end(int status);

#endif
