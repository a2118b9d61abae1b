/*
 * A layer of writes over an image; see blk_backend.h, and overlay.h for its books. A write goes
 * to the layer's file, a read to the file that has its sectors, as far as that is the same one: the
 * layer's, that of a snapshot's layer, or the image.
 * A trim punches a hole in the layer's file and makes the sectors the layer's own: they read as
 * zeros, not as what the image has there.
 *
 * The layer gets the room of a trim back when the hole is there, and only if no write to the
 * range was in flight meanwhile, which could have landed in the hole. A trim that fails, or that
 * a reset cuts off, gives nothing back.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>

#include "virtio/blk_priv.h"
#include "virtio/overlay.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"

struct layer {
	struct overlay *overlay;
	struct overlay *base; /* a snapshot's layer, or NULL */
	int file, base_file;  /* theirs */
};

static void cross_trims(const struct blk_slot *writer)
{
	struct blk *b = writer->blk;

	for (unsigned i = 0; b->num_trims && i < b->num_touched; i++) {
		struct blk_slot *other = &b->slots[i];

		if (other->in_flight && blk_is_trim(other) && blk_touches(other, writer->offset, writer->left))
			other->crossed = true;
	}
}

/* The file that has the data of sector, and of *run sectors from there on, which is shortened. */
static int layer_find(const struct blk *b, uint64_t sector, uint64_t *run)
{
	const struct layer *l = b->store;
	bool own;

	*run = overlay_run(l->overlay, sector, *run, &own);
	if (own)
		return l->file;
	if (l->base)
		*run = overlay_run(l->base, sector, *run, &own);
	return own ? l->base_file : b->file;
}

static int layer_start(struct blk_slot *slot)
{
	const struct layer *l = slot->blk->store;
	uint64_t sector = slot->offset / IMAGE_SECTOR_SIZE, inside = slot->offset % IMAGE_SECTOR_SIZE, run;
	int r, file;

	if (blk_is_trim(slot)) {
		slot->crossed = blk_overlaps(slot, slot->offset, slot->left, false);
		return blk_file_trim(slot, l->file, FALLOC_FL_PUNCH_HOLE);
	}
	if (slot->type == VIRTIO_BLK_T_OUT) {
		r = overlay_reserve(l->overlay, slot->offset, slot->left);
		if (r < 0)
			return r;
		cross_trims(slot);
		return blk_file_move(slot, l->file, slot->left);
	}
	run = (inside + slot->left) / IMAGE_SECTOR_SIZE;
	file = layer_find(slot->blk, sector, &run);
	return blk_file_move(slot, file, run * IMAGE_SECTOR_SIZE - inside);
}

static int layer_end(struct blk_slot *slot, int res, uint64_t *ret_moved)
{
	const struct layer *l = slot->blk->store;
	int r;

	if (blk_is_trim(slot) && res >= 0) {
		overlay_written(l->overlay, slot->offset, slot->left);
		if (!slot->crossed)
			overlay_release(l->overlay, slot->offset, slot->left);
	}
	r = blk_file_end(slot, res, ret_moved);
	if (!r && slot->type == VIRTIO_BLK_T_OUT)
		overlay_written(l->overlay, slot->offset, *ret_moved);
	return r;
}

static void layer_close(struct blk *b)
{
	struct layer *l = b->store;

	if (l) {
		overlay_free(l->overlay);
		overlay_free(l->base);
	}
	free(l);
}

static int layer_open(struct blk *b, const struct blk_params *params, struct err *e)
{
	struct layer *l = b->store = calloc(1, sizeof(*l));

	if (!l)
		return err_set(e, -ENOMEM, "out of memory");
	if (overlay_new(&l->overlay, b->image.sectors, params->overlay_size, params->overlay_dir, e) < 0)
		return e->code;
	l->file = blk_file_add(b, overlay_fd(l->overlay), false, e);
	if (l->file < 0 || !params->base)
		return MF_MIN(l->file, 0);
	if (overlay_read(&l->base, params->base, b->image.sectors, e) < 0)
		return e->code;
	l->base_file = blk_file_add(b, overlay_fd(l->base), false, e);
	return MF_MIN(l->base_file, 0);
}

bool blk_has_layer(struct virtio_dev *dev)
{
	const struct layer *l = to_blk(dev)->backend == &blk_overlay ? to_blk(dev)->store : NULL;

	return l && (l->base || !overlay_is_empty(l->overlay));
}

int blk_write_layer(struct virtio_dev *dev, int fd, struct err *e)
{
	const struct layer *l = to_blk(dev)->store;

	return overlay_write(l->overlay, l->base, fd, e) < 0 ? err_wrap(e, "drive '%s'", dev->id) : 0;
}

const struct blk_backend blk_overlay = {
	.keeps_image = true,
	.open = layer_open,
	.close = layer_close,
	.start = layer_start,
	.end = layer_end,
};
