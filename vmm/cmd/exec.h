/* `mayfly exec`. */
#ifndef MF_CMD_EXEC_H
#define MF_CMD_EXEC_H

#include "vmm/cli/cli.h"

/* Runs a command in a running guest. Returns the command's exit status, or mayfly's own. */
int exec_command(int argc, char **argv);
extern const struct cli_usage cli_exec_usage;

#endif
