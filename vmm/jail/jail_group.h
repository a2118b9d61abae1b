/* The control group of a jail, if limits were asked for that need one. */
#ifndef MF_JAIL_JAIL_GROUP_H
#define MF_JAIL_JAIL_GROUP_H

#include <stdbool.h>

#include "jailer/cgroup.h"

struct config_jail;
struct err;

struct jail_group {
	bool made;
	struct cgroup cgroup;
	int events_fd; /* memory.events; or -1: its memory is not limited */
	char *parent;  /* owned: the directory above it */
};

/*
 * Makes it as j has it, below "mayfly". What is left of a run with the same id is taken over, once all of that has
 * ended. Where there is no version 2, or no controller, jail_lacks is told. Returns 0 or -errno with e set.
 */
int jail_group_make(struct jail_group *ret, const struct config_jail *j, struct err *e);

/* Whether a process in it was killed because its memory was used up. */
bool jail_group_had_oom(const struct jail_group *g);

/* Removes it when nothing is left in it, for which it waits; and the parent, if that was the last one. */
void jail_group_remove(struct jail_group *g);

#endif
