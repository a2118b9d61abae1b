/* What the files of this room share. */
#ifndef MF_RECORDS_RECORD_PARTS_H
#define MF_RECORDS_RECORD_PARTS_H

#include <stdbool.h>
#include <sys/types.h>

#include "vmm/base/end_cause.h"

struct last_words;

#define RECORDS_DIR "vms"
#define RECORDS_LOGS "logs" /* beside it: ID, and ID~ with the older half */

bool record_name_is_valid(const char *name);

/* Whether another open file has that byte locked. */
bool record_is_locked(int fd, off_t byte);

/* Locks it, without waiting. Returns 0 or -errno: -EAGAIN if another has it. */
int record_lock(int fd, off_t byte);

/*
 * Claims the file of a dead VM, which has that name, for a change or for its removal; closing fd
 * ends that. Returns 0, or -errno: -EBUSY if the VM lives, -EAGAIN if another process has it,
 * -ESTALE if the name is another file's, or gone.
 */
int record_claim(int dir, const char *name, int fd);

/* The line that says how a VM ended. Async-signal-safe. */
void record_put_end(struct last_words *l, enum end_cause cause, int code);

/* Removes the logs of that id, beside the directory of records. */
void record_remove_logs(int dir, const char *id);

#endif
