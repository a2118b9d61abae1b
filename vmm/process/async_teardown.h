/* Takes the cost of tearing a VM down off the caller's clock. */
#ifndef MF_PROCESS_ASYNC_TEARDOWN_H
#define MF_PROCESS_ASYNC_TEARDOWN_H

struct err;

/* Makes what async_teardown_start needs: that can then be called by a thread that may not make it. Returns 0 or -errno with e set. */
int async_teardown_prepare(struct err *e);

/*
 * Closes all files, stderr and the log too, and starts a process that shares this one's memory and ends when this one
 * does: the kernel then frees the VM and guest RAM in that process, after the caller of mayfly has its exit status. A
 * failure costs only time. Last thing before exit; main thread. Without async_teardown_prepare, does nothing.
 */
void async_teardown_start(void);

#endif
