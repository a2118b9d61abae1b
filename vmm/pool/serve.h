/* The loop of `mayfly pool`: it starts members, and hands each client's connection to one of them. */
#ifndef MF_POOL_SERVE_H
#define MF_POOL_SERVE_H

#include <stdint.h>

struct err;
struct pool_claim;

#define POOL_MEMBER_FD 3 /* where a member waits */

/* What it says there: it waits for a client. POOL_RUNS: and its guest runs. */
enum pool_word { POOL_WAITS, POOL_RUNS };

struct pool_serve {
	int listen_fd; /* listens, non-blocking, SOCK_SEQPACKET */
	int signal_fd; /* ending_take */
	const char *dir;
	unsigned size;
	uint64_t max_age_ms;
	char **member;			/* the command line of a member (vmm/cmd/member.h) */
	const struct pool_claim *plain; /* what a client without a member needs: the directory, and our options */
	void (*closed)(void *ctx);	/* the end was asked for: nobody can connect any more */
	void *ctx;
};

/*
 * Until a signal asks for the end, and all members have left. Returns the signal's number, or -errno with e set: no member
 * gets ready. Main thread; children of it are nobody's to wait for (SIGCHLD is ignored).
 */
int pool_serve(const struct pool_serve *p, struct err *e);

#endif
