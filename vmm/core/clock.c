/* The clock of timers. In a file of its own, so that a test can link another. */
#include "vmm/base/clock.h"
#include "vmm/core/timer.h"

uint64_t timers_clock_ns(void)
{
	return clock_now_ns();
}
