/*
 * `mayfly jailer`: Firecracker's jailer as a command; see jailer/fcjailer.h. Also run if mayfly is called as `jailer`.
 */
#ifndef MF_CMD_JAILER_H
#define MF_CMD_JAILER_H

#include <stdbool.h>

#include "jailer/fcjailer.h"
#include "vmm/cli/cli.h"

struct err;

struct jailer_options {
	struct fcjailer_params params;
	bool version;
};

extern const struct cli_usage jailer_usage;

/*
 * Parses the options into o, whose params fcjailer_init has set. Returns 0, 1 if the help was
 * printed, or -errno with e set.
 */
int jailer_parse(struct jailer_options *o, int argc, char **argv, struct err *e);

int jailer_command(int argc, char **argv);

#endif
