/*
 * passt as a child process; see passt.h.
 *
 * It stays in the foreground, so that it is a child: its end is seen (SIGCHLD), and it gets SIGTERM when mayfly ends,
 * however that ends (PR_SET_PDEATHSIG; a passt started by root changes its user and loses that, but it also ends when the
 * other end of its socket is closed). It takes some 20 ms to start; nobody waits for that, the guest takes longer.
 *
 * What it says goes into a pipe, of which the last line is quoted when it ends by itself. The pipe is non-blocking: of a
 * passt that says more than a pipe holds, the rest is lost, and it goes on.
 */
#include "vmm/helper/passt.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/helper/spawn.h"

#define PASST_ARGS_MAX (20 + 2 * CONFIG_FORWARDS_MAX)
#define PASST_SAID_MAX 4096

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

int passt_start(struct passt *p, const struct config_net *n, unsigned mtu, struct err *e)
{
	MF_CLOSE int socket = -1;
	MF_CLOSE int child_socket = -1;
	MF_CLOSE int err_write = -1;
	char mtu_text[16], fd_text[16], address[INET_ADDRSTRLEN + 4], mask[4];
	const char *argv[PASST_ARGS_MAX] = { "passt", "--foreground", "--quiet", "--stderr",
					     "--fd",  fd_text,	      "--mtu",	 mtu_text };
	int pair[2], said[2], args = 8;

	snprintf(fd_text, sizeof(fd_text), "%d", SPAWN_FDS - 1);
	snprintf(mtu_text, sizeof(mtu_text), "%u", mtu);
	args += put_addresses(argv + args, n, address, mask);
	for (unsigned i = 0; i < n->num_forwards; i++) {
		argv[args++] = n->forward[i].udp ? "--udp-ports" : "--tcp-ports";
		argv[args++] = n->forward[i].ports;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, "make a socket pair");
	socket = pair[0];
	child_socket = pair[1];
	if (pipe2(said, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_sys(e, "make a pipe");
	err_write = said[1];
	*p = (struct passt){ .id = n->id, .socket = -1, .err_fd = said[0] };
	p->pid = spawn_start(argv, (const int[SPAWN_FDS]){ -1, -1, err_write, child_socket }, SIGTERM, "passt", e);
	if (p->pid < 0) {
		p->pid = 0;
		close(p->err_fd);
		return e->code;
	}
	p->socket = mf_take_fd(&socket);
	return 0;
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
	p->pid = 0;
}
