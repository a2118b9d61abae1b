/* `mayfly snap`: looks at snapshots. */
#ifndef MF_CMD_SNAP_H
#define MF_CMD_SNAP_H

struct cli_usage;

int snap_command(int argc, char **argv);
extern const struct cli_usage snap_usage;

#endif
