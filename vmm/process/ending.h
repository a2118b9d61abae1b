/*
 * That a run ends, whatever hangs: the signals that ask for it, the time that it may take, and what is done by all means.
 *
 * All of it is the main thread's, once; the other threads block these signals (ending_block_all).
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
#define ENDING_SPARE_MS 250U   /* later: the process outside of a jail; in the middle of that it kills the one inside */
#define ENDING_CLOSE_MS 60000U /* for a VM that nobody has asked to end: what is in flight, and artifacts */

struct ending_kind {
	bool command;	   /* SIGINT and SIGQUIT are a command's, as are SIGUSR1, SIGUSR2 and SIGWINCH */
	unsigned asked_ms; /* 0: the first request is a command's, too; the second cuts it short */
};

/*
 * Installs the handlers, but for signals that the caller of mayfly has ignored: those stay so. Until ending_serve, SIGTERM, SIGINT, SIGHUP and SIGQUIT end the process at once, and the others
 * wait. Returns the descriptor that ending_take reads, or -errno with e set.
 */
int ending_setup(const struct ending_kind *kind, struct err *e);

/* What the handlers write to: the other end of that. */
int ending_handlers_fd(void);

/* From now on signals are read. A request starts the clock all the same, whatever the main thread does. */
void ending_serve(void);

/* The number of a signal that has come, or 0: there is none. */
int ending_take(int fd);

/* For pthread_create(3): a thread that takes no signal. */
void ending_block_all(pthread_attr_t *attr);

/* Holds the signals back, and lets them come again: for a fork, or until what was made is known here. */
void ending_hold(bool on);

/*
 * After a fork, with signals held. ending_inside: the process in the jail takes none, what it has to hear of is forwarded.
 * ending_outside: the process outside has ENDING_SPARE_MS more.
 */
void ending_inside(void);
void ending_outside(void);

/* A child to kill and a file to remove if the end comes at once; 0 and NULL: none any more. Both are kept. */
void ending_child(pid_t pid, const char *file);

/*
 * The clock. ending_limit: the time limit ends at limit_ms of clock_now_ms. ending_ask: the end was asked for; this is the
 * status, of which the first counts. ending_cut: it was asked for again. ending_close: the VM has ended, and is closed.
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

/* What is being waited for, for the line; both kept, id may be NULL. */
void ending_step(const char *what, const char *id);

/* Says why the process ends; late: and that something has not ended in time. Returns the status. Async-signal-safe. */
int ending_report(bool late);

/* What is done whatever ends the process: names of sockets are removed, a child is killed. Async-signal-safe. */
void ending_clean(void);

/* The handlers do nothing any more, but for the clock: for a process that shares our memory. */
void ending_over(void);

#endif
