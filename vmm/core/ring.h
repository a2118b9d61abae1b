/* The io_uring of a loop: set-up and restrictions. */
#ifndef MF_CORE_RING_H
#define MF_CORE_RING_H

#include "vmm/core/loop.h"

struct err;
struct io_uring;

/*
 * Makes a disabled ring. Once its owner thread enables it, it performs the operations of
 * its kind and no others. Returns 0 or -errno with e set, which names the cause if
 * io_uring is switched off; on failure there is nothing to undo.
 */
int ring_make(struct io_uring *ring, const char *name, enum loop_kind kind, unsigned entries, struct err *e);

/*
 * Gives a ring, which is still disabled, its files, which it knows by their index. Not for
 * LOOP_SOCKETS. Returns 0 or -errno with e set.
 */
int ring_set_files(struct io_uring *ring, const char *name, const int *files, unsigned num, struct err *e);

/* The engine that LOOP_ENGINE_AUTO comes to here. */
enum loop_engine ring_engine_here(void);

#endif
