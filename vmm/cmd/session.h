/*
 * A command that a running guest runs for another process than its monitor: its streams are this process's, its
 * signals are those that come to it. `mayfly exec` and `mayfly cp` share it.
 */
#ifndef MF_CMD_SESSION_H
#define MF_CMD_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/guest/stdio_relay.h"
#include "vmm/process/confine.h"

struct err;

/* Parses a time of an option. Returns 0, or -EINVAL with e set. */
int session_set_time(uint64_t *ret_ms, const char *text, struct err *e);

struct session_params {
	const char *guest;   /* NAME, or PATH of a control socket */
	uint64_t wait_ms;    /* for the guest to take commands; 0: it must do so */
	uint64_t timeout_ms; /* of the command; 0: none */
	bool tty;
	int told_fd;	/* or 0: gets a NUL when the guest is asked to run the command */
	bool no_errors; /* the command's stderr is not shown: its only sentence comes with its status */
	enum seccomp_policy seccomp;
};

struct session {
	const struct session_params *params;
	int fd, signal_fd;
	struct stdio_relay relay;
	struct confine confine;
	bool started, exited;
	unsigned status;
	bool signalled, oom; /* the command, by a signal in the guest; a process of it, for lack of memory */
	/* The time limit: what is due next, and when by clock_now_ms; 0: there is none. */
	enum session_limit { SESSION_TERM, SESSION_KILL, SESSION_LEAVE } limit;
	uint64_t due_ms;
	int passed;    /* the last request to end that the command got; 0: none */
	int ended_by;  /* a signal; 0: none */
	char *payload; /* of a message, INIT_COMMAND_MAX + 1 bytes */
};

/*
 * Takes over signals, which end the process at once until session_run, and connects. Keeps p. The session is used until
 * the process ends. Returns 0 or -errno with e set. Main thread.
 */
int session_open(struct session *x, const struct session_params *p, struct err *e);

/*
 * Runs the command of a text of loader/init/proto.h until it is over and its output is written. From here on the process
 * is confined. Returns 0, or -errno with e set: it cannot be known how the command ended.
 */
int session_run(struct session *x, const char *text, size_t len, struct err *e);

/* Notes why the command has ended (result.h), after either, whose result is r. */
void session_note_end(const struct session *x, int r);

/* The exit status of this process after either, whose result is r. Reports e, with the name of our command. */
int session_status(const struct session *x, int r, struct err *e, const char *command);

#endif
