/* Calls of other threads that wait for what the loop's turns bring about, on a real io_uring and without. */
#define LOOP_TURNS_MAX 12
#include "tests/unit/real_loop.h"

#include <stdatomic.h>
#include <sys/socket.h>

#include "vmm/core/timer.h"

static int pair[2];
static struct op op;
static int result;
static atomic_uint calls;

static void on_done(struct op *o, int res)
{
	(void)o;
	result = res;
}

static int start(void *arg)
{
	(void)arg;
	assert_true(loop_poll(real_loop, &op, pair[0], POLLIN));
	return 0;
}

static int setup(void **state)
{
	(void)state;
	result = 0;
	op = (struct op){ .done = on_done };
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	fixture_loop_start(fixture_loop_new());
	assert_int_equal(loop_call(real_loop, start, NULL), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fixture_loop_done(real_loop);
	close(pair[0]);
	close(pair[1]);
	return 0;
}

/* 1: it has not come yet. */
static int has_not_come(void *arg)
{
	(void)arg;
	calls++;
	return result == 0;
}

static void *write_late(void *arg)
{
	(void)poll(NULL, 0, 100);
	assert_int_equal(write(pair[1], "x", 1), 1);
	return arg;
}

static void test_until_it_has_come(void **state)
{
	uint64_t began_ns = timers_clock_ns(), turns;
	pthread_t thread;

	(void)state;
	calls = 0;
	assert_int_equal(pthread_create(&thread, NULL, write_late, NULL), 0);
	turns = loop_turns(real_loop);
	assert_int_equal(loop_call_until(real_loop, has_not_come, NULL, 60000), 0);
	assert_true(timers_clock_ns() - began_ns < 30000000000);
	assert_true(loop_turns(real_loop) - turns < LOOP_TURNS_MAX); /* it sleeps meanwhile */
	assert_true(calls < LOOP_TURNS_MAX);
	pthread_join(thread, NULL);
}

static void test_until_the_time_is_over(void **state)
{
	uint64_t began_ns = timers_clock_ns();

	(void)state;
	assert_int_equal(loop_call_until(real_loop, has_not_come, NULL, 50), 1);
	assert_true(timers_clock_ns() - began_ns >= 50000000);
	/* Nobody asks any more. */
	calls = 0;
	(void)loop_turns(real_loop);
	assert_int_equal(calls, 0);
}

static void test_at_once(void **state)
{
	uint64_t began_ns = timers_clock_ns();

	(void)state;
	result = -ECANCELED;
	assert_int_equal(loop_call_until(real_loop, has_not_come, NULL, 60000), 0);
	assert_true(timers_clock_ns() - began_ns < 30000000000);
}

static void test_without_a_thread(void **state)
{
	(void)state;
	loop_stop(real_loop);
	result = 0;
	assert_int_equal(loop_call_until(real_loop, has_not_come, NULL, 60000), 1);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_until_it_has_come),
		T(test_until_the_time_is_over),
		T(test_at_once),
		T(test_without_a_thread),
	};
	int failed = cmocka_run_group_tests_name("io_uring", tests, NULL, NULL);

	fixture_engine = LOOP_ENGINE_SYNC;
	return failed + cmocka_run_group_tests_name("sync", tests, NULL, NULL);
}
