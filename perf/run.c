/*
 * run N SOCKET|- COMMAND ARG...: runs COMMAND N times, one after the other, its streams on /dev/null. An instruction that
 * has no effect, but that perf/plugin.c looks for, marks the start and the end of each. With a SOCKET, where COMMAND
 * serves an API, the end is that of the answer to GET /, and then a SIGTERM ends COMMAND.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define QUIET_US 500000 /* between two runs, for what the last one has left to do */

#define RETRY_US 200
#define RETRIES 20000

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

static int ask(const char *path)
{
	static const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), tries = RETRIES;
	char answer[4096] = "";
	ssize_t n;

	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	while (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		if (!tries--)
			return -1;
		usleep(RETRY_US);
	}
	n = write(fd, request, sizeof(request) - 1);
	if (n > 0)
		n = read(fd, answer, sizeof(answer) - 1);
	close(fd);
	return strncmp(answer, "HTTP/1.1 200", 12) ? -1 : 0;
}

static int run(const char *path, char **command)
{
	bool asks = strcmp(path, "-") != 0;
	int status, answered = 0;
	pid_t pid;

	(void)unlink(path); /* of the run before */
	usleep(QUIET_US);
	pid = fork();
	if (pid == 0)
		child(command);
	if (pid < 0)
		return -1;
	if (asks) {
		answered = ask(path);
		MARK(2);
		kill(pid, SIGTERM);
	}
	if (waitpid(pid, &status, 0) < 0)
		return -1;
	if (asks)
		return answered;
	MARK(2);
	if (status)
		fprintf(stderr, "run: %s ended with wait status %#x\n", command[0], (unsigned)status);
	return status ? -1 : 0;
}

int main(int argc, char **argv)
{
	int runs = argc > 3 ? atoi(argv[1]) : 0;

	for (int i = 0; i < runs; i++)
		if (run(argv[2], argv + 3) < 0)
			return 1;
	return runs > 0 ? 0 : 2;
}
