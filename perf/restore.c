/*
 * restore SOCKET|- BODY COMMAND...: starts COMMAND, a monitor that restores a snapshot, and ends it by SIGTERM 80 ms later. With a
 * SOCKET it waits for the monitor's API there and sends BODY as PUT /snapshot/load: a client of few instructions, since
 * they count. Its status is 0 if the API has answered 2xx, or there was none to ask and COMMAND still ran.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RETRY_NS 200000L
#define RETRIES 20000
#define LIFE_NS 80000000L

static void pause_ns(long ns)
{
	(void)nanosleep(&(struct timespec){ .tv_nsec = ns }, NULL); /* nothing interrupts it */
}

static int load(const char *path, const char *body)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), tries = RETRIES;
	char text[4096];
	ssize_t n;

	if (fd < 0 || strlen(path) >= sizeof(address.sun_path))
		return -1;
	strcpy(address.sun_path, path);
	while (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		if (!tries--)
			return -1;
		pause_ns(RETRY_NS);
	}
	n = snprintf(text, sizeof(text),
		     "PUT /snapshot/load HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
		     "Content-Length: %zu\r\n\r\n%s",
		     strlen(body), body);
	if (n >= (ssize_t)sizeof(text) || write(fd, text, (size_t)n) != n)
		return -1;
	n = read(fd, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	if (!strncmp(text, "HTTP/1.1 2", 10))
		return 0;
	fprintf(stderr, "%s\n", text);
	return -1;
}

int main(int argc, char **argv)
{
	int r = 0, status;
	pid_t pid;

	if (argc < 4)
		return 2;
	(void)unlink(argv[1]); /* of the run before */
	pid = vfork();
	if (pid == 0) {
		execv(argv[3], argv + 3);
		_exit(127);
	}
	if (pid > 0 && strcmp(argv[1], "-") != 0)
		r = load(argv[1], argv[2]);
	pause_ns(LIFE_NS);
	if (pid < 0 || waitpid(pid, &status, WNOHANG) != 0 || kill(pid, SIGTERM) < 0 || waitpid(pid, &status, 0) < 0)
		return 1;
	return r < 0;
}
