/*
 * virtio-blk (virtio 1.2 §5.2): the queue of a drive. See blk.h; blk_request.c is the life of a request.
 *
 * Theory of operation. A request is a header (type, sector) that the device reads, data, and one status byte, the last
 * one that the device writes. The driver may cut that into descriptors as it likes (§2.7.4.3), so the header is
 * collected with virtq_copy_out and the status byte is found from the end.
 *
 *   blk_kick -> blk_run: virtq_pop into a free slot -> blk_begin: decide -> blk_submit: blk_step_start (blk_file.c)
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
#define MF_LOG_MODULE "blk"
#include "virtio/blk.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <string.h>
#include <sys/mman.h>

#include "virtio/blk_priv.h"
#include "virtio/mmio.h"
#include "virtio/overlay.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define BLK_SLOTS_SIZE (sizeof(struct blk_slot) * BLK_SLOTS)

#define BIT(n) (1ULL << (n))

/* Of discards, in sectors: 4 KiB, what file systems keep books on. Others are done, too. */
#define BLK_DISCARD_ALIGN 8

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

	if (b->paused || b->throttle.timer.set)
		return; /* blk_unpause or blk_tokens_came comes back */
	virtq_disable_notify(q);
	for (unsigned budget = VIRTQ_SIZE_MAX; budget > 0; budget--) {
		enum blk_next next = blk_run_one(b);

		if (next == NEXT_STOP || (next == NEXT_EMPTY && !virtq_enable_notify(q)))
			return;
	}
	/* A driver that adds requests as fast as they are answered must not keep the loop from its other devices. */
	loop_defer(b->dev.loop, &b->retry);
}

static void blk_tokens_came(struct timer *timer)
{
	blk_run(MF_CONTAINER_OF(timer, struct blk, throttle.timer));
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
static void blk_retry(struct task *task)
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
	else if (b->active)
		blk_run(b);
}

static void blk_kick(struct virtio_dev *dev, unsigned index)
{
	(void)index; /* there is one queue */
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
	throttle_cancel(&b->throttle);
	for (unsigned i = 0; i < b->num_touched; i++) {
		if (b->slots[i].in_flight)
			loop_cancel(dev->loop, &b->slots[i].op);
	}
	loop_drain(dev->loop, &b->in_flight);
}

/* ---- What a drive is ---- */

static void blk_config_read(struct virtio_dev *dev, uint32_t offset, void *buf, uint32_t len)
{
	const struct blk *b = to_blk(dev);
	const struct virtio_blk_config config = {
		.capacity = __atomic_load_n(&b->image.sectors, __ATOMIC_RELAXED), /* pairs with blk_exchange */
		.seg_max = BLK_SEG_MAX,
		.blk_size = IMAGE_SECTOR_SIZE,
		.max_discard_sectors = BLK_DISCARD_SECTORS_MAX,
		.max_discard_seg = 1,
		.discard_sector_alignment = BLK_DISCARD_ALIGN,
		.max_write_zeroes_sectors = BLK_ZEROES_SECTORS_MAX,
		.max_write_zeroes_seg = 1,
		.write_zeroes_may_unmap = 1,
	};

	memcpy(buf, (const char *)&config + offset, len);
}

static void blk_free(struct virtio_dev *dev)
{
	struct blk *b = to_blk(dev);

	if (b->slots)
		munmap(b->slots, BLK_SLOTS_SIZE);
	if (b->bounce.buf)
		munmap(b->bounce.buf, BLK_BOUNCE_SIZE);
	overlay_free(b->overlay);
	image_close(b->image.fd);
	free(b);
}

static int blk_map_slots(struct blk *b, struct err *e)
{
	void *map = mmap(NULL, BLK_SLOTS_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		return err_sys(e, "map its requests");
	b->slots = map;
	/* A hint: a huge page would cost what the untouched slots save. A kernel without huge pages refuses, rightly. */
	(void)madvise(map, BLK_SLOTS_SIZE, MADV_NOHUGEPAGE);
	return 0;
}

static int blk_map_bounce(struct blk *b, struct err *e)
{
	void *map = mmap(NULL, BLK_BOUNCE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		return err_sys(e, "map its bounce buffer");
	b->bounce.buf = map;
	return 0;
}

static uint64_t blk_features(const struct blk *b)
{
	uint64_t features = BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_BLK_SIZE);

	if (b->sync)
		features |= BIT(VIRTIO_BLK_F_FLUSH);
	if (b->read_only)
		return features | BIT(VIRTIO_BLK_F_RO);
	return features | BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES);
}

static int blk_build(struct blk *b, const struct blk_params *params, struct err *e)
{
	const char *serial = params->serial ? params->serial : params->id;
	int err;

	if (params->serial && strlen(params->serial) > sizeof(b->serial))
		return err_set(e, -EINVAL, "the serial has more than %zu bytes", sizeof(b->serial));
	/* §5.2.6.1: padded with zeros, and without a terminator when all 20 bytes are used. A longer id is cut. */
	memcpy(b->serial, serial, strnlen(serial, sizeof(b->serial)));
	err = image_open(&b->image, params->path, params->read_only || params->overlay, params->direct, e);
	if (!err && params->overlay)
		err = overlay_new(&b->overlay, b->image.sectors, params->overlay_size, params->overlay_dir, e);
	if (!err)
		err = blk_map_slots(b, e);
	if (!err && params->direct)
		err = blk_map_bounce(b, e);
	if (err < 0)
		return err;
	b->dev.offered = blk_features(b);
	b->file = loop_add_file(b->dev.loop, b->image.fd);
	if (b->overlay && b->file >= 0)
		b->overlay_file = loop_add_file(b->dev.loop, overlay_fd(b->overlay));
	err = MF_MIN(b->file, b->overlay_file);
	return err < 0 ? err_set(e, err, "its loop has too many files") : 0;
}

static const struct virtio_ops blk_ops;

int blk_new(struct virtio_dev **ret, const struct blk_params *params, struct loop *loop, const struct mem *mem,
	    struct err *e)
{
	struct blk *b = malloc(sizeof(*b));

	if (!b)
		return err_set(e, -ENOMEM, "drive '%s': out of memory", params->id);
	*b = (struct blk){
		.dev.ops = &blk_ops,
		.dev.loop = loop,
		.dev.mem = mem,
		.dev.id = params->id,
		.image.fd = -1,
		.read_only = params->read_only,
		.sync = !params->unsafe && !params->overlay,
		.retry.run = blk_retry,
	};
	throttle_init(&b->throttle, loop, blk_tokens_came, &params->bandwidth, &params->ops);
	if (blk_build(b, params, e) < 0) {
		err_wrap(e, "drive '%s'", params->id);
		blk_free(&b->dev);
		return e->code;
	}
	if (b->image.sectors == 0)
		log_warn("drive '%s': '%s' is empty; continuing with a drive of no sectors", params->id, params->path);
	*ret = &b->dev;
	return 0;
}

void blk_set_limits(struct virtio_dev *dev, const struct ratelimit_params *bandwidth,
		    const struct ratelimit_params *ops)
{
	throttle_set(&to_blk(dev)->throttle, bandwidth, ops);
}

static const struct virtio_ops blk_ops = {
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
