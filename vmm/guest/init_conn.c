/* The control connection to the guest's init; see init_conn.h. */
#include "vmm/guest/init_conn.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/util.h"

#define IN_SIZE (sizeof(struct init_msg) + INIT_PAYLOAD_MAX)

int init_conn_init(struct init_conn *c, int fd)
{
	*c = (struct init_conn){ .fd = fd, .in = malloc(IN_SIZE + 1), .out = malloc(INIT_CONN_OUT_MAX) };
	return c->in && c->out ? 0 : -ENOMEM;
}

static void init_conn_close(struct init_conn *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

void init_conn_done(struct init_conn *c)
{
	init_conn_close(c);
	free(c->in);
	free(c->out);
	c->in = c->out = NULL;
}

/* False: the connection is at its end. */
static bool flush(struct init_conn *c)
{
	while (c->out_len > 0) {
		ssize_t n = write(c->fd, c->out, c->out_len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		c->out_len -= (size_t)n;
		memmove(c->out, c->out + n, c->out_len);
	}
	return true;
}

int init_conn_send(struct init_conn *c, const struct init_msg *msg, const void *payload)
{
	if (c->fd < 0)
		return -EPIPE;
	if (sizeof(*msg) + msg->len > INIT_CONN_OUT_MAX - c->out_len)
		return -ENOBUFS;
	memcpy(c->out + c->out_len, msg, sizeof(*msg));
	c->out_len += sizeof(*msg);
	if (msg->len)
		memcpy(c->out + c->out_len, payload, msg->len);
	c->out_len += msg->len;
	(void)flush(c); /* an end is seen when it is read */
	return 0;
}

short init_conn_events(const struct init_conn *c)
{
	return c->out_len ? POLLIN | POLLOUT : POLLIN;
}

/* Hands on what is complete. False: a message without form. */
static bool take_messages(struct init_conn *c, init_conn_handler *handle, void *ctx)
{
	struct init_msg msg;
	size_t at = 0;

	while (c->in_len - at >= sizeof(msg)) {
		char *payload = (char *)c->in + at + sizeof(msg), behind;

		memcpy(&msg, c->in + at, sizeof(msg));
		if (msg.len > INIT_PAYLOAD_MAX)
			return false;
		if (c->in_len - at - sizeof(msg) < msg.len)
			break;
		/* The NUL stands on the first byte of the next message meanwhile, or on the one that the buffer has more. */
		behind = payload[msg.len];
		payload[msg.len] = '\0';
		handle(ctx, &msg, payload);
		payload[msg.len] = behind;
		at += sizeof(msg) + msg.len;
	}
	c->in_len -= at;
	memmove(c->in, c->in + at, c->in_len);
	return true;
}

int init_conn_serve(struct init_conn *c, init_conn_handler *handle, void *ctx)
{
	ssize_t n = -1;
	int r = 0;

	if (c->fd < 0)
		return -EPIPE;
	if (flush(c)) {
		n = read(c->fd, c->in + c->in_len, IN_SIZE - c->in_len);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
	}
	if (n > 0) {
		c->in_len += (size_t)n;
		r = take_messages(c, handle, ctx) ? 0 : -EPROTO;
	}
	if (n <= 0 || r < 0)
		init_conn_close(c);
	return n <= 0 ? -EPIPE : r;
}
