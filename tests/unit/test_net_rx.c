/* Frames to the guest: buffers of all sizes, merged or not, none at all, and what the host does wrong. */
#include "tests/unit/net_fixture.h"

static struct virtio_net_hdr_v1 header(struct fix *f, unsigned i)
{
	struct virtio_net_hdr_v1 h;

	memcpy(&h, drv_at(&f->q[NET_RX], BUF(i), sizeof(h)), sizeof(h));
	return h;
}

static void test_one_buffer_per_frame(void **state)
{
	struct fix *f = *state;

	activate(f, 0);
	post(f, 0, 1526);
	post(f, 1, 1526);
	kick(f);
	assert_int_equal(f->fake.room, 1526);
	arrive(f, 60, 0xaa);
	assert_int_equal(drv_used_idx(&f->q[0]), 1);
	assert_int_equal(drv_used_id(&f->q[0], 0), 0);
	assert_int_equal(drv_used_len(&f->q[0], 0), 72);
	assert_int_equal(header(f, 0).num_buffers, 1);
	assert_int_equal(*(uint8_t *)drv_at(&f->q[0], BUF(0) + 71, 1), 0xaa);
	assert_int_equal(*(uint8_t *)drv_at(&f->q[0], BUF(0) + 72, 1), 0);
	assert_int_equal(used_calls[NET_RX], 1);
	arrive(f, 1514, 0xbb);
	assert_int_equal(drv_used_id(&f->q[0], 1), 1);
	assert_int_equal(drv_used_len(&f->q[0], 1), 1526);
	assert_null(f->fake.iov); /* no buffer, no read */
	assert_int_equal(stats(f, NET_RX).frames, 2);
	assert_int_equal(stats(f, NET_RX).bytes, 1574);
	assert_int_equal(drv_used_flags(&f->q[0]), 0); /* and the driver's next buffer is wanted */
}

static void test_merged(void **state)
{
	struct fix *f = *state;

	activate(f, F(MRG_RXBUF));
	for (unsigned i = 0; i < 4; i++)
		post(f, i, 512);
	kick(f);
	assert_int_equal(f->fake.room, 1536); /* no more than is needed: the others stay in the ring */
	arrive(f, 512 - HDR + 1, 0xcc);
	assert_int_equal(drv_used_idx(&f->q[0]), 2);
	assert_int_equal(header(f, 0).num_buffers, 2);
	assert_int_equal(drv_used_len(&f->q[0], 0), 512);
	assert_int_equal(drv_used_len(&f->q[0], 1), 1);
	assert_null(f->fake.iov); /* 1024 bytes are left, less than a frame may have */
	post(f, 4, 512);
	kick(f);
	assert_int_equal(f->fake.room, 1536);
	arrive(f, 512 - HDR, 0xdd); /* exactly one */
	assert_int_equal(drv_used_idx(&f->q[0]), 3);
	assert_int_equal(drv_used_id(&f->q[0], 2), 2);
	assert_int_equal(header(f, 2).num_buffers, 1);
	assert_int_equal(f->fake.receives, 2);
}

static void test_merged_gso_frame(void **state)
{
	struct fix *f = *state;

	activate(f, F(MRG_RXBUF) | F(GUEST_CSUM) | F(GUEST_TSO4));
	for (unsigned i = 0; i < 16; i++) {
		assert_null(f->fake.iov);
		post(f, i, 4096);
		kick(f);
	}
	assert_null(f->fake.iov); /* 65536 bytes: not enough for the largest */
	post(f, 16, 4096);
	kick(f);
	assert_non_null(f->fake.iov);
	arrive(f, 65550, 0xee);
	assert_int_equal(drv_used_idx(&f->q[0]), 17);
	assert_int_equal(header(f, 0).num_buffers, 17);
	assert_int_equal(drv_used_len(&f->q[0], 16), 65562 - 16 * 4096);
}

/* A driver whose whole ring holds less than the largest frame still gets those that fit. */
static void test_small_ring(void **state)
{
	struct fix *f = *state;

	activate_sized(f, F(MRG_RXBUF) | F(GUEST_TSO4), 4);
	for (unsigned i = 0; i < 4; i++)
		post(f, i, 200);
	kick(f);
	assert_int_equal(f->fake.room, 800);
	arrive(f, 800, 1);
	assert_int_equal(stats(f, NET_RX).dropped, 1);
	assert_int_equal(drv_used_idx(&f->q[0]), 0);
	arrive(f, 700, 1);
	assert_int_equal(drv_used_idx(&f->q[0]), 4);
}

/* Frames larger than the buffer are lost and counted, the buffer is not. */
static void test_too_large(void **state)
{
	struct fix *f = *state;

	activate(f, 0);
	post(f, 0, 100);
	kick(f);
	for (unsigned i = 0; i < 1000; i++) {
		arrive(f, 89 + i, 1);
		mock_run_tasks(); /* a turn has a limit */
	}
	assert_int_equal(stats(f, NET_RX).dropped, 1000);
	assert_int_equal(drv_used_idx(&f->q[0]), 0);
	arrive(f, 88, 1);
	assert_int_equal(drv_used_idx(&f->q[0]), 1);
	assert_int_equal(drv_used_len(&f->q[0], 0), 100);
}

/* The header in pieces of a byte, and a buffer of two descriptors. */
static void test_scattered(void **state)
{
	struct fix *f = *state;

	activate(f, F(MRG_RXBUF));
	for (unsigned i = 0; i < 13; i++)
		drv_desc(&f->q[0], i, BUF(0) + i, i < 12 ? 1 : 3000, WRITE | (i < 12 ? NEXT : 0), i + 1);
	drv_publish(&f->q[0], 0);
	kick(f);
	assert_int_equal(f->fake.num, 13);
	arrive(f, 60, 7);
	assert_int_equal(drv_used_len(&f->q[0], 0), 72);
	assert_int_equal(header(f, 0).num_buffers, 1);
}

/* More pieces than one read takes: a chain that has no room any more waits for the next frame. */
static void test_many_pieces(void **state)
{
	struct fix *f = *state;

	activate(f, F(MRG_RXBUF) | F(GUEST_TSO4));
	for (unsigned i = 0; i < 256; i++)
		drv_desc(&f->q[0], i, BUF(i % 128), 12, WRITE | (i % 128 < 127 ? NEXT : 0), i + 1);
	drv_publish(&f->q[0], 0);
	drv_publish(&f->q[0], 128);
	drv_publish(&f->q[0], 1); /* 127 of the first */
	kick(f);
	assert_int_equal(f->fake.num, 256);
	arrive(f, 1500, 7);
	assert_int_equal(drv_used_idx(&f->q[0]), 1);
	assert_int_equal(broken_calls, 0);
}

static void test_broken_buffers(void **state)
{
	struct fix *f = *state;
	static const struct {
		uint64_t addr;
		uint32_t len;
		unsigned flags;
	} bad[] = {
		{ BUF(0), HDR - 1, WRITE },   { BUF(0), 0, WRITE },	   { BUF(0), 2000, 0 },
		{ DRV_MEM - 1, 2000, WRITE }, { 0xd0000000, 2000, WRITE }, { UINT64_MAX - 10, 2000, WRITE },
	};

	for (unsigned mrg = 0; mrg < 2; mrg++) {
		for (size_t i = 0; i < MF_ARRAY_SIZE(bad); i++) {
			activate(f, mrg ? F(MRG_RXBUF) : 0);
			broken_calls = 0;
			drv_desc(&f->q[0], 0, bad[i].addr, bad[i].len, bad[i].flags, 0);
			drv_publish(&f->q[0], 0);
			kick(f);
			assert_int_equal(broken_calls, 1);
			assert_null(f->fake.iov);
			f->dev->ops->reset(f->dev);
			activate(f, 0);
			post(f, 0, 2000);
			kick(f);
			arrive(f, 60, 1);
			assert_int_equal(drv_used_idx(&f->q[0]), 1);
			f->dev->ops->reset(f->dev);
		}
	}
}

/* The other queue breaks while a read waits: the frame goes nowhere, and no further read begins. */
static void test_broken_meanwhile(void **state)
{
	struct fix *f = *state;

	activate(f, 0);
	post(f, 0, 2000);
	kick(f);
	mmio_broken(f->dev, "test");
	arrive(f, 60, 1);
	assert_int_equal(drv_used_idx(&f->q[0]), 0);
	assert_null(f->fake.iov);
}

static void test_reset_while_waiting(void **state)
{
	struct fix *f = *state;

	for (unsigned i = 0; i < 300; i++) {
		activate(f, F(MRG_RXBUF));
		post(f, 0, 2000);
		kick(f);
		assert_non_null(f->fake.iov);
		f->dev->ops->reset(f->dev);
		assert_null(f->fake.iov);
		assert_int_equal(drv_used_idx(&f->q[0]), 0);
	}
	assert_int_equal(f->fake.starts, 300);
	assert_int_equal(f->fake.features, F(MRG_RXBUF));
}

static void test_ring_full(void **state)
{
	struct fix *f = *state;

	activate(f, 0);
	f->fake.full = true;
	post(f, 0, 2000);
	kick(f);
	mock_run_tasks();
	assert_null(f->fake.iov);
	f->fake.full = false;
	mock_run_tasks();
	assert_non_null(f->fake.iov);
	assert_int_equal(f->fake.receives, 1);
}

static void test_backend_lost(void **state)
{
	struct fix *f = *state;
	uint16_t status = 0;

	activate(f, 0);
	post(f, 0, 2000);
	f->dev->ops->config_read(f->dev, 6, &status, 2);
	assert_int_equal(status, VIRTIO_NET_S_LINK_UP);
	kick(f);
	f->fake.iov = NULL;
	net_received(&f->fake.b, NET_LOST);
	f->dev->ops->config_read(f->dev, 6, &status, 2);
	assert_int_equal(status, 0);
	assert_int_equal(config_calls, 1);
	kick(f);
	assert_null(f->fake.iov);
	f->dev->ops->reset(f->dev);
	activate(f, 0);
	post(f, 0, 2000);
	kick(f);
	assert_null(f->fake.iov); /* and stays so */
	assert_int_equal(f->fake.starts, 1);
}

/* Errors that may pass cost a pause, not a loop. */
static void test_backend_error(void **state)
{
	struct fix *f = *state;

	activate(f, 0);
	post(f, 0, 2000);
	mock_time(1000);
	kick(f);
	for (unsigned i = 1; i < 10; i++) {
		f->fake.iov = NULL;
		net_received(&f->fake.b, -ENOBUFS);
		kick(f);
		mock_run_tasks();
		assert_null(f->fake.iov);
		mock_time(1000 + 100000000ULL * i);
		assert_non_null(f->fake.iov);
	}
	assert_int_equal(config_calls, 0);
}

static void test_limit(void **state)
{
	struct fix *f = *state;
	struct ratelimit_params bytes = { .size = 1000, .refill_ms = 1000 }, off = { 0 };

	activate(f, 0);
	net_set_limit(f->dev, NET_RX, &bytes, NULL);
	for (unsigned i = 0; i < 8; i++)
		post(f, i, 2000);
	kick(f);
	arrive(f, 600, 1);
	arrive(f, 600, 1); /* 200 in debt */
	assert_null(f->fake.iov);
	kick(f);
	assert_null(f->fake.iov);
	mock_time(199999999);
	assert_null(f->fake.iov);
	mock_time(200000000);
	arrive(f, 1500, 1);
	assert_null(f->fake.iov);
	net_set_limit(f->dev, NET_RX, &off, NULL);
	mock_time(200000002);
	for (unsigned i = 0; i < 5; i++)
		arrive(f, 1500, 1);
	assert_int_equal(stats(f, NET_RX).frames, 8);
}

/* The smallest buffer that the driver may post has room for the header alone. */
static void test_buffer_of_a_header(void **state)
{
	struct fix *f = *state;

	activate(f, F(MRG_RXBUF));
	post(f, 0, HDR);
	post(f, 1, 2000);
	kick(f);
	assert_int_equal(broken_calls, 0);
	arrive(f, 100, 7);
	assert_int_equal(drv_used_idx(&f->q[0]), 2);
	assert_int_equal(drv_used_len(&f->q[0], 0), HDR);
	assert_int_equal(drv_used_len(&f->q[0], 1), 100);
}

/* The pool takes as many pieces as it has room for, and leaves a buffer with more in the ring. */
static void test_pool_is_full(void **state)
{
	struct fix *f = *state;

	activate(f, F(MRG_RXBUF) | F(GUEST_TSO4));
	for (uint16_t i = 0; i < 256; i++)
		drv_desc(&f->q[0], i, BUF(0) + 16U * i, 16, WRITE | (i % 128 < 127 ? NEXT : 0), (uint16_t)(i + 1));
	drv_publish(&f->q[0], 0);
	drv_publish(&f->q[0], 128);
	drv_publish(&f->q[0], 252); /* the last pieces of the second again: the driver may do so */
	kick(f);
	assert_int_equal(broken_calls, 0);
	assert_int_equal(f->fake.num, NET_RX_IOV_MAX);
	assert_int_equal(f->fake.room, 256 * 16);
	assert_int_equal(f->dev->vq[NET_RX].next_avail, 2);
}

/*
 * The number of buffers is written before the buffers are the driver's. It is seen where the
 * header lies over the index of the used ring, and the later of both writes stays.
 */
static void test_number_of_buffers_comes_first(void **state)
{
	struct fix *f = *state;
	unsigned number = offsetof(struct virtio_net_hdr_v1, num_buffers);

	activate(f, F(MRG_RXBUF));
	post(f, 0, 2000);
	drv_desc(&f->q[0], 1, DRV_USED + 2 - number, HDR, WRITE | NEXT, 2); /* idx is at 2 */
	drv_desc(&f->q[0], 2, BUF(2), 2000, WRITE, 0);
	drv_publish(&f->q[0], 1);
	kick(f);
	arrive(f, 60, 7);
	arrive(f, 60, 7);
	assert_int_equal(drv_used_idx(&f->q[0]), 2);
}

/* A reset forgets what waited for its tokens. */
static void test_reset_while_limited(void **state)
{
	struct fix *f = *state;
	struct ratelimit_params ops = { .size = 1, .refill_ms = 1000 };

	activate(f, 0);
	net_set_limit(f->dev, NET_RX, NULL, &ops);
	post(f, 0, 2000);
	post(f, 1, 2000);
	kick(f);
	arrive(f, 60, 1);
	assert_non_null(loop_timers(mock.loop)->first);
	f->dev->ops->reset(f->dev);
	assert_null(loop_timers(mock.loop)->first);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_one_buffer_per_frame),
		T(test_merged),
		T(test_merged_gso_frame),
		T(test_small_ring),
		T(test_too_large),
		T(test_scattered),
		T(test_many_pieces),
		T(test_broken_buffers),
		T(test_broken_meanwhile),
		T(test_reset_while_waiting),
		T(test_ring_full),
		T(test_backend_lost),
		T(test_backend_error),
		T(test_limit),
		T(test_buffer_of_a_header),
		T(test_pool_is_full),
		T(test_number_of_buffers_comes_first),
		T(test_reset_while_limited),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
