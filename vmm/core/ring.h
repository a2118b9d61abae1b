/* The io_uring of a loop: set-up and restrictions. */
#ifndef MF_CORE_RING_H
#define MF_CORE_RING_H

#include "vmm/core/loop.h"

struct err;
struct io_uring;

/*
 * Makes a disabled ring. Once its owner thread enables it, it performs the operations of
 * its kind and no others. The files, by their index, are not for LOOP_SOCKETS. Returns 0
 * or -errno with e set, which names the cause if io_uring is switched off; on failure
 * there is nothing to undo.
 */
int ring_make(struct io_uring *ring, const char *name, enum loop_kind kind, unsigned entries, const int *files,
	      unsigned num_files, struct err *e);

#endif
