/* `mayfly run`. */
#ifndef MF_VMM_RUN_H
#define MF_VMM_RUN_H

/* A cli_command's run. */
int run_command(int argc, char **argv);

#endif
