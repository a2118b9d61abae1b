/*
 * Requests that direct I/O cannot do as they are; see blk_state.h.
 *
 * O_DIRECT wants offset and lengths in units of image.dio_offset and addresses in units of image.dio_mem. Guests' requests
 * come in sectors of 512 bytes at any address. Where that is not enough they go through a buffer, one per drive: Linux'
 * buffers are aligned, so this is rare. Whoever finds it taken waits in a line.
 *
 *	read                    read the units that hold it -> copy
 *	write of whole units    copy -> write
 *	write of parts of units read the units -> copy -> write
 *
 * There being one buffer, writes to parts of one unit never overtake each other between read and write. A write of whole
 * units may, but then the driver has two writes to the same sectors in flight, and may get either.
 */
#include <errno.h>
#include <string.h>

#include "virtio/blk_state.h"
#include "vmm/base/util.h"

bool blk_bounce_needed(const struct blk_slot *slot)
{
	const struct image *image = &slot->blk->image;
	const struct iovec *iov = &slot->chain.iov[slot->iov_at];

	if (!image->dio_offset)
		return false;
	if (slot->bounce || (slot->offset | slot->left) % image->dio_offset)
		return true;
	for (unsigned i = 0; i < slot->iovs; i++)
		if ((uintptr_t)iov[i].iov_base % image->dio_mem || iov[i].iov_len % image->dio_offset)
			return true;
	return false;
}

/* Copies between the first n bytes of what is still to move and buf. */
static void bounce_copy(const struct blk_slot *slot, uint8_t *buf, uint64_t n)
{
	for (const struct iovec *iov = &slot->chain.iov[slot->iov_at]; n > 0; iov++) {
		size_t part = MF_MIN(n, iov->iov_len);

		if (slot->type == VIRTIO_BLK_T_OUT)
			memcpy(buf, iov->iov_base, part);
		else
			memcpy(iov->iov_base, buf, part);
		buf += part;
		n -= part;
	}
}

static void bounce_wait(struct blk_slot *slot)
{
	struct blk_slot **end = &slot->blk->bounce.line;

	while (*end)
		end = &(*end)->next_waiting;
	slot->next_waiting = NULL;
	*end = slot;
}

void blk_bounce_release(struct blk *b)
{
	struct blk_slot *next = b->bounce.line;

	b->bounce.owner = NULL;
	if (!next)
		return;
	b->bounce.line = next->next_waiting;
	blk_submit_or_wait(next);
}

/* The buffer is slot's: it is for the units from bounce.start to bounce.end, of which n bytes are the request's. */
static void bounce_take(struct blk_slot *slot)
{
	struct blk *b = slot->blk;
	struct blk_bounce *bounce = &b->bounce;
	uint64_t unit = b->image.dio_offset;
	uint64_t start = mf_align_down(slot->offset, unit), end = mf_align_up(slot->offset + slot->left, unit);

	bounce->owner = slot;
	bounce->start = start;
	bounce->len = (uint32_t)MF_MIN(end - start, BLK_BOUNCE_SIZE);
	bounce->skip = (uint32_t)(slot->offset - start);
	bounce->n = (uint32_t)MF_MIN(slot->left, bounce->len - bounce->skip);
	bounce->have = 0;
	bounce->writing = false;
	if (slot->type == VIRTIO_BLK_T_OUT && bounce->n == bounce->len) {
		bounce_copy(slot, bounce->buf, bounce->n);
		bounce->writing = true;
	}
}

int blk_bounce_start(struct blk_slot *slot)
{
	struct blk *b = slot->blk;
	struct blk_bounce *bounce = &b->bounce;

	if (bounce->owner && bounce->owner != slot) {
		bounce_wait(slot);
		return BLK_STEP_WAITS;
	}
	if (!bounce->owner)
		bounce_take(slot);
	if (bounce->writing ? loop_write(b->dev.loop, &slot->op, b->file, bounce->buf, bounce->len, bounce->start) :
			      loop_read(b->dev.loop, &slot->op, b->file, bounce->buf + bounce->have,
					bounce->len - bounce->have, bounce->start + bounce->have))
		return BLK_STEP_STARTED;
	/* A new request goes back to its queue, and forgets; what is between read and write keeps the buffer. */
	if (!bounce->writing && !bounce->have)
		bounce->owner = NULL;
	return BLK_STEP_RING_FULL;
}

/* The units of a write are read: the buffer becomes what is to be written. */
static void bounce_merge(struct blk_slot *slot)
{
	struct blk_bounce *bounce = &slot->blk->bounce;

	/* What is no more there, in a file cut short while running, is written anew. */
	memset(bounce->buf + bounce->have, 0, bounce->len - bounce->have);
	bounce_copy(slot, bounce->buf + bounce->skip, bounce->n);
	bounce->writing = true;
}

/*
 * Some of the units are read, res bytes more than before. True: enough for the request to move on. Otherwise the rest is
 * read, from a place where direct I/O may begin; without progress that ends when the retries do.
 */
static bool bounce_read(struct blk_slot *slot, uint32_t res)
{
	struct blk_bounce *bounce = &slot->blk->bounce;
	uint32_t total = bounce->have + res;
	uint32_t next = (uint32_t)mf_align_down(total, slot->blk->image.dio_offset);

	if (next > bounce->have)
		slot->retries = 0;
	if (slot->type == VIRTIO_BLK_T_IN && total > bounce->skip) {
		bounce->have = total;
		return true;
	}
	bounce->have = next;
	if (slot->type == VIRTIO_BLK_T_IN)
		return false;
	if (res == 0 || bounce->have == bounce->len)
		bounce_merge(slot);
	return false;
}

int blk_bounce_end(struct blk_slot *slot, int res, uint64_t *ret_moved)
{
	struct blk *b = slot->blk;
	struct blk_bounce *bounce = &b->bounce;
	bool out = slot->type == VIRTIO_BLK_T_OUT;
	uint32_t upto = bounce->len;

	/* 0 bytes: the end of a file that is shorter than it was; more bytes than asked for do not happen. */
	if ((res == 0 && (!out || bounce->writing)) || res > (int)(bounce->len - (bounce->writing ? 0 : bounce->have)))
		res = -ENODATA;
	if (res >= 0 && bounce->writing)
		upto = (uint32_t)res;
	if (res >= 0 && !bounce->writing) {
		if (!bounce_read(slot, (uint32_t)res)) {
			*ret_moved = 0;
			return 0;
		}
		upto = bounce->have;
	}
	if (res >= 0) {
		*ret_moved = MF_MIN(upto - MF_MIN(upto, bounce->skip), bounce->n);
		if (!out)
			bounce_copy(slot, bounce->buf + bounce->skip, *ret_moved);
	}
	blk_bounce_release(b);
	return MF_MIN(res, 0);
}
