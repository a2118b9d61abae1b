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
	assert_int_equal(conn_batch(conn_of(f)), 1);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_stream_grows_its_batch),
		T(test_batch_of_odd_buffers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
