/* Token buckets, with the time given: bursts, refill without drift, debts, both buckets, and numbers at the edges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "virtio/ratelimit.h"
#include "vmm/base/util.h"

#define MS 1000000ULL

static uint64_t retry;

static struct ratelimit limiter(uint64_t size, uint64_t burst, uint64_t refill_ms, uint64_t now)
{
	struct ratelimit_params p = { .size = size, .one_time_burst = burst, .refill_ms = refill_ms };
	struct ratelimit r = { 0 };

	ratelimit_set(&r, &p, NULL, now);
	return r;
}

static bool take(struct ratelimit *r, uint64_t bytes, uint64_t now)
{
	retry = 0;
	if (!ratelimit_ready(r, bytes, 1, now, &retry)) {
		assert_true(retry > now);
		return false;
	}
	ratelimit_charge(r, bytes, 1, now);
	return true;
}

static void test_no_limit(void **state)
{
	struct ratelimit r = { 0 }, no_size = limiter(0, 5, 100, 0), no_time = limiter(5, 0, 0, 0);

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		assert_true(take(&r, UINT64_MAX, 0));
		assert_true(take(&no_size, UINT64_MAX, 0));
		assert_true(take(&no_time, UINT64_MAX, 0));
	}
}

static void test_starts_full_and_refills_to_full(void **state)
{
	struct ratelimit r = limiter(1000, 0, 100, 7 * MS);

	(void)state;
	assert_true(take(&r, 1000, 7 * MS));
	assert_false(take(&r, 1, 7 * MS));
	assert_int_equal(retry, 7 * MS + MS / 10);
	assert_false(take(&r, 1000, 7 * MS));
	assert_int_equal(retry, 107 * MS);
	assert_false(take(&r, 1000, 107 * MS - 1));
	assert_int_equal(retry, 107 * MS);
	assert_true(take(&r, 1000, 107 * MS));
	assert_false(take(&r, 1, 107 * MS));
	/* A long time gives no more than the size. */
	assert_true(take(&r, 1000, 100000 * MS));
	assert_false(take(&r, 1, 100000 * MS));
}

static void test_burst_comes_first_and_once(void **state)
{
	struct ratelimit r = limiter(100, 250, 100, 0);

	(void)state;
	assert_true(take(&r, 200, 0));
	assert_true(take(&r, 150, 0)); /* 50 of the burst, all of the bucket */
	assert_false(take(&r, 1, 0));
	assert_true(take(&r, 100, 1000 * MS));
	assert_false(take(&r, 1, 1000 * MS));
}

/* However often it is asked, and whatever the ratio of size to time: the sum over time is size / refill time. */
static void test_no_drift(void **state)
{
	static const struct {
		uint64_t size, refill_ms, step_ns;
	} grid[] = {
		{ 3, 1, 333 },	   { 7, 100, 999 }, { 1000, 1, 1 },
		{ 1000003, 1, 7 }, { 1, 1, 1001 },  { UINT32_MAX, 3, 13 },
	};

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(grid); i++) {
		struct ratelimit r = limiter(grid[i].size, 0, grid[i].refill_ms, 0);
		uint64_t taken = 0, now = 0, expect;

		ratelimit_charge(&r, grid[i].size, 0, 0);
		for (unsigned k = 0; k < 20000; k++) {
			uint64_t n;

			now += grid[i].step_ns;
			assert_true(ratelimit_ready(&r, 0, 0, now, &retry));
			n = r.bytes.tokens;
			ratelimit_charge(&r, n, 0, now);
			taken += n;
		}
		expect = (uint64_t)((double)now * (double)grid[i].size / ((double)grid[i].refill_ms * (double)MS));
		assert_in_range(taken, expect - expect / 1000000 - 1, expect + expect / 1000000);
	}
}

/* The reported time is the first at which it works, not one nanosecond off. */
static void test_retry_is_exact(void **state)
{
	static const uint64_t sizes[] = { 1, 2, 3, 99, 1000, 65537, 1ULL << 33 }, times[] = { 1, 7, 100, 3600000 };

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(sizes); i++) {
		for (size_t k = 0; k < MF_ARRAY_SIZE(times); k++) {
			struct ratelimit r = limiter(sizes[i], 0, times[k], 0), before;
			uint64_t at;

			assert_true(take(&r, sizes[i], 0));
			assert_false(take(&r, (sizes[i] + 1) / 2, 0));
			at = retry;
			before = r;
			assert_false(take(&before, (sizes[i] + 1) / 2, at - 1));
			assert_int_equal(retry, at);
			assert_true(take(&r, (sizes[i] + 1) / 2, at));
		}
	}
}

static void test_larger_than_the_bucket(void **state)
{
	struct ratelimit r = limiter(100, 0, 100, 0);

	(void)state;
	assert_true(take(&r, 350, 0)); /* a debt of 250, paid in 250 ms */
	assert_false(take(&r, 0, 0));
	assert_int_equal(retry, 250 * MS);
	assert_false(take(&r, 100, 0));
	assert_int_equal(retry, 350 * MS);
	assert_false(take(&r, 0, 250 * MS - 1));
	assert_true(take(&r, 0, 250 * MS));
	assert_false(take(&r, 1, 250 * MS));
}

static void test_charge_without_asking(void **state)
{
	struct ratelimit r = limiter(100, 0, 100, 0);

	(void)state;
	ratelimit_charge(&r, 60, 0, 0);
	ratelimit_charge(&r, 60, 0, 0);
	assert_false(take(&r, 0, 0));
	assert_int_equal(retry, 20 * MS);
	/* What is done late does not use what came in before: the bucket was full all the time until then. */
	r = limiter(100, 0, 100, 0);
	ratelimit_charge(&r, 100, 0, 5000 * MS);
	assert_false(take(&r, 1, 5000 * MS));
}

static void test_both_buckets(void **state)
{
	struct ratelimit_params bytes = { .size = 1000, .refill_ms = 100 }, ops = { .size = 2, .refill_ms = 1000 };
	struct ratelimit r = { 0 };

	(void)state;
	ratelimit_set(&r, &bytes, &ops, 0);
	assert_true(take(&r, 10, 0));
	assert_true(take(&r, 10, 0));
	assert_false(take(&r, 10, 0)); /* operations */
	assert_int_equal(retry, 500 * MS);
	assert_int_equal(r.bytes.tokens, 980); /* what is refused costs nothing */
	assert_true(take(&r, 1000, 500 * MS));
	assert_false(take(&r, 1000, 500 * MS)); /* both: the later one counts */
	assert_int_equal(retry, 1000 * MS);
	bytes.refill_ms = 10000;
	ratelimit_set(&r, &bytes, &ops, 0);
	assert_true(take(&r, 1000, 0));
	assert_true(take(&r, 0, 0));
	assert_false(take(&r, 1000, 0)); /* the bytes now */
	assert_int_equal(retry, 10000 * MS);
}

/* A clock that stands or goes back brings nothing. */
static void test_clock_goes_back(void **state)
{
	struct ratelimit r = limiter(100, 0, 100, 1000 * MS);

	(void)state;
	assert_true(take(&r, 100, 1000 * MS));
	assert_false(take(&r, 1, 1000 * MS));
	assert_false(take(&r, 1, 500 * MS));
	assert_false(take(&r, 2, 1001 * MS));
	assert_true(take(&r, 1, 1001 * MS));
}

/* A refill time beyond what nanoseconds can count is a very long one, not a short one. */
static void test_longest_refill(void **state)
{
	struct ratelimit r = limiter(1, 0, UINT64_MAX / MS + 2, 0);

	(void)state;
	assert_true(take(&r, 1, 0));
	assert_false(take(&r, 1, UINT64_MAX / 2));
}

/* A bucket that is full does not save up a part of a token. */
static void test_full_has_no_fraction(void **state)
{
	struct ratelimit r = limiter(3, 0, 10, 0);

	(void)state;
	assert_true(take(&r, 1, 1));
	assert_false(take(&r, 3, 1));
	assert_int_equal(retry, 1 + (10 * MS + 2) / 3);
}

static void test_set_at_run_time(void **state)
{
	struct ratelimit_params p = { .size = 10, .refill_ms = 10 }, off = { 0 };
	struct ratelimit r = limiter(100, 0, 100000, 0);

	(void)state;
	assert_true(take(&r, 100, 0));
	ratelimit_set(&r, NULL, NULL, 0);
	assert_false(take(&r, 1, 0));
	ratelimit_set(&r, &p, NULL, 5);
	assert_true(take(&r, 10, 5));
	assert_false(take(&r, 1, 5));
	ratelimit_set(&r, &off, &p, 5);
	for (unsigned i = 0; i < 10; i++)
		assert_true(take(&r, UINT64_MAX, 5));
	assert_false(take(&r, 0, 5));
}

/* Sizes, bursts, times, amounts and clocks at the ends of their range: no trap, no wait that ends before it began. */
static void test_edges(void **state)
{
	static const uint64_t edge[] = { 0, 1, 2, UINT32_MAX, 1ULL << 32, 1ULL << 63, UINT64_MAX - 1, UINT64_MAX };
	const size_t n = MF_ARRAY_SIZE(edge);

	(void)state;
	for (size_t i = 0; i < n * n * n * n; i++) {
		struct ratelimit r = limiter(edge[i % n], edge[i / n % n], edge[i / n / n % n], edge[i / n / n / n]);
		uint64_t now = edge[i / n / n / n];

		for (size_t k = 0; k < n; k++) {
			retry = 0;
			if (!ratelimit_ready(&r, edge[k], edge[k], now, &retry))
				assert_true(retry > now || now == UINT64_MAX);
			ratelimit_charge(&r, edge[k], edge[k], now);
			assert_true(r.bytes.tokens <= r.bytes.size);
			assert_true(r.bytes.debt == 0 || r.bytes.tokens == 0);
			now = now > UINT64_MAX / 2 ? UINT64_MAX : 2 * now + 1;
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_limit),
		cmocka_unit_test(test_starts_full_and_refills_to_full),
		cmocka_unit_test(test_burst_comes_first_and_once),
		cmocka_unit_test(test_no_drift),
		cmocka_unit_test(test_retry_is_exact),
		cmocka_unit_test(test_larger_than_the_bucket),
		cmocka_unit_test(test_charge_without_asking),
		cmocka_unit_test(test_both_buckets),
		cmocka_unit_test(test_clock_goes_back),
		cmocka_unit_test(test_longest_refill),
		cmocka_unit_test(test_full_has_no_fraction),
		cmocka_unit_test(test_set_at_run_time),
		cmocka_unit_test(test_edges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
