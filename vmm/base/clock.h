/* The time, for limits and durations. All of it is CLOCK_MONOTONIC. */
#ifndef MF_BASE_CLOCK_H
#define MF_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

uint64_t clock_now_ns(void);
uint64_t clock_now_ms(void);

/* The point in time timeout_ms from now. Async-signal-safe. */
struct timespec clock_deadline(unsigned timeout_ms);

#endif
