/* The books of a pool: who is started, who is given away, who leaves, and when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vmm/pool/pool.h"

static struct pool pool;

/* Starts all that is wanted at that time. Returns how many. */
static unsigned start_all(uint64_t now_ms)
{
	unsigned num = 0;
	int i;

	while ((i = pool_wants(&pool, now_ms)) >= 0) {
		pool_started(&pool, (unsigned)i, 100 + i);
		num++;
	}
	return num;
}

static void ready_all(uint64_t now_ms)
{
	for (unsigned i = 0; i < POOL_PLACES; i++)
		pool_ready(&pool, i, now_ms);
}

/* A pool whose members all wait. */
static void fill(unsigned size, uint64_t max_age_ms, uint64_t now_ms)
{
	pool_init(&pool, size, max_age_ms);
	while (start_all(now_ms))
		ready_all(now_ms);
	assert_int_equal(pool_count(&pool, POOL_WAITING), size);
}

static void test_few_at_a_time(void **state)
{
	(void)state;
	pool_init(&pool, 5, 0);
	assert_int_equal(start_all(0), POOL_STARTING_MAX);
	assert_int_equal(pool_timeout(&pool, 0), -1);
	assert_int_equal(pool_oldest(&pool), -1);
	pool_ready(&pool, 0, 0);
	assert_int_equal(start_all(0), 1);
	ready_all(0);
	ready_all(0); /* a second word of a member says nothing */
	assert_int_equal(pool.ready, 3);
	assert_int_equal(start_all(0), 2);
	ready_all(0);
	assert_int_equal(pool_wants(&pool, 1000000), -1);
	assert_int_equal(pool_timeout(&pool, 0), -1);
}

static void test_oldest_first(void **state)
{
	(void)state;
	fill(3, 0, 0);
	assert_int_equal(pool_oldest(&pool), 0);
	pool_claimed(&pool, 0);
	pool_ended(&pool, 0, 0); /* it runs */
	assert_int_equal(pool.member[0].fd, -1);
	assert_int_equal(pool_timeout(&pool, 5), 0); /* at once */
	assert_int_equal(pool_wants(&pool, 5), 0);
	pool_started(&pool, 0, 100);
	ready_all(5);
	assert_int_equal(pool_oldest(&pool), 1); /* that in place 0 is the youngest */
	pool_claimed(&pool, 1);
	pool_claimed(&pool, 2);
	assert_int_equal(pool_oldest(&pool), 0);
	assert_int_equal(pool.claimed, 3);
	assert_int_equal(pool.died, 0);
}

static void test_clients_come_first(void **state)
{
	(void)state;
	fill(2, 0, 0);
	pool_claimed(&pool, 0);
	assert_int_equal(pool_wants(&pool, 5), -1); /* its client waits for its guest */
	assert_int_equal(pool_timeout(&pool, 5), -1);
	pool_claimed(&pool, 1);
	assert_int_equal(start_all(5), 2); /* but the next client would find nothing */
	ready_all(5);
	pool_claimed(&pool, (unsigned)pool_oldest(&pool));
	assert_int_equal(start_all(5), 0);
	pool_ended(&pool, 0, 5);
	pool_ended(&pool, 1, 5);
	assert_int_equal(start_all(5), 0); /* that of the last one */
	pool_replace(&pool);
	assert_int_equal(pool_outdated(&pool, 5), 3); /* not one that a client has */
	pool_ended(&pool, 2, 5);
	assert_int_equal(start_all(5), 2);
	assert_int_equal(pool.died, 0);
}

static void test_deaths_have_a_rate(void **state)
{
	const uint64_t credit = POOL_DEATHS_AT_ONCE * POOL_DEATH_MS;
	uint64_t now = 1000000;

	(void)state;
	fill(1, 0, now);
	for (unsigned i = 0; i < POOL_DEATHS_AT_ONCE; i++) {
		pool_ended(&pool, 0, now);
		assert_int_equal(start_all(now), 1);
		if (i % 2)
			ready_all(now);
	}
	pool_ended(&pool, 0, now);
	assert_int_equal(pool.died, POOL_DEATHS_AT_ONCE + 1);
	assert_int_equal(start_all(now), 0);
	assert_int_equal(pool_timeout(&pool, now), POOL_DEATH_MS);
	assert_int_equal(start_all(now + POOL_DEATH_MS - 1), 0);
	assert_int_equal(start_all(now + POOL_DEATH_MS), 1);
	pool_ended(&pool, 0, now + POOL_DEATH_MS);
	assert_int_equal(pool_timeout(&pool, now + POOL_DEATH_MS), POOL_DEATH_MS);
	/* Deaths that are long past do not count. */
	now += 3 * credit;
	for (unsigned i = 0; i < POOL_DEATHS_AT_ONCE; i++) {
		assert_int_equal(start_all(now), 1);
		pool_ended(&pool, 0, now);
	}
	assert_int_equal(start_all(now), 1);
}

static void test_replaced_snapshot(void **state)
{
	unsigned left = 0;
	int i;

	(void)state;
	fill(6, 0, 0);
	pool_claimed(&pool, 5);
	pool_ended(&pool, 5, 0);
	assert_int_equal(start_all(0), 1); /* one of the old snapshot that is not ready yet */
	pool_replace(&pool);
	assert_int_equal(pool_oldest(&pool), -1);
	assert_int_equal(start_all(0), POOL_STARTING_MAX);
	while ((i = pool_outdated(&pool, 0)) >= 0) {
		pool_leaves(&pool, (unsigned)i);
		left++;
	}
	assert_int_equal(left, POOL_LEAVING_MAX);
	ready_all(0); /* also that of the old snapshot, which no client gets */
	assert_int_equal(pool_count(&pool, POOL_WAITING), POOL_STARTING_MAX);
	assert_true(pool.member[pool_oldest(&pool)].number > pool.stale);
	pool_ended(&pool, 0, 0);
	assert_int_equal(pool.died, 0); /* it had to leave */
	i = pool_outdated(&pool, 0);
	assert_true(i >= 0);
	/* One that ends before it has to leave is none that has to be replaced, either. */
	pool_ended(&pool, (unsigned)i, 0);
	assert_int_equal(pool.died, 0);
}

static void test_age(void **state)
{
	int i;

	(void)state;
	fill(2, 500, 1000);
	assert_int_equal(pool_outdated(&pool, 1499), -1);
	assert_int_equal(pool_timeout(&pool, 1400), 100);
	assert_int_equal(pool_timeout(&pool, 1600), 0);
	i = pool_outdated(&pool, 1500);
	assert_int_equal(i, 0);
	pool_leaves(&pool, 0);
	assert_int_equal(pool_outdated(&pool, 1500), 1);
	pool_leaves(&pool, 1);
	assert_int_equal(pool_outdated(&pool, 1500), -1);
	assert_int_equal(start_all(1500), 2); /* in places of their own */
	ready_all(1500);
	assert_int_equal(pool_timeout(&pool, 1500), 500);
	pool_ended(&pool, 0, 1501);
	assert_int_equal(pool.died, 0);
	assert_int_equal(pool_count(&pool, POOL_WAITING), 2);
}

static void test_closed(void **state)
{
	(void)state;
	fill(2, 0, 0);
	pool_claimed(&pool, 0);
	pool.closed = true;
	assert_int_equal(pool_wants(&pool, 0), -1);
	assert_int_equal(pool_timeout(&pool, 0), -1);
	pool_init(&pool, POOL_SIZE_MAX, 0);
	while (start_all(0))
		ready_all(0);
	assert_int_equal(pool_count(&pool, POOL_WAITING), POOL_SIZE_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_few_at_a_time),
		cmocka_unit_test(test_oldest_first),
		cmocka_unit_test(test_clients_come_first),
		cmocka_unit_test(test_deaths_have_a_rate),
		cmocka_unit_test(test_replaced_snapshot),
		cmocka_unit_test(test_age),
		cmocka_unit_test(test_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
