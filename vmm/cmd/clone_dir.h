/* The directory of what `mayfly clone NAME` starts VMs from. It goes with the command, however that ends. */
#ifndef MF_CMD_CLONE_DIR_H
#define MF_CMD_CLONE_DIR_H

#include <sys/types.h>

struct err;

#define CLONE_DIR_MAX 256 /* bytes of its path, with a NUL */
#define CLONE_DIR_SNAPSHOT "snapshot"
#define CLONE_DIR_FORK "fork" /* by fork.h; it never has this name itself */

struct clone_dir {
	char path[CLONE_DIR_MAX];
	pid_t keeper; /* the process that removes it */
	int fd;	      /* a pipe to that, whose end it waits for */
};

/* Makes one in $TMPDIR, or /tmp, for this user alone. Returns 0 or -errno with e set. */
int clone_dir_make(struct clone_dir *d, struct err *e);

/* Removes it, and the snapshot in it. */
void clone_dir_done(struct clone_dir *d);

#endif
