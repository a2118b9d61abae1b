/* The mount point of the control groups. */
#ifndef MF_JAILER_CGROUP_MOUNT_H
#define MF_JAILER_CGROUP_MOUNT_H

#include <stdbool.h>

struct err;

/*
 * Finds the tree of cgroup v2. mountinfo is the file to search; NULL: that of this
 * process. Returns 0 with a path that the caller frees, or -errno with e set: -ENOENT if
 * it is not mounted.
 */
int cgroup_find_tree(const char *mountinfo, char **ret, struct err *e);

/*
 * Whether a list has this word. Spaces or commas separate words, and a newline may end
 * the list.
 */
bool cgroup_list_has(const char *list, const char *word);

#endif
