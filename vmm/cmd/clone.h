/* `mayfly clone`: several VMs from one snapshot. */
#ifndef MF_CMD_CLONE_H
#define MF_CMD_CLONE_H

#include "vmm/cli/cli.h"

extern const struct cli_usage clone_usage;

/* argv[0] is "clone". Returns mayfly's exit status. */
int clone_command(int argc, char **argv);

#endif
