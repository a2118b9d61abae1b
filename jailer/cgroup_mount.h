/*
 * Where the trees of control groups are mounted. mountinfo is the file that says it, or NULL for that of this process.
 */
#ifndef MF_JAILER_CGROUP_MOUNT_H
#define MF_JAILER_CGROUP_MOUNT_H

#include <stdbool.h>

struct err;

/*
 * The tree of version 2. Returns 0 with a path that the caller frees, or -errno with e set: -ENOENT if it is not
 * mounted.
 */
int cgroup_find_v2(const char *mountinfo, char **ret, struct err *e);

/* The tree of version 1 that has this controller. Returns as above. */
int cgroup_find_v1(const char *mountinfo, const char *controller, char **ret, struct err *e);

/* Whether a list, with words between spaces or commas and perhaps a newline at its end, has this word. */
bool cgroup_list_has(const char *list, const char *word);

#endif
