/*
 * Landlock: limits what the calling thread, and its children, can do with files, TCP
 * ports, abstract Unix sockets and outside processes, whatever their permissions say.
 * Files that are already open are not affected.
 */
#ifndef MF_JAILER_LANDLOCK_H
#define MF_JAILER_LANDLOCK_H

#include <stdint.h>

struct err;

/*
 * The operations that stay allowed below a directory; path NULL: none. For use without
 * linux/landlock.h, which defines these bits.
 */
#define LANDLOCK_REMOVE_SOCKETS (1ULL << 5 | 1ULL << 9) /* remove files; make sockets, to rename them */
#define LANDLOCK_REMOVE_FILES (1ULL << 5)
#define LANDLOCK_LOG (1ULL << 1 | 1ULL << 5 | 1ULL << 8) /* write, remove and make files */
#define LANDLOCK_REMOVE_DIRS (1ULL << 4)
#define LANDLOCK_RENAME_FILES (1ULL << 5 | 1ULL << 8) /* remove and make files */
#define LANDLOCK_UNPACK                                                                                                \
	(1ULL << 1 | 1ULL << 3 | 1ULL << 7 | 1ULL << 8 | 1ULL << 12 | /* write; list; make what init sends */          \
	 1ULL << 13 | 1ULL << 14)				      /* link to another directory; truncate */

#define LANDLOCK_ABI_LINKS 2 /* the first that allows links between directories */

struct landlock_dir {
	const char *path;
	uint64_t access;
};

/*
 * The version of this kernel's Landlock, or -errno: -ENOSYS or -EOPNOTSUPP if it is
 * unavailable.
 */
int landlock_abi(void);

/*
 * Forbids every operation that this kernel's Landlock knows, except those that dir
 * allows. no_new_privs must be set. Returns 0, or -errno with e set: -ENOSYS or
 * -EOPNOTSUPP if Landlock is unavailable.
 */
int landlock_restrict(const struct landlock_dir *dir, unsigned num, struct err *e);

#endif
