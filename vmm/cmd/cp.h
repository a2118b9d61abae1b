/* `mayfly cp`. */
#ifndef MF_CMD_CP_H
#define MF_CMD_CP_H

struct cli_usage;

extern const struct cli_usage cli_cp_usage;

/* Returns mayfly's exit status. */
int cp_command(int argc, char **argv);

#endif
