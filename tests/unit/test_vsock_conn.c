/* vsock: a connection's states, and what is left of it: ports, credit, memory. */
#include "tests/unit/vsock_fixture.h"

static void test_line_of_the_greatest_length(void **state)
{
	struct fix *f = *state;
	char text[VSOCK_LINE_MAX + 1] = "";
	int fd;

	memset(text, 'x', VSOCK_LINE_MAX);
	fd = host_connect(f, text);
	assert_true(is_closed(fd)); /* no room is left for a newline */
	close(fd);
	text[VSOCK_LINE_MAX - 1] = '\0';
	fd = host_connect(f, text);
	assert_true(is_open(fd));
	assert_int_equal(send(fd, "\n", 1, MSG_NOSIGNAL), 1);
	turn();
	assert_true(is_closed(fd)); /* complete, and not a CONNECT line */
	close(fd);
}

static void test_host_port_in_use_is_passed_over(void **state)
{
	struct fix *f = *state;
	uint32_t first;
	int a, b, c;

	post(f, 16);
	a = host_connects(f, "");
	first = f->base.dst_port;
	vsock_of(f)->last_port = first - 1;
	b = host_connects(f, "");
	assert_int_equal(f->base.dst_port, first + 1);
	vsock_of(f)->last_port = UINT32_MAX >> 1; /* the last of them */
	c = host_connects(f, "");
	assert_int_equal(f->base.dst_port, first + 2 * (first == VSOCK_PORT_BASE));
	close(a);
	close(b);
	close(c);
}

/* Data for the guest carries fwd_cnt as a credit update does: that credit is not reported twice. */
static void test_each_packet_updates_the_credit(void **state)
{
	static uint8_t data[BUF / 2 - 1000];
	struct fix *f = *state;
	int fd = connected(f);

	for (unsigned i = 0; i < 4; i++) {
		send_data(f, OP(RW), data, sizeof(data));
		assert_int_equal(recv(fd, data, sizeof(data), MSG_WAITALL), sizeof(data));
		assert_true(silent(f));
		assert_int_equal(write(fd, "x", 1), 1);
		turn();
		assert_int_equal(expect(f, OP(RW)).fwd_cnt, (i + 1) * sizeof(data));
	}
	assert_true(silent(f));
	close(fd);
}

/* The guest's data was dropped, and now both streams have ended: no orderly SHUTDOWN. */
static void test_end_after_data_was_lost_resets(void **state)
{
	struct fix *f = *state;
	int fd = connected(f);

	assert_int_equal(shutdown(fd, SHUT_RD), 0);
	send_data(f, OP(RW), "lost", 4);
	assert_int_equal(expect(f, OP(SHUTDOWN)).flags, VSOCK_SHUT_RCV);
	send_flags(f, OP(SHUTDOWN), VSOCK_SHUT_RCV);
	expect(f, OP(RST));
	assert_true(silent(f));
	assert_int_equal(vsock_of(f)->num_conns, 0);
	close(fd);
}

/* A poll that reports the host's close before the buffer is written: its contents are lost. */
static void test_close_with_a_full_buffer_resets(void **state)
{
	static const uint8_t data[BUF / 2];
	struct fix *f = *state;
	int fd = connected(f);
	struct vsock_conn *c = &vsock_of(f)->conn[0];
	struct virtio_vsock_hdr h;

	while (!c->buf_len) {
		send_data(f, OP(RW), data, sizeof(data));
		while (next_packet(f, &h, NULL))
			post(f, 1);
	}
	shutdown(fd, SHUT_WR);
	turn();
	assert_int_equal(expect(f, OP(SHUTDOWN)).flags, VSOCK_SHUT_SEND);
	assert_true(c->in.armed);
	c->in.op.done(&c->in.op, POLLHUP);
	c->in.armed = true; /* the mock still has it */
	vsock_of(f)->in_flight++;
	loop_cancel(f->dev->loop, &c->in.op);
	turn();
	expect(f, OP(RST));
	close(fd);
}

static void test_memory_of_a_buffer_is_returned(void **state)
{
	static uint8_t data[BUF / 2];
	struct fix *f = *state;
	int fd = connected(f);
	const struct vsock_conn *c = &vsock_of(f)->conn[0];
	struct virtio_vsock_hdr h;

	memset(data, 'd', sizeof(data));
	while (!c->buf_len) {
		send_data(f, OP(RW), data, sizeof(data));
		while (next_packet(f, &h, NULL))
			post(f, 1);
	}
	assert_int_equal(vsock_buf(c)[0], 'd');
	send_op(f, OP(RST));
	assert_int_equal(vsock_of(f)->num_conns, 0);
	assert_int_equal(vsock_buf(c)[0], 0); /* the page is gone: a new one is zero */
	close(fd);
}

/* Clients whose line was complete when the descriptors ran out do not wait for the next tick. */
static void test_clients_before_the_descriptors_ran_out(void **state)
{
	struct fix *f = *state;
	struct sockaddr_un a = address(f, "");
	struct rlimit limit;
	int fd[2], spare;

	post(f, 16);
	for (unsigned i = 0; i < 2; i++) {
		fd[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(fd[i], (struct sockaddr *)&a, sizeof(a)), 0);
		assert_int_equal(write(fd[i], "CONNECT 1000\n", 13), 13);
	}
	spare = dup(0);
	close(spare);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ (rlim_t)spare + 1, limit.rlim_max }), 0);
	turn();
	assert_true(vsock_of(f)->accept_paused);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	f->base.dst_port = vsock_of(f)->last_port;
	expect(f, OP(REQUEST));
	assert_true(silent(f));
	close(fd[0]);
	close(fd[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_line_of_the_greatest_length),
		T(test_host_port_in_use_is_passed_over),
		T(test_each_packet_updates_the_credit),
		T(test_end_after_data_was_lost_resets),
		T(test_close_with_a_full_buffer_resets),
		T(test_memory_of_a_buffer_is_returned),
		T(test_clients_before_the_descriptors_ran_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
