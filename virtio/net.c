/*
 * virtio-net: one network interface, its link and its life; see net.h.
 *
 * Theory of operation. Each buffer of the rings begins with a virtio header of 12 bytes
 * (VERSION_1); a frame follows.
 *
 *   guest sends     net_tx.c: net_tx_run: virtq_pop, check the header, backend->send
 *                             net_sent: virtq_push
 *   guest receives  net_rx.c: net_rx_run: virtq_pop into the pool, backend->receive
 *                             net_received: virtq_push
 *
 * Limits (throttle.h), one for each direction. A frame to send without tokens goes back to the
 * ring, and the throttle's timer tries again. A read starts only if the frames before it are
 * paid for.
 *
 * Loss. If a backend is gone for good (the tap was deleted, passt has ended), the link goes down
 * (STATUS) and stays down; frames are dropped. Another error of the host costs one frame, and
 * for a read a pause of RX_PAUSE_NS.
 *
 * All on the loop's thread, but for net_new, net_free and net_config_read. Nothing is allocated
 * per frame.
 */
#include "virtio/net.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <string.h>

#include "virtio/device.h"
#include "virtio/mmio.h"
#include "virtio/net_backend.h"
#include "virtio/net_priv.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/loop.h"

#define MTU_DEFAULT 1500U

#define GUEST_GSO                                                                                                      \
	(BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_UFO) |                   \
	 BIT(NET_F_GUEST_USO4) | BIT(NET_F_GUEST_USO6))

static struct net *to_net(struct virtio_dev *dev)
{
	return MF_CONTAINER_OF(dev, struct net, dev);
}

void net_lose_link(struct net *n)
{
	if (!net_link_is_up(n))
		return;
	/* Relaxed: mmio_config_changed orders it before the new generation. */
	__atomic_store_n(&n->link_up, false, __ATOMIC_RELAXED);
	log_warn("net '%s': its other end is gone; continuing with the link down", n->dev.id);
	mmio_config_changed(&n->dev);
}

void net_warn(struct net *n, const char *verb, int res)
{
	log_at(n->warned ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN, "net '%s': %s: %s; continuing, frames are lost", n->dev.id,
	       verb, strerror(-res));
	n->warned = true;
}

static void net_again(struct task *task)
{
	struct net *n = MF_CONTAINER_OF(task, struct net, again);

	if (!n->active)
		return;
	net_tx_run(n);
	net_rx_run(n);
}

static void net_rx_timer(struct timer *timer)
{
	net_rx_run(MF_CONTAINER_OF(timer, struct net, throttle[NET_RX].timer));
}

static void net_tx_timer(struct timer *timer)
{
	net_tx_run(MF_CONTAINER_OF(timer, struct net, throttle[NET_TX].timer));
}

static void net_kick(struct virtio_dev *dev)
{
	net_tx_run(to_net(dev));
	net_rx_run(to_net(dev));
}

static int net_activate(struct virtio_dev *dev)
{
	struct net *n = to_net(dev);
	uint32_t mtu = net_has(n, VIRTIO_NET_F_MTU) ? MF_MAX(n->mtu, MTU_DEFAULT) : MTU_DEFAULT;

	n->rx_wanted = (uint32_t)NET_HEADER_LEN + (dev->features & GUEST_GSO ? NET_FRAME_MAX : NET_FRAME_MIN + mtu);
	n->reading = false;
	n->num_bufs = n->num_iov = n->rx_room = 0;
	n->num_free = 0;
	/* The lowest on top: memory that was touched before is used first. */
	for (unsigned i = n->backend->ops->tx_max; i > 0; i--)
		n->free[n->num_free++] = &n->slots[i - 1];
	n->active = true;
	if (net_link_is_up(n))
		n->backend->ops->start(n->backend, dev->features);
	return 0;
}

static void net_reset(struct virtio_dev *dev)
{
	struct net *n = to_net(dev);

	n->active = false; /* net_sent and net_received do nothing now */
	throttle_cancel(&n->throttle[NET_RX]);
	throttle_cancel(&n->throttle[NET_TX]);
	n->backend->ops->stop(n->backend);
	for (unsigned i = NET_RX; i <= NET_TX; i++) {
		const struct dev_counts *c = &dev->counts[i == NET_RX ? DEV_TO_GUEST : DEV_FROM_GUEST];

		log_debug("net '%s': %s %llu frames, %llu bytes, %llu dropped", dev->id,
			  i == NET_RX ? "received" : "sent", (unsigned long long)atomic_load(&c->requests),
			  (unsigned long long)atomic_load(&c->bytes), (unsigned long long)n->dropped[i]);
	}
}

static void net_config_read(struct virtio_dev *dev, uint32_t offset, void *buf, uint32_t len)
{
	const struct net *n = to_net(dev);
	struct virtio_net_config config = {
		.status = net_link_is_up(n) ? VIRTIO_NET_S_LINK_UP : 0,
		.max_virtqueue_pairs = 1,
		.mtu = n->mtu,
	};

	memcpy(config.mac, n->mac, sizeof(config.mac));
	memcpy(buf, (const char *)&config + offset, len);
}

static void net_free(struct virtio_dev *dev)
{
	struct net *n = to_net(dev);

	n->backend->ops->free(n->backend);
	free(n->slots);
	free(n->free);
	free(n);
}

static const struct virtio_ops net_ops;

int net_new(struct virtio_dev **ret, const struct net_params *params, struct net_backend *backend, struct loop *loop,
	    const struct mem *mem, struct err *e)
{
	struct net *n = calloc(1, sizeof(*n));

	if (!n) {
		backend->ops->free(backend);
		return err_set(e, -ENOMEM, "net '%s': out of memory", params->id);
	}
	n->dev = (struct virtio_dev){
		.ops = &net_ops,
		.loop = loop,
		.mem = mem,
		.id = params->id,
		.offered = backend->offered | BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_MAC) |
			   BIT(VIRTIO_NET_F_STATUS) | (params->mtu ? BIT(VIRTIO_NET_F_MTU) : 0),
	};
	n->backend = backend;
	backend->net = n;
	memcpy(n->mac, params->mac, sizeof(n->mac));
	n->own_mac = params->own_mac;
	n->mtu = params->mtu;
	n->link_up = true;
	n->again.run = net_again;
	for (unsigned i = NET_RX; i <= NET_TX; i++)
		throttle_init(&n->throttle[i], loop, i == NET_RX ? net_rx_timer : net_tx_timer, &params->limit[i].bytes,
			      &params->limit[i].ops);
	/* Many of them are mapped, and not touched. */
	n->slots = calloc(backend->ops->tx_max, sizeof(*n->slots));
	n->free = calloc(backend->ops->tx_max, sizeof(struct net_tx *));
	if (!n->slots || !n->free) {
		net_free(&n->dev);
		return err_set(e, -ENOMEM, "net '%s': out of memory", params->id);
	}
	*ret = &n->dev;
	return 0;
}

void net_set_limit(struct virtio_dev *dev, enum net_queue queue, const struct ratelimit_params *bytes,
		   const struct ratelimit_params *ops)
{
	throttle_set(&to_net(dev)->throttle[queue], bytes, ops);
}

static const struct virtio_ops net_ops = {
	.name = "net",
	.device_id = VIRTIO_ID_NET,
	.num_queues = 2,
	.config_len = offsetof(struct virtio_net_config, speed),
	.config_read = net_config_read,
	.activate = net_activate,
	.kick = net_kick,
	.reset = net_reset,
	.quiet = net_quiet,
	.resume = net_resume,
	.save = net_save,
	.restore = net_restore,
	.free = net_free,
};
