/* Polls of sockets end for what they ask for, and for nothing else: on a real io_uring, and without. */
#include "tests/unit/real_loop.h"

#include <fcntl.h>
#include <sys/socket.h>

#define POLLS 3

struct fixture {
	int pair[2]; /* the first is polled */
	int file;    /* or, on a loop of fixed files, this */
	struct op op[POLLS];
	int res[POLLS];
	unsigned in_flight;
	short events;
	unsigned index;
};

static struct fixture f;

static void on_done(struct op *op, int res)
{
	f.res[op - f.op] = res;
	f.in_flight--;
}

static int setup(void **state)
{
	(void)state;
	f = (struct fixture){ .pair = { -1, -1 } };
	for (unsigned i = 0; i < POLLS; i++)
		f.op[i].done = on_done;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, f.pair), 0);
	(void)fixture_loop_new();
	f.file = fixture_kind == LOOP_SOCKETS ? -1 : loop_add_file(real_loop, f.pair[0]);
	fixture_loop_start(real_loop);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fixture_loop_done(real_loop);
	assert_int_equal(f.in_flight, 0);
	close(f.pair[0]);
	close(f.pair[1]);
	return 0;
}

static int start(void *arg)
{
	(void)arg;
	assert_true(loop_poll(real_loop, &f.op[f.index], f.file < 0 ? f.pair[0] : f.file, f.events));
	f.in_flight++;
	return 0;
}

static void start_poll(unsigned index, short events)
{
	f.index = index;
	f.events = events;
	f.res[index] = 0;
	loop_call(real_loop, start, NULL);
	fixture_loop_turn();
}

static int cancel(void *arg)
{
	(void)arg;
	loop_cancel(real_loop, &f.op[f.index]);
	loop_cancel(real_loop, &f.op[f.index]); /* once more does no harm */
	return 0;
}

static void cancel_poll(unsigned index)
{
	f.index = index;
	loop_call(real_loop, cancel, NULL);
	fixture_loop_turn();
}

static void fill_socket(void)
{
	static const char data[65536];

	while (send(f.pair[0], data, sizeof(data), MSG_NOSIGNAL) > 0)
		;
	assert_int_equal(errno, EAGAIN);
}

static void empty_socket(void)
{
	static char data[65536];

	while (recv(f.pair[1], data, sizeof(data), 0) > 0)
		;
	fixture_loop_turn();
}

static void test_half_close_is_no_hangup(void **state)
{
	(void)state;
	start_poll(0, 0);
	assert_int_equal(shutdown(f.pair[1], SHUT_WR), 0);
	assert_sleeps();
	assert_int_equal(f.in_flight, 1);
	close(f.pair[1]);
	fixture_loop_turn();
	assert_int_equal(f.in_flight, 0);
	assert_true(f.res[0] & POLLHUP);
}

static void test_half_close_is_no_room(void **state)
{
	(void)state;
	fill_socket();
	assert_int_equal(shutdown(f.pair[1], SHUT_WR), 0);
	start_poll(0, POLLOUT);
	start_poll(1, 0);
	start_poll(2, POLLOUT);
	assert_sleeps();
	assert_int_equal(f.in_flight, 3);
	empty_socket();
	assert_int_equal(f.in_flight, 1);
	assert_int_equal(f.res[0], POLLOUT);
	assert_int_equal(f.res[2], POLLOUT);
	assert_sleeps();
	start_poll(0, POLLOUT | POLLIN);
	assert_int_equal(f.in_flight, 1);
	assert_int_equal(f.res[0], POLLOUT | POLLIN); /* the end of its stream can be read */
	assert_int_equal(shutdown(f.pair[0], SHUT_WR), 0);
	fixture_loop_turn();
	assert_int_equal(f.in_flight, 0);
	assert_true(f.res[1] & POLLHUP);
}

static void test_cancel(void **state)
{
	(void)state;
	fill_socket();
	assert_int_equal(shutdown(f.pair[1], SHUT_WR), 0);
	start_poll(0, 0);
	start_poll(1, POLLOUT);
	cancel_poll(1);
	assert_int_equal(f.in_flight, 1);
	assert_int_equal(f.res[1], -ECANCELED);
	empty_socket();
	assert_sleeps();
	assert_int_equal(f.in_flight, 1);
	cancel_poll(0);
	assert_int_equal(f.in_flight, 0);
	assert_int_equal(f.res[0], -ECANCELED);
	assert_sleeps();
}

/* The file has another descriptor, as after a fork: closing ours is no end of it. */
static void test_the_number_is_another_files(void **state)
{
	int again = dup(f.pair[0]), other[2];

	(void)state;
	assert_int_equal(shutdown(f.pair[1], SHUT_WR), 0);
	start_poll(0, 0);
	cancel_poll(0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, other), 0);
	assert_int_equal(dup2(other[0], f.pair[0]), f.pair[0]);
	start_poll(0, 0);
	close(f.pair[1]);
	f.pair[1] = -1;
	assert_sleeps();
	assert_int_equal(f.in_flight, 1);
	close(again);
	close(other[0]);
	close(other[1]);
	fixture_loop_turn();
	assert_true(f.res[0] & POLLHUP);
}

static void test_stop_while_it_waits(void **state)
{
	(void)state;
	assert_int_equal(shutdown(f.pair[1], SHUT_WR), 0);
	start_poll(0, 0);
	start_poll(1, 0);
	loop_stop(real_loop);
	assert_int_equal(f.in_flight, 0);
	assert_int_equal(f.res[0], -ECANCELED);
	assert_int_equal(f.res[1], -ECANCELED);
}

static void test_what_cannot_be_polled(void **state)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), had = f.pair[0];

	(void)state;
	f.pair[0] = null;
	start_poll(0, 0); /* epoll refuses it; poll(2) finds nothing */
	assert_sleeps();
	if (f.in_flight)
		cancel_poll(0);
	assert_int_equal(f.in_flight, 0);
	assert_true(f.res[0] < 0);
	close(null);
	f.pair[0] = had;
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

/* A loop of fixed files has the set only if one of them needs it: a socket that does not block. */
static void test_who_needs_a_set(void **state)
{
	const bool ring = fixture_engine == LOOP_ENGINE_RING;
	int pipe_fd[2];

	(void)state;
	assert_int_equal(loop_epoll_fd(real_loop) >= 0, ring);
	fixture_loop_done(real_loop);
	assert_int_equal(fcntl(f.pair[0], F_SETFL, 0), 0);
	assert_int_equal(pipe2(pipe_fd, O_NONBLOCK | O_CLOEXEC), 0);
	(void)fixture_loop_new();
	assert_int_equal(loop_add_file(real_loop, f.pair[0]), 0);
	assert_int_equal(loop_add_file(real_loop, pipe_fd[0]), 1);
	fixture_loop_start(real_loop);
	assert_int_equal(loop_epoll_fd(real_loop) >= 0, ring && fixture_kind == LOOP_SOCKETS);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
}

int main(void)
{
	const struct CMUnitTest fixed[] = {
		T(test_half_close_is_no_hangup), T(test_half_close_is_no_room), T(test_cancel),
		T(test_stop_while_it_waits),	 T(test_who_needs_a_set),
	};
	const struct CMUnitTest sockets[] = {
		T(test_the_number_is_another_files),
		T(test_what_cannot_be_polled),
	};
	int failed = 0;

	for (int i = 0; i < 4; i++) {
		fixture_engine = i & 1 ? LOOP_ENGINE_SYNC : LOOP_ENGINE_RING;
		fixture_kind = i & 2 ? LOOP_SOCKETS : LOOP_FIXED;
		failed += cmocka_run_group_tests_name(i & 1 ? "sync" : "io_uring", fixed, NULL, NULL);
		if (i & 2)
			failed += cmocka_run_group_tests_name(i & 1 ? "sync" : "io_uring", sockets, NULL, NULL);
	}
	return failed;
}
