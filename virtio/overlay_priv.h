/* Private to the books of a layer (overlay.c) and to their copy in a snapshot (overlay_disk.c). */
#ifndef MF_VIRTIO_OVERLAY_PRIV_H
#define MF_VIRTIO_OVERLAY_PRIV_H

#include <stddef.h>
#include <stdint.h>

#include "virtio/overlay.h"
#include "vmm/base/util.h"

#define OVERLAY_PAGE_BITS (8U * MF_PAGE_SIZE) /* sectors that a page of own describes */

struct overlay {
	int fd;
	uint64_t sectors;
	uint64_t max_pages, num_pages; /* allowed, and taken, in the file */
	uint64_t *own;		       /* a bit per sector: it is in the file */
	uint64_t *page;		       /* a bit per page of the file: counted in num_pages */
	uint64_t *touched;	       /* a bit per page of own: it was written */
	void *map;		       /* all three */
	size_t map_size;
};

/* Maps the tables of o->sectors, all zero. Returns 0 or -errno with e set. */
int overlay_map(struct overlay *o, struct err *e);

#endif
