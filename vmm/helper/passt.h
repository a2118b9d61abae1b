/* passt as a child process: the other end of a user network (virtio/net_passt.c), without privileges. */
#ifndef MF_HELPER_PASST_H
#define MF_HELPER_PASST_H

#include <stdbool.h>
#include <sys/types.h>

struct config_net;
struct err;

/* Zeroed: none was started. */
struct passt {
	const char *id; /* of its interface */
	pid_t pid;	/* 0: none, or it has ended and was reported */
	int socket;	/* our end, or -1 when somebody has taken it over */
	int err_fd;	/* what it says on stderr */
	int ready_fd;	/* readable when it is ready; -1: it was */
};

/*
 * Starts passt for n, with its ports. Returns 0 or -errno with e set. Before the process has other threads, and better
 * before it has guest RAM, all of which would be marked copy-on-write. passt ends when its socket is closed, by
 * passt_end, or with this process.
 */
int passt_start(struct passt *p, const struct config_net *n, unsigned mtu, struct err *e);

/*
 * Waits until it is ready: all ports are bound, or it has ended, for 10 s at most. Returns 0, or -errno with e set to what
 * it said. Accepts a zeroed struct.
 */
int passt_await(struct passt *p, struct err *e);

/* Whether it has ended: -ECHILD with e set to what it said, or 0. Does not wait. Main thread. */
int passt_check(struct passt *p, struct err *e);

/* Ends it. Accepts a zeroed struct. */
void passt_end(struct passt *p);

#endif
