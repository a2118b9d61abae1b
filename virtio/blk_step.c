/*
 * The ring operations that a request of a drive consists of; see blk_state.h. A step that moved less than it could is
 * followed by one for the rest, so each kind of step need only find the next part that one operation can do.
 *
 * Discard and write zeroes (virtio 1.2 §5.2.6) are fallocate, which knows block devices, too. What a file system or
 * device does not have (EOPNOTSUPP; EINVAL for a range that is not of whole blocks of a device) is tried the next way:
 *
 *	DISCARD                 punch a hole, or nothing: it is a hint
 *	WRITE_ZEROES, unmap     punch a hole, zero the range, or UNSUPP: the driver then writes zeros
 *	WRITE_ZEROES            zero the range, or UNSUPP
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>

#include "virtio/blk_state.h"
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

static bool step_trim(struct blk_slot *slot)
{
	struct blk *b = slot->blk;
	int mode = slot->zero_range ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE;

	return loop_fallocate(b->dev.loop, &slot->op, b->file, mode | FALLOC_FL_KEEP_SIZE, slot->offset, slot->left);
}

static bool step_data(struct blk_slot *slot)
{
	struct blk *b = slot->blk;
	const struct iovec *iov = &slot->chain.iov[slot->iov_at];

	if (slot->type == VIRTIO_BLK_T_OUT)
		return loop_writev(b->dev.loop, &slot->op, b->file, iov, slot->iovs, slot->offset);
	return loop_readv(b->dev.loop, &slot->op, b->file, iov, slot->iovs, slot->offset);
}

int blk_step_start(struct blk_slot *slot)
{
	struct blk *b = slot->blk;

	if (slot->stage == STAGE_SYNC)
		return loop_fsync(b->dev.loop, &slot->op, b->file, true);
	return blk_is_trim(slot) ? step_trim(slot) : step_data(slot);
}

static int trim_end(struct blk_slot *slot, int res, uint64_t *ret_moved)
{
	bool unsupported = res == -EOPNOTSUPP || res == -EINVAL;
	bool hint = slot->type == VIRTIO_BLK_T_DISCARD;

	if (unsupported && !hint) {
		if (slot->zero_range)
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
	if (res < 0)
		return res;
	/* 0 bytes: the end of a file that is shorter than it was; more bytes than asked for do not happen. */
	if (slot->stage == STAGE_IO && (res == 0 || (uint64_t)res > slot->left))
		return -ENODATA;
	*ret_moved = (uint64_t)res;
	return 0;
}
