/* Directories in which only this user, or root, can make and replace files. */
#ifndef MF_BASE_OWN_DIR_H
#define MF_BASE_OWN_DIR_H

#include <stdbool.h>

struct err;

/*
 * Opens the directory called name in parent (AT_FDCWD: by its path) for reading. make: makes it
 * first, with mode 0700, if it is missing. Refuses a symlink, and a directory of another user or
 * with write permission for other users (-EPERM). Returns the descriptor, which the caller owns,
 * or -errno with e set: -ENOENT if it is missing. With make, one thread only: it sets the umask
 * for a moment.
 */
int own_dir_open(int parent, const char *name, bool make, struct err *e);

#endif
