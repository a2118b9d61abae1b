/* Functions that the files of the configuration share, beside the table. */
#ifndef MF_CONFIG_CONFIG_PARTS_H
#define MF_CONFIG_CONFIG_PARTS_H

#include <stdbool.h>

struct config;
struct config_drive;
struct config_net;
struct err;

/*
 * Returns the next drive, empty, or NULL with e set. config_end_drive checks it and
 * counts it.
 */
struct config_drive *config_begin_drive(struct config *c, struct err *e);
int config_end_drive(struct config *c, struct err *e);
void config_drive_done(struct config_drive *d);

/*
 * Whether path is a directory: determined once for each drive, when its options are
 * known.
 */
bool config_is_directory(const char *path);

/* Whether text is an address of AF_INET or AF_INET6. */
bool config_is_address(int family, const char *text);

/* Parses a port, 1 to 65535; or PORT or FIRST-LAST, which it cuts. Return false, if it is none. */
bool config_parse_port(const char *text, unsigned *ret);
bool config_cut_ports(char *text, unsigned *ret_first, unsigned *ret_last);

/* The checks between parts, and the values that follow from others. */
int config_complete_root(struct config *c, struct err *e);
int config_complete_drives(struct config *c, struct err *e);
int config_complete_nets(struct config *c, struct err *e);
int config_complete_user_net(struct config_net *n, const struct config *c, struct err *e);
int config_check_walls(const struct config *c, struct err *e);
int config_complete_names(struct config *c, struct err *e);
int config_complete_snapshot(struct config *c, struct err *e);
/* Reads the files of secrets. Returns 0 or -errno with e set. */
int config_complete_secrets(struct config *c, struct err *e);
int config_check_command(const struct config *c, struct err *e);

#endif
