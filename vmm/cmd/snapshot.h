/* `mayfly snapshot`: writes a snapshot of a running VM. */
#ifndef MF_CMD_SNAPSHOT_H
#define MF_CMD_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/guest/control.h"

struct cli_usage;
struct err;
struct json_t;
struct snapshot_dir;

/* The files that the VM writes, in the order of control.h, and their names; the names are the configuration's. */
struct snapshot_files {
	int fd[CONTROL_FILES_MAX];
	const char *name[CONTROL_FILES_MAX];
	unsigned num;
	uint32_t images; /* CONTROL_IMAGE of each drive that shares it */
	bool fork;	 /* memory is no file of the directory, but a memfd: for what a fork has to copy */
	/* Set by snapshot_take: how long the guest was paused, and, of a fork, its memories, which are the caller's. */
	uint64_t pause_ns;
	int memory[CONTROL_LAYERS_MAX];
	unsigned num_memories;
};

/*
 * Makes them in d, which snapshot_dir_begin has made, and the file of the configuration: an
 * object as config_print prints it, from which the keys of one run are removed. stop: the VM
 * ends with the snapshot. Returns 0 or -errno with e set. snapshot_files_done closes them, also
 * what a failure has left.
 */
int snapshot_files_make(struct snapshot_files *f, struct snapshot_dir *d, struct json_t *config, bool stop,
			struct err *e);
void snapshot_files_done(struct snapshot_files *f);

/*
 * Asks the VM at control to write them, with flags of CONTROL_..., and waits until they are
 * written and synced; those of a fork, which nobody needs later, are not synced. Returns 0 or -errno with e set.
 */
int snapshot_take(struct snapshot_files *f, int control, unsigned flags, struct err *e);

int snapshot_command(int argc, char **argv);
extern const struct cli_usage snapshot_usage;

#endif
