/*
 * run N COMMAND ARG...: runs COMMAND N times, one after the other, its streams on /dev/null. An instruction that has no
 * effect, but that perf/plugin.c looks for, marks the start and the end of each.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define QUIET_US 500000 /* between two runs, for what the last one has left to do */

#define MARK(n) __asm__ volatile(".byte 0x0f, 0x1f, 0x84, 0x00; .long 0x4d594600 + " #n ::: "memory")

static void child(char **command)
{
	int null = open("/dev/null", O_RDWR);

	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0)
		_exit(127);
	MARK(1);
	execv(command[0], command);
	_exit(127);
}

int main(int argc, char **argv)
{
	int runs = argc > 2 ? atoi(argv[1]) : 0, status;

	for (int i = 0; i < runs; i++) {
		pid_t pid;

		usleep(QUIET_US);
		pid = fork();
		if (pid == 0)
			child(argv + 2);
		if (pid < 0 || waitpid(pid, &status, 0) < 0)
			return 1;
		MARK(2);
		if (status) {
			fprintf(stderr, "run: %s ended with wait status %#x\n", argv[2], (unsigned)status);
			return 1;
		}
	}
	return runs > 0 ? 0 : 2;
}
