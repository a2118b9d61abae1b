/* The transport with a device that only takes notes: registers, the status machine, queues, interrupts, notifications. */
#include "tests/unit/mock_driver.h"
#include "tests/unit/mock_loop.h"

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <pthread.h>
#include <stdlib.h>

#include "virtio/device.h"
#include "virtio/mmio.h"
#include "vmm/base/log.h"
#include "vmm/core/kvm.h"

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
	unsigned activated, resets, kicks[VIRTIO_QUEUES_MAX], config_writes;
	int activate_result;
	bool active, kick_pops;
};

struct fix {
	struct drv d;
	struct note note;
	struct mmio *m;
	unsigned irqs, irq_line;
};

static unsigned ioeventfds;
static int ioeventfd_result;

int kvm_ioeventfd_add(const struct kvm *k, uint64_t gpa, uint32_t value, int eventfd)
{
	(void)k;
	assert_int_equal(gpa, GPA + VIRTIO_MMIO_QUEUE_NOTIFY);
	assert_int_equal(value, ioeventfds % 2);
	assert_true(eventfd >= 0);
	ioeventfds++;
	return ioeventfd_result;
}

static struct note *to_note(struct virtio_dev *dev)
{
	return MF_CONTAINER_OF(dev, struct note, dev);
}

static void note_config_read(struct virtio_dev *dev, uint32_t offset, void *buf, uint32_t len)
{
	assert_true(mf_range_within(offset, len, sizeof(to_note(dev)->config)));
	memcpy(buf, to_note(dev)->config + offset, len);
}

static void note_config_write(struct virtio_dev *dev, uint32_t offset, const void *buf, uint32_t len)
{
	assert_true(mf_range_within(offset, len, sizeof(to_note(dev)->config)));
	memcpy(to_note(dev)->config + offset, buf, len);
	to_note(dev)->config_writes++;
}

static int note_activate(struct virtio_dev *dev)
{
	to_note(dev)->activated++;
	to_note(dev)->active = to_note(dev)->activate_result == 0;
	return to_note(dev)->activate_result;
}

static void note_kick(struct virtio_dev *dev, unsigned index)
{
	struct note *n = to_note(dev);
	struct virtq_chain chain;
	const char *why;
	int got;

	assert_true(n->active);
	n->kicks[index]++;
	if (!n->kick_pops)
		return;
	while ((got = virtq_pop(&dev->vq[index], &chain, &why)) > 0) {
		virtq_push(&dev->vq[index], chain.head, 0);
		mmio_used(dev, index);
	}
	if (got < 0)
		mmio_broken(dev, why);
}

static void note_reset(struct virtio_dev *dev)
{
	assert_true(to_note(dev)->active);
	assert_int_equal(dev->vq[0].ready, dev->vq[0].desc != NULL); /* the queues are stopped afterwards */
	(void)mock_poll_watches();	  /* as a drain does: no kick may come of it, note_kick checks */
	to_note(dev)->active = false;
	to_note(dev)->resets++;
	(void)mock_poll_watches();
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
};

static void raise_irq(void *ctx, unsigned line)
{
	struct fix *f = ctx;

	/* The reason is there before the interrupt. */
	f->irqs++;
	f->irq_line = line;
}

static const struct kvm kvm = { .fd = -1, .vm_fd = -1 };

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct mmio_irq irq = { .raise = raise_irq, .ctx = f, .line = 5 };
	struct err e;

	mock_init();
	ioeventfds = 0;
	ioeventfd_result = 0;
	log_setup(LOG_LEVEL_ERROR, -1);
	drv_init(&f->d, 8, DRV_MEM);
	f->note.dev = (struct virtio_dev){ .ops = &note_ops, .mem = &f->d.mem, .offered = OWN, .id = "n" };
	for (unsigned i = 0; i < sizeof(f->note.config); i++)
		f->note.config[i] = (uint8_t)(0x10 + i);
	assert_int_equal(mmio_new(&f->m, &f->note.dev, &kvm, GPA, irq, &e), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	mmio_reset(f->m);
	mmio_free(f->m);
	drv_done(&f->d);
	free(f);
	return 0;
}

static uint32_t get(struct fix *f, uint64_t reg)
{
	uint32_t value = 0xffffffff;

	mmio_access(f->m, reg, false, (uint8_t *)&value, 4);
	return value;
}

static void put(struct fix *f, uint64_t reg, uint32_t value)
{
	mmio_access(f->m, reg, true, (uint8_t *)&value, 4);
}

static void put_status(struct fix *f, uint32_t value)
{
	put(f, VIRTIO_MMIO_STATUS, value);
}

static uint32_t status(struct fix *f)
{
	return get(f, VIRTIO_MMIO_STATUS);
}

static void put_features(struct fix *f, uint64_t features)
{
	put(f, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	put(f, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)features);
	put(f, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	put(f, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32));
}

static void put_queue(struct fix *f, uint32_t index, uint32_t size, uint64_t desc, uint64_t avail, uint64_t used)
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

static void to_driver(struct fix *f)
{
	put_status(f, A);
	put_status(f, AD);
}

static void to_features_ok(struct fix *f, uint64_t features)
{
	to_driver(f);
	put_features(f, features);
	put_status(f, ADF);
}

/* All the way, with queue 0 ready and not queue 1. */
static void to_driver_ok(struct fix *f, uint64_t features)
{
	to_features_ok(f, features);
	drv_publish_idx(&f->d, 0);
	memset(drv_at(&f->d, DRV_USED, 0x100), 0, 0x100);
	put_queue(f, 0, 8, DRV_DESC, DRV_AVAIL, DRV_USED);
	assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_READY), 1);
	put_status(f, ADFO);
	assert_int_equal(status(f), ADFO);
}

static void test_identity(void **state)
{
	struct fix *f = *state;

	assert_int_equal(get(f, 0), 0x74726976);
	assert_int_equal(get(f, VIRTIO_MMIO_VERSION), 2);
	assert_int_equal(get(f, VIRTIO_MMIO_DEVICE_ID), 42);
	assert_int_equal(get(f, VIRTIO_MMIO_STATUS), 0);
	assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	assert_int_equal(get(f, VIRTIO_MMIO_CONFIG_GENERATION), 0);
	for (uint64_t reg = VIRTIO_MMIO_SHM_LEN_LOW; reg <= VIRTIO_MMIO_SHM_BASE_HIGH; reg += 4)
		assert_int_equal(get(f, reg), 0xffffffff);
}

static void test_features_offered(void **state)
{
	struct fix *f = *state;

	put(f, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	assert_int_equal(get(f, VIRTIO_MMIO_DEVICE_FEATURES), OWN | RING);
	put(f, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	assert_int_equal(get(f, VIRTIO_MMIO_DEVICE_FEATURES), 1); /* VERSION_1, and none of the others up there */
	for (uint32_t sel = 2; sel; sel = sel < 64 ? sel + 1 : sel << 1) {
		put(f, VIRTIO_MMIO_DEVICE_FEATURES_SEL, sel);
		assert_int_equal(get(f, VIRTIO_MMIO_DEVICE_FEATURES), 0);
	}
}

/* Only aligned 32-bit accesses reach a register. */
static void test_widths(void **state)
{
	struct fix *f = *state;

	to_driver(f);
	for (unsigned offset = 0; offset < 0x100; offset++) {
		for (unsigned len = 1; len <= 8; len *= 2) {
			uint8_t buf[8];

			if (len == 4 && offset % 4 == 0)
				continue;
			memset(buf, 0xff, sizeof(buf));
			mmio_access(f->m, offset, false, buf, len);
			for (unsigned i = 0; i < sizeof(buf); i++)
				assert_int_equal(buf[i], i < len ? 0 : 0xff);
			memset(buf, 0, sizeof(buf));
			mmio_access(f->m, offset, true, buf, len); /* to Status, it would be a reset */
		}
	}
	assert_int_equal(status(f), AD);
}

/* Read-only registers are not written, write-only and undefined ones read as 0. */
static void test_undefined_registers(void **state)
{
	static const uint32_t reads[] = { 0x00, 0x04, 0x08, 0x0c, 0x10, 0x34, 0x44, 0x60, 0x70,
					  0xb0, 0xb4, 0xb8, 0xbc, 0xfc };
	struct fix *f = *state;

	to_features_ok(f, V1);
	for (uint32_t reg = 0; reg < 0x100; reg += 4) {
		bool readable = false;

		for (size_t i = 0; i < MF_ARRAY_SIZE(reads); i++)
			readable |= reads[i] == reg;
		if (!readable) {
			assert_int_equal(get(f, reg), 0);
			continue;
		}
		if (reg != VIRTIO_MMIO_STATUS && reg != VIRTIO_MMIO_QUEUE_READY) {
			uint32_t before = get(f, reg);

			put(f, reg, ~before);
			assert_int_equal(get(f, reg), before);
		}
	}
	assert_int_equal(status(f), ADF);
}

/* Every write to Status from every state that can be reached, against a model. */
static uint32_t model_status(uint32_t from, uint32_t value)
{
	static const uint32_t steps[] = { 0, A, AD, ADF, ADFO };

	if (value == 0)
		return 0;
	value &= ~(uint32_t)NEEDS_RESET;
	if (!(from & FAILED) && value == (from | FAILED))
		return value;
	if (from == 0 && value == AD)
		return value;
	for (unsigned i = 0; i < 4; i++)
		if (from == steps[i] && value == steps[i + 1])
			return value;
	return from;
}

static void test_status_transitions(void **state)
{
	static const uint32_t steps[] = { A, AD, ADF, ADFO };
	struct fix *f = *state;

	for (unsigned n = 0; n <= 4; n++) {
		for (unsigned failed = 0; failed < 2; failed++) {
			for (uint32_t value = 0; value < 0x300; value++) {
				uint32_t from;

				put_status(f, 0);
				assert_int_equal(status(f), 0);
				for (unsigned i = 0; i < n; i++) {
					if (steps[i] == ADF)
						put_features(f, V1);
					put_status(f, steps[i]);
				}
				put_features(f, V1);
				if (failed)
					put_status(f, status(f) | FAILED);
				from = (n ? steps[n - 1] : 0) | (failed ? FAILED : 0);
				assert_int_equal(status(f), from);
				put_status(f, value);
				assert_int_equal(status(f), model_status(from, value));
			}
		}
	}
}

static void test_status_wide_values(void **state)
{
	struct fix *f = *state;

	put_status(f, 0x100 | A);
	put_status(f, 0xffffff00);
	assert_int_equal(status(f), 0);
	to_driver(f);
	put_status(f, 0x80000000);
	put_status(f, NEEDS_RESET);
	assert_int_equal(status(f), AD);
}

static void test_features_refused(void **state)
{
	static const struct {
		uint64_t features;
		bool ok;
	} set[] = {
		{ V1, true },
		{ V1 | OWN, true },
		{ V1 | RING, true },
		{ V1 | RING | OWN, true },
		{ 0, false },
		{ OWN | RING, false },
		{ V1 | 0x2, false },
		{ V1 | 1ULL << VIRTIO_F_ACCESS_PLATFORM, false },
		{ V1 | 1ULL << VIRTIO_F_RING_PACKED, false },
		{ V1 | 1ULL << VIRTIO_F_IN_ORDER, false },
		{ V1 | 1ULL << 38, false }, /* NOTIFICATION_DATA */
		{ V1 | 1ULL << VIRTIO_F_RING_RESET, false },
		{ V1 | 1ULL << 63, false },
		{ UINT64_MAX, false },
	};
	struct fix *f = *state;

	for (size_t i = 0; i < MF_ARRAY_SIZE(set); i++) {
		put_status(f, 0);
		to_features_ok(f, set[i].features);
		assert_int_equal(status(f), set[i].ok ? ADF : AD);
		assert_int_equal(f->note.dev.features, set[i].ok ? set[i].features : 0);
	}
	/* The driver may think again. */
	put_features(f, V1);
	put_status(f, ADF);
	assert_int_equal(status(f), ADF);
}

static void test_features_beyond_64(void **state)
{
	struct fix *f = *state;

	for (uint32_t sel = 2; sel; sel <<= 1) {
		put_status(f, 0);
		to_driver(f);
		put(f, VIRTIO_MMIO_DRIVER_FEATURES_SEL, sel);
		put(f, VIRTIO_MMIO_DRIVER_FEATURES, 0); /* says nothing */
		put_features(f, V1);
		put_status(f, ADF);
		assert_int_equal(status(f), ADF);

		put_status(f, 0);
		to_driver(f);
		put(f, VIRTIO_MMIO_DRIVER_FEATURES_SEL, sel);
		put(f, VIRTIO_MMIO_DRIVER_FEATURES, 1);
		put_features(f, V1);
		put_status(f, ADF);
		assert_int_equal(status(f), AD);
	}
}

static void test_features_only_in_driver_state(void **state)
{
	struct fix *f = *state;

	put_features(f, V1);
	to_driver(f);
	put_status(f, ADF);
	assert_int_equal(status(f), AD); /* V1 was not taken before DRIVER */
	put_features(f, V1);
	put_status(f, ADF);
	put_features(f, V1 | RING);
	assert_int_equal(f->note.dev.features, V1);
	put_queue(f, 0, 8, DRV_DESC, DRV_AVAIL, DRV_USED);
	put_status(f, ADFO);
	put_features(f, V1 | RING);
	assert_int_equal(f->note.dev.features, V1);
	assert_false(f->note.dev.vq[0].event_idx);
	assert_false(f->note.dev.vq[0].indirect);
}

static void test_ring_features(void **state)
{
	struct fix *f = *state;

	to_driver_ok(f, V1 | 1ULL << VIRTIO_RING_F_EVENT_IDX);
	assert_true(f->note.dev.vq[0].event_idx);
	assert_false(f->note.dev.vq[0].indirect);
	put_status(f, 0);
	to_driver_ok(f, V1 | 1ULL << VIRTIO_RING_F_INDIRECT_DESC);
	assert_false(f->note.dev.vq[0].event_idx);
	assert_true(f->note.dev.vq[0].indirect);
}

static void test_queue_sel(void **state)
{
	static const uint32_t sels[] = { 2, 3, 64, 0x7fffffff, 0x80000000, 0xffffffff };
	struct fix *f = *state;
	struct virtq before[VIRTIO_QUEUES_MAX];

	to_features_ok(f, V1);
	for (uint32_t sel = 0; sel < 2; sel++) {
		put(f, VIRTIO_MMIO_QUEUE_SEL, sel);
		assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_NUM_MAX), VIRTQ_SIZE_MAX);
	}
	memcpy(before, f->note.dev.vq, sizeof(before));
	for (size_t i = 0; i < MF_ARRAY_SIZE(sels); i++) {
		put_queue(f, sels[i], 8, DRV_DESC, DRV_AVAIL, DRV_USED);
		assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
		assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_READY), 0);
	}
	assert_memory_equal(before, f->note.dev.vq, sizeof(before));
	assert_int_equal(status(f), ADF);
}

/* A bad queue is not ready, and the driver is told by NEEDS_RESET; after a reset it may do better. */
static void test_queue_refused(void **state)
{
	static const struct {
		uint32_t size;
		uint64_t desc, avail, used;
	} bad[] = {
		{ 0, DRV_DESC, DRV_AVAIL, DRV_USED },	       { 3, DRV_DESC, DRV_AVAIL, DRV_USED },
		{ 512, DRV_DESC, DRV_AVAIL, DRV_USED },	       { 0x8000, DRV_DESC, DRV_AVAIL, DRV_USED },
		{ 65535, DRV_DESC, DRV_AVAIL, DRV_USED },      { 0x10008, DRV_DESC, DRV_AVAIL, DRV_USED },
		{ 8, DRV_DESC + 1, DRV_AVAIL, DRV_USED },      { 8, GPA, DRV_AVAIL, DRV_USED },
		{ 8, DRV_DESC, DRV_MEM - 4, DRV_USED },	       { 8, DRV_DESC, DRV_AVAIL, DRV_MEM - 4 },
		{ 8, UINT64_MAX - 15, DRV_AVAIL, DRV_USED },   { 8, DRV_DESC, DRV_AVAIL, 1ULL << 32 | DRV_USED },
	};
	struct fix *f = *state;

	for (size_t i = 0; i < MF_ARRAY_SIZE(bad); i++) {
		put_status(f, 0);
		to_features_ok(f, V1);
		put_queue(f, 1, bad[i].size, bad[i].desc, bad[i].avail, bad[i].used);
		assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_READY), 0);
		assert_int_equal(status(f), ADF | NEEDS_RESET);
		put_status(f, ADFO);
		put_status(f, ADFO | NEEDS_RESET);
		assert_int_equal(status(f), ADF | NEEDS_RESET);
		put_status(f, status(f) | FAILED);
		assert_int_equal(status(f), ADF | NEEDS_RESET | FAILED);
	}
	assert_int_equal(f->irqs, 0); /* §2.1.2: no notification before DRIVER_OK */
	assert_int_equal(f->note.activated, 0);
	put_status(f, 0);
	to_driver_ok(f, V1);
	assert_int_equal(f->note.activated, 1);
}

/* CVE-2026-5747: queue registers change before FEATURES_OK, while ready, or after DRIVER_OK? No. */
static void rewrite_queue(struct fix *f, uint32_t index)
{
	struct virtq before = f->note.dev.vq[index];

	put(f, VIRTIO_MMIO_QUEUE_SEL, index);
	put(f, VIRTIO_MMIO_QUEUE_NUM, 256);
	for (uint64_t reg = VIRTIO_MMIO_QUEUE_DESC_LOW; reg <= VIRTIO_MMIO_QUEUE_USED_HIGH; reg += 4)
		put(f, reg, 0x8000);
	assert_memory_equal(&f->note.dev.vq[index], &before, sizeof(before));
}

static void test_queue_registers_frozen(void **state)
{
	struct fix *f = *state;

	rewrite_queue(f, 0);
	put_queue(f, 0, 8, DRV_DESC, DRV_AVAIL, DRV_USED);
	assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_READY), 0);
	to_driver(f);
	rewrite_queue(f, 0);
	put_features(f, V1);
	put_status(f, ADF);
	put_queue(f, 0, 8, DRV_DESC, DRV_AVAIL, DRV_USED);
	rewrite_queue(f, 0);
	assert_int_equal(f->note.dev.vq[0].size, 8);
	/* Ready once more changes nothing; not ready opens the registers again. */
	put(f, VIRTIO_MMIO_QUEUE_READY, 1);
	put(f, VIRTIO_MMIO_QUEUE_READY, 2);
	assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_READY), 1);
	put(f, VIRTIO_MMIO_QUEUE_READY, 0);
	assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_READY), 0);
	put(f, VIRTIO_MMIO_QUEUE_READY, 2);
	assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_READY), 0);
	put_queue(f, 0, 4, DRV_DESC, DRV_AVAIL, DRV_USED);
	assert_int_equal(f->note.dev.vq[0].size, 4);
	put_status(f, ADFO);
	rewrite_queue(f, 0);
	rewrite_queue(f, 1);
	put(f, VIRTIO_MMIO_QUEUE_READY, 1);
	assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_READY), 0);
	put(f, VIRTIO_MMIO_QUEUE_SEL, 0);
	put(f, VIRTIO_MMIO_QUEUE_READY, 0);
	assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_READY), 1);
	put_status(f, ADFO | FAILED);
	rewrite_queue(f, 0);
}

static void test_address_halves(void **state)
{
	struct fix *f = *state;

	to_features_ok(f, V1);
	put(f, VIRTIO_MMIO_QUEUE_DESC_HIGH, 0x11);
	put(f, VIRTIO_MMIO_QUEUE_DESC_LOW, 0x22222222);
	put(f, VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x33333333);
	put(f, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, 0xffffffff);
	put(f, VIRTIO_MMIO_QUEUE_USED_LOW, 0x44444444);
	put(f, VIRTIO_MMIO_QUEUE_USED_HIGH, 0x55);
	put(f, VIRTIO_MMIO_QUEUE_USED_LOW, 0x66666666);
	assert_true(f->note.dev.vq[0].desc_gpa == 0x1122222222ULL);
	assert_true(f->note.dev.vq[0].avail_gpa == 0xffffffff33333333ULL);
	assert_true(f->note.dev.vq[0].used_gpa == 0x5566666666ULL);
}

static void test_config_read(void **state)
{
	struct fix *f = *state;

	for (unsigned pass = 0; pass < 2; pass++) {
		for (unsigned offset = 0; offset < 0xf00; offset++) {
			for (unsigned len = 1; len <= 8; len *= 2) {
				uint8_t buf[9];

				if (offset + len > 0xf00)
					continue;
				memset(buf, 0xff, sizeof(buf));
				mmio_access(f->m, 0x100 + offset, false, buf, len);
				for (unsigned i = 0; i < len; i++)
					assert_int_equal(buf[i], offset + i < 13 ? 0x10 + offset + i : 0);
				assert_int_equal(buf[len], 0xff);
			}
		}
		to_driver_ok(f, V1);
	}
}

static void test_config_write(void **state)
{
	uint8_t buf[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	struct fix *f = *state;

	mmio_access(f->m, 0x100, true, buf, 4); /* §3.1.1: not before DRIVER */
	assert_int_equal(f->note.config_writes, 0);
	to_driver(f);
	mmio_access(f->m, 0x100 + 12, true, buf, 2);
	mmio_access(f->m, 0x100 + 13, true, buf, 1);
	mmio_access(f->m, 0x100 + 6, true, buf, 8);
	mmio_access(f->m, 0xffc, true, buf, 4);
	assert_int_equal(f->note.config_writes, 0);
	mmio_access(f->m, 0x100 + 5, true, buf, 8);
	mmio_access(f->m, 0x100, true, buf, 1);
	assert_int_equal(f->note.config_writes, 2);
	assert_int_equal(f->note.config[0], 1);
	assert_int_equal(f->note.config[1], 0x11);
	assert_int_equal(f->note.config[5], 1);
	assert_int_equal(f->note.config[12], 8);
	assert_int_equal(mock.calls, 2); /* on the loop */
}

static void test_config_changed(void **state)
{
	struct fix *f = *state;

	mmio_config_changed(&f->note.dev);
	mock_run_tasks();
	assert_int_equal(get(f, VIRTIO_MMIO_CONFIG_GENERATION), 1);
	assert_int_equal(f->irqs, 0);
	to_driver_ok(f, V1);
	mmio_config_changed(&f->note.dev);
	mmio_config_changed(&f->note.dev);
	assert_int_equal(f->irqs, 0);
	mock_run_tasks();
	assert_int_equal(f->irqs, 1);
	assert_int_equal(get(f, VIRTIO_MMIO_CONFIG_GENERATION), 3);
	assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
}

static void test_activation(void **state)
{
	struct fix *f = *state;

	to_driver_ok(f, V1 | OWN);
	assert_int_equal(f->note.activated, 1);
	assert_int_equal(mock.calls, 1);
	assert_int_equal(f->note.dev.features, V1 | OWN);
	assert_non_null(f->note.dev.vq[0].desc);
	assert_null(f->note.dev.vq[1].desc); /* was not ready */
	assert_int_equal(f->note.kicks[0], 1); /* what was published before is not lost */
	assert_int_equal(f->note.kicks[1], 0);
	put_status(f, ADFO);
	assert_int_equal(f->note.activated, 1);
}

static void test_activation_fails(void **state)
{
	struct fix *f = *state;

	f->note.activate_result = -EIO;
	to_features_ok(f, V1);
	put_queue(f, 0, 8, DRV_DESC, DRV_AVAIL, DRV_USED);
	put_status(f, ADFO);
	assert_int_equal(status(f), ADFO | NEEDS_RESET);
	mock_run_tasks();
	assert_int_equal(f->irqs, 1);
	assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	(void)mock_poll_watches();
	assert_int_equal(f->note.kicks[0], 0);
	put_status(f, 0);
	assert_int_equal(f->note.resets, 0); /* there was nothing to reset */
	assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	f->note.activate_result = 0;
	to_driver_ok(f, V1);
	assert_int_equal(f->note.activated, 2);
	assert_int_equal(f->note.kicks[0], 1);
}

static void test_ioeventfds_late_and_once(void **state)
{
	struct fix *f = *state;

	put_status(f, 0);
	to_features_ok(f, V1);
	put_status(f, 0);
	assert_int_equal(ioeventfds, 0);
	for (unsigned i = 0; i < 3; i++) {
		to_driver_ok(f, V1);
		put_status(f, 0);
	}
	assert_int_equal(ioeventfds, 2);
}

static void test_ioeventfd_fails(void **state)
{
	struct fix *f = *state;

	ioeventfd_result = -ENOSPC;
	to_driver_ok(f, V1);
	put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	assert_int_equal(mock_poll_watches(), 1);
	assert_int_equal(f->note.kicks[0], 2);
}

static void test_notify(void **state)
{
	static const uint32_t bad[] = { 2, 3, 0x10000, 0x80000000, 0xffffffff };
	struct fix *f = *state;

	put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	to_features_ok(f, V1);
	put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	assert_int_equal(mock_poll_watches(), 0);
	put_status(f, 0);
	to_driver_ok(f, V1);
	put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 1); /* not ready */
	for (size_t i = 0; i < MF_ARRAY_SIZE(bad); i++)
		put(f, VIRTIO_MMIO_QUEUE_NOTIFY, bad[i]);
	(void)mock_poll_watches();
	assert_int_equal(f->note.kicks[0], 1);
	assert_int_equal(f->note.kicks[1], 0);
	for (unsigned i = 0; i < 1000; i++)
		put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	(void)mock_poll_watches();
	assert_int_equal(f->note.kicks[0], 2); /* a storm is one kick */
	/* A signal left over from before a reset does nothing until the device is active again. */
	put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	put_status(f, 0);
	(void)mock_poll_watches();
	assert_int_equal(f->note.kicks[0], 2);
}

static void test_interrupt(void **state)
{
	struct fix *f = *state;

	f->note.kick_pops = true;
	to_driver_ok(f, V1);
	drv_desc(&f->d, 0, DRV_DATA, 1, 0, 0);
	drv_desc(&f->d, 1, DRV_DATA, 1, 0, 0);
	drv_add(&f->d, 0);
	drv_publish(&f->d, 1);
	put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	(void)mock_poll_watches();
	assert_int_equal(drv_used_idx(&f->d), 2);
	assert_int_equal(f->irqs, 0);
	assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	mmio_config_changed(&f->note.dev);
	mock_run_tasks();
	assert_int_equal(f->irqs, 1); /* one per turn, for all */
	assert_int_equal(f->irq_line, 5);
	assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG);

	put(f, VIRTIO_MMIO_INTERRUPT_ACK, 0xfffffffc);
	assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), 3);
	put(f, VIRTIO_MMIO_INTERRUPT_ACK, 1);
	assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	put(f, VIRTIO_MMIO_INTERRUPT_ACK, 0xffffffff);
	assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), 0);

	drv_set_no_interrupt(&f->d, true);
	drv_publish(&f->d, 0);
	put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	(void)mock_poll_watches();
	mock_run_tasks();
	assert_int_equal(drv_used_idx(&f->d), 3);
	assert_int_equal(f->irqs, 1); /* not wanted */
	drv_set_no_interrupt(&f->d, false);
	mock_run_tasks();
	assert_int_equal(f->irqs, 1);
}

static void break_ring(struct fix *f)
{
	drv_publish_idx(&f->d, 1000);
	put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	(void)mock_poll_watches();
	mock_run_tasks();
}

static void test_broken(void **state)
{
	struct fix *f = *state;

	f->note.kick_pops = true;
	for (unsigned i = 0; i < 20; i++) {
		f->irqs = 0;
		to_driver_ok(f, V1);
		break_ring(f);
		assert_int_equal(status(f), ADFO | NEEDS_RESET);
		assert_int_equal(f->irqs, 1);
		assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
		f->note.kicks[0] = 0;
		break_ring(f);
		assert_int_equal(f->note.kicks[0], 0);
		assert_int_equal(f->irqs, 1);
		put_status(f, ADFO | NEEDS_RESET | FAILED);
		assert_int_equal(status(f), ADFO | NEEDS_RESET | FAILED);
		put_status(f, 0);
		assert_int_equal(status(f), 0);
	}
	/* And now it works. */
	to_driver_ok(f, V1);
	drv_desc(&f->d, 0, DRV_DATA, 1, 0, 0);
	drv_publish(&f->d, 0);
	put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	(void)mock_poll_watches();
	assert_int_equal(drv_used_idx(&f->d), 1);
}

static void test_reset(void **state)
{
	struct fix *f = *state;

	f->note.kick_pops = true;
	to_driver_ok(f, V1 | OWN | RING);
	drv_desc(&f->d, 0, DRV_DATA, 1, 0, 0);
	drv_publish(&f->d, 0);
	mmio_config_changed(&f->note.dev);
	mock_run_tasks();
	put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	(void)mock_poll_watches(); /* and its interrupt is due at the end of the turn */
	f->irqs = 0;
	put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0); /* note_reset looks at it as a drain does */
	put_status(f, 0);
	assert_int_equal(status(f), 0);
	assert_int_equal(f->note.resets, 1);
	assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_READY), 0);
	assert_int_equal(f->note.dev.features, 0);
	mock_run_tasks();
	assert_int_equal(f->irqs, 0);
	assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	put_status(f, 0);
	assert_int_equal(f->note.resets, 1);
	to_driver_ok(f, V1 | OWN | RING);
	assert_int_equal(f->note.activated, 2);
	mmio_reset(f->m);
	assert_int_equal(status(f), 0);
	assert_int_equal(f->note.resets, 2);
}

/* Features do not survive a reset: the next driver begins with none. */
static void test_reset_forgets_features(void **state)
{
	struct fix *f = *state;

	to_driver(f);
	put_features(f, V1);
	put(f, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 7);
	put(f, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	put_status(f, 0);
	to_driver(f);
	put_status(f, ADF);
	assert_int_equal(status(f), AD);
	put_features(f, V1);
	put_status(f, ADF);
	assert_int_equal(status(f), ADF);
}

/* The reset that every driver begins with needs no round trip to the loop. */
static void test_idle_reset_is_local(void **state)
{
	struct fix *f = *state;

	put_status(f, 0);
	to_features_ok(f, V1);
	put_queue(f, 0, 8, DRV_DESC, DRV_AVAIL, DRV_USED);
	put_status(f, 0);
	assert_int_equal(mock.calls, 0);
	assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_READY), 0);
}

/* Random accesses of all kinds: nothing ends, and afterwards the device works. */
static void test_random_accesses(void **state)
{
	static const uint32_t regs[] = { 0x14, 0x20, 0x24, 0x30, 0x38, 0x44, 0x50, 0x64, 0x70,
					 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4, 0x100 };
	static const uint32_t values[] = { 0, 1, 2, 3, 7, 8, 11, 15, DRV_DESC, DRV_AVAIL, DRV_USED, 0xffffffff };
	struct fix *f = *state;

	f->note.kick_pops = true;
	srandom(6);
	for (unsigned i = 0; i < 300000; i++) {
		uint64_t offset = (unsigned)random() % 0xff8;
		uint8_t buf[8];

		if (random() % 4) {
			put(f, regs[(unsigned)random() % MF_ARRAY_SIZE(regs)],
			    values[(unsigned)random() % MF_ARRAY_SIZE(values)]);
		} else {
			for (unsigned k = 0; k < 8; k++)
				buf[k] = (uint8_t)random();
			mmio_access(f->m, offset, random() % 2, buf, 1U << random() % 4);
		}
		if (i % 16 == 0) {
			(void)mock_poll_watches();
			mock_run_tasks();
		}
		if (i % 1000 == 0) {
			put_status(f, 0);
			to_driver_ok(f, V1);
		}
	}
	put_status(f, 0);
	to_driver_ok(f, V1);
}

/* Several vCPUs at the registers while one resets: no deadlock, and no step is lost (for TSan, too). */
static void *hammer(void *arg)
{
	struct fix *f = arg;

	for (unsigned i = 0; i < 20000; i++) {
		(void)get(f, VIRTIO_MMIO_INTERRUPT_STATUS); /* only that they return */
		(void)get(f, VIRTIO_MMIO_QUEUE_READY);
		(void)status(f);
		put(f, VIRTIO_MMIO_INTERRUPT_ACK, 3);
		put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	}
	return NULL;
}

static void test_vcpus_race(void **state)
{
	struct fix *f = *state;
	pthread_t thread[2];

	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, hammer, f), 0);
	for (unsigned i = 0; i < 2000; i++) {
		to_driver_ok(f, V1);
		put_status(f, 0);
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(f->note.resets, 2000);
}

static void test_new_fails(void **state)
{
	struct fix *f = *state;
	struct note other = { .dev = { .ops = &note_ops, .mem = &f->d.mem, .id = "other" } };
	struct mmio *m = NULL;
	struct err e;

	mock.files_max = mock.num_fds + 1;
	assert_int_equal(mmio_new(&m, &other.dev, NULL, GPA, (struct mmio_irq){ 0 }, &e), -EMFILE);
	assert_string_equal(e.text, "note 'other': its loop has too many files");
	assert_null(m);
	mock.num_watches = mock.num_fds = 2;
	mmio_free(NULL);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_identity),
		T(test_features_offered),
		T(test_widths),
		T(test_undefined_registers),
		T(test_status_transitions),
		T(test_status_wide_values),
		T(test_features_refused),
		T(test_features_beyond_64),
		T(test_features_only_in_driver_state),
		T(test_ring_features),
		T(test_queue_sel),
		T(test_queue_refused),
		T(test_queue_registers_frozen),
		T(test_address_halves),
		T(test_config_read),
		T(test_config_write),
		T(test_config_changed),
		T(test_activation),
		T(test_activation_fails),
		T(test_ioeventfds_late_and_once),
		T(test_ioeventfd_fails),
		T(test_notify),
		T(test_interrupt),
		T(test_broken),
		T(test_reset),
		T(test_reset_forgets_features),
		T(test_idle_reset_is_local),
		T(test_random_accesses),
		T(test_vcpus_race),
		T(test_new_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
