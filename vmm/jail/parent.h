/* The process that a VM was started by: itself, or with a jail the one outside. */
#ifndef MF_JAIL_PARENT_H
#define MF_JAIL_PARENT_H

#include <stdint.h>

struct helpers;

/* What a VM has of the process that it is in, or, in a jail, of the one outside (supervise.c). */
struct jail_parent {
	struct helpers *helpers;
	int signal_fd;	   /* signals, for ending_take */
	uint64_t limit_ms; /* when the time limit ends, by clock_now_ms; 0: there is none */
	int tty_fd;	   /* a socket of privsep.h of the terminal's mode; or -1: it is ours to set */
	int vsock_fd;	   /* the same, of connections to sockets of the host; or -1: we connect ourselves */
};

#endif
