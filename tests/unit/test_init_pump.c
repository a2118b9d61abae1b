/* init's pumps: all arrives, the end of either side ends both, and at the end of a command so much and no more is read. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "loader/init/fd.h"
#include "loader/init/pump.h"

static char buf[PUMP_BYTES];
static struct pump pump;
static int source, sink; /* the other ends of its pipes, or -1 */

static int setup(void **state)
{
	int in[2], out[2];

	(void)state;
	assert_int_equal(pipe2(in, O_NONBLOCK), 0);
	assert_int_equal(pipe2(out, O_NONBLOCK), 0);
	pump = (struct pump){ .from = in[0], .to = out[1], .buf = buf };
	source = in[1];
	sink = out[0];
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	pump_close(&pump);
	fd_close(&source);
	fd_close(&sink);
	return 0;
}

static void turn(void)
{
	struct pollfd polls[PUMP_POLLS];

	for (int i = 0; i < 100; i++) {
		pump_polls(&pump, polls);
		if (poll(polls, PUMP_POLLS, 0) == 0)
			return;
		pump_turn(&pump, polls);
		if (pump_is_over(&pump) || pump.failed)
			return;
	}
	fail_msg("it turns without work");
}

/* What has arrived. */
static size_t arrived(void)
{
	static char got[1 << 20];
	ssize_t n = read(sink, got, sizeof(got));

	return n < 0 ? 0 : (size_t)n;
}

static void test_end_of_the_source(void **state)
{
	(void)state;
	assert_int_equal(write(source, "word", 4), 4);
	turn();
	assert_int_equal(arrived(), 4);
	assert_false(pump_is_over(&pump));
	assert_int_equal(write(source, "more", 4), 4);
	fd_close(&source);
	turn();
	assert_int_equal(arrived(), 4);
	assert_true(pump_is_over(&pump));
	assert_true(pump.from < 0);
}

static void test_end_of_the_sink(void **state)
{
	(void)state;
	fd_close(&sink);
	turn();
	assert_true(pump.failed);
	pump_close(&pump);
	assert_int_equal(write(source, "x", 1), -1);
	assert_int_equal(errno, EPIPE);
}

/* The error is that of poll(), or of write() if the sink was closed after poll(). No byte of the source is lost. */
static void test_another_sink(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct pollfd polls[PUMP_POLLS];
		int out[2];

		assert_int_equal(write(source, "word", 4), 4);
		pump_polls(&pump, polls);
		assert_int_equal(poll(polls, PUMP_POLLS, 0), 1);
		fd_close(&sink);
		if (i == 0)
			turn();
		else
			pump_turn(&pump, polls);
		assert_true(pump.failed);
		assert_false(pump_is_over(&pump));
		assert_int_equal(pipe2(out, O_NONBLOCK), 0);
		assert_int_equal(dup2(out[1], pump.to), pump.to);
		close(out[1]);
		sink = out[0];
		pump.failed = false;
		turn();
		assert_false(pump.failed);
		assert_int_equal(arrived(), 4);
	}
}

/* Not the end of the stream. */
static void test_source_with_an_error(void **state)
{
	struct pollfd polls[PUMP_POLLS] = { { .revents = POLLIN } };
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	assert_int_equal(write(pair[0], "unread", 6), 6);
	assert_int_equal(dup2(pair[0], pump.from), pump.from);
	close(pair[0]);
	close(pair[1]);
	pump_turn(&pump, polls);
	assert_true(pump.failed);
	assert_false(pump_is_over(&pump));
}

/* What a command has left in its pipes is carried, and what others write meanwhile is not. */
static void test_limit_at_the_end(void **state)
{
	static char much[3 * PUMP_BYTES / 2];
	struct pollfd none[PUMP_POLLS] = { 0 };
	size_t got = 0;

	(void)state;
	assert_true(fcntl(source, F_SETPIPE_SZ, 4 * PUMP_BYTES) > 0);
	assert_true(fcntl(sink, F_SETPIPE_SZ, 4 * PUMP_BYTES) > 0);
	assert_int_equal(write(source, much, sizeof(much)), sizeof(much));
	pump_end(&pump, PUMP_BYTES + 100);
	for (int i = 0; i < 10 && !pump_is_over(&pump); i++) {
		pump_turn(&pump, none);
		got += arrived();
	}
	assert_true(pump_is_over(&pump));
	assert_int_equal(got, PUMP_BYTES + 100);
}

static void test_nothing_left_at_the_end(void **state)
{
	struct pollfd none[PUMP_POLLS] = { 0 };

	(void)state;
	assert_int_equal(write(source, "late", 4), 4);
	pump_end(&pump, 0);
	pump_turn(&pump, none);
	assert_true(pump_is_over(&pump));
	assert_int_equal(arrived(), 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_end_of_the_source),    T(test_end_of_the_sink),	T(test_another_sink),
		T(test_source_with_an_error), T(test_limit_at_the_end), T(test_nothing_left_at_the_end),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
