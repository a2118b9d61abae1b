/* What mayfly does when it crashes itself: restore the terminal, say one line, die of the signal. */
#ifndef MF_VMM_CRASH_H
#define MF_VMM_CRASH_H

struct err;

/* Installs the handlers of SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGABRT. Before threads are made. */
int crash_setup(struct err *e);

#endif
