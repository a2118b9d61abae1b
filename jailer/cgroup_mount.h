/* Where the tree of control groups is mounted. */
#ifndef MF_JAILER_CGROUP_MOUNT_H
#define MF_JAILER_CGROUP_MOUNT_H

#include <stdbool.h>

struct err;

/*
 * The tree of cgroup v2. mountinfo is the file to look in; NULL: that of this process. Returns 0 with a path that the
 * caller frees, or -errno with e set: -ENOENT if it is not mounted.
 */
int cgroup_find_tree(const char *mountinfo, char **ret, struct err *e);

/* Whether a list, with words between spaces or commas and perhaps a newline at its end, has this word. */
bool cgroup_list_has(const char *list, const char *word);

#endif
