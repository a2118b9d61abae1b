/*
 * A network interface in a snapshot; see device.h.
 *
 * Quiet. The backend stops as for a reset, so nothing is read into the driver's buffers any more. The
 * buffers go back to the ring. A frame in flight may be lost, as on any network; the streams of passt
 * stay in step (net_passt.c).
 *
 * The guest keeps its address and MTU, which Linux reads once. Its link stays as it was: the other end
 * is a new one, but the guest needs to know only if that is missing now, or is back.
 */
#include <assert.h>
#include <string.h>

#include "virtio/mmio.h"
#include "virtio/net_priv.h"
#include "vmm/base/util.h"
#include "vmm/core/state.h"

static struct net *to_net(struct virtio_dev *dev)
{
	return MF_CONTAINER_OF(dev, struct net, dev);
}

int net_quiet(struct virtio_dev *dev)
{
	struct net *n = to_net(dev);

	n->backend->ops->stop(n->backend);
	assert(n->num_free == n->backend->ops->tx_max);
	n->reading = false;
	net_pool_return(n);
	return 0;
}

void net_resume(struct virtio_dev *dev)
{
	struct net *n = to_net(dev);

	if (net_link_is_up(n))
		n->backend->ops->start(n->backend, dev->features);
}

void net_save(struct virtio_dev *dev, struct state_out *out)
{
	struct net *n = to_net(dev);

	state_put_bytes(out, n->mac, sizeof(n->mac));
	state_put_u16(out, n->mtu);
	state_put_u8(out, net_link_is_up(n));
	throttle_save(&n->throttle[NET_RX], out);
	throttle_save(&n->throttle[NET_TX], out);
}

void net_restore(struct virtio_dev *dev, struct state_in *in)
{
	struct net *n = to_net(dev);
	uint8_t mac[NET_MAC_LEN], was_up;

	state_get_bytes(in, mac, sizeof(mac));
	if (mac[0] & 1)
		state_refuse(in, "MAC address of a group");
	if (!n->own_mac)
		memcpy(n->mac, mac, sizeof(n->mac));
	if (state_get_u16(in) != n->mtu)
		state_refuse(in, "it has another MTU now, and the guest has read the old one");
	was_up = state_get_u8(in);
	if (was_up > 1)
		state_refuse(in, "link");
	throttle_restore(&n->throttle[NET_RX], in);
	throttle_restore(&n->throttle[NET_TX], in);
	if (!in->why && was_up != net_link_is_up(n))
		mmio_config_changed(dev);
}
