/* When the main thread looks for a guest that has halted for good, and that it sleeps otherwise. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "vmm/vm/halt.h"

#define HOUR_MS 3600000U

static struct halt h;
static uint64_t now_ms;
static unsigned looks, wakes;

static int setup(void **state)
{
	(void)state;
	now_ms = 1000000;
	looks = wakes = 0;
	halt_begin(&h, now_ms);
	return 0;
}

/* The main thread sleeps, as it may, for ms in all. */
static void sleep_for(uint64_t ms)
{
	uint64_t end_ms = now_ms + ms;

	for (;;) {
		int timeout = halt_timeout(&h, now_ms);

		assert_true(timeout > 0);
		if (now_ms + (uint64_t)timeout > end_ms)
			break;
		now_ms += (uint64_t)timeout;
		wakes++;
		looks += halt_is_due(&h, now_ms);
	}
	now_ms = end_ms;
}

/* The guest does something, and wakes the main thread if that wants to be. */
static void act(void)
{
	if (halt_active(&h)) {
		wakes++;
		looks += halt_is_due(&h, now_ms);
	}
}

static void test_a_quiet_guest_is_looked_at_soon(void **state)
{
	(void)state;
	sleep_for(1000);
	assert_int_equal(looks, 1);
	looks = wakes = 0;
	for (int i = 0; i < 100; i++) {
		act();
		sleep_for(999);
		assert_int_equal(looks, 0);
		sleep_for(1001);
		assert_int_equal(looks, 1);
		looks = 0;
	}
}

static void test_a_busy_guest_is_not_stopped(void **state)
{
	(void)state;
	for (int i = 0; i < 10000; i++) {
		act();
		sleep_for(100);
	}
	assert_int_equal(looks, 0);
	assert_true(wakes <= 2 * 1000);
}

/* And an idle one is left alone: a few looks, always later, however long it is idle. */
static void test_an_idle_guest_is_left_alone(void **state)
{
	(void)state;
	sleep_for(2000);
	looks = wakes = 0;
	sleep_for(50000);
	assert_int_equal(wakes, 0);
	sleep_for(HOUR_MS);
	assert_in_range(looks, 1, 3);
	assert_int_equal(wakes, looks);
	sleep_for(500 * HOUR_MS);
	assert_in_range(looks, 4, 10);
	assert_int_equal(wakes, looks);
	/* It is as on the first day when it does something. */
	act();
	looks = 0;
	sleep_for(1001);
	assert_int_equal(looks, 1);
}

static void test_one_wake_up_for_many_exits(void **state)
{
	(void)state;
	sleep_for(2000);
	assert_true(halt_active(&h));
	for (int i = 0; i < 1000; i++)
		assert_false(halt_active(&h));
}

/* What happens between being seen quiet and being looked at puts the look off. */
static void test_active_again(void **state)
{
	(void)state;
	sleep_for(HALT_QUIET_MS);
	assert_false(halt_active(&h));
	sleep_for(999);
	assert_int_equal(looks, 0);
	sleep_for(501);
	assert_int_equal(looks, 1);
}

static void test_timeout_fits(void **state)
{
	(void)state;
	h.due_ms = UINT64_MAX;
	assert_int_equal(halt_timeout(&h, now_ms), INT_MAX);
	h.due_ms = now_ms - 1;
	assert_int_equal(halt_timeout(&h, now_ms), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_a_quiet_guest_is_looked_at_soon, setup),
		cmocka_unit_test_setup(test_a_busy_guest_is_not_stopped, setup),
		cmocka_unit_test_setup(test_an_idle_guest_is_left_alone, setup),
		cmocka_unit_test_setup(test_one_wake_up_for_many_exits, setup),
		cmocka_unit_test_setup(test_active_again, setup),
		cmocka_unit_test_setup(test_timeout_fits, setup),
	};

	return cmocka_run_group_tests_name("halt", tests, NULL, NULL);
}
