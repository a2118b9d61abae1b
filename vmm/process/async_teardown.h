/* Takes the cost of tearing a VM down off the caller's clock. */
#ifndef MF_PROCESS_ASYNC_TEARDOWN_H
#define MF_PROCESS_ASYNC_TEARDOWN_H

struct err;

/*
 * Makes the resources of async_teardown_start, so that a thread that may not make them
 * can call it. Returns 0 or -errno with e set.
 */
int async_teardown_prepare(struct err *e);

/*
 * Closes all files, stderr and the log too, and starts a process that shares this one's
 * memory and ends when this one does. The kernel then frees the VM and guest RAM in that
 * process, after mayfly's caller has its exit status. A failure costs only time. Call
 * last before exit, on the main thread. Does nothing without async_teardown_prepare.
 */
void async_teardown_start(void);

#endif
