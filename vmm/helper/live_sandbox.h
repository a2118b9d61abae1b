/* The sandbox of a live directory's server; see live.h. */
#ifndef MF_HELPER_LIVE_SANDBOX_H
#define MF_HELPER_LIVE_SANDBOX_H

#include <stdbool.h>
#include <sys/types.h>

struct err;

#define LIVE_SANDBOX_SIGNAL 128

/* Descriptors of the sandbox. The child has copies of all. */
struct live_sandbox {
	int dir;	/* the directory */
	bool read_only; /* nothing can be written below it */
	int server;	/* the server's end of the connection */
	int guest;	/* the other end, through which the server is asked whether it is there */
	int said;	/* the server's stderr */
	int ready;	/* gets one byte when the server is ready and confined */
};

/*
 * Starts it: a process that is init in namespaces of its own, with the server as its
 * child. Root's has root's ids; an ordinary user's has this user as root, and the user's
 * subordinate ids (subuid(5)) as the others, if there are any. Returns the pid of init,
 * which ends with status 0 when the server has served its connection, with
 * LIVE_SANDBOX_SIGNAL + n when signal n has ended the server, and with 1 on another
 * failure, after a line on the server's stderr; or -errno with e set. One thread only.
 */
pid_t live_sandbox_start(const struct live_sandbox *s, struct err *e);

#endif
