/* Completions of the block device: short, failed, reordered, with the ring full, and in the middle of a reset. */
#include "tests/unit/blk_fixture.h"

#include "virtio/blk_priv.h"

/* A transfer that continues byte by byte, over descriptors of odd sizes. */
static void test_short_transfers(void **state)
{
	static const size_t steps[] = { 1, 7, 100, 511, 512, 1000, 4096 };
	struct fix *f = *state;

	for (unsigned s = 0; s < MF_ARRAY_SIZE(steps); s++) {
		for (unsigned out = 0; out < 2; out++) {
			f->dev->ops->reset(f->dev);
			activate(f, 1ULL << VIRTIO_BLK_F_FLUSH);
			mock.bytes_max = steps[s];
			put_header(f, 0, out ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, 20);
			drv_desc(&f->d, 0, HEADER(0), 16, NEXT, 1);
			drv_desc(&f->d, 1, DATA(0), 3, NEXT | (out ? 0 : WRITE), 2);
			drv_desc(&f->d, 2, DATA(1), 1021, NEXT | (out ? 0 : WRITE), 3);
			drv_desc(&f->d, 3, DATA(2), 512, NEXT | (out ? 0 : WRITE), 4);
			drv_desc(&f->d, 4, STATUS(0), 1, WRITE, 0);
			if (out) {
				memset(data(f, 0), 0x10, 3);
				memset(data(f, 1), 0x20 + (int)s, 1021);
				memset(data(f, 2), 0x40, 512);
			}
			drv_publish(&f->d, 0);
			kick(f);
			mock_do_all();
			assert_used(f, 0, 0, out ? 1 : 1537, VIRTIO_BLK_S_OK);
			if (out) {
				assert_int_equal(image_byte(f, 20 * 512 + 2), 0x10);
				assert_int_equal(image_byte(f, 20 * 512 + 3), 0x20 + s);
				assert_int_equal(image_byte(f, 22 * 512 - 1), 0x20 + s);
				assert_int_equal(image_byte(f, 22 * 512), 0x40);
				assert_int_equal(image_byte(f, 23 * 512 - 1), 0x40);
				assert_int_equal(image_byte(f, 23 * 512), 24);
			} else {
				assert_int_equal(data(f, 2)[511], s ? 0x40 : 23);
			}
		}
	}
	mock.bytes_max = 0;
}

static void test_truncated_file(void **state)
{
	struct fix *f = *state;

	assert_int_equal(truncate(f->path, 512 + 100), 0);
	request(f, 0, VIRTIO_BLK_T_IN, 1, 1024); /* 100 bytes, then the end */
	request(f, 1, VIRTIO_BLK_T_IN, 10, 512);
	request(f, 2, VIRTIO_BLK_T_IN, 0, 512);
	kick(f);
	mock_do_all();
	/* 0 is the first to finish short: its rest is queued behind the others. */
	assert_used(f, 0, 1, 0, VIRTIO_BLK_S_IOERR);
	assert_used(f, 1, 2, 513, VIRTIO_BLK_S_OK);
	assert_used(f, 2, 0, 100, VIRTIO_BLK_S_IOERR);
}

static void test_host_errors(void **state)
{
	static const int errors[] = { -EIO, -ENOSPC, -EFBIG, -EBADF, -ENOMEM, -EFAULT, -ECANCELED };
	struct fix *f = *state;

	for (unsigned i = 0; i < MF_ARRAY_SIZE(errors); i++) {
		request(f, 2 * i, VIRTIO_BLK_T_OUT, 0, 512);
		request(f, 2 * i + 1, VIRTIO_BLK_T_IN, 0, 512);
		kick(f);
		mock_complete(0, errors[i]);
		mock_complete(0, errors[i]);
		assert_used(f, 2 * i, 2 * i, 1, VIRTIO_BLK_S_IOERR);
		assert_used(f, 2 * i + 1, 2 * i + 1, 0, VIRTIO_BLK_S_IOERR);
	}
	/* More than was asked for, and nothing written at all. */
	request(f, 20, VIRTIO_BLK_T_IN, 0, 512);
	request(f, 21, VIRTIO_BLK_T_OUT, 0, 512);
	kick(f);
	mock_complete(0, 513);
	mock_complete(0, 0);
	assert_int_equal(status_of(f, 20), VIRTIO_BLK_S_IOERR);
	assert_int_equal(status_of(f, 21), VIRTIO_BLK_S_IOERR);
}

static unsigned lines;

static void count_line(const char *line, size_t len)
{
	(void)line;
	(void)len;
	lines++;
}

/* Each kind of fault is reported, whatever failed before it; none more than once a minute, resets or not. */
static void test_warnings(void **state)
{
	static const uint32_t types[] = { VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH };
	struct fix *f = *state;

	lines = 0;
	log_setup(LOG_LEVEL_WARN, -1);
	log_set_sink(count_line);
	for (unsigned minute = 0; minute < 2; minute++) {
		for (unsigned i = 0; i < 60; i++) {
			mock_time((minute * 60 + i) * 1000000000ULL);
			f->dev->ops->reset(f->dev);
			activate(f, UINT64_MAX);
			request(f, i % 3, types[i % 3], 0, 512);
			kick(f);
			mock_complete(0, -EIO);
			assert_int_equal(status_of(f, i % 3), VIRTIO_BLK_S_IOERR);
			assert_int_equal(lines, minute * 3 + MF_MIN(i + 1, 3U));
		}
	}
	log_set_sink(NULL);
}

/* The kernel reports lost data at one sync only: mayfly keeps reporting it, until a reset. */
static void test_lost_sync(void **state)
{
	struct fix *f = *state;

	for (unsigned i = 0; i < 3; i++) {
		request(f, i, VIRTIO_BLK_T_FLUSH, 0, 0);
		kick(f);
		assert_int_equal(mock.num, i < 2);
		if (mock.num)
			mock_complete(0, i ? -EIO : -ECANCELED); /* the first was not even tried */
		assert_int_equal(status_of(f, i), VIRTIO_BLK_S_IOERR);
	}
	request(f, 3, VIRTIO_BLK_T_IN, 0, 512);
	kick(f);
	mock_do_all();
	assert_int_equal(status_of(f, 3), VIRTIO_BLK_S_OK);
	/* A driver without FLUSH has only its writes to learn it by. */
	f->dev->features &= ~(1ULL << VIRTIO_BLK_F_FLUSH);
	request(f, 4, VIRTIO_BLK_T_OUT, 0, 512);
	kick(f);
	mock_do_all();
	assert_int_equal(status_of(f, 4), VIRTIO_BLK_S_IOERR);
	f->dev->ops->reset(f->dev);
	activate(f, 1ULL << VIRTIO_BLK_F_FLUSH);
	request(f, 5, VIRTIO_BLK_T_FLUSH, 0, 0);
	kick(f);
	assert_int_equal(mock.num, 1);
	mock_complete(0, 0);
	assert_int_equal(status_of(f, 5), VIRTIO_BLK_S_OK);
}

/* A request that names the same memory again and again is done in pieces, of which a turn of the loop has a few. */
static void test_large_requests_take_turns(void **state)
{
	enum { PIECES = 100, PIECE = 256 * 1024 };
	struct fix *f = *state;
	uint64_t begun = 0, turn = 0;

	assert_int_equal(truncate(f->path, PIECES * PIECE), 0);
	to_blk(f->dev)->image.sectors = PIECES * PIECE / 512;
	put_header(f, 0, VIRTIO_BLK_T_IN, 0);
	drv_desc(&f->d, 0, HEADER(0), 16, NEXT, 1);
	for (unsigned i = 1; i <= PIECES; i++)
		drv_desc(&f->d, (uint16_t)i, 0x80000, PIECE, NEXT | WRITE, (uint16_t)(i + 1));
	drv_desc(&f->d, PIECES + 1, STATUS(0), 1, WRITE, 0);
	drv_publish(&f->d, 0);
	kick(f);
	for (unsigned i = 0; i < 1000 && status_of(f, 0) == NOT_WRITTEN; i++) {
		if (mock.num) {
			uint64_t len = 0;

			assert_int_equal(mock.num, 1);
			for (unsigned j = 0; j < mock.io[0].num; j++)
				len += mock.io[0].iov[j].iov_len;
			assert_true(len <= MIB);
			begun += len;
			turn += len;
			mock_do(0);
			continue;
		}
		assert_true(turn <= 2 * MIB);
		turn = 0;
		mock_run_tasks(); /* the next turn */
	}
	assert_true(turn <= 2 * MIB);
	assert_int_equal(begun, PIECES * PIECE);
	assert_used(f, 0, 0, PIECES * PIECE + 1, VIRTIO_BLK_S_OK);
	assert_int_equal(drv_used_idx(&f->d), 1);
}

/* Each turn has its own bytes: what is not large waits for nothing, however much there has been of it. */
static void test_small_requests_do_not_wait(void **state)
{
	struct fix *f = *state;

	for (unsigned n = 0; n < 4 * MIB / 4096; n++) {
		mock_time(1000 * (n + 1));
		request(f, n % 8, n % 2 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, 0, 4096);
		kick(f);
		assert_int_equal(mock.num, 1);
		assert_false(mock_has_tasks());
		mock_do(0);
		assert_int_equal(status_of(f, n % 8), VIRTIO_BLK_S_OK);
	}
}

static void test_again(void **state)
{
	struct fix *f = *state;

	request(f, 0, VIRTIO_BLK_T_IN, 0, 512);
	kick(f);
	for (unsigned i = 0; i < 20; i++) {
		mock_complete(0, i % 2 ? -EAGAIN : -EINTR);
		assert_int_equal(mock.num, 1);
		assert_int_equal(drv_used_idx(&f->d), 0);
	}
	mock_do_all();
	assert_used(f, 0, 0, 513, VIRTIO_BLK_S_OK);

	/* Not without end. */
	request(f, 1, VIRTIO_BLK_T_IN, 0, 512);
	kick(f);
	for (unsigned i = 0; i < 1000 && mock.num; i++)
		mock_complete(0, -EAGAIN);
	assert_used(f, 1, 1, 0, VIRTIO_BLK_S_IOERR);
}

static void test_reordered(void **state)
{
	struct fix *f = *state;
	bool seen[64] = { false };

	for (unsigned i = 0; i < 64; i++)
		request(f, i, VIRTIO_BLK_T_IN, i, 512);
	kick(f);
	assert_int_equal(mock.num, 64);
	srandom(4);
	while (mock.num)
		mock_do((unsigned)random() % mock.num);
	assert_int_equal(drv_used_idx(&f->d), 64);
	for (unsigned n = 0; n < 64; n++) {
		unsigned i = drv_used_id(&f->d, (uint16_t)n) / 3;

		assert_false(seen[i]);
		seen[i] = true;
		assert_used(f, n, i, 513, VIRTIO_BLK_S_OK);
		assert_int_equal(data(f, i)[0], i + 1);
	}
}

static void test_ring_full(void **state)
{
	struct fix *f = *state;
	unsigned turns = 0;

	/* For long, at first: no slot is lost by it. */
	mock.room = 0;
	request(f, 20, VIRTIO_BLK_T_IN, 0, 512);
	for (unsigned i = 0; i < 600; i++) {
		if (i % 2)
			mock_run_tasks();
		else
			kick(f);
	}
	f->dev->ops->reset(f->dev);
	activate(f, 1ULL << VIRTIO_BLK_F_FLUSH);

	mock.room = 3;
	for (unsigned i = 0; i < 20; i++)
		request(f, i, i % 5 == 4 ? VIRTIO_BLK_T_FLUSH : VIRTIO_BLK_T_IN, i, i % 5 == 4 ? 0 : 512);
	kick(f);
	assert_int_equal(mock.num, 3);
	assert_int_equal(drv_used_flags(&f->d), VRING_USED_F_NO_NOTIFY); /* the task will come back by itself */
	while (drv_used_idx(&f->d) < 20 && turns++ < 100) {
		if (mock.num)
			mock_do(0);
		mock_run_tasks();
		assert_true(mock.num <= 3);
	}
	for (unsigned i = 0; i < 20; i++)
		assert_used(f, i, i, i % 5 == 4 ? 1 : 513, VIRTIO_BLK_S_OK);
	assert_int_equal(broken_calls, 0);
	assert_int_equal(drv_used_flags(&f->d), 0);
}

/* The rest of a short transfer, and a sync after a write, find the ring full. */
static void test_ring_full_under_way(void **state)
{
	struct fix *f = *state;

	f->dev->ops->reset(f->dev);
	activate(f, 0);
	request(f, 0, VIRTIO_BLK_T_OUT, 0, 512);
	request(f, 1, VIRTIO_BLK_T_IN, 1, 512);
	kick(f);
	mock.room = 0;
	mock.bytes_max = 100;
	mock_do(0);
	mock_do(0);
	for (unsigned i = 0; i < 5; i++)
		mock_run_tasks();
	assert_int_equal(mock.num, 0);
	assert_int_equal(drv_used_idx(&f->d), 0);
	mock.room = 1;
	mock.bytes_max = 0;
	for (unsigned i = 0; i < 10; i++) {
		mock_run_tasks();
		mock_do_all();
	}
	assert_int_equal(drv_used_idx(&f->d), 2);
	assert_int_equal(status_of(f, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(status_of(f, 1), VIRTIO_BLK_S_OK);
	assert_int_equal(data(f, 1)[511], 2);
}

/* Reset with operations in flight: cancelled or not, none is left, none is answered, and the device works again. */
static void test_reset_in_flight(void **state)
{
	struct fix *f = *state;

	for (unsigned vain = 0; vain < 2; vain++) {
		mock.cancel_in_vain = vain;
		mock.drained = mock.cancels = 0;
		for (unsigned i = 0; i < 80; i++)
			request(f, i, VIRTIO_BLK_T_IN, i % SECTORS, 512);
		used_calls = 0;
		kick(f);
		mock_do(5);
		assert_int_equal(used_calls, 1);
		for (unsigned i = 0; i < mock.num; i++)
			assert_false(mock.io[i].cancelled);
		f->dev->ops->reset(f->dev);
		assert_int_equal(mock.num, 0);
		assert_int_equal(mock.drained, 79);
		assert_int_equal(mock.cancels, 79);
		assert_int_equal(used_calls, 1);
		assert_int_equal(drv_used_idx(&f->d), 1);
		virtq_stop(&f->dev->vq[0]);

		activate(f, 1ULL << VIRTIO_BLK_F_FLUSH);
		for (unsigned i = 0; i < 85; i++)
			request(f, i, VIRTIO_BLK_T_IN, i % SECTORS, 512);
		kick(f);
		mock_do_all();
		assert_int_equal(drv_used_idx(&f->d), 85);
		f->dev->ops->reset(f->dev);
		activate(f, 1ULL << VIRTIO_BLK_F_FLUSH);
	}
}

/* Requests that wait for the ring die in a reset, and the task that is still queued does nothing afterwards. */
static void test_reset_while_waiting(void **state)
{
	struct fix *f = *state;

	request(f, 0, VIRTIO_BLK_T_IN, 0, 512);
	request(f, 1, VIRTIO_BLK_T_IN, 1, 512);
	kick(f);
	mock.room = 0;
	mock.bytes_max = 100;
	mock_do(0);
	mock_do(0);
	f->dev->ops->reset(f->dev);
	virtq_stop(&f->dev->vq[0]);
	mock.room = MOCK_IO_MAX;
	mock_run_tasks();
	assert_int_equal(mock.num, 0);
	assert_int_equal(drv_used_idx(&f->d), 0);
}

/* All heads in flight at once, many times over in another order: every slot comes back. */
static void test_all_slots(void **state)
{
	struct fix *f = *state;
	uint16_t total = 0;

	srandom(5);
	put_header(f, 0, VIRTIO_BLK_T_IN, 0);
	for (unsigned round = 0; round < 20; round++) {
		/* One indirect table for all: the heads differ, the buffers need not. */
		drv_desc_at(&f->d, DRV_TABLE, 0, HEADER(0), 16, NEXT, 1);
		drv_desc_at(&f->d, DRV_TABLE, 1, DATA(0), 512, NEXT | WRITE, 2);
		drv_desc_at(&f->d, DRV_TABLE, 2, STATUS(0), 1, WRITE, 0);
		for (unsigned i = 0; i < 256; i++) {
			drv_desc(&f->d, i, DRV_TABLE, 48, INDIRECT, 0);
			drv_add(&f->d, (uint16_t)((i * 7 + round) % 256));
		}
		drv_publish_idx(&f->d, f->d.avail_idx);
		kick(f);
		mock_run_tasks();
		assert_int_equal(mock.num, 256);
		while (mock.num)
			mock_do((unsigned)random() % mock.num);
		total += 256;
		assert_int_equal(drv_used_idx(&f->d), total);
	}
}

/* Ten queues full of bad chains, each answered or followed by a reset: no slot is lost. */
static void test_malformed_leaks_no_slot(void **state)
{
	struct fix *f = *state;

	for (unsigned i = 0; i < 2560; i++) {
		put_header(f, 0, VIRTIO_BLK_T_IN, 0);
		drv_desc(&f->d, 0, HEADER(0), i % 3 ? 16 : 15, i % 3 == 1 ? 0 : NEXT, 1);
		drv_desc(&f->d, 1, STATUS(0), 1, i % 2 ? WRITE : 0, 0);
		drv_publish(&f->d, 0);
		kick(f);
		mock_do_all();
		if (broken_calls) {
			f->dev->ops->reset(f->dev);
			activate(f, 1ULL << VIRTIO_BLK_F_FLUSH);
			broken_calls = 0;
		}
	}
	f->dev->ops->reset(f->dev);
	activate(f, 1ULL << VIRTIO_BLK_F_FLUSH);
	request(f, 1, VIRTIO_BLK_T_IN, 0, 512);
	kick(f);
	mock_do_all();
	assert_used(f, 0, 1, 513, VIRTIO_BLK_S_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_short_transfers),
		T(test_truncated_file),
		T(test_host_errors),
		T(test_small_requests_do_not_wait),
		T(test_again),
		T(test_warnings),
		T(test_lost_sync),
		T(test_large_requests_take_turns),
		T(test_reordered),
		T(test_ring_full),
		T(test_ring_full_under_way),
		T(test_reset_in_flight),
		T(test_reset_while_waiting),
		T(test_all_slots),
		T(test_malformed_leaks_no_slot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
