/* The list of timers, with the time given. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vmm/base/util.h"
#include "vmm/core/timer.h"

static struct timers list;
static struct timer t[4];
static unsigned fired[4], order;
static struct timer *cancels;

static void on_fire(struct timer *timer)
{
	fired[timer - t] = ++order;
	if (cancels)
		timer_cancel(&list, cancels);
}

static void on_fire_again(struct timer *timer)
{
	fired[timer - t]++;
	timer_set(&list, timer, 0);
}

static int setup(void **state)
{
	(void)state;
	list = (struct timers){ 0 };
	order = 0;
	cancels = NULL;
	for (size_t i = 0; i < MF_ARRAY_SIZE(t); i++) {
		t[i] = (struct timer){ .fire = on_fire };
		fired[i] = 0;
	}
	return 0;
}

static uint64_t sleep_ns(uint64_t now)
{
	struct __kernel_timespec ts;

	return timers_sleep(&list, now, &ts) ? (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec : UINT64_MAX;
}

static void test_order(void **state)
{
	(void)state;
	timer_set(&list, &t[0], 300);
	timer_set(&list, &t[1], 100);
	timer_set(&list, &t[2], 200);
	timer_set(&list, &t[3], 100);
	assert_int_equal(sleep_ns(0), 100);
	timers_run(&list, 99);
	assert_int_equal(order, 0);
	timers_run(&list, 200);
	assert_int_equal(fired[1], 1);
	assert_int_equal(fired[3], 2);
	assert_int_equal(fired[2], 3);
	assert_int_equal(fired[0], 0);
	assert_true(t[0].set);
	assert_false(t[1].set);
	timers_run(&list, 300);
	assert_int_equal(fired[0], 4);
	timers_run(&list, 1000);
	assert_int_equal(order, 4);
}

static void test_sleep(void **state)
{
	struct __kernel_timespec ts;

	(void)state;
	assert_int_equal(sleep_ns(5), UINT64_MAX);
	timer_set(&list, &t[0], 3000000005);
	assert_true(timers_sleep(&list, 5, &ts));
	assert_int_equal(ts.tv_sec, 3);
	assert_int_equal(ts.tv_nsec, 0);
	assert_int_equal(sleep_ns(3000000004), 1);
	assert_int_equal(sleep_ns(3000000005), 0);
	assert_int_equal(sleep_ns(UINT64_MAX), 0);
}

static void test_set_anew_and_cancel(void **state)
{
	(void)state;
	timer_set(&list, &t[0], 100);
	timer_set(&list, &t[0], 300);
	timer_set(&list, &t[1], 200);
	timers_run(&list, 200);
	assert_int_equal(fired[0], 0);
	assert_int_equal(fired[1], 1);
	timer_cancel(&list, &t[0]);
	timer_cancel(&list, &t[0]);
	timers_run(&list, 1000);
	assert_int_equal(fired[0], 0);
	assert_null(list.first);
}

/* A timer that cancels another that is due, too. */
static void test_cancel_of_a_due_one(void **state)
{
	(void)state;
	cancels = &t[1];
	timer_set(&list, &t[0], 100);
	timer_set(&list, &t[1], 100);
	timer_set(&list, &t[2], 100);
	timers_run(&list, 100);
	assert_int_equal(fired[0], 1);
	assert_int_equal(fired[1], 0);
	assert_int_equal(fired[2], 2);
}

/* A timer that sets itself for a time that has passed fires in the next turn, and only once in this one. */
static void test_set_for_the_past(void **state)
{
	(void)state;
	t[0].fire = on_fire_again;
	timer_set(&list, &t[0], 100);
	timers_run(&list, 100);
	assert_int_equal(fired[0], 1);
	timers_run(&list, 101);
	assert_int_equal(fired[0], 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_order, setup),
		cmocka_unit_test_setup(test_sleep, setup),
		cmocka_unit_test_setup(test_set_anew_and_cancel, setup),
		cmocka_unit_test_setup(test_cancel_of_a_due_one, setup),
		cmocka_unit_test_setup(test_set_for_the_past, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
