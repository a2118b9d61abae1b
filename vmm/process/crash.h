/*
 * What mayfly does when it crashes, or when a thread makes a system call that its filter
 * forbids.
 */
#ifndef MF_PROCESS_CRASH_H
#define MF_PROCESS_CRASH_H

#include <signal.h>

struct err;

#define CRASH_STACKS 48U /* threads that can have a signal stack; see crash_thread */

/* The signal by which a thread reports its crash to the main thread. */
#define CRASH_SIGNAL (SIGRTMIN + 1)

/*
 * Installs the handlers of SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS and
 * CRASH_SIGNAL. From then on such a signal, on any thread, restores the terminal, prints
 * one line on stderr, and ends mayfly: by that signal, or for a forbidden system call
 * with STATUS_SECCOMP. Main thread, before other threads are made.
 */
int crash_setup(struct err *e);

/*
 * For each thread, before it is confined: unblocks the signals and gives the handlers a
 * stack of their own, so that a stack overflow can be reported.
 */
void crash_thread(void);

#endif
