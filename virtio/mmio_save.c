/*
 * The state of a virtio-mmio transport and its device in a snapshot; see mmio.h.
 *
 * Theory of operation. mmio_quiet pauses the queues (virtq_pop finds nothing), and lets the device
 * end what it has begun. Each head that was popped is then back in one of the two rings. So as many
 * were pushed as popped, and one index is the whole progress of a queue.
 *
 * Kicks come in the meantime and find nothing. mmio_resume kicks all queues, because notifications
 * may be gone: the eventfd was read, or the driver has notified another process, the one that was
 * saved. The kick also brings avail_event up to date, behind which a driver with EVENT_IDX would
 * stay silent.
 *
 * An interrupt is in one of three places: due (used_mask, config_irq), in InterruptStatus, or in the
 * interrupt controllers, which are saved too. mmio_resume raises the first two again. An interrupt
 * too many makes a driver look at its rings once for nothing.
 *
 * A device in DEVICE_NEEDS_RESET is restored as such: without a queue that works, until its driver
 * resets it.
 *
 * State is hostile input, as the registers are. A value that a driver may not write is refused.
 */
#include "virtio/mmio.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>

#include "virtio/device.h"
#include "virtio/mmio_state.h"
#include "vmm/base/err.h"
#include "vmm/core/loop.h"
#include "vmm/core/state.h"

#define MMIO_STATE_TAG STATE_TAG('v', 'i', 'o', ' ')
#define MMIO_STATE_VERSION 2 /* since 2: the RST packets of a vsock */

const struct state_section mmio_section = { MMIO_STATE_TAG, MMIO_STATE_VERSION };

static void pause_queues(struct mmio *m, bool paused)
{
	for (unsigned i = 0; i < m->dev->ops->num_queues; i++)
		m->dev->vq[i].paused = paused;
}

static int quiet_call(void *arg)
{
	struct mmio *m = arg;
	const struct virtio_ops *ops = m->dev->ops;

	pause_queues(m, true);
	return m->active && ops->quiet ? ops->quiet(m->dev) : 0;
}

int mmio_quiet(struct mmio *m, unsigned timeout_ms, struct err *e)
{
	if (loop_call_until(m->dev->loop, quiet_call, m, timeout_ms) == 0)
		return 0;
	return err_set(e, -ETIMEDOUT, "%s '%s': what it has begun has not ended after %u ms", m->dev->ops->name,
		       m->dev->id, timeout_ms);
}

static int resume_call(void *arg)
{
	struct mmio *m = arg;
	const struct virtio_ops *ops = m->dev->ops;

	pause_queues(m, false);
	if (m->active && ops->resume)
		ops->resume(m->dev);
	mmio_kick(m);
	if (m->used_mask || m->config_irq)
		loop_defer(m->dev->loop, &m->irq_task);
	/* Relaxed: no vCPU runs, or its edge was not lost. */
	if (__atomic_load_n(&m->interrupt_status, __ATOMIC_RELAXED))
		m->irq.raise(m->irq.ctx, m->irq.line);
	return 0;
}

void mmio_resume(struct mmio *m)
{
	(void)loop_call(m->dev->loop, resume_call, m); /* returns 0 */
}

/* Saving. */

struct state_call {
	struct mmio *m;
	struct state_out *out;
	struct state_in *in;
};

static void save_queue(const struct virtq *q, struct state_out *out)
{
	state_put_u16(out, q->size);
	state_put_u8(out, q->ready);
	state_put_u64(out, q->desc_gpa);
	state_put_u64(out, q->avail_gpa);
	state_put_u64(out, q->used_gpa);
	state_put_u16(out, q->next_used);
	state_put_u16(out, q->signalled_used);
}

static int save_call(void *arg)
{
	const struct state_call *c = arg;
	const struct mmio *m = c->m;
	const struct virtio_ops *ops = m->dev->ops;

	state_put_u32(c->out, ops->device_id);
	state_put_u8(c->out, (uint8_t)ops->num_queues);
	state_put_u32(c->out, mmio_status(m));
	state_put_u64(c->out, m->driver_features);
	state_put_u8(c->out, m->features_beyond);
	state_put_u32(c->out, m->device_features_sel);
	state_put_u32(c->out, m->driver_features_sel);
	state_put_u32(c->out, m->queue_sel);
	state_put_u32(c->out, __atomic_load_n(&m->generation, __ATOMIC_RELAXED)); /* relaxed: no vCPU runs */
	state_put_u32(c->out, __atomic_load_n(&m->interrupt_status, __ATOMIC_RELAXED));
	state_put_u8(c->out, (uint8_t)m->used_mask);
	state_put_u8(c->out, m->config_irq);
	for (unsigned i = 0; i < ops->num_queues; i++)
		save_queue(&m->dev->vq[i], c->out);
	ops->save(m->dev, c->out);
	return 0;
}

void mmio_save(struct mmio *m, struct state_out *out)
{
	struct state_call c = { .m = m, .out = out };

	state_begin(out, MMIO_STATE_TAG, m->irq.line, MMIO_STATE_VERSION);
	(void)loop_call(m->dev->loop, save_call, &c); /* returns 0 */
	state_end(out);
}

/* Restoring. */

static void refuse_unless(struct state_call *c, bool valid, const char *why)
{
	if (!valid)
		state_refuse(c->in, why);
}

static bool get_bool(struct state_call *c, const char *why)
{
	uint8_t value = state_get_u8(c->in);

	refuse_unless(c, value <= 1, why);
	return value == 1;
}

static void get_registers(struct state_call *c)
{
	struct mmio *m = c->m;
	const struct virtio_ops *ops = m->dev->ops;
	struct state_in *in = c->in;
	uint32_t status;

	refuse_unless(c, state_get_u32(in) == ops->device_id, "the device at its place is of another kind");
	refuse_unless(c, state_get_u8(in) == ops->num_queues, "number of queues");
	status = state_get_u32(in);
	refuse_unless(c, mmio_status_is_reachable(status & ~VIRTIO_CONFIG_S_NEEDS_RESET), "status");
	m->driver_features = state_get_u64(in);
	m->features_beyond = get_bool(c, "features above 63");
	m->device_features_sel = state_get_u32(in);
	m->driver_features_sel = state_get_u32(in);
	m->queue_sel = state_get_u32(in);
	__atomic_store_n(&m->generation, state_get_u32(in), __ATOMIC_RELAXED); /* relaxed: no vCPU runs */
	m->interrupt_status = state_get_u32(in);
	refuse_unless(c, !(m->interrupt_status & ~(VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG)),
		      "interrupt status");
	m->used_mask = state_get_u8(in);
	refuse_unless(c, m->used_mask < 1U << ops->num_queues, "queues with an interrupt due");
	m->config_irq = get_bool(c, "configuration interrupt");
	if (status & VIRTIO_CONFIG_S_FEATURES_OK) {
		refuse_unless(c, mmio_features_acceptable(m), "the driver uses features that the device does not have");
		m->dev->features = m->driver_features;
	}
	mmio_status_add(m, status);
}

/* Reads the registers into q, and the indices into index. */
static void get_queue(struct state_call *c, struct virtq *q, uint16_t index[2])
{
	const struct mmio *m = c->m;
	const char *why;

	q->size = state_get_u16(c->in);
	refuse_unless(c, q->size <= VIRTQ_SIZE_MAX, "queue size");
	q->ready = get_bool(c, "queue ready");
	q->desc_gpa = state_get_u64(c->in);
	q->avail_gpa = state_get_u64(c->in);
	q->used_gpa = state_get_u64(c->in);
	index[0] = state_get_u16(c->in);
	index[1] = state_get_u16(c->in);
	if (!q->ready)
		return;
	refuse_unless(c, mmio_status(m) & VIRTIO_CONFIG_S_FEATURES_OK, "queue ready before the features");
	if (virtq_check(q, m->dev->mem, &why) < 0)
		state_refuse(c->in, why);
}

static void start_device(struct state_call *c, uint16_t index[VIRTIO_QUEUES_MAX][2])
{
	struct mmio *m = c->m;
	const char *why = "the device cannot be activated";

	m->broken = mmio_status(m) & VIRTIO_CONFIG_S_NEEDS_RESET;
	if (m->broken)
		return;
	if (mmio_start(m, &why) < 0)
		state_refuse(c->in, why);
	for (unsigned i = 0; m->active && i < m->dev->ops->num_queues; i++) {
		struct virtq *q = &m->dev->vq[i];

		q->next_avail = q->next_used = index[i][0];
		q->signalled_used = index[i][1];
	}
	pause_queues(m, true);
}

static int restore_call(void *arg)
{
	struct state_call *c = arg;
	struct virtio_dev *dev = c->m->dev;
	uint16_t index[VIRTIO_QUEUES_MAX][2];

	get_registers(c);
	for (unsigned i = 0; i < dev->ops->num_queues; i++)
		get_queue(c, &dev->vq[i], index[i]);
	if (!c->in->why && mmio_status(c->m) & VIRTIO_CONFIG_S_DRIVER_OK)
		start_device(c, index);
	dev->ops->restore(dev, c->in);
	return 0;
}

int mmio_restore(struct mmio *m, struct state_in *in, struct err *e)
{
	struct state_call c = { .m = m, .in = in };

	int r = state_open(in, MMIO_STATE_TAG, m->irq.line, MMIO_STATE_VERSION, e);

	if (!r) {
		(void)loop_call(m->dev->loop, restore_call, &c); /* returns 0 */
		r = state_close(in, e);
	}
	return r < 0 ? err_wrap(e, "%s '%s'", m->dev->ops->name, m->dev->id) : 0;
}
