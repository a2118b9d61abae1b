/*
 * How a run ended: the JSON object that `mayfly run --result FILE` writes.
 *
 * The state is in memory that the process outside of a jail shares with the one inside: the VM's process notes what it knows,
 * the process that the user has started writes it. The latter takes nothing there for granted.
 */
#ifndef MF_BASE_RESULT_H
#define MF_BASE_RESULT_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/base/end_cause.h"
#include "vmm/base/last_words.h"

struct err;

enum result_time {
	RESULT_STARTED,
	RESULT_BOOTED,	/* the guest's PID 1 runs */
	RESULT_COMMAND, /* the command runs */
	RESULT_ENDED,
	RESULT_NUM_TIMES,
};

/* First of all, before any thread: notes the start. */
void result_init(void);

/*
 * Before the fork of the process in a jail, once and before any thread: both share what is noted from here on. Without memory
 * for that, each notes for itself.
 */
void result_share(void);

/*
 * Prepares to write to path: a file, which is removed now and appears whole; or a FIFO, or a descriptor of ours as /dev/fd/N,
 * for which result_end does not wait. Returns 0 or -errno with e set.
 */
int result_open(const char *path, struct err *e);

/* In the process in a jail: the one outside writes. */
void result_leave(void);

/* The descriptors of an open result, for filters: the file, and its directory; or -1. */
int result_fd(void);
int result_dir_fd(void);

/* Notes when something happens for the first time. Any thread. */
void result_at(enum result_time what);

/* Notes the cause, unless there is one already. code is -1, or the command's status; signo is 0, or a signal. Main thread. */
void result_set(enum end_cause cause, int code, int signo);

/*
 * Notes how a command has ended: its status as a shell has it, whether by a signal in the guest, whether for lack of memory, and
 * by which signal of the user's, or 0.
 */
void result_set_command(int status, bool signalled, bool oom, int passed);

/* The cause that was noted; or END_FAILED. */
enum end_cause result_cause(void);

/* Notes that the guest's kernel killed a process for lack of memory. */
void result_had_oom(void);

/* Notes a line that mayfly reports: the last is the message. report_line calls it. */
void result_say(const char *line);

/* The message so far, or "". It lives as long as the process, and the next report changes it. */
const char *result_message(void);

/*
 * The object as text, for the exit status of mayfly (exit_status.h; -n is signal n): one line with its newline. Without a cause that is "", and status null.
 * Async-signal-safe.
 */
void result_text(struct last_words *ret, int status);

/*
 * Ends it: writes what result_open has prepared. The first call counts. Async-signal-safe.
 * Returns 0 or -errno.
 */
int result_end(int status);

#endif
