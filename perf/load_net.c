/*
 * The streams of perf/net, both ends. The other end acts by the first 16 bytes of a
 * connection, which give the length of the stream, and by its port, or the last number of
 * its path:
 *
 *	7001	reads it all, and answers with one byte
 *	7002	sends it
 *	7003	sends back what comes
 *
 * One connection at a time: that is all there is.
 */
#include "perf/load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PORT_SINK 7001U
#define PORT_SOURCE 7002U
#define PORT_ECHO 7003U
#define GUEST_ADDRESS 0x0a040002U /* 10.4.0.2 */
#define HOST_ADDRESS 0x0a040001U
#define CHUNK_MAX (1024 * 1024)
#define SERVE_MAX 16
#define WARM_ROUNDS 16

struct hello {
	uint64_t bytes, chunk;
};

static char buf[CHUNK_MAX];

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_vm vm;
	struct sockaddr_un un;
};

static void must(bool good, const char *what)
{
	if (!good)
		load_die(what);
}

static void send_all(int fd, uint64_t left, uint64_t chunk)
{
	while (left > 0) {
		ssize_t n = send(fd, buf, left < chunk ? left : chunk, MSG_NOSIGNAL);

		must(n > 0, "send");
		left -= (uint64_t)n;
	}
}

static void receive_all(int fd, uint64_t left, uint64_t chunk)
{
	while (left > 0) {
		ssize_t n = recv(fd, buf, left < chunk ? left : chunk, 0);

		must(n > 0, "receive");
		left -= (uint64_t)n;
	}
}

/* ---- The guest ---- */

static void bring_up(void)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(GUEST_ADDRESS) };
	struct ifreq r = { .ifr_name = "eth0" };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	memcpy(&r.ifr_addr, &in, sizeof(in));
	must(ioctl(fd, SIOCSIFADDR, &r) == 0, "set the address of eth0");
	in.sin_addr.s_addr = htonl(0xffffff00);
	memcpy(&r.ifr_netmask, &in, sizeof(in));
	must(ioctl(fd, SIOCSIFNETMASK, &r) == 0, "set the netmask of eth0");
	r.ifr_flags = IFF_UP | IFF_RUNNING;
	must(ioctl(fd, SIOCSIFFLAGS, &r) == 0, "bring eth0 up");
	close(fd);
}

static int connect_to(const char *transport, unsigned port)
{
	union address a = { .vm = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port } };
	socklen_t len = sizeof(a.vm);
	int one = 1, fd;

	if (!strcmp(transport, "tcp")) {
		bring_up();
		a.in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
		a.in.sin_addr.s_addr = htonl(HOST_ADDRESS);
		len = sizeof(a.in);
	}
	fd = socket(a.any.sa_family, SOCK_STREAM, 0);
	must(fd >= 0 && connect(fd, &a.any, len) == 0, "connect");
	if (a.any.sa_family == AF_INET)
		must(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0, "TCP_NODELAY");
	return fd;
}

static void echo_rounds(int fd, uint64_t rounds, uint64_t bytes)
{
	for (uint64_t i = 0; i < rounds; i++) {
		send_all(fd, bytes, bytes);
		receive_all(fd, bytes, bytes);
	}
}

void net_job(struct job *job)
{
	bool sends = !strcmp(job->word[1], "send"), echoes = !strcmp(job->word[1], "echo");
	uint64_t chunk = job->num[3];
	struct hello hello = { .bytes = chunk * job->num[4], .chunk = chunk };
	int fd = connect_to(job->word[2], sends ? PORT_SINK : echoes ? PORT_ECHO : PORT_SOURCE);

	errno = EINVAL;
	must(chunk > 0 && chunk <= CHUNK_MAX, "size");
	job->ops = job->num[4];
	if (echoes) {
		echo_rounds(fd, WARM_ROUNDS, chunk);
		load_begin();
		echo_rounds(fd, job->ops, chunk);
	} else {
		load_begin();
		must(send(fd, &hello, sizeof(hello), 0) == sizeof(hello), "send");
		if (sends)
			send_all(fd, hello.bytes, chunk);
		receive_all(fd, sends ? 1 : hello.bytes, sends ? 1 : chunk);
	}
	load_end();
	close(fd);
}

/* ---- The host ---- */

static unsigned listen_at(char *text, struct pollfd *ret)
{
	char *value = strchr(text, ':'), *digits;
	union address a = { .any = { .sa_family = AF_UNSPEC } };
	socklen_t len = sizeof(a.un);
	unsigned port;
	int one = 1;

	errno = EINVAL;
	must(value, text);
	*value++ = '\0';
	digits = value + strlen(value);
	while (digits > value && digits[-1] >= '0' && digits[-1] <= '9')
		digits--;
	port = (unsigned)strtoul(digits, NULL, 10);
	if (!strcmp(text, "tcp")) {
		a.in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
		len = sizeof(a.in);
	} else if (!strcmp(text, "vsock")) {
		a.vm = (struct sockaddr_vm){ .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port };
		len = sizeof(a.vm);
	} else {
		a.un.sun_family = AF_UNIX;
		strncpy(a.un.sun_path, value, sizeof(a.un.sun_path) - 1);
		unlink(value);
	}
	*ret = (struct pollfd){ .fd = socket(a.any.sa_family, SOCK_STREAM, 0), .events = POLLIN };
	must(ret->fd >= 0, "socket");
	(void)setsockopt(ret->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)); /* else bind fails, and says so */
	must(bind(ret->fd, &a.any, len) == 0 && listen(ret->fd, 8) == 0, "listen");
	return port;
}

static void serve_one(int fd, unsigned port)
{
	struct hello hello = { .bytes = 0 };
	int one = 1;
	ssize_t n;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* others than TCP have none */
	if (port == PORT_ECHO) {
		while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
			send_all(fd, (uint64_t)n, (uint64_t)n);
		return;
	}
	n = recv(fd, &hello, sizeof(hello), MSG_WAITALL);
	must(n == sizeof(hello) && hello.chunk > 0 && hello.chunk <= CHUNK_MAX, "hello");
	if (port == PORT_SOURCE) {
		send_all(fd, hello.bytes, hello.chunk);
		return;
	}
	receive_all(fd, hello.bytes, hello.chunk);
	send_all(fd, 1, 1);
}

int net_serve(char **addresses, int num)
{
	struct pollfd p[SERVE_MAX];
	unsigned port[SERVE_MAX];

	errno = E2BIG;
	must(num <= SERVE_MAX, "serve");
	for (int i = 0; i < num; i++)
		port[i] = listen_at(addresses[i], &p[i]);
	puts("serving");
	fflush(stdout);
	for (;;) {
		must(poll(p, (nfds_t)num, -1) > 0, "poll");
		for (int i = 0; i < num; i++) {
			int fd = p[i].revents ? accept(p[i].fd, NULL, NULL) : -1;

			if (fd < 0)
				continue;
			serve_one(fd, port[i]);
			close(fd);
		}
	}
}
