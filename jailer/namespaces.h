/* Namespaces, and the empty root. For the calling process, which has one thread, unless another is named. */
#ifndef MF_JAILER_NAMESPACES_H
#define MF_JAILER_NAMESPACES_H

#include <stdbool.h>
#include <sys/types.h>

struct err;

/* The name of a namespace that unshare(2) makes. flag 0 ends the table. */
struct namespaces_kind {
	int flag;
	const char *name;
};
extern const struct namespaces_kind namespaces_kinds[];

/*
 * In place of CLONE_NEWNS: a mount namespace with nothing but an empty root that nobody can change, of Linux 7.1 and newer
 * (UNSHARE_EMPTY_MNTNS). Others refuse it: -EINVAL.
 */
#define NAMESPACES_NO_MOUNTS 0x100000

/* Moves into new ones, all in one call. Returns 0 or -errno. */
int namespaces_unshare(int flags);

/*
 * Maps one user, uid, and one group, gid, into the new user namespace of process pid.
 * Both are ids of the caller's namespace. A caller other than root can map only its own.
 * Returns 0 or -errno with e set.
 */
int namespaces_map(pid_t pid, uid_t uid, gid_t gid, bool is_root, struct err *e);

/* The same, but the user and the group become 0 in that namespace. For an ordinary user, whose own they are. */
int namespaces_map_root(pid_t pid, uid_t uid, gid_t gid, struct err *e);

/*
 * Makes the current directory, which is a mount of its own, the root, and unmounts the
 * old root. In a mount namespace of our own. Returns 0 or -errno with e set.
 */
int namespaces_pivot(struct err *e);

/*
 * Makes an empty read-only tmpfs the root and unmounts everything else, in a mount
 * namespace of our own. no_mounts: it is one of NAMESPACES_NO_MOUNTS. Returns 0 or
 * -errno with e set.
 */
int namespaces_empty_root(bool no_mounts, struct err *e);

#endif
