/* `mayfly stats`. */
#ifndef MF_CMD_STATS_H
#define MF_CMD_STATS_H

struct cli_usage;

extern const struct cli_usage stats_usage;

/* Returns mayfly's exit status. */
int stats_command(int argc, char **argv);

#endif
