/*
 * The data of a connection of virtio-vsock, and its credit.
 *
 * From host to guest nothing is stored: a socket is read when a poll has said that it can be, the guest has a buffer in
 * its queue, and it has granted credit (§5.10.6.3); recvmsg puts the bytes straight into that buffer. While one of the
 * three is missing, the socket is not read, its buffer in the kernel fills, and the host's program waits.
 *
 * From guest to host, sendmsg takes the bytes straight out of the guest's buffer. What the host's socket does not take
 * goes to the connection's own buffer, and the guest's credit is exactly that buffer: who sends more is reset. The counters
 * are free-running 32-bit numbers (§5.10.6.3), so only differences are meaningful; what the guest's make of them is
 * bounded where it is used.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "virtio/vsock_priv.h"
#include "vmm/base/util.h"

#define HEADER_SIZE sizeof(struct virtio_vsock_hdr)

/* From guest to host. */

/* The host has taken n bytes. Tells the guest when it believes that less than half of its credit is left. */
static void flow_forwarded(struct vsock_conn *c, uint32_t n)
{
	c->fwd_cnt += n;
	if (c->state == CONN_OPEN && c->fwd_cnt != c->told_fwd && c->rx_cnt - c->told_fwd > VSOCK_BUF_SIZE / 2)
		conn_due(c, DUE_CREDIT_UPDATE);
}

/* The host takes nothing more. Its own stream may still have something for the guest. */
static void flow_deafen(struct vsock_conn *c)
{
	c->deaf = true;
	c->buf_len = 0;
	if (c->state != CONN_OPEN || c->eof) {
		conn_reset(c);
		return;
	}
	c->host_shut |= VSOCK_SHUT_RCV;
	c->readable = true; /* perhaps it has gone altogether */
	conn_due(c, DUE_SHUTDOWN);
}

ssize_t flow_recvmsg(const struct vsock_conn *c, struct iovec *iov, unsigned num, int flags)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = num };

	return recvmsg(c->fd, &msg, flags | MSG_DONTWAIT);
}

ssize_t flow_sendmsg(const struct vsock_conn *c, struct iovec *iov, unsigned num)
{
	const struct msghdr msg = { .msg_iov = iov, .msg_iovlen = num };
	ssize_t n = sendmsg(c->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR || errno == ENOBUFS || errno == ENOMEM ? 0 : -errno;
	return n;
}

void flow_drained(struct vsock_conn *c)
{
	if (c->state == CONN_DRAIN)
		conn_kill(c);
	else if (c->guest_shut & VSOCK_SHUT_SEND)
		(void)shutdown(c->fd, SHUT_WR); /* fails when the host has gone, which a poll will tell */
}

uint32_t flow_flush(struct vsock_conn *c)
{
	uint8_t *buf = vsock_buf(c);
	uint32_t first = MF_MIN(c->buf_len, VSOCK_BUF_SIZE - c->buf_head);
	struct iovec iov[2] = {
		{ .iov_base = buf + c->buf_head, .iov_len = first },
		{ .iov_base = buf, .iov_len = c->buf_len - first },
	};
	ssize_t n = flow_sendmsg(c, iov, 2);

	if (n < 0) {
		flow_deafen(c);
		return 0;
	}
	c->buf_head = (c->buf_head + (uint32_t)n) % VSOCK_BUF_SIZE;
	c->buf_len -= (uint32_t)n;
	flow_forwarded(c, (uint32_t)n);
	if (c->buf_len)
		vsock_poll(c->v, &c->out, c->fd, POLLOUT);
	else
		flow_drained(c);
	return (uint32_t)n;
}

void flow_out_done(struct op *op, int res)
{
	struct vsock_conn *c = MF_CONTAINER_OF(op, struct vsock_conn, out.op);
	struct vsock *v = c->v;

	c->out.armed = false;
	v->in_flight--;
	if (conn_is_over(c)) {
		conn_let_go(c);
		return;
	}
	if (res == -ECANCELED)
		return; /* the loop ends */
	if (res < 0) {
		conn_reset(c); /* it cannot be waited for */
	} else if (c->buf_len && !c->writable) {
		TAILQ_INSERT_TAIL(&v->writable, c, in_writable);
		c->writable = true;
	}
	vsock_run(v);
}

/* Makes of [skip, skip + len) of a chain's part an iovec in to, which is as long as the part. Returns its length. */
static unsigned iov_slice(struct iovec *to, const struct iovec *from, unsigned num, uint64_t skip, uint64_t len)
{
	unsigned n = 0;

	for (unsigned i = 0; i < num && len > 0; i++) {
		uint64_t take;

		if (skip >= from[i].iov_len) {
			skip -= from[i].iov_len;
			continue;
		}
		take = MF_MIN(from[i].iov_len - skip, len);
		to[n++] = (struct iovec){ .iov_base = (char *)from[i].iov_base + skip, .iov_len = take };
		len -= take;
		skip = 0;
	}
	return n;
}

/* Puts len bytes of the guest's chain, from skip on, behind what is in the buffer, which has room for them. */
static void flow_store(struct vsock_conn *c, const struct virtq_chain *chain, uint64_t skip, uint32_t len)
{
	uint32_t at = (c->buf_head + c->buf_len) % VSOCK_BUF_SIZE;
	uint32_t first = MF_MIN(len, VSOCK_BUF_SIZE - at);

	assert(len <= VSOCK_BUF_SIZE - c->buf_len);
	virtq_copy_out(chain, skip, vsock_buf(c) + at, first);
	virtq_copy_out(chain, skip + first, vsock_buf(c), len - first);
	c->buf_touched = true;
	c->buf_len += len;
}

void flow_take(struct vsock_conn *c, uint32_t len, const struct virtq_chain *chain)
{
	struct iovec iov[VIRTQ_CHAIN_MAX];
	ssize_t n = 0;

	if (c->state != CONN_OPEN || c->guest_shut & VSOCK_SHUT_SEND ||
	    len > VSOCK_BUF_SIZE - (c->rx_cnt - c->fwd_cnt)) {
		conn_reset(c);
		return;
	}
	c->rx_cnt += len;
	if (c->deaf || !len)
		return;
	if (!c->buf_len)
		n = flow_sendmsg(c, iov, iov_slice(iov, chain->iov, chain->num_out, HEADER_SIZE, len));
	if (n < 0) {
		flow_deafen(c);
		return;
	}
	if (n < len) {
		flow_store(c, chain, HEADER_SIZE + (uint64_t)n, len - (uint32_t)n);
		vsock_poll(c->v, &c->out, c->fd, POLLOUT);
	}
	flow_forwarded(c, (uint32_t)n);
}

/* From host to guest. */

/* After the end of the host's stream its program has closed the socket. */
static void flow_hangup(struct vsock_conn *c)
{
	if (c->buf_len || c->deaf) {
		conn_reset(c);
		return;
	}
	c->host_shut = VSOCK_SHUT_BOTH;
	conn_due(c, DUE_SHUTDOWN);
}

void flow_in_done(struct op *op, int res)
{
	struct vsock_conn *c = MF_CONTAINER_OF(op, struct vsock_conn, in.op);
	struct vsock *v = c->v;

	c->in.armed = false;
	v->in_flight--;
	if (conn_is_over(c)) {
		conn_let_go(c);
		return;
	}
	if (res == -ECANCELED)
		return; /* the loop ends */
	if (res < 0) {
		conn_reset(c); /* it cannot be waited for */
	} else if (c->state == CONN_LINE) {
		vsock_unix_read_line(c);
	} else if (c->state == CONN_OPEN && !c->eof) {
		c->readable = true;
		conn_due(c, 0);
	} else if (c->state == CONN_OPEN && res & (POLLHUP | POLLERR)) {
		flow_hangup(c);
	} else if (c->state == CONN_OPEN) {
		vsock_poll(v, &c->in, c->fd, 0); /* it was readable when the guest did not want to know any more */
	}
	vsock_run(v);
}

/* A guest that has shrunk its buffer, or counts ahead of us, has granted nothing. */
uint32_t flow_credit(const struct vsock_conn *c)
{
	uint32_t used = c->tx_cnt - c->peer_fwd;

	return used >= c->peer_alloc ? 0 : c->peer_alloc - used;
}

/* The host's stream has ended. */
static void flow_end(struct vsock_conn *c)
{
	c->eof = true;
	if (c->deaf) {
		conn_reset(c);
		return;
	}
	c->host_shut |= VSOCK_SHUT_SEND;
	conn_due(c, DUE_SHUTDOWN);
	vsock_poll(c->v, &c->in, c->fd, 0);
}

uint32_t flow_read(struct vsock_conn *c, const struct virtq_chain *chain)
{
	uint64_t room = MF_MIN(chain->in_len - HEADER_SIZE, VSOCK_READ_MAX);
	uint32_t credit = flow_credit(c);
	struct iovec iov[VIRTQ_CHAIN_MAX];
	unsigned num;
	ssize_t n;

	if (!c->readable)
		return 0;
	if (!credit) {
		if (!c->asked)
			conn_due(c, DUE_CREDIT_REQUEST);
		c->asked = true;
		return 0;
	}
	c->asked = false;
	room = MF_MIN(room, credit);
	num = iov_slice(iov, chain->iov + chain->num_out, chain->num_in, HEADER_SIZE, room);
	n = flow_recvmsg(c, iov, num, 0);
	c->readable = n > 0 && (uint64_t)n == room;
	if (n > 0)
		c->tx_cnt += (uint32_t)n;
	if ((n > 0 && !c->readable) || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		vsock_poll(c->v, &c->in, c->fd, POLLIN);
	else if (n == 0)
		flow_end(c);
	else if (n < 0)
		conn_reset(c); /* ECONNRESET: it has closed without reading all that it was sent */
	return n > 0 ? (uint32_t)n : 0;
}
