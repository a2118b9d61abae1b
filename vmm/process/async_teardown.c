/*
 * Takes the cost of tearing a VM down off the caller's clock.
 *
 * When a process ends, the kernel unmaps its memory and closes its files before it tells the parent. For a VM that means
 * waiting for grace periods of RCU (its MMU notifier, its I/O bus: 15 ms on some kernels) and freeing guest RAM. A
 * second process that shares the memory (CLONE_VM) holds both a moment longer; it ends when its parent has ended, which the
 * end of a pipe tells, and pays instead.
 *
 * It holds no file but that pipe. What the parent has left is closed before, or who waits for the end of our output, or
 * for any other file of ours, would wait for the second process. KVM's files live on by the vCPUs' memory, which is mapped.
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
static int alive[2] = { -1, -1 }; /* a pipe: the main process has the only end to write to */

int async_teardown_prepare(struct err *e)
{
	return pipe2(alive, O_CLOEXEC) < 0 ? err_sys(e, "make a pipe") : 0;
}

/* Runs with the parent's memory and its seccomp filter: system calls only, which touch no more than errno. */
static int cleanup(void *arg)
{
	char byte;

	(void)arg;
	close(alive[1]);
	(void)!read(alive[0], &byte, 1); /* nothing comes but the end */
	_exit(0);
}

/* All files but the pipe, of which [0] was made first, so has the lower number. No range is no error that matters. */
static void close_files(void)
{
	(void)close_range(0, (unsigned)alive[0] - 1, 0);
	(void)close_range((unsigned)alive[0] + 1, (unsigned)alive[1] - 1, 0);
	(void)close_range((unsigned)alive[1] + 1, UINT_MAX, 0);
}

void async_teardown_start(void)
{
#ifdef MF_SANITIZED
	return; /* what it has to say of leaks is still to be written */
#endif
	if (alive[0] < 0)
		return;
	(void)fflush(stdout); /* what could not be written is as lost at exit */
	close_files();
	ending_over(); /* signals of the terminal reach it, too */
	/* No exit signal: nobody waits for it, its new parent least of all. */
	(void)clone(cleanup, stack + sizeof(stack), CLONE_VM, NULL);
}
