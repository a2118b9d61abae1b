/* `mayfly rm`: removes the records and logs of VMs that have ended. */
#ifndef MF_CMD_RM_H
#define MF_CMD_RM_H

extern const struct cli_usage rm_usage;

/* argv[0] is "rm". Returns mayfly's exit status. */
int rm_command(int argc, char **argv);

#endif
