/* What mayfly does when it crashes itself, or a thread of it asks the kernel for what its filter forbids. */
#ifndef MF_PROCESS_CRASH_H
#define MF_PROCESS_CRASH_H

#include <signal.h>

struct err;

#define CRASH_STACKS 48U /* threads that can have one; see crash_thread */

/* By which a thread tells the main thread that it has crashed. */
#define CRASH_SIGNAL (SIGRTMIN + 1)

/*
 * Installs the handlers of SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS and CRASH_SIGNAL. From then on such a
 * signal, on any thread, restores the terminal, says one line on stderr, and ends mayfly: by that signal, or for a
 * forbidden system call with STATUS_SECCOMP. Main thread, before others are made.
 */
int crash_setup(struct err *e);

/*
 * For each thread, before it is confined: the signals reach it, and the handlers have a stack of their own there, so that
 * it can say when it has used up its own.
 */
void crash_thread(void);

#endif
