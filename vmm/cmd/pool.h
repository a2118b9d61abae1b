/* `mayfly pool`: VMs that wait for `mayfly clone --pool`. */
#ifndef MF_CMD_POOL_H
#define MF_CMD_POOL_H

#include "vmm/cli/cli.h"

extern const struct cli_usage pool_usage;

/* argv[0] is "pool". Returns mayfly's exit status. */
int pool_command(int argc, char **argv);

#endif
