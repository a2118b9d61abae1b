/* vsock: what the guest sends, sense and nonsense, and the rules about answering it. */
#include "tests/unit/vsock_fixture.h"

static void test_config_is_the_cid(void **state)
{
	struct fix *f = *state;
	uint64_t cid = 0;

	f->dev->ops->config_read(f->dev, 0, &cid, sizeof(cid));
	assert_int_equal(cid, CID);
	assert_int_equal(f->dev->ops->device_id, 19);
	assert_int_equal(f->dev->ops->num_queues, 3);
	assert_int_equal(f->dev->offered, 0);
}

static void test_guest_connects_and_both_talk(void **state)
{
	struct fix *f = *state;
	int listener = host_listen(f, "_52", 8), fd;
	struct virtio_vsock_hdr h;
	const uint8_t *data;

	post(f, 8);
	fd = guest_connects(f, listener);
	send_data(f, OP(RW), "hello", 5);
	expect_text(fd, "hello");
	assert_int_equal(write(fd, "world", 5), 5);
	turn();
	assert_true(next_packet(f, &h, &data));
	assert_int_equal(h.op, OP(RW));
	assert_int_equal(h.len, 5);
	assert_int_equal(h.fwd_cnt, 5);
	assert_memory_equal(data, "world", 5);
	assert_true(silent(f));
	close(fd);
	close(listener);
}

/* G44: addresses, types and operations that do not exist. */
static void test_wrong_source_is_dropped(void **state)
{
	static const uint64_t cids[] = { 0, 1, 2, 3, 6, 8, 0xffffffff, 1ULL << 32 | CID, ~0ULL };
	struct fix *f = *state;
	int listener = host_listen(f, "_52", 8);

	post(f, 16);
	for (size_t i = 0; i < MF_ARRAY_SIZE(cids); i++) {
		f->base.src_cid = cids[i];
		send_op(f, OP(REQUEST));
		assert_true(silent(f));
	}
	assert_int_equal(accept(listener, NULL, NULL), -1);
	close(listener);
}

static void test_wrong_destination_is_refused(void **state)
{
	static const uint64_t cids[] = { 0, 1, CID, 3, 0xffffffff, 1ULL << 32 | 2, ~0ULL };
	struct fix *f = *state;
	int listener = host_listen(f, "_52", 8);

	post(f, 32);
	for (size_t i = 0; i < MF_ARRAY_SIZE(cids); i++) {
		f->base.dst_cid = cids[i];
		send_op(f, OP(REQUEST));
		expect(f, OP(RST));
		send_op(f, OP(RST)); /* never answered */
		assert_true(silent(f));
	}
	assert_int_equal(accept(listener, NULL, NULL), -1);
	close(listener);
}

static void test_wrong_type_is_refused(void **state)
{
	static const uint16_t types[] = { 0, 2, 3, 7, 65535 };
	struct fix *f = *state;
	int listener = host_listen(f, "_52", 8), fd;

	post(f, 32);
	fd = guest_connects(f, listener);
	for (size_t i = 0; i < MF_ARRAY_SIZE(types); i++) {
		f->base.type = types[i];
		send_op(f, OP(REQUEST));
		expect(f, OP(RST));
		send_data(f, OP(RW), "x", 1);
		expect(f, OP(RST));
	}
	assert_true(is_open(fd)); /* it was none of these */
	close(fd);
	close(listener);
}

static void test_unknown_operation_resets(void **state)
{
	static const uint16_t ops[] = { 0, 8, 9, 255, 65535 };
	struct fix *f = *state;
	int listener = host_listen(f, "_52", 8);

	post(f, 32);
	for (size_t i = 0; i < MF_ARRAY_SIZE(ops); i++) {
		int fd = guest_connects(f, listener);

		send_op(f, ops[i]);
		expect(f, OP(RST));
		assert_true(is_closed(fd));
		send_op(f, ops[i]); /* now without a connection */
		expect(f, OP(RST));
		assert_true(silent(f));
		close(fd);
	}
	close(listener);
}

/* CVE-2019-18960: the length is the header's word, the buffers are the chain's. */
static void test_length_beyond_the_chain_resets(void **state)
{
	static const uint32_t cuts[] = { 1, 50, 100 };
	struct fix *f = *state;
	int listener = host_listen(f, "_52", 8);
	char data[100] = "";

	post(f, 32);
	for (size_t i = 0; i < MF_ARRAY_SIZE(cuts); i++) {
		int fd = guest_connects(f, listener);

		f->cut = cuts[i];
		send_data(f, OP(RW), data, sizeof(data));
		f->cut = 0;
		expect(f, OP(RST));
		assert_true(is_closed(fd));
		close(fd);
	}
	close(listener);
}

static void test_length_of_4_gib_resets(void **state)
{
	struct fix *f = *state;
	int listener = host_listen(f, "_52", 8), fd;
	struct virtio_vsock_hdr h;

	post(f, 32);
	fd = guest_connects(f, listener);
	h = f->base;
	h.op = OP(RW);
	h.len = UINT32_MAX;
	memcpy(drv_at(&f->d, HDR, HDR_SIZE), &h, HDR_SIZE);
	drv_desc(&f->d, 0, HDR, HDR_SIZE, 0, 0);
	drv_publish(&f->d, 0);
	f->dev->ops->kick(f->dev);
	turn();
	expect(f, OP(RST));
	assert_true(is_closed(fd));
	close(fd);
	close(listener);
}

/* A header may be cut into descriptors as the driver likes, and data begin in the middle of one; RAM may end behind it. */
static void test_any_framing(void **state)
{
	struct fix *f = *state;
	int listener = host_listen(f, "_52", 8), fd;
	struct virtio_vsock_hdr h;
	uint8_t packet[HDR_SIZE + 10];

	post(f, 8);
	fd = guest_connects(f, listener);
	h = f->base;
	h.op = OP(RW);
	h.len = 10;
	memcpy(packet, &h, HDR_SIZE);
	memcpy(packet + HDR_SIZE, "0123456789", 10);
	for (unsigned cut = 1; cut < sizeof(packet); cut++) {
		uint64_t end = DRV_MEM - (sizeof(packet) - cut);

		memcpy(drv_at(&f->d, HDR, cut), packet, cut);
		memcpy(drv_at(&f->d, end, sizeof(packet) - cut), packet + cut, sizeof(packet) - cut);
		drv_desc(&f->d, 0, HDR, cut, NEXT, 1);
		drv_desc(&f->d, 1, end, (uint32_t)sizeof(packet) - cut, 0, 0);
		drv_publish(&f->d, 0);
		f->dev->ops->kick(f->dev);
		expect_text(fd, "0123456789");
	}
	assert_true(is_open(fd));
	assert_int_equal(broken_calls, 0);
	close(fd);
	close(listener);
}

static void test_short_header_is_dropped(void **state)
{
	struct fix *f = *state;

	post(f, 8);
	for (uint32_t len = 0; len < HDR_SIZE; len++) {
		drv_desc(&f->d, 0, HDR, len, 0, 0);
		drv_publish(&f->d, 0);
		f->dev->ops->kick(f->dev);
	}
	drv_desc(&f->d, 0, HDR, HDR_SIZE, WRITE, 0); /* nothing that we may read */
	drv_publish(&f->d, 0);
	f->dev->ops->kick(f->dev);
	assert_int_equal(drv_used_idx(&f->d), HDR_SIZE + 1);
	assert_true(silent(f));
	assert_int_equal(broken_calls, 0);
}

/* CVE-2019-18960 again: a descriptor that leaves RAM breaks the device; after a reset it works. */
static void test_descriptor_beyond_ram_breaks_until_reset(void **state)
{
	struct fix *f = *state;
	int listener = host_listen(f, "_52", 8), fd;

	for (uint32_t over = 1; over <= 65536; over *= 256) {
		drv_desc(&f->d, 0, DRV_MEM - HDR_SIZE, HDR_SIZE + over, 0, 0);
		drv_publish(&f->d, 0);
		f->dev->ops->kick(f->dev);
		assert_int_equal(broken_calls, 1);
		f->dev->ops->reset(f->dev);
		broken_calls = 0;
		activate(f);
	}
	post(f, 8);
	fd = guest_connects(f, listener);
	close(fd);
	close(listener);
}

static void test_receive_buffer_too_small_breaks(void **state)
{
	struct fix *f = *state;

	post_len(f, 1, HDR_SIZE);
	assert_int_equal(broken_calls, 0); /* nobody has looked at it */
	send_op(f, OP(RW));
	assert_int_equal(broken_calls, 1);
	f->dev->ops->kick(f->dev);
	f->dev->ops->kick(f->dev);
	turn();
}

/* G45 */
static void test_packets_without_a_connection_are_refused(void **state)
{
	static const uint16_t ops[] = { OP(RESPONSE), OP(SHUTDOWN), OP(RW), OP(CREDIT_UPDATE), OP(CREDIT_REQUEST) };
	struct fix *f = *state;

	post(f, 16);
	for (size_t i = 0; i < MF_ARRAY_SIZE(ops); i++) {
		send_op(f, ops[i]);
		assert_int_equal(expect(f, OP(RST)).len, 0);
	}
	send_op(f, OP(RST));
	assert_true(silent(f));
}

static void test_second_request_resets(void **state)
{
	struct fix *f = *state;
	int listener = host_listen(f, "_52", 8), fd;

	post(f, 8);
	fd = guest_connects(f, listener);
	send_op(f, OP(REQUEST));
	expect(f, OP(RST));
	assert_true(is_closed(fd));
	close(fd);
	fd = guest_connects(f, listener); /* the ports are free again */
	close(fd);
	close(listener);
}

static void test_response_unasked_resets(void **state)
{
	struct fix *f = *state;
	int listener = host_listen(f, "_52", 8), fd;

	post(f, 8);
	fd = guest_connects(f, listener);
	send_op(f, OP(RESPONSE));
	expect(f, OP(RST));
	assert_true(is_closed(fd));
	close(fd);
	close(listener);
}

static void test_shutdown_flags_that_do_not_exist(void **state)
{
	struct fix *f = *state;
	int listener = host_listen(f, "_52", 8), fd;

	post(f, 8);
	fd = guest_connects(f, listener);
	send_flags(f, OP(SHUTDOWN), 0);
	send_flags(f, OP(SHUTDOWN), 0xfffffffc);
	send_data(f, OP(RW), "still", 5);
	expect_text(fd, "still");
	send_flags(f, OP(SHUTDOWN), 0xffffffff);
	expect(f, OP(RST));
	assert_true(is_closed(fd));
	close(fd);
	close(listener);
}

static void test_data_after_shutdown_resets(void **state)
{
	struct fix *f = *state;
	int listener = host_listen(f, "_52", 8), fd;

	post(f, 8);
	fd = guest_connects(f, listener);
	send_flags(f, OP(SHUTDOWN), VIRTIO_VSOCK_SHUTDOWN_SEND);
	send_data(f, OP(RW), "x", 1);
	expect(f, OP(RST));
	assert_true(is_closed(fd));
	close(fd);
	close(listener);
}

static void test_rst_of_the_guest_is_final(void **state)
{
	struct fix *f = *state;
	int listener = host_listen(f, "_52", 8), fd;

	post(f, 8);
	fd = guest_connects(f, listener);
	send_op(f, OP(RST));
	assert_true(is_closed(fd));
	assert_true(silent(f));
	assert_int_equal(vsock_of(f)->num_conns, 0);
	close(fd);
	close(listener);
}

/* §5.10.6.1: packets of the guest are taken even when it gives no buffers, as long as there is room for the answers. */
static void test_without_receive_buffers(void **state)
{
	struct fix *f = *state;
	int listener = host_listen(f, "_52", 8), fd;
	unsigned answers = 0;
	struct virtio_vsock_hdr h;

	send_op(f, OP(REQUEST));
	fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	assert_true(fd >= 0);
	send_data(f, OP(RW), "early", 5);
	expect_text(fd, "early");
	f->base.src_port = 1;
	for (unsigned i = 0; i < VSOCK_REFUSALS_MAX; i++)
		send_op(f, OP(RW));
	for (unsigned i = 0; i < 3; i++) {
		drv_publish(&f->d, 0); /* no more room: these wait */
		f->dev->ops->kick(f->dev);
		turn();
	}
	assert_int_equal((uint16_t)(f->d.avail_idx - drv_used_idx(&f->d)), 3);
	post(f, 200);
	assert_int_equal(f->d.avail_idx, drv_used_idx(&f->d));
	post(f, 56);
	while (next_packet(f, &h, NULL))
		answers += h.op == OP(RST);
	post(f, 200);
	while (next_packet(f, &h, NULL))
		answers += h.op == OP(RST);
	assert_int_equal(answers, VSOCK_REFUSALS_MAX + 3);
	assert_true(is_open(fd));
	close(fd);
	close(listener);
}

/* G47: more connections than there may be. The others are refused, and those that are there go on. */
static void test_storm_of_requests(void **state)
{
	struct fix *f = *state;
	int listener = host_listen(f, "_52", 4096), first;
	unsigned refused = 0, accepted = 0;
	struct virtio_vsock_hdr h;

	post(f, 256);
	first = guest_connects(f, listener);
	for (unsigned i = 1; i < 3000; i++) {
		f->base.src_port = 1000 + i;
		send_op(f, OP(REQUEST));
		assert_true(next_packet(f, &h, NULL));
		refused += h.op == OP(RST);
		accepted += h.op == OP(RESPONSE);
		post(f, 1);
	}
	assert_int_equal(accepted + 1, vsock_of(f)->max_conns);
	assert_int_equal(accepted + refused, 2999);
	f->base.src_port = 1000;
	send_data(f, OP(RW), "alive", 5);
	expect_text(first, "alive");
	send_op(f, OP(RST)); /* a slot is free: one more fits */
	f->base.src_port = 9999;
	send_op(f, OP(REQUEST));
	expect(f, OP(RESPONSE));
	close(first);
	close(listener);
}

static void test_reset_with_connections(void **state)
{
	struct fix *f = *state;
	int listener = host_listen(f, "_52", 64), fd[20];

	post(f, 64);
	for (unsigned i = 0; i < 20; i++) {
		f->base.src_port = 1000 + i;
		fd[i] = guest_connects(f, listener);
	}
	f->dev->ops->reset(f->dev);
	assert_int_equal(mock.num, 0);
	assert_int_equal(vsock_of(f)->num_conns, 0);
	for (unsigned i = 0; i < 20; i++) {
		assert_true(is_closed(fd[i]));
		close(fd[i]);
	}
	activate(f);
	post(f, 8);
	close(guest_connects(f, listener));
	close(listener);
}

/* A slot is not used again before the ring has let go of its polls, which could end in the next connection. */
static void test_slot_waits_for_its_polls(void **state)
{
	struct fix *f = *state;
	int listener = host_listen(f, "_52", 8), fd, other;

	post(f, 8);
	fd = guest_connects(f, listener);
	send_still(f, OP(RST), "", 0);
	assert_true(is_open(fd));
	send_still(f, OP(REQUEST), "", 0);
	assert_int_equal(vsock_of(f)->num_conns, 2);
	turn();
	assert_true(is_closed(fd));
	assert_int_equal(vsock_of(f)->num_conns, 1);
	other = accept(listener, NULL, NULL);
	assert_int_equal(vsock_of(f)->in_flight, 2); /* of the listener and of this one */
	close(other);
	close(fd);
	close(listener);
}

/* The ring has no room for a poll: it is made up for. */
static void test_full_ring(void **state)
{
	struct fix *f = *state;
	int listener = host_listen(f, "_52", 8), fd;

	post(f, 8);
	mock.room = mock.num;
	send_still(f, OP(REQUEST), "", 0);
	mock_run_tasks();
	mock_run_tasks();
	fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	mock.room = MOCK_IO_MAX;
	expect(f, OP(RESPONSE));
	turn();
	assert_int_equal(write(fd, "late", 4), 4);
	turn();
	assert_int_equal(expect(f, OP(RW)).len, 4);
	close(fd);
	close(listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_config_is_the_cid),
		T(test_guest_connects_and_both_talk),
		T(test_wrong_source_is_dropped),
		T(test_wrong_destination_is_refused),
		T(test_wrong_type_is_refused),
		T(test_unknown_operation_resets),
		T(test_length_beyond_the_chain_resets),
		T(test_length_of_4_gib_resets),
		T(test_any_framing),
		T(test_short_header_is_dropped),
		T(test_descriptor_beyond_ram_breaks_until_reset),
		T(test_receive_buffer_too_small_breaks),
		T(test_packets_without_a_connection_are_refused),
		T(test_second_request_resets),
		T(test_response_unasked_resets),
		T(test_shutdown_flags_that_do_not_exist),
		T(test_data_after_shutdown_resets),
		T(test_rst_of_the_guest_is_final),
		T(test_without_receive_buffers),
		T(test_storm_of_requests),
		T(test_reset_with_connections),
		T(test_slot_waits_for_its_polls),
		T(test_full_ring),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
