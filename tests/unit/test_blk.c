/* Requests to the block device, from the plain ones to the malformed. */
#include "tests/unit/blk_fixture.h"

static void test_read(void **state)
{
	struct fix *f = *state;

	request(f, 0, VIRTIO_BLK_T_IN, 5, 1024);
	kick(f);
	assert_int_equal(drv_used_flags(&f->d), 0); /* notifications are wanted again */
	assert_int_equal(drv_used_idx(&f->d), 0);
	assert_int_equal(status_of(f, 0), NOT_WRITTEN);
	mock_do_all();
	assert_used(f, 0, 0, 1025, VIRTIO_BLK_S_OK);
	assert_int_equal(data(f, 0)[0], 6);
	assert_int_equal(data(f, 0)[511], 6);
	assert_int_equal(data(f, 0)[512], 7);
	assert_int_equal(data(f, 0)[1023], 7);
	assert_int_equal(data(f, 0)[1024], 0);
	assert_int_equal(used_calls, 1);
}

static void test_write(void **state)
{
	struct fix *f = *state;

	memset(data(f, 0), 0xab, 1024);
	request(f, 0, VIRTIO_BLK_T_OUT, 62, 1024);
	kick(f);
	mock_do_all();
	assert_used(f, 0, 0, 1, VIRTIO_BLK_S_OK);
	assert_int_equal(image_byte(f, 62 * 512 - 1), 62);
	assert_int_equal(image_byte(f, 62 * 512), 0xab);
	assert_int_equal(image_byte(f, 64 * 512 - 1), 0xab);
}

static void test_flush(void **state)
{
	struct fix *f = *state;

	request(f, 0, VIRTIO_BLK_T_FLUSH, 0, 0);
	request(f, 1, VIRTIO_BLK_T_FLUSH, 99999, 512); /* sector and data mean nothing */
	kick(f);
	assert_int_equal(mock.num, 2);
	assert_int_equal(mock.io[0].kind, OP_FSYNC);
	assert_true(mock.io[0].mode); /* of the data alone */
	mock_complete(0, 0);
	mock_complete(0, -EIO);
	assert_used(f, 0, 0, 1, VIRTIO_BLK_S_OK);
	assert_used(f, 1, 1, 0, VIRTIO_BLK_S_IOERR);
}

/* §5.2.6.2: a driver without FLUSH is owed stable writes. */
static void test_write_without_flush_feature(void **state)
{
	struct fix *f = *state;

	f->dev->ops->reset(f->dev);
	activate(f, 0);
	request(f, 0, VIRTIO_BLK_T_OUT, 0, 512);
	request(f, 1, VIRTIO_BLK_T_IN, 0, 512);
	kick(f);
	mock_do(0);
	assert_int_equal(mock.num, 2);
	assert_int_equal(mock.io[1].kind, OP_FSYNC);
	assert_int_equal(drv_used_idx(&f->d), 0);
	mock_do_all();
	assert_used(f, 0, 1, 513, VIRTIO_BLK_S_OK);
	assert_used(f, 1, 0, 1, VIRTIO_BLK_S_OK);
}

static void test_get_id(void **state)
{
	static const uint32_t lens[] = { 0, 1, 19, 20, 21, 512 };
	struct fix *f = *state;

	for (unsigned i = 0; i < MF_ARRAY_SIZE(lens); i++) {
		memset(data(f, i), NOT_WRITTEN, 600);
		request(f, i, VIRTIO_BLK_T_GET_ID, 0, lens[i]);
	}
	kick(f);
	for (unsigned i = 0; i < MF_ARRAY_SIZE(lens); i++) {
		uint32_t n = MF_MIN(lens[i], 20);

		assert_used(f, i, i, lens[i] > 20 ? 20 : n + 1, VIRTIO_BLK_S_OK);
		assert_memory_equal(data(f, i), "root\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", n);
		assert_int_equal(data(f, i)[n], NOT_WRITTEN);
	}
	assert_int_equal(mock.num, 0);
}

static void test_serial(void **state)
{
	struct fix *f = *state;
	struct blk_params params = { .id = "d1", .path = f->path, .serial = "01234567890123456789", .read_only = true };
	struct virtio_dev *dev;
	struct err e;

	assert_int_equal(blk_new(&dev, &params, mock.loop, &f->d.mem, &e), 0);
	dev->ops->free(dev);
	params.serial = "012345678901234567890";
	assert_int_equal(blk_new(&dev, &params, mock.loop, &f->d.mem, &e), -EINVAL);
	assert_string_equal(e.text, "drive 'd1': the serial has more than 20 bytes");
}

static void test_unsupported(void **state)
{
	static const uint32_t types[] = { 2, 3, 5, 6, 9, 10, 12, 14, 15, 16, 255, 0x80000000, 0xffffffff };
	struct fix *f = *state;

	for (unsigned i = 0; i < MF_ARRAY_SIZE(types); i++)
		request(f, i, types[i], 0, 512);
	kick(f);
	for (unsigned i = 0; i < MF_ARRAY_SIZE(types); i++)
		assert_used(f, i, i, 0, VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(mock.num, 0);
}

/* As many as one turn may answer at once: the rest, here none, is looked for in the next. */
static void test_whole_queue_answered_at_once(void **state)
{
	struct fix *f = *state;

	put_header(f, 0, 99, 0);
	drv_desc_at(&f->d, DRV_TABLE, 0, HEADER(0), 16, NEXT, 1);
	drv_desc_at(&f->d, DRV_TABLE, 1, STATUS(0), 1, WRITE, 0);
	for (unsigned i = 0; i < 256; i++) {
		drv_desc(&f->d, i, DRV_TABLE, 32, INDIRECT, 0);
		drv_add(&f->d, (uint16_t)i);
	}
	drv_publish_idx(&f->d, f->d.avail_idx);
	kick(f);
	assert_int_equal(drv_used_idx(&f->d), 256);
	assert_int_equal(drv_used_flags(&f->d), VRING_USED_F_NO_NOTIFY);
	mock_run_tasks();
	assert_int_equal(drv_used_flags(&f->d), 0);
	assert_false(mock_has_tasks());
}

static void test_bounds(void **state)
{
	static const struct {
		uint64_t sector;
		uint32_t len;
		bool ok;
	} at[] = {
		{ 0, 4096, true },
		{ 63, 512, true },
		{ 64, 0, true },
		{ 56, 4096, true },
		{ 57, 4096, false },
		{ 63, 1024, false },
		{ 64, 512, false },
		{ 65, 0, false },
		{ 0, 511, false },
		{ 0, 513, false },
		{ 0, 1, false },
		{ UINT64_MAX, 512, false },
		{ UINT64_MAX, 0, false },
		{ UINT64_MAX / 512, 512, false },
		{ UINT64_MAX / 512 + 1, 512, false }, /* 0 when multiplied in 64 bits */
		{ 1ULL << 55, 512, false },
		{ (1ULL << 55) + 1, 4096, false },
	};
	struct fix *f = *state;

	for (unsigned type = VIRTIO_BLK_T_IN; type <= VIRTIO_BLK_T_OUT; type++) {
		f->dev->ops->reset(f->dev);
		activate(f, 1ULL << VIRTIO_BLK_F_FLUSH);
		for (unsigned i = 0; i < MF_ARRAY_SIZE(at); i++) {
			request(f, i, type, at[i].sector, at[i].len);
			kick(f);
			assert_int_equal(mock.num, at[i].ok && at[i].len ? 1 : 0);
			mock_do_all();
			assert_int_equal(status_of(f, i), at[i].ok ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR);
		}
	}
}

static void test_read_only(void **state)
{
	struct fix *f = *state;

	assert_true(f->dev->offered & 1ULL << VIRTIO_BLK_F_RO);
	request(f, 0, VIRTIO_BLK_T_OUT, 0, 512);
	request(f, 1, VIRTIO_BLK_T_OUT, 0, 0);
	request(f, 2, VIRTIO_BLK_T_IN, 0, 512);
	request(f, 3, VIRTIO_BLK_T_FLUSH, 0, 0);
	kick(f);
	assert_int_equal(mock.num, 2);
	mock_do_all();
	assert_used(f, 0, 0, 1, VIRTIO_BLK_S_IOERR);
	assert_used(f, 1, 1, 1, VIRTIO_BLK_S_IOERR);
	assert_used(f, 2, 2, 513, VIRTIO_BLK_S_OK);
	assert_used(f, 3, 3, 1, VIRTIO_BLK_S_OK);
	assert_int_equal(image_byte(f, 0), 1);
}

/* §2.7.4.3: no assumption on framing. Header and data in single bytes, the status byte merged with the data. */
static void test_framing_read(void **state)
{
	struct fix *f = *state;
	unsigned n = 0;

	put_header(f, 0, VIRTIO_BLK_T_IN, 9);
	for (; n < 16; n++)
		drv_desc(&f->d, n, HEADER(0) + n, 1, NEXT, n + 1);
	drv_desc(&f->d, n, DATA(0), 1, NEXT | WRITE, n + 1);
	n++;
	drv_desc(&f->d, n, DATA(1), 511 + 512 + 1, WRITE, 0);
	drv_publish(&f->d, 0);
	data(f, 1)[1023] = data(f, 1)[1024] = NOT_WRITTEN;
	kick(f);
	mock_do_all();
	assert_int_equal(drv_used_len(&f->d, 0), 1025);
	assert_int_equal(data(f, 0)[0], 10);
	assert_int_equal(data(f, 1)[0], 10);
	assert_int_equal(data(f, 1)[510], 10);
	assert_int_equal(data(f, 1)[511], 11);
	assert_int_equal(data(f, 1)[1022], 11);
	assert_int_equal(data(f, 1)[1023], VIRTIO_BLK_S_OK);
	assert_int_equal(data(f, 1)[1024], NOT_WRITTEN);
}

static void test_framing_write(void **state)
{
	struct fix *f = *state;
	struct virtio_blk_outhdr header = { .type = VIRTIO_BLK_T_OUT, .sector = 3 };

	/* Header and data are one buffer; there is more room for the answer than the status needs. */
	memcpy(data(f, 0), &header, sizeof(header));
	memset(data(f, 0) + 16, 0x5a, 512);
	memset(data(f, 1), NOT_WRITTEN, 16);
	drv_desc(&f->d, 0, DATA(0), 528, NEXT, 1);
	drv_desc(&f->d, 1, DATA(1), 8, WRITE, 0);
	drv_publish(&f->d, 0);
	kick(f);
	mock_do_all();
	assert_int_equal(drv_used_len(&f->d, 0), 0); /* no byte from the start of the in part was written */
	assert_int_equal(data(f, 1)[6], NOT_WRITTEN);
	assert_int_equal(data(f, 1)[7], VIRTIO_BLK_S_OK);
	assert_int_equal(image_byte(f, 3 * 512 - 1), 3);
	assert_int_equal(image_byte(f, 3 * 512), 0x5a);
	assert_int_equal(image_byte(f, 4 * 512 - 1), 0x5a);
	assert_int_equal(image_byte(f, 4 * 512), 5);
}

static void test_short_header(void **state)
{
	struct fix *f = *state;

	put_header(f, 0, VIRTIO_BLK_T_GET_ID, 0);
	drv_desc(&f->d, 0, HEADER(0), 15, NEXT, 1);
	drv_desc(&f->d, 1, STATUS(0), 1, WRITE, 0);
	drv_publish(&f->d, 0);
	put_header(f, 1, VIRTIO_BLK_T_IN, 0);
	drv_desc(&f->d, 3, STATUS(1), 1, WRITE, 0); /* none at all */
	drv_publish(&f->d, 3);
	kick(f);
	assert_used(f, 0, 0, 1, VIRTIO_BLK_S_IOERR);
	assert_used(f, 1, 1, 1, VIRTIO_BLK_S_IOERR);
	assert_int_equal(broken_calls, 0);
}

static void test_no_status_byte(void **state)
{
	struct fix *f = *state;

	for (unsigned writable = 0; writable < 2; writable++) {
		broken_calls = 0;
		put_header(f, 0, VIRTIO_BLK_T_IN, 0);
		drv_desc(&f->d, 0, HEADER(0), 16, NEXT, 1);
		drv_desc(&f->d, 1, STATUS(0), writable ? 0 : 1, writable ? WRITE : 0, 0);
		drv_publish(&f->d, 0);
		kick(f);
		assert_int_equal(broken_calls, 1);
		assert_string_equal(broken_why, "request without room for a status byte");
		assert_int_equal(drv_used_idx(&f->d), 0);
		f->dev->ops->reset(f->dev);
		activate(f, 1ULL << VIRTIO_BLK_F_FLUSH);
		request(f, 0, VIRTIO_BLK_T_IN, 0, 512);
		kick(f);
		mock_do_all();
		assert_used(f, 0, 0, 513, VIRTIO_BLK_S_OK);
		f->dev->ops->reset(f->dev);
		activate(f, 1ULL << VIRTIO_BLK_F_FLUSH);
	}
}

static void test_broken_ring(void **state)
{
	struct fix *f = *state;

	request(f, 0, VIRTIO_BLK_T_IN, 0, 512);
	drv_publish(&f->d, 0);
	kick(f);
	assert_int_equal(broken_calls, 1);
	mock_do_all(); /* what was in flight is answered, once */
	assert_used(f, 0, 0, 513, VIRTIO_BLK_S_OK);
	assert_int_equal(drv_used_idx(&f->d), 1);
	mock_run_tasks();
	assert_int_equal(mock.num, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_read),	      T(test_write),
		T(test_flush),	      T(test_write_without_flush_feature),
		T(test_get_id),	      T_RO(test_serial),
		T(test_unsupported),  T(test_whole_queue_answered_at_once),
		T(test_bounds),	      T_RO(test_read_only),
		T(test_framing_read), T(test_framing_write),
		T(test_short_header), T(test_no_status_byte),
		T(test_broken_ring),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
