/*
 * The host's side of virtio-vsock: sockets in the file system, and the CONNECT line of clients.
 *
 * A client connects to PATH and writes "CONNECT <port>\n". It gets "OK <host port>\n" when a
 * program in the guest has accepted, or EOF when none does.
 *
 * The line is peeked at (MSG_PEEK) and then read up to its newline and no further. What a client
 * sends after it stays in the socket until the guest has accepted.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "virtio/vsock_priv.h"
#include "vmm/base/err.h"

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
	/* Refuse symlinks: whoever can create one here may not be allowed to connect to its target. */
	return unix_socket_connect_exact(name, SOCK_STREAM);
}

int vsock_unix_connect(const struct vsock *v, uint32_t port)
{
	if (!v->name.path)
		return -ECONNREFUSED;
	return v->connect ? v->connect(v->connect_ctx, port) : vsock_connect_host(v->name.path, port);
}

ssize_t vsock_unix_recv(const struct vsock_conn *c, struct iovec *iov, unsigned num, int flags)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = num };

	return recvmsg(c->fd, &msg, flags | MSG_DONTWAIT);
}

ssize_t vsock_unix_send(const struct vsock_conn *c, struct iovec *iov, unsigned num)
{
	const struct msghdr msg = { .msg_iov = iov, .msg_iovlen = num };
	ssize_t n = sendmsg(c->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR || errno == ENOBUFS || errno == ENOMEM ? 0 : -errno;
	return n;
}

/* Clients. */

int vsock_unix_accept(const struct vsock *v)
{
	int fd = accept4(v->name.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd >= 0)
		return fd;
	/* Anything else than these: no more clients, or one that has gone again. */
	return errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS ? -EMFILE : -EAGAIN;
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

int vsock_unix_read_line(struct vsock_conn *c, uint32_t *ret_port)
{
	char *to = c->line + c->line_len, *end;
	struct iovec iov = { .iov_base = to, .iov_len = sizeof(c->line) - c->line_len };
	ssize_t n = vsock_unix_recv(c, &iov, 1, MSG_PEEK);
	int r;

	if (n > 0) {
		end = memchr(to, '\n', (size_t)n);
		iov.iov_len = end ? (size_t)(end + 1 - to) : (size_t)n;
		n = vsock_unix_recv(c, &iov, 1, 0);
		if (n <= 0)
			return -ECONNRESET;
		c->line_len = (uint8_t)(c->line_len + n);
		if (c->line[c->line_len - 1] == '\n') {
			r = vsock_unix_parse_line(c->line, c->line_len - 1U, ret_port);
			return r < 0 ? r : 1;
		}
		if (c->line_len == sizeof(c->line))
			return -EINVAL;
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		return -ECONNRESET;
	}
	vsock_poll(c->v, &c->in, c->fd, POLLIN);
	return 0;
}

bool vsock_unix_say_ok(struct vsock_conn *c)
{
	char line[24];
	int len = snprintf(line, sizeof(line), "OK %" PRIu32 "\n", c->host_port);
	struct iovec iov = { .iov_base = line, .iov_len = (size_t)len };

	/* The first bytes that are written to this socket: it has room for them. */
	return vsock_unix_send(c, &iov, 1) == len;
}
