/* A command line of mayfly that another command makes, for a process of its own. */
#ifndef MF_CMD_WORDS_H
#define MF_CMD_WORDS_H

#include <sys/types.h>

struct cli_option;
struct err;

#define WORDS_MAX 1024
#define WORDS_STREAMS 2 /* stdout, stderr */

/* Zeroed: none. NULL follows the last. It owns the words until the process ends. */
struct words {
	char *word[WORDS_MAX + 1];
	unsigned num;
};

/* Add copies. Return 0 or -errno with e set. */
int words_add(struct words *w, const char *text, struct err *e);
int words_add_all(struct words *w, const struct words *more, struct err *e);

/* An option with its value, or without one (NULL): --NAME=VALUE. */
int words_add_option(struct words *w, const struct cli_option *o, const char *value, struct err *e);

/*
 * Starts a process of mayfly, which ends with this one, in a process group of its own, with /dev/null as stdin. ret_fd: gets
 * what it prints, as pipes; NULL: it has our streams. Returns its id, or -errno with e set.
 */
pid_t words_start(struct words *w, int ret_fd[WORDS_STREAMS], struct err *e);

/*
 * Before processes of mayfly are started that share these options: with --jail among them, makes the mount namespace that
 * their jails begin with (jailer/mounts.h), if that is possible.
 */
void words_prepare_jails(const struct words *options);

/* What waitpid(2) reports as a shell has it; and waits for a process of ours, and returns that. */
int words_status(int wait_status);
int words_wait(pid_t pid);

#endif
