/*
 * Takes the cost of tearing a VM down off the caller's clock.
 *
 * When a process ends, the kernel unmaps its memory and closes its files before it
 * notifies the parent. For a VM that means waiting for RCU grace periods (its MMU
 * notifier, its I/O bus: 15 ms on some kernels) and freeing guest RAM. A second process
 * that shares the memory (CLONE_VM) keeps both alive a moment longer and pays that cost.
 * EOF on a pipe tells it that its parent has ended; then it ends, too.
 *
 * The second process holds no file but that pipe. All files are closed first: otherwise a
 * reader that waits for EOF on our output, or on any other file of ours, would wait for
 * it. KVM's files live on through the vCPUs' memory, which stays mapped.
 */
#include "vmm/process/async_teardown.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/process/ending.h"

#define REAPER_STACK_SIZE (16 * KIB)

static uint8_t stack[REAPER_STACK_SIZE] __attribute__((aligned(16)));
static int alive[2] = { -1, -1 }; /* a pipe: only the main process has the write end */

int async_teardown_prepare(struct err *e)
{
	return pipe2(alive, O_CLOEXEC) < 0 ? err_sys(e, "make a pipe") : 0;
}

/*
 * Runs with the parent's memory and its seccomp filter: it makes system calls only, which
 * touch no more than errno.
 */
static int cleanup(void *arg)
{
	char byte;

	(void)arg;
	close(alive[1]);
	(void)!read(alive[0], &byte, 1); /* returns at EOF only */
	_exit(0);
}

/*
 * Closes all files but the pipe. Its read end [0] was made first, so it has the lower
 * number. An empty range fails, and that does not matter.
 */
static void close_files(void)
{
	(void)close_range(0, (unsigned)alive[0] - 1, 0);
	(void)close_range((unsigned)alive[0] + 1, (unsigned)alive[1] - 1, 0);
	(void)close_range((unsigned)alive[1] + 1, UINT_MAX, 0);
}

void async_teardown_start(void)
{
#ifdef MF_SANITIZED
	return; /* its report of leaks is still to be written */
#endif
	if (alive[0] < 0)
		return;
	(void)fflush(stdout); /* on failure the data would be lost at exit as well */
	close_files();
	ending_over(); /* the terminal's signals reach it, too */
	/* No exit signal: no process waits for it. */
	(void)clone(cleanup, stack + sizeof(stack), CLONE_VM, NULL);
}
