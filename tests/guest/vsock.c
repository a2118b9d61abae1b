/*
 * Both ends of the tests of vsock, in the guest and on the host; a static binary.
 *
 *	vsock pipe ADDRESS		connects; stdin to the peer, the peer to stdout; the end of one ends that direction
 *	vsock serve ADDRESS		the same with the first who connects
 *	vsock echo ADDRESS N		sends back what each of N clients sends, until it has sent all
 *	vsock storm ADDRESS N [HOLD]	N connections at once, a message echoed on each; says how many were, and were refused;
 *					with HOLD, prints "held" and keeps them until the end of stdin
 *	vsock stall ADDRESS		connects, and writes until nothing more is taken for 2 s; says how many bytes; then
 *					waits for the end of stdin
 *
 * ADDRESS is vsock:PORT (of the host, or to listen on), unix:PATH, or hybrid:PATH:PORT: a Unix socket, and CONNECT PORT.
 * The status is 0, or 1 and a line on stderr.
 */
#include <errno.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define CONNS_MAX 1500
#define CHUNK 65536
#define LIFE_S 200 /* then it ends, whatever it waits for: nothing is left of a test that has failed */

static void die(const char *what)
{
	fprintf(stderr, "vsock: %s: %s\n", what, strerror(errno));
	exit(1);
}

struct address {
	union {
		struct sockaddr any;
		struct sockaddr_vm vm;
		struct sockaddr_un un;
	};
	socklen_t len;
	unsigned hybrid_port; /* or 0 */
};

static struct address parse(char *text, bool listen)
{
	struct address a = { .hybrid_port = 0 };
	char *value = strchr(text, ':'), *port;

	if (!value) {
		errno = EINVAL;
		die(text);
	}
	*value++ = '\0';
	if (!strcmp(text, "vsock")) {
		a.vm = (struct sockaddr_vm){
			.svm_family = AF_VSOCK,
			.svm_port = (unsigned)strtoul(value, NULL, 10),
			.svm_cid = listen ? VMADDR_CID_ANY : VMADDR_CID_HOST,
		};
		a.len = sizeof(a.vm);
		return a;
	}
	if (!strcmp(text, "hybrid")) {
		port = strrchr(value, ':');
		*port++ = '\0';
		a.hybrid_port = (unsigned)strtoul(port, NULL, 10);
	}
	a.un = (struct sockaddr_un){ .sun_family = AF_UNIX };
	strncpy(a.un.sun_path, value, sizeof(a.un.sun_path) - 1);
	a.len = sizeof(a.un);
	return a;
}

/* Returns the connected socket, or -1 with errno set. */
static int try_connect(const struct address *a)
{
	int fd = socket(a->any.sa_family, SOCK_STREAM, 0);
	char line[40], byte = 0;
	int len;

	if (fd < 0)
		die("socket");
	if (connect(fd, &a->any, a->len) < 0)
		goto fail;
	if (!a->hybrid_port)
		return fd;
	len = snprintf(line, sizeof(line), "CONNECT %u\n", a->hybrid_port);
	if (write(fd, line, (size_t)len) != len)
		goto fail;
	errno = ECONNREFUSED;
	for (len = 0; byte != '\n'; line[len++] = byte)
		if (len == sizeof(line) || read(fd, &byte, 1) != 1)
			goto fail;
	if (!strncmp(line, "OK ", 3))
		return fd;
fail:
	close(fd);
	return -1;
}

static int must_connect(const struct address *a)
{
	int fd = try_connect(a);

	if (fd < 0)
		die("connect");
	return fd;
}

static int must_listen(const struct address *a)
{
	int fd = socket(a->any.sa_family, SOCK_STREAM, 0);

	if (a->any.sa_family == AF_UNIX)
		unlink(a->un.sun_path);
	if (fd < 0 || bind(fd, &a->any, a->len) < 0 || listen(fd, CONNS_MAX) < 0)
		die("listen");
	return fd;
}

static int must_accept(int listener)
{
	int fd = accept(listener, NULL, NULL);

	if (fd < 0)
		die("accept");
	return fd;
}

static void write_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);

		if (n < 0)
			die("write");
		data += n;
		len -= (size_t)n;
	}
}

/* Copies both ways, by two processes. */
static int pipe_both(int fd)
{
	static char buf[CHUNK];
	pid_t child = fork();
	int status;
	ssize_t n;

	if (child < 0)
		die("fork");
	if (child == 0) {
		alarm(LIFE_S);
		close(STDOUT_FILENO);
		while ((n = read(STDIN_FILENO, buf, sizeof(buf))) > 0)
			write_all(fd, buf, (size_t)n);
		shutdown(fd, SHUT_WR);
		_exit(0);
	}
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		write_all(STDOUT_FILENO, buf, (size_t)n);
	if (n < 0)
		die("read");
	close(STDOUT_FILENO); /* who reads it may have to see its end before it writes to our stdin */
	return waitpid(child, &status, 0) == child && status == 0 ? 0 : 1;
}

/* One process for all, so that it serves a thousand; echoes are short enough for the sockets' buffers. */
static int echo(int listener, unsigned total)
{
	static struct pollfd p[CONNS_MAX + 1];
	static char buf[CHUNK];
	unsigned num = 1, done = 0;

	p[0] = (struct pollfd){ .fd = listener, .events = POLLIN };
	puts("listening");
	fflush(stdout);
	while (done < total) {
		if (poll(p, num, -1) < 0)
			die("poll");
		for (unsigned i = num - 1; i > 0; i--) {
			ssize_t n;

			if (!p[i].revents)
				continue;
			n = read(p[i].fd, buf, sizeof(buf));
			if (n > 0) {
				write_all(p[i].fd, buf, (size_t)n);
				continue;
			}
			close(p[i].fd);
			p[i] = p[--num];
			done++;
		}
		if (p[0].revents && num <= CONNS_MAX)
			p[num++] = (struct pollfd){ .fd = must_accept(listener), .events = POLLIN };
	}
	return 0;
}

static int storm(const struct address *a, unsigned num, bool hold)
{
	static int fd[CONNS_MAX];
	unsigned refused = 0, echoed = 0;
	char text[32], back[32], byte;

	for (unsigned i = 0; i < num; i++) {
		fd[i] = try_connect(a);
		refused += fd[i] < 0;
	}
	for (unsigned i = 0; i < num; i++)
		if (fd[i] >= 0)
			write_all(fd[i], text, (size_t)snprintf(text, sizeof(text), "message %08u", i));
	for (unsigned i = 0; i < num; i++) {
		int len = snprintf(text, sizeof(text), "message %08u", i);

		echoed += fd[i] >= 0 && recv(fd[i], back, (size_t)len, MSG_WAITALL) == len &&
			  !memcmp(text, back, (size_t)len);
	}
	printf("storm: %u echoed, %u refused\n", echoed, refused);
	if (hold) {
		puts("held");
		fflush(stdout);
		while (read(STDIN_FILENO, &byte, 1) > 0)
			;
	}
	return 0;
}

static int stall(int fd)
{
	static char buf[CHUNK];
	struct timeval limit = { .tv_sec = 2 };
	unsigned long total = 0;
	ssize_t n;
	char byte;

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	while ((n = write(fd, buf, sizeof(buf))) > 0)
		total += (unsigned long)n;
	printf("stalled after %lu bytes\n", total);
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	return 0;
}

int main(int argc, char **argv)
{
	struct rlimit files = { CONNS_MAX + 100, CONNS_MAX + 100 };
	const char *what = argc > 2 ? argv[1] : "";
	bool listens = !strcmp(what, "serve") || !strcmp(what, "echo");
	unsigned num = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;
	struct address a;

	signal(SIGPIPE, SIG_IGN);
	alarm(LIFE_S);
	setrlimit(RLIMIT_NOFILE, &files);
	if (argc < 3 || num > CONNS_MAX) {
		fputs("usage: vsock pipe|serve|echo|storm|stall ADDRESS [N]\n", stderr);
		return 1;
	}
	a = parse(argv[2], listens);
	if (!strcmp(what, "pipe"))
		return pipe_both(must_connect(&a));
	if (!strcmp(what, "serve"))
		return pipe_both(must_accept(must_listen(&a)));
	if (!strcmp(what, "echo"))
		return echo(must_listen(&a), num);
	if (!strcmp(what, "storm"))
		return storm(&a, num, argc > 4);
	return stall(must_connect(&a));
}
