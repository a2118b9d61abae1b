/*
 * What the VM gets from the process that the user started: its own process, or the one
 * outside of its jail.
 */
#ifndef MF_JAIL_PARENT_H
#define MF_JAIL_PARENT_H

#include <stdint.h>

struct err;
struct helpers;
struct confine;
struct jail_group;
struct jail_names;
struct record_writer;
struct unix_socket;

/* What a VM whose guest runs while it waits has for the thread that waits for its client. */
struct jail_await {
	const struct confine *confine;
	int tty_from, tty_to; /* for a terminal, the latter descriptor becomes a copy of the former */
	int vsock_fd;	      /* that of a socket that listens for the vsock takes its place */
	/* The configuration is the client's: keeps what is shown of it. Returns 0 or -errno with e set. */
	int (*configured)(void *ctx, struct err *e);
	void *ctx;
};

/* A VM that waits until a client claims it (vmm/cmd/member.h). Functions return 0, or -errno with e set. */
struct jail_member {
	/*
	 * Called in the VM's process, when it has all that does not depend on the claim. When it returns, the configuration
	 * and the streams are the client's.
	 */
	int (*settle)(struct jail_member *m, struct err *e);
	/*
	 * The same in the process outside of a jail, before its filter. If the VM has a control socket or a vsock's from now
	 * on, its name is outside. -ECANCELED: nobody has claimed it, or the jail has ended.
	 */
	int (*settle_outside)(struct jail_member *m, struct jail_names *names, struct err *e);
	/* The guest runs; in the same process, behind its filter: closes a descriptor. */
	void (*running)(struct jail_member *m);
	/* Once claimed, in the process that the client knows: it sends signals (ending_take_remote); or -1. */
	int client_fd;

	/*
	 * Of one whose guest runs while it waits (config->pool_runs), in place of the first two. Main thread.
	 *
	 * await, before that thread is confined: begins to wait on a thread of its own, which ends with the claim; a is copied.
	 * ready: the guest takes a command now. take: taken_fd is readable. It returns if there is a client, whose streams and
	 * configuration are there; the control socket that it wants is moved to *control.
	 */
	int taken_fd;
	int (*await)(struct jail_member *m, const struct jail_await *a, struct err *e);
	void (*ready)(struct jail_member *m);
	void (*take)(struct jail_member *m, struct unix_socket *control);
};

/* Filled in by run.c, and in a jail by supervise.c. */
struct jail_parent {
	struct helpers *helpers;
	struct jail_group *group;     /* entered by run.c, which removes it */
	int signal_fd;		      /* signals, for ending_take */
	uint64_t limit_ms;	      /* when the time limit ends, by clock_now_ms; 0: no limit */
	int tty_fd;		      /* a socket of privsep.h, for the terminal's mode; -1: we set it ourselves */
	int vsock_fd;		      /* the same, for connections to the host; -1: we connect ourselves */
	int mounts_fd;		      /* of mounts_take, for the jail; -1: there is none */
	struct record_writer *record; /* or NULL; in a jail it has no file, since the process outside writes it */
	struct jail_member *member;   /* or NULL: it runs at once */
};

#endif
