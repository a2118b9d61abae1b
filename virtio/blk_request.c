/*
 * The life of a request of a drive (virtio 1.2 §5.2.6). blk.c takes it from the queue; a backend
 * (blk_backend.h) does the steps that it consists of.
 *
 *	STAGE_IO	in as many steps as it takes
 *	STAGE_SYNC	a flush from the start; a write of a driver without FLUSH, after STAGE_IO
 *
 * Stable writes (§5.2.6.2). A flush covers the writes that were completed before the driver made
 * it available. The kernel has those when fdatasync starts, so requests in flight need no order.
 * For a driver that has not accepted FLUSH, a write must be stable when it completes. A drive
 * with cache=unsafe syncs nothing.
 *
 * A sync that fails. The kernel reports lost data once and marks the pages clean: the next
 * fdatasync would succeed. So every later flush fails, and every write of a driver without FLUSH,
 * until a reset, after which the driver begins with what the image has.
 *
 * An error of the host (ENOSPC, EIO, the end of a file that was truncated) is an IOERR for the
 * guest, and a warning at most once a minute.
 *
 * All on the loop's thread.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "virtio/blk_priv.h"
#include "virtio/mmio.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define BLK_RETRIES_MAX 64 /* of one operation that moves nothing, e.g. because of EAGAIN or EINTR */

static void blk_done(struct op *op, int res);

/* A head is in flight at most once (virtq_pop), so there is a free slot, whatever the driver does. */
struct blk_slot *blk_slot_take(struct blk *b)
{
	struct blk_slot *slot;

	if (b->num_free > 0)
		return &b->slots[b->free[--b->num_free]];
	assert(b->num_touched < BLK_SLOTS);
	slot = &b->slots[b->num_touched++];
	slot->blk = b;
	slot->op.done = blk_done;
	return slot;
}

void blk_slot_give(struct blk *b, const struct blk_slot *slot)
{
	assert(b->num_free < b->num_touched);
	assert(!slot->in_flight);
	b->free[b->num_free++] = (uint16_t)(slot - b->slots);
}

/* The request is answered: status goes to the driver, the slot is free again. */
static void blk_finish(struct blk_slot *slot, uint8_t status)
{
	struct blk *b = slot->blk;
	uint64_t len = slot->in_done;

	*slot->status = status;
	if (status == VIRTIO_BLK_S_OK && slot->type == VIRTIO_BLK_T_IN)
		dev_count(&b->dev, DEV_TO_GUEST, 1, len);
	else if (status == VIRTIO_BLK_S_OK && slot->type == VIRTIO_BLK_T_OUT)
		dev_count(&b->dev, DEV_FROM_GUEST, 1, slot->chain.out_len - sizeof(struct virtio_blk_outhdr));
	/* §2.7.8.2: len counts from the start. The status byte counts only if all before it was written. */
	if (len == slot->in_len - 1)
		len = slot->in_len;
	virtq_push(&b->dev.vq[0], slot->chain.head, (uint32_t)MF_MIN(len, UINT32_MAX));
	blk_slot_give(b, slot);
	mmio_used(&b->dev, 0);
}

/* A guest can repeat a request that fails, and reset the drive in between. */
static enum log_level blk_level(struct blk *b, enum blk_fault fault)
{
	uint64_t now_ns = loop_timers(b->dev.loop)->now_ns;

	if (now_ns < b->quiet_until_ns[fault])
		return LOG_LEVEL_DEBUG;
	b->quiet_until_ns[fault] = now_ns + BLK_QUIET_NS;
	return LOG_LEVEL_WARN;
}

static void blk_warn(struct blk *b, const struct blk_slot *slot, int res)
{
	static const char *const verb[] = { "read", "write", "discard" };
	enum blk_fault fault = blk_is_trim(slot)	      ? FAULT_TRIM :
			       slot->type == VIRTIO_BLK_T_OUT ? FAULT_WRITE :
								FAULT_READ;

	if (fault != FAULT_READ && slot->type != VIRTIO_BLK_T_DISCARD && b->backend->keeps_image)
		atomic_store(&b->lost, true);
	log_at(blk_level(b, fault), "drive '%s': %s at byte %" PRIu64 ": %s; continuing, the guest sees an I/O error",
	       b->dev.id, verb[fault], slot->offset, res == -ENODATA ? "end of file" : loop_strerror(res));
}

/* A sync that the kernel did not even start has lost nothing. */
void blk_sync_failed(struct blk *b, int res)
{
	bool lost = res != -EAGAIN && res != -EINTR && res != -ECANCELED;

	log_at(blk_level(b, lost ? FAULT_SYNC : FAULT_NO_SYNC), "drive '%s': sync: %s; continuing, %s", b->dev.id,
	       loop_strerror(res),
	       lost ? "but writes may be lost: every flush fails until the guest resets the drive" :
		      "the guest sees an I/O error");
	b->sync_failed = b->sync_failed || lost;
}

/* No warning if the driver has another way. */
static void blk_fail(struct blk_slot *slot, int res)
{
	if (res == -EOPNOTSUPP && blk_is_trim(slot)) {
		blk_finish(slot, VIRTIO_BLK_S_UNSUPP);
		return;
	}
	if (slot->stage == STAGE_SYNC)
		blk_sync_failed(slot->blk, res);
	else
		blk_warn(slot->blk, slot, res);
	blk_finish(slot, VIRTIO_BLK_S_IOERR);
}

/* Whether more bytes may be started in this turn of the loop. */
static bool blk_turn_has_room(struct blk *b)
{
	uint64_t turn = loop_this_turn(b->dev.loop);

	if (turn != b->turn) {
		b->turn = turn;
		b->turn_left = BLK_TURN_BYTES;
	}
	return b->turn_left > 0;
}

/* Starts the slot's next step, or fails the request. False: there is no room for it now. */
static bool blk_submit(struct blk_slot *slot)
{
	struct blk *b = slot->blk;
	bool moves = slot->stage == STAGE_IO && !blk_is_trim(slot);
	int r = !moves || blk_turn_has_room(b) ? b->backend->start(slot) : BLK_NO_ROOM;

	if (r < 0) {
		blk_fail(slot, r);
	} else if (r == BLK_STARTED) {
		slot->in_flight = true;
		b->in_flight++;
		b->num_trims += slot->stage == STAGE_IO && !moves;
	} else if (r == BLK_WAITS) {
		STAILQ_INSERT_TAIL(&b->waiting, slot, next_waiting);
	}
	return r != BLK_NO_ROOM;
}

/* The same for a request under way, which waits for room. */
static void blk_submit_or_wait(struct blk_slot *slot)
{
	struct blk *b = slot->blk;

	if (blk_submit(slot))
		return;
	STAILQ_INSERT_TAIL(&b->waiting, slot, next_waiting);
	loop_defer(b->dev.loop, &b->retry);
}

void blk_resume(struct blk *b)
{
	struct blk_slots list = STAILQ_HEAD_INITIALIZER(list);
	struct blk_slot *slot;

	STAILQ_CONCAT(&list, &b->waiting);
	while ((slot = STAILQ_FIRST(&list))) {
		STAILQ_REMOVE_HEAD(&list, next_waiting); /* first: it may have to wait again */
		if (!blk_submit(slot)) {
			STAILQ_INSERT_HEAD(&list, slot, next_waiting);
			STAILQ_CONCAT(&b->waiting, &list);
			loop_defer(b->dev.loop, &b->retry);
		}
	}
}

/* All steps of slot are done, but for a sync if the driver cannot ask for one. */
static void blk_done_all(struct blk_slot *slot)
{
	const struct blk *b = slot->blk;
	bool writes = slot->type == VIRTIO_BLK_T_OUT || slot->type == VIRTIO_BLK_T_WRITE_ZEROES;
	bool sync = slot->stage == STAGE_IO && writes && b->sync && !(b->dev.features & 1ULL << VIRTIO_BLK_F_FLUSH);

	if (!sync || b->sync_failed) {
		blk_finish(slot, sync ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
		return;
	}
	slot->stage = STAGE_SYNC;
	blk_submit_or_wait(slot);
}

/* Drops the first n bytes of what is still to move. */
static void blk_slot_advance(struct blk_slot *slot, uint64_t n)
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

/* A step has ended: on with the rest, or to the answer. */
static void blk_step_done(struct blk_slot *slot, int res)
{
	const struct blk_backend *backend = slot->blk->backend;
	uint64_t moved = 0;
	int err = backend->end(slot, res, &moved);

	slot->retries = moved > 0 ? 0 : slot->retries + 1;
	if (!err && slot->retries > BLK_RETRIES_MAX)
		err = backend->end(slot, -EIO, &moved);
	if (err < 0) {
		blk_fail(slot, err);
		return;
	}
	slot->offset += moved;
	slot->left -= moved;
	if (!blk_is_trim(slot))
		blk_slot_advance(slot, moved);
	if (slot->type == VIRTIO_BLK_T_IN)
		slot->in_done += moved;
	if (slot->left > 0)
		blk_submit_or_wait(slot);
	else
		blk_done_all(slot);
}

static void blk_done(struct op *op, int res)
{
	struct blk_slot *slot = MF_CONTAINER_OF(op, struct blk_slot, op);
	struct blk *b = slot->blk;

	slot->in_flight = false;
	b->in_flight--;
	b->num_trims -= slot->stage == STAGE_IO && blk_is_trim(slot);
	if (!b->active)
		return; /* reset has taken back all slots, and the queue is no longer ours */
	if ((res == -EAGAIN || res == -EINTR) && slot->retries++ < BLK_RETRIES_MAX)
		blk_submit_or_wait(slot);
	else if (slot->stage == STAGE_IO)
		blk_step_done(slot, res);
	else if (res < 0)
		blk_fail(slot, res);
	else
		blk_finish(slot, VIRTIO_BLK_S_OK);
	if (!STAILQ_EMPTY(&b->waiting))
		blk_resume(b);
}

static bool blk_range_valid(const struct blk *b, uint64_t sector, uint64_t len)
{
	return len % IMAGE_SECTOR_SIZE == 0 && mf_range_within(sector, len / IMAGE_SECTOR_SIZE, b->image.sectors);
}

#define START (-1) /* beside the status that a request may be answered with at once */

static int blk_prepare_io(struct blk_slot *slot, uint64_t sector)
{
	struct blk *b = slot->blk;
	struct virtq_chain *c = &slot->chain;
	bool out = slot->type == VIRTIO_BLK_T_OUT;

	slot->left = out ? c->out_len - sizeof(struct virtio_blk_outhdr) : c->in_len - 1;
	if ((out && b->read_only) || !blk_range_valid(b, sector, slot->left))
		return VIRTIO_BLK_S_IOERR;
	slot->offset = sector * IMAGE_SECTOR_SIZE;
	slot->iov_at = out ? 0 : c->num_out;
	slot->iovs = out ? c->num_out : c->num_in;
	if (out)
		blk_slot_advance(slot, sizeof(struct virtio_blk_outhdr));
	else if (--c->iov[slot->iov_at + slot->iovs - 1].iov_len == 0) /* the status byte is not data */
		slot->iovs--;
	return slot->left ? START : VIRTIO_BLK_S_OK;
}

/* The layout in guest memory. A trim has one range (max_discard_seg); other requests have data there. */
struct blk_request {
	struct virtio_blk_outhdr header;
	struct virtio_blk_discard_write_zeroes range;
};

_Static_assert(sizeof(struct blk_request) == 32, "virtio 1.2 §5.2.6");

static int blk_prepare_trim(struct blk_slot *slot, const struct virtio_blk_discard_write_zeroes *range)
{
	struct blk *b = slot->blk;
	bool zeroes = slot->type == VIRTIO_BLK_T_WRITE_ZEROES;
	bool unmap = range->flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;

	if (slot->chain.out_len != sizeof(struct blk_request) || b->read_only)
		return VIRTIO_BLK_S_IOERR;
	if (range->flags & ~(zeroes ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0U))
		return VIRTIO_BLK_S_UNSUPP;
	slot->left = (uint64_t)range->num_sectors * IMAGE_SECTOR_SIZE;
	if (range->num_sectors > (zeroes ? BLK_ZEROES_SECTORS_MAX : BLK_DISCARD_SECTORS_MAX) ||
	    !blk_range_valid(b, range->sector, slot->left))
		return VIRTIO_BLK_S_IOERR;
	slot->offset = range->sector * IMAGE_SECTOR_SIZE;
	slot->zero_range = zeroes && !unmap;
	return slot->left ? START : VIRTIO_BLK_S_OK;
}

static int blk_prepare_flush(struct blk_slot *slot)
{
	const struct blk *b = slot->blk;

	slot->stage = STAGE_SYNC;
	slot->offset = 0;
	if (!b->sync)
		return VIRTIO_BLK_S_OK;
	return b->sync_failed ? VIRTIO_BLK_S_IOERR : START;
}

/* Decides what becomes of a request: START, or the status that answers it. */
static int blk_prepare(struct blk_slot *slot, const struct blk_request *r)
{
	const struct blk *b = slot->blk;

	switch (slot->type) {
	case VIRTIO_BLK_T_IN:
	case VIRTIO_BLK_T_OUT:
		return blk_prepare_io(slot, r->header.sector);
	case VIRTIO_BLK_T_FLUSH:
		return blk_prepare_flush(slot);
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return blk_prepare_trim(slot, &r->range);
	case VIRTIO_BLK_T_GET_ID:
		slot->in_done = virtq_copy_in(&slot->chain, 0, b->serial, MF_MIN(sizeof(b->serial), slot->in_len - 1));
		return VIRTIO_BLK_S_OK;
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
}

/* The bytes that count for the limit: of reads and writes, zeros included, even if they fail. */
static uint64_t blk_tokens(const struct blk_slot *slot, const struct blk_request *r)
{
	switch (slot->type) {
	case VIRTIO_BLK_T_IN:
		return slot->chain.in_len - 1;
	case VIRTIO_BLK_T_OUT:
		return slot->chain.out_len - sizeof(struct virtio_blk_outhdr);
	case VIRTIO_BLK_T_WRITE_ZEROES: /* more is refused */
		return (uint64_t)MF_MIN(r->range.num_sectors, BLK_ZEROES_SECTORS_MAX) * IMAGE_SECTOR_SIZE;
	default:
		return 0;
	}
}

bool blk_begin(struct blk_slot *slot)
{
	struct blk *b = slot->blk;
	const struct virtq_chain *c = &slot->chain;
	const struct iovec *last = &c->iov[c->num_out + c->num_in - 1];
	struct blk_request r = { .range.num_sectors = 0 };
	uint64_t tokens;
	int status;

	slot->status = (uint8_t *)last->iov_base + last->iov_len - 1;
	slot->in_len = c->in_len;
	slot->in_done = 0;
	slot->retries = 0;
	slot->cut_len = 0;
	slot->bounce = false;
	slot->stage = STAGE_IO;
	if (virtq_copy_out(c, 0, &r, sizeof(r)) < sizeof(r.header)) {
		blk_finish(slot, VIRTIO_BLK_S_IOERR);
		return true;
	}
	slot->type = r.header.type;
	tokens = blk_tokens(slot, &r);
	if (!throttle_may(&b->throttle, tokens))
		return false;
	status = blk_prepare(slot, &r);
	if (status != START) {
		blk_finish(slot, (uint8_t)status);
	} else if (!blk_submit(slot)) {
		loop_defer(b->dev.loop, &b->retry);
		return false;
	}
	throttle_charge(&b->throttle, tokens);
	return true;
}
