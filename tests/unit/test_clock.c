/* Points in time: the deadline of a wait, with carries, on a clock that the test sets. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/clock.h"

static struct timespec now;

/* In place of libc's. cmocka, too, reads a clock. */
int clock_gettime(clockid_t clock, struct timespec *ts)
{
	if (clock != CLOCK_MONOTONIC)
		return (int)syscall(SYS_clock_gettime, clock, ts);
	*ts = now;
	return 0;
}

static void expect_deadline(unsigned timeout_ms, time_t sec, long nsec)
{
	struct timespec ts = clock_deadline(timeout_ms);

	assert_int_equal(ts.tv_sec, sec);
	assert_int_equal(ts.tv_nsec, nsec);
}

static void test_deadline(void **state)
{
	(void)state;
	now = (struct timespec){ .tv_sec = 7, .tv_nsec = 999999999 };
	expect_deadline(0, 7, 999999999);
	expect_deadline(1, 8, 999999);
	expect_deadline(1000, 8, 999999999);
	expect_deadline(2500, 10, 499999999);
	now.tv_nsec = 500000000;
	expect_deadline(500, 8, 0);
	expect_deadline(UINT_MAX, 7 + 4294967, 795000000);
}

static void test_now(void **state)
{
	(void)state;
	now = (struct timespec){ .tv_sec = 5000000, .tv_nsec = 1999999 };
	assert_int_equal(clock_now_ns(), 5000000001999999);
	assert_int_equal(clock_now_ms(), 5000000001);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_deadline),
		cmocka_unit_test(test_now),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
