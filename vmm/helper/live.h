/*
 * A live directory: the guest mounts a directory of the host by 9P2000.L over a vsock
 * connection. The server is diod(8). It runs in a sandbox that has this directory and
 * nothing else (live_sandbox.h), and serves one connection.
 */
#ifndef MF_HELPER_LIVE_H
#define MF_HELPER_LIVE_H

#include <sys/types.h>

struct config_live;
struct err;

/* Zeroed: none was started. */
struct live {
	const struct config_live *config;
	pid_t pid;    /* init of the sandbox; 0: none, or it has ended and was reported */
	int socket;   /* the guest's end of the connection, or -1 when somebody has taken it over */
	int err_fd;   /* what the server says on stderr */
	int ready_fd; /* readable when it is ready; -1: it was */
};

/*
 * Starts the server of a directory, with the caller's identity: the guest's root is the
 * caller. Returns 0 or -errno with e set. Before the process has other threads and guest
 * RAM. The server ends when its connection is closed, by live_end, unless a request of the
 * guest blocks it; and with this process, whatever it does.
 */
int live_start(struct live *l, const struct config_live *c, struct err *e);

/*
 * Waits until it has answered, and nothing but the directory is left in its sandbox; for
 * 10 s at most. Returns 0, or -errno with e set to what it said. Accepts a zeroed struct.
 */
int live_await(struct live *l, struct err *e);

/* Whether it has ended: -ECHILD with e set to what it said, or 0. Does not wait. */
int live_check(struct live *l, struct err *e);

/* Ends it. Accepts a zeroed struct. */
void live_end(struct live *l);

#endif
