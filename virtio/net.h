/*
 * virtio-net (virtio 1.2 §5.1): a network interface of the guest, with one queue for each
 * direction, on a backend that carries its frames (net_backend.h).
 */
#ifndef MF_VIRTIO_NET_H
#define MF_VIRTIO_NET_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/ratelimit.h"

struct err;
struct loop;
struct mem;
struct net_backend;
struct virtio_dev;

#define NET_MAC_LEN 6U
#define NET_MTU_MIN 68U
#define NET_MTU_MAX 65535U

enum net_queue { NET_RX, NET_TX };

struct net_limit {
	struct ratelimit_params bytes, ops;
};

struct net_params {
	const char *id; /* kept */
	uint8_t mac[NET_MAC_LEN];
	bool own_mac;		   /* the address stays when the device is restored: the guest sets it */
	uint16_t mtu;		   /* offered to the guest (VIRTIO_NET_F_MTU); 0: not offered */
	struct net_limit limit[2]; /* by enum net_queue; NET_RX: what the guest receives */
};

/*
 * Makes the device on backend, which it owns from now on, even on failure. Before the loop runs.
 * Returns 0, or -errno with e set.
 */
int net_new(struct virtio_dev **ret, const struct net_params *params, struct net_backend *backend, struct loop *loop,
	    const struct mem *mem, struct err *e);

/* Changes the limits of one direction (throttle_set). Any thread but the loop's. */
void net_set_limit(struct virtio_dev *dev, enum net_queue queue, const struct ratelimit_params *bytes,
		   const struct ratelimit_params *ops);

#endif
