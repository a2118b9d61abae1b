/*
 * The host's side of virtio-vsock: names in the file system, the listening socket, clients and their CONNECT line.
 *
 * A client that connects to PATH writes "CONNECT <port>\n" and gets "OK <host port>\n" when a program in the guest has
 * accepted, or the end of the stream when none does. Everything here is non-blocking: connect(2) to a Unix socket ends at
 * once, with EAGAIN where a blocking one would wait for room in the backlog.
 *
 * The line is read with MSG_PEEK, and then up to its end and no further, so that what a client sends behind it stays in
 * the socket until the guest has accepted.
 */
#define MF_LOG_MODULE "vsock"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "virtio/vsock_state.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define UNIX_BACKLOG 256
#define UNIX_ACCEPTS_MAX 64	/* in one turn of the loop */
#define UNIX_FILES_RESERVE 128U /* file descriptors that are not for connections */

static int unix_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

/* path fits: it has VSOCK_PATH_MAX bytes at most, and a suffix has 11. */
static struct sockaddr_un unix_address(const char *path, const char *suffix)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	_Static_assert(VSOCK_PATH_MAX + sizeof("_4294967295") <= sizeof(addr.sun_path), "with the NUL");
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s%s", path, suffix);
	return addr;
}

static int unix_connect(const struct sockaddr_un *addr)
{
	MF_CLOSE int fd = unix_socket();

	if (fd < 0)
		return fd;
	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0)
		return -errno;
	return mf_take_fd(&fd);
}

/* There is something at path: removes a socket that nobody listens on, and refuses everything else. */
static int unix_replace(const char *path, const struct sockaddr_un *addr, struct err *e)
{
	struct stat st;
	int fd;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_sys(e, "look at it");
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, -EEXIST, "exists and is not a socket: remove it, or choose another name");
	fd = unix_connect(addr);
	if (fd >= 0 || fd == -EAGAIN) {
		if (fd >= 0)
			close(fd);
		return err_set(e, -EADDRINUSE, "another process listens there: end it, or choose another name");
	}
	if (fd != -ECONNREFUSED && fd != -ENOENT)
		return err_neg(e, fd, "find out who listens there");
	if (unlink(path) < 0 && errno != ENOENT)
		return err_sys(e, "remove the socket that was left there");
	log_info("vsock: replacing '%s', which nobody listens on", path);
	return 0;
}

static int unix_bind(int fd, const char *path, struct err *e)
{
	struct sockaddr_un addr = unix_address(path, "");
	int r = bind(fd, (const struct sockaddr *)&addr, sizeof(addr));

	if (r < 0 && errno == EADDRINUSE) {
		r = unix_replace(path, &addr, e);
		if (r < 0)
			return r;
		r = bind(fd, (const struct sockaddr *)&addr, sizeof(addr));
	}
	return r < 0 ? err_sys(e, "bind") : 0;
}

int vsock_unix_listen(struct vsock *v, const char *path, struct err *e)
{
	struct stat st;
	int r;

	if (!*path || strlen(path) > VSOCK_PATH_MAX)
		return err_set(e, -ENAMETOOLONG,
			       "must be 1 to %d bytes long (a Unix socket's name has 107, and _PORT goes behind it)",
			       VSOCK_PATH_MAX);
	v->listen_fd = unix_socket();
	if (v->listen_fd < 0)
		return err_neg(e, v->listen_fd, "make a socket");
	r = unix_bind(v->listen_fd, path, e);
	if (r < 0)
		return r;
	v->path = path;
	v->bound = true;
	if (lstat(path, &st) < 0)
		return err_sys(e, "look at it");
	v->path_dev = st.st_dev;
	v->path_ino = st.st_ino;
	return listen(v->listen_fd, UNIX_BACKLOG) < 0 ? err_sys(e, "listen") : 0;
}

void vsock_unix_remove(struct vsock *v)
{
	struct stat st;

	if (v->bound && lstat(v->path, &st) == 0 && st.st_dev == v->path_dev && st.st_ino == v->path_ino)
		(void)unlink(v->path); /* or the next one to listen there replaces it */
	v->bound = false;
}

void vsock_unix_done(struct vsock *v)
{
	vsock_unix_remove(v);
	if (v->listen_fd >= 0)
		close(v->listen_fd);
	v->listen_fd = -1;
}

unsigned vsock_unix_max_conns(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return VSOCK_CONNS_MAX;
	if (limit.rlim_cur < VSOCK_CONNS_MAX + UNIX_FILES_RESERVE) {
		rlim_t had = limit.rlim_cur;

		limit.rlim_cur = MF_MIN(limit.rlim_max, (rlim_t)VSOCK_CONNS_MAX + UNIX_FILES_RESERVE);
		if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
			limit.rlim_cur = had;
	}
	if (limit.rlim_cur >= VSOCK_CONNS_MAX + UNIX_FILES_RESERVE)
		return VSOCK_CONNS_MAX;
	return limit.rlim_cur > UNIX_FILES_RESERVE ? (unsigned)limit.rlim_cur - UNIX_FILES_RESERVE : 1;
}

int vsock_unix_connect(const struct vsock *v, uint32_t port)
{
	struct sockaddr_un addr;
	char suffix[16];
	struct stat st;

	snprintf(suffix, sizeof(suffix), "_%" PRIu32, port);
	addr = unix_address(v->path, suffix);
	/* No symbolic links: who may make one beside our socket need not be who may connect to where it leads. */
	if (lstat(addr.sun_path, &st) < 0)
		return -errno;
	if (!S_ISSOCK(st.st_mode))
		return -ENOTSOCK;
	return unix_connect(&addr);
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
	for (unsigned i = 0; i < UNIX_ACCEPTS_MAX; i++) {
		int fd = accept4(v->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
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
	vsock_poll(v, &v->accept, v->listen_fd, POLLIN);
	vsock_run(v);
}

void vsock_unix_start(struct vsock *v)
{
	v->accept_paused = false;
	v->accept.op.done = accept_done;
	vsock_poll(v, &v->accept, v->listen_fd, POLLIN);
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
	size_t room = sizeof(c->line) - c->line_len;
	ssize_t n = recv(c->fd, to, room, MSG_PEEK | MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		vsock_poll(c->v, &c->in, c->fd, POLLIN);
		return;
	}
	if (n > 0) {
		end = memchr(to, '\n', (size_t)n);
		n = recv(c->fd, to, end ? (size_t)(end + 1 - to) : (size_t)n, MSG_DONTWAIT);
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

	/* It is the first that is written to this socket, which has room for it. */
	return send(c->fd, line, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL) == len;
}
