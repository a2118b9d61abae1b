/* A turn of the loop, on an engine that is the test: when it sleeps, and what it does in which order. */
#include "tests/unit/mock_loop.h"

#include <pthread.h>

static char order[16];

static void note(char what)
{
	order[strlen(order)] = what;
}

static void on_done(struct op *op, int res)
{
	(void)op;
	(void)res;
	note('d');
}

static void run(struct task *task)
{
	note('t');
	if (strlen(order) < 4)
		loop_defer(mock.loop, task); /* in the next turn */
}

static void fire(struct timer *timer)
{
	(void)timer;
	note('f');
}

static int call(void *arg)
{
	note(*(const char *)arg);
	return *(const char *)arg;
}

static int setup(void **state)
{
	(void)state;
	mock_init();
	memset(order, 0, sizeof(order));
	return 0;
}

static void test_sleeps_when_idle(void **state)
{
	(void)state;
	loop_turn(mock.loop);
	assert_int_equal(mock.wait, ENGINE_WAIT_TIMERS);
}

static void test_does_not_sleep_with_work(void **state)
{
	struct op op = { .done = on_done };
	struct task task = { .run = run };

	(void)state;
	engine_complete(mock.loop, &op, 0);
	loop_turn(mock.loop);
	assert_int_equal(mock.wait, ENGINE_NO_WAIT);
	loop_turn(mock.loop);
	assert_int_equal(mock.wait, ENGINE_WAIT_TIMERS);
	loop_defer(mock.loop, &task);
	loop_turn(mock.loop);
	assert_int_equal(mock.wait, ENGINE_NO_WAIT);
	mock.loop->woken = true; /* by a watch that fired in a drain */
	order[3] = 'x';
	loop_turn(mock.loop);
	loop_turn(mock.loop);
	assert_int_equal(mock.wait, ENGINE_WAIT_TIMERS);
	mock.loop->woken = true;
	loop_turn(mock.loop);
	assert_int_equal(mock.wait, ENGINE_NO_WAIT);
}

static void test_order_in_a_turn(void **state)
{
	struct op op = { .done = on_done };
	struct task task = { .run = run };
	struct timer timer = { .fire = fire };

	(void)state;
	loop_defer(mock.loop, &task);
	loop_defer(mock.loop, &task); /* is queued already */
	engine_complete(mock.loop, &op, 0);
	timer_set(loop_timers(mock.loop), &timer, 5);
	mock_time(5);
	assert_string_equal(order, "fdt");
	mock_run_tasks();
	assert_string_equal(order, "fdtt");
	assert_false(mock_has_tasks());
}

static void *call_from_elsewhere(void *what)
{
	return (void *)(intptr_t)loop_call(mock.loop, call, what);
}

/* Waits until one more call is queued: each signals the loop. */
static void wait_call(void)
{
	struct pollfd p = { .fd = loop_wake_fd(mock.loop), .events = POLLIN };
	uint64_t count;

	assert_int_equal(poll(&p, 1, 60000), 1);
	assert_int_equal(read(p.fd, &count, sizeof(count)), sizeof(count));
}

static void test_calls_in_order(void **state)
{
	static char names[] = "123";
	pthread_t thread[3];
	void *result;

	(void)state;
	mock.loop->running = true; /* on this thread */
	mock.loop->thread = pthread_self();
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(pthread_create(&thread[i], NULL, call_from_elsewhere, &names[i]), 0);
		wait_call();
	}
	loop_turn(mock.loop);
	assert_string_equal(order, ""); /* it has not heard of them */
	mock.loop->woken = true;
	loop_turn(mock.loop);
	assert_string_equal(order, "123");
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(pthread_join(thread[i], &result), 0);
		assert_int_equal((intptr_t)result, names[i]);
	}
	mock.loop->running = false;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_sleeps_when_idle, setup),
		cmocka_unit_test_setup(test_does_not_sleep_with_work, setup),
		cmocka_unit_test_setup(test_order_in_a_turn, setup),
		cmocka_unit_test_setup(test_calls_in_order, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
