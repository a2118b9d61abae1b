/* `mayfly kill`: sends VMs a signal, SIGKILL by default. */
#ifndef MF_CMD_KILL_H
#define MF_CMD_KILL_H

extern const struct cli_usage kill_usage;

/* argv[0] is "kill". Returns mayfly's exit status. */
int kill_command(int argc, char **argv);

#endif
