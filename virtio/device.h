/*
 * The device interface. A device embeds struct virtio_dev and fills one const struct virtio_ops, at the foot of its
 * file. Status, features, queue registers and interrupts belong to the transport (mmio.c); the device sees requests.
 *
 *	            write(Status)                      kick                         completion
 *	vCPU thread ------------> loop_call(activate)    |  loop: ops->kick -> virtq_pop -> loop_readv ... -> virtq_push
 *
 * All ops but config_read and config_write run on the device's loop.
 */
#ifndef MF_VIRTIO_DEVICE_H
#define MF_VIRTIO_DEVICE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "virtio/virtq.h"

struct loop;
struct mem;
struct mmio;
struct state_in;
struct state_out;
struct virtio_dev;

#define VIRTIO_QUEUES_MAX 3

struct virtio_ops {
	const char *name;   /* for the log */
	uint32_t device_id; /* virtio 1.2 §5 */
	unsigned num_queues;
	uint32_t config_len; /* bytes of configuration space */

	/* Fills buf with [offset, offset + len) of the configuration space; the range is inside it. vCPU threads. */
	void (*config_read)(struct virtio_dev *dev, uint32_t offset, void *buf, uint32_t len);

	/* Optional: the driver writes its configuration space. On the loop. */
	void (*config_write)(struct virtio_dev *dev, uint32_t offset, const void *buf, uint32_t len);

	/*
	 * DRIVER_OK: dev->features is set and the ready queues are started; virtq_pop finds nothing in the
	 * others. Returns 0, or -errno and there is nothing to reset. The transport then kicks the device.
	 */
	int (*activate)(struct virtio_dev *dev);

	/* Any queue may hold new buffers. Only between activate and reset. */
	void (*kick)(struct virtio_dev *dev);

	/*
	 * Stops taking requests, cancels those in flight and waits for them. Afterwards the device touches
	 * no guest memory and makes no call. The transport then stops the queues.
	 */
	void (*reset)(struct virtio_dev *dev);

	/*
	 * The way to a snapshot, with every vCPU parked. The queues are paused, so nothing new begins.
	 *
	 * quiet (optional): 0: no request is in flight, the device touches no guest memory, and every
	 * head that was popped is in the used ring or back in the available ring. 1: not yet; it is
	 * called again when something has ended. It waits for nothing itself. Only if active.
	 *
	 * resume (optional): the queues work again, after quiet or after restore; kick follows. Also
	 * after a quiet that gave 1. Only if active.
	 *
	 * save: writes what quiet has left, apart from the queues.
	 *
	 * restore: reads that into a device that has just been made, and activated if the saved one
	 * was active. The queues are paused. A value that the device cannot have is refused
	 * (state_refuse).
	 */
	int (*quiet)(struct virtio_dev *dev);
	void (*resume)(struct virtio_dev *dev);
	void (*save)(struct virtio_dev *dev, struct state_out *out);
	void (*restore)(struct virtio_dev *dev, struct state_in *in);

	/* Frees the device, which is not active and not NULL. */
	void (*free)(struct virtio_dev *dev);
};

/* A device's counters of its work for the guest, since the start. */
enum dev_direction { DEV_TO_GUEST, DEV_FROM_GUEST };

struct dev_counts {
	_Atomic uint64_t requests, bytes; /* requests: of drives, frames of networks */
};

struct virtio_dev {
	struct dev_counts counts[2]; /* by enum dev_direction: written by the loop alone, read by any thread; no order */
	const struct virtio_ops *ops;
	struct loop *loop;
	const struct mem *mem;
	struct mmio *mmio; /* set by mmio_new */
	uint64_t offered;  /* the device's feature bits; the transport adds its own and the ring's */
	uint64_t features; /* what the driver accepted */
	const char *id;	   /* the user's name for it, in messages */
	struct virtq vq[VIRTIO_QUEUES_MAX];
};

/* On the loop: no other thread writes, so no atomic addition is needed. */
static inline void dev_count(struct virtio_dev *dev, enum dev_direction direction, uint64_t requests, uint64_t bytes)
{
	struct dev_counts *c = &dev->counts[direction];

	atomic_store_explicit(&c->requests, atomic_load_explicit(&c->requests, memory_order_relaxed) + requests,
			      memory_order_relaxed);
	atomic_store_explicit(&c->bytes, atomic_load_explicit(&c->bytes, memory_order_relaxed) + bytes,
			      memory_order_relaxed);
}

#endif
