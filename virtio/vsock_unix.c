/*
 * The host's side of virtio-vsock: the names of ports in the file system, clients and their CONNECT line.
 *
 * A client that connects to PATH writes "CONNECT <port>\n" and gets "OK <host port>\n" when a program in the guest has
 * accepted, or the end of the stream when none does. Everything here is non-blocking.
 *
 * The line is read with MSG_PEEK, and then up to its end and no further, so that what a client sends behind it stays in
 * the socket until the guest has accepted.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "virtio/vsock_priv.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define UNIX_ACCEPTS_MAX 64 /* in one turn of the loop */

int vsock_unix_listen(struct vsock *v, const char *path, struct err *e)
{
	if (!*path || strlen(path) > VSOCK_PATH_MAX)
		return err_set(e, -ENAMETOOLONG,
			       "must be 1 to %d bytes long (a Unix socket's name has 107, and _PORT goes behind it)",
			       VSOCK_PATH_MAX);
	return unix_socket_listen(&v->name, path, SOCK_STREAM, e);
}

int vsock_connect_host(const char *path, uint32_t port)
{
	char name[UNIXNAME_MAX + 1];

	_Static_assert(VSOCK_PATH_MAX + sizeof("_4294967295") <= sizeof(name), "with the NUL");
	snprintf(name, sizeof(name), "%s_%" PRIu32, path, port);
	/* No symbolic links: who may make one beside our socket need not be who may connect to where it leads. */
	return unix_socket_connect_exact(name, SOCK_STREAM);
}

int vsock_unix_connect(const struct vsock *v, uint32_t port)
{
	if (!v->name.path)
		return -ECONNREFUSED;
	return v->connect ? v->connect(v->connect_ctx, port) : vsock_connect_host(v->name.path, port);
}

/* Clients. */

static void accept_pause(struct vsock *v)
{
	if (v->accept_paused)
		return;
	v->accept_paused = true; /* or a client whom we cannot accept would keep the loop busy */
	vsock_wait(v);
}

static void accept_done(struct op *op, int res)
{
	struct vsock *v = MF_CONTAINER_OF(op, struct vsock, accept.op);

	v->accept.armed = false;
	v->in_flight--;
	if (!v->active || res == -ECANCELED)
		return;
	if (res < 0) {
		accept_pause(v);
		return;
	}
	for (unsigned i = 0; i < UNIX_ACCEPTS_MAX; i++) {
		int fd = accept4(v->name.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct vsock_conn *c;

		if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
			accept_pause(v);
			return;
		}
		if (fd < 0)
			break; /* EAGAIN: no more; anything else: a client that has gone again */
		c = conn_new(v, CONN_LINE, fd);
		if (!c) {
			close(fd); /* too many: it sees the end of the stream */
			continue;
		}
		conn_wait(c);
		vsock_unix_read_line(c);
	}
	vsock_poll(v, &v->accept, v->name.fd, POLLIN);
	vsock_run(v);
}

void vsock_unix_start(struct vsock *v)
{
	v->accept_paused = false;
	v->accept.op.done = accept_done;
	if (v->name.fd >= 0)
		vsock_poll(v, &v->accept, v->name.fd, POLLIN);
}

int vsock_unix_parse_line(const char *line, size_t len, uint32_t *ret_port)
{
	static const char word[] = "CONNECT";
	size_t at = sizeof(word) - 1, digits = 0;
	uint64_t port = 0;

	if (len < at || strncasecmp(line, word, at) != 0 || at == len || !isblank((unsigned char)line[at]))
		return -EINVAL;
	while (at < len && isblank((unsigned char)line[at]))
		at++;
	for (; at < len && isdigit((unsigned char)line[at]); at++, digits++) {
		port = port * 10 + (uint64_t)(line[at] - '0');
		if (port > UINT32_MAX)
			return -EINVAL;
	}
	while (at < len && (isblank((unsigned char)line[at]) || line[at] == '\r'))
		at++;
	if (!digits || at != len)
		return -EINVAL;
	*ret_port = (uint32_t)port;
	return 0;
}

/* A host port that is free together with guest_port. One is: there are more of them than connections. */
static uint32_t unix_new_port(struct vsock *v, uint32_t guest_port)
{
	do {
		v->last_port = VSOCK_PORT_BASE | ((v->last_port + 1) & (VSOCK_PORT_BASE - 1));
	} while (conn_find(v, v->last_port, guest_port));
	return v->last_port;
}

static void unix_line_complete(struct vsock_conn *c)
{
	uint32_t port;

	if (vsock_unix_parse_line(c->line, c->line_len - 1U, &port) < 0) {
		conn_kill(c);
		return;
	}
	c->state = CONN_REQUESTED;
	conn_name(c, unix_new_port(c->v, port), port);
	conn_wait(c);
	conn_due(c, DUE_REQUEST);
}

void vsock_unix_read_line(struct vsock_conn *c)
{
	char *to = c->line + c->line_len, *end;
	struct iovec iov = { .iov_base = to, .iov_len = sizeof(c->line) - c->line_len };
	ssize_t n = flow_recvmsg(c, &iov, 1, MSG_PEEK);

	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		vsock_poll(c->v, &c->in, c->fd, POLLIN);
		return;
	}
	if (n > 0) {
		end = memchr(to, '\n', (size_t)n);
		iov.iov_len = end ? (size_t)(end + 1 - to) : (size_t)n;
		n = flow_recvmsg(c, &iov, 1, 0);
	}
	if (n <= 0) {
		conn_kill(c);
		return;
	}
	c->line_len = (uint8_t)(c->line_len + n);
	if (c->line[c->line_len - 1] == '\n')
		unix_line_complete(c);
	else if (c->line_len == sizeof(c->line))
		conn_kill(c);
	else
		vsock_poll(c->v, &c->in, c->fd, POLLIN);
}

bool vsock_unix_say_ok(struct vsock_conn *c)
{
	char line[24];
	int len = snprintf(line, sizeof(line), "OK %" PRIu32 "\n", c->host_port);
	struct iovec iov = { .iov_base = line, .iov_len = (size_t)len };

	/* It is the first that is written to this socket, which has room for it. */
	return flow_sendmsg(c, &iov, 1) == len;
}
