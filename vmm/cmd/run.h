/* `mayfly run`. */
#ifndef MF_CMD_RUN_H
#define MF_CMD_RUN_H

/* A cli_command's run. */
struct config;
struct err;

/* Parses a command line into a configuration, and checks it: as cli_parse. */
typedef int run_parse(struct config *c, int argc, char **argv, struct err *e);

/* Runs a VM of that configuration to its end. Returns mayfly's exit status. Once in a process. */
int run_vm(run_parse *parse, int argc, char **argv);

int run_command(int argc, char **argv);

#endif
