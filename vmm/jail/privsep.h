/*
 * What a VM in a jail may ask the process outside for: a connection to a program of the host's that listens for its vsock,
 * and the mode of the terminal. Nothing else can be asked for, and nothing with a name: the process outside knows the
 * vsock's path, and appends the port.
 *
 * A broker is a pair of SOCK_SEQPACKET sockets. One thread asks through each, and waits for the answer.
 */
#ifndef MF_JAIL_PRIVSEP_H
#define MF_JAIL_PRIVSEP_H

#include <stdint.h>

enum privsep_call {
	PRIVSEP_TTY_RAW,     /* 1: it is raw now; 0: it is not ours, or none */
	PRIVSEP_TTY_RESTORE, /* 0 */
	PRIVSEP_CONNECT,     /* to a port: a connected, non-blocking socket */
};

/*
 * Inside. Returns what was answered, for PRIVSEP_CONNECT the descriptor that came with the answer; or -errno: -EMFILE if none
 * is left here for it.
 */
int privsep_ask(int fd, enum privsep_call call, uint32_t value);

/*
 * Outside: does what was asked. Returns the answer or -errno. For PRIVSEP_CONNECT that is a descriptor, of which a copy is
 * sent (SCM_RIGHTS) and never the number; it is closed then.
 */
typedef int privsep_answer(void *ctx, enum privsep_call call, uint32_t value);

/* Outside: answers one question, which is there. Returns 0, or -errno when there will be no more. */
int privsep_serve(int fd, privsep_answer *answer, void *ctx);

#endif
