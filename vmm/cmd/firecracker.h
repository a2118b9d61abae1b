/* mayfly with Firecracker's options, and its API: `mayfly --api-sock PATH`, or called as "firecracker". */
#ifndef MF_CMD_FIRECRACKER_H
#define MF_CMD_FIRECRACKER_H

#include <stdbool.h>

#include "vmm/cli/cli.h"

extern const struct cli_usage firecracker_usage;

/* Whether the first argument is one of these options. */
bool firecracker_is_meant(int argc, char **argv);

/* argv[0] is the program's name. Returns the exit status, as Firecracker has them. */
int firecracker_command(int argc, char **argv);

#endif
