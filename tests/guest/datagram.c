/*
 * UDP in a Linux guest, whose busybox has none; a static binary.
 *
 *	datagram serve PORT		answers each datagram to PORT with "answered"
 *	datagram ask ADDRESS PORT	sends one up to 5 times, and prints the answer, the error, or "no answer"
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LIFE_S 200 /* nothing is left of a test that has failed */
#define TRIES 5

static int serve(const struct sockaddr_in6 *at)
{
	static const char answer[] = "answered\n";
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = at->sin6_port }, peer;
	char got[2048];

	if (fd < 0 || bind(fd, (const struct sockaddr *)&any, sizeof(any)) < 0)
		return 1;
	for (;;) {
		socklen_t len = sizeof(peer);

		if (recvfrom(fd, got, sizeof(got), 0, (struct sockaddr *)&peer, &len) >= 0)
			(void)sendto(fd, answer, strlen(answer), 0, (const struct sockaddr *)&peer, len);
	}
}

static int ask(const char *address, const struct sockaddr_in6 *at)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = at->sin6_port };
	struct sockaddr_in6 in6 = *at;
	int v4 = inet_pton(AF_INET, address, &in.sin_addr) == 1;
	int fd = socket(v4 ? AF_INET : AF_INET6, SOCK_DGRAM, 0);
	char got[2048];

	if ((!v4 && inet_pton(AF_INET6, address, &in6.sin6_addr) != 1) || fd < 0 ||
	    connect(fd, v4 ? (const void *)&in : (const void *)&in6, v4 ? sizeof(in) : sizeof(in6)) < 0) {
		puts(strerror(errno));
		return 0;
	}
	for (int i = 0; i < TRIES; i++) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n = send(fd, "x\n", 2, 0);

		if (n >= 0 && poll(&p, 1, 2000) == 0)
			continue;
		if (n >= 0)
			n = recv(fd, got, sizeof(got), 0);
		if (n < 0)
			puts(strerror(errno));
		else
			fwrite(got, 1, (size_t)n, stdout);
		return 0;
	}
	puts("no answer");
	return 0;
}

int main(int argc, char **argv)
{
	struct sockaddr_in6 at = { .sin6_family = AF_INET6 };

	alarm(LIFE_S);
	setvbuf(stdout, NULL, _IONBF, 0);
	if (argc < 3)
		return 1;
	at.sin6_port = htons((uint16_t)strtoul(argv[argc - 1], NULL, 10));
	return strcmp(argv[1], "serve") ? ask(argv[2], &at) : serve(&at);
}
