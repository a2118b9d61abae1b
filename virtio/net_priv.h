/* What net.c, net_tx.c and net_rx.c share, and nobody else includes. */
#ifndef MF_VIRTIO_NET_PRIV_H
#define MF_VIRTIO_NET_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/device.h"
#include "virtio/net.h"
#include "virtio/net_backend.h"
#include "virtio/throttle.h"
#include "vmm/core/loop.h"

#define BIT(feature) (1ULL << (feature))

struct rx_buf {
	uint16_t head;
	uint16_t iovs;
	uint32_t len;
};

struct net {
	struct virtio_dev dev;
	struct net_backend *backend;
	uint8_t mac[NET_MAC_LEN];
	bool own_mac; /* see struct net_params */
	uint16_t mtu;
	bool link_up; /* atomic: vCPUs read it */
	bool active, warned;
	struct task again;   /* after a full ring, a queue too long for one turn, or net_sent */
	uint64_t dropped[2]; /* frames, by enum net_queue; for the log. dev.counts has the others, without headers */
	struct throttle throttle[2]; /* by enum net_queue */
	struct virtq_chain chain;    /* popped last */

	bool reading;
	uint64_t rx_turn;   /* the turn of the loop in which a frame came last, */
	uint32_t rx_bytes;  /* and the bytes that came in it */
	uint32_t rx_room;   /* bytes in the pool */
	uint32_t rx_wanted; /* bytes of the largest frame that may come */
	unsigned num_bufs, num_iov;
	struct rx_buf buf[VIRTQ_SIZE_MAX];
	struct iovec iov[NET_RX_IOV_MAX];

	unsigned num_free;
	struct net_tx **free; /* a stack */
	struct net_tx *slots; /* tx_max of them */
};

static inline bool net_has(const struct net *n, unsigned feature)
{
	return n->dev.features >> feature & 1;
}

/* Relaxed: it stands for itself. */
static inline bool net_link_is_up(const struct net *n)
{
	return __atomic_load_n(&n->link_up, __ATOMIC_RELAXED);
}

static inline void net_count(struct net *n, enum net_queue queue, uint32_t len)
{
	dev_count(&n->dev, queue == NET_RX ? DEV_TO_GUEST : DEV_FROM_GUEST, 1, len);
}

/* The backend is gone for good: takes the link down. */
void net_lose_link(struct net *n);

/* Logs an error of the backend: the first as a warning, later ones for developers. */
void net_warn(struct net *n, const char *verb, int res);

static inline bool net_is_quiet(const struct net *n)
{
	return n->dev.vq[NET_RX].paused;
}

/* net_save.c: see device.h. */
int net_quiet(struct virtio_dev *dev);
void net_resume(struct virtio_dev *dev);
void net_save(struct virtio_dev *dev, struct state_out *out);
void net_restore(struct virtio_dev *dev, struct state_in *in);

/* Gives back to the driver what the pool holds, in the order in which it came (net_rx.c). */
void net_pool_return(struct net *n);

/* Sends posted frames, as far as backend, limit and turn allow (net_tx.c). */
void net_tx_run(struct net *n);

/* Starts to receive a frame, if it can and none is under way (net_rx.c). */
void net_rx_run(struct net *n);

#endif
