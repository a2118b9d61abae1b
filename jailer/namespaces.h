/* Namespaces, and the empty root. For the calling process, which has one thread, unless another is named. */
#ifndef MF_JAILER_NAMESPACES_H
#define MF_JAILER_NAMESPACES_H

#include <stdbool.h>
#include <sys/types.h>

struct err;

/* A namespace that is made by unshare(2), by name. flag 0 ends the table. */
struct namespaces_kind {
	int flag;
	const char *name;
};
extern const struct namespaces_kind namespaces_kinds[];

/* Leaves for new ones, all in one call. Returns 0 or -errno. */
int namespaces_unshare(int flags);

/*
 * Of the process pid, which is in a new user namespace: the only user is uid and the only group gid, which are those of
 * the namespace that the caller is in. Who may not choose (not root) maps its own. Returns 0 or -errno with e set.
 */
int namespaces_map(pid_t pid, uid_t uid, gid_t gid, bool is_root, struct err *e);

/*
 * The current directory, which is a mount of its own, becomes the root; what was the root is not mounted any more. In a
 * mount namespace of our own. Returns 0 or -errno with e set.
 */
int namespaces_pivot(struct err *e);

/*
 * The root becomes an empty tmpfs that cannot be written to, and everything else is gone, in a mount namespace of our own.
 * Returns 0 or -errno with e set.
 */
int namespaces_empty_root(struct err *e);

#endif
