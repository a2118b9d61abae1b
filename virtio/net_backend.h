/*
 * What carries the frames of a network interface on the host: a tap (net_tap.c), or a stream
 * socket with passt at its other end (net_passt.c). A backend belongs to one device (net.c) and
 * to its loop. All calls are on the loop's thread, but for those that make and free it.
 */
#ifndef MF_VIRTIO_NET_BACKEND_H
#define MF_VIRTIO_NET_BACKEND_H

#include <errno.h>
#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "virtio/virtq.h"
#include "vmm/core/loop.h"

struct err;
struct net;
struct net_backend;
struct net_filter;

/* Since Linux 6.2, and not in the headers of Debian 12. */
#define NET_F_GUEST_USO4 54
#define NET_F_GUEST_USO6 55
#define NET_F_HOST_USO 56
#define NET_GSO_UDP_L4 5

#define NET_HEADER_LEN sizeof(struct virtio_net_hdr_v1) /* before each frame in the rings, always: VERSION_1 */
#define NET_FRAME_MIN 14U				/* an Ethernet header */
#define NET_FRAME_MAX 65550U				/* virtio 1.2 §5.1.6.3: 65562 with the header */
#define NET_RX_IOV_MAX 256U				/* buffers that one frame is read into */
#define NET_LOST (-ENODEV)				/* as a result: the backend is gone for good */

/* A frame to be sent: filled by the device, the backend's from send to net_sent. */
struct net_tx {
	struct op op;		     /* backend's */
	struct net_backend *backend; /* backend's */
	uint16_t head;
	uint32_t len;			 /* of the frame, without a header */
	unsigned num;			 /* of iov */
	struct virtio_net_hdr_v1 header; /* checked */
	/* The frame, in guest memory, from [1] on; [0] is the backend's. Last: few are used. */
	struct iovec iov[1 + VIRTQ_CHAIN_MAX];
};

struct net_backend_ops {
	unsigned tx_max; /* frames being sent at once */

	/* A driver uses the device, with these features. */
	void (*start)(struct net_backend *b, uint64_t features);

	/*
	 * Whether the frame may leave; false: it is dropped. Before send, in the same turn. May replace
	 * the first bytes of the frame in tx by a copy of its own. NULL: every frame may.
	 */
	bool (*admit)(struct net_backend *b, struct net_tx *tx);

	/* Starts sending. False: nothing was started, the ring is full. Otherwise net_sent follows. */
	bool (*send)(struct net_backend *b, struct net_tx *tx);

	/*
	 * Waits for one frame and reads it into the buffers (room bytes, kept by the device),
	 * after NET_HEADER_LEN bytes of header. False: nothing was started, the ring is full.
	 * Otherwise net_received follows, in a later turn. One such wait at a time.
	 */
	bool (*receive)(struct net_backend *b, const struct iovec *iov, unsigned num, uint32_t room);

	/*
	 * Cancels and waits. Afterwards it touches no guest memory, and net_sent has come for all frames;
	 * -ECANCELED: it is lost. start may follow.
	 */
	void (*stop)(struct net_backend *b);

	void (*free)(struct net_backend *b);
};

struct net_backend {
	const struct net_backend_ops *ops;
	uint64_t offered; /* feature bits */
	struct loop *loop;
	struct net *net;    /* whose it is */
	unsigned in_flight; /* operations in the ring */
};

/* For backends. The frame is the device's again; res: 0 or -errno (net_tx.c). */
void net_sent(struct net_backend *b, struct net_tx *tx, int res);

/* res: bytes with the header; more than room: the frame did not fit and is lost; or -errno. */
void net_received(struct net_backend *b, int res);

/*
 * A backend on the tap of that name. If there is none, makes it, which needs CAP_NET_ADMIN.
 * Returns 0, or -errno with e set.
 */
int net_tap_open(struct net_backend **ret, const char *name, struct loop *loop, struct err *e);

/* The same, without a backend: returns a descriptor of the tap, or -errno with e set. */
int net_tap_attach(const char *name, struct err *e);

/* Attaches to the tap for net_tap_open of another process (fdstore.h). 0, or -errno with e set. */
int net_tap_provide(const char *name, struct err *e);

/*
 * A backend on fd, which it owns from now on, even on failure: a tap or macvtap with
 * IFF_VNET_HDR, or a stream socket that speaks passt's protocol.
 */
int net_fd_open(struct net_backend **ret, int fd, struct loop *loop, struct err *e);

/*
 * Whether fd can be the backend of net_fd_open, or of net_tap_open if it was given the tap of that name (else NULL). what: the
 * descriptor, in messages. Returns 0 or -errno with e set.
 */
int net_fd_check(int fd, const char *what, const char *tap, struct err *e);

/*
 * The same for a stream socket. filter decides about each frame of the guest (net_filter.h), and
 * belongs to the backend from now on, even on failure; NULL: all pass.
 */
int net_passt_open(struct net_backend **ret, int fd, struct net_filter *filter, struct loop *loop, struct err *e);

/*
 * A backend without another end, of a VM that becomes a template: every frame is dropped. It offers these features, which those
 * of a restored VM have to have.
 */
int net_nothing_open(struct net_backend **ret, uint64_t offered, struct err *e);

#endif
