/*
 * Ends a run in time, whatever hangs: the signals that ask for it, its deadlines, and the
 * work that is done in any case.
 *
 * Everything here belongs to the main thread and exists once. The other threads block
 * these signals (ending_block_all).
 */
#ifndef MF_PROCESS_ENDING_H
#define MF_PROCESS_ENDING_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct err;

#define ENDING_INT_MS 2000U    /* a second SIGINT within this time is not the command's */
#define ENDING_ASKED_MS 1500U  /* from the first request to the end of the process that runs the VM */
#define ENDING_CUT_MS 100U     /* from the second */
#define ENDING_SPARE_MS 250U   /* later: the process outside of a jail; halfway, it kills the one inside */
#define ENDING_CLOSE_MS 60000U /* for a VM that ended by itself: I/O in flight, and artifacts */

struct ending_kind {
	bool command;	   /* SIGINT, SIGQUIT, SIGUSR1, SIGUSR2 and SIGWINCH go to a command */
	unsigned asked_ms; /* 0: the first request goes to a command, too; the second cuts it short */
};

/*
 * Installs the handlers, except for signals that mayfly's caller has ignored: those stay
 * ignored. Until ending_serve, SIGTERM, SIGINT, SIGHUP and SIGQUIT end the process at
 * once, and the other signals wait. Returns the descriptor that ending_take reads, or
 * -errno with e set.
 */
int ending_setup(const struct ending_kind *kind, struct err *e);

/* The write end of that pipe, which the handlers use. */
int ending_handlers_fd(void);

/*
 * From now on the caller reads signals with ending_take. A request still starts the
 * clock, whatever the main thread does.
 */
void ending_serve(void);

/* Returns the number of a signal that has arrived, or 0. */
int ending_take(int fd);

/*
 * The same for signals that a client sends as bytes: each comes to this process, as kill(1) would send it. Other bytes are left
 * out. Returns false if the client has gone: that is SIGHUP.
 */
bool ending_take_remote(int fd);

/* For pthread_create(3): a thread that takes no signal. */
void ending_block_all(pthread_attr_t *attr);

/*
 * Blocks the signals and unblocks them: around a fork, or until a new child or file is
 * registered here.
 */
void ending_hold(bool on);

/*
 * After a fork, with signals held. ending_inside: the process in the jail takes no
 * signals; the process outside forwards those that it needs. ending_outside: the process
 * outside has ENDING_SPARE_MS more.
 */
void ending_inside(void);
void ending_outside(void);

/*
 * A child to kill and a file to remove if the process ends abruptly; 0 and NULL clear
 * them. Both are kept, not copied.
 */
void ending_child(pid_t pid, const char *file);

/*
 * The clock. ending_limit: the time limit ends at limit_ms of clock_now_ms. ending_ask:
 * the end was requested, with this status (exit_status.h; -n is signal n); the first one
 * counts. ending_cut: it was requested again. ending_close: the VM has ended and is being
 * closed.
 */
void ending_limit(uint64_t limit_ms);
void ending_ask(int status);
void ending_cut(void);
void ending_close(void);
bool ending_was_asked(void);
bool ending_is_cut(void);
int ending_status(void); /* 0: none yet */

/* When the process ends, by clock_now_ms; UINT64_MAX: no clock runs. */
uint64_t ending_due_ms(void);

/* Sets what is being waited for, for the line; both kept, not copied; id may be NULL. */
void ending_step(const char *what, const char *id);

/*
 * Reports why the process ends; late: also that something has not ended in time. Returns
 * the status. Async-signal-safe.
 */
int ending_report(bool late);

/*
 * The work done however the process ends: removes the names of sockets, kills the child, and calls
 * the function that ending_at_last has set, with the status. Async-signal-safe.
 */
void ending_clean(int status);
void ending_at_last(void (*last)(int status));

/* Disables the handlers, except for the clock: for a process that shares our memory. */
void ending_over(void);

/* Whether the signal is one that asks for the end. */
bool ending_is_request(int sig);

/*
 * The status to return from main: status itself, unless it is -n. Then the process dies
 * of signal n, which asked for the end, without a core file. PID 1 of a namespace, which
 * no signal of its own ends, exits with 128 + n. Main thread, after all other work.
 * Async-signal-safe.
 */
int ending_status_of(int status);

#endif
