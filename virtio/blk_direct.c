/*
 * A file or block device behind a drive, past the host's page cache; see blk_backend.h.
 *
 * O_DIRECT wants offsets and lengths in units of image.dio_offset, and addresses in units of
 * image.dio_mem. A guest's requests come in sectors of 512 bytes at any address. Those that fit
 * go to the file as they are (blk_file.c); the others go through a bounce buffer, one for each
 * drive. The buffers of Linux are aligned, so they are rare.
 *
 *	read                    read the units that hold it -> copy
 *	write of whole units    copy -> write
 *	write of parts of units read the units -> copy -> write
 *
 * Between its read and its write, the third must be alone with its units, or it would undo what
 * other requests write to their other sectors. There is one buffer, so no other such write is
 * under way. Every other write and every trim that touches the units waits until the buffer is
 * free (BLK_WAITS); and before the third takes the buffer, it waits for those in flight.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "virtio/blk_priv.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"

#define BOUNCE_SIZE (64U << 10)

struct direct {
	uint8_t buf[BOUNCE_SIZE]; /* the bounce buffer; first, for the mapping's alignment */
	struct blk_slot *owner;
	uint64_t start;	    /* in the drive: of the units in the buffer, */
	uint32_t len, have; /* their bytes, and how many of them are read; */
	uint32_t skip, n;   /* n of them, after skip, are the request's */
	bool writing;
	bool merges; /* the owner writes a part of these units: nobody else may meanwhile */
};

static bool bounce_needed(const struct blk_slot *slot)
{
	const struct image *image = &slot->blk->image;
	const struct iovec *iov = &slot->chain.iov[slot->iov_at];

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

/* Is slot's request one that writes to units which the owner of the buffer is about to write? */
static bool must_wait(const struct blk_slot *slot)
{
	const struct direct *d = slot->blk->store;

	return d->owner && d->owner != slot && d->merges && slot->type != VIRTIO_BLK_T_IN &&
	       blk_touches(slot, d->start, d->len);
}

/* Gives the buffer to slot, for as many of its units as fit. */
static void bounce_take(struct blk_slot *slot)
{
	struct direct *d = slot->blk->store;
	uint64_t unit = slot->blk->image.dio_offset;
	uint64_t end = mf_align_up(slot->offset + slot->left, unit);
	bool out = slot->type == VIRTIO_BLK_T_OUT;

	d->owner = slot;
	d->start = mf_align_down(slot->offset, unit);
	d->len = (uint32_t)MF_MIN(end - d->start, BOUNCE_SIZE);
	d->skip = (uint32_t)(slot->offset - d->start);
	d->n = (uint32_t)MF_MIN(slot->left, d->len - d->skip);
	d->have = 0;
	d->writing = out && d->n == d->len;
	d->merges = out && d->n < d->len;
	if (d->writing)
		bounce_copy(slot, d->buf, d->n);
}

static int bounce_start(struct blk_slot *slot)
{
	struct direct *d = slot->blk->store;
	struct blk *b = slot->blk;
	bool is_new = !d->owner, started;
	uint32_t at;

	if (d->owner && d->owner != slot)
		return BLK_WAITS;
	if (is_new)
		bounce_take(slot);
	if (is_new && d->merges && blk_overlaps(slot, d->start, d->len, true)) {
		d->owner = NULL;
		return BLK_WAITS;
	}
	at = d->writing ? 0 : d->have;
	started = d->writing ? loop_write(b->dev.loop, &slot->op, b->file, d->buf, d->len, d->start) :
			       loop_read(b->dev.loop, &slot->op, b->file, d->buf + at, d->len - at, d->start + at);
	if (started)
		blk_turn_take(b, d->len - at);
	else if (is_new)
		d->owner = NULL; /* it may go back to its queue; between read and write, it keeps the buffer */
	return started;
}

static int direct_start(struct blk_slot *slot)
{
	if (slot->stage == STAGE_SYNC)
		return blk_file_start(slot);
	if (must_wait(slot))
		return BLK_WAITS;
	return blk_is_trim(slot) || !bounce_needed(slot) ? blk_file_start(slot) : bounce_start(slot);
}

/* The units of a write are read: the buffer becomes what is to be written. */
static void bounce_merge(struct blk_slot *slot)
{
	struct direct *d = slot->blk->store;

	/* If the file was cut short meanwhile, the write extends it with zeros. */
	memset(d->buf + d->have, 0, d->len - d->have);
	bounce_copy(slot, d->buf + d->skip, d->n);
	d->writing = true;
}

/*
 * res more bytes of the units are read. True: enough for the request to move on. Otherwise the
 * rest is to be read, from an offset where direct I/O may begin; without progress, that ends
 * when the retries do.
 */
static bool bounce_read(struct blk_slot *slot, uint32_t res)
{
	struct direct *d = slot->blk->store;
	uint32_t total = d->have + res;
	uint32_t next = (uint32_t)mf_align_down(total, slot->blk->image.dio_offset);

	if (next > d->have)
		slot->retries = 0;
	if (slot->type == VIRTIO_BLK_T_IN && total > d->skip) {
		d->have = total;
		return true;
	}
	d->have = next;
	if (slot->type == VIRTIO_BLK_T_OUT && (res == 0 || d->have == d->len))
		bounce_merge(slot);
	return false;
}

/* The owner's step has ended. If the buffer is needed no more, it is free. */
static int bounce_end(struct blk_slot *slot, int res, uint64_t *ret_moved)
{
	struct direct *d = slot->blk->store;
	bool out = slot->type == VIRTIO_BLK_T_OUT;
	uint32_t upto = (uint32_t)res;

	/* 0 bytes: the file has become shorter. More bytes than asked for do not happen. */
	if ((res == 0 && (!out || d->writing)) || res > (int)(d->len - (d->writing ? 0 : d->have)))
		res = -ENODATA;
	if (res >= 0 && !d->writing) {
		if (!bounce_read(slot, (uint32_t)res)) {
			*ret_moved = 0;
			return 0;
		}
		upto = d->have;
	}
	d->owner = NULL;
	if (res < 0)
		return res;
	*ret_moved = MF_MIN(upto - MF_MIN(upto, d->skip), d->n);
	if (!out)
		bounce_copy(slot, d->buf + d->skip, *ret_moved);
	return 0;
}

static int direct_end(struct blk_slot *slot, int res, uint64_t *ret_moved)
{
	struct direct *d = slot->blk->store;
	int r = d->owner == slot ? bounce_end(slot, res, ret_moved) : blk_file_end(slot, res, ret_moved);

	if (r == -EINVAL && d->owner != slot && !slot->bounce && !blk_is_trim(slot)) {
		slot->bounce = true; /* the file needs larger units than statx(2) said */
		*ret_moved = 0;
		r = 0;
	}
	return r;
}

static void direct_close(struct blk *b)
{
	if (b->store)
		munmap(b->store, sizeof(struct direct));
}

static int direct_open(struct blk *b, const struct blk_params *params, struct err *e)
{
	/* The pages of the buffer are touched only if it is needed. */
	void *map = mmap(NULL, sizeof(struct direct), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)params; /* none concerns it */
	if (map == MAP_FAILED)
		return err_sys(e, "map its bounce buffer");
	b->store = map;
	return 0;
}

const struct blk_backend blk_direct = {
	.open = direct_open,
	.close = direct_close,
	.start = direct_start,
	.end = direct_end,
};
