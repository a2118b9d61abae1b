/* The io_uring of a loop: set-up and restrictions. */
#ifndef MF_CORE_RING_H
#define MF_CORE_RING_H

#include <stdbool.h>

struct err;
struct io_uring;

/*
 * Makes a disabled ring that, once its owner thread enables it, does reads, writes, fsync, fallocate, poll and cancel on
 * files (by their index) and nothing else. Returns 0, or -errno with e set, naming the cause where io_uring is switched off; then
 * there is nothing to undo.
 */
int ring_make(struct io_uring *ring, const char *name, unsigned entries, const int *files, unsigned num_files,
	      bool may_replace, struct err *e);

#endif
