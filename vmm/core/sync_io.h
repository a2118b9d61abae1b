/*
 * What the system calls of engine_sync.c do: files by how they may be used without blocking the loop, and one operation on
 * one of them. On any thread.
 */
#ifndef MF_CORE_SYNC_IO_H
#define MF_CORE_SYNC_IO_H

#include <stdbool.h>

#include "vmm/core/loop.h"

/*
 * A file, looked at once:
 *
 *	SYNC_DISK      a regular file or block device: an operation blocks for as long as the disk takes
 *	SYNC_SOCKET    tried with MSG_DONTWAIT
 *	SYNC_NONBLOCK  has O_NONBLOCK: a tap; or a terminal or pipe, opened anew with it
 *	SYNC_BLOCKING  must be polled first: eventfds; terminals and pipes that cannot be opened anew, which get no more at
 *	               once than they take without blocking
 *
 * Standard streams are shared with other processes, who would be surprised by O_NONBLOCK; and poll alone does not do: a
 * terminal with room for one byte polls writable and blocks on two. So such a file is opened again, through /proc, which
 * gives a description of our own.
 */
struct sync_file {
	int fd;
	enum { SYNC_DISK, SYNC_SOCKET, SYNC_NONBLOCK, SYNC_BLOCKING } kind;
	bool own;	    /* opened anew; whoever called sync_file_of closes it */
	unsigned write_max; /* of SYNC_BLOCKING: bytes at once, or 0: any number */
};

struct sync_file sync_file_of(int fd);

/*
 * Reads, writes, syncs or allocates. On SYNC_DISK it waits for the disk; otherwise it moves what is there or what there is
 * room for. Returns bytes or 0, or -errno: -EAGAIN if it would have had to wait.
 */
int sync_io(const struct sync_file *file, const struct op *op);

#endif
