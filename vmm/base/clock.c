/* The time; see clock.h. */
#include "vmm/base/clock.h"

#define NS_PER_S 1000000000U
#define NS_PER_MS 1000000U

uint64_t clock_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts); /* cannot fail */
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t clock_now_ms(void)
{
	return clock_now_ns() / NS_PER_MS;
}

struct timespec clock_deadline(unsigned timeout_ms)
{
	uint64_t ns = clock_now_ns() + (uint64_t)timeout_ms * NS_PER_MS;

	return (struct timespec){ .tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S) };
}
