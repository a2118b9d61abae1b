/* `mayfly inspect`. */
#ifndef MF_CMD_INSPECT_H
#define MF_CMD_INSPECT_H

struct cli_usage;

extern const struct cli_usage inspect_usage;

/* Returns mayfly's exit status. */
int inspect_command(int argc, char **argv);

#endif
