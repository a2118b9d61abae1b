/*
 * Takes the cost of tearing a VM down off the caller's clock.
 *
 * When a process ends, the kernel unmaps its memory and closes its files before it tells the parent. For a VM that means
 * waiting for grace periods of RCU (its MMU notifier, its I/O bus: 15 ms on some kernels) and freeing guest RAM. A
 * second process that shares the memory (CLONE_VM) and has a copy of the file table holds both a moment longer; it
 * ends by SIGKILL when its parent has ended (PR_SET_PDEATHSIG) and pays instead.
 *
 * The copies of stdin, stdout and stderr are closed at once, or who reads our output would wait for the second process.
 */
#include "vmm/reaper.h"

#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "vmm/base/util.h"

#define REAPER_STACK_SIZE (16 * KIB)

/* Runs with the parent's memory: system calls only, through libc's wrappers, which touch no more than errno. */
static int reaper(void *arg)
{
	pid_t parent = (pid_t)(intptr_t)arg;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		close(fd);
	prctl(PR_SET_NAME, "mayfly-reaper");
	while (getppid() == parent) /* else it ended before PR_SET_PDEATHSIG */
		pause();
	return 0;
}

void reaper_start(void)
{
	uint8_t *stack = mmap(NULL, REAPER_STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK,
			      -1, 0);

	if (stack == MAP_FAILED)
		return;
	/* No exit signal: nobody waits for it, its new parent least of all. */
	(void)clone(reaper, stack + REAPER_STACK_SIZE, CLONE_VM, (void *)(intptr_t)getpid());
}
