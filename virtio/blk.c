/*
 * virtio-blk (virtio 1.2 §5.2): the queue of a drive. See blk.h; blk_request.c is the life of a request.
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
 * When the ring is full, or as many bytes are begun as one turn of the loop may, a new request goes back to the queue
 * (virtq_unpop), one under way waits in the list b->waiting.
 *
 * Rate limiter. Tokens are asked for before a request begins and taken when it has. If there are none the request goes
 * back to the queue, and while the timer for it is set nothing is looked at there.
 *
 * All on the loop's thread.
 */
#include <errno.h>
#include <linux/virtio_ids.h>

#include "virtio/blk_state.h"
#include "virtio/mmio.h"
#include "vmm/base/util.h"

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
		case BEGUN_NOT_ROOM:
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

bool blk_resume(struct blk *b)
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

static void blk_turn_begin(struct blk *b, uint64_t now_ns)
{
	b->turn_ns = now_ns;
	b->turn_left = BLK_TURN_BYTES;
	b->turn_over = false;
}

bool blk_turn_has_room(struct blk *b)
{
	uint64_t now_ns = loop_timers(b->dev.loop)->now_ns;

	if (now_ns != b->turn_ns)
		blk_turn_begin(b, now_ns);
	return b->turn_left > 0;
}

/* The task: there was no room, or the queue was too long for one turn. */
void blk_retry(struct task *task)
{
	struct blk *b = MF_CONTAINER_OF(task, struct blk, retry);

	if (!blk_turn_has_room(b)) {
		if (!b->turn_over) { /* this is still the turn in which the bytes were begun */
			b->turn_over = true;
			loop_defer(b->dev.loop, &b->retry);
			return;
		}
		blk_turn_begin(b, b->turn_ns);
	}
	if (!blk_resume(b))
		loop_defer(b->dev.loop, &b->retry);
	else if (b->active && !b->timer.set)
		blk_run(b);
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
	b->sync_failed = false;
	blk_turn_begin(b, 0);
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
		if (b->slots[i].in_flight)
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
