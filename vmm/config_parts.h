/* What config.c shares with the files that hold the setters of one kind of device. */
#ifndef MF_VMM_CONFIG_PARTS_H
#define MF_VMM_CONFIG_PARTS_H

#include <stdbool.h>
#include <stddef.h>

struct config;
struct config_net;
struct err;

/* Each replaces *to, or returns a negative errno with e set to what the value must be. */
int config_copy_text(char **to, const char *text, size_t max_len, struct err *e);
int config_copy_path(char **to, const char *text, struct err *e);
int config_copy_id(char **to, const char *text, struct err *e);
int config_copy_bool(bool *to, const char *text, struct err *e);

/* config_net.c */
void config_net_done(struct config_net *n);
int config_check_nets(const struct config *c, struct err *e);

#endif
