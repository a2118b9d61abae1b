/* `mayfly restore`: runs a VM from a snapshot. */
#ifndef MF_CMD_RESTORE_H
#define MF_CMD_RESTORE_H

struct cli_usage;
struct config;
struct err;

int restore_command(int argc, char **argv);
extern const struct cli_usage restore_usage;

/* The run_parse of `mayfly restore`, whose name is argv[0]. */
int restore_parse(struct config *c, int argc, char **argv, struct err *e);

/* A run_parse for a member of a pool: argv is POOL_MEMBER_NAME, its number of drives, options and the directory. */
int restore_parse_member(struct config *c, int argc, char **argv, struct err *e);

/* Adds options and the command of a claim to the configuration of a member, argv[0] apart. Returns 0 or -errno with e set. */
int restore_claim(struct config *c, int argc, char **argv, struct err *e);

#endif
