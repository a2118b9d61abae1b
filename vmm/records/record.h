/*
 * Records: a file for each VM of this user, by which `mayfly ps` and its kind find it. There is
 * no daemon: each VM writes its own, and readers trust nothing but files of this user.
 *
 * Theory of operation. The records are in vms/ below the directory of control sockets
 * (config_run_dir). The file's name is the VM's: --name, or 8 hexadecimal digits. It is a list of
 * lines, each a JSON object; later members replace earlier ones:
 *
 *	{"mayfly": 1, "name": ..., "pid": ..., ...}		when the VM is being made; it appears complete
 *	{"cgroup": "/sys/fs/cgroup/..."}			with limits of a jail
 *	{"waits": true}					a member of a pool has run until its guest is idle
 *	{"waits": false, "command": ...}			it is a client's now
 *	{"started": 1764350000.123}				the command runs; without one, the vCPUs do
 *	{"killing": true}					`mayfly kill` is about to
 *	{"ended": 1764350009.456, "cause": "command", "code": 0}	see end_cause.h
 *
 * So a thread that may only write(2) can complete it, and a signal handler, too. A line that is
 * torn or no object ends the reading. mayfly(1) documents the members, under `mayfly ps --json`.
 *
 * Locks (OFD) say what lives. The process that the user started, outside of a jail, holds
 * RECORD_LIFE from before the file has its name until it ends, however it ends. Whoever changes
 * or removes the record of a dead VM holds RECORD_CLAIM meanwhile, and checks that the name is
 * still that file's. Readers only ask for locks (F_OFD_GETLK), so they disturb nobody.
 *
 * A new VM takes the name of one that has ended. Records of ended ones are removed when they are
 * RECORD_KEEP_S old, or when RECORD_KEEP_NUM newer ones have ended (records_clean).
 */
#ifndef MF_RECORDS_RECORD_H
#define MF_RECORDS_RECORD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "vmm/base/end_cause.h"
#include "vmm/base/util.h"

struct config;
struct err;
struct json_t;

#define RECORD_NAME_MAX 63	  /* bytes: CONFIG_ID_MAX */
#define RECORD_BYTES_MAX 65536	  /* of a file; a larger one is none of ours */
#define RECORD_COMMAND_MAX 4096	  /* bytes of a command that are kept */
#define RECORD_KEEP_S (24 * 3600) /* since the last change */
#define RECORD_KEEP_NUM 100	  /* of those that have ended */
#define RECORD_VERSION 1

/* Bytes of the file that are locked. */
enum { RECORD_LIFE, RECORD_CLAIM };

enum record_state {
	RECORD_WAITING,	 /* a member of a pool, which no client has claimed */
	RECORD_STARTING, /* the guest boots, or its root is being packed */
	RECORD_RUNNING,
	RECORD_ENDED,
	RECORD_LOST, /* killed, and nobody knows how it ended */
};

const char *record_state_name(enum record_state state);

/* Reading. */

struct record {
	char name[RECORD_NAME_MAX + 1];
	int fd; /* the file, owned; or -1: it is one of a list */
	enum record_state state;
	bool alive;	      /* its process lives, also while it closes a VM that has ended */
	pid_t pid;	      /* the process that the user started: outside of the jail */
	uint64_t start_ticks; /* field 22 of its /proc/PID/stat; 0: not known */
	struct json_t *json;  /* all members, and "state"; checked types; owned */
	struct timespec changed;
	off_t good; /* bytes of whole lines */
};

/*
 * Opens the directory of records. make: makes it, if it is missing. Returns the descriptor, or
 * -errno with e set: -ENOENT if there are none.
 */
int records_open(bool make, struct err *e);

/*
 * Reads one, of a name that may come from the user. Returns 0, or -errno with e set: -ENOENT if
 * there is none of that name, -EBADMSG if the file is none of ours. record_done frees it.
 */
int record_read(int dir, const char *name, struct record *ret, struct err *e);

/* The same by name alone: a sentence for the user if there is none. */
int record_find(const char *name, struct record *ret, struct err *e);

/* Reads fd again: what has been added, and whether it lives. Returns 0 or -errno. */
int record_update(struct record *r);
void record_done(struct record *r);

/*
 * All of them, the newest last. Files that are no records are left out. Returns 0 or -errno with
 * e set; *ret is freed by records_free.
 */
int records_list(int dir, struct record **ret, size_t *ret_num, struct err *e);
void records_free(struct record *list, size_t num);

/* A member, or NULL or 0 if it is missing. The string is the record's. */
const char *record_text(const struct record *r, const char *key);
int64_t record_number(const struct record *r, const char *key);
double record_time(const struct record *r, const char *key);

/*
 * Marks those that are dead and have not said so as lost, removes their sockets and control
 * groups, and removes records that are old or too many, with their logs. Any number of processes
 * may do so at a time. Returns 0 or -errno with e set.
 */
int records_clean(int dir, struct err *e);

/*
 * For a VM that is dead: adds how it ended, if it has not said so itself, and removes its sockets
 * and control group. Returns 0 or -errno: -EBUSY if it lives, -EAGAIN if another process is at it.
 */
int record_settle(int dir, const char *name, enum end_cause cause);

/* Removes the record and the logs of a dead VM. Returns as record_settle. */
int record_remove(int dir, const char *name);

/* Before SIGKILL is sent: record_settle then knows the cause. */
void record_note_kill(struct record *r);

/* The exit status of a VM that has ended: that of SIGKILL if it could not say so. */
int record_status(const struct record *r);

/* Whether a process has the file locked: for that of a log, whether more may come. */
bool record_file_has_writer(int fd);

/*
 * A descriptor of the VM's process (pidfd_open(2)), which the caller owns. Returns it, or -errno
 * with e set: -ESRCH if the VM has ended, -EPERM if that PID is not surely its process: then
 * nobody may signal it.
 */
int record_open_process(const struct record *r, struct err *e);

/* Field 22 of /proc/PID/stat, or 0. */
uint64_t record_start_ticks(pid_t pid);

/* Writing: by the VM's own process. */

struct record_writer {
	char name[RECORD_NAME_MAX + 1];
	char id[9];
	int dir;      /* owned, or -1 */
	int fd;	      /* holds the lock; owned, or -1: there is no record */
	int ready_fd; /* gets a byte when the guest runs (detach.h); owned, or -1 */
	bool remove;  /* at the end */
	bool ended;
};

#define RECORD_WRITER_INIT                                                                                             \
	{                                                                                                              \
		.dir = -1, .fd = -1, .ready_fd = -1                                                                    \
	}

/*
 * Makes the record of a VM of this process, and cleans up after others if nobody has done so for
 * RECORD_CLEAN_MS. It holds the lock until all copies of the descriptor are closed. Returns 0, or
 * -errno with e set: -EEXIST if a VM of that name lives. Before other threads are made.
 */
#define RECORD_CLEAN_MS 1000
int record_begin(struct record_writer *w, const struct config *c, struct err *e);

/* The path of the record's directory, which the caller frees; NULL: there is no record, or no memory. */
char *record_directory(const struct record_writer *w);

/*
 * Opens the directory of logs, which is made if it is missing, and the path of this VM's log, which
 * the caller frees. Returns the descriptor, or -errno with e set.
 */
int record_open_logs(const struct record_writer *w, char **ret_path, struct err *e);

/* It has run until its guest is idle, and waits for a client now (config->pool_runs). */
void record_waits(struct record_writer *w);

/*
 * A client has claimed the VM: it has the command of c, and its name, if there is one. Returns 0, or -errno with e set: -EEXIST if a
 * VM of that name lives.
 */
int record_claimed(struct record_writer *w, const struct config *c, struct err *e);

/* Nobody has claimed it: the record goes. */
void record_drop(struct record_writer *w);

/* Adds a member. Before the thread is confined. A failure is logged. */
void record_add_text(struct record_writer *w, const char *key, const char *value);

/*
 * The guest runs; the VM has ended, with mayfly's exit status, or -n for signal n. Async-signal-safe, for a thread
 * that may write(2) to the descriptor, and unlink. The first end counts. Without a record they do
 * nothing.
 */
void record_started(struct record_writer *w);
void record_end(struct record_writer *w, enum end_cause cause, int code);

#endif
