/* System calls on file descriptors with short transfers and EINTR handled; the only place where EINTR is retried. */
#ifndef MF_BASE_FDIO_H
#define MF_BASE_FDIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct err;

/* Reads up to len bytes at offset, until len or end of file. Returns the bytes read or -errno. */
ssize_t fdio_pread(int fd, void *buf, size_t len, uint64_t offset);

/* Reads exactly len bytes at offset. Returns 0, -ENODATA at an early end of file, or -errno. */
int fdio_pread_all(int fd, void *buf, size_t len, uint64_t offset);

/*
 * Reads up to len bytes from a pipe or socket, until len or its end. Returns the bytes read or -errno. Blocks if fd
 * blocks.
 */
ssize_t fdio_read(int fd, void *buf, size_t len);

/* Writes all of buf. Returns 0 or -errno. Blocks if fd blocks. */
int fdio_write_all(int fd, const void *buf, size_t len);

/* Adds 1 to an eventfd. It cannot fail on a fd that we made: a counter that is full has its reader's attention. */
void fdio_event_signal(int eventfd);

/*
 * Opens (or takes, files.h) a regular file (or, with O_DIRECTORY left out of flags and allow_block set, a block device)
 * without ever blocking, and without O_CREAT: a FIFO, socket, directory or character device is refused by name. Returns
 * the fd (O_CLOEXEC, owned by the caller) and its size in bytes in *ret_size, or -errno with e set: "open 'PATH':
 * reason".
 */
int fdio_open_file(const char *path, int flags, bool allow_block, uint64_t *ret_size, struct err *e);

#endif
