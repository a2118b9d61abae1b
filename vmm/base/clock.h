/* The time, for limits and durations. */
#ifndef MF_BASE_CLOCK_H
#define MF_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

/* CLOCK_MONOTONIC in milliseconds. */
static inline uint64_t clock_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts); /* it is always there */
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* The time of CLOCK_MONOTONIC that is timeout_ms away, to the millisecond: for pthread_cond_clockwait(3) and its like. */
static inline struct timespec clock_deadline(unsigned timeout_ms)
{
	uint64_t ms = clock_now_ms() + timeout_ms;

	return (struct timespec){ .tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000 };
}

#endif
