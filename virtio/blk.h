/* virtio-blk (virtio 1.2 §5.2): one drive on a file or block device. */
#ifndef MF_VIRTIO_BLK_H
#define MF_VIRTIO_BLK_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/ratelimit.h"

struct err;
struct loop;
struct mem;
struct virtio_dev;

struct blk_params {
	const char *id;	    /* name in messages and, unless serial is set, what GET_ID answers; kept */
	const char *path;   /* image or block device */
	const char *serial; /* or NULL; at most 20 bytes */
	bool read_only;
	bool direct;		 /* O_DIRECT: past the host's page cache; not with overlay */
	bool overlay;		 /* the image is only read, writes go to a layer that ends with the drive */
	uint64_t overlay_size;	 /* bytes it holds at most; 0: the drive's size */
	const char *overlay_dir; /* where it is; NULL: in memory */
	struct ratelimit_params bandwidth, ops; /* of reads and writes, and of all requests; zeroed: no limit */
	bool unsafe; /* nothing is made stable: no FLUSH, and a crash of the host may lose what was written */
};

/*
 * Opens the drive and adds its file to loop, which does not run yet. The size is fixed here: whole sectors of 512 bytes.
 * Returns 0 or -errno with e set.
 */
int blk_new(struct virtio_dev **ret, const struct blk_params *params, struct loop *loop, const struct mem *mem,
	    struct err *e);

/*
 * Gives the drive the image at path, and tells the guest its size. path NULL, or that of the image it has: looks at its
 * size anew. Waits for all requests that were begun, and syncs what the old image has. The loop is of
 * LOOP_EXCHANGEABLE, but for a mere change of size. Not on the loop's thread, and one call at a time. Returns 0, or
 * -errno with e set and the drive as it was: -EBUSY when those requests are of more than 128 MiB, -EIO when the old image
 * has lost data.
 */
int blk_update(struct virtio_dev *dev, const char *path, struct err *e);

/*
 * Sets the rate limiter of a drive anew, each bucket whose params are not NULL. While the loop runs, not on its thread.
 */
void blk_set_limits(struct virtio_dev *dev, const struct ratelimit_params *bandwidth,
		    const struct ratelimit_params *ops);

#endif
