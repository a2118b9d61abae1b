/*
 * An address space of devices: maps an address to the handler that owns it. It is filled
 * before the VM runs and constant afterwards, so that any vCPU may look up without a
 * lock. There are two: ports and MMIO.
 */
#ifndef MF_CORE_BUS_H
#define MF_CORE_BUS_H

#include <stdbool.h>
#include <stdint.h>

#define BUS_RANGES_MAX 48

/*
 * An access of len bytes (1, 2, 4 or 8) at offset from the range's start, wholly inside
 * the range. On a read the handler fills data, which is preset to all ones. Called on
 * vCPU threads, possibly on several at once.
 */
typedef void bus_handler(void *ctx, uint64_t offset, bool is_write, uint8_t *data, unsigned len);

struct bus_range {
	uint64_t start;
	uint64_t len;
	bus_handler *handler;
	void *ctx;
};

struct bus {
	struct bus_range range[BUS_RANGES_MAX]; /* sorted by start, not overlapping */
	unsigned num;
};

/* Adds a range. Returns 0, -ENOSPC, or -EEXIST when it overlaps another. */
int bus_add(struct bus *bus, uint64_t start, uint64_t len, bus_handler *handler, void *ctx);

/*
 * Performs the access. Returns false if no range contains all of it: such a read gives
 * all ones, and a write is ignored.
 */
bool bus_access(const struct bus *bus, uint64_t addr, bool is_write, uint8_t *data, unsigned len);

#endif
