/* Unix sockets that listen at a name in the file system, which is theirs to remove and nobody else's. */
#ifndef MF_BASE_UNIX_SOCKET_H
#define MF_BASE_UNIX_SOCKET_H

#include <stdbool.h>
#include <sys/types.h>

struct err;

#define UNIXNAME_MAX 107 /* bytes of a path: sun_path without the NUL */
#define UNIXNAME_BOUND_MAX 4

struct unix_socket {
	int fd;		  /* listens, non-blocking, owned; or -1 */
	int dir_fd;	  /* path's directory, by O_PATH; or -1 */
	const char *path; /* kept */
	bool bound;
	dev_t dev; /* what was bound */
	ino_t ino;
};

#define UNIXNAME_INIT                                                                                                  \
	(struct unix_socket)                                                                                           \
	{                                                                                                              \
		.fd = -1, .dir_fd = -1                                                                                 \
	}

/*
 * Listens at path (kept) for connections of this type (SOCK_STREAM, ...). A socket there that nobody listens on is
 * replaced; anything else is refused: -EADDRINUSE if another process listens, -EEXIST if it is no socket. Returns 0 or
 * -errno with e set; unix_socket_done accepts either.
 */
int unix_socket_listen(struct unix_socket *u, const char *path, int type, struct err *e);

/*
 * For another process (files.h). unix_socket_provide: a socket that listens is another's to take; the name remains to be
 * removed here. unix_socket_take: takes it, as unix_socket_listen does by itself, and without its name. Returns whether there
 * was one.
 */
int unix_socket_provide(struct unix_socket *u, struct err *e);
bool unix_socket_take(struct unix_socket *u, const char *path);

/* Removes the name, if it is still ours, and nothing else that gets this name meanwhile. */
void unix_socket_remove(struct unix_socket *u);

/*
 * For the end by a signal handler: removes the names of all (UNIXNAME_BOUND_MAX are known) that were not removed yet.
 * Async-signal-safe.
 */
void unix_socket_remove_all(void);

/* The same, and closes the socket. */
void unix_socket_done(struct unix_socket *u);

/*
 * The same to the socket at path itself: a symbolic link is refused (-ENOTSOCK, as is what else is no socket), also one that
 * takes the place of a socket meanwhile. In a chroot without /proc, where links do not lead out, that is not noticed.
 */
int unix_socket_connect_exact(const char *path, int type);

/* Connects to path, which has UNIXNAME_MAX bytes at most. Returns the non-blocking socket or -errno, at once. */
int unix_socket_connect(const char *path, int type);

#endif
