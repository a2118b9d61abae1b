/*
 * The data of a connection of virtio-vsock, and its credit.
 *
 * From host to guest nothing is stored. A socket is read when three things have come together:
 * a poll has reported data, the guest's queue holds a buffer, and the guest has granted credit
 * (§5.10.6.3). recvmsg puts the bytes straight into that buffer. A connection whose data has filled
 * all of its buffers gets twice as many for the next recvmsg. Until then the bytes stay in the
 * kernel's socket buffer, and the host's program waits once that is full.
 *
 * From guest to host, sendmsg takes the bytes straight out of the guest's buffer. What the
 * socket does not take goes to the connection's own buffer. The guest's credit is exactly that
 * buffer; a guest that sends more is reset. The counters are free-running 32-bit numbers
 * (§5.10.6.3), so only differences have a meaning, and those with a number of the guest are
 * bounded where they are used.
 *
 * These functions only report (enum vsock_flow); vsock_conn.c acts on it.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "virtio/iov.h"
#include "virtio/vsock_priv.h"
#include "vmm/base/util.h"

#define HEADER_SIZE sizeof(struct virtio_vsock_hdr)

/* From guest to host. */

/* The host has taken n bytes. The guest needs to know once it counts on less than half its credit. */
static unsigned flow_forwarded(struct vsock_conn *c, uint32_t n)
{
	c->fwd_cnt += n;
	dev_count(&c->v->dev, DEV_FROM_GUEST, 0, n);
	return c->fwd_cnt != c->told_fwd && c->rx_cnt - c->told_fwd > VSOCK_BUF_SIZE / 2 ? FLOW_UPDATE : FLOW_OK;
}

unsigned flow_flush(struct vsock_conn *c)
{
	uint8_t *buf = vsock_buf(c);
	uint32_t first = MF_MIN(c->buf_len, VSOCK_BUF_SIZE - c->buf_head);
	struct iovec iov[2] = {
		{ .iov_base = buf + c->buf_head, .iov_len = first },
		{ .iov_base = buf, .iov_len = c->buf_len - first },
	};
	ssize_t n = vsock_unix_send(c, iov, 2);

	if (n < 0)
		return FLOW_DEAF;
	c->buf_head = (c->buf_head + (uint32_t)n) % VSOCK_BUF_SIZE;
	c->buf_len -= (uint32_t)n;
	if (c->buf_len)
		vsock_poll(c->v, &c->out, c->fd, POLLOUT);
	return flow_forwarded(c, (uint32_t)n) | (c->buf_len ? FLOW_OK : FLOW_DRAINED);
}

/* Appends len bytes of the guest's chain, from skip on, to the buffer, which has room for them. */
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

unsigned flow_take(struct vsock_conn *c, uint32_t len, const struct virtq_chain *chain)
{
	struct iovec iov[VIRTQ_CHAIN_MAX];
	ssize_t n = 0;

	if (len > VSOCK_BUF_SIZE - (c->rx_cnt - c->fwd_cnt))
		return FLOW_BAD;
	c->rx_cnt += len;
	if (c->deaf || !len)
		return FLOW_OK;
	if (!c->buf_len)
		n = vsock_unix_send(c, iov, iov_slice(iov, chain->iov, chain->num_out, HEADER_SIZE, len));
	if (n < 0)
		return FLOW_DEAF;
	if (n < len) {
		flow_store(c, chain, HEADER_SIZE + (uint64_t)n, len - (uint32_t)n);
		vsock_poll(c->v, &c->out, c->fd, POLLOUT);
	}
	return flow_forwarded(c, (uint32_t)n);
}

/* From host to guest. */

/* A guest that has shrunk its buffer, or counts ahead of us, has granted nothing. */
uint32_t flow_credit(const struct vsock_conn *c)
{
	uint32_t used = c->tx_cnt - c->peer_fwd;

	return used >= c->peer_alloc ? 0 : c->peer_alloc - used;
}

/*
 * Describes the parts of the buffers behind their headers, in all at most room bytes, in iov. Returns
 * the entries used.
 */
static unsigned flow_scatter(struct iovec iov[VIRTQ_CHAIN_MAX], const struct vsock_rx *rx, uint32_t room)
{
	unsigned num = 0;

	for (unsigned i = 0; i < rx->num && room > 0; i++) {
		const struct virtq_chain *chain = &rx->chain[i];
		uint32_t len = (uint32_t)MF_MIN(chain->in_len - HEADER_SIZE, room);

		if (num + chain->num_in > VIRTQ_CHAIN_MAX)
			break;
		num += iov_slice(iov + num, chain->iov + chain->num_out, chain->num_in, HEADER_SIZE, len);
		room -= len;
	}
	return num;
}

/* The buffers were filled in turn with len bytes: says with how many each, in how many. */
static void flow_filled(struct vsock_rx *rx, uint32_t len)
{
	for (rx->filled = 0; len > 0; rx->filled++) {
		uint32_t *part = &rx->len[rx->filled];

		*part = (uint32_t)MF_MIN(rx->chain[rx->filled].in_len - HEADER_SIZE, len);
		len -= *part;
	}
}

unsigned flow_read(struct vsock_conn *c, struct vsock_rx *rx)
{
	uint32_t credit = flow_credit(c);
	struct iovec iov[VIRTQ_CHAIN_MAX];
	bool asked = c->asked;
	unsigned num;
	ssize_t n;

	rx->filled = 0;
	if (!c->readable)
		return FLOW_OK;
	c->asked = !credit;
	if (!credit)
		return asked ? FLOW_OK : FLOW_NO_CREDIT;
	num = flow_scatter(iov, rx, MF_MIN(credit, VSOCK_READ_MAX));
	n = vsock_unix_recv(c, iov, num, 0);
	c->readable = n > 0 && (uint64_t)n == iov_len(iov, num);
	if (n == 0)
		return FLOW_EOF;
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return FLOW_BAD; /* ECONNRESET: it has closed without reading all that it was sent */
	if (!c->readable)
		vsock_poll(c->v, &c->in, c->fd, POLLIN);
	if (n > 0) {
		c->tx_cnt += (uint32_t)n;
		dev_count(&c->v->dev, DEV_TO_GUEST, 0, (uint64_t)n);
		flow_filled(rx, (uint32_t)n);
	}
	c->batch = (uint8_t)(c->readable ? MF_MIN(2 * rx->num, VSOCK_BATCH_MAX) : MF_MAX(rx->filled, 1U));
	return FLOW_OK;
}
