/* A drive with an overlay: the image stays as it is, the guest sees what it wrote, and no more fits than may. */
#include <linux/falloc.h>

#include "tests/unit/blk_fixture.h"

static int setup_overlay(void **state)
{
	return setup_params(state, (struct blk_params){ .overlay = true }, SECTORS * 512, UINT64_MAX);
}

static int setup_small(void **state)
{
	return setup_params(state, (struct blk_params){ .overlay = true, .overlay_size = 8192 }, SECTORS * 512,
			    UINT64_MAX);
}

static int setup_file(void **state)
{
	return setup_params(state, (struct blk_params){ .overlay = true, .overlay_dir = "/tmp" }, SECTORS * 512,
			    UINT64_MAX);
}

static void assert_image_untouched(const struct fix *f)
{
	for (unsigned i = 0; i < SECTORS; i++) {
		assert_int_equal(image_byte(f, i * 512), i + 1);
		assert_int_equal(image_byte(f, i * 512 + 511), i + 1);
	}
}

/* One request of n sectors, to its end. Returns its status. */
static uint8_t now(struct fix *f, uint32_t type, uint64_t sector, uint32_t n)
{
	request(f, 0, type, sector, n * 512);
	kick(f);
	mock_do_all();
	return status_of(f, 0);
}

static uint8_t trim(struct fix *f, uint32_t type, uint64_t sector, uint32_t n, uint32_t flags, int res)
{
	struct virtio_blk_discard_write_zeroes range = { .sector = sector, .num_sectors = n, .flags = flags };

	memcpy(data(f, 0), &range, sizeof(range));
	request(f, 0, type, 0, sizeof(range));
	drv_desc(&f->d, 1, DATA(0), sizeof(range), NEXT, 2);
	kick(f);
	assert_int_equal(mock.num, 1);
	assert_int_equal(mock.io[0].mode, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
	if (res < 0)
		mock_complete(0, res);
	else
		mock_do(0);
	return status_of(f, 0);
}

static void test_reads_and_writes(void **state)
{
	struct fix *f = *state;

	assert_false(f->dev->offered & 1ULL << VIRTIO_BLK_F_FLUSH);
	assert_false(f->dev->offered & 1ULL << VIRTIO_BLK_F_RO);
	memset(data(f, 0), 0xaa, 1024);
	assert_int_equal(now(f, VIRTIO_BLK_T_OUT, 3, 2), VIRTIO_BLK_S_OK);
	memset(data(f, 0), 0xbb, 512);
	assert_int_equal(now(f, VIRTIO_BLK_T_OUT, 7, 1), VIRTIO_BLK_S_OK);
	assert_image_untouched(f);

	/* 2 of the image, 2 own, 2 of the image, own, image: five operations, one after the other. */
	request(f, 0, VIRTIO_BLK_T_IN, 1, 8 * 512);
	kick(f);
	for (unsigned i = 0; i < 5; i++) {
		static const uint32_t len[] = { 1024, 1024, 1024, 512, 512 };

		assert_int_equal(mock.num, 1);
		assert_int_equal(mock.io[0].iov[0].iov_len, len[i]);
		assert_int_equal(mock.io[0].fd, i % 2 ? mock.loop->file[1] : mock.loop->file[0]);
		mock_do(0);
	}
	assert_used(f, 2, 0, 4097, VIRTIO_BLK_S_OK);
	for (unsigned i = 0; i < 8; i++) {
		static const uint8_t expect[] = { 2, 3, 0xaa, 0xaa, 6, 7, 0xbb, 9 };

		assert_int_equal(data(f, 0)[i * 512], expect[i]);
		assert_int_equal(data(f, 0)[i * 512 + 511], expect[i]);
	}
}

/* The same over descriptors that do not end where sectors do, with short transfers of each size, and EAGAIN. */
static void test_odd_descriptors(void **state)
{
	static const size_t steps[] = { 0, 1, 7, 100, 511, 513, 1000 };
	struct fix *f = *state;

	memset(data(f, 0), 0xaa, 512);
	assert_int_equal(now(f, VIRTIO_BLK_T_OUT, 11, 1), VIRTIO_BLK_S_OK);
	for (unsigned s = 0; s < MF_ARRAY_SIZE(steps); s++) {
		for (unsigned out = 0; out < 2; out++) {
			unsigned write = out ? 0 : WRITE;

			f->dev->ops->reset(f->dev);
			activate(f, 0);
			mock.bytes_max = steps[s];
			put_header(f, 0, out ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, out ? 20 : 10);
			drv_desc(&f->d, 0, HEADER(0), 16, NEXT, 1);
			drv_desc(&f->d, 1, DATA(0), 3, NEXT | write, 2);
			drv_desc(&f->d, 2, DATA(1), 1021, NEXT | write, 3);
			drv_desc(&f->d, 3, DATA(2), 512, NEXT | write, 4);
			drv_desc(&f->d, 4, STATUS(0), 1, WRITE, 0);
			memset(data(f, 0), 0x11 + (int)s, 3 * 4096);
			drv_publish(&f->d, 0);
			kick(f);
			mock_complete(0, -EAGAIN);
			mock_do_all();
			mock.bytes_max = 0;
			assert_used(f, 0, 0, out ? 1 : 1537, VIRTIO_BLK_S_OK);
			if (!out) {
				assert_int_equal(data(f, 0)[2], 11);
				assert_int_equal(data(f, 1)[508], 11);
				assert_int_equal(data(f, 1)[509], 0xaa);
				assert_int_equal(data(f, 1)[1020], 0xaa);
				assert_int_equal(data(f, 2)[0], 13);
				assert_int_equal(data(f, 2)[511], 13);
			}
		}
		assert_int_equal(now(f, VIRTIO_BLK_T_IN, 20, 4), VIRTIO_BLK_S_OK);
		assert_int_equal(data(f, 0)[0], 0x11 + s);
		assert_int_equal(data(f, 0)[1535], 0x11 + s);
		assert_int_equal(data(f, 0)[1536], 24);
	}
	assert_image_untouched(f);
}

static void test_failed_write_shows_the_image(void **state)
{
	struct fix *f = *state;

	request(f, 0, VIRTIO_BLK_T_OUT, 5, 512);
	kick(f);
	mock_complete(0, -EIO);
	assert_int_equal(status_of(f, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(now(f, VIRTIO_BLK_T_IN, 5, 1), VIRTIO_BLK_S_OK);
	assert_int_equal(data(f, 0)[0], 6);
}

/* What the guest believes to be written is not there. A read or a discard that fails loses nothing. */
static void test_loss(void **state)
{
	struct fix *f = *state;

	request(f, 0, VIRTIO_BLK_T_IN, 5, 512);
	kick(f);
	mock_complete(0, -EIO);
	assert_int_equal(trim(f, VIRTIO_BLK_T_DISCARD, 30, 1, 0, -EIO), VIRTIO_BLK_S_IOERR);
	assert_int_equal(now(f, VIRTIO_BLK_T_OUT, 3, 2), VIRTIO_BLK_S_OK);
	assert_false(blk_has_lost(f->dev));
	request(f, 0, VIRTIO_BLK_T_OUT, 5, 512);
	kick(f);
	mock_complete(0, -ENOSPC);
	assert_true(blk_has_lost(f->dev));
}

static void test_lost_zeroes(void **state)
{
	struct fix *f = *state;

	assert_int_equal(trim(f, VIRTIO_BLK_T_WRITE_ZEROES, 30, 1, 0, -EOPNOTSUPP), VIRTIO_BLK_S_UNSUPP);
	assert_false(blk_has_lost(f->dev));
	assert_int_equal(trim(f, VIRTIO_BLK_T_WRITE_ZEROES, 30, 1, 0, -EIO), VIRTIO_BLK_S_IOERR);
	assert_true(blk_has_lost(f->dev));
}

static void test_trims_are_zeros(void **state)
{
	struct fix *f = *state;

	memset(data(f, 0), 0xaa, 4096);
	assert_int_equal(now(f, VIRTIO_BLK_T_OUT, 8, 8), VIRTIO_BLK_S_OK);
	assert_int_equal(trim(f, VIRTIO_BLK_T_DISCARD, 4, 8, 0, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(trim(f, VIRTIO_BLK_T_WRITE_ZEROES, 20, 1, 0, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(trim(f, VIRTIO_BLK_T_WRITE_ZEROES, 21, 1, 1, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(trim(f, VIRTIO_BLK_T_WRITE_ZEROES, 30, 1, 0, -EOPNOTSUPP), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(trim(f, VIRTIO_BLK_T_DISCARD, 30, 1, 0, -EOPNOTSUPP), VIRTIO_BLK_S_OK);
	assert_int_equal(trim(f, VIRTIO_BLK_T_DISCARD, 30, 1, 0, -EIO), VIRTIO_BLK_S_IOERR);
	for (unsigned i = 0; i < 32; i++) {
		bool zero = (i >= 4 && i < 12) || i == 20 || i == 21;

		assert_int_equal(now(f, VIRTIO_BLK_T_IN, i, 1), VIRTIO_BLK_S_OK);
		assert_int_equal(data(f, 0)[511], zero ? 0 : i >= 12 && i < 16 ? 0xaa : i + 1);
	}
	assert_image_untouched(f);
}

static void test_full(void **state)
{
	struct fix *f = *state;

	assert_int_equal(now(f, VIRTIO_BLK_T_OUT, 0, 8), VIRTIO_BLK_S_OK);
	assert_int_equal(now(f, VIRTIO_BLK_T_OUT, 23, 1), VIRTIO_BLK_S_OK);
	assert_int_equal(now(f, VIRTIO_BLK_T_OUT, 24, 1), VIRTIO_BLK_S_IOERR);
	assert_int_equal(now(f, VIRTIO_BLK_T_OUT, 16, 8), VIRTIO_BLK_S_OK);
	assert_int_equal(now(f, VIRTIO_BLK_T_IN, 24, 1), VIRTIO_BLK_S_OK);
	assert_int_equal(data(f, 0)[0], 25);
	/* Not while a write to it is in flight, and not if it fails; otherwise a discard makes room. */
	request(f, 1, VIRTIO_BLK_T_OUT, 0, 512);
	kick(f);
	{
		struct virtio_blk_discard_write_zeroes range = { .sector = 0, .num_sectors = 8 };

		memcpy(data(f, 0), &range, sizeof(range));
		request(f, 0, VIRTIO_BLK_T_DISCARD, 0, sizeof(range));
		drv_desc(&f->d, 1, DATA(0), sizeof(range), NEXT, 2);
		kick(f);
		assert_int_equal(mock.num, 2);
		mock_do(1);
		mock_do(0);
	}
	assert_int_equal(now(f, VIRTIO_BLK_T_OUT, 24, 1), VIRTIO_BLK_S_IOERR);
	assert_int_equal(trim(f, VIRTIO_BLK_T_DISCARD, 0, 8, 0, -EIO), VIRTIO_BLK_S_IOERR);
	assert_int_equal(now(f, VIRTIO_BLK_T_OUT, 24, 1), VIRTIO_BLK_S_IOERR);
	assert_int_equal(trim(f, VIRTIO_BLK_T_DISCARD, 0, 8, 0, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(now(f, VIRTIO_BLK_T_OUT, 24, 1), VIRTIO_BLK_S_OK);
	assert_int_equal(now(f, VIRTIO_BLK_T_OUT, 0, 1), VIRTIO_BLK_S_IOERR);
}

/* A hole that a reset has cancelled may not have been punched: it gives back nothing. */
static void test_reset_keeps_the_count(void **state)
{
	struct fix *f = *state;
	struct virtio_blk_discard_write_zeroes range = { .sector = 0, .num_sectors = 16 };

	assert_int_equal(now(f, VIRTIO_BLK_T_OUT, 0, 8), VIRTIO_BLK_S_OK);
	assert_int_equal(now(f, VIRTIO_BLK_T_OUT, 8, 8), VIRTIO_BLK_S_OK);
	memcpy(data(f, 0), &range, sizeof(range));
	request(f, 0, VIRTIO_BLK_T_DISCARD, 0, sizeof(range));
	drv_desc(&f->d, 1, DATA(0), sizeof(range), NEXT, 2);
	kick(f);
	f->dev->ops->reset(f->dev);
	activate(f, 0);
	assert_int_equal(now(f, VIRTIO_BLK_T_OUT, 24, 1), VIRTIO_BLK_S_IOERR);
	assert_int_equal(now(f, VIRTIO_BLK_T_OUT, 3, 1), VIRTIO_BLK_S_OK);
}

/* How many of the image's pages a guest can have written. */
static unsigned pages_that_fit(struct fix *f)
{
	unsigned num = 0;

	for (unsigned page = 0; page < SECTORS / 8; page++)
		num += now(f, VIRTIO_BLK_T_OUT, page * 8, 8) == VIRTIO_BLK_S_OK;
	return num;
}

/* A discard of all that fails, or that a reset cuts off, is no leave to write to all. */
static void test_failed_discard_grants_nothing(void **state)
{
	struct virtio_blk_discard_write_zeroes range = { .sector = 0, .num_sectors = SECTORS };
	struct fix *f = *state;

	assert_int_equal(trim(f, VIRTIO_BLK_T_DISCARD, 0, SECTORS, 0, -EOPNOTSUPP), VIRTIO_BLK_S_OK);
	assert_int_equal(trim(f, VIRTIO_BLK_T_DISCARD, 0, SECTORS, 0, -EIO), VIRTIO_BLK_S_IOERR);
	assert_int_equal(pages_that_fit(f), 2);
	for (unsigned i = 0; i < 3; i++) {
		memcpy(data(f, 0), &range, sizeof(range));
		request(f, 0, VIRTIO_BLK_T_DISCARD, 0, sizeof(range));
		drv_desc(&f->d, 1, DATA(0), sizeof(range), NEXT, 2);
		kick(f);
		mock.cancel_in_vain = i == 1;
		f->dev->ops->reset(f->dev);
		mock.cancel_in_vain = false;
		activate(f, 0);
	}
	assert_int_equal(pages_that_fit(f), 2);
	/* What was there may be discarded afterwards. */
	assert_int_equal(trim(f, VIRTIO_BLK_T_DISCARD, 0, SECTORS, 0, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(pages_that_fit(f), 2);
}

/* A write that begins after a hole was begun may land after it. */
static void test_write_across_a_hole(void **state)
{
	struct virtio_blk_discard_write_zeroes range = { .sector = 0, .num_sectors = 8 };
	struct fix *f = *state;

	assert_int_equal(now(f, VIRTIO_BLK_T_OUT, 0, 8), VIRTIO_BLK_S_OK);
	assert_int_equal(now(f, VIRTIO_BLK_T_OUT, 8, 8), VIRTIO_BLK_S_OK);
	memcpy(data(f, 1), &range, sizeof(range));
	request(f, 1, VIRTIO_BLK_T_DISCARD, 0, sizeof(range));
	drv_desc(&f->d, 4, DATA(1), sizeof(range), NEXT, 5);
	request(f, 0, VIRTIO_BLK_T_OUT, 0, 4096);
	kick(f);
	assert_int_equal(mock.num, 2);
	mock_do(1); /* the write, and then the hole's end is reported */
	mock_complete(0, 0);
	assert_int_equal(now(f, VIRTIO_BLK_T_OUT, 24, 1), VIRTIO_BLK_S_IOERR);
	assert_int_equal(trim(f, VIRTIO_BLK_T_DISCARD, 0, 8, 0, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(now(f, VIRTIO_BLK_T_OUT, 24, 1), VIRTIO_BLK_S_OK);
}

/* Many share the image, and nobody may write to it meanwhile. */
/* A write beside the hole is none to it: the room of the hole is free again. */
static void test_write_beside_a_hole(void **state)
{
	struct virtio_blk_discard_write_zeroes range = { .sector = 0, .num_sectors = 8 };
	struct fix *f = *state;

	assert_int_equal(now(f, VIRTIO_BLK_T_OUT, 0, 8), VIRTIO_BLK_S_OK);
	assert_int_equal(now(f, VIRTIO_BLK_T_OUT, 8, 8), VIRTIO_BLK_S_OK);
	memcpy(data(f, 1), &range, sizeof(range));
	request(f, 1, VIRTIO_BLK_T_DISCARD, 0, sizeof(range));
	drv_desc(&f->d, 4, DATA(1), sizeof(range), NEXT, 5);
	request(f, 0, VIRTIO_BLK_T_OUT, 8, 4096);
	kick(f);
	assert_int_equal(mock.num, 2);
	mock_do(1);
	mock_do(0);
	assert_int_equal(now(f, VIRTIO_BLK_T_OUT, 24, 1), VIRTIO_BLK_S_OK);
}

static void test_shares_the_image(void **state)
{
	struct fix *f = *state;
	struct blk_params params = { .id = "other", .path = f->path, .overlay = true };
	struct virtio_dev *dev;
	struct err e;

	assert_int_equal(blk_new(&dev, &params, mock.loop, &f->d.mem, &e), 0);
	dev->ops->free(dev);
	params.overlay = false;
	assert_int_equal(blk_new(&dev, &params, mock.loop, &f->d.mem, &e), -EBUSY);
}

#define T_WITH(fn, with) cmocka_unit_test_setup_teardown(fn, with, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T_WITH(test_reads_and_writes, setup_overlay),
		T_WITH(test_reads_and_writes, setup_file),
		T_WITH(test_odd_descriptors, setup_overlay),
		T_WITH(test_failed_write_shows_the_image, setup_overlay),
		T_WITH(test_loss, setup_overlay),
		T_WITH(test_lost_zeroes, setup_overlay),
		T_WITH(test_trims_are_zeros, setup_overlay),
		T_WITH(test_full, setup_small),
		T_WITH(test_reset_keeps_the_count, setup_small),
		T_WITH(test_failed_discard_grants_nothing, setup_small),
		T_WITH(test_write_across_a_hole, setup_small),
		T_WITH(test_write_beside_a_hole, setup_small),
		T_WITH(test_shares_the_image, setup_overlay),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
