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
#include "vmm/config/config_names.h"
#include "vmm/config/config_walls.h"
#include "vmm/helper/publish.h"
#include "vmm/helper/spawn.h"

#define PASST_ARGS_MAX (26 + 2 * CONFIG_FORWARDS_MAX)
#define PASST_SAID_MAX 4096
#define PASST_READY_MS 10000

/* The arguments of passt, with room for the texts that are composed here. */
struct passt_args {
	const char *argv[PASST_ARGS_MAX];
	unsigned num;
	char fd[16], mtu[16];
	char address[INET_ADDRSTRLEN], mask[4], address6[INET6_ADDRSTRLEN];
	char ports[CONFIG_FORWARDS_MAX][PUBLISH_ARGUMENT_MAX];
};

static void put(struct passt_args *a, const char *name, const char *value)
{
	a->argv[a->num++] = name;
	if (value)
		a->argv[a->num++] = value;
}

/* What the guest gets instead of the host's own addresses. */
static void put_addresses(struct passt_args *a, const struct config_net *n)
{
	if (n->ip) {
		size_t len = strcspn(n->ip, "/"); /* checked: ADDRESS/PREFIX */

		snprintf(a->address, sizeof(a->address), "%.*s", (int)len, n->ip);
		snprintf(a->mask, sizeof(a->mask), "%s", n->ip + len + 1);
		put(a, "--address", a->address);
		put(a, "--netmask", a->mask);
	}
	if (n->gateway)
		put(a, "--gateway", n->gateway);
	if (n->ip6) {
		snprintf(a->address6, sizeof(a->address6), "%.*s", (int)strcspn(n->ip6, "/"), n->ip6);
		put(a, "--address", a->address6);
	}
	if (n->gateway6)
		put(a, "--gateway", n->gateway6);
	if (n->no_ra)
		put(a, "--no-ra", NULL);
	/* A second wall, behind that of virtio/net_filter.c. Every version of passt has it. */
	if (!config_walls_map_gateway(n))
		put(a, "--no-map-gw", NULL);
	if (n->dns)
		put(a, config_is_host_resolver(n->dns) ? "--dns-forward" : "--dns", n->dns);
}

int passt_start(struct passt *p, const struct config_net *n, unsigned mtu, struct err *e)
{
	MF_CLOSE int socket = -1;
	MF_CLOSE int child_socket = -1;
	MF_CLOSE int err_write = -1;
	MF_CLOSE int ready_write = -1;
	struct passt_args a = { .argv = { "passt", "--foreground", "--quiet", "--stderr" }, .num = 4 };
	int pair[2], said[2], ready[2];

	snprintf(a.fd, sizeof(a.fd), "%d", SPAWN_FDS - 1);
	snprintf(a.mtu, sizeof(a.mtu), "%u", mtu);
	put(&a, "--fd", a.fd);
	put(&a, "--mtu", a.mtu);
	put(&a, "--pid", "/proc/self/fd/1");
	put_addresses(&a, n);
	for (unsigned i = 0; i < n->num_forwards; i++) {
		publish_argument(a.ports[i], &n->forward[i]);
		put(&a, n->forward[i].udp ? "--udp-ports" : "--tcp-ports", a.ports[i]);
	}
	if (publish_check(n, e) < 0)
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
	p->pid = spawn_start(a.argv, (const int[SPAWN_FDS]){ -1, ready_write, err_write, child_socket }, SIGTERM,
			     "passt", e);
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
