/* `mayfly bench`: times starts of VMs and of commands in them. */
#ifndef MF_CMD_BENCH_H
#define MF_CMD_BENCH_H

#include "vmm/cli/cli.h"

extern const struct cli_usage bench_usage;

int bench_command(int argc, char **argv);

#endif
