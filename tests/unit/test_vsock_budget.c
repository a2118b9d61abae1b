/* vsock: a turn of the loop moves a bounded number of bytes, whatever the guest and the host have ready; the rest follows. */
#include "tests/unit/vsock_fixture.h"

#define TURN_MAX (MIB + 256 * KIB) /* each way: the step that reaches the limit is still made */
#define CONNS 24
#define HEADS 64

static void one_turn(void)
{
	(void)mock_run_polls();
	mock_run_tasks();
}

/* CONNS connections of the guest, each from its own port. */
static void connect_all(struct fix *f, int fd[CONNS])
{
	int listener = host_listen(f, "_52", CONNS);

	post(f, 2 * CONNS);
	for (unsigned i = 0; i < CONNS; i++) {
		f->base.src_port = 1000 + i;
		fd[i] = guest_connects(f, listener);
	}
	close(listener);
}

static void close_all(const int fd[CONNS])
{
	for (unsigned i = 0; i < CONNS; i++)
		close(fd[i]);
	turn();
}

static void test_guest_sends_much(void **state)
{
	struct fix *f = *state;
	struct virtio_vsock_hdr h = f->base;
	uint16_t before, taken;

	h.op = OP(RW);
	h.len = BUF;
	memcpy(drv_at(&f->d, HDR, HDR_SIZE), &h, HDR_SIZE);
	for (uint16_t i = 0; i < HEADS; i++) {
		drv_desc(&f->d, 2 * i, HDR, HDR_SIZE, NEXT, 2 * i + 1);
		drv_desc(&f->d, 2 * i + 1, PAYLOAD, BUF, 0, 0);
		drv_publish(&f->d, 2 * i);
	}
	before = drv_used_idx(&f->d);
	tell_device(f, 1);
	taken = (uint16_t)(drv_used_idx(&f->d) - before);
	assert_in_range(taken, 1, TURN_MAX / BUF);
	while (taken < HEADS) {
		uint16_t now;

		one_turn();
		now = (uint16_t)(drv_used_idx(&f->d) - before);
		assert_in_range(now - taken, 1, TURN_MAX / BUF);
		taken = now;
	}
	assert_int_equal(taken, HEADS);
}

/* Large buffers, which overlap: nobody looks at what is in them. The loop does not turn. */
static void post_still(struct fix *f)
{
	while ((uint16_t)(f->rx_posted - f->rx_seen) < 200) {
		uint16_t slot = f->rx_posted++ % 256;

		drv_desc_at(&f->d, RX_DESC, slot, RX_BUF(slot), 0x10000, WRITE, 0);
		drv_put16(&f->d, RX_AVAIL + 4 + 2U * slot, slot);
	}
	drv_put16(&f->d, RX_AVAIL + 2, f->rx_posted);
}

static void test_hosts_send_much(void **state)
{
	static const char data[16 * BUF];
	struct fix *f = *state;
	struct virtio_vsock_hdr h;
	uint64_t sent = 0, got = 0;
	unsigned turns = 0;
	int fd[CONNS];

	f->base.buf_alloc = UINT32_MAX;
	connect_all(f, fd);
	for (unsigned i = 0; i < CONNS; i++) {
		ssize_t n = send(fd[i], data, sizeof(data), MSG_NOSIGNAL);

		assert_true(n > (ssize_t)BUF);
		sent += (uint64_t)n;
	}
	assert_true(sent > 2 * TURN_MAX);
	for (; got < sent; turns++) {
		uint64_t bytes = 0;

		assert_true(turns < 1000);
		if (turns % 2)
			tell_device(f, 0);
		else
			one_turn();
		while (next_packet(f, &h, NULL))
			bytes += h.len;
		assert_true(bytes <= TURN_MAX);
		got += bytes;
		post_still(f);
	}
	assert_true(turns > 2);
	close_all(fd);
}

/* All hosts read at once what waits for them. */
static void test_buffers_are_written(void **state)
{
	static char data[16 * BUF];
	struct fix *f = *state;
	struct virtio_vsock_hdr h;
	int fd[CONNS];

	connect_all(f, fd);
	for (unsigned i = 0; i < CONNS; i++) {
		struct vsock_conn *c = conn_find(vsock_of(f), 52, 1000 + i);

		f->base.src_port = 1000 + i;
		while (c->buf_len + BUF / 4 <= BUF) {
			send_data(f, OP(RW), data, BUF / 4);
			while (next_packet(f, &h, NULL))
				post(f, 1);
		}
	}
	for (unsigned i = 0; i < CONNS; i++)
		while (recv(fd[i], data, sizeof(data), 0) > 0)
			;
	for (unsigned turns = 0;; turns++) {
		uint64_t waiting = 0, left = 0;

		for (unsigned i = 0; i < CONNS; i++)
			waiting += conn_find(vsock_of(f), 52, 1000 + i)->buf_len;
		one_turn();
		for (unsigned i = 0; i < CONNS; i++)
			left += conn_find(vsock_of(f), 52, 1000 + i)->buf_len;
		assert_true(waiting - left <= TURN_MAX);
		if (!left) {
			assert_true(turns > 0);
			break;
		}
		assert_true(left < waiting);
	}
	close_all(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_guest_sends_much),
		T(test_hosts_send_much),
		T(test_buffers_are_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
