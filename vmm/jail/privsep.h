/*
 * The requests of a jailed VM to the process outside: to connect to a program of the host that
 * listens for its vsock, to set the terminal's mode, and to note its course in the VM's record.
 * There are no other requests, and none carries a path: the process outside knows the vsock's
 * path, and appends the port.
 *
 * A channel is a pair of SOCK_SEQPACKET sockets. One thread asks through each, and waits for the
 * answer.
 */
#ifndef MF_JAIL_PRIVSEP_H
#define MF_JAIL_PRIVSEP_H

#include <stdint.h>

enum privsep_call {
	PRIVSEP_TTY_RAW,     /* 1: it is raw now; 0: in the background, or no terminal */
	PRIVSEP_TTY_RESTORE, /* 0 */
	PRIVSEP_CONNECT,     /* to a port: a connected, non-blocking socket */
	PRIVSEP_STARTED,     /* 0: the guest's command runs, or the guest itself */
};

/*
 * Inside. Returns the answer, for PRIVSEP_CONNECT the descriptor that came with it, or -errno:
 * -EMFILE if this process has no descriptor free.
 */
int privsep_ask(int fd, enum privsep_call call, uint32_t value);

/*
 * Outside: handles a request. Returns the answer or -errno. For PRIVSEP_CONNECT that is a
 * descriptor: privsep_serve sends a copy (SCM_RIGHTS) and closes it.
 */
typedef int privsep_answer(void *ctx, enum privsep_call call, uint32_t value);

/* Outside: answers one request that has arrived. Returns 0, or -errno if the VM has ended. */
int privsep_serve(int fd, privsep_answer *answer, void *ctx);

#endif
