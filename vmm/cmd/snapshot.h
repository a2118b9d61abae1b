/* `mayfly snapshot`: writes a snapshot of a running VM. */
#ifndef MF_CMD_SNAPSHOT_H
#define MF_CMD_SNAPSHOT_H

struct cli_usage;

int snapshot_command(int argc, char **argv);
extern const struct cli_usage snapshot_usage;

#endif
