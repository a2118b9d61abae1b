/*
 * Unix sockets that listen at a name in the file system. Each removes its own name and no
 * other file.
 */
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
 * Listens at path (kept, not copied) for connections of this type (SOCK_STREAM, ...).
 * Replaces a socket on which nobody listens. Refuses anything else: -EADDRINUSE if
 * another process listens, -EEXIST if the file is no socket. Returns 0 or -errno with e
 * set; unix_socket_done accepts either.
 */
int unix_socket_listen(struct unix_socket *u, const char *path, int type, struct err *e);

/*
 * fd, of another process, listens at path (absolute, kept) for connections of this type: checks that, as far as it can be, and
 * makes it non-blocking. The name is removed as one of our own; fd stays the caller's. Returns 0 or -errno with e set;
 * unix_socket_done accepts either.
 */
int unix_socket_adopt(struct unix_socket *u, int fd, const char *path, int type, struct err *e);

/*
 * For another process (fdstore.h). unix_socket_provide offers a listening socket to it;
 * the name stays here, to be removed here. unix_socket_take takes the socket, as
 * unix_socket_listen does by itself, without the name. Returns whether there was one.
 */
int unix_socket_provide(struct unix_socket *u, struct err *e);
bool unix_socket_take(struct unix_socket *u, const char *path);

/* To another place, which has none. */
void unix_socket_move(struct unix_socket *to, struct unix_socket *from);

/*
 * Removes the name if it is still this socket's. A file that takes the name meanwhile
 * stays.
 */
void unix_socket_remove(struct unix_socket *u);

/*
 * For a signal handler that ends the process: removes the names of all sockets
 * (UNIXNAME_BOUND_MAX are known) that still have one. Async-signal-safe.
 */
void unix_socket_remove_all(void);

/*
 * Removes the socket at path, of that type, if nobody listens at it: what a process that was killed
 * has left. Everything else stays.
 */
void unix_socket_remove_stale(const char *path, int type);

/* As unix_socket_remove, and closes the socket. */
void unix_socket_done(struct unix_socket *u);

/*
 * Connects to the socket at path itself. Refuses a symlink and anything else that is no
 * socket (-ENOTSOCK), also a symlink that replaces the socket meanwhile. In a chroot
 * without /proc, where links do not lead out, such a replacement goes unnoticed.
 */
int unix_socket_connect_exact(const char *path, int type);

/*
 * Connects to path, of UNIXNAME_MAX bytes at most. Returns the non-blocking socket or
 * -errno, without waiting.
 */
int unix_socket_connect(const char *path, int type);

#endif
