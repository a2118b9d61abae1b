/* `mayfly ps`: lists VMs. */
#ifndef MF_CMD_PS_H
#define MF_CMD_PS_H

extern const struct cli_usage ps_usage;

/* argv[0] is "ps". Returns mayfly's exit status. */
int ps_command(int argc, char **argv);

#endif
