/*
 * Takes the cost of tearing a VM down off the caller's clock.
 *
 * When a process ends, the kernel unmaps its memory and closes its files before it tells the parent. For a VM that means
 * waiting for grace periods of RCU (its MMU notifier, its I/O bus: 15 ms on some kernels) and freeing guest RAM. A
 * second process that shares the memory (CLONE_VM) and has a copy of the file table holds both a moment longer; it
 * ends when its parent has ended, which the end of a pipe tells, and pays instead.
 *
 * The copies of stdin, stdout, stderr and the log are closed at once, or who reads our output would wait for the second
 * process.
 */
#include "vmm/reaper.h"

#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define REAPER_STACK_SIZE (16 * KIB)

static uint8_t stack[REAPER_STACK_SIZE] __attribute__((aligned(16)));
static int alive[2] = { -1, -1 }; /* a pipe: the main process has the only end to write to */

int reaper_prepare(struct err *e)
{
	return pipe2(alive, O_CLOEXEC) < 0 ? err_sys(e, "make a pipe") : 0;
}

/* Runs with the parent's memory and its seccomp filter: system calls only, which touch no more than errno. */
static int reaper(void *arg)
{
	char byte;

	(void)arg;
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		close(fd);
	close(log_fd());
	close(alive[1]);
	(void)!read(alive[0], &byte, 1); /* nothing comes but the end */
	_exit(0);
}

void reaper_start(void)
{
	/* No exit signal: nobody waits for it, its new parent least of all. */
	if (alive[0] >= 0)
		(void)clone(reaper, stack + sizeof(stack), CLONE_VM, NULL);
}
