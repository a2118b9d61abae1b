/* Signals that a loop takes from a descriptor. */
#ifndef MF_BASE_SIGNALS_H
#define MF_BASE_SIGNALS_H

#include <signal.h>
#include <stddef.h>

/*
 * Blocks these signals in this thread, and returns a non-blocking signalfd(2) of them, which is the caller's, or -errno. Those
 * that nohup(1), or a shell, has had ignored for this process stay so: a blocked one would not be. ret_old (or NULL) gets the
 * mask of before. Before there is another thread.
 */
int signals_open(const int *signals, size_t num, sigset_t *ret_old);

#endif
