/* `mayfly restore`: runs a VM from a snapshot. */
#ifndef MF_CMD_RESTORE_H
#define MF_CMD_RESTORE_H

struct cli_usage;

int restore_command(int argc, char **argv);
extern const struct cli_usage restore_usage;

#endif
