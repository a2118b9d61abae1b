/* What the two files of the jail's parent process share: supervise.c outside, inside.c in its child. */
#ifndef MF_JAIL_SUPERVISE_PARTS_H
#define MF_JAIL_SUPERVISE_PARTS_H

#include <stdbool.h>
#include <sys/types.h>

#include "jailer/jail.h"
#include "vmm/jail/jail_files.h"

struct config;
struct jail_parent;

enum start { START_MAP, START_DONE };

struct start_msg {
	enum start what;
	int result;
	struct jail_pids pids;
};

/* Ends of pipes and socket pairs. */
enum { OUTSIDE, INSIDE };

struct outer {
	const struct config *config;
	struct jail_parent *parent;
	uid_t uid; /* in the jail */
	gid_t gid;
	struct jail_names names;
	int start[2], life[2], signals[2], tty[2], vsock[2];
	pid_t child; /* enters the jail */
	struct jail_pids pids;
	bool tty_raw, killed;
	int status; /* from wait(2) */
};

/*
 * In the child: enters the jail with the descriptors in keep, and returns in the process that runs
 * the VM. Every other process, and every failure, ends in there.
 */
void inside_enter(struct outer *o, const int *keep, unsigned num_keep);

#endif
