/* The control group of a jail, if the configuration has limits that need one. */
#ifndef MF_JAIL_JAIL_GROUP_H
#define MF_JAIL_JAIL_GROUP_H

#include <stdbool.h>

#include "jailer/cgroup.h"
#include "jailer/cgroup_base.h"

struct config_jail;
struct err;

struct jail_group {
	struct cgroup_base base;
	bool made;
	struct cgroup cgroup;
	int events_fd; /* memory.events; -1: there is no memory controller */
	char *parent;  /* owned: its parent directory */
};

/*
 * If j has limits: finds the group in which groups can be made, and moves this process out of its
 * way. Before it starts others, which are then moved as well. Returns 0, or -errno with e set:
 * there can be no group.
 */
int jail_group_enter(struct jail_group *g, const struct config_jail *j, struct err *e);

/*
 * Makes the group with the limits of j, in a group "mayfly" of the base; after jail_group_enter.
 * A group that a previous run with the same id left behind is replaced once its processes have
 * ended; one that a killed run without an id left is removed. Returns 0, or -errno with e set: a
 * limit that was asked for and cannot be set is an error, of every jail.
 */
int jail_group_make(struct jail_group *g, const struct config_jail *j, struct err *e);

/* Whether the kernel has killed a process in it because of memory.max: then that is the result. */
bool jail_group_had_oom(const struct jail_group *g);

/*
 * Waits until the group is empty, and removes it; also the parent, if no other group is left there.
 * Undoes jail_group_enter.
 */
void jail_group_remove(struct jail_group *g);

#endif
