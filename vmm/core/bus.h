/*
 * An address space of devices: from an address to the handler that owns it. Filled before the VM runs, then read only,
 * so that any vCPU may look up without a lock. Two of them exist: ports and MMIO.
 */
#ifndef MF_CORE_BUS_H
#define MF_CORE_BUS_H

#include <stdbool.h>
#include <stdint.h>

#define BUS_RANGES_MAX 48

/*
 * An access of len bytes (1, 2, 4 or 8) at offset from the range's start, wholly inside the range. On a read the handler
 * fills data, which comes as all ones; it may leave it so. Called on vCPU threads, several at once.
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

/* Does the access. False when no range holds all of it: reads then give all ones, writes go nowhere. */
bool bus_access(const struct bus *bus, uint64_t addr, bool is_write, uint8_t *data, unsigned len);

#endif
