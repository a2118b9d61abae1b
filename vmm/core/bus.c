/* From an address to the handler that owns it; see bus.h. */
#include "vmm/core/bus.h"

#include <errno.h>
#include <string.h>

int bus_add(struct bus *bus, uint64_t start, uint64_t len, bus_handler *handler, void *ctx)
{
	unsigned at = 0;

	if (bus->num == BUS_RANGES_MAX)
		return -ENOSPC;
	while (at < bus->num && bus->range[at].start < start)
		at++;
	if (at < bus->num && len > bus->range[at].start - start)
		return -EEXIST;
	if (at > 0 && start - bus->range[at - 1].start < bus->range[at - 1].len)
		return -EEXIST;
	memmove(&bus->range[at + 1], &bus->range[at], (bus->num - at) * sizeof(bus->range[0]));
	bus->range[at] = (struct bus_range){ .start = start, .len = len, .handler = handler, .ctx = ctx };
	bus->num++;
	return 0;
}

bool bus_access(const struct bus *bus, uint64_t addr, bool is_write, uint8_t *data, unsigned len)
{
	unsigned lo = 0, hi = bus->num;

	if (!is_write)
		memset(data, 0xff, len);
	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;
		const struct bus_range *r = &bus->range[mid];

		if (addr < r->start) {
			hi = mid;
		} else if (addr - r->start >= r->len) {
			lo = mid + 1;
		} else {
			if (len > r->len - (addr - r->start))
				return false;
			r->handler(r->ctx, addr - r->start, is_write, data, len);
			return true;
		}
	}
	return false;
}
