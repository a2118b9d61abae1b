/*
 * virtio-blk (virtio 1.2 §5.2): a drive, its queue, and how it is made; see blk.h.
 *
 * Theory of operation. A request is a header (type, sector) that the device reads, data, and
 * one status byte, the last byte that the device writes. The driver may cut it into descriptors
 * as it likes (§2.7.4.3): virtq_copy_out collects the header, and the status byte is found from
 * the end.
 *
 *	down	blk_kick, blk_run, virtq_pop	this file
 *		blk_begin, blk_submit		blk_request.c: decides, and starts a step
 *		backend->start			blk_file.c, blk_overlay.c or blk_direct.c
 *		loop_readv			vmm/core/loop.c
 *	up	blk_done			blk_request.c: called by the loop
 *		backend->end			how far the step got
 *		blk_submit			the next step, or
 *		blk_finish, virtq_push		the end
 *
 * Slots. A slot holds all that one request needs until it ends; nothing is allocated for a
 * request. There are as many as a queue can have heads in flight, and one to pop into, so a free
 * one always exists. They are mapped and not touched: the free ones are a stack, so a drive that
 * has had at most n requests in flight costs about n slots of memory, of 2 KiB each.
 *
 * No room. If the ring is full, or the bytes of this turn of the loop are used up, a new request
 * goes back to the queue (virtq_unpop), and one under way to b->waiting. The task b->retry tries
 * both again in the next turn.
 *
 * Limits (throttle.h). A request begins if there are tokens for it, and takes them when it has
 * begun. Otherwise it goes back to the queue, which rests until the throttle's timer fires.
 *
 * All on the loop's thread, but for blk_config_read, which runs on vCPU threads, and set-up.
 */
#include "virtio/blk.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <string.h>
#include <sys/mman.h>

#include "virtio/blk_priv.h"
#include "virtio/mmio.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define BLK_SLOTS_SIZE (sizeof(struct blk_slot) * BLK_SLOTS)

#define BIT(n) (1ULL << (n))

/* Of discards, in sectors: 4 KiB, the block of most file systems. Others are done too. */
#define BLK_DISCARD_ALIGN 8

/* Takes and begins one request. False: there is none, or it cannot be begun now. */
static bool blk_run_one(struct blk *b)
{
	struct blk_slot *slot = blk_slot_take(b);
	struct virtq *q = &b->dev.vq[0];
	const char *why = "request without room for a status byte";
	int got = virtq_pop(q, &slot->chain, &why);
	bool valid = got > 0 && slot->chain.num_in > 0;

	if (valid && blk_begin(slot))
		return true;
	if (valid)
		virtq_unpop(q, &slot->chain);
	blk_slot_give(b, slot);
	if (!valid && got != 0)
		mmio_broken(&b->dev, why);
	return got == 0 && virtq_enable_notify(q);
}

static void blk_run(struct blk *b)
{
	if (b->paused || b->throttle.timer.set)
		return; /* blk_unpause or blk_tokens_came comes back */
	virtq_disable_notify(&b->dev.vq[0]);
	for (unsigned budget = VIRTQ_SIZE_MAX; budget > 0; budget--)
		if (!blk_run_one(b))
			return;
	/* A driver that adds requests as fast as they are answered must not starve other devices. */
	loop_defer(b->dev.loop, &b->retry);
}

static void blk_tokens_came(struct timer *timer)
{
	blk_run(MF_CONTAINER_OF(timer, struct blk, throttle.timer));
}

/* The task: there was no room, or the queue was too long for one turn. */
static void blk_retry(struct task *task)
{
	struct blk *b = MF_CONTAINER_OF(task, struct blk, retry);

	if (!b->active)
		return;
	blk_resume(b);
	blk_run(b);
}

static void blk_kick(struct virtio_dev *dev)
{
	blk_run(to_blk(dev));
}

static int blk_activate(struct virtio_dev *dev)
{
	struct blk *b = to_blk(dev);

	b->num_free = 0;
	b->sync_failed = false;
	b->turn_left = BLK_TURN_BYTES;
	/* Slots that were used before are used first: the lowest is on top. */
	for (unsigned i = b->num_touched; i > 0; i--)
		b->free[b->num_free++] = (uint16_t)(i - 1);
	b->active = true;
	return 0;
}

static void blk_reset(struct virtio_dev *dev)
{
	struct blk *b = to_blk(dev);
	uint64_t moved;

	b->active = false; /* from here on, blk_done only counts */
	throttle_cancel(&b->throttle);
	for (unsigned i = 0; i < b->num_touched; i++)
		if (b->slots[i].in_flight)
			loop_cancel(dev->loop, &b->slots[i].op);
	loop_drain(dev->loop, &b->in_flight);
	STAILQ_INIT(&b->waiting);
	for (unsigned i = 0; i < b->num_touched; i++)
		(void)b->backend->end(&b->slots[i], -ECANCELED, &moved); /* what it returns is that */
}

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
	if (b->backend->close)
		b->backend->close(b);
	image_close(b->image.fd);
	free(b);
}

static int blk_map_slots(struct blk *b, struct err *e)
{
	void *map = mmap(NULL, BLK_SLOTS_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		return err_sys(e, "map its requests");
	b->slots = map;
	/* A hint: a huge page would cost what untouched slots save. A kernel without them refuses. */
	(void)madvise(map, BLK_SLOTS_SIZE, MADV_NOHUGEPAGE);
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
	/* §5.2.6.1: padded with zeros, no terminator after 20 bytes. A longer id is cut. */
	memcpy(b->serial, serial, strnlen(serial, sizeof(b->serial)));
	err = image_open(&b->image, params->path, params->read_only || params->overlay, params->direct, params->cut, e);
	if (!err && params->kept)
		err = image_identify_kept(&b->image, e);
	if (!err)
		err = blk_map_slots(b, e);
	if (err < 0)
		return err;
	b->dev.offered = blk_features(b);
	b->file = blk_file_add(b, b->image.fd, params->direct, e);
	if (b->file < 0)
		return b->file;
	return b->backend->open ? b->backend->open(b, params, e) : 0;
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
		.backend = params->overlay ? &blk_overlay :
			   params->direct  ? &blk_direct :
					     &blk_file,
		.read_only = params->read_only,
		.any_image = params->any_image,
		.lenient = params->lenient,
		.has_base = params->base,
		.sync = !params->unsafe && !params->overlay,
		.retry.run = blk_retry,
	};
	STAILQ_INIT(&b->waiting);
	throttle_init(&b->throttle, loop, blk_tokens_came, &params->bandwidth, &params->ops);
	if (blk_build(b, params, e) < 0) {
		err_wrap(e, "drive '%s'", params->id);
		blk_free(&b->dev);
		return e->code;
	}
	if (b->image.sectors == 0 && !params->any_image)
		log_warn("drive '%s': '%s' is empty; continuing with a drive of no sectors", params->id, params->path);
	*ret = &b->dev;
	return 0;
}

bool blk_has_lost(struct virtio_dev *dev)
{
	return atomic_load(&to_blk(dev)->lost);
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
	.config_len = sizeof(struct virtio_blk_config),
	.config_read = blk_config_read,
	.activate = blk_activate,
	.kick = blk_kick,
	.reset = blk_reset,
	.quiet = blk_quiet,
	.save = blk_save,
	.restore = blk_restore,
	.free = blk_free,
};
