/*
 * client CLOCK SOCKET|- TIMES METHOD TARGET BODY [COMMAND...]: sends a request to the API on SOCKET, TIMES times on one
 * connection, each 1 ms after the answer to the one before. CLOCK is that of the trace: tsc or mono.
 *
 * With COMMAND, a monitor, it starts that, waits for the socket, and ends it by SIGTERM 80 ms, or $PERF_LIFE_MS,
 * after the last answer.
 * Without a SOCKET ("-") it sends nothing. It prints about when COMMAND was executed, or 0, and for each request its
 * beginning and its end. Its status is 0 if each answer was 2xx, and COMMAND still ran. It is of few instructions, since
 * they count.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define RETRY_NS 200000L
#define RETRIES 20000
#define PAUSE_NS 1000000L
#define LIFE_NS 80000000L
#define TIMES_MAX 10000
#define ANSWER_SECONDS_MAX 20
#define FIRST_ARG 7 /* of COMMAND */

static uint64_t times[2 * TIMES_MAX + 1];
static int by_tsc;

static uint64_t now(void)
{
	struct timespec t;

	if (by_tsc)
		return __rdtsc();
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void pause_ns(long ns)
{
	(void)nanosleep(&(struct timespec){ .tv_nsec = ns }, NULL); /* nothing interrupts it */
}

static int reach(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), tries = RETRIES;
	struct timeval limit = { .tv_sec = ANSWER_SECONDS_MAX };

	if (fd < 0 || strlen(path) >= sizeof(address.sun_path))
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0)
		return -1;
	strcpy(address.sun_path, path);
	while (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		if (!tries--)
			return -1;
		pause_ns(RETRY_NS);
	}
	return fd;
}

static int ask(int fd, const char *text, size_t size)
{
	char answer[8192]; /* an answer comes in one piece, and has to fit */
	ssize_t n;

	if (write(fd, text, size) != (ssize_t)size)
		return -1;
	n = read(fd, answer, sizeof(answer) - 1);
	answer[n > 0 ? n : 0] = '\0';
	if (!strncmp(answer, "HTTP/1.1 2", 10))
		return 0;
	fprintf(stderr, "%s\n", answer);
	return -1;
}

static int ask_times(const char *path, int count, char **request)
{
	char text[4096];
	int fd, n = snprintf(text, sizeof(text),
			     "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
			     "Content-Length: %zu\r\n\r\n%s",
			     request[0], request[1], strlen(request[2]), request[2]);

	if (n >= (int)sizeof(text))
		return -1;
	fd = reach(path);
	if (fd < 0)
		return -1;
	for (int i = 0; i < count; i++) {
		if (i > 0)
			pause_ns(PAUSE_NS);
		times[2 * i + 1] = now();
		if (ask(fd, text, (size_t)n) < 0)
			return -1;
		times[2 * i + 2] = now();
	}
	return 0;
}

static int end(pid_t pid)
{
	const char *life = getenv("PERF_LIFE_MS");
	int status;

	pause_ns(life ? atol(life) * 1000000L : LIFE_NS);
	return waitpid(pid, &status, WNOHANG) != 0 || kill(pid, SIGTERM) < 0 || waitpid(pid, &status, 0) < 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
	int count = argc >= FIRST_ARG ? atoi(argv[3]) : -1, r = 0;
	pid_t pid = 0;

	if (count < 0 || count > TIMES_MAX)
		return 2;
	by_tsc = !strcmp(argv[1], "tsc");
	if (argc > FIRST_ARG) {
		(void)unlink(argv[2]); /* of the run before */
		pid = vfork();
		if (pid == 0) {
			(void)dup2(2, 1); /* what it says is no result */
			execv(argv[FIRST_ARG], argv + FIRST_ARG);
			_exit(127);
		}
		if (pid < 0)
			return 1;
		times[0] = now();
	}
	if (strcmp(argv[2], "-") != 0)
		r = ask_times(argv[2], count, argv + 4);
	if (pid > 0 && end(pid) < 0)
		r = -1;
	printf("%llu\n", (unsigned long long)times[0]);
	for (int i = 0; i < count; i++)
		printf("%llu %llu\n", (unsigned long long)times[2 * i + 1], (unsigned long long)times[2 * i + 2]);
	return r < 0;
}
