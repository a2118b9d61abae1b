/*
 * passt as a child process; see passt.h.
 *
 * It stays in the foreground, so that it is a child: its end is seen (SIGCHLD), and it gets SIGTERM when mayfly ends,
 * however that ends (PR_SET_PDEATHSIG; a passt started by root changes its user and loses that, but it also ends when the
 * other end of its socket is closed). It takes some 20 ms to start, in which the VM is built. Then it writes its process id
 * (--pid) into a pipe, its stdout: by then it has bound all ports, or it has ended, and no guest runs before that is known.
 *
 * What it says goes into a pipe, of which the last line is quoted when it ends by itself. The pipe is non-blocking: of a
 * passt that says more than a pipe holds, the rest is lost, and it continues.
 */
#include "vmm/helper/passt.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/helper/spawn.h"

#define PASST_ARGS_MAX (22 + 2 * CONFIG_FORWARDS_MAX)
#define PASST_SAID_MAX 4096
#define PASST_READY_MS 10000

/* The guest's addresses, if they are given, instead of the host's. Returns how many arguments they are. */
static int put_addresses(const char **argv, const struct config_net *n, char address[INET_ADDRSTRLEN + 4], char mask[4])
{
	int args = 0;
	size_t len;

	if (!n->ip)
		return 0;
	len = strcspn(n->ip, "/"); /* checked: ADDRESS/PREFIX */
	snprintf(address, INET_ADDRSTRLEN + 4, "%.*s", (int)len, n->ip);
	snprintf(mask, 4, "%s", n->ip + len + 1);
	argv[args++] = "--address";
	argv[args++] = address;
	argv[args++] = "--netmask";
	argv[args++] = mask;
	if (n->gateway) {
		argv[args++] = "--gateway";
		argv[args++] = n->gateway;
	}
	if (n->dns) {
		argv[args++] = "--dns-forward";
		argv[args++] = n->dns;
	}
	return args;
}

/* Whether a port of the host is free for family; so is one of a family that this host has not. Returns 0 or -errno. */
static int try_port(int family, const char *address, unsigned port, bool udp)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
	MF_CLOSE int fd = socket(family, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
	const int on = 1;
	int r;

	if (fd < 0)
		return 0;
	if (address)
		(void)inet_pton(family, address, family == AF_INET ? (void *)&in.sin_addr : (void *)&in6.sin6_addr);
	/* As passt does it. Without these, what is free is refused, which would be seen. */
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	r = family == AF_INET ? bind(fd, (const struct sockaddr *)&in, sizeof(in)) :
				bind(fd, (const struct sockaddr *)&in6, sizeof(in6));
	/* Two may be bound to a TCP port, of which one listens. */
	if (r == 0 && !udp)
		r = listen(fd, 1);
	return r < 0 && errno == EADDRINUSE ? -errno : 0;
}

/* passt takes a port that is free for one family only, and says nothing. Other errors are its own to tell. */
static int check_ports(const struct config_net *n, struct err *e)
{
	for (unsigned i = 0; i < n->num_forwards; i++) {
		const struct config_forward *f = &n->forward[i];
		const char *slash = strchr(f->ports, '/');
		char address[INET6_ADDRSTRLEN] = "";
		unsigned port = (unsigned)strtoul(slash ? slash + 1 : f->ports, NULL, 10);
		int r = 0;

		if (slash)
			snprintf(address, sizeof(address), "%.*s", (int)(slash - f->ports), f->ports);
		if (!strchr(address, ':'))
			r = try_port(AF_INET, slash ? address : NULL, port, f->udp);
		if (!r && (!slash || strchr(address, ':')))
			r = try_port(AF_INET6, slash ? address : NULL, port, f->udp);
		if (r < 0)
			return err_neg(e, r, "%s port %u of the host (%s)", f->udp ? "UDP" : "TCP", port, f->ports);
	}
	return 0;
}

int passt_start(struct passt *p, const struct config_net *n, unsigned mtu, struct err *e)
{
	MF_CLOSE int socket = -1;
	MF_CLOSE int child_socket = -1;
	MF_CLOSE int err_write = -1;
	MF_CLOSE int ready_write = -1;
	char mtu_text[16], fd_text[16], address[INET_ADDRSTRLEN + 4], mask[4];
	const char *argv[PASST_ARGS_MAX] = { "passt", "--foreground", "--quiet", "--stderr", "--fd",
					     fd_text, "--mtu",	      mtu_text,	 "--pid",    "/proc/self/fd/1" };
	int pair[2], said[2], ready[2], args = 10;

	snprintf(fd_text, sizeof(fd_text), "%d", SPAWN_FDS - 1);
	snprintf(mtu_text, sizeof(mtu_text), "%u", mtu);
	args += put_addresses(argv + args, n, address, mask);
	for (unsigned i = 0; i < n->num_forwards; i++) {
		argv[args++] = n->forward[i].udp ? "--udp-ports" : "--tcp-ports";
		argv[args++] = n->forward[i].ports;
	}
	if (check_ports(n, e) < 0)
		return e->code;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, "make a socket pair");
	socket = pair[0];
	child_socket = pair[1];
	if (pipe2(said, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_sys(e, "make a pipe");
	err_write = said[1];
	*p = (struct passt){ .id = n->id, .socket = -1, .err_fd = said[0], .ready_fd = -1 };
	if (pipe2(ready, O_CLOEXEC) < 0) {
		close(p->err_fd);
		return err_sys(e, "make a pipe");
	}
	p->ready_fd = ready[0];
	ready_write = ready[1];
	(void)fchmod(ready_write, 0622); /* root's passt opens it as another user; if it cannot, it says so and ends */
	p->pid = spawn_start(argv, (const int[SPAWN_FDS]){ -1, ready_write, err_write, child_socket }, SIGTERM, "passt",
			     e);
	if (p->pid < 0) {
		p->pid = 0;
		close(p->err_fd);
		close(mf_take_fd(&p->ready_fd));
		return e->code;
	}
	p->socket = mf_take_fd(&socket);
	return 0;
}

int passt_await(struct passt *p, struct err *e)
{
	struct pollfd ready = { .fd = p->ready_fd, .events = POLLIN };
	MF_CLOSE int process = -1;
	int n;

	if (p->pid == 0 || p->ready_fd < 0)
		return 0;
	do
		n = poll(&ready, 1, PASST_READY_MS);
	while (n < 0 && errno == EINTR);
	close(mf_take_fd(&p->ready_fd));
	if (ready.revents & POLLIN)
		return 0;
	if (n == 0)
		return err_set(e, -ETIMEDOUT, "net '%s': passt is not ready after %d s", p->id, PASST_READY_MS / 1000);
	/* It has closed the pipe, so it ends. */
	process = pidfd_open(p->pid, 0);
	ready = (struct pollfd){ .fd = process, .events = POLLIN };
	(void)poll(&ready, 1, PASST_READY_MS); /* whether it has is what is asked next */
	n = passt_check(p, e);
	return n ? n : err_set(e, -ECHILD, "net '%s': passt is not ready, and does not end", p->id);
}

int passt_check(struct passt *p, struct err *e)
{
	/* Where there is no syslog it says so, once for each line. */
	static const char *const skip[] = { "Failed to send", "Don't run as root", NULL };
	char said[PASST_SAID_MAX];
	ssize_t len;
	int status;

	if (p->pid == 0 || waitpid(p->pid, &status, WNOHANG) != p->pid)
		return 0;
	p->pid = 0;
	len = read(p->err_fd, said, sizeof(said) - 1);
	said[len > 0 ? len : 0] = '\0';
	close(p->err_fd);
	return err_set(e, -ECHILD, "net '%s': passt has ended: %s", p->id, spawn_last_line(said, skip));
}

void passt_end(struct passt *p)
{
	if (p->pid == 0)
		return;
	/* Its socket ends it. Not waited for: it may take its time. */
	if (p->socket >= 0)
		close(p->socket);
	close(p->err_fd);
	if (p->ready_fd >= 0)
		close(mf_take_fd(&p->ready_fd));
	p->pid = 0;
}
