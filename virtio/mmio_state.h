/* Private to the transport: mmio.c, the loop's side, and mmio_regs.c, the vCPUs' side. */
#ifndef MF_VIRTIO_MMIO_STATE_H
#define MF_VIRTIO_MMIO_STATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "virtio/device.h"
#include "virtio/mmio.h"
#include "vmm/core/loop.h"

#define MMIO_WARNINGS_MAX 4 /* of broken drivers; later ones are logged at debug level */

struct mmio {
	/* Constant. */
	struct virtio_dev *dev;
	const struct kvm *kvm;
	uint64_t gpa;
	struct mmio_irq irq;

	/* Under the lock; the queue registers in dev->vq, too, until DRIVER_OK. */
	pthread_mutex_t lock;
	uint32_t device_features_sel, driver_features_sel, queue_sel;
	uint64_t driver_features;
	bool features_beyond; /* the driver has set feature bits above 63, which do not exist */

	/* Atomic. */
	uint32_t status;	   /* vCPUs write under the lock; the loop adds NEEDS_RESET and DRIVER_OK */
	uint32_t interrupt_status; /* the loop sets bits, vCPUs clear them */
	uint32_t generation;
	unsigned warnings;

	/* The loop's. */
	bool active;	    /* ops->activate has succeeded; kicks go to the device */
	bool broken;	    /* DEVICE_NEEDS_RESET since activation */
	bool has_ioeventfd; /* registered with KVM, for good */
	unsigned used_mask; /* queues with something pushed in this turn */
	bool config_irq;    /* a configuration interrupt is due */
	struct task irq_task;
	struct watch notified;
	int notify_fd; /* eventfd */
};

/* Acquire: what was done to reach a status is visible with it. Pairs with the releases that set it. */
static inline uint32_t mmio_status(const struct mmio *m)
{
	return __atomic_load_n(&m->status, __ATOMIC_ACQUIRE);
}

/* Release: pairs with mmio_status. An atomic or, so that the loop's NEEDS_RESET and a vCPU's step both stay. */
static inline void mmio_status_add(struct mmio *m, uint32_t bits)
{
	__atomic_fetch_or(&m->status, bits, __ATOMIC_RELEASE);
}

/* Logs a broken driver: MMIO_WARNINGS_MAX warnings, then at debug level. Any thread. */
void mmio_complain(struct mmio *m, const char *why);

/* Whether writes of a driver can lead to that status, which is without DEVICE_NEEDS_RESET (mmio_regs.c). */
bool mmio_status_is_reachable(uint32_t status);

/* Whether the driver may use the device with m->driver_features (mmio_regs.c). */
bool mmio_features_acceptable(const struct mmio *m);

/*
 * On the loop: starts the ready queues and activates the device. Returns 0, or -errno and *ret_why a phrase for the log, or
 * as it was.
 */
int mmio_start(struct mmio *m, const char **ret_why);

/* The two halves of the status machine that run on the loop, by loop_call with the struct mmio. They return 0. */
int mmio_activate(void *arg);
int mmio_deactivate(void *arg);

/* On the loop: the driver has new buffers in some queue. */
void mmio_kick(struct mmio *m);

#endif
