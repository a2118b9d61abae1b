/*
 * The virtio-mmio transport, version 2 (virtio 1.2 §4.2); see mmio.h. This file is the loop's side:
 * notifications, interrupts, activation and reset. mmio_regs.c is the vCPUs' side, the registers.
 *
 * Theory of operation. Each device has a window of MMIO_WINDOW_SIZE bytes: 32-bit control registers
 * below 0x100, then the device's configuration space. A guest access is an exit from KVM_RUN on a
 * vCPU thread, which calls mmio_access. The device itself works on its loop.
 *
 *                  ACKNOWLEDGE    DRIVER     FEATURES_OK        DRIVER_OK
 *   0 (after reset) ---------> A ------> AD -----------> ADF -------------> active
 *   ^                                  features     queue registers        kicks, interrupts
 *   +---- write 0, from anywhere ------ + FAILED, from anywhere; NEEDS_RESET (the device's own) until reset
 *
 * The steps are a table; any other write to Status is ignored (§2.1). Features can be written in AD only and queue
 * registers in ADF only, while the queue is not ready, so nothing that was checked can change afterwards.
 *
 * Threads. The mutex serialises the vCPUs. It is held across loop_call, which carries DRIVER_OK, reset and config writes
 * to the loop; so the loop's thread never takes it. The fields of struct mmio say whose they are. Reads of Status and
 * InterruptStatus, InterruptACK and QueueNotify take no lock: a vCPU does not wait for another one's reset, and the
 * interrupt path is a few instructions. A reset is complete, nothing in flight, when the write of 0 returns: Linux does
 * not poll afterwards.
 *
 * Notifications. A device has one eventfd that the loop watches from the start, and looks at all of its queues when it is
 * signalled. A QueueNotify write that reaches us calls the loop; from the first DRIVER_OK on, KVM signals the eventfd
 * instead, for a write of any value and length, which spares it decoding the instruction (VMX). Only then is it
 * registered (KVM_IOEVENTFD), and kept: every registration waits for an RCU grace period on some kernels (7-20 ms), and
 * any memslot change after one, too. A notification that comes while the device is not active is ignored, and the device
 * is kicked once at DRIVER_OK, so none is lost.
 *
 * Interrupts. mmio_used and the others only record what happened. One task at the end of the loop's
 * turn sets InterruptStatus and raises the (edge-triggered) line once.
 *
 * The attention word (docs/guest-interface.md) lies in guest memory. It is set before the interrupt of
 * a configuration change. A driver that knows it accesses InterruptStatus and InterruptACK only if it
 * is set. For such a driver the bit of used buffers stays set for good; the line is raised in any case,
 * so the transport need not know which kind of driver it has. It never reads the word.
 *
 * Snapshots are in mmio_save.c.
 */
#include "virtio/mmio.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/eventfd.h>

#include "virtio/device.h"
#include "virtio/mmio_state.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/kvm.h"
#include "vmm/core/loop.h"

void mmio_complain(struct mmio *m, const char *why)
{
	/* Relaxed: it is only a count. */
	bool loud = __atomic_fetch_add(&m->warnings, 1, __ATOMIC_RELAXED) < MMIO_WARNINGS_MAX;

	log_at(loud ? LOG_LEVEL_WARN : LOG_LEVEL_DEBUG,
	       "%s '%s': %s; continuing without the device until the guest resets it", m->dev->ops->name, m->dev->id,
	       why);
}

static void mmio_interrupt(struct task *task)
{
	struct mmio *m = MF_CONTAINER_OF(task, struct mmio, irq_task);
	uint32_t bits = m->config_irq ? VIRTIO_MMIO_INT_CONFIG : 0;

	for (unsigned i = 0; i < m->dev->ops->num_queues; i++)
		if (m->used_mask & 1U << i && virtq_needs_interrupt(&m->dev->vq[i]))
			bits |= VIRTIO_MMIO_INT_VRING;
	m->used_mask = 0;
	m->config_irq = false;
	if (!bits)
		return;
	/*
	 * Release: used rings and status are visible before the reason. Pairs with the acquire in mmio_read. The line is
	 * raised even if the bit was still set: it is an edge, and the driver may have read the ring already.
	 */
	__atomic_fetch_or(&m->interrupt_status, bits, __ATOMIC_RELEASE);
	/* Release: a driver that finds the word set reads the bits above. Pairs with its exchange of the word for 0. */
	if (bits & VIRTIO_MMIO_INT_CONFIG && m->irq.attention)
		__atomic_store_n(m->irq.attention, 1, __ATOMIC_RELEASE);
	m->irq.raise(m->irq.ctx, m->irq.line);
}

void mmio_used(struct virtio_dev *dev, unsigned index)
{
	dev->mmio->used_mask |= 1U << index;
	loop_defer(dev->loop, &dev->mmio->irq_task);
}

void mmio_used_later(struct virtio_dev *dev, unsigned index)
{
	dev->mmio->used_mask |= 1U << index;
}

void mmio_config_changed(struct virtio_dev *dev)
{
	struct mmio *m = dev->mmio;

	/* Release: the new contents are visible before the new number. Pairs with the acquire in mmio_read. */
	__atomic_fetch_add(&m->generation, 1, __ATOMIC_RELEASE);
	if (!(mmio_status(m) & VIRTIO_CONFIG_S_DRIVER_OK))
		return; /* §2.1.2: no notification before DRIVER_OK */
	m->config_irq = true;
	loop_defer(dev->loop, &m->irq_task);
}

void mmio_broken(struct virtio_dev *dev, const char *why)
{
	struct mmio *m = dev->mmio;

	if (m->broken)
		return;
	m->broken = true;
	mmio_complain(m, why);
	for (unsigned i = 0; i < dev->ops->num_queues; i++)
		dev->vq[i].broken = true;
	mmio_status_add(m, VIRTIO_CONFIG_S_NEEDS_RESET);
	m->config_irq = true;
	loop_defer(dev->loop, &m->irq_task);
}

void mmio_kick(struct mmio *m)
{
	if (m->active && !m->broken)
		m->dev->ops->kick(m->dev);
}

static void mmio_notified(struct watch *watch)
{
	mmio_kick(MF_CONTAINER_OF(watch, struct mmio, notified));
}

/* KVM signals the eventfd from now on. Without it, notifications come through mmio_access, slower. */
static void mmio_add_ioeventfd(struct mmio *m)
{
	int err;

	if (!m->kvm || m->has_ioeventfd)
		return;
	m->has_ioeventfd = true;
	err = kvm_ioeventfd_add(m->kvm, m->gpa + VIRTIO_MMIO_QUEUE_NOTIFY, m->notify_fd);
	if (err < 0)
		log_warn("%s '%s': register its ioeventfd: %s; continuing with exits", m->dev->ops->name, m->dev->id,
			 strerror(-err));
}

int mmio_start(struct mmio *m, const char **ret_why)
{
	struct virtio_dev *dev = m->dev;
	int err = 0;

	mmio_add_ioeventfd(m);
	for (unsigned i = 0; i < dev->ops->num_queues && !err; i++)
		if (dev->vq[i].ready)
			err = virtq_start(&dev->vq[i], dev->mem, dev->features >> VIRTIO_RING_F_EVENT_IDX & 1,
					  dev->features >> VIRTIO_RING_F_INDIRECT_DESC & 1, ret_why);
	if (!err)
		err = dev->ops->activate(dev);
	m->active = !err;
	return err;
}

int mmio_activate(void *arg)
{
	struct mmio *m = arg;
	const char *why = "the device cannot be activated";

	mmio_status_add(m, VIRTIO_CONFIG_S_DRIVER_OK);
	if (mmio_start(m, &why) < 0)
		mmio_broken(m->dev, why);
	else
		mmio_kick(m);
	return 0;
}

int mmio_deactivate(void *arg)
{
	struct mmio *m = arg;
	bool was_active = m->active;

	/* First: while ops->reset drains, our own watches complete, and must not kick the device. */
	m->active = false;
	if (was_active)
		m->dev->ops->reset(m->dev);
	for (unsigned i = 0; i < m->dev->ops->num_queues; i++)
		virtq_stop(&m->dev->vq[i]);
	m->broken = false;
	m->used_mask = 0;
	m->config_irq = false;
	return 0;
}

int mmio_new(struct mmio **ret, struct virtio_dev *dev, const struct kvm *kvm, uint64_t gpa, struct mmio_irq irq,
	     struct err *e)
{
	struct mmio *m = calloc(1, sizeof(*m));
	int err = 0;

	if (!m)
		return err_set(e, -ENOMEM, "%s '%s': out of memory", dev->ops->name, dev->id);
	*m = (struct mmio){
		.dev = dev,
		.kvm = kvm,
		.gpa = gpa,
		.irq = irq,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.irq_task.run = mmio_interrupt,
		.notified.fire = mmio_notified,
	};
	/* Not EFD_NONBLOCK: the ring completes a read of a non-blocking file at once, with EAGAIN. */
	m->notify_fd = eventfd(0, EFD_CLOEXEC);
	if (m->notify_fd < 0)
		err = err_sys(e, "%s '%s': eventfd", dev->ops->name, dev->id);
	else if (loop_watch(dev->loop, &m->notified, m->notify_fd) < 0)
		err = err_set(e, -EMFILE, "%s '%s': its loop has too many files", dev->ops->name, dev->id);
	if (err < 0) {
		mmio_free(m);
		return err;
	}
	dev->mmio = m;
	*ret = m;
	return 0;
}

void mmio_free(struct mmio *m)
{
	if (!m)
		return;
	if (m->notify_fd >= 0)
		close(m->notify_fd);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

const char *mmio_state_name(const struct mmio *m)
{
	uint32_t status = mmio_status(m);

	if (status & (VIRTIO_CONFIG_S_NEEDS_RESET | VIRTIO_CONFIG_S_FAILED))
		return "broken";
	return status & VIRTIO_CONFIG_S_DRIVER_OK ? "active" : "idle";
}
