/*
 * A drive in a snapshot; see device.h.
 *
 * Quiet. The queue is paused, so requests that were not begun stay there, also those that wait for
 * the throttle. Requests under way go on to their end, step by step, because their data may be half
 * written.
 *
 * What a drive keeps beside its queue: that it has lost data (flushes fail until a reset), its size,
 * which a new image may change, which file its image was, and the tokens of its throttle.
 */
#include "virtio/blk_priv.h"
#include "virtio/mmio.h"
#include "vmm/base/log.h"
#include "vmm/core/state.h"

int blk_quiet(struct virtio_dev *dev)
{
	const struct blk *b = to_blk(dev);

	return b->in_flight > 0 || !STAILQ_EMPTY(&b->waiting);
}

void blk_save(struct virtio_dev *dev, struct state_out *out)
{
	struct blk *b = to_blk(dev);
	const struct image_identity *id = &b->image.identity;

	state_put_u8(out, b->read_only);
	state_put_u8(out, b->sync_failed);
	state_put_u8(out, atomic_load(&b->lost));
	state_put_u8(out, blk_has_layer(dev));
	state_put_u64(out, b->image.sectors);
	state_put_u64(out, id->inode);
	state_put_u64(out, id->size);
	state_put_u64(out, id->mtime_ns);
	state_put_u64(out, id->ctime_ns);
	throttle_save(&b->throttle, out);
}

static bool get_bool(struct state_in *in, const char *why)
{
	uint8_t value = state_get_u8(in);

	if (value > 1)
		state_refuse(in, why);
	return value == 1;
}

void blk_restore(struct virtio_dev *dev, struct state_in *in)
{
	struct blk *b = to_blk(dev);
	struct image_identity id;
	uint64_t sectors;

	if (get_bool(in, "read-only") != b->read_only)
		state_refuse(in, b->read_only ? "it was writable, and is read-only now" :
						"it was read-only, and is writable now");
	b->sync_failed = get_bool(in, "sync failed");
	atomic_store(&b->lost, get_bool(in, "data lost"));
	if (get_bool(in, "layer") && !b->has_base && !b->any_image)
		state_refuse(in, "its layer is missing");
	sectors = state_get_u64(in);
	id.inode = state_get_u64(in);
	id.size = state_get_u64(in);
	id.mtime_ns = state_get_u64(in);
	id.ctime_ns = state_get_u64(in);
	if (!b->any_image && !image_is_same(&id, &b->image.identity) && b->lenient && sectors == b->image.sectors)
		log_warn("drive '%s': its image has changed since the snapshot, or is another file; continuing",
			 dev->id);
	else if (!b->any_image && !image_is_same(&id, &b->image.identity))
		state_refuse(in,
			     "its image has changed since the snapshot, or is another file: name a copy with -d, or take "
			     "it with --stop");
	throttle_restore(&b->throttle, in);
	if (!in->why && sectors != b->image.sectors)
		mmio_config_changed(dev);
}

int blk_image_fd(struct virtio_dev *dev)
{
	return to_blk(dev)->image.fd;
}

int blk_identify(struct virtio_dev *dev)
{
	struct image *image = &to_blk(dev)->image;

	return image_identify(&image->identity, image->fd, image->sectors * IMAGE_SECTOR_SIZE);
}
