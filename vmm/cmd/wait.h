/* `mayfly wait`: waits for the end of VMs, and has their status. */
#ifndef MF_CMD_WAIT_H
#define MF_CMD_WAIT_H

extern const struct cli_usage wait_usage;

/* argv[0] is "wait". Returns mayfly's exit status. */
int wait_command(int argc, char **argv);

#endif
