/* Order statistics of a few values. */
#ifndef MF_BENCH_BENCH_STATS_H
#define MF_BENCH_BENCH_STATS_H

#include <stdbool.h>
#include <stdint.h>

struct bench_summary {
	unsigned n; /* 0: the rest means nothing */
	uint64_t min, p50, p90, p99, max;
	double median; /* of an even number, the mean of the two in the middle; p50 is one of the values */
};

/* Sorts the values and sums them up. */
struct bench_summary bench_summarize(uint64_t *values, unsigned n);

/*
 * The percentile by the nearest rank: the least value that is not below percent of them. So it is one
 * of the values; with fewer than 100, p99 is the maximum. n and percent are at least 1.
 */
uint64_t bench_percentile(const uint64_t *sorted, unsigned n, unsigned percent);

/*
 * Tukey's outer fences: a value outside of [*low, *high] is an outlier, which is one farther from the
 * quartiles than BENCH_FENCE times their distance. Returns false if there are fewer than BENCH_FENCE_MIN values.
 */
#define BENCH_FENCE 3
#define BENCH_FENCE_MIN 8
bool bench_fences(const uint64_t *sorted, unsigned n, uint64_t *low, uint64_t *high);

#endif
