/* Order statistics; see bench_stats.h. */
#include "vmm/bench/bench_stats.h"

#include <stdlib.h>

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

uint64_t bench_percentile(const uint64_t *sorted, unsigned n, unsigned percent)
{
	uint64_t rank = ((uint64_t)n * percent + 99) / 100;

	return sorted[rank - 1];
}

struct bench_summary bench_summarize(uint64_t *values, unsigned n)
{
	if (!n)
		return (struct bench_summary){ 0 };
	qsort(values, n, sizeof(*values), compare);
	return (struct bench_summary){
		.n = n,
		.min = values[0],
		.p50 = bench_percentile(values, n, 50),
		.p90 = bench_percentile(values, n, 90),
		.p99 = bench_percentile(values, n, 99),
		.max = values[n - 1],
		.median = ((double)values[(n - 1) / 2] + (double)values[n / 2]) / 2,
	};
}

bool bench_fences(const uint64_t *sorted, unsigned n, uint64_t *low, uint64_t *high)
{
	uint64_t first, third, reach;

	if (n < BENCH_FENCE_MIN)
		return false;
	first = bench_percentile(sorted, n, 25);
	third = bench_percentile(sorted, n, 75);
	if (__builtin_mul_overflow(third - first, (uint64_t)BENCH_FENCE, &reach))
		reach = UINT64_MAX;
	*low = first > reach ? first - reach : 0;
	if (__builtin_add_overflow(third, reach, high))
		*high = UINT64_MAX;
	return true;
}
