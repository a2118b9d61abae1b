/*
 * Firecracker's boot timer: a page of MMIO, to which the guest writes a magic byte when it has
 * booted. The first one is reported with the time since the VM's construction began.
 */
#ifndef MF_PLATFORM_BOOT_TIMER_H
#define MF_PLATFORM_BOOT_TIMER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define BOOT_TIMER_GPA 0xc0000000ULL /* as in Firecracker */
#define BOOT_TIMER_LEN 0x1000U
#define BOOT_TIMER_MAGIC 123 /* a byte, at offset 0 */

struct boot_timer {
	uint64_t wall_ns, cpu_ns; /* at the beginning: CLOCK_MONOTONIC, and the time of the process */
	atomic_bool done;
};

/* Starts it. */
void boot_timer_start(struct boot_timer *t);

/* A bus_handler with ctx = a struct boot_timer, at offset 0 of the page. vCPU threads. Reads 0. */
void boot_timer_access(void *ctx, uint64_t offset, bool is_write, uint8_t *data, unsigned len);

#endif
