/* `mayfly run`. */
#ifndef MF_CMD_RUN_H
#define MF_CMD_RUN_H

/* A cli_command's run. */
int run_command(int argc, char **argv);

#endif
