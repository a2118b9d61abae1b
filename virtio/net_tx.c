/*
 * virtio-net: frames from the guest; see net.c.
 *
 * The header is copied, checked against the negotiated features, and sent as checked
 * (net_check.c). The frame behind it goes from guest memory to the backend without a copy, but
 * for the bytes by which a backend decides whether it may leave. A frame that fails is dropped
 * and counted, as networks do.
 */
#include "virtio/iov.h"
#include "virtio/mmio.h"
#include "virtio/net_check.h"
#include "virtio/net_priv.h"
#include "vmm/base/util.h"

#define TX_BYTES_MAX MIB /* in one turn of the loop: a tap takes all of them at once */

static void net_tx_return(struct net *n, uint16_t head)
{
	virtq_push(&n->dev.vq[NET_TX], head, 0);
	mmio_used(&n->dev, NET_TX);
}

enum net_next { NEXT_MORE, NEXT_STOP };

/* Sends n->chain, which was just popped, or drops it. */
static enum net_next net_tx_begin(struct net *n)
{
	const struct virtq_chain *c = &n->chain;
	struct net_tx *tx = n->free[n->num_free - 1];

	if (!net_link_is_up(n) || !net_check_tx(&tx->header, c, n->dev.features)) {
		n->dropped[NET_TX]++;
		net_tx_return(n, c->head);
		return NEXT_MORE;
	}
	tx->head = c->head;
	tx->len = (uint32_t)(c->out_len - NET_HEADER_LEN);
	tx->num = 1 + iov_slice(tx->iov + 1, c->iov, c->num_out, NET_HEADER_LEN, tx->len);
	if (!throttle_may(&n->throttle[NET_TX], tx->len)) {
		virtq_unpop(&n->dev.vq[NET_TX], c);
		return NEXT_STOP;
	}
	if (n->backend->ops->admit && !n->backend->ops->admit(n->backend, tx)) {
		n->dropped[NET_TX]++;
		net_tx_return(n, c->head);
		return NEXT_MORE;
	}
	if (!n->backend->ops->send(n->backend, tx)) {
		virtq_unpop(&n->dev.vq[NET_TX], c);
		loop_defer(n->dev.loop, &n->again);
		return NEXT_STOP;
	}
	n->num_free--;
	throttle_charge(&n->throttle[NET_TX], tx->len);
	return NEXT_MORE;
}

void net_tx_run(struct net *n)
{
	struct virtq *q = &n->dev.vq[NET_TX];
	uint64_t bytes = 0;

	virtq_disable_notify(q);
	for (unsigned budget = VIRTQ_SIZE_MAX; budget > 0 && bytes < TX_BYTES_MAX; budget--) {
		const char *why = "frame to send with buffers that the device should write";
		int got;

		if (n->num_free == 0)
			return; /* net_sent continues */
		got = virtq_pop(q, &n->chain, &why);
		if (got == 0) {
			if (virtq_enable_notify(q))
				continue;
			return;
		}
		if (got < 0 || n->chain.num_in > 0) {
			mmio_broken(&n->dev, why);
			return;
		}
		bytes += MF_MIN(n->chain.out_len, NET_HEADER_LEN + NET_FRAME_MAX); /* longer ones are dropped */
		if (net_tx_begin(n) == NEXT_STOP)
			return;
	}
	loop_defer(n->dev.loop, &n->again);
}

void net_sent(struct net_backend *b, struct net_tx *tx, int res)
{
	struct net *n = b->net;
	bool starved; /* net_tx_run waits for a slot */

	if (!n->active)
		return; /* net_activate makes all slots free */
	starved = n->num_free == 0;
	n->free[n->num_free++] = tx;
	if (res < 0)
		n->dropped[NET_TX]++;
	else
		net_count(n, NET_TX, tx->len);
	if (res == NET_LOST)
		net_lose_link(n);
	else if (res < 0 && !net_is_quiet(n))
		net_warn(n, "send", res);
	net_tx_return(n, tx->head);
	if (starved)
		loop_defer(n->dev.loop, &n->again);
}
