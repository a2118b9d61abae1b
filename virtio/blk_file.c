/*
 * The ring operations that a request of a drive consists of; see blk_priv.h. A step that moved less than it could is
 * followed by one for the rest, so each kind of step need only find the next part that one operation can do.
 *
 * Discard and write zeroes (virtio 1.2 §5.2.6) are fallocate, which knows block devices, too. What a file system or
 * device does not have (EOPNOTSUPP; EINVAL for a range that is not of whole blocks of a device) is tried the next way:
 *
 *	DISCARD                 punch a hole, or nothing: it is a hint
 *	WRITE_ZEROES, unmap     punch a hole, zero the range, or UNSUPP: the driver then writes zeros
 *	WRITE_ZEROES            zero the range, or UNSUPP
 *	on an overlay           punch a hole in its file, which makes the sectors its own
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>

#include "virtio/blk_priv.h"
#include "virtio/overlay.h"
#include "vmm/base/util.h"

void blk_slot_advance(struct blk_slot *slot, uint64_t n)
{
	while (n > 0 && slot->iovs > 0) {
		struct iovec *iov = &slot->chain.iov[slot->iov_at];
		size_t part = MF_MIN(n, iov->iov_len);

		iov->iov_base = (char *)iov->iov_base + part;
		iov->iov_len -= part;
		n -= part;
		if (iov->iov_len == 0) {
			slot->iov_at++;
			slot->iovs--;
		}
	}
}

static bool is_within(const struct blk_slot *slot, uint64_t offset, uint64_t len)
{
	return slot->offset < offset + len && offset < slot->offset + slot->left;
}

bool blk_overlaps(const struct blk_slot *slot, uint64_t offset, uint64_t len, bool trims)
{
	const struct blk *b = slot->blk;

	for (unsigned i = 0; i < b->num_touched; i++) {
		const struct blk_slot *other = &b->slots[i];

		if (other != slot && other->in_flight && other->stage == STAGE_IO && is_within(other, offset, len) &&
		    (other->type == VIRTIO_BLK_T_OUT || (trims && blk_is_trim(other))))
			return true;
	}
	return false;
}

/*
 * Room in an overlay is given back when the hole is there, and only if no write to the range was in flight at any time
 * between: it could have landed in the hole. A trim that fails, or that a reset cuts off, gives nothing back: its pages
 * stay counted.
 */
static int step_trim(struct blk_slot *slot)
{
	struct blk *b = slot->blk;
	int mode = slot->zero_range ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE;
	int file = b->overlay ? b->overlay_file : b->file;

	if (!loop_fallocate(b->dev.loop, &slot->op, file, mode | FALLOC_FL_KEEP_SIZE, slot->offset, slot->left))
		return BLK_STEP_NO_ROOM;
	slot->crossed = b->overlay && blk_overlaps(slot, slot->offset, slot->left, false);
	b->num_trims++;
	return BLK_STEP_STARTED;
}

static void cross_trims(const struct blk_slot *writer)
{
	struct blk *b = writer->blk;

	for (unsigned i = 0; b->num_trims && i < b->num_touched; i++) {
		struct blk_slot *other = &b->slots[i];

		if (other->in_flight && blk_is_trim(other) && is_within(other, writer->offset, writer->left))
			other->crossed = true;
	}
}

/* Cuts what is still to move down to its first n bytes, until slot_uncut. */
static unsigned slot_cut(struct blk_slot *slot, uint64_t n)
{
	struct iovec *iov = &slot->chain.iov[slot->iov_at];
	unsigned num = 0;

	for (;; num++) {
		if (iov[num].iov_len >= n)
			break;
		n -= iov[num].iov_len;
	}
	slot->cut = slot->iov_at + num;
	slot->cut_len = iov[num].iov_len;
	iov[num].iov_len = n;
	return num + 1;
}

static void slot_uncut(struct blk_slot *slot)
{
	if (slot->cut_len)
		slot->chain.iov[slot->cut].iov_len = slot->cut_len;
	slot->cut_len = 0;
}

static int step_data(struct blk_slot *slot, int file, uint64_t most)
{
	struct blk *b = slot->blk;
	struct loop *loop = b->dev.loop;
	const struct iovec *iov = &slot->chain.iov[slot->iov_at];
	uint32_t len = (uint32_t)MF_MIN(most, BLK_STEP_BYTES);
	unsigned num = len < slot->left ? slot_cut(slot, len) : slot->iovs;
	bool started = slot->type == VIRTIO_BLK_T_OUT ? loop_writev(loop, &slot->op, file, iov, num, slot->offset) :
							loop_readv(loop, &slot->op, file, iov, num, slot->offset);

	if (started) {
		b->turn_left -= MF_MIN(len, b->turn_left);
		return BLK_STEP_STARTED;
	}
	slot_uncut(slot);
	return BLK_STEP_NO_ROOM;
}

/* A write goes to the layer; a read, as far as the sectors are in the same file. */
static int step_overlay(struct blk_slot *slot)
{
	struct blk *b = slot->blk;
	uint64_t sector = slot->offset / IMAGE_SECTOR_SIZE, inside = slot->offset % IMAGE_SECTOR_SIZE, run;
	bool own;
	int r;

	if (slot->type == VIRTIO_BLK_T_OUT) {
		r = overlay_reserve(b->overlay, slot->offset, slot->left);
		if (r < 0)
			return r;
		cross_trims(slot);
		return step_data(slot, b->overlay_file, slot->left);
	}
	run = overlay_run(b->overlay, sector, (inside + slot->left) / IMAGE_SECTOR_SIZE, &own);
	return step_data(slot, own ? b->overlay_file : b->file, run * IMAGE_SECTOR_SIZE - inside);
}

int blk_step_start(struct blk_slot *slot)
{
	struct blk *b = slot->blk;

	slot_uncut(slot); /* the step before may have to be done again */
	if (slot->stage == STAGE_SYNC)
		return loop_fsync(b->dev.loop, &slot->op, b->file, true) ? BLK_STEP_STARTED : BLK_STEP_NO_ROOM;
	if (blk_writes(slot) && blk_bounce_waits(slot))
		return BLK_STEP_WAITS;
	if (blk_is_trim(slot))
		return step_trim(slot);
	if (!blk_turn_has_room(b))
		return BLK_STEP_NO_ROOM;
	if (b->overlay)
		return step_overlay(slot);
	return blk_bounce_needed(slot) ? blk_bounce_start(slot) : step_data(slot, b->file, slot->left);
}

static int trim_end(struct blk_slot *slot, int res, uint64_t *ret_moved)
{
	bool unsupported = res == -EOPNOTSUPP || res == -EINVAL;
	bool hint = slot->type == VIRTIO_BLK_T_DISCARD;
	struct overlay *o = slot->blk->overlay;

	if (o && res >= 0) { /* a hole, which is read as zeros, not what the image has there */
		overlay_written(o, slot->offset, slot->left);
		if (!slot->crossed)
			overlay_release(o, slot->offset, slot->left);
	}
	if (unsupported && !hint) {
		if (slot->zero_range || o)
			return -EOPNOTSUPP;
		slot->zero_range = true;
		*ret_moved = 0;
		return 0;
	}
	if (res < 0 && !unsupported)
		return res;
	*ret_moved = slot->left;
	return 0;
}

int blk_step_end(struct blk_slot *slot, int res, uint64_t *ret_moved)
{
	if (slot->stage == STAGE_IO && blk_is_trim(slot))
		return trim_end(slot, res, ret_moved);
	slot_uncut(slot);
	if (slot->stage == STAGE_IO && slot->blk->bounce.owner == slot)
		return blk_bounce_end(slot, res, ret_moved);
	if (res == -EINVAL && slot->stage == STAGE_IO && slot->blk->bounce.buf) {
		slot->bounce = true; /* more is wanted than statx(2) said */
		*ret_moved = 0;
		return 0;
	}
	if (res < 0)
		return res;
	/* 0 bytes: the end of a file that is shorter than it was; more bytes than asked for do not happen. */
	if (slot->stage == STAGE_IO && (res == 0 || (uint64_t)res > slot->left))
		return -ENODATA;
	if (slot->blk->overlay && slot->type == VIRTIO_BLK_T_OUT)
		overlay_written(slot->blk->overlay, slot->offset, (uint64_t)res);
	*ret_moved = (uint64_t)res;
	return 0;
}

void blk_step_abandon(struct blk_slot *slot)
{
	struct blk *b = slot->blk;

	if (b->bounce.owner == slot)
		blk_bounce_release(b);
}
