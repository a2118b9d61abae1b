/*
 * System calls on file descriptors that handle short transfers and EINTR. EINTR is
 * retried here and nowhere else.
 */
#ifndef MF_BASE_FDIO_H
#define MF_BASE_FDIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct err;
struct iovec;

#define FDIO_FDS_MAX 24 /* descriptors in a packet */

/* Reads up to len bytes at offset, until len or EOF. Returns the bytes read or -errno. */
ssize_t fdio_pread(int fd, void *buf, size_t len, uint64_t offset);

/* Reads exactly len bytes at offset. Returns 0, -ENODATA at an early EOF, or -errno. */
int fdio_pread_all(int fd, void *buf, size_t len, uint64_t offset);

/*
 * Reads up to len bytes from a pipe or socket, until len or EOF. Returns the bytes read
 * or -errno. Blocks if fd blocks.
 */
ssize_t fdio_read(int fd, void *buf, size_t len);

/* Writes all of buf. Returns 0 or -errno. Blocks if fd blocks. */
int fdio_write_all(int fd, const void *buf, size_t len);

/* Writes all of buf at offset. Returns 0 or -errno. */
int fdio_pwrite_all(int fd, const void *buf, size_t len, uint64_t offset);

/*
 * Adds 1 to an eventfd. The write fails only if the counter is full, and then the reader
 * has been woken already.
 */
void fdio_event_signal(int eventfd);

/*
 * Opens a regular file, or takes it from the store (fdstore.h). With O_DIRECTORY left out
 * of flags and allow_block set, it also opens a block device. Never blocks and never
 * creates a file. Refuses a FIFO, socket, directory or character device by name. Returns
 * the fd (O_CLOEXEC, owned by the caller) and sets *ret_size to its size in bytes; or
 * -errno with e set: "open 'PATH': reason".
 */
int fdio_open_file(const char *path, int flags, bool allow_block, uint64_t *ret_size, struct err *e);

/*
 * For a caller that finds a file in use. When a process dies, a kernel worker releases
 * the files of its io_uring, and their locks, up to 200 ms later. Sleeps a few
 * milliseconds and returns true. Returns false after FDIO_LINGER_MS in all; *tries
 * counts, from 0.
 */
#define FDIO_LINGER_MS 500
bool fdio_linger(unsigned *tries);

/*
 * Sends a packet on a Unix socket (SOCK_SEQPACKET) with copies of up to FDIO_FDS_MAX
 * descriptors. The caller keeps its own. flags: of sendmsg(2). Returns 0 or -errno.
 */
int fdio_send_packet(int fd, const struct iovec *iov, unsigned num, const int *fds, unsigned num_fds, int flags);

/*
 * Receives the next packet and its descriptors, which the caller owns and which have
 * O_CLOEXEC. *num_fds is the room in fds, and on return the number of descriptors.
 * Returns the packet's length, or 0 on EOF. Returns -errno, without descriptors: -EMFILE
 * if this process may not have more of them, or if fds is too small; -EMSGSIZE if the
 * packet is longer than iov.
 */
ssize_t fdio_receive_packet(int fd, struct iovec *iov, unsigned num, int *fds, unsigned *num_fds);

#endif
