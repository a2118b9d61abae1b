/*
 * Requests that direct I/O cannot do as they are; see blk_priv.h.
 *
 * O_DIRECT wants offset and lengths in units of image.dio_offset and addresses in units of image.dio_mem. Guests' requests
 * come in sectors of 512 bytes at any address. Where that is not enough they go through a buffer, one per drive: Linux'
 * buffers are aligned, so this is rare. Whoever finds it taken waits in a line.
 *
 *	read                    read the units that hold it -> copy
 *	write of whole units    copy -> write
 *	write of parts of units read the units -> copy -> write
 *
 * Between its read and its write, the third must be alone with its units, or what others write to their other sectors
 * would be undone. There being one buffer, no other such write is under way. Every other write, and every trim, that
 * touches the units waits in the line until the buffer is free; and before it takes the buffer, it waits for those in
 * flight. Whoever waits is woken when the buffer is free, or when a write ends, and looks again.
 */
#include <errno.h>
#include <string.h>

#include "virtio/blk_priv.h"
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

bool blk_bounce_waits(struct blk_slot *slot)
{
	const struct blk_bounce *bounce = &slot->blk->bounce;

	if (!bounce->owner || bounce->owner == slot || !bounce->merges || bounce->start >= slot->offset + slot->left ||
	    slot->offset >= bounce->start + bounce->len)
		return false;
	bounce_wait(slot);
	return true;
}

void blk_bounce_wake(struct blk *b)
{
	struct blk_slot *slot = b->bounce.line, *next;

	b->bounce.line = NULL; /* who has to wait again gets behind those that came meanwhile */
	for (; slot; slot = next) {
		next = slot->next_waiting;
		blk_submit_or_wait(slot);
	}
}

void blk_bounce_release(struct blk *b)
{
	b->bounce.owner = NULL;
	blk_bounce_wake(b);
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
	bounce->writing = slot->type == VIRTIO_BLK_T_OUT && bounce->n == bounce->len;
	bounce->merges = slot->type == VIRTIO_BLK_T_OUT && bounce->n < bounce->len;
	if (bounce->writing)
		bounce_copy(slot, bounce->buf, bounce->n);
}

int blk_bounce_start(struct blk_slot *slot)
{
	struct blk *b = slot->blk;
	struct blk_bounce *bounce = &b->bounce;
	bool is_new = !bounce->owner;
	uint32_t len;

	if (bounce->owner && bounce->owner != slot) {
		bounce_wait(slot);
		return BLK_STEP_WAITS;
	}
	if (is_new)
		bounce_take(slot);
	if (is_new && bounce->merges && blk_overlaps(slot, bounce->start, bounce->len, true)) {
		bounce->owner = NULL;
		bounce_wait(slot);
		return BLK_STEP_WAITS;
	}
	len = bounce->len - (bounce->writing ? 0 : bounce->have);
	if (bounce->writing ? loop_write(b->dev.loop, &slot->op, b->file, bounce->buf, len, bounce->start) :
			      loop_read(b->dev.loop, &slot->op, b->file, bounce->buf + bounce->have, len,
					bounce->start + bounce->have)) {
		b->turn_left -= MF_MIN(len, b->turn_left);
		return BLK_STEP_STARTED;
	}
	/* A slot that goes back to its queue owns nothing; what is between read and write keeps the buffer. */
	if (is_new)
		bounce->owner = NULL;
	return BLK_STEP_NO_ROOM;
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
