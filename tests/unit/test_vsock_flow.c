/* vsock: the data of a connection, credit both ways (G46), half-close, and hosts that stall or go (V5). */
#include "tests/unit/vsock_fixture.h"

static void send_pattern(struct fix *f, uint32_t at, uint32_t len)
{
	static uint8_t data[BUF];

	for (uint32_t i = 0; i < len; i++)
		data[i] = pattern(at + i);
	send_data(f, OP(RW), data, len);
}

/* Reads up to max bytes, which continue at. Returns how many. */
static uint32_t read_pattern(int fd, uint32_t at, uint32_t max)
{
	static uint8_t data[BUF];
	ssize_t n = recv(fd, data, MF_MIN(max, BUF), 0);

	for (ssize_t i = 0; i < n; i++)
		assert_int_equal(data[i], pattern(at + (uint32_t)i));
	return n > 0 ? (uint32_t)n : 0;
}

/* Takes all packets for the guest; returns the last fwd_cnt. */
static uint32_t drain_packets(struct fix *f, uint32_t fwd)
{
	struct virtio_vsock_hdr h;
	unsigned n = 0;

	while (next_packet(f, &h, NULL)) {
		assert_int_equal(h.op, OP(CREDIT_UPDATE));
		fwd = h.fwd_cnt;
		n++;
	}
	if (n)
		post(f, n);
	return fwd;
}

/* A guest that keeps to its credit, and a host that reads nothing, then everything. */
static void test_host_that_does_not_read(void **state)
{
	struct fix *f = *state;
	int fd = connected(f);
	uint32_t sent = 0, fwd = 0, got = 0, n;

	for (;;) {
		n = MF_MIN(BUF - (sent - fwd), 50000U);
		if (!n)
			break;
		send_pattern(f, sent, n);
		sent += n;
		fwd = drain_packets(f, fwd);
		assert_true(sent < 4 * MIB);
	}
	assert_int_equal(conn_of(f)->buf_len, BUF);
	while ((n = read_pattern(fd, got, 7777))) {
		got += n;
		turn();
	}
	assert_int_equal(got, sent);
	assert_int_equal(drain_packets(f, fwd), sent); /* it has all of its credit again */
	assert_int_equal(conn_of(f)->buf_len, 0);
	close(fd);
}

static void test_more_than_the_credit_resets(void **state)
{
	struct fix *f = *state;
	int fd = connected(f);
	uint32_t sent = 0;

	while (conn_of(f)->buf_len == 0) {
		send_pattern(f, sent, 50000);
		sent += 50000;
		drain_packets(f, 0);
	}
	send_pattern(f, sent, BUF - conn_of(f)->buf_len + 1);
	expect(f, OP(RST));
	assert_int_equal(vsock_of(f)->num_conns, 0);
	close(fd);
}

static void test_packet_larger_than_all_credit_resets(void **state)
{
	static const uint8_t data[BUF + 1];
	struct fix *f = *state;
	int fd = connected(f);

	send_data(f, OP(RW), data, sizeof(data));
	expect(f, OP(RST));
	assert_true(is_closed(fd));
	close(fd);
}

/* Sizes of all kinds, so that the buffer wraps at many places. */
static void test_order_through_the_buffer(void **state)
{
	struct fix *f = *state;
	int fd = connected(f), small = 1;
	uint32_t sent = 0, got = 0, fwd = 0, seed = 1, n;

	assert_int_equal(setsockopt(conn_of(f)->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	while (sent < 3 * MIB) {
		seed = seed * 1103515245 + 12345;
		n = MF_MIN(seed >> 8 & 0x7fff, BUF - (sent - fwd));
		if (n) {
			send_pattern(f, sent, n);
			sent += n;
		}
		fwd = drain_packets(f, fwd);
		if (BUF - (sent - fwd) < 1000 || seed & 0x1000) {
			got += read_pattern(fd, got, seed >> 12 & 0xffff);
			turn();
			fwd = drain_packets(f, fwd);
		}
	}
	while ((n = read_pattern(fd, got, BUF))) {
		got += n;
		turn();
	}
	assert_int_equal(got, sent);
	close(fd);
}

static void test_credit_update_when_half_is_used(void **state)
{
	struct fix *f = *state;
	int fd = connected(f);

	send_pattern(f, 0, BUF / 2);
	assert_true(silent(f));
	send_pattern(f, BUF / 2, 1);
	assert_int_equal(expect(f, OP(CREDIT_UPDATE)).fwd_cnt, BUF / 2 + 1);
	send_op(f, OP(CREDIT_REQUEST));
	assert_int_equal(expect(f, OP(CREDIT_UPDATE)).buf_alloc, BUF);
	send_op(f, OP(CREDIT_UPDATE));
	assert_true(silent(f));
	close(fd);
}

/* G46: the guest has no room, then some. It is asked once. */
static void test_guest_without_credit(void **state)
{
	struct fix *f = *state;
	int fd;

	f->base.buf_alloc = 0;
	fd = connected(f);
	assert_int_equal(write(fd, "0123456789", 10), 10);
	turn();
	expect(f, OP(CREDIT_REQUEST));
	send_op(f, OP(CREDIT_UPDATE));
	assert_true(silent(f));
	assert_int_equal(mock.num, 1); /* the listener's: a socket that may not be read is not polled */
	f->base.buf_alloc = 4;
	send_op(f, OP(CREDIT_UPDATE));
	assert_int_equal(expect(f, OP(RW)).len, 4);
	expect(f, OP(CREDIT_REQUEST));
	f->base.fwd_cnt = 3;
	send_op(f, OP(CREDIT_UPDATE));
	assert_int_equal(expect(f, OP(RW)).len, 3);
	expect(f, OP(CREDIT_REQUEST));
	f->base.buf_alloc = 100;
	send_op(f, OP(CREDIT_UPDATE));
	assert_int_equal(expect(f, OP(RW)).len, 3);
	assert_true(silent(f));
	close(fd);
}

/* G46, CVE-2026-23069: a buffer that shrinks while data is under way is no reason to send 4 GiB. */
static void test_guest_shrinks_its_buffer(void **state)
{
	struct fix *f = *state;
	char data[200] = "";
	int fd;

	f->base.buf_alloc = 100;
	fd = connected(f);
	assert_int_equal(write(fd, data, sizeof(data)), sizeof(data));
	turn();
	assert_int_equal(expect(f, OP(RW)).len, 100);
	expect(f, OP(CREDIT_REQUEST));
	f->base.buf_alloc = 10; /* 100 are under way */
	send_op(f, OP(CREDIT_UPDATE));
	assert_true(silent(f));
	f->base.fwd_cnt = 90;
	send_op(f, OP(CREDIT_UPDATE));
	assert_true(silent(f));
	f->base.fwd_cnt = 95;
	send_op(f, OP(CREDIT_UPDATE));
	assert_int_equal(expect(f, OP(RW)).len, 5);
	close(fd);
}

/* G46: it says that it has taken what it was never sent. */
static void test_guest_counts_ahead(void **state)
{
	static const uint32_t allocs[] = { 0, 1, BUF, 0x7fffffff, 0x80000000, UINT32_MAX };
	struct fix *f = *state;
	int fd = connected(f);

	assert_int_equal(write(fd, "0123456789", 10), 10);
	turn();
	assert_int_equal(expect(f, OP(RW)).len, 10);
	assert_int_equal(write(fd, "x", 1), 1);
	for (size_t i = 0; i < MF_ARRAY_SIZE(allocs); i++) {
		f->base.fwd_cnt = 11;
		f->base.buf_alloc = allocs[i];
		send_still(f, OP(CREDIT_UPDATE), "", 0);
		assert_int_equal(flow_credit(conn_of(f)), 0);
	}
	f->base.fwd_cnt = 10;
	send_still(f, OP(CREDIT_UPDATE), "", 0);
	assert_int_equal(flow_credit(conn_of(f)), UINT32_MAX);
	turn();
	assert_int_equal(expect(f, OP(RW)).len, 1);
	close(fd);
}

static void test_counters_wrap(void **state)
{
	struct fix *f = *state;
	int fd = connected(f);
	struct vsock_conn *c = conn_of(f);
	char data[1000] = "";

	c->tx_cnt = c->peer_fwd = f->base.fwd_cnt = 0xffffff00;
	c->rx_cnt = c->fwd_cnt = c->told_fwd = 0xffffff00;
	f->base.buf_alloc = 600;
	send_pattern(f, 0, 500);
	assert_int_equal(read_pattern(fd, 0, 1000), 500);
	assert_int_equal(write(fd, data, sizeof(data)), sizeof(data));
	turn();
	assert_int_equal(expect(f, OP(RW)).fwd_cnt, 0xf4);
	assert_int_equal(c->tx_cnt, 0x158);
	expect(f, OP(CREDIT_REQUEST));
	f->base.fwd_cnt = 0x158;
	send_op(f, OP(CREDIT_UPDATE));
	assert_int_equal(expect(f, OP(RW)).len, 400);
	close(fd);
}

/* The host's data waits in its socket while the guest gives no buffers. */
static void test_data_waits_for_receive_buffers(void **state)
{
	static uint8_t data[3 * (4096 - HDR_SIZE)];
	struct fix *f = *state;
	int listener = host_listen(f, "_52", 8), fd;
	struct virtio_vsock_hdr h;
	const uint8_t *at;

	for (uint32_t i = 0; i < sizeof(data); i++)
		data[i] = pattern(i);
	post(f, 1);
	fd = guest_connects(f, listener);
	assert_int_equal(write(fd, data, sizeof(data)), sizeof(data));
	turn();
	assert_true(silent(f));
	for (uint32_t i = 0; i < 3; i++) {
		post(f, 1);
		assert_true(next_packet(f, &h, &at));
		assert_int_equal(h.len, 4096 - HDR_SIZE);
		assert_memory_equal(at, data + i * h.len, h.len);
		assert_true(silent(f));
	}
	post_len(f, 2, HDR_SIZE + 1);
	assert_int_equal(write(fd, "ab", 2), 2);
	turn();
	assert_int_equal(expect(f, OP(RW)).len, 1);
	assert_int_equal(expect(f, OP(RW)).len, 1);
	close(fd);
	close(listener);
}

static void test_guest_ends_its_stream(void **state)
{
	struct fix *f = *state;
	int fd = connected(f);
	char byte;

	send_data(f, OP(RW), "last", 4);
	send_flags(f, OP(SHUTDOWN), VSOCK_SHUT_SEND);
	expect_text(fd, "last");
	assert_int_equal(recv(fd, &byte, 1, 0), 0);
	assert_int_equal(write(fd, "answer", 6), 6);
	turn();
	assert_int_equal(expect(f, OP(RW)).len, 6);
	close(fd);
	turn();
	assert_int_equal(expect(f, OP(SHUTDOWN)).flags & VSOCK_SHUT_SEND, VSOCK_SHUT_SEND);
	assert_int_equal(expect(f, OP(SHUTDOWN)).flags, VSOCK_SHUT_BOTH);
	assert_int_equal(vsock_of(f)->num_conns, 0);
}

static uint32_t fill(struct fix *f)
{
	uint32_t sent = 0;

	while (conn_of(f)->buf_len == 0) {
		send_pattern(f, sent, 50000);
		sent += 50000;
		drain_packets(f, 0);
	}
	return sent;
}

static void test_end_of_stream_comes_behind_the_buffer(void **state)
{
	struct fix *f = *state;
	int fd = connected(f);
	uint32_t sent = fill(f), got = 0, n;
	char byte;

	send_flags(f, OP(SHUTDOWN), VSOCK_SHUT_SEND);
	while ((n = read_pattern(fd, got, BUF))) {
		got += n;
		turn();
	}
	assert_int_equal(got, sent);
	assert_int_equal(recv(fd, &byte, 1, 0), 0);
	assert_int_equal(conn_of(f)->state, CONN_OPEN);
	close(fd);
}

/* The guest has closed: it gets an RST at once and may reuse the ports; the host gets all that was sent. */
static void test_guest_closes_before_the_host_has_read(void **state)
{
	struct fix *f = *state;
	int fd = connected(f), again, listener;
	uint32_t sent = fill(f), got = 0, n;
	char byte;

	send_flags(f, OP(SHUTDOWN), VSOCK_SHUT_BOTH);
	expect(f, OP(RST));
	assert_int_equal(vsock_of(f)->num_conns, 1);
	assert_int_equal(unlink(address(f, "_52").sun_path), 0);
	listener = host_listen(f, "_52", 8);
	again = guest_connects(f, listener);
	while ((n = read_pattern(fd, got, BUF))) {
		got += n;
		turn();
	}
	assert_int_equal(got, sent);
	assert_int_equal(recv(fd, &byte, 1, 0), 0);
	assert_int_equal(vsock_of(f)->num_conns, 1);
	assert_true(is_open(again));
	assert_true(silent(f));
	close(again);
	close(fd);
	close(listener);
}

/* And the host that never reads goes: no peer is left to notify. */
static void test_host_goes_while_the_buffer_drains(void **state)
{
	struct fix *f = *state;
	int fd = connected(f);

	fill(f);
	send_flags(f, OP(SHUTDOWN), VSOCK_SHUT_BOTH);
	expect(f, OP(RST));
	close(fd);
	turn();
	assert_true(silent(f));
	assert_int_equal(vsock_of(f)->num_conns, 0);
}

static void test_guest_wants_no_more_data(void **state)
{
	struct fix *f = *state;
	int fd = connected(f);

	send_flags(f, OP(SHUTDOWN), VSOCK_SHUT_RCV);
	assert_int_equal(send(fd, "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	send_data(f, OP(RW), "more", 4);
	expect_text(fd, "more");
	assert_true(silent(f));
	close(fd);
	turn();
	assert_int_equal(expect(f, OP(SHUTDOWN)).flags, VSOCK_SHUT_BOTH);
	assert_int_equal(vsock_of(f)->num_conns, 0);
}

static void test_host_ends_its_stream(void **state)
{
	struct fix *f = *state;
	int fd = connected(f);

	assert_int_equal(write(fd, "last", 4), 4);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	turn();
	assert_int_equal(expect(f, OP(RW)).len, 4);
	assert_int_equal(expect(f, OP(SHUTDOWN)).flags, VSOCK_SHUT_SEND);
	send_data(f, OP(RW), "answer", 6);
	expect_text(fd, "answer");
	send_flags(f, OP(SHUTDOWN), VSOCK_SHUT_BOTH);
	expect(f, OP(RST));
	assert_true(is_closed(fd));
	assert_int_equal(vsock_of(f)->num_conns, 0);
	close(fd);
}

static void test_host_closes_without_reading(void **state)
{
	struct fix *f = *state;
	int fd = connected(f);

	send_data(f, OP(RW), "unread", 6);
	close(fd);
	turn();
	expect(f, OP(RST));
	assert_true(silent(f));
	assert_int_equal(vsock_of(f)->num_conns, 0);
}

static void test_host_goes_mid_stream(void **state)
{
	struct fix *f = *state;
	int fd = connected(f);

	fill(f);
	close(fd);
	turn();
	expect(f, OP(RST));
	assert_int_equal(vsock_of(f)->num_conns, 0);
	send_data(f, OP(RW), "late", 4);
	expect(f, OP(RST));
}

/* EPIPE: what the guest sends is lost, and it is notified, but it still gets what the host has to say. */
static void test_host_stops_listening(void **state)
{
	struct fix *f = *state;
	int fd = connected(f);

	assert_int_equal(shutdown(fd, SHUT_RD), 0);
	send_data(f, OP(RW), "lost", 4);
	assert_int_equal(expect(f, OP(SHUTDOWN)).flags, VSOCK_SHUT_RCV);
	send_data(f, OP(RW), "lost", 4);
	assert_int_equal(write(fd, "bye", 3), 3);
	turn();
	assert_int_equal(expect(f, OP(RW)).len, 3);
	close(fd);
	turn();
	expect(f, OP(RST));
	assert_int_equal(vsock_of(f)->num_conns, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_host_that_does_not_read),
		T(test_more_than_the_credit_resets),
		T(test_packet_larger_than_all_credit_resets),
		T(test_order_through_the_buffer),
		T(test_credit_update_when_half_is_used),
		T(test_guest_without_credit),
		T(test_guest_shrinks_its_buffer),
		T(test_guest_counts_ahead),
		T(test_counters_wrap),
		T(test_data_waits_for_receive_buffers),
		T(test_guest_ends_its_stream),
		T(test_end_of_stream_comes_behind_the_buffer),
		T(test_guest_closes_before_the_host_has_read),
		T(test_host_goes_while_the_buffer_drains),
		T(test_guest_wants_no_more_data),
		T(test_host_ends_its_stream),
		T(test_host_closes_without_reading),
		T(test_host_goes_mid_stream),
		T(test_host_stops_listening),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
