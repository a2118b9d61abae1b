/*
 * virtio-blk (virtio 1.2 §5.2): one drive on a file or block device; see blk.h.
 *
 * Theory of operation. A request is a header (type, sector) that the device reads, data, and one status byte, the last
 * one that the device writes. The driver may cut that into descriptors as it likes (§2.7.4.3), so the header is
 * collected with virtq_copy_out and the status byte is found from the end.
 *
 *   blk_kick -> blk_run: virtq_pop into a free slot -> blk_begin: decide -> blk_submit: loop_readv, loop_writev, loop_fsync
 *                 ^                                       |                     |
 *                 | task, at the end of the turn          | at once             v
 *                 +---- ring full                         +-> blk_finish <- blk_done: the rest, again, or the outcome
 *
 * Slots. A slot holds all that one request needs until its completion; nothing is allocated per request. There are as
 * many as a queue can have heads in flight, and one to pop into, so a free one always exists. They are mapped, not
 * touched: the free ones are a stack, so a drive that has had at most n requests in flight costs about n slots of
 * memory, of 2 KiB each.
 *
 * Stages of a slot: STAGE_IO (data moves; short transfers go on with the rest) -> for a write without FLUSH: STAGE_SYNC
 * -> finished. A flush starts in STAGE_SYNC. When the ring is full, a new request goes back to the queue (virtq_unpop),
 * one under way waits in the list b->waiting.
 *
 * Stable writes (§5.2.6.2). A flush covers the writes that were completed, that is pushed, before it was made available;
 * the kernel has those when the fdatasync starts, so that needs no order among requests in flight. A driver that has not
 * accepted FLUSH is owed writes that are stable when completed, hence STAGE_SYNC.
 *
 * What may fail: anything the host says is an IOERR for the guest (ENOSPC, EIO, the end of a file that was truncated),
 * warned of once per drive. A request without a status byte has no way to be answered: that breaks the device until the
 * guest resets it. The size of the drive is fixed at blk_new.
 *
 * All on the loop's thread, but for blk_new, blk_free and blk_config_read.
 */
#define MF_LOG_MODULE "blk"
#include "virtio/blk.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <string.h>
#include <sys/mman.h>

#include "virtio/device.h"
#include "virtio/image.h"
#include "virtio/mmio.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/loop.h"

#define BLK_RETRIES_MAX 64 /* of one operation that ends with EAGAIN or EINTR and moves nothing */

/* Header and status byte take two of a chain's descriptors. */
#define BLK_SEG_MAX (VIRTQ_CHAIN_MAX - 2)

#define BLK_SLOTS (VIRTQ_SIZE_MAX + 1)

enum blk_stage { STAGE_IO, STAGE_SYNC };

struct blk;

struct blk_slot {
	struct op op;
	struct blk *blk;
	struct blk_slot *next_waiting;
	uint8_t *status;       /* in guest memory */
	uint64_t offset;       /* in the drive, of what is still to move */
	uint64_t left;	       /* bytes still to move */
	uint64_t in_len;       /* of the chain, with the status byte */
	uint64_t in_done;      /* bytes written to its in part, from the start */
	uint32_t type;	       /* VIRTIO_BLK_T_* */
	unsigned iov_at, iovs; /* what of chain.iov is still to move */
	unsigned retries;
	enum blk_stage stage;
	bool in_flight;
	struct virtq_chain chain; /* last: a short chain touches only its beginning */
};

struct blk {
	struct virtio_dev dev;
	int fd;
	int file; /* fd's index in the loop */
	bool read_only, active, warned;
	uint64_t sectors;
	char serial[VIRTIO_BLK_ID_BYTES];
	struct task retry;
	struct blk_slot *waiting; /* under way, but the ring was full */
	unsigned in_flight;	  /* slots whose op is in the ring */
	unsigned num_free, num_touched;
	uint16_t free[BLK_SLOTS]; /* slots that have been used before and are free now, a stack */
	struct blk_slot *slots;	  /* BLK_SLOTS of them, mapped; untouched from num_touched on */
};

#define BLK_SLOTS_SIZE (sizeof(struct blk_slot) * BLK_SLOTS)

static struct blk *to_blk(struct virtio_dev *dev)
{
	return MF_CONTAINER_OF(dev, struct blk, dev);
}

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

/* Starts the slot's operation. False: the ring is full. */
static bool blk_submit(struct blk_slot *slot)
{
	struct blk *b = slot->blk;
	const struct iovec *iov = &slot->chain.iov[slot->iov_at];
	bool started;

	slot->op.done = blk_done;
	if (slot->stage == STAGE_SYNC)
		started = loop_fsync(b->dev.loop, &slot->op, b->file, true);
	else if (slot->type == VIRTIO_BLK_T_OUT)
		started = loop_writev(b->dev.loop, &slot->op, b->file, iov, slot->iovs, slot->offset);
	else
		started = loop_readv(b->dev.loop, &slot->op, b->file, iov, slot->iovs, slot->offset);
	if (started) {
		slot->in_flight = true;
		b->in_flight++;
	}
	return started;
}

/* The same for a request under way: it waits for room in the ring. */
static void blk_submit_or_wait(struct blk_slot *slot)
{
	struct blk *b = slot->blk;

	if (blk_submit(slot))
		return;
	slot->next_waiting = b->waiting;
	b->waiting = slot;
	loop_defer(b->dev.loop, &b->retry);
}

static void blk_warn(struct blk *b, const struct blk_slot *slot, int res)
{
	const char *verb = slot->stage == STAGE_SYNC ? "sync" : slot->type == VIRTIO_BLK_T_OUT ? "write" : "read";

	log_at(b->warned ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN,
	       "drive '%s': %s at byte %" PRIu64 ": %s; continuing, the guest sees an I/O error", b->dev.id, verb,
	       slot->offset, res < 0 ? strerror(-res) : "end of file");
	b->warned = true;
}

static void blk_done(struct op *op, int res)
{
	struct blk_slot *slot = MF_CONTAINER_OF(op, struct blk_slot, op);
	struct blk *b = slot->blk;
	uint64_t moved;

	slot->in_flight = false;
	b->in_flight--;
	if (!b->active)
		return; /* reset has taken back all slots, and the queue is no longer ours */
	if ((res == -EAGAIN || res == -EINTR) && slot->retries++ < BLK_RETRIES_MAX) {
		blk_submit_or_wait(slot);
		return;
	}
	/* 0 bytes: the end of a file that is shorter than it was; more bytes than asked for do not happen. */
	if (res < 0 || (slot->stage == STAGE_IO && (res == 0 || (uint64_t)res > slot->left))) {
		blk_warn(b, slot, res);
		blk_finish(slot, VIRTIO_BLK_S_IOERR);
		return;
	}
	if (slot->stage == STAGE_SYNC) {
		blk_finish(slot, VIRTIO_BLK_S_OK);
		return;
	}
	moved = (uint64_t)res;
	blk_slot_advance(slot, moved);
	slot->offset += moved;
	slot->left -= moved;
	slot->retries = 0;
	if (slot->type == VIRTIO_BLK_T_IN)
		slot->in_done += moved;
	if (slot->left > 0) {
		blk_submit_or_wait(slot);
	} else if (slot->type == VIRTIO_BLK_T_OUT && !(b->dev.features & 1ULL << VIRTIO_BLK_F_FLUSH)) {
		slot->stage = STAGE_SYNC;
		blk_submit_or_wait(slot);
	} else {
		blk_finish(slot, VIRTIO_BLK_S_OK);
	}
}

static bool blk_range_valid(const struct blk *b, uint64_t sector, uint64_t len)
{
	return len % IMAGE_SECTOR_SIZE == 0 && mf_range_within(sector, len / IMAGE_SECTOR_SIZE, b->sectors);
}

enum blk_begun { BEGUN, BEGUN_NOT_RING_FULL, BEGUN_NOT_BROKEN };

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

/* Decides about the request in slot->chain, which was just popped, and answers or starts it. */
static enum blk_begun blk_begin(struct blk *b, struct blk_slot *slot)
{
	const struct virtq_chain *c = &slot->chain;
	struct virtio_blk_outhdr header;
	const struct iovec *last;

	if (c->num_in == 0)
		return BEGUN_NOT_BROKEN;
	last = &c->iov[c->num_out + c->num_in - 1];
	slot->blk = b;
	slot->status = (uint8_t *)last->iov_base + last->iov_len - 1;
	slot->in_len = c->in_len;
	slot->in_done = 0;
	slot->retries = 0;
	slot->stage = STAGE_IO;
	if (virtq_copy_out(c, 0, &header, sizeof(header)) < sizeof(header)) {
		blk_finish(slot, VIRTIO_BLK_S_IOERR);
		return BEGUN;
	}
	slot->type = header.type;
	switch (header.type) {
	case VIRTIO_BLK_T_IN:
	case VIRTIO_BLK_T_OUT:
		return blk_begin_io(slot, header.sector);
	case VIRTIO_BLK_T_FLUSH:
		slot->stage = STAGE_SYNC;
		slot->offset = 0;
		return blk_submit(slot) ? BEGUN : BEGUN_NOT_RING_FULL;
	case VIRTIO_BLK_T_GET_ID:
		slot->in_done = virtq_copy_in(c, 0, b->serial, MF_MIN(sizeof(b->serial), c->in_len - 1));
		blk_finish(slot, VIRTIO_BLK_S_OK);
		return BEGUN;
	default:
		blk_finish(slot, VIRTIO_BLK_S_UNSUPP);
		return BEGUN;
	}
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
			virtq_unpop(q, &slot->chain);
			blk_slot_give(b, slot);
			loop_defer(b->dev.loop, &b->retry);
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

	virtq_disable_notify(q);
	for (unsigned budget = VIRTQ_SIZE_MAX; budget > 0; budget--) {
		enum blk_next next = blk_run_one(b);

		if (next == NEXT_STOP || (next == NEXT_EMPTY && !virtq_enable_notify(q)))
			return;
	}
	/* A driver that adds requests as fast as they are answered must not keep the loop from its other devices. */
	loop_defer(b->dev.loop, &b->retry);
}

/* The task: the ring had no room, or the queue was too long for one turn. */
static void blk_retry(struct task *task)
{
	struct blk *b = MF_CONTAINER_OF(task, struct blk, retry);

	while (b->active && b->waiting) {
		struct blk_slot *slot = b->waiting;

		if (!blk_submit(slot)) {
			loop_defer(b->dev.loop, &b->retry);
			return;
		}
		b->waiting = slot->next_waiting;
	}
	if (b->active)
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
	for (unsigned i = 0; i < b->num_touched; i++)
		if (b->slots[i].in_flight)
			loop_cancel(dev->loop, &b->slots[i].op);
	loop_drain(dev->loop, &b->in_flight);
}

static void blk_config_read(struct virtio_dev *dev, uint32_t offset, void *buf, uint32_t len)
{
	const struct virtio_blk_config config = {
		.capacity = to_blk(dev)->sectors,
		.seg_max = BLK_SEG_MAX,
		.blk_size = IMAGE_SECTOR_SIZE,
	};

	memcpy(buf, (const char *)&config + offset, len);
}

static void blk_free(struct virtio_dev *dev)
{
	struct blk *b = to_blk(dev);

	if (b->slots)
		munmap(b->slots, BLK_SLOTS_SIZE);
	image_close(b->fd);
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

static const struct virtio_ops blk_ops;

int blk_new(struct virtio_dev **ret, const struct blk_params *params, struct loop *loop, const struct mem *mem,
	    struct err *e)
{
	const char *serial = params->serial ? params->serial : params->id;
	struct blk *b = malloc(sizeof(*b));
	int err;

	if (!b)
		return err_set(e, -ENOMEM, "drive '%s': out of memory", params->id);
	*b = (struct blk){
		.dev.ops = &blk_ops,
		.dev.loop = loop,
		.dev.mem = mem,
		.dev.id = params->id,
		.dev.offered = 1ULL << VIRTIO_BLK_F_SEG_MAX | 1ULL << VIRTIO_BLK_F_BLK_SIZE |
			       1ULL << VIRTIO_BLK_F_FLUSH | (params->read_only ? 1ULL << VIRTIO_BLK_F_RO : 0),
		.fd = -1,
		.read_only = params->read_only,
		.retry.run = blk_retry,
	};
	/* §5.2.6.1: padded with zeros, and without a terminator when all 20 bytes are used. A longer id is cut. */
	memcpy(b->serial, serial, strnlen(serial, sizeof(b->serial)));
	if (params->serial && strlen(params->serial) > sizeof(b->serial))
		err = err_set(e, -EINVAL, "the serial has more than %zu bytes", sizeof(b->serial));
	else
		err = image_open(&b->fd, &b->sectors, params->path, params->read_only, e);
	if (!err)
		err = blk_map_slots(b, e);
	if (!err) {
		b->file = loop_add_file(loop, b->fd);
		err = b->file < 0 ? err_set(e, b->file, "its loop has too many files") : 0;
	}
	if (err < 0) {
		err_wrap(e, "drive '%s'", params->id);
		blk_free(&b->dev);
		return err;
	}
	if (b->sectors == 0)
		log_warn("drive '%s': '%s' is empty; continuing with a drive of no sectors", params->id, params->path);
	*ret = &b->dev;
	return 0;
}

static const struct virtio_ops blk_ops = {
	.name = "drive",
	.device_id = VIRTIO_ID_BLOCK,
	.num_queues = 1,
	.config_len = offsetof(struct virtio_blk_config, physical_block_exp),
	.config_read = blk_config_read,
	.activate = blk_activate,
	.kick = blk_kick,
	.reset = blk_reset,
	.free = blk_free,
};
