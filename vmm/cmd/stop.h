/* `mayfly stop`: ends VMs gently, and after a time, by SIGKILL. */
#ifndef MF_CMD_STOP_H
#define MF_CMD_STOP_H

extern const struct cli_usage stop_usage;

/* argv[0] is "stop". Returns mayfly's exit status. */
int stop_command(int argc, char **argv);

#endif
