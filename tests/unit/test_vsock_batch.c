/* vsock: data for the guest in as many of its buffers as one read fills. */
#include "tests/unit/vsock_fixture.h"

/* Reads packets of data, which continue at, and gives their credit and buffers back. Returns the bytes. */
static uint32_t take_pattern(struct fix *f, uint32_t at)
{
	struct virtio_vsock_hdr h;
	const uint8_t *data;
	uint32_t got = 0;
	unsigned n = 0;

	for (; next_packet(f, &h, &data); n++) {
		if (h.op == OP(CREDIT_REQUEST))
			continue;
		assert_int_equal(h.op, OP(RW));
		for (uint32_t i = 0; i < h.len; i++, got++)
			assert_int_equal(data[i], pattern(at + got));
	}
	f->base.fwd_cnt += got;
	send_op(f, OP(CREDIT_UPDATE));
	post(f, n);
	return got;
}

/* Data that fills its buffers gets more of them for each read, up to a limit; less data gets fewer. */
static void test_stream_grows_its_batch(void **state)
{
	static uint8_t data[300000];
	struct fix *f = *state;
	int fd = connected(f), size = 400000;
	uint32_t got = 0, n;

	post(f, 64);
	for (uint32_t i = 0; i < sizeof(data); i++)
		data[i] = pattern(i);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	f->base.buf_alloc = 200000;
	send_op(f, OP(CREDIT_UPDATE));
	assert_int_equal(write(fd, data, 1), 1);
	turn();
	got += take_pattern(f, got);
	assert_int_equal(conn_batch(conn_of(f), &n), 1);
	while (got < sizeof(data)) {
		ssize_t put = write(fd, data + got, MF_MIN(sizeof(data) - got, 150000U));

		assert_true(put > 0);
		turn();
		for (ssize_t left = put; left > 0; left -= n, got += n) {
			n = take_pattern(f, got);
			assert_true(n > 0 && n <= left);
		}
	}
	assert_true(conn_of(f)->batch > 8);
	assert_int_equal(write(fd, data, 1), 1);
	turn();
	expect(f, OP(RW));
	assert_int_equal(conn_of(f)->batch, 1);
	close(fd);
}

/* Buffers of other sizes, of many descriptors, and credit for a part of them, in one read. */
static void test_batch_of_odd_buffers(void **state)
{
	static uint8_t data[200];
	struct fix *f = *state;
	int listener = host_listen(f, "_52", 8), fd;
	uint32_t got = 0;

	for (uint32_t i = 0; i < sizeof(data); i++)
		data[i] = pattern(i);
	post(f, 1);
	fd = guest_connects(f, listener);
	conn_of(f)->batch = VSOCK_BATCH_MAX;
	f->base.buf_alloc = 150;
	send_op(f, OP(CREDIT_UPDATE));
	assert_int_equal(write(fd, data, sizeof(data)), sizeof(data));
	turn();
	for (uint32_t i = 0; i < 4; i++) /* one kick for all */
		drv_desc_at(&f->d, RX_DESC, (uint16_t)(10 + i), RX_BUF(10 + i), HDR_SIZE + 1 + 40 * i, WRITE, 0);
	for (uint32_t i = 0; i < 4; i++)
		drv_put16(&f->d, RX_AVAIL + 4 + 2U * (f->rx_posted++ % 256), (uint16_t)(10 + i));
	drv_put16(&f->d, RX_AVAIL + 2, f->rx_posted);
	tell_device(f, 0);
	turn();
	for (uint32_t i = 0; i < 4; i++) {
		static const uint32_t want[] = { 1, 41, 81, 27 };
		struct virtio_vsock_hdr h;
		const uint8_t *at;

		assert_true(next_packet(f, &h, &at));
		assert_int_equal(h.len, want[i]);
		for (uint32_t j = 0; j < h.len; j++, got++)
			assert_int_equal(at[j], pattern(got));
	}
	assert_true(silent(f)); /* the request for credit waits for a buffer */
	post(f, 1);
	expect(f, OP(CREDIT_REQUEST));
	close(fd);
	close(listener);
}

/* Buffers that the data for the guest cannot fill are not even looked at. */
static void test_no_more_buffers_than_credit(void **state)
{
	struct fix *f = *state;
	int fd = connected(f);

	conn_of(f)->batch = VSOCK_BATCH_MAX;
	f->base.buf_alloc = 10;
	send_op(f, OP(CREDIT_UPDATE));
	post(f, 1);
	drv_desc_at(&f->d, RX_DESC, 200, RX_BUF(10), 1, WRITE, 0); /* it would break the device */
	drv_put16(&f->d, RX_AVAIL + 4 + 2U * (f->rx_posted++ % 256), 200);
	drv_put16(&f->d, RX_AVAIL + 2, f->rx_posted);
	assert_int_equal(write(fd, "0123456789", 10), 10);
	turn();
	assert_int_equal(expect(f, OP(RW)).len, 10);
	assert_int_equal(broken_calls, 0);
	close(fd);
}

#define TX 1

/* The guest need not learn at once that its packets were taken. */
static void test_interrupts_are_held_back(void **state)
{
	struct fix *f = *state;
	int fd = connected(f);
	unsigned told = used_calls[TX];

	post(f, 8);
	mock_time(mock.now_ns + VSOCK_HELD_NS);
	told = used_calls[TX];
	for (unsigned i = 0; i < VSOCK_HELD_MAX - 1; i++)
		send_op(f, OP(CREDIT_UPDATE));
	assert_int_equal(used_calls[TX], told);
	assert_true(used_later_calls[TX] >= VSOCK_HELD_MAX - 1); /* a snapshot has them */
	send_op(f, OP(CREDIT_UPDATE));
	assert_int_equal(used_calls[TX], told + 1);
	assert_null(mock.loop->timers.first);

	send_op(f, OP(CREDIT_UPDATE));
	mock_time(mock.now_ns + VSOCK_HELD_NS / 2);
	send_op(f, OP(CREDIT_UPDATE)); /* the time does not start again */
	assert_int_equal(used_calls[TX], told + 1);
	mock_time(mock.now_ns + VSOCK_HELD_NS / 2);
	assert_int_equal(used_calls[TX], told + 2);
	assert_null(mock.loop->timers.first);

	/* An interrupt for rx tells it, too. */
	send_op(f, OP(CREDIT_UPDATE));
	assert_non_null(mock.loop->timers.first);
	assert_int_equal(write(fd, "x", 1), 1);
	turn();
	expect(f, OP(RW));
	assert_null(mock.loop->timers.first);
	assert_int_equal(used_calls[TX], told + 2);
	close(fd);
}

/* Linux sends 64 KiB in one packet if it has the credit, also after a small message. */
static void test_credit_for_a_large_packet(void **state)
{
	struct fix *f = *state;
	int listener = host_listen(f, "_52", 8);
	struct virtio_vsock_hdr h;

	post(f, 1);
	f->base.src_port = 1234;
	f->base.dst_port = 52;
	send_op(f, OP(REQUEST));
	assert_true(next_packet(f, &h, NULL));
	assert_int_equal(h.op, OP(RESPONSE));
	assert_true(h.buf_alloc >= 65536 + 1024);
	close(listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_stream_grows_its_batch),	     T(test_batch_of_odd_buffers),
		T(test_no_more_buffers_than_credit), T(test_interrupts_are_held_back),
		T(test_credit_for_a_large_packet),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
