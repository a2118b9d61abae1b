/*
 * `mayfly run --detach`: a VM in the background.
 *
 * Theory of operation. There are three processes, joined by pipes:
 *
 *	caller	what the user started. It waits, passes signals on as SIGTERM, and returns 0 when the guest's command runs:
 *		it then prints the VM's name. If the VM ends before, its status is the caller's.
 *	VM	its child, in a session of its own, without the caller's descriptors. All else is as without --detach.
 *	log	the VM's child: writes the VM's stdout and stderr to two files of a bounded size (detach_log.c). Until the
 *		guest's command runs, the caller's stderr gets them, too. It ends at EOF, when the VM has ended.
 *
 * The VM tells the log that the command runs (record_started), and the log passes the name on to the
 * caller, so that the caller is the last that writes to the caller's stderr.
 */
#ifndef MF_CMD_DETACH_H
#define MF_CMD_DETACH_H

#include <stdbool.h>
#include <stdint.h>

struct config;
struct err;
struct record_writer;

/*
 * Forks, before anything else is open but keep_fd, or -1. Returns true in the VM's process, with STATUS_OK in
 * *ret_status. Returns false in the caller at the end, with its exit status there.
 */
bool detach_fork(struct config *c, int keep_fd, int *ret_status);

/* In the VM's process, with its record: from here on, stdout and stderr go to the log. Returns 0 or -errno with e set. */
int detach_start_log(const struct config *c, struct record_writer *w, struct err *e);

#define DETACH_LOG_DEFAULT (2ULL << 20) /* bytes of both files; the runtime directory may be in memory */

/* The log's process, which has what follows and nothing else. */
struct detach_log {
	int from;   /* stdout and stderr of the VM */
	int ready;  /* a byte comes when the guest's command runs */
	int caller; /* gets the name then, or EOF; */
	int err;    /* the caller's stderr until then */
	int dir;    /* of logs */
	int file;   /* the newer half, locked while it has a writer; or -1 */
	const char *name;
	char id[16]; /* the files are ID and, the older half, ID~ */
	uint64_t half_max;
	bool remove; /* both at the end */
};

/* Opens the newer half, and locks it. Returns 0 or -errno. */
int detach_log_open(struct detach_log *l);

void __attribute__((noreturn)) detach_log_run(struct detach_log *l);

#endif
