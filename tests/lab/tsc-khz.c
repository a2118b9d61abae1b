/*
 * tsc-khz: the rate of this host's time stamp counter in kHz, which is that of the lab's CPUs: QEMU's emulation shows the
 * host's counter, and on other hosts nanoseconds.
 *
 * The lab's kernel would measure it against an emulated timer while it boots, and be wrong for the life of a template if
 * this host is busy then: 362 MHz in place of 2,596 were seen, and a clock that ran seven times too fast. Here both ends
 * of the interval are the closest of many readings of counter and clock, so that nobody else's turn on the CPU matters.
 */
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define TRIES 200
#define INTERVAL_US 100000

struct reading {
	uint64_t counter;
	uint64_t ns;
	uint64_t width; /* of the counter, around the clock's */
};

static uint64_t counter(void)
{
#if defined(__x86_64__) || defined(__i386__)
	return __builtin_ia32_rdtsc();
#else
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC_RAW, &now); /* cannot fail */
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
#endif
}

static struct reading best_reading(void)
{
	struct reading best = { .width = UINT64_MAX };

	for (int i = 0; i < TRIES; i++) {
		struct timespec now;
		uint64_t before = counter(), width;

		(void)clock_gettime(CLOCK_MONOTONIC_RAW, &now); /* cannot fail */
		width = counter() - before;
		if (width < best.width)
			best = (struct reading){
				.counter = before + width / 2,
				.ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec,
				.width = width,
			};
	}
	return best;
}

int main(void)
{
	struct reading from = best_reading(), to;

	if (usleep(INTERVAL_US) != 0)
		return 1;
	to = best_reading();
	return printf("%.0f\n", (double)(to.counter - from.counter) * 1e6 / (double)(to.ns - from.ns)) < 0;
}
