/* Queue registers and configuration space: what a driver may set, when, and how little the rest does. */
#include "tests/unit/mmio_fixture.h"

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

/* A bad queue is not ready, and NEEDS_RESET notifies the driver; after a reset it may do better. */
static void test_queue_refused(void **state)
{
	static const struct {
		uint32_t size;
		uint64_t desc, avail, used;
	} bad[] = {
		{ 0, DRV_DESC, DRV_AVAIL, DRV_USED },	     { 3, DRV_DESC, DRV_AVAIL, DRV_USED },
		{ 512, DRV_DESC, DRV_AVAIL, DRV_USED },	     { 0x8000, DRV_DESC, DRV_AVAIL, DRV_USED },
		{ 65535, DRV_DESC, DRV_AVAIL, DRV_USED },    { 0x10008, DRV_DESC, DRV_AVAIL, DRV_USED },
		{ 8, DRV_DESC + 1, DRV_AVAIL, DRV_USED },    { 8, GPA, DRV_AVAIL, DRV_USED },
		{ 8, DRV_DESC, DRV_MEM - 4, DRV_USED },	     { 8, DRV_DESC, DRV_AVAIL, DRV_MEM - 4 },
		{ 8, UINT64_MAX - 15, DRV_AVAIL, DRV_USED }, { 8, DRV_DESC, DRV_AVAIL, 1ULL << 32 | DRV_USED },
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
	/* Ready again changes nothing; not ready opens the registers again. */
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_queue_sel),   T(test_queue_refused), T(test_queue_registers_frozen), T(test_address_halves),
		T(test_config_read), T(test_config_write),  T(test_config_changed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
