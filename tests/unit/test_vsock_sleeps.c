/*
 * vsock: in each state of a connection that only the guest or a program of the host can end, the thread sleeps, on both
 * engines; and it wakes up when that happens.
 */
#define FIXTURE_REAL_LOOP
#include "tests/unit/vsock_fixture.h"

static int listener;

static int accepted(struct fix *f)
{
	listener = host_listen(f, "_52", 8);
	post(f, 16);
	return guest_connects(f, listener);
}

/* The guest sends until the host's socket and the buffer are full. */
static void fill(struct fix *f)
{
	static const uint8_t data[BUF / 4];
	struct virtio_vsock_hdr h;
	uint32_t sent = 0, taken = 0;

	while (sent - taken + sizeof(data) <= BUF) {
		send_data(f, OP(RW), data, sizeof(data));
		sent += sizeof(data);
		while (next_packet(f, &h, NULL)) {
			taken = h.fwd_cnt;
			post(f, 1);
		}
		assert_true(sent < 16 * BUF);
	}
}

static int no_connection(struct fix *f)
{
	post(f, 16);
	return -1;
}

static int idle(struct fix *f)
{
	return accepted(f);
}

static int client_without_a_line(struct fix *f)
{
	return host_connect(f, "");
}

static int client_with_half_a_line(struct fix *f)
{
	return host_connect(f, "CONN");
}

static int guest_does_not_answer(struct fix *f)
{
	post(f, 1);
	return host_connect(f, "CONNECT 1000\n");
}

static int guest_does_not_answer_a_client_that_ends(struct fix *f)
{
	int fd = guest_does_not_answer(f);

	shutdown(fd, SHUT_WR);
	return fd;
}

static int no_buffer_for_the_request(struct fix *f)
{
	return host_connect(f, "CONNECT 1000\n");
}

static int host_half_closes(struct fix *f)
{
	int fd = accepted(f);

	shutdown(fd, SHUT_WR);
	return fd;
}

static int guest_takes_no_more(struct fix *f)
{
	int fd = accepted(f);

	send_flags(f, OP(SHUTDOWN), VSOCK_SHUT_RCV);
	return fd;
}

static int guest_takes_no_more_and_host_sends(struct fix *f)
{
	int fd = guest_takes_no_more(f);

	assert_int_equal(send(fd, "more", 4, MSG_NOSIGNAL), -1);
	return fd;
}

static int guest_takes_no_more_and_host_half_closes(struct fix *f)
{
	int fd = guest_takes_no_more(f);

	shutdown(fd, SHUT_WR);
	return fd;
}

static int guest_half_closes(struct fix *f)
{
	int fd = accepted(f);

	send_flags(f, OP(SHUTDOWN), VSOCK_SHUT_SEND);
	return fd;
}

static int host_does_not_read(struct fix *f)
{
	int fd = accepted(f);

	fill(f);
	return fd;
}

static int host_does_not_read_and_half_closes(struct fix *f)
{
	int fd = host_does_not_read(f);

	shutdown(fd, SHUT_WR);
	return fd;
}

static int host_half_closes_and_does_not_read(struct fix *f)
{
	int fd = host_half_closes(f);

	fill(f);
	return fd;
}

static int guest_closes_and_host_does_not_read(struct fix *f)
{
	int fd = host_does_not_read(f);

	send_flags(f, OP(SHUTDOWN), VSOCK_SHUT_BOTH);
	return fd;
}

static int both_close_and_host_does_not_read(struct fix *f)
{
	int fd = guest_closes_and_host_does_not_read(f);

	shutdown(fd, SHUT_WR);
	return fd;
}

static int guest_closes_and_host_has_half_closed(struct fix *f)
{
	int fd = host_does_not_read_and_half_closes(f);

	send_flags(f, OP(SHUTDOWN), VSOCK_SHUT_BOTH);
	return fd;
}

static int guest_has_no_credit(struct fix *f)
{
	int fd;

	f->base.buf_alloc = 4;
	fd = accepted(f);
	assert_int_equal(write(fd, "more than four", 14), 14);
	return fd;
}

static int guest_has_no_credit_and_host_half_closes(struct fix *f)
{
	int fd = guest_has_no_credit(f);

	shutdown(fd, SHUT_WR);
	return fd;
}

static int no_credit_and_host_does_not_read_and_half_closes(struct fix *f)
{
	int fd = guest_has_no_credit(f);

	fill(f);
	shutdown(fd, SHUT_WR);
	return fd;
}

static int guest_has_no_buffers(struct fix *f)
{
	int fd;

	listener = host_listen(f, "_52", 8);
	post(f, 1);
	fd = guest_connects(f, listener);
	assert_int_equal(write(fd, "data", 4), 4);
	return fd;
}

static int guest_has_no_buffers_and_host_half_closes(struct fix *f)
{
	int fd = guest_has_no_buffers(f);

	shutdown(fd, SHUT_WR);
	return fd;
}

static int guest_has_no_buffers_and_host_goes(struct fix *f)
{
	close(guest_has_no_buffers(f));
	return -1;
}

static int host_takes_no_more(struct fix *f)
{
	int fd = accepted(f);

	shutdown(fd, SHUT_RD);
	send_data(f, OP(RW), "lost", 4);
	return fd;
}

static int refusals_wait(struct fix *f)
{
	for (unsigned i = 0; i < VSOCK_REFUSALS_MAX + 1; i++)
		send_still(f, OP(REQUEST), "", 0);
	return -1;
}

static const struct state {
	const char *name;
	int (*reach)(struct fix *f);
} states[] = {
#define STATE(name) { #name, name },
	/* one to a line */
	STATE(no_connection) STATE(idle) STATE(client_without_a_line) STATE(client_with_half_a_line) STATE(
		guest_does_not_answer) STATE(guest_does_not_answer_a_client_that_ends) STATE(no_buffer_for_the_request)
		STATE(host_half_closes) STATE(guest_takes_no_more) STATE(guest_takes_no_more_and_host_sends) STATE(
			guest_takes_no_more_and_host_half_closes) STATE(guest_half_closes) STATE(host_does_not_read)
			STATE(host_does_not_read_and_half_closes) STATE(host_half_closes_and_does_not_read)
				STATE(guest_closes_and_host_does_not_read) STATE(both_close_and_host_does_not_read)
					STATE(guest_closes_and_host_has_half_closed) STATE(guest_has_no_credit)
						STATE(guest_has_no_credit_and_host_half_closes)
							STATE(no_credit_and_host_does_not_read_and_half_closes)
								STATE(guest_has_no_buffers) STATE(
									guest_has_no_buffers_and_host_half_closes)
									STATE(guest_has_no_buffers_and_host_goes)
										STATE(host_takes_no_more)
											STATE(refusals_wait)
};

static int setup_state(void **state)
{
	listener = -1;
	return setup(state);
}

static int teardown_state(void **state)
{
	if (listener >= 0)
		close(listener);
	return teardown(state);
}

static void test_every_state_sleeps(void **state)
{
	unsigned turning = 0;

	for (size_t i = 0; i < MF_ARRAY_SIZE(states); i++) {
		uint64_t turns;
		int fd;

		assert_int_equal(setup_state(state), 0);
		fd = states[i].reach(*state);
		turn();
		turns = real_turns_in(REAL_QUIET_MS);
		if (turns > REAL_TURNS_MAX) {
			print_error("%s: %llu turns\n", states[i].name, (unsigned long long)turns);
			turning++;
		}
		if (fd >= 0)
			close(fd);
		turn();
		if (real_turns_in(20) > REAL_TURNS_MAX) {
			print_error("%s, and the host's program has gone: it turns\n", states[i].name);
			turning++;
		}
		assert_int_equal(teardown_state(state), 0);
	}
	assert_int_equal(turning, 0);
}

/* It has slept, and still sees that the host's program is gone. */
static void test_hangup_after_half_close(void **state)
{
	struct fix *f = *state;
	int fd = host_half_closes(f);

	turn();
	assert_int_equal(expect(f, OP(SHUTDOWN)).flags, VSOCK_SHUT_SEND);
	assert_sleeps();
	assert_true(silent(f));
	close(fd);
	turn();
	assert_int_equal(expect(f, OP(SHUTDOWN)).flags, VSOCK_SHUT_BOTH);
	assert_int_equal(vsock_of(f)->num_conns, 0);
}

static void test_hangup_after_the_guest_wants_no_more(void **state)
{
	struct fix *f = *state;
	int fd = guest_takes_no_more(f);

	assert_sleeps();
	send_data(f, OP(RW), "more", 4);
	expect_text(fd, "more");
	close(fd);
	turn();
	assert_int_equal(expect(f, OP(SHUTDOWN)).flags, VSOCK_SHUT_BOTH);
	assert_int_equal(vsock_of(f)->num_conns, 0);
}

/* A host that has half-closed reads on: the rest of the buffer follows, all of it. */
static void test_room_after_half_close(void **state)
{
	static char data[16 * BUF];
	struct fix *f = *state;
	int fd = host_does_not_read_and_half_closes(f);
	uint32_t sent = vsock_of(f)->conn[0].rx_cnt, got = 0;

	assert_sleeps();
	for (unsigned i = 0; i < 1000 && got < sent; i++) {
		ssize_t n = recv(fd, data, sizeof(data), 0);

		if (n > 0)
			got += (uint32_t)n;
		turn();
	}
	assert_int_equal(got, sent);
	assert_sleeps();
	send_data(f, OP(RW), "more", 4);
	expect_text(fd, "more");
	close(fd);
	turn();
	assert_int_equal(vsock_of(f)->num_conns, 0);
}

static void test_reset_while_it_waits(void **state)
{
	struct fix *f = *state;
	int fd = host_does_not_read_and_half_closes(f);

	assert_sleeps();
	tell_device(f, RESET);
	assert_int_equal(vsock_of(f)->num_conns, 0);
	assert_false(is_open(fd));
	activate(f);
	close(fd);
	post(f, 1);
	fd = guest_connects(f, listener);
	assert_true(is_open(fd));
	close(fd);
}

static void *read_late(void *arg)
{
	static char data[16 * BUF];
	int fd = *(int *)arg;

	(void)poll(NULL, 0, 100);
	for (unsigned i = 0; i < 1000 && recv(fd, data, sizeof(data), 0) != 0; i++)
		(void)poll(NULL, 0, 2);
	return NULL;
}

/* At the VM's end: waits for a slow host, without a look every now and then, and not for one that does not read. */
static void test_finish(void **state)
{
	struct fix *f = *state;
	int fd = host_does_not_read_and_half_closes(f);
	uint64_t turns = loop_turns(real_loop), began_ns = timers_clock_ns();
	pthread_t thread;

	vsock_finish(f->dev, 300);
	assert_true(timers_clock_ns() - began_ns >= 300000000);
	assert_in_range(loop_turns(real_loop) - turns, 0, 16);
	assert_true(vsock_of(f)->conn[0].buf_len > 0);
	assert_int_equal(pthread_create(&thread, NULL, read_late, &fd), 0);
	began_ns = timers_clock_ns();
	vsock_finish(f->dev, 60000);
	assert_true(timers_clock_ns() - began_ns < 30000000000);
	assert_int_equal(vsock_of(f)->conn[0].buf_len, 0);
	tell_device(f, RESET);
	pthread_join(thread, NULL);
	close(fd);
}

#define R(fn) cmocka_unit_test_setup_teardown(fn, setup_state, teardown_state)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_state_sleeps),
		R(test_hangup_after_half_close),
		R(test_hangup_after_the_guest_wants_no_more),
		R(test_room_after_half_close),
		R(test_reset_while_it_waits),
		R(test_finish),
	};
	int failed = cmocka_run_group_tests_name("io_uring", tests, NULL, NULL);

	fixture_engine = LOOP_ENGINE_SYNC;
	return failed + cmocka_run_group_tests_name("sync", tests, NULL, NULL);
}
