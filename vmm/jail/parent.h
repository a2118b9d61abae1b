/*
 * What the VM gets from the process that the user started: its own process, or the one
 * outside of its jail.
 */
#ifndef MF_JAIL_PARENT_H
#define MF_JAIL_PARENT_H

#include <stdint.h>

struct helpers;
struct jail_group;
struct record_writer;

/* Filled in by run.c, and in a jail by supervise.c. */
struct jail_parent {
	struct helpers *helpers;
	struct jail_group *group;     /* entered by run.c, which removes it */
	int signal_fd;		      /* signals, for ending_take */
	uint64_t limit_ms;	      /* when the time limit ends, by clock_now_ms; 0: no limit */
	int tty_fd;		      /* a socket of privsep.h, for the terminal's mode; -1: we set it ourselves */
	int vsock_fd;		      /* the same, for connections to the host; -1: we connect ourselves */
	struct record_writer *record; /* or NULL; in a jail it has no file, since the process outside writes it */
};

#endif
