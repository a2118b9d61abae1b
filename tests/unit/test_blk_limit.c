/* The rate limiter of a drive: what waits, for how long, and what changes while it does. */
#include "tests/unit/blk_fixture.h"

#define MS 1000000ULL

static int setup_with(void **state, struct ratelimit_params bandwidth, struct ratelimit_params ops)
{
	struct blk_params params = { .bandwidth = bandwidth, .ops = ops };
	int r = setup_params(state, params, SECTORS * 512, UINT64_MAX);

	mock.loop->timers.now_ns = timers_clock_ns();
	return r;
}

/* 4 operations in 100 ms. */
static int setup_ops(void **state)
{
	return setup_with(state, (struct ratelimit_params){ 0 },
			  (struct ratelimit_params){ .size = 4, .refill_ms = 100 });
}

/* 2048 bytes in 100 ms, and 1024 once. */
static int setup_bandwidth(void **state)
{
	return setup_with(state, (struct ratelimit_params){ .size = 2048, .one_time_burst = 1024, .refill_ms = 100 },
			  (struct ratelimit_params){ 0 });
}

/* Lets so much time pass. */
static void wait_ms(unsigned ms)
{
	timers_run(&mock.loop->timers, mock.loop->timers.now_ns + ms * MS);
}

static void test_ops(void **state)
{
	struct fix *f = *state;

	for (unsigned i = 0; i < 10; i++)
		request(f, i, i % 2 ? VIRTIO_BLK_T_FLUSH : VIRTIO_BLK_T_IN, i, i % 2 ? 0 : 512);
	kick(f);
	assert_int_equal(mock.num, 4);
	assert_non_null(mock.loop->timers.first);
	assert_int_equal(drv_used_flags(&f->d), VRING_USED_F_NO_NOTIFY);
	kick(f); /* changes nothing */
	mock_do_all();
	mock_run_tasks();
	wait_ms(24);
	assert_int_equal(mock.num, 0);
	wait_ms(2);
	assert_int_equal(mock.num, 1);
	wait_ms(1000); /* no more than a bucket's size, however long it was */
	assert_int_equal(mock.num, 5);
	mock_do_all();
	wait_ms(1000);
	mock_do_all();
	for (unsigned i = 0; i < 10; i++)
		assert_used(f, i, i, i % 2 ? 1 : 513, VIRTIO_BLK_S_OK);
	assert_null(mock.loop->timers.first);
	assert_int_equal(drv_used_flags(&f->d), 0); /* notifications are wanted again */
}

static void test_bandwidth(void **state)
{
	struct fix *f = *state;

	for (unsigned i = 0; i < 4; i++)
		request(f, i, i % 2 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, 0, 1024);
	kick(f);
	assert_int_equal(mock.num, 3); /* the size and the burst */
	mock_do_all();
	wait_ms(49);
	assert_int_equal(mock.num, 0);
	wait_ms(2);
	assert_int_equal(mock.num, 1);
	mock_do_all();
	/* What moves no data is free; it stays in its order. */
	request(f, 4, VIRTIO_BLK_T_FLUSH, 0, 0);
	request(f, 5, VIRTIO_BLK_T_IN, 0, 512);
	request(f, 6, VIRTIO_BLK_T_GET_ID, 0, 20);
	kick(f);
	assert_int_equal(mock.num, 1);
	assert_int_equal(status_of(f, 6), NOT_WRITTEN);
	wait_ms(100);
	mock_do_all();
	assert_int_equal(status_of(f, 6), VIRTIO_BLK_S_OK);
	/* A request larger than the bucket is let through, and paid for afterwards. */
	wait_ms(1000);
	request(f, 7, VIRTIO_BLK_T_IN, 0, 8192);
	request(f, 8, VIRTIO_BLK_T_IN, 0, 512);
	kick(f);
	assert_int_equal(mock.num, 1);
	wait_ms(300);
	assert_int_equal(mock.num, 1);
	wait_ms(26);
	assert_int_equal(mock.num, 2);
	mock_do_all();
}

/* Zeros are written, too. */
static void test_zeroes_count(void **state)
{
	struct virtio_blk_discard_write_zeroes range = { .sector = 0, .num_sectors = 2 };
	struct fix *f = *state;

	for (unsigned i = 0; i < 4; i++) {
		memcpy(data(f, i), &range, sizeof(range));
		request(f, i, VIRTIO_BLK_T_WRITE_ZEROES, 0, sizeof(range));
		drv_desc(&f->d, 3 * i + 1, DATA(i), sizeof(range), NEXT, 3 * i + 2);
	}
	kick(f);
	assert_int_equal(mock.num, 3); /* the size and the burst */
	mock_do_all();
	wait_ms(49);
	assert_int_equal(mock.num, 0);
	wait_ms(2);
	assert_int_equal(mock.num, 1);
	mock_do_all();
}

/* A request that did not fit into the ring has cost nothing. */
static void test_ring_full_costs_nothing(void **state)
{
	struct fix *f = *state;

	mock.room = 0;
	request(f, 0, VIRTIO_BLK_T_IN, 0, 512);
	kick(f);
	for (unsigned i = 0; i < 20; i++)
		mock_run_tasks();
	mock.room = MOCK_IO_MAX;
	for (unsigned i = 1; i < 6; i++)
		request(f, i, VIRTIO_BLK_T_IN, 0, 512);
	mock_run_tasks();
	assert_int_equal(mock.num, 4);
	wait_ms(1000);
	assert_int_equal(mock.num, 6);
	mock_do_all();
}

static void test_reset_while_waiting(void **state)
{
	struct fix *f = *state;

	for (unsigned i = 0; i < 6; i++)
		request(f, i, VIRTIO_BLK_T_IN, 0, 512);
	kick(f);
	assert_non_null(mock.loop->timers.first);
	f->dev->ops->reset(f->dev);
	assert_null(mock.loop->timers.first);
	wait_ms(1000);
	activate(f, 0);
	request(f, 0, VIRTIO_BLK_T_IN, 0, 512);
	kick(f);
	assert_int_equal(mock.num, 1);
	mock_do_all();
	assert_used(f, 0, 0, 513, VIRTIO_BLK_S_OK);
}

/* A change at run time: requests that wait are checked again; a bucket that is not named stays. */
static void test_change(void **state)
{
	const struct ratelimit_params none = { 0 }, two = { .size = 2, .refill_ms = 100 };
	struct fix *f = *state;

	for (unsigned i = 0; i < 20; i++)
		request(f, i, VIRTIO_BLK_T_IN, 0, 512);
	kick(f);
	assert_int_equal(mock.num, 4);
	blk_set_limits(f->dev, &none, NULL);
	wait_ms(1);
	assert_int_equal(mock.num, 4);
	blk_set_limits(f->dev, NULL, &two);
	wait_ms(1);
	assert_int_equal(mock.num, 6);
	blk_set_limits(f->dev, NULL, &none);
	wait_ms(1);
	assert_int_equal(mock.num, 20);
	mock_do_all();
	assert_int_equal(drv_used_idx(&f->d), 20);
	assert_null(mock.loop->timers.first);
	f->dev->ops->reset(f->dev);
	blk_set_limits(f->dev, &none, &two); /* of a drive that is not active */
	assert_null(mock.loop->timers.first);
}

#define T_WITH(fn, with) cmocka_unit_test_setup_teardown(fn, with, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T_WITH(test_ops, setup_ops),
		T_WITH(test_bandwidth, setup_bandwidth),
		T_WITH(test_zeroes_count, setup_bandwidth),
		T_WITH(test_ring_full_costs_nothing, setup_ops),
		T_WITH(test_reset_while_waiting, setup_ops),
		T_WITH(test_change, setup_ops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
