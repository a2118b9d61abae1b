/* The texts that instruct init in the guest; loader/init/proto.h has their format. */
#ifndef MF_GUEST_INIT_TEXT_H
#define MF_GUEST_INIT_TEXT_H

#include <stddef.h>

struct config;
struct config_command;

/*
 * The mounts, names and files to send. Returns the text, which the caller frees, or NULL:
 * out of memory.
 */
char *init_text_boot(const struct config *c, size_t *ret_len);

/* A command, or an empty text if it is none; tty is the size of its terminal as ROWSxCOLUMNS, or "", or NULL without one. Returns as above. */
char *init_text_command(const struct config_command *cmd, const char *tty, size_t *ret_len);

#endif
