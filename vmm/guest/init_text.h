/* The texts that instruct init in the guest; loader/init/proto.h has their format. */
#ifndef MF_GUEST_INIT_TEXT_H
#define MF_GUEST_INIT_TEXT_H

#include <stddef.h>
#include <sys/types.h>

struct config;
struct config_command;

/*
 * The mounts, names and files to send. Returns the text, which the caller frees, or NULL:
 * out of memory.
 */
char *init_text_boot(const struct config *c, size_t *ret_len);

/* The guest's host name, which is c's. */
const char *init_text_hostname(const struct config *c);

/* A command, or an empty text if it is none, or held; tty is the size of its terminal as ROWSxCOLUMNS, or "", or NULL without one. Returns as above. */
char *init_text_command(const struct config_command *cmd, const char *tty, size_t *ret_len);

/* What a further command has of the first one, as init reads it: the environment, then the working directory and the user. */
struct init_text_defaults {
	char *text;
	size_t env_len, len;
};

/* Returns 0, or -ENOMEM. init_text_defaults_done accepts either, and a struct of zeros. */
int init_text_defaults_init(struct init_text_defaults *d, const struct config_command *cmd);
void init_text_defaults_done(struct init_text_defaults *d);

/*
 * Completes the text of a command, of len bytes: what it says itself holds. A text without arguments, which is no command's,
 * stays. Returns the length, max at most; -E2BIG; or -EPROTO for a text that ends without a NUL.
 */
ssize_t init_text_complete(char *text, size_t len, size_t max, const struct init_text_defaults *d);

#endif
