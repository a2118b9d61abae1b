/*
 * virtio-net: frames to the guest; see net.c.
 *
 * The pool is one iovec of all buffers that the driver has posted and no frame has filled yet, in
 * their order. The backend reads the next frame, header included, straight into them. With
 * MRG_RXBUF a frame fills as many buffers as it needs: the first header has their number, and
 * they are published at once (§5.1.6.4). Without it, a frame has one buffer.
 *
 * A read starts when the pool has room for the largest frame that may come, or when it holds the
 * driver's whole ring. Otherwise nothing is read, so a guest that posts no buffers costs nothing,
 * whatever the host sends: the kernel drops it at the tap, or passt stops reading its sockets. A
 * frame that does not fit is dropped, and the buffers stay in the pool.
 */
#include <endian.h>
#include <errno.h>
#include <linux/virtio_net.h>
#include <string.h>

#include "virtio/iov.h"
#include "virtio/mmio.h"
#include "virtio/net_priv.h"
#include "vmm/base/util.h"

#define RX_PAUSE_NS 100000000U /* after an error of the backend that may pass */
#define RX_BUF_MAX MIB	       /* counted of a buffer: no frame is as long, and sums stay small */
#define RX_BYTES_MAX                                                                                                   \
	(256 * KIB)	    /* in one turn of the loop: then the driver is interrupted, and others have their turn */
#define RX_FRAME_COST 2048U /* counted of each frame, beside its bytes */

/* Adds n->chain to the pool. Returns NULL, or its fault. *ret_full: no room, it went back. */
static const char *net_pool_add(struct net *n, bool *ret_full)
{
	const struct virtq_chain *c = &n->chain;
	uint32_t len = (uint32_t)MF_MIN(c->in_len, RX_BUF_MAX);

	if (c->num_out > 0)
		return "receive buffer that the device may not write";
	if (c->in_len < NET_HEADER_LEN)
		return "receive buffer smaller than the header";
	if (n->num_iov + c->num_in > NET_RX_IOV_MAX) {
		virtq_unpop(&n->dev.vq[NET_RX], c);
		*ret_full = true;
		return NULL;
	}
	memcpy(&n->iov[n->num_iov], c->iov, c->num_in * sizeof(c->iov[0]));
	n->buf[n->num_bufs++] = (struct rx_buf){ c->head, (uint16_t)c->num_in, len };
	n->num_iov += c->num_in;
	n->rx_room += len;
	return NULL;
}

/* Takes the first num buffers off the pool. */
static void net_pool_drop(struct net *n, unsigned num)
{
	unsigned iovs = 0;

	for (unsigned i = 0; i < num; i++) {
		iovs += n->buf[i].iovs;
		n->rx_room -= n->buf[i].len;
	}
	n->num_bufs -= num;
	n->num_iov -= iovs;
	memmove(n->buf, n->buf + num, n->num_bufs * sizeof(n->buf[0]));
	memmove(n->iov, n->iov + iovs, n->num_iov * sizeof(n->iov[0]));
}

void net_pool_return(struct net *n)
{
	while (n->num_bufs > 0)
		virtq_unpop_head(&n->dev.vq[NET_RX], n->buf[--n->num_bufs].head);
	n->num_iov = n->rx_room = 0;
}

static bool net_pool_suffices(const struct net *n)
{
	if (n->num_bufs > 0 && !net_has(n, VIRTIO_NET_F_MRG_RXBUF))
		return true;
	return n->num_bufs > 0 && (n->rx_room >= n->rx_wanted || n->num_bufs == n->dev.vq[NET_RX].size);
}

/* Fills the pool from the ring. Returns whether it suffices for a frame. */
static bool net_pool_fill(struct net *n)
{
	struct virtq *q = &n->dev.vq[NET_RX];
	bool full = false;
	const char *why;
	int got;

	virtq_disable_notify(q);
	while (!net_pool_suffices(n)) {
		got = virtq_pop(q, &n->chain, &why);
		if (got == 0) {
			if (virtq_enable_notify(q))
				continue;
			return false;
		}
		if (got > 0)
			why = net_pool_add(n, &full);
		if (why) {
			mmio_broken(&n->dev, why);
			return false;
		}
		if (full)
			break;
	}
	return true;
}

/* A backend may have one frame after the other, all in one turn. */
static bool net_rx_has_time(const struct net *n)
{
	return n->rx_bytes < RX_BYTES_MAX || n->rx_turn != loop_this_turn(n->dev.loop);
}

static void net_rx_spend(struct net *n, uint32_t bytes)
{
	uint64_t turn = loop_this_turn(n->dev.loop);

	if (n->rx_turn != turn)
		n->rx_bytes = 0;
	n->rx_turn = turn;
	n->rx_bytes += RX_FRAME_COST + bytes;
}

void net_rx_run(struct net *n)
{
	if (n->reading || n->dev.vq[NET_RX].broken || !net_link_is_up(n) || !net_pool_fill(n) ||
	    !throttle_may(&n->throttle[NET_RX], 0))
		return;
	n->reading = net_rx_has_time(n) && n->backend->ops->receive(n->backend, n->iov, n->num_iov, n->rx_room);
	if (!n->reading)
		loop_defer(n->dev.loop, &n->again);
}

/* Gives the driver the pool's first len bytes, a header and a frame. */
static void net_rx_deliver(struct net *n, uint32_t len)
{
	struct virtq *q = &n->dev.vq[NET_RX];
	uint32_t left = len;
	unsigned num = 0;
	uint16_t num_le;

	while (left > 0) {
		uint32_t part = MF_MIN(left, n->buf[num].len);

		virtq_fill(q, n->buf[num++].head, part);
		left -= part;
	}
	num_le = htole16((uint16_t)num);
	/* There is room: every buffer holds a header. */
	(void)iov_put(n->iov, n->num_iov, offsetof(struct virtio_net_hdr_v1, num_buffers), &num_le, sizeof(num_le));
	virtq_flush(q);
	net_pool_drop(n, num);
	mmio_used(&n->dev, NET_RX);
	net_count(n, NET_RX, len - (uint32_t)NET_HEADER_LEN);
	throttle_charge(&n->throttle[NET_RX], len - (uint32_t)NET_HEADER_LEN);
}

void net_received(struct net_backend *b, int res)
{
	struct net *n = b->net;

	n->reading = false;
	if (!n->active || net_is_quiet(n))
		return; /* the pool is the driver's again, or about to be */
	net_rx_spend(n, (uint32_t)MF_MAX(res, 0));
	if (res == NET_LOST) {
		net_lose_link(n);
	} else if (res < 0) {
		net_warn(n, "receive", res);
		throttle_pause(&n->throttle[NET_RX], RX_PAUSE_NS);
	} else if ((uint32_t)res > n->rx_room || (uint32_t)res < NET_HEADER_LEN) {
		n->dropped[NET_RX]++;
	} else if (!n->dev.vq[NET_RX].broken) {
		net_rx_deliver(n, (uint32_t)res);
	}
	net_rx_run(n);
}
