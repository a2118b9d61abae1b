/* A rate limiter with its timer, on a clock that the test moves. */
#include "tests/unit/mock_loop.h"

#include "virtio/throttle.h"

#define MS 1000000ULL

static const struct ratelimit_params none, thousand = { .size = 1000, .refill_ms = 100 },
					   two = { .size = 2, .refill_ms = 100 };
static struct throttle t;
static unsigned fired;

static void fire(struct timer *timer)
{
	assert_ptr_equal(timer, &t.timer);
	assert_false(timer->set);
	fired++;
}

static int setup(void **state)
{
	(void)state;
	mock_init();
	mock_time(timers_clock_ns());
	fired = 0;
	return 0;
}

static void wait_ms(unsigned ms)
{
	mock_time(mock.loop->timers.now_ns + ms * MS);
}

static void take(uint64_t bytes)
{
	assert_true(throttle_may(&t, bytes));
	throttle_charge(&t, bytes);
}

static void test_waits_for_its_tokens(void **state)
{
	(void)state;
	throttle_init(&t, mock.loop, fire, &thousand, &none);
	take(1000);
	assert_false(throttle_may(&t, 100));
	assert_true(t.timer.set);
	wait_ms(9);
	assert_int_equal(fired, 0);
	wait_ms(2);
	assert_int_equal(fired, 1);
	take(100);
	assert_null(mock.loop->timers.first);
}

static void test_counts_operations(void **state)
{
	(void)state;
	throttle_init(&t, mock.loop, fire, &none, &two);
	take(1 << 30);
	take(0);
	assert_false(throttle_may(&t, 0));
	wait_ms(51);
	assert_int_equal(fired, 1);
	take(0);
	throttle_cancel(&t);
}

/* What has asked for more is not overtaken by what asks for less. */
static void test_nothing_passes_what_waits(void **state)
{
	(void)state;
	throttle_init(&t, mock.loop, fire, &thousand, &none);
	take(500);
	assert_false(throttle_may(&t, 1000));
	assert_false(throttle_may(&t, 1));
	wait_ms(51);
	assert_int_equal(fired, 1);
	take(1000);
}

static void test_pause(void **state)
{
	(void)state;
	throttle_init(&t, mock.loop, fire, &none, &none);
	throttle_pause(&t, 5 * MS);
	assert_false(throttle_may(&t, 0));
	wait_ms(4);
	assert_int_equal(fired, 0);
	wait_ms(1);
	assert_int_equal(fired, 1);
	take(1);
}

static void test_cancel(void **state)
{
	(void)state;
	throttle_init(&t, mock.loop, fire, &thousand, &none);
	throttle_cancel(&t); /* nothing waits */
	take(1000);
	assert_false(throttle_may(&t, 1000));
	throttle_cancel(&t);
	assert_null(mock.loop->timers.first);
	wait_ms(1000);
	assert_int_equal(fired, 0);
	take(1000);
}

static void test_change(void **state)
{
	(void)state;
	throttle_init(&t, mock.loop, fire, &thousand, &none);
	take(1000);
	assert_false(throttle_may(&t, 1000));
	throttle_set(&t, NULL, &two); /* the bytes are still missing: it asks again, in vain */
	wait_ms(1);
	assert_int_equal(fired, 1);
	assert_false(throttle_may(&t, 1000));
	throttle_set(&t, &none, NULL);
	wait_ms(1);
	assert_int_equal(fired, 2);
	take(1000);
	take(1000);
	assert_false(throttle_may(&t, 0)); /* the other bucket is as it was set */
	throttle_cancel(&t);
	throttle_set(&t, &none, &none);
	assert_null(mock.loop->timers.first); /* nothing waits, nothing to call */
	take(0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_waits_for_its_tokens, setup),
		cmocka_unit_test_setup(test_counts_operations, setup),
		cmocka_unit_test_setup(test_nothing_passes_what_waits, setup),
		cmocka_unit_test_setup(test_pause, setup),
		cmocka_unit_test_setup(test_cancel, setup),
		cmocka_unit_test_setup(test_change, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
