/* System calls on file descriptors with short transfers and EINTR handled; the only place where EINTR is retried. */
#ifndef MF_BASE_FDIO_H
#define MF_BASE_FDIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct err;
struct iovec;

#define FDIO_FDS_MAX 4 /* descriptors in a packet */

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

/*
 * For who finds a file in use. What a process had in a ring (io_uring) is released by a kernel worker, with its locks: up to
 * 200 ms after the process was killed, if it was. Sleeps a few milliseconds. Returns false when it has done so for
 * FDIO_LINGER_MS; *tries counts, from 0.
 */
#define FDIO_LINGER_MS 500
bool fdio_linger(unsigned *tries);

/*
 * A packet of a Unix socket (SOCK_SEQPACKET), with copies of descriptors, FDIO_FDS_MAX at most, that stay the caller's.
 * flags: of sendmsg(2). Returns 0 or -errno.
 */
int fdio_send_packet(int fd, const struct iovec *iov, unsigned num, const int *fds, unsigned num_fds, int flags);

/*
 * The next packet, and the descriptors that came with it, which are the caller's and have O_CLOEXEC: *num_fds is how many
 * fds has room for, and then how many there are. Returns its length, 0 when the other side has gone, or -errno, and then
 * there are none: -EMFILE if they could not be taken, since this process may not have more, or for want of room in fds;
 * -EMSGSIZE if the packet is longer than iov.
 */
ssize_t fdio_receive_packet(int fd, struct iovec *iov, unsigned num, int *fds, unsigned *num_fds);

#endif
