/* The registers of the transport, the status machine and features. */
#include "tests/unit/mmio_fixture.h"

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
	static const uint32_t reads[] = { 0x00, 0x04, 0x08, 0x0c, 0x10, 0x34, 0x44,
					  0x60, 0x70, 0xb0, 0xb4, 0xb8, 0xbc, 0xfc };
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
		put(f, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 2);
		put(f, VIRTIO_MMIO_DRIVER_FEATURES, 0); /* does not take it back */
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
