/*
 * virtio-blk (virtio 1.2 §5.2), the requests: the queue, and the life of a request. See blk.h.
 *
 * Theory of operation. A request is a header (type, sector) that the device reads, data, and one status byte, the last
 * one that the device writes. The driver may cut that into descriptors as it likes (§2.7.4.3), so the header is
 * collected with virtq_copy_out and the status byte is found from the end.
 *
 *   blk_kick -> blk_run: virtq_pop into a free slot -> blk_begin: decide -> blk_submit: blk_step_start (blk_step.c)
 *                 ^                                       |                     |
 *                 | task, at the end of the turn          | at once             v
 *                 +---- ring full                         +-> blk_finish <- blk_done: the rest, again, or the outcome
 *
 * Slots. A slot holds all that one request needs until its completion; nothing is allocated per request. There are as
 * many as a queue can have heads in flight, and one to pop into, so a free one always exists. They are mapped, not
 * touched: the free ones are a stack, so a drive that has had at most n requests in flight costs about n slots of
 * memory, of 2 KiB each.
 *
 * Stages of a slot: STAGE_IO (in as many steps as it takes) -> for a write without FLUSH: STAGE_SYNC -> finished. A flush
 * starts in STAGE_SYNC. When the ring is full, a new request goes back to the queue (virtq_unpop), one under way waits in
 * the list b->waiting.
 *
 * Rate limiter. Tokens are asked for before a request begins and taken when it has. If there are none the request goes
 * back to the queue, and while the timer for it is set nothing is looked at there.
 *
 * Stable writes (§5.2.6.2). A flush covers the writes that were completed, that is pushed, before it was made available;
 * the kernel has those when the fdatasync starts, so that needs no order among requests in flight. A driver that has not
 * accepted FLUSH is owed writes that are stable when completed, hence STAGE_SYNC. A drive with cache=unsafe has neither.
 *
 * What may fail: anything the host says is an IOERR for the guest (ENOSPC, EIO, the end of a file that was truncated),
 * warned of once per drive. A request without a status byte has no way to be answered: that breaks the device until the
 * guest resets it.
 *
 * All on the loop's thread.
 */
#define MF_LOG_MODULE "blk"
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_ids.h>
#include <string.h>

#include "virtio/blk_state.h"
#include "virtio/mmio.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/ring.h"

#define BLK_RETRIES_MAX 64 /* of one operation that moves nothing, e.g. because of EAGAIN or EINTR */

/* A head is in flight at most once (virtq_pop), so this never runs dry, whatever the driver does. */
static struct blk_slot *blk_slot_take(struct blk *b)
{
	if (b->num_free > 0)
		return &b->slots[b->free[--b->num_free]];
	assert(b->num_touched < BLK_SLOTS);
	return &b->slots[b->num_touched++];
}

static void blk_slot_give(struct blk *b, const struct blk_slot *slot)
{
	assert(b->num_free < b->num_touched);
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

static void blk_warn(struct blk *b, const struct blk_slot *slot, int res)
{
	const char *verb = slot->stage == STAGE_SYNC	  ? "sync" :
			   blk_is_trim(slot)		  ? "discard" :
			   slot->type == VIRTIO_BLK_T_OUT ? "write" :
							    "read";

	log_at(b->warned ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN,
	       "drive '%s': %s at byte %" PRIu64 ": %s; continuing, the guest sees an I/O error", b->dev.id, verb,
	       slot->offset, res == -ENODATA ? "end of file" : ring_strerror(res));
	b->warned = true;
}

/* The host has said no. Nothing of that is worth a word where the driver has another way. */
static void blk_fail(struct blk_slot *slot, int res)
{
	if (res == -EOPNOTSUPP && blk_is_trim(slot)) {
		blk_finish(slot, VIRTIO_BLK_S_UNSUPP);
		return;
	}
	blk_warn(slot->blk, slot, res);
	blk_finish(slot, VIRTIO_BLK_S_IOERR);
}

/* Starts the slot's next operation, or fails the request. False: the ring is full. */
static bool blk_submit(struct blk_slot *slot)
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
	return r != BLK_STEP_RING_FULL;
}

/* The same for a request under way: it waits for room in the ring. */
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

	if (slot->stage == STAGE_IO && writes && b->sync && !(b->dev.features & 1ULL << VIRTIO_BLK_F_FLUSH)) {
		slot->stage = STAGE_SYNC;
		blk_submit_or_wait(slot);
	} else {
		blk_finish(slot, VIRTIO_BLK_S_OK);
	}
}

static void blk_done(struct op *op, int res)
{
	struct blk_slot *slot = MF_CONTAINER_OF(op, struct blk_slot, op);
	struct blk *b = slot->blk;
	uint64_t moved = 0;
	int err;

	slot->in_flight = false;
	b->in_flight--;
	if (!b->active)
		return; /* reset has taken back all slots, and the queue is no longer ours */
	if ((res == -EAGAIN || res == -EINTR) && slot->retries++ < BLK_RETRIES_MAX) {
		blk_submit_or_wait(slot);
		return;
	}
	err = blk_step_end(slot, res, &moved);
	if (!err && slot->stage == STAGE_SYNC) {
		blk_finish(slot, VIRTIO_BLK_S_OK);
		return;
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

enum blk_begun { BEGUN, BEGUN_NOT_RING_FULL, BEGUN_NOT_BROKEN, BEGUN_NOT_TOKENS };

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
	return blk_submit(slot) ? BEGUN : BEGUN_NOT_RING_FULL;
}

/* One range, as the configuration space says: so there is nothing to keep but offset and length. */
static enum blk_begun blk_begin_trim(struct blk_slot *slot)
{
	struct blk *b = slot->blk;
	struct virtio_blk_discard_write_zeroes range;
	bool zeroes = slot->type == VIRTIO_BLK_T_WRITE_ZEROES;
	uint32_t allowed = zeroes ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;
	uint8_t status = VIRTIO_BLK_S_OK;

	if (slot->chain.out_len != sizeof(struct virtio_blk_outhdr) + sizeof(range) || b->read_only) {
		blk_finish(slot, VIRTIO_BLK_S_IOERR);
		return BEGUN;
	}
	virtq_copy_out(&slot->chain, sizeof(struct virtio_blk_outhdr), &range, sizeof(range));
	slot->left = (uint64_t)range.num_sectors * IMAGE_SECTOR_SIZE;
	if (range.flags & ~allowed)
		status = VIRTIO_BLK_S_UNSUPP;
	else if (range.num_sectors > (zeroes ? BLK_ZEROES_SECTORS_MAX : BLK_DISCARD_SECTORS_MAX) ||
		 !blk_range_valid(b, range.sector, slot->left))
		status = VIRTIO_BLK_S_IOERR;
	if (status != VIRTIO_BLK_S_OK || slot->left == 0) {
		blk_finish(slot, status);
		return BEGUN;
	}
	slot->offset = range.sector * IMAGE_SECTOR_SIZE;
	slot->zero_range = zeroes && !b->overlay && !(range.flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
	return blk_submit(slot) ? BEGUN : BEGUN_NOT_RING_FULL;
}

static enum blk_begun blk_begin_flush(struct blk_slot *slot)
{
	slot->stage = STAGE_SYNC;
	slot->offset = 0;
	if (slot->blk->sync)
		return blk_submit(slot) ? BEGUN : BEGUN_NOT_RING_FULL;
	blk_finish(slot, VIRTIO_BLK_S_OK);
	return BEGUN;
}

static enum blk_begun blk_begin_type(struct blk_slot *slot, uint64_t sector)
{
	const struct blk *b = slot->blk;

	switch (slot->type) {
	case VIRTIO_BLK_T_IN:
	case VIRTIO_BLK_T_OUT:
		return blk_begin_io(slot, sector);
	case VIRTIO_BLK_T_FLUSH:
		return blk_begin_flush(slot);
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return blk_begin_trim(slot);
	case VIRTIO_BLK_T_GET_ID:
		slot->in_done = virtq_copy_in(&slot->chain, 0, b->serial, MF_MIN(sizeof(b->serial), slot->in_len - 1));
		blk_finish(slot, VIRTIO_BLK_S_OK);
		return BEGUN;
	default:
		blk_finish(slot, VIRTIO_BLK_S_UNSUPP);
		return BEGUN;
	}
}

/* The bytes that the limiter counts: those of reads and writes, whatever becomes of them. */
static uint64_t blk_tokens(const struct blk_slot *slot)
{
	if (slot->type == VIRTIO_BLK_T_IN)
		return slot->chain.in_len - 1;
	return slot->type == VIRTIO_BLK_T_OUT ? slot->chain.out_len - sizeof(struct virtio_blk_outhdr) : 0;
}

/* False: the timer is set to when there will be. */
static bool blk_has_tokens(struct blk *b, uint64_t tokens)
{
	struct timers *timers = loop_timers(b->dev.loop);
	uint64_t when_ns;

	if (ratelimit_ready(&b->limit, tokens, 1, timers->now_ns, &when_ns))
		return true;
	timer_set(timers, &b->timer, when_ns);
	return false;
}

/* Decides about the request in slot->chain, which was just popped, and answers or starts it. */
static enum blk_begun blk_begin(struct blk *b, struct blk_slot *slot)
{
	const struct virtq_chain *c = &slot->chain;
	struct virtio_blk_outhdr header;
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
	if (virtq_copy_out(c, 0, &header, sizeof(header)) < sizeof(header)) {
		blk_finish(slot, VIRTIO_BLK_S_IOERR);
		return BEGUN;
	}
	slot->type = header.type;
	tokens = blk_tokens(slot);
	if (!blk_has_tokens(b, tokens))
		return BEGUN_NOT_TOKENS;
	begun = blk_begin_type(slot, header.sector);
	if (begun == BEGUN)
		ratelimit_charge(&b->limit, tokens, 1, loop_timers(b->dev.loop)->now_ns);
	return begun;
}

enum blk_next { NEXT_MORE, NEXT_EMPTY, NEXT_STOP };

/* Takes and begins one request. */
static enum blk_next blk_run_one(struct blk *b)
{
	struct blk_slot *slot = blk_slot_take(b);
	struct virtq *q = &b->dev.vq[0];
	const char *why = "request without room for a status byte";
	int got = virtq_pop(q, &slot->chain, &why);

	if (got > 0) {
		switch (blk_begin(b, slot)) {
		case BEGUN:
			return NEXT_MORE;
		case BEGUN_NOT_RING_FULL:
			loop_defer(b->dev.loop, &b->retry);
			__attribute__((fallthrough));
		case BEGUN_NOT_TOKENS:
			virtq_unpop(q, &slot->chain);
			blk_slot_give(b, slot);
			return NEXT_STOP;
		case BEGUN_NOT_BROKEN:
			got = -EPROTO;
			break;
		}
	}
	blk_slot_give(b, slot);
	if (got == 0)
		return NEXT_EMPTY;
	mmio_broken(&b->dev, why);
	return NEXT_STOP;
}

static void blk_run(struct blk *b)
{
	struct virtq *q = &b->dev.vq[0];

	if (b->paused)
		return; /* blk_unpause comes back */
	virtq_disable_notify(q);
	for (unsigned budget = VIRTQ_SIZE_MAX; budget > 0; budget--) {
		enum blk_next next = blk_run_one(b);

		if (next == NEXT_STOP || (next == NEXT_EMPTY && !virtq_enable_notify(q)))
			return;
	}
	/* A driver that adds requests as fast as they are answered must not keep the loop from its other devices. */
	loop_defer(b->dev.loop, &b->retry);
}

void blk_tokens_came(struct timer *timer)
{
	blk_run(MF_CONTAINER_OF(timer, struct blk, timer));
}

/* Goes on with what waits for room in the ring. False: there was none. */
static bool blk_resume(struct blk *b)
{
	while (b->active && b->waiting) {
		struct blk_slot *slot = b->waiting;

		b->waiting = slot->next_waiting; /* first: it may get into another list */
		if (blk_submit(slot))
			continue;
		slot->next_waiting = b->waiting;
		b->waiting = slot;
		return false;
	}
	return true;
}

/* The task: the ring had no room, or the queue was too long for one turn. */
void blk_retry(struct task *task)
{
	struct blk *b = MF_CONTAINER_OF(task, struct blk, retry);

	if (!blk_resume(b))
		loop_defer(b->dev.loop, &b->retry);
	else if (b->active && !b->timer.set)
		blk_run(b);
}

void blk_pause(struct blk *b)
{
	b->paused = true;
	do
		loop_drain(b->dev.loop, &b->in_flight);
	while (!blk_resume(b) || b->in_flight > 0);
}

void blk_unpause(struct blk *b)
{
	b->paused = false;
	loop_defer(b->dev.loop, &b->retry);
}

static void blk_kick(struct virtio_dev *dev, unsigned index)
{
	(void)index; /* there is one queue */
	if (!to_blk(dev)->timer.set)
		blk_run(to_blk(dev));
}

static int blk_activate(struct virtio_dev *dev)
{
	struct blk *b = to_blk(dev);

	b->waiting = NULL;
	b->num_free = 0;
	/* Slots in use before stay the first to be used again: stack them so that the lowest is on top. */
	for (unsigned i = b->num_touched; i > 0; i--)
		b->free[b->num_free++] = (uint16_t)(i - 1);
	b->active = true;
	return 0;
}

static void blk_reset(struct virtio_dev *dev)
{
	struct blk *b = to_blk(dev);

	b->active = false; /* from here on, blk_done only counts */
	b->bounce.owner = b->bounce.line = NULL;
	timer_cancel(loop_timers(dev->loop), &b->timer);
	for (unsigned i = 0; i < b->num_touched; i++) {
		if (!b->slots[i].in_flight)
			continue;
		blk_step_abandon(&b->slots[i]);
		loop_cancel(dev->loop, &b->slots[i].op);
	}
	loop_drain(dev->loop, &b->in_flight);
}

const struct virtio_ops blk_ops = {
	.name = "drive",
	.device_id = VIRTIO_ID_BLOCK,
	.num_queues = 1,
	.config_len = BLK_CONFIG_LEN,
	.config_read = blk_config_read,
	.activate = blk_activate,
	.kick = blk_kick,
	.reset = blk_reset,
	.free = blk_free,
};
