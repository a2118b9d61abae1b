/*
 * The life of a request of a drive (virtio 1.2 §5.2.6): see blk.c, which takes it from the queue, and blk_file.c, for the
 * operations that it consists of.
 *
 * Stages of a slot: STAGE_IO (in as many steps as it takes) -> for a write without FLUSH: STAGE_SYNC -> finished. A flush
 * starts in STAGE_SYNC.
 *
 * Stable writes (§5.2.6.2). A flush covers the writes that were completed, that is pushed, before it was made available;
 * the kernel has those when the fdatasync starts, so that needs no order among requests in flight. A driver that has not
 * accepted FLUSH is owed writes that are stable when completed, hence STAGE_SYNC. A drive with cache=unsafe has neither.
 *
 * A sync that fails. The kernel reports lost data once, and takes the pages for clean then: the next fdatasync would
 * succeed. So every flush fails from there on, and every write of a driver without FLUSH, until a reset, after which the
 * driver begins with what the image has.
 *
 * What may fail: anything the host says is an IOERR for the guest (ENOSPC, EIO, the end of a file that was truncated),
 * warned of once a minute. A request without a status byte has no way to be answered: that breaks the device until the
 * guest resets it.
 *
 * All on the loop's thread.
 */
#define MF_LOG_MODULE "blk"
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "virtio/blk_priv.h"
#include "virtio/mmio.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define BLK_RETRIES_MAX 64 /* of one operation that moves nothing, e.g. because of EAGAIN or EINTR */

/* A head is in flight at most once (virtq_pop), so this never runs dry, whatever the driver does. */
struct blk_slot *blk_slot_take(struct blk *b)
{
	if (b->num_free > 0)
		return &b->slots[b->free[--b->num_free]];
	assert(b->num_touched < BLK_SLOTS);
	return &b->slots[b->num_touched++];
}

void blk_slot_give(struct blk *b, const struct blk_slot *slot)
{
	assert(b->num_free < b->num_touched);
	assert(!slot->in_flight && b->bounce.owner != slot); /* it owns nothing any more */
	b->free[b->num_free++] = (uint16_t)(slot - b->slots);
}

/* The request is answered: status goes to the driver, the slot is free again. */
static void blk_finish(struct blk_slot *slot, uint8_t status)
{
	struct blk *b = slot->blk;
	uint64_t len = slot->in_done;

	*slot->status = status;
	/* §2.7.8.2: len counts from the start of the in part. The status byte counts only if all before it was written. */
	if (len == slot->in_len - 1)
		len = slot->in_len;
	virtq_push(&b->dev.vq[0], slot->chain.head, (uint32_t)MF_MIN(len, UINT32_MAX));
	blk_slot_give(b, slot);
	mmio_used(&b->dev, 0);
}

static void blk_done(struct op *op, int res);

/* A guest may ask for what fails as often as it likes, and reset the drive in between. */
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

	log_at(blk_level(b, fault), "drive '%s': %s at byte %" PRIu64 ": %s; continuing, the guest sees an I/O error",
	       b->dev.id, verb[fault], slot->offset, res == -ENODATA ? "end of file" : loop_strerror(res));
}

/* A sync that was not tried, for want of a thread, has lost nothing. */
void blk_sync_failed(struct blk *b, int res)
{
	bool lost = res != -EAGAIN && res != -EINTR && res != -ECANCELED;

	log_at(blk_level(b, lost ? FAULT_SYNC : FAULT_NO_SYNC), "drive '%s': sync: %s; continuing, %s", b->dev.id,
	       loop_strerror(res),
	       lost ? "but writes may be lost: every flush fails until the guest resets the drive" :
		      "the guest sees an I/O error");
	b->sync_failed = b->sync_failed || lost;
}

/* The host has said no. Nothing of that is worth a word where the driver has another way. */
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

bool blk_submit(struct blk_slot *slot)
{
	int r;

	slot->op.done = blk_done;
	r = blk_step_start(slot);
	if (r < 0)
		blk_fail(slot, r);
	if (r == BLK_STEP_STARTED) {
		slot->in_flight = true;
		slot->blk->in_flight++;
	}
	return r != BLK_STEP_NO_ROOM;
}

void blk_submit_or_wait(struct blk_slot *slot)
{
	struct blk *b = slot->blk;

	if (blk_submit(slot))
		return;
	slot->next_waiting = b->waiting;
	b->waiting = slot;
	loop_defer(b->dev.loop, &b->retry);
}

/* What slot was to do is done, but for making it stable where the driver has no way to ask for that. */
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

static void blk_done(struct op *op, int res)
{
	struct blk_slot *slot = MF_CONTAINER_OF(op, struct blk_slot, op);
	struct blk *b = slot->blk;
	uint64_t moved = 0;
	int err;

	slot->in_flight = false;
	b->in_flight--;
	b->num_trims -= slot->stage == STAGE_IO && blk_is_trim(slot);
	if (!b->active)
		return; /* reset has taken back all slots, and the queue is no longer ours */
	if (b->bounce.line && !b->bounce.owner)
		blk_bounce_wake(b);
	if ((res == -EAGAIN || res == -EINTR) && slot->retries++ < BLK_RETRIES_MAX) {
		blk_submit_or_wait(slot);
		return;
	}
	err = blk_step_end(slot, res, &moved);
	if (!err && slot->stage == STAGE_SYNC) {
		blk_finish(slot, VIRTIO_BLK_S_OK);
		return;
	}
	if (!err && moved > slot->left) {
		blk_step_abandon(slot);
		err = -EIO; /* more than was asked for: there is nowhere to count it */
	}
	slot->retries = moved > 0 ? 0 : slot->retries + 1;
	if (!err && slot->retries > BLK_RETRIES_MAX) {
		blk_step_abandon(slot);
		err = -EIO;
	}
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

static bool blk_range_valid(const struct blk *b, uint64_t sector, uint64_t len)
{
	return len % IMAGE_SECTOR_SIZE == 0 && mf_range_within(sector, len / IMAGE_SECTOR_SIZE, b->image.sectors);
}

static enum blk_begun blk_begin_io(struct blk_slot *slot, uint64_t sector)
{
	struct blk *b = slot->blk;
	struct virtq_chain *c = &slot->chain;
	bool out = slot->type == VIRTIO_BLK_T_OUT;

	slot->left = out ? c->out_len - sizeof(struct virtio_blk_outhdr) : c->in_len - 1;
	if ((out && b->read_only) || !blk_range_valid(b, sector, slot->left)) {
		blk_finish(slot, VIRTIO_BLK_S_IOERR);
		return BEGUN;
	}
	slot->offset = sector * IMAGE_SECTOR_SIZE;
	slot->iov_at = out ? 0 : c->num_out;
	slot->iovs = out ? c->num_out : c->num_in;
	if (out)
		blk_slot_advance(slot, sizeof(struct virtio_blk_outhdr));
	else if (--c->iov[slot->iov_at + slot->iovs - 1].iov_len == 0) /* the status byte is not data */
		slot->iovs--;
	if (slot->left == 0) {
		blk_finish(slot, VIRTIO_BLK_S_OK);
		return BEGUN;
	}
	return blk_submit(slot) ? BEGUN : BEGUN_NOT_ROOM;
}

/* As it stands in guest memory. A trim has one range, as the configuration space says; other requests have data there. */
struct blk_request {
	struct virtio_blk_outhdr header;
	struct virtio_blk_discard_write_zeroes range;
};

_Static_assert(sizeof(struct blk_request) == 32, "virtio 1.2 §5.2.6");

static enum blk_begun blk_begin_trim(struct blk_slot *slot, const struct virtio_blk_discard_write_zeroes *range)
{
	struct blk *b = slot->blk;
	bool zeroes = slot->type == VIRTIO_BLK_T_WRITE_ZEROES;
	uint32_t allowed = zeroes ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;
	uint8_t status = VIRTIO_BLK_S_OK;

	if (slot->chain.out_len != sizeof(struct blk_request) || b->read_only) {
		blk_finish(slot, VIRTIO_BLK_S_IOERR);
		return BEGUN;
	}
	slot->left = (uint64_t)range->num_sectors * IMAGE_SECTOR_SIZE;
	if (range->flags & ~allowed)
		status = VIRTIO_BLK_S_UNSUPP;
	else if (range->num_sectors > (zeroes ? BLK_ZEROES_SECTORS_MAX : BLK_DISCARD_SECTORS_MAX) ||
		 !blk_range_valid(b, range->sector, slot->left))
		status = VIRTIO_BLK_S_IOERR;
	if (status != VIRTIO_BLK_S_OK || slot->left == 0) {
		blk_finish(slot, status);
		return BEGUN;
	}
	slot->offset = range->sector * IMAGE_SECTOR_SIZE;
	slot->zero_range = zeroes && !b->overlay && !(range->flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
	return blk_submit(slot) ? BEGUN : BEGUN_NOT_ROOM;
}

static enum blk_begun blk_begin_flush(struct blk_slot *slot)
{
	slot->stage = STAGE_SYNC;
	slot->offset = 0;
	if (slot->blk->sync && !slot->blk->sync_failed)
		return blk_submit(slot) ? BEGUN : BEGUN_NOT_ROOM;
	blk_finish(slot, slot->blk->sync ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
	return BEGUN;
}

static enum blk_begun blk_begin_type(struct blk_slot *slot, const struct blk_request *r)
{
	const struct blk *b = slot->blk;

	switch (slot->type) {
	case VIRTIO_BLK_T_IN:
	case VIRTIO_BLK_T_OUT:
		return blk_begin_io(slot, r->header.sector);
	case VIRTIO_BLK_T_FLUSH:
		return blk_begin_flush(slot);
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return blk_begin_trim(slot, &r->range);
	case VIRTIO_BLK_T_GET_ID:
		slot->in_done = virtq_copy_in(&slot->chain, 0, b->serial, MF_MIN(sizeof(b->serial), slot->in_len - 1));
		blk_finish(slot, VIRTIO_BLK_S_OK);
		return BEGUN;
	default:
		blk_finish(slot, VIRTIO_BLK_S_UNSUPP);
		return BEGUN;
	}
}

/* The bytes that the limiter counts: those of reads and writes, zeros included, whatever becomes of them. */
static uint64_t blk_tokens(const struct blk_slot *slot, const struct blk_request *r)
{
	switch (slot->type) {
	case VIRTIO_BLK_T_IN:
		return slot->chain.in_len - 1;
	case VIRTIO_BLK_T_OUT:
		return slot->chain.out_len - sizeof(struct virtio_blk_outhdr);
	case VIRTIO_BLK_T_WRITE_ZEROES: /* of more than that nothing becomes */
		return (uint64_t)MF_MIN(r->range.num_sectors, BLK_ZEROES_SECTORS_MAX) * IMAGE_SECTOR_SIZE;
	default:
		return 0;
	}
}

enum blk_begun blk_begin(struct blk *b, struct blk_slot *slot)
{
	const struct virtq_chain *c = &slot->chain;
	struct blk_request r = { .range.num_sectors = 0 };
	const struct iovec *last;
	enum blk_begun begun;
	uint64_t tokens;

	if (c->num_in == 0)
		return BEGUN_NOT_BROKEN;
	last = &c->iov[c->num_out + c->num_in - 1];
	slot->blk = b;
	slot->status = (uint8_t *)last->iov_base + last->iov_len - 1;
	slot->in_len = c->in_len;
	slot->in_done = 0;
	slot->retries = 0;
	slot->cut_len = 0;
	slot->bounce = false;
	slot->stage = STAGE_IO;
	if (virtq_copy_out(c, 0, &r, sizeof(r)) < sizeof(r.header)) {
		blk_finish(slot, VIRTIO_BLK_S_IOERR);
		return BEGUN;
	}
	slot->type = r.header.type;
	tokens = blk_tokens(slot, &r);
	if (!throttle_may(&b->throttle, tokens))
		return BEGUN_NOT_TOKENS;
	begun = blk_begin_type(slot, &r);
	if (begun == BEGUN)
		throttle_charge(&b->throttle, tokens);
	return begun;
}
