/*
 * What a drive is: how it is made, and what it tells the driver about itself (virtio 1.2 §5.2.4). See blk.h.
 *
 * All on the set-up thread but for blk_config_read, which runs on vCPU threads.
 */
#define MF_LOG_MODULE "blk"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "virtio/blk_state.h"
#include "virtio/overlay.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define BLK_SLOTS_SIZE (sizeof(struct blk_slot) * BLK_SLOTS)

#define BIT(n) (1ULL << (n))

/* Of discards, in sectors: 4 KiB, what file systems keep books on. Others are done, too. */
#define BLK_DISCARD_ALIGN 8

void blk_config_read(struct virtio_dev *dev, uint32_t offset, void *buf, uint32_t len)
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

void blk_free(struct virtio_dev *dev)
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
		.timer.fire = blk_tokens_came,
	};
	ratelimit_set(&b->limit, &params->bandwidth, &params->ops, timers_clock_ns());
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

struct blk_limits {
	struct blk *b;
	const struct ratelimit_params *bandwidth, *ops;
};

static int blk_set_limits_call(void *arg)
{
	const struct blk_limits *l = arg;
	struct timers *timers = loop_timers(l->b->dev.loop);

	ratelimit_set(&l->b->limit, l->bandwidth, l->ops, timers->now_ns);
	if (l->b->timer.set) {
		timer_cancel(timers, &l->b->timer);
		loop_defer(l->b->dev.loop, &l->b->retry);
	}
	return 0;
}

void blk_set_limits(struct virtio_dev *dev, const struct ratelimit_params *bandwidth,
		    const struct ratelimit_params *ops)
{
	struct blk_limits l = { .b = to_blk(dev), .bandwidth = bandwidth, .ops = ops };

	(void)loop_call(dev->loop, blk_set_limits_call, &l); /* returns 0 */
}
