/* The clock of timers. In a file of its own, so that a test can link another. */
#include <time.h>

#include "vmm/core/timer.h"

uint64_t timers_clock_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts); /* cannot fail */
	return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}
