/* What config.c shares with the files that hold the setters of one kind of device. */
#ifndef MF_VMM_CONFIG_PARTS_H
#define MF_VMM_CONFIG_PARTS_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/config.h"

struct err;
struct ratelimit_params;

/* Each replaces *to, or returns a negative errno with e set to what the value must be. */
int config_copy_text(char **to, const char *text, size_t max_len, struct err *e);
int config_copy_path(char **to, const char *text, struct err *e);
int config_copy_id(char **to, const char *text, struct err *e);
int config_copy_bool(bool *to, const char *text, struct err *e);

/* One of the options with commas between them that are the value of an option of the command line. */
struct config_option {
	const char *name;
	config_setter *set;
	enum {
		CONFIG_ONCE,
		CONFIG_MANY,
		CONFIG_FLAG
	} kind; /* a flag is there once, and without a value: set gets "true" */
};

/* Sets what text has, of num options; a part that is none of them is an error, in which all stands for those that are. */
int config_take_options(struct config *c, const char *text, const struct config_option *option, size_t num,
			const char *all, struct err *e);

/* SIZE[+BURST]/MILLISECONDS, a token bucket: of bytes (10M/1000) where is_size is set, else of operations. */
int config_copy_limit(struct ratelimit_params *to, const char *text, bool is_size, struct err *e);

/* config_drive.c */
void config_drive_done(struct config_drive *d);
int config_check_drives(const struct config *c, struct err *e);

/* config_root.c */
void config_artifact_done(struct config_artifact *a);
int config_complete_root(struct config *c, struct err *e);

/* config_net.c */
void config_net_done(struct config_net *n);
int config_check_nets(const struct config *c, struct err *e);
int config_complete_nets(struct config *c, struct err *e); /* what follows from whether there is a command */

/* config_jail.c */
void config_jail_done(struct config_jail *j);

/* config_command.c */
void config_command_done(struct config_command *cmd);
int config_check_command(const struct config *c, struct err *e);

#endif
