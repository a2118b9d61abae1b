/*
 * What the tests of the MMIO transport share: a device that only takes notes, the register accesses of a driver, and
 * its way to DRIVER_OK. With FIXTURE_REAL_LOOP defined, the loop is one with a thread. Include it once, in the test.
 */
#ifndef MF_TESTS_UNIT_MMIO_FIXTURE_H
#define MF_TESTS_UNIT_MMIO_FIXTURE_H

#include "tests/unit/mock_driver.h"
#ifdef FIXTURE_REAL_LOOP
#include "tests/unit/real_loop.h"
#else
#include "tests/unit/mock_loop.h"
#endif

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <pthread.h>
#include <stdlib.h>

#include "virtio/device.h"
#include "virtio/mmio.h"
#include "vmm/base/log.h"
#include "vmm/core/kvm.h"
#include "vmm/core/state.h"

#define GPA 0xd0000000U
#define A VIRTIO_CONFIG_S_ACKNOWLEDGE
#define AD (A | VIRTIO_CONFIG_S_DRIVER)
#define ADF (AD | VIRTIO_CONFIG_S_FEATURES_OK)
#define ADFO (ADF | VIRTIO_CONFIG_S_DRIVER_OK)
#define FAILED VIRTIO_CONFIG_S_FAILED
#define NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET
#define V1 (1ULL << VIRTIO_F_VERSION_1)
#define RING (1ULL << VIRTIO_RING_F_EVENT_IDX | 1ULL << VIRTIO_RING_F_INDIRECT_DESC)
#define OWN 0x25ULL /* what the device offers */

struct note {
	struct virtio_dev dev;
	uint8_t config[13];
	unsigned activated, resets, kicks, config_writes;
	int activate_result;
	pthread_t thread; /* of the last activation or write of the configuration */
	bool active, kick_pops;
	int quiet_result; /* of the next quiets */
	unsigned quiets, resumes;
	uint32_t kept; /* what the device itself saves */
};

struct fix {
	struct drv d;
	struct note note;
	struct mmio *m;
	struct loop *loop;
	unsigned irqs, irq_line;
	uint32_t attention;
};

static unsigned ioeventfds;
static int ioeventfd_result;

int kvm_ioeventfd_add(const struct kvm *k, uint64_t gpa, int eventfd)
{
	(void)k;
	assert_int_equal(gpa, GPA + VIRTIO_MMIO_QUEUE_NOTIFY);
	assert_true(eventfd >= 0);
	ioeventfds++;
	return ioeventfd_result;
}

static inline struct note *to_note(struct virtio_dev *dev)
{
	return MF_CONTAINER_OF(dev, struct note, dev);
}

static inline void note_config_read(struct virtio_dev *dev, uint32_t offset, void *buf, uint32_t len)
{
	assert_true(mf_range_within(offset, len, sizeof(to_note(dev)->config)));
	memcpy(buf, to_note(dev)->config + offset, len);
}

static inline void note_config_write(struct virtio_dev *dev, uint32_t offset, const void *buf, uint32_t len)
{
	assert_true(mf_range_within(offset, len, sizeof(to_note(dev)->config)));
	memcpy(to_note(dev)->config + offset, buf, len);
	to_note(dev)->config_writes++;
	to_note(dev)->thread = pthread_self();
}

static inline int note_activate(struct virtio_dev *dev)
{
	to_note(dev)->activated++;
	to_note(dev)->thread = pthread_self();
	to_note(dev)->active = to_note(dev)->activate_result == 0;
	return to_note(dev)->activate_result;
}

static inline void note_kick(struct virtio_dev *dev)
{
	struct note *n = to_note(dev);
	struct virtq_chain chain;
	const char *why;

	assert_true(n->active);
	n->kicks++;
	for (unsigned i = 0; n->kick_pops && i < 2; i++) {
		int got;

		while ((got = virtq_pop(&dev->vq[i], &chain, &why)) > 0) {
			virtq_push(&dev->vq[i], chain.head, 0);
			mmio_used(dev, i);
		}
		if (got < 0)
			mmio_broken(dev, why);
	}
}

static inline void note_drain(void)
{
#ifndef FIXTURE_REAL_LOOP
	(void)mock_poll_watches();
#endif
}

static inline void note_reset(struct virtio_dev *dev)
{
	assert_true(to_note(dev)->active);
	assert_int_equal(dev->vq[0].ready, dev->vq[0].desc != NULL); /* the queues are stopped afterwards */
	note_drain();						     /* no kick may come of it, note_kick checks */
	to_note(dev)->active = false;
	to_note(dev)->resets++;
	to_note(dev)->thread = pthread_self();
	note_drain();
}

static inline int note_quiet(struct virtio_dev *dev)
{
	to_note(dev)->quiets++;
	return to_note(dev)->quiet_result;
}

static inline void note_resume(struct virtio_dev *dev)
{
	assert_true(to_note(dev)->active);
	to_note(dev)->resumes++;
}

static inline void note_save(struct virtio_dev *dev, struct state_out *out)
{
	state_put_u32(out, to_note(dev)->kept);
}

static inline void note_restore(struct virtio_dev *dev, struct state_in *in)
{
	to_note(dev)->kept = state_get_u32(in);
}

static const struct virtio_ops note_ops = {
	.name = "note",
	.device_id = 42,
	.num_queues = 2,
	.config_len = 13,
	.config_read = note_config_read,
	.config_write = note_config_write,
	.activate = note_activate,
	.kick = note_kick,
	.reset = note_reset,
	.quiet = note_quiet,
	.resume = note_resume,
	.save = note_save,
	.restore = note_restore,
};

static inline void raise_irq(void *ctx, unsigned line)
{
	struct fix *f = ctx;

#ifndef FIXTURE_REAL_LOOP
	uint32_t why = 0; /* where no other vCPU acknowledges it: the reason is there before the interrupt */

	mmio_access(f->m, VIRTIO_MMIO_INTERRUPT_STATUS, false, (uint8_t *)&why, 4);
	assert_int_not_equal(why, 0);
#endif
	f->irqs++;
	f->irq_line = line;
}

static const struct kvm kvm = { .fd = -1, .vm_fd = -1 };

static inline int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct mmio_irq irq = { .raise = raise_irq, .ctx = f, .line = 5, .attention = &f->attention };
	struct err e;

	fixture_kind = LOOP_FIXED;
	f->loop = fixture_loop_new();
	ioeventfds = 0;
	ioeventfd_result = 0;
	log_setup(LOG_LEVEL_ERROR, -1);
	drv_init(&f->d, 8, DRV_MEM);
	f->note.dev =
		(struct virtio_dev){ .ops = &note_ops, .mem = &f->d.mem, .offered = OWN, .id = "n", .loop = f->loop };
	for (unsigned i = 0; i < sizeof(f->note.config); i++)
		f->note.config[i] = (uint8_t)(0x10 + i);
	assert_int_equal(mmio_new(&f->m, &f->note.dev, &kvm, GPA, irq, &e), 0);
	fixture_loop_start(f->loop);
	*state = f;
	return 0;
}

static inline int teardown(void **state)
{
	struct fix *f = *state;

	mmio_reset(f->m);
	fixture_loop_done(f->loop);
	mmio_free(f->m);
	drv_done(&f->d);
	free(f);
	return 0;
}

static inline uint32_t get(struct fix *f, uint64_t reg)
{
	uint32_t value = 0xffffffff;

	mmio_access(f->m, reg, false, (uint8_t *)&value, 4);
	return value;
}

static inline void put(struct fix *f, uint64_t reg, uint32_t value)
{
	mmio_access(f->m, reg, true, (uint8_t *)&value, 4);
}

static inline void put_status(struct fix *f, uint32_t value)
{
	put(f, VIRTIO_MMIO_STATUS, value);
}

static inline uint32_t status(struct fix *f)
{
	return get(f, VIRTIO_MMIO_STATUS);
}

static inline void put_features(struct fix *f, uint64_t features)
{
	put(f, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	put(f, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)features);
	put(f, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	put(f, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32));
}

static inline void put_queue(struct fix *f, uint32_t index, uint32_t size, uint64_t desc, uint64_t avail, uint64_t used)
{
	put(f, VIRTIO_MMIO_QUEUE_SEL, index);
	put(f, VIRTIO_MMIO_QUEUE_NUM, size);
	put(f, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)desc);
	put(f, VIRTIO_MMIO_QUEUE_DESC_HIGH, (uint32_t)(desc >> 32));
	put(f, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)avail);
	put(f, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, (uint32_t)(avail >> 32));
	put(f, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)used);
	put(f, VIRTIO_MMIO_QUEUE_USED_HIGH, (uint32_t)(used >> 32));
	put(f, VIRTIO_MMIO_QUEUE_READY, 1);
}

static inline void to_driver(struct fix *f)
{
	put_status(f, A);
	put_status(f, AD);
}

static inline void to_features_ok(struct fix *f, uint64_t features)
{
	to_driver(f);
	put_features(f, features);
	put_status(f, ADF);
}

/* All the way, with queue 0 ready and not queue 1. */
static inline void to_driver_ok(struct fix *f, uint64_t features)
{
	to_features_ok(f, features);
	drv_publish_idx(&f->d, 0);
	memset(drv_at(&f->d, DRV_USED, 0x100), 0, 0x100);
	put_queue(f, 0, 8, DRV_DESC, DRV_AVAIL, DRV_USED);
	assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_READY), 1);
	put_status(f, ADFO);
	assert_int_equal(status(f), ADFO);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

#endif
