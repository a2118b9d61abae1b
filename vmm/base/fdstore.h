/*
 * Files that a process opens in advance for its child, which cannot open them: in the
 * jail it has an empty root.
 *
 * The parent stores each by its name and by how it was opened. After fdstore_use, the
 * child takes each file from the store where it would otherwise open it. The store is a
 * mutable global because files are opened in every folder.
 */
#ifndef MF_BASE_FDSTORE_H
#define MF_BASE_FDSTORE_H

struct err;

#define FILES_MAX 64

/* In place of the flags of open(2), for descriptors that open(2) does not make. */
#define FILES_LISTEN (-1) /* a Unix socket that listens at that name */
#define FILES_TAP (-2)	  /* a tap of that name */

/*
 * Stores fd and owns it from here on, also on failure; name is kept, not copied. Returns
 * 0 or -errno with e set.
 */
int fdstore_provide(const char *name, int how, int fd, struct err *e);

/* From here on, fdstore_take looks into the store. */
void fdstore_use(void);

/*
 * Returns the descriptor that was stored under that name, which the caller then owns. If
 * several are alike, it returns one of them. Returns -1 if there is none.
 */
int fdstore_take(const char *name, int how);

/*
 * Fills fds with all that nobody has taken; it has room for FILES_MAX. Returns how many.
 */
unsigned fdstore_list(int *fds);

/* Closes all that nobody has taken. */
void fdstore_close(void);

#endif
