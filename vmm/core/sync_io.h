/*
 * The system calls of engine_sync.c: sorts files by how to use them without blocking the
 * loop, and performs one operation on one of them. On any thread.
 */
#ifndef MF_CORE_SYNC_IO_H
#define MF_CORE_SYNC_IO_H

#include <stdbool.h>

#include "vmm/core/loop.h"

/*
 * A file, examined once:
 *
 *	SYNC_DISK      a regular file or block device: an operation blocks for as long as the disk takes
 *	SYNC_SOCKET    tried with MSG_DONTWAIT
 *	SYNC_NONBLOCK  has O_NONBLOCK: a tap; or a terminal or pipe, reopened with it
 *	SYNC_BLOCKING  must be polled first: eventfds, and terminals and pipes that cannot be
 *	               reopened. These get no more at once than they take without blocking
 *
 * Other processes share the standard streams and do not expect O_NONBLOCK on them. A poll
 * alone is not enough: a terminal with room for one byte polls writable and blocks on
 * two. So such a file is reopened through /proc, which gives a file description of our
 * own.
 */
struct sync_file {
	int fd;
	enum { SYNC_DISK, SYNC_SOCKET, SYNC_NONBLOCK, SYNC_BLOCKING } kind;
	bool own;	    /* reopened; the caller of sync_file_of closes it */
	unsigned write_max; /* of SYNC_BLOCKING: bytes at once; 0: no limit */
};

struct sync_file sync_file_of(int fd);

/*
 * Reads, writes, syncs or allocates. On SYNC_DISK it waits for the disk; on other files
 * it moves what is available or fits. Returns bytes or 0, or -errno: -EAGAIN if it would
 * have had to wait.
 */
int sync_io(const struct sync_file *file, const struct op *op);

#endif
