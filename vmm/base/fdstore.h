/*
 * Files that a process opened for the one that it forks, which cannot open them any more: it has no file system (the jail).
 *
 * The first provides them by name, and by how they are opened. The second, after fdstore_use, takes each where it would
 * otherwise open it. This is a mutable global because what opens a file is spread over all folders.
 */
#ifndef MF_BASE_FDSTORE_H
#define MF_BASE_FDSTORE_H

struct err;

#define FILES_MAX 64

/* In place of the flags of open(2), for what is not opened that way. */
#define FILES_LISTEN (-1) /* a Unix socket that listens at that name */
#define FILES_TAP (-2)	  /* a tap of that name */

/* Keeps fd, which it owns from here on, also on failure; name is kept. Returns 0 or -errno with e set. */
int fdstore_provide(const char *name, int how, int fd, struct err *e);

/* From here on fdstore_take finds what there is. */
void fdstore_use(void);

/* What was provided by that name, which is the caller's then; one of several that are alike. -1: nothing was. */
int fdstore_take(const char *name, int how);

/* Sets fds to those that nobody has taken; there is room for FILES_MAX. Returns how many. */
unsigned fdstore_list(int *fds);

/* Closes all that nobody has taken. */
void fdstore_close(void);

#endif
