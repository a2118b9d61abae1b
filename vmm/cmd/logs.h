/* `mayfly logs`: what a VM in the background has said. */
#ifndef MF_CMD_LOGS_H
#define MF_CMD_LOGS_H

extern const struct cli_usage logs_usage;

/* argv[0] is "logs". Returns mayfly's exit status. */
int logs_command(int argc, char **argv);

#endif
