/* What init has to know when its guest was restored from a snapshot: INIT_MSG_RESTORED of loader/init/proto.h. */
#ifndef MF_GUEST_RESTORED_H
#define MF_GUEST_RESTORED_H

#include <stdbool.h>
#include <stddef.h>

#include "loader/init/proto.h"
#include "vmm/config/config.h"

struct config;
struct err;
struct init_conn;

struct restored {
	bool due;   /* not sent yet */
	bool held;  /* its command 0 comes with restored_claim, and the snapshot's is one no more */
	bool alone; /* if the snapshot's command has ended, the machine goes on without one */
	struct init_restored now;
	char name[CONFIG_ID_MAX + 1]; /* empty: that of the snapshot */
	char *command;		      /* the list of a new command 0, or NULL: that of the snapshot goes on */
	char *boot;		      /* the boot text, for a template; or NULL */
	size_t command_len, boot_len;
};

/* Prepares it, if c is of a restore. Before the filter: it allocates. Returns 0 or -errno with e set. */
int restored_init(struct restored *r, const struct config *c, struct err *e);
void restored_done(struct restored *r);

/*
 * Answers hello: sends it, once, with the time of now. The guest's init may ask as often as it likes. False: the
 * snapshot is of the time before its init's first hello, so that its own command runs, and not the new one.
 */
bool restored_tell(struct restored *r, const struct init_msg *hello, struct init_conn *conn);

/*
 * Of a guest whose command was held: tells it the time again, gives it these random numbers, and then the command of c. Returns
 * 0 or -errno.
 */
int restored_claim(struct restored *r, const struct config *c, const uint8_t random[INIT_RANDOM_BYTES],
		   struct init_conn *conn);

#endif
