/*
 * The register window of the virtio-mmio transport, as vCPUs see it (virtio 1.2 §4.2.2); mmio.c says how it works.
 */
#include "virtio/mmio.h"

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "virtio/device.h"
#include "virtio/mmio_state.h"
#include "vmm/base/fdio.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/loop.h"

#define MMIO_MAGIC 0x74726976U	/* "virt" */
#define MMIO_VENDOR 0x796c664dU /* "Mfly" */

/* Offered for every device. Not offered: ACCESS_PLATFORM, IN_ORDER, NOTIFICATION_DATA, RING_RESET. */
#define MMIO_FEATURES                                                                                                  \
	(1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_EVENT_IDX | 1ULL << VIRTIO_RING_F_INDIRECT_DESC)

/* The driver's progress (§3.1.1). DEVICE_NEEDS_RESET is not part of it: the device sets that. */
#define STATE_RESET 0U
#define STATE_A VIRTIO_CONFIG_S_ACKNOWLEDGE
#define STATE_AD (STATE_A | VIRTIO_CONFIG_S_DRIVER)
#define STATE_ADF (STATE_AD | VIRTIO_CONFIG_S_FEATURES_OK)
#define STATE_ADFO (STATE_ADF | VIRTIO_CONFIG_S_DRIVER_OK)
#define FAILED VIRTIO_CONFIG_S_FAILED
#define NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET

/* The legal writes to Status, besides 0. Each only adds bits. */
static const struct {
	uint8_t from, to;
} mmio_transitions[] = {
	{ STATE_RESET, STATE_A },
	{ STATE_RESET, STATE_AD }, /* small drivers take both steps at once */
	{ STATE_A, STATE_AD },
	{ STATE_AD, STATE_ADF }, /* if the features are acceptable */
	{ STATE_ADF, STATE_ADFO },
	{ STATE_RESET, STATE_RESET | FAILED },
	{ STATE_A, STATE_A | FAILED },
	{ STATE_AD, STATE_AD | FAILED },
	{ STATE_ADF, STATE_ADF | FAILED },
	{ STATE_ADFO, STATE_ADFO | FAILED },
};

static uint64_t mmio_offered(const struct mmio *m)
{
	return m->dev->offered | MMIO_FEATURES;
}

/* ---- On vCPU threads, with the lock ---- */

static void mmio_reset_locked(struct mmio *m)
{
	struct virtio_dev *dev = m->dev;

	/* Before DRIVER_OK the loop does not use the queues: a driver's first reset needs no call. */
	if (mmio_status(m) & VIRTIO_CONFIG_S_DRIVER_OK)
		(void)loop_call(dev->loop, mmio_deactivate, m); /* returns 0 */
	else
		for (unsigned i = 0; i < dev->ops->num_queues; i++)
			virtq_stop(&dev->vq[i]);
	dev->features = 0;
	m->driver_features = 0;
	m->features_beyond = false;
	m->device_features_sel = m->driver_features_sel = m->queue_sel = 0;
	/* Relaxed: the loop writes none of it now, and a vCPU that races with this reset may see either value. */
	__atomic_store_n(&m->interrupt_status, 0, __ATOMIC_RELAXED);
	/* Release: pairs with mmio_status. With status 0, all of the above is done. */
	__atomic_store_n(&m->status, 0, __ATOMIC_RELEASE);
}

static bool mmio_transition_legal(uint32_t from, uint32_t to)
{
	for (unsigned i = 0; i < MF_ARRAY_SIZE(mmio_transitions); i++)
		if (mmio_transitions[i].from == from && mmio_transitions[i].to == to)
			return true;
	return false;
}

bool mmio_status_is_reachable(uint32_t status)
{
	for (unsigned i = 0; i < MF_ARRAY_SIZE(mmio_transitions); i++)
		if (mmio_transitions[i].to == status)
			return true;
	return status == STATE_RESET;
}

bool mmio_features_acceptable(const struct mmio *m)
{
	return !m->features_beyond && !(m->driver_features & ~mmio_offered(m)) &&
	       m->driver_features >> VIRTIO_F_VERSION_1 & 1;
}

static void mmio_write_status(struct mmio *m, uint32_t value)
{
	uint32_t status = mmio_status(m);
	uint32_t from = status & ~NEEDS_RESET, to = value & ~NEEDS_RESET, added = to & ~from;

	if (value == 0) {
		mmio_reset_locked(m);
		return;
	}
	if (to == from)
		return;
	if (!mmio_transition_legal(from, to) || (status & NEEDS_RESET && !(added & FAILED))) {
		log_debug("%s '%s': status 0x%x -> 0x%x ignored", m->dev->ops->name, m->dev->id, status, value);
		return;
	}
	if (added & VIRTIO_CONFIG_S_FEATURES_OK) {
		if (!mmio_features_acceptable(m)) {
			log_debug("%s '%s': features 0x%llx refused", m->dev->ops->name, m->dev->id,
				  (unsigned long long)m->driver_features);
			return;
		}
		m->dev->features = m->driver_features;
	}
	if (added & VIRTIO_CONFIG_S_DRIVER_OK)
		(void)loop_call(m->dev->loop, mmio_activate, m); /* sets the bit; a failure shows as NEEDS_RESET */
	else
		mmio_status_add(m, added);
}

static void mmio_write_features(struct mmio *m, uint32_t value)
{
	if (mmio_status(m) != STATE_AD)
		return;
	if (m->driver_features_sel >= 2)
		m->features_beyond |= value != 0;
	else if (m->driver_features_sel == 1)
		m->driver_features = (uint64_t)value << 32 | (uint32_t)m->driver_features;
	else
		m->driver_features = (m->driver_features & ~(uint64_t)UINT32_MAX) | value;
}

static void mmio_write_ready(struct mmio *m, struct virtq *q, uint32_t value)
{
	const char *why;

	if (value == 0)
		q->ready = false;
	if (value != 1 || q->ready)
		return;
	if (virtq_check(q, m->dev->mem, &why) < 0) {
		mmio_complain(m, why);
		mmio_status_add(m, NEEDS_RESET);
		return;
	}
	q->ready = true;
}

static uint64_t with_low(uint64_t gpa, uint32_t value)
{
	return (gpa & ~(uint64_t)UINT32_MAX) | value;
}

static uint64_t with_high(uint64_t gpa, uint32_t value)
{
	return (uint64_t)value << 32 | (uint32_t)gpa;
}

static void mmio_write_queue(struct mmio *m, uint32_t reg, uint32_t value)
{
	struct virtq *q;

	if (m->queue_sel >= m->dev->ops->num_queues || (mmio_status(m) & ~NEEDS_RESET) != STATE_ADF)
		return;
	q = &m->dev->vq[m->queue_sel];
	if (reg == VIRTIO_MMIO_QUEUE_READY) {
		mmio_write_ready(m, q, value);
		return;
	}
	if (q->ready)
		return;
	switch (reg) {
	case VIRTIO_MMIO_QUEUE_NUM:
		q->size = value <= VIRTQ_SIZE_MAX ? (uint16_t)value : 0;
		break;
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
		q->desc_gpa = with_low(q->desc_gpa, value);
		break;
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
		q->desc_gpa = with_high(q->desc_gpa, value);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
		q->avail_gpa = with_low(q->avail_gpa, value);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
		q->avail_gpa = with_high(q->avail_gpa, value);
		break;
	case VIRTIO_MMIO_QUEUE_USED_LOW:
		q->used_gpa = with_low(q->used_gpa, value);
		break;
	case VIRTIO_MMIO_QUEUE_USED_HIGH:
		q->used_gpa = with_high(q->used_gpa, value);
		break;
	default:
		break; /* a read-only or undefined register */
	}
}

static void mmio_write_locked(struct mmio *m, uint32_t reg, uint32_t value)
{
	switch (reg) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		m->device_features_sel = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		m->driver_features_sel = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		mmio_write_features(m, value);
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		m->queue_sel = value;
		break;
	case VIRTIO_MMIO_STATUS:
		mmio_write_status(m, value);
		break;
	default:
		mmio_write_queue(m, reg, value);
		break;
	}
}

static uint32_t mmio_read_locked(const struct mmio *m, uint32_t reg)
{
	bool has_queue = m->queue_sel < m->dev->ops->num_queues;

	switch (reg) {
	case VIRTIO_MMIO_DEVICE_FEATURES:
		return m->device_features_sel < 2 ? (uint32_t)(mmio_offered(m) >> (32 * m->device_features_sel)) : 0;
	case VIRTIO_MMIO_QUEUE_NUM_MAX:
		return has_queue ? VIRTQ_SIZE_MAX : 0;
	case VIRTIO_MMIO_QUEUE_READY:
		return has_queue && m->dev->vq[m->queue_sel].ready;
	default:
		return 0; /* a write-only or undefined register */
	}
}

/* ---- On vCPU threads ---- */

static uint32_t mmio_read(struct mmio *m, uint32_t reg)
{
	uint32_t value;

	switch (reg) {
	case VIRTIO_MMIO_MAGIC_VALUE:
		return MMIO_MAGIC;
	case VIRTIO_MMIO_VERSION:
		return 2;
	case VIRTIO_MMIO_DEVICE_ID:
		return m->dev->ops->device_id;
	case VIRTIO_MMIO_VENDOR_ID:
		return MMIO_VENDOR;
	case VIRTIO_MMIO_INTERRUPT_STATUS:
		/* Acquire: pairs with the release in mmio_interrupt. */
		return __atomic_load_n(&m->interrupt_status, __ATOMIC_ACQUIRE);
	case VIRTIO_MMIO_STATUS:
		return mmio_status(m);
	case VIRTIO_MMIO_CONFIG_GENERATION:
		/* Acquire: pairs with the release in mmio_config_changed. */
		return __atomic_load_n(&m->generation, __ATOMIC_ACQUIRE);
	case VIRTIO_MMIO_SHM_LEN_LOW:
	case VIRTIO_MMIO_SHM_LEN_HIGH:
	case VIRTIO_MMIO_SHM_BASE_LOW:
	case VIRTIO_MMIO_SHM_BASE_HIGH:
		return UINT32_MAX; /* §4.2.2: a length of -1, there is no such region */
	default:
		pthread_mutex_lock(&m->lock);
		value = mmio_read_locked(m, reg);
		pthread_mutex_unlock(&m->lock);
		return value;
	}
}

static int mmio_notify(void *arg)
{
	mmio_kick(arg);
	return 0;
}

static void mmio_write(struct mmio *m, uint32_t reg, uint32_t value)
{
	switch (reg) {
	case VIRTIO_MMIO_INTERRUPT_ACK:
		/* Relaxed: the driver orders its read of the ring, which follows. Unknown bits are never set. */
		__atomic_fetch_and(&m->interrupt_status, ~value, __ATOMIC_RELAXED);
		break;
	case VIRTIO_MMIO_QUEUE_NOTIFY:
		/*
		 * Only where KVM has no ioeventfd. The thread's filter forbids writing to that eventfd, hence the
		 * call. A race with reset is harmless: the loop ignores notifications while the device is inactive.
		 */
		if (mmio_status(m) & VIRTIO_CONFIG_S_DRIVER_OK)
			(void)loop_call(m->dev->loop, mmio_notify, m); /* returns 0 */
		break;
	default:
		pthread_mutex_lock(&m->lock);
		mmio_write_locked(m, reg, value);
		pthread_mutex_unlock(&m->lock);
		break;
	}
}

struct mmio_config_write {
	struct virtio_dev *dev;
	uint32_t offset, len;
	const uint8_t *data;
};

static int mmio_config_write(void *arg)
{
	const struct mmio_config_write *w = arg;

	w->dev->ops->config_write(w->dev, w->offset, w->data, w->len);
	return 0;
}

static void mmio_access_config(struct mmio *m, uint32_t offset, bool is_write, uint8_t *data, uint32_t len)
{
	const struct virtio_ops *ops = m->dev->ops;

	if (!is_write) {
		memset(data, 0, len);
		if (offset < ops->config_len)
			ops->config_read(m->dev, offset, data, MF_MIN(len, ops->config_len - offset));
		return;
	}
	if (!ops->config_write || !mf_range_within(offset, len, ops->config_len))
		return;
	pthread_mutex_lock(&m->lock);
	if (mmio_status(m) & VIRTIO_CONFIG_S_DRIVER) {
		struct mmio_config_write w = { .dev = m->dev, .offset = offset, .len = len, .data = data };

		(void)loop_call(m->dev->loop, mmio_config_write, &w); /* returns 0 */
	}
	pthread_mutex_unlock(&m->lock);
}

void mmio_access(void *ctx, uint64_t offset, bool is_write, uint8_t *data, unsigned len)
{
	struct mmio *m = ctx;
	uint32_t value = 0;

	if (offset >= VIRTIO_MMIO_CONFIG) {
		mmio_access_config(m, (uint32_t)(offset - VIRTIO_MMIO_CONFIG), is_write, data, len);
		return;
	}
	/* §4.2.2.2: control registers take aligned 32-bit accesses only. */
	if (len != sizeof(value) || offset % sizeof(value)) {
		if (!is_write)
			memset(data, 0, len);
		return;
	}
	if (is_write) {
		memcpy(&value, data, sizeof(value));
		mmio_write(m, (uint32_t)offset, value);
	} else {
		value = mmio_read(m, (uint32_t)offset);
		memcpy(data, &value, sizeof(value));
	}
}

void mmio_reset(struct mmio *m)
{
	pthread_mutex_lock(&m->lock);
	mmio_reset_locked(m);
	pthread_mutex_unlock(&m->lock);
}
