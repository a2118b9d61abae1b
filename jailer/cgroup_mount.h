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
 * Finds the tree, and in it the directory of the group of the process with the files "cgroup"
 * and "mountinfo" in proc. *ret_own is NULL if the mount does not show that group. Returns 0
 * with paths that the caller frees, or -errno with e set: -ENOENT without cgroup v2.
 */
int cgroup_find_own(const char *proc, char **ret_own, char **ret_tree, struct err *e);

/*
 * Whether a list has this word. Spaces or commas separate words, and a newline may end
 * the list.
 */
bool cgroup_list_has(const char *list, const char *word);

#endif
