/* Discard, write zeroes, and the cache modes: what reaches the host, and what comes back. */
#include <linux/falloc.h>

#include "tests/unit/blk_fixture.h"

#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define ZERO (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE)
#define UNMAP VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP
#define IMAGE_SECTORS 4096U

static int setup_big(void **state)
{
	return setup_params(state, (struct blk_params){ 0 }, IMAGE_SECTORS * 512, UINT64_MAX);
}

static int setup_no_flush(void **state)
{
	return setup_params(state, (struct blk_params){ 0 }, IMAGE_SECTORS * 512, ~(1ULL << VIRTIO_BLK_F_FLUSH));
}

static int setup_unsafe(void **state)
{
	return setup_params(state, (struct blk_params){ .unsafe = true }, IMAGE_SECTORS * 512, UINT64_MAX);
}

/* Request i, with one range. Not kicked. */
static void trim(struct fix *f, unsigned i, uint32_t type, uint64_t sector, uint32_t num, uint32_t flags)
{
	struct virtio_blk_discard_write_zeroes range = { .sector = sector, .num_sectors = num, .flags = flags };

	memcpy(data(f, i), &range, sizeof(range));
	put_header(f, i, type, 12345); /* the header's sector means nothing */
	drv_desc(&f->d, 3 * i, HEADER(i), 16, NEXT, 3 * i + 1);
	drv_desc(&f->d, 3 * i + 1, DATA(i), sizeof(range), NEXT, 3 * i + 2);
	drv_desc(&f->d, 3 * i + 2, STATUS(i), 1, WRITE, 0);
	drv_publish(&f->d, (uint16_t)(3 * i));
}

static void test_punches_holes(void **state)
{
	struct fix *f = *state;
	struct stat before, after;
	uint32_t fill;

	assert_int_equal(stat(f->path, &before), 0);
	trim(f, 0, VIRTIO_BLK_T_DISCARD, 8, 1024, 0);
	trim(f, 1, VIRTIO_BLK_T_WRITE_ZEROES, 2049, 1024, UNMAP);
	trim(f, 2, VIRTIO_BLK_T_WRITE_ZEROES, 4095, 1, 0);
	kick(f);
	assert_int_equal(mock.num, 3);
	assert_int_equal(mock.io[0].mode, PUNCH);
	assert_int_equal(mock.io[1].mode, PUNCH);
	assert_int_equal(mock.io[2].mode, ZERO);
	assert_int_equal(mock.io[1].offset, 2049 * 512);
	assert_int_equal(mock.io[1].len, 1024 * 512);
	mock_do(0);
	mock_do(0);
	mock_complete(0, 0);
	for (unsigned i = 0; i < 3; i++)
		assert_used(f, i, i, 1, VIRTIO_BLK_S_OK);
	fill = image_byte(f, 7 * 512);
	assert_int_equal(fill, 8);
	assert_int_equal(image_byte(f, 8 * 512), 0);
	assert_int_equal(image_byte(f, 1032 * 512 - 1), 0);
	assert_int_equal(image_byte(f, 1032 * 512), 1033 % 256);
	assert_int_equal(image_byte(f, 2049 * 512 - 1), 2049 % 256);
	assert_int_equal(image_byte(f, 2049 * 512), 0);
	assert_int_equal(image_byte(f, 3073 * 512 - 1), 0);
	assert_int_equal(stat(f->path, &after), 0);
	assert_int_equal(after.st_size, before.st_size);
	assert_true(after.st_blocks < before.st_blocks - 1500);
}

/* What the host cannot do. A discard is a hint; the driver gets an error for the rest, and writes zeros itself. */
static void test_unsupported_by_the_host(void **state)
{
	static const int errors[] = { -EOPNOTSUPP, -EINVAL };
	struct fix *f = *state;

	for (unsigned k = 0; k < 2; k++) {
		unsigned i = 4 * k;

		trim(f, i, VIRTIO_BLK_T_DISCARD, 0, 8, 0);
		trim(f, i + 1, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, UNMAP);
		trim(f, i + 2, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, UNMAP);
		trim(f, i + 3, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0);
		kick(f);
		for (unsigned n = 0; n < 4; n++)
			mock_complete(0, errors[k]);
		assert_used(f, i, i, 1, VIRTIO_BLK_S_OK);
		assert_used(f, i + 1, i + 3, 1, VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(mock.num, 2);
		assert_int_equal(mock.io[0].mode, ZERO);
		assert_int_equal(mock.io[1].mode, ZERO);
		mock_complete(0, 0);
		mock_complete(0, errors[k]);
		assert_used(f, i + 2, i + 1, 1, VIRTIO_BLK_S_OK);
		assert_used(f, i + 3, i + 2, 1, VIRTIO_BLK_S_UNSUPP);
	}
}

static void test_host_errors(void **state)
{
	static const int errors[] = { -EIO, -ENOSPC, -EPERM, -ENODEV, -EFBIG };
	struct fix *f = *state;

	for (unsigned i = 0; i < MF_ARRAY_SIZE(errors); i++) {
		trim(f, i, i % 2 ? VIRTIO_BLK_T_DISCARD : VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0);
		kick(f);
		mock_complete(0, -EAGAIN);
		mock_complete(0, errors[i]);
		assert_used(f, i, i, 1, VIRTIO_BLK_S_IOERR);
	}
}

/* §5.2.6.2: flags that are not known are unsupported, ranges that do not exist or are too long are errors. */
static void test_bad_ranges(void **state)
{
	static const struct {
		uint32_t type;
		uint64_t sector;
		uint32_t num, flags;
		uint8_t status;
	} cases[] = {
		{ VIRTIO_BLK_T_DISCARD, 0, 8, UNMAP, VIRTIO_BLK_S_UNSUPP },
		{ VIRTIO_BLK_T_DISCARD, 0, 8, 2, VIRTIO_BLK_S_UNSUPP },
		{ VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 2, VIRTIO_BLK_S_UNSUPP },
		{ VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0x80000001, VIRTIO_BLK_S_UNSUPP },
		{ VIRTIO_BLK_T_DISCARD, IMAGE_SECTORS, 1, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_DISCARD, IMAGE_SECTORS - 1, 2, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_DISCARD, 0, IMAGE_SECTORS + 1, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_DISCARD, 0, UINT32_MAX, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_WRITE_ZEROES, UINT64_MAX, 1, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_WRITE_ZEROES, UINT64_MAX, 2, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_WRITE_ZEROES, 1ULL << 55, 1, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_WRITE_ZEROES, 0, (1 << 17) + 1, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_DISCARD, IMAGE_SECTORS, 0, 0, VIRTIO_BLK_S_OK },
		{ VIRTIO_BLK_T_WRITE_ZEROES, 0, 0, UNMAP, VIRTIO_BLK_S_OK },
	};
	struct fix *f = *state;

	for (unsigned i = 0; i < MF_ARRAY_SIZE(cases); i++) {
		trim(f, i, cases[i].type, cases[i].sector, cases[i].num, cases[i].flags);
		kick(f);
		assert_used(f, i, i, 1, cases[i].status);
	}
	assert_int_equal(mock.num, 0);
}

/* No range, two ranges (one is what the configuration space says), parts of one. */
static void test_bad_lengths(void **state)
{
	static const uint32_t lens[] = { 1, 15, 17, 31, 32, 4096 };
	struct fix *f = *state;

	memset(data(f, 0), 0, 4096);
	for (unsigned k = 0; k <= MF_ARRAY_SIZE(lens); k++) {
		trim(f, k, k % 2 ? VIRTIO_BLK_T_DISCARD : VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 0);
		if (k < MF_ARRAY_SIZE(lens))
			drv_desc(&f->d, 3 * k + 1, DATA(k), lens[k], NEXT, 3 * k + 2);
		else
			drv_desc(&f->d, 3 * k, HEADER(k), 16, NEXT, 3 * k + 2);
		kick(f);
		assert_used(f, k, k, 1, VIRTIO_BLK_S_IOERR);
	}
	assert_int_equal(mock.num, 0);
	assert_int_equal(broken_calls, 0);
}

static void test_read_only_refuses(void **state)
{
	struct fix *f = *state;

	trim(f, 0, VIRTIO_BLK_T_DISCARD, 0, 1, 0);
	trim(f, 1, VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, UNMAP);
	kick(f);
	assert_used(f, 0, 0, 1, VIRTIO_BLK_S_IOERR);
	assert_used(f, 1, 1, 1, VIRTIO_BLK_S_IOERR);
	assert_int_equal(mock.num, 0);
}

static void test_ring_full(void **state)
{
	struct fix *f = *state;

	mock.room = 0;
	trim(f, 0, VIRTIO_BLK_T_DISCARD, 0, 8, 0);
	kick(f);
	mock_run_tasks();
	mock.room = 1;
	mock_run_tasks();
	assert_int_equal(mock.num, 1);
	mock_do_all();
	assert_used(f, 0, 0, 1, VIRTIO_BLK_S_OK);
	assert_int_equal(image_byte(f, 0), 0);
}

/* A driver without FLUSH is owed zeros that are stable; a discard promises nothing. */
static void test_stable_without_flush(void **state)
{
	struct fix *f = *state;

	trim(f, 0, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, UNMAP);
	trim(f, 1, VIRTIO_BLK_T_DISCARD, 0, 8, 0);
	kick(f);
	mock_do(0);
	mock_do(0);
	assert_used(f, 0, 1, 1, VIRTIO_BLK_S_OK);
	assert_int_equal(mock.num, 1);
	assert_int_equal(mock.io[0].kind, OP_FSYNC);
	mock_do(0);
	assert_used(f, 1, 0, 1, VIRTIO_BLK_S_OK);
}

/* cache=unsafe: nothing is ever synced, with or without being asked. */
static void test_unsafe(void **state)
{
	struct fix *f = *state;

	request(f, 0, VIRTIO_BLK_T_OUT, 0, 512);
	trim(f, 1, VIRTIO_BLK_T_WRITE_ZEROES, 8, 8, UNMAP);
	request(f, 2, VIRTIO_BLK_T_FLUSH, 0, 0);
	kick(f);
	assert_used(f, 0, 2, 1, VIRTIO_BLK_S_OK);
	mock_do(0);
	mock_do(0);
	assert_int_equal(mock.num, 0);
	assert_used(f, 1, 0, 1, VIRTIO_BLK_S_OK);
	assert_used(f, 2, 1, 1, VIRTIO_BLK_S_OK);
}

#define T_WITH(fn, with) cmocka_unit_test_setup_teardown(fn, with, teardown)

/* A range may have as many sectors as the configuration space says, and no more. */
static void test_largest_range(void **state)
{
	static const struct {
		uint32_t type, max;
	} kinds[] = { { VIRTIO_BLK_T_DISCARD, 1 << 21 }, { VIRTIO_BLK_T_WRITE_ZEROES, 1 << 17 } };
	struct fix *f = *state;
	struct err e;

	assert_int_equal(truncate(f->path, 1LL << 31), 0);
	assert_int_equal(blk_update(f->dev, NULL, &e), 0);
	mock_run_tasks();
	for (unsigned i = 0; i < MF_ARRAY_SIZE(kinds); i++) {
		trim(f, 2 * i, kinds[i].type, 8, kinds[i].max, 0);
		trim(f, 2 * i + 1, kinds[i].type, 8, kinds[i].max + 1, 0);
		kick(f);
		assert_int_equal(mock.num, 1);
		assert_int_equal(mock.io[0].len, 512ULL * kinds[i].max);
		mock_complete(0, 0);
		assert_int_equal(status_of(f, 2 * i), VIRTIO_BLK_S_OK);
		assert_int_equal(status_of(f, 2 * i + 1), VIRTIO_BLK_S_IOERR);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_largest_range, setup_big, teardown),
		T_WITH(test_punches_holes, setup_big),
		T_WITH(test_unsupported_by_the_host, setup_big),
		T_WITH(test_host_errors, setup_big),
		T_WITH(test_bad_ranges, setup_big),
		T_WITH(test_bad_lengths, setup_big),
		T_RO(test_read_only_refuses),
		T_WITH(test_ring_full, setup_big),
		T_WITH(test_stable_without_flush, setup_no_flush),
		T_WITH(test_unsafe, setup_unsafe),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
