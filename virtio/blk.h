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
	const char *id;	    /* name in messages, and the default serial; kept */
	const char *path;   /* image or block device */
	const char *serial; /* or NULL; at most 20 bytes */
	bool read_only;
	bool direct;		 /* O_DIRECT: past the host's page cache; not with overlay */
	bool overlay;		 /* writes go to a layer that ends with the drive */
	uint64_t overlay_size;	 /* the layer's bytes; 0: as the drive */
	const char *overlay_dir; /* where it is; NULL: in memory */
	const char *base;	 /* or NULL: a layer of a snapshot, under the new one and over the image */
	struct ratelimit_params bandwidth, ops; /* zeroed: no limit */
	bool cut;	/* a size that is no multiple of a sector is rounded down, not refused */
	bool unsafe;	/* no syncs and no FLUSH: a crash of the host may lose what was written */
	bool kept;	/* the image is in mayfly's cache (image_identify_kept) */
	bool lenient;	/* a restore takes an image of the snapshot's size that is another, or has changed; it warns */
	bool any_image; /* a restore takes another image than that of the snapshot, because the user has named it */
};

/*
 * Opens the drive and adds its file to loop, which does not run yet. Its size, in whole
 * sectors of 512 bytes, is fixed here. Returns 0 or -errno with e set.
 */
int blk_new(struct virtio_dev **ret, const struct blk_params *params, struct loop *loop, const struct mem *mem,
	    struct err *e);

/*
 * Exchanges the image for that at path, and reports its size to the guest. path NULL, or
 * that of the present image: only looks at its size again. Waits for all requests under
 * way, and syncs the old image. An exchange needs a loop of LOOP_EXCHANGEABLE. Not on the
 * loop's thread, one call at a time. Returns 0, or -errno with e set and the drive
 * unchanged: -EBUSY if those requests are of more than 128 MiB, -EIO if the old image has
 * lost data.
 */
int blk_update(struct virtio_dev *dev, const char *path, struct err *e);

/*
 * Whether a write to its layer has failed. The guest may not know: Linux reports an I/O
 * error to a program that syncs, and there is no need to sync what is lost in any case.
 * Any thread.
 */
bool blk_has_lost(struct virtio_dev *dev);

/*
 * Snapshots: what does not fit into the state. On any thread, with the drive quiet (mmio_quiet).
 *
 * blk_has_layer: it has an overlay, and the guest has written to it.
 *
 * blk_write_layer writes the layer of such a drive, together with the layer below that the
 * drive was restored with, into fd, an empty file, as docs/snapshot-format.md describes it: `disks/ID`.
 * The caller syncs it. Returns 0 or -errno with e set.
 *
 * blk_image_fd is the image of a drive without an overlay, for the caller to copy and to sync.
 * blk_identify notes what it is now, since the guest has written to it, before mmio_save. Returns 0 or
 * -errno.
 */
bool blk_has_layer(struct virtio_dev *dev);
int blk_write_layer(struct virtio_dev *dev, int fd, struct err *e);
int blk_image_fd(struct virtio_dev *dev);
int blk_identify(struct virtio_dev *dev);

/*
 * Changes the limits of a drive (throttle_set). Any thread but the loop's.
 */
void blk_set_limits(struct virtio_dev *dev, const struct ratelimit_params *bandwidth,
		    const struct ratelimit_params *ops);

#endif
