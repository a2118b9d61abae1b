/* Order statistics: each percentile is one of the values, by the nearest rank. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vmm/base/util.h"
#include "vmm/bench/bench_stats.h"

static void test_percentiles(void **state)
{
	uint64_t values[1000];

	(void)state;
	for (unsigned i = 0; i < 1000; i++)
		values[i] = (i * 617 % 1000) + 1; /* 1 to 1000, in some order */
	struct bench_summary s = bench_summarize(values, 1000);

	assert_int_equal(s.n, 1000);
	assert_int_equal(s.min, 1);
	assert_int_equal(s.p50, 500);
	assert_int_equal(s.p90, 900);
	assert_int_equal(s.p99, 990);
	assert_int_equal(s.max, 1000);
	assert_int_equal(bench_percentile(values, 1000, 1), 10);
	assert_int_equal(bench_percentile(values, 1000, 100), 1000);
}

static void test_few(void **state)
{
	uint64_t one[] = { 7 }, three[] = { 30, 10, 20 };
	struct bench_summary s = bench_summarize(one, 0);

	(void)state;
	assert_int_equal(s.n, 0);
	s = bench_summarize(one, 1);
	assert_int_equal(s.min, 7);
	assert_int_equal(s.p50, 7);
	assert_int_equal(s.p99, 7);
	s = bench_summarize(three, 3);
	assert_int_equal(s.min, 10);
	assert_int_equal(s.p50, 20);
	assert_int_equal(s.p90, 30); /* with fewer than ten, the maximum */
	assert_int_equal(s.max, 30);
}

static void test_large(void **state)
{
	uint64_t values[] = { UINT64_MAX, 0, UINT64_MAX - 1, 1 };
	struct bench_summary s = bench_summarize(values, MF_ARRAY_SIZE(values));

	(void)state;
	assert_true(s.min == 0 && s.p50 == 1 && s.max == UINT64_MAX);
}

static void test_fences(void **state)
{
	uint64_t values[] = { 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 200 };
	const unsigned n = MF_ARRAY_SIZE(values);
	uint64_t low = 0, high = 0;

	(void)state;
	/* Quartiles 102 and 108, so a distance of 6. */
	assert_true(bench_fences(values, n, &low, &high));
	assert_int_equal(low, 102 - 18);
	assert_int_equal(high, 108 + 18);
	assert_false(bench_fences(values, BENCH_FENCE_MIN - 1, &low, &high));

	/* They neither wrap below 0 nor above the largest number. */
	for (unsigned i = 0; i < n; i++)
		values[i] = i < n / 2 ? i : UINT64_MAX - n + i;
	assert_true(bench_fences(values, n, &low, &high));
	assert_true(low == 0 && high == UINT64_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_percentiles),
		cmocka_unit_test(test_few),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_fences),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
