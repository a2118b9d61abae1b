/* Firecracker's boot timer; see boot_timer.h. */
#include "vmm/platform/boot_timer.h"

#include <string.h>
#include <time.h>

#include "vmm/base/clock.h"
#include "vmm/base/log.h"

/* Of all threads of the process. */
static uint64_t cpu_now_ns(void)
{
	struct timespec now = { 0 };

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now); /* cannot fail */
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void boot_timer_start(struct boot_timer *t)
{
	*t = (struct boot_timer){ .wall_ns = clock_now_ns(), .cpu_ns = cpu_now_ns() };
}

void boot_timer_access(void *ctx, uint64_t offset, bool is_write, uint8_t *data, unsigned len)
{
	struct boot_timer *t = ctx;
	unsigned long long wall, cpu;

	if (!is_write) {
		memset(data, 0, len);
		return;
	}
	/* A guest could write it at will, so only the first one is logged. */
	if (offset != 0 || len != 1 || *data != BOOT_TIMER_MAGIC || atomic_exchange(&t->done, true))
		return;
	wall = (clock_now_ns() - t->wall_ns) / 1000;
	cpu = (cpu_now_ns() - t->cpu_ns) / 1000;
	log_info("Guest-boot-time = %6llu us %llu ms, %6llu CPU us %llu CPU ms", wall, wall / 1000, cpu, cpu / 1000);
}
