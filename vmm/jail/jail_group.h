/* The control group of a jail, if the configuration has limits that need one. */
#ifndef MF_JAIL_JAIL_GROUP_H
#define MF_JAIL_JAIL_GROUP_H

#include <stdbool.h>

#include "jailer/cgroup.h"

struct config_jail;
struct err;

struct jail_group {
	bool made;
	struct cgroup cgroup;
	int events_fd; /* memory.events; -1: there is no memory controller */
	char *parent;  /* owned: its parent directory */
};

/*
 * Makes the group with the limits of j, below the group "mayfly". A group that a previous run
 * with the same id left behind is replaced once its processes have ended. A missing cgroup v2 or
 * controller goes to jail_lacks. Returns 0 or -errno with e set.
 */
int jail_group_make(struct jail_group *ret, const struct config_jail *j, struct err *e);

/* Whether the kernel has killed a process in it because of memory.max: then that is the result. */
bool jail_group_had_oom(const struct jail_group *g);

/* Waits until the group is empty, and removes it; also the parent, if no other group is left there. */
void jail_group_remove(struct jail_group *g);

#endif
