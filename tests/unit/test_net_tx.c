/* Frames from the guest: what is sent as it is, what is dropped, and what waits. */
#include "tests/unit/net_fixture.h"

static const struct virtio_net_hdr_v1 plain;

static void sent(struct fix *f, unsigned i, int res)
{
	struct net_tx *tx = f->fake.sent[i];

	f->fake.sent[i] = f->fake.sent[--f->fake.num_sent];
	net_sent(&f->fake.b, tx, res);
}

static void test_send(void **state)
{
	struct fix *f = *state;
	struct net_tx *tx;
	uint8_t first;

	activate(f, 0);
	transmit(f, 3, &plain, 60);
	memset(drv_at(&f->q[1], BUF(3) + HDR, 60), 0xab, 60);
	kick(f);
	assert_int_equal(f->fake.num_sent, 1);
	tx = f->fake.sent[0];
	assert_int_equal(tx->len, 60);
	assert_int_equal(tx->num, 2);
	assert_ptr_equal(tx->iov[1].iov_base, drv_at(&f->q[1], BUF(3) + HDR, 60)); /* no copy */
	assert_int_equal(tx->iov[1].iov_len, 60);
	assert_int_equal(iov_get(tx->iov + 1, 1, 0, &first, 1), 1);
	assert_int_equal(first, 0xab);
	assert_int_equal(drv_used_idx(&f->q[1]), 0);
	sent(f, 0, 0);
	assert_int_equal(drv_used_idx(&f->q[1]), 1);
	assert_int_equal(drv_used_id(&f->q[1], 0), 3);
	assert_int_equal(drv_used_len(&f->q[1], 0), 0);
	assert_int_equal(used_calls[NET_TX], 1);
	assert_int_equal(stats(f, NET_TX).frames, 1);
	assert_int_equal(stats(f, NET_TX).bytes, 60);
}

/* A frame that the backend does not let out is counted, comes back, and costs the limit nothing. */
static void test_refused(void **state)
{
	static const struct ratelimit_params one = { .size = 1, .refill_ms = 1000 };
	struct fix *f = *state;

	activate(f, 0);
	net_set_limit(f->dev, NET_TX, &(const struct ratelimit_params){ 0 }, &one);
	f->fake.refuse = 2;
	for (unsigned i = 0; i < 3; i++)
		transmit(f, i, &plain, 60);
	kick(f);
	assert_int_equal(drv_used_idx(&f->q[1]), 2);
	assert_int_equal(drv_used_id(&f->q[1], 1), 1);
	assert_int_equal(stats(f, NET_TX).dropped, 2);
	assert_int_equal(f->fake.num_sent, 1);
	sent(f, 0, 0);
	assert_int_equal(stats(f, NET_TX).frames, 1);
}

/* Every length of chain around each bound, and each buffer comes back. */
static void test_lengths(void **state)
{
	static const struct {
		uint32_t len; /* with the header */
		bool good;
	} grid[] = {
		{ 1, false }, { 11, false },   { 12, false },	{ 13, false },	  { 25, false },    { 26, true },
		{ 72, true }, { 65561, true }, { 65562, true }, { 65563, false }, { 70000, false }, { 1 << 20, false },
	};
	struct fix *f = *state;

	activate(f, 0);
	for (uint16_t i = 0; i < MF_ARRAY_SIZE(grid); i++) {
		drv_desc(&f->q[1], 0, BUF(0), grid[i].len, 0, 0);
		drv_publish(&f->q[1], 0);
		kick(f);
		assert_int_equal(f->fake.num_sent, grid[i].good);
		if (grid[i].good)
			sent(f, 0, 0);
		assert_int_equal(drv_used_idx(&f->q[1]), i + 1);
		mock_run_tasks();
	}
	assert_int_equal(stats(f, NET_TX).dropped, 8);
	assert_int_equal(broken_calls, 0);
}

/* 10 rings full of nonsense, then a frame: it is sent. */
static void test_nothing_leaks(void **state)
{
	struct fix *f = *state;

	activate(f, 0);
	for (unsigned i = 0; i < 2560; i++) {
		drv_desc(&f->q[1], i % 256, BUF(0), i % 26 + (i % 26 == 0), 0, 0);
		drv_publish(&f->q[1], (uint16_t)(i % 256));
		if (i % 256 == 255) {
			kick(f);
			mock_run_tasks();
		}
	}
	assert_int_equal(stats(f, NET_TX).dropped, 2560);
	transmit(f, 0, &plain, 60);
	kick(f);
	assert_int_equal(f->fake.num_sent, 1);
	sent(f, 0, 0);
}

static void test_writable_buffer_breaks(void **state)
{
	struct fix *f = *state;

	activate(f, 0);
	drv_desc(&f->q[1], 0, BUF(0), 100, NEXT, 1);
	drv_desc(&f->q[1], 1, BUF(1), 100, WRITE, 0);
	drv_publish(&f->q[1], 0);
	kick(f);
	assert_int_equal(broken_calls, 1);
	assert_int_equal(f->fake.num_sent, 0);
}

/* No more are under way than the backend takes; those behind go on when one is done. */
static void test_slots(void **state)
{
	struct fix *f = *state;

	activate(f, 0);
	for (unsigned i = 0; i < 10; i++)
		transmit(f, i, &plain, 60);
	kick(f);
	assert_int_equal(f->fake.num_sent, TX_MAX);
	for (unsigned i = 0; i < 10; i++) {
		sent(f, 0, 0);
		mock_run_tasks();
		assert_int_equal(f->fake.num_sent, MF_MIN(TX_MAX, 9 - i));
	}
	assert_int_equal(drv_used_idx(&f->q[1]), 10);
	assert_int_equal(drv_used_flags(&f->q[1]), 0);
}

static void test_ring_full(void **state)
{
	struct fix *f = *state;

	activate(f, 0);
	f->fake.full = true;
	transmit(f, 0, &plain, 60);
	kick(f);
	mock_run_tasks();
	assert_int_equal(f->fake.num_sent, 0);
	assert_int_equal(drv_used_idx(&f->q[1]), 0);
	f->fake.full = false;
	mock_run_tasks();
	assert_int_equal(f->fake.num_sent, 1);
}

static void test_errors(void **state)
{
	struct fix *f = *state;

	activate(f, 0);
	for (unsigned i = 0; i < 3; i++)
		transmit(f, i, &plain, 60);
	kick(f);
	sent(f, 0, -EIO); /* a tap that is down */
	assert_int_equal(stats(f, NET_TX).dropped, 1);
	assert_int_equal(config_calls, 0);
	for (unsigned i = 3; i < 200; i++) { /* each gives its slot back */
		transmit(f, i, &plain, 60);
		mock_run_tasks();
		kick(f);
		sent(f, 2, -EIO);
	}
	sent(f, 0, NET_LOST);
	sent(f, 0, NET_LOST);
	assert_int_equal(config_calls, 1);
	assert_int_equal(drv_used_idx(&f->q[1]), 200);
	/* From now on they come back at once. */
	transmit(f, 0, &plain, 60);
	kick(f);
	assert_int_equal(f->fake.num_sent, 0);
	assert_int_equal(drv_used_idx(&f->q[1]), 201);
	assert_int_equal(stats(f, NET_TX).dropped, 201);
	assert_int_equal(stats(f, NET_TX).frames, 0);
}

static void test_reset_while_sending(void **state)
{
	struct fix *f = *state;

	for (unsigned k = 0; k < 100; k++) {
		activate(f, 0);
		for (unsigned i = 0; i < 6; i++)
			transmit(f, i, &plain, 60);
		kick(f);
		assert_int_equal(f->fake.num_sent, TX_MAX);
		f->dev->ops->reset(f->dev);
		assert_int_equal(drv_used_idx(&f->q[1]), 0);
		mock_run_tasks();
		assert_int_equal(f->fake.num_sent, 0);
	}
	assert_int_equal(f->fake.stops, 100);
}

static void test_limits(void **state)
{
	struct fix *f = *state;
	struct ratelimit_params bytes = { .size = 100, .refill_ms = 100 }, ops = { .size = 2, .refill_ms = 1000 },
				off = { 0 };

	activate(f, 0);
	net_set_limit(f->dev, NET_TX, &bytes, NULL);
	for (unsigned i = 0; i < 3; i++)
		transmit(f, i, &plain, 60);
	kick(f);
	assert_int_equal(f->fake.num_sent, 1);
	sent(f, 0, 0);
	mock_run_tasks();
	kick(f);
	mock_time(19999999);
	assert_int_equal(f->fake.num_sent, 0);
	mock_time(20000000);
	assert_int_equal(f->fake.num_sent, 1);
	sent(f, 0, 0);
	mock_run_tasks();
	assert_int_equal(f->fake.num_sent, 0);
	net_set_limit(f->dev, NET_TX, &off, NULL); /* what waits continues at once */
	mock_time(20000002);
	assert_int_equal(f->fake.num_sent, 1);
	sent(f, 0, 0);

	net_set_limit(f->dev, NET_TX, NULL, &ops);
	for (unsigned i = 0; i < 3; i++)
		transmit(f, i, &plain, 1000);
	kick(f);
	assert_int_equal(f->fake.num_sent, 2);
	mock_time(520000001);
	assert_int_equal(f->fake.num_sent, 2);
	mock_time(520000002);
	assert_int_equal(f->fake.num_sent, 3);
}

/* A reset forgets what waited for its tokens. */
static void test_reset_while_limited(void **state)
{
	struct fix *f = *state;
	struct ratelimit_params ops = { .size = 1, .refill_ms = 1000 };

	activate(f, 0);
	net_set_limit(f->dev, NET_TX, NULL, &ops);
	transmit(f, 0, &plain, 60);
	transmit(f, 1, &plain, 60);
	kick(f);
	assert_int_equal(f->fake.num_sent, 1);
	assert_non_null(loop_timers(mock.loop)->first);
	f->dev->ops->reset(f->dev);
	assert_null(loop_timers(mock.loop)->first);
}

static void test_config(void **state)
{
	struct fix *f = *state;
	struct virtio_net_config config = { 0 };
	uint16_t mtu;

	assert_int_equal(f->dev->offered, F(CSUM) | F(HOST_TSO4) | F(MRG_RXBUF) | F(MAC) | F(MTU) | F(STATUS));
	f->dev->ops->config_read(f->dev, 0, &config, f->dev->ops->config_len);
	assert_memory_equal(config.mac, f->params.mac, 6);
	assert_int_equal(config.status, VIRTIO_NET_S_LINK_UP);
	assert_int_equal(config.mtu, 1400);
	f->dev->ops->config_read(f->dev, 10, &mtu, 2);
	assert_int_equal(mtu, 1400);
	assert_null(f->dev->ops->config_write);
	assert_int_equal(f->dev->ops->config_len, 12);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_send),
		T(test_refused),
		T(test_lengths),
		T(test_nothing_leaks),
		T(test_writable_buffer_breaks),
		T(test_slots),
		T(test_ring_full),
		T(test_errors),
		T(test_reset_while_sending),
		T(test_limits),
		T(test_config),
		T(test_reset_while_limited),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
