/*
 * A drive that changes while the guest runs: another image, or another size of it; see blk.h.
 *
 * The caller's thread opens and closes. The loop's thread exchanges, in between requests: it takes
 * nothing from the queue until all requests under way have ended and the old image is synced. So no
 * request goes to two images, and a write stays on the image that it went to. The driver learns of
 * the size by a configuration interrupt.
 *
 * The ring is locked to its files. Instead of a second ring for each drive, or a thread with system
 * calls of its own, one registered file is exchanged for another. Only a loop of LOOP_EXCHANGEABLE
 * may do it.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "virtio/blk_priv.h"
#include "virtio/mmio.h"
#include "vmm/base/err.h"

#define BLK_PAUSE_TURNS 64 /* as many bytes */

struct blk_update {
	struct blk *b;
	struct image image;	 /* in: the new one; out: the old one, if that has been exchanged */
	enum loop_access access; /* of the new one */
	struct op op;
	unsigned in_flight;
	int res;
};

/*
 * Ends all requests under way and takes no new ones, within this turn of the loop. Returns 0, or
 * -EBUSY if they are too large for it: a request may be of 4 GiB.
 */
static int blk_pause(struct blk *b)
{
	b->paused = true;
	for (unsigned i = 0; i < BLK_PAUSE_TURNS; i++) {
		loop_drain(b->dev.loop, &b->in_flight);
		b->turn_left = BLK_TURN_BYTES; /* the turn does not end before this does */
		blk_resume(b);
		if (b->in_flight == 0 && STAILQ_EMPTY(&b->waiting))
			return 0;
	}
	return -EBUSY;
}

static void blk_unpause(struct blk *b)
{
	b->paused = false;
	loop_defer(b->dev.loop, &b->retry);
}

static void blk_synced(struct op *op, int res)
{
	struct blk_update *u = MF_CONTAINER_OF(op, struct blk_update, op);

	u->res = res;
	u->in_flight--;
}

static int blk_sync_old(struct blk_update *u)
{
	struct blk *b = u->b;

	if (!b->sync || b->read_only)
		return 0;
	if (b->sync_failed)
		return -EIO;
	u->op.done = blk_synced;
	if (!loop_fsync(b->dev.loop, &u->op, b->file, true))
		return -EAGAIN;
	u->in_flight = 1;
	loop_drain(b->dev.loop, &u->in_flight);
	if (u->res < 0)
		blk_sync_failed(b, u->res);
	return u->res;
}

static int blk_exchange(void *arg)
{
	struct blk_update *u = arg;
	struct blk *b = u->b;
	struct image old = b->image;
	int r = blk_pause(b);

	if (!r && u->image.fd != old.fd)
		r = blk_sync_old(u);
	if (!r && u->image.fd != old.fd)
		r = loop_replace_file(b->dev.loop, b->file, u->image.fd);
	if (!r) {
		if (u->image.fd != old.fd)
			loop_set_access(b->dev.loop, b->file, u->access);
		b->image.fd = u->image.fd;
		b->image.dio_mem = u->image.dio_mem;
		b->image.dio_offset = u->image.dio_offset;
		b->image.identity = u->image.identity;
		/* Relaxed, as in blk_config_read: mmio_config_changed orders it before the new ConfigGeneration. */
		__atomic_store_n(&b->image.sectors, u->image.sectors, __ATOMIC_RELAXED);
		u->image = old;
		mmio_config_changed(&b->dev);
	}
	blk_unpause(b);
	return r;
}

static bool same_file(int fd, const char *path)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static int blk_update_image(struct blk *b, const char *path, struct err *e)
{
	struct blk_update u = { .b = b, .image = b->image };
	bool same = !path || same_file(b->image.fd, path);
	int r;

	if (b->backend->keeps_image)
		return err_set(e, -ENOTSUP, "it has an overlay, which belongs to the image that it has");
	r = same ? image_measure(&u.image, e) :
		   image_open(&u.image, path, b->read_only, b->image.dio_offset != 0, b->image.cut, e);
	if (r < 0)
		return r;
	u.access = blk_file_access(u.image.fd, u.image.dio_offset != 0);
	r = loop_call(b->dev.loop, blk_exchange, &u);
	if (r == -EACCES)
		err_set(e, r, "this VM was started without leave to change its drives");
	else if (r == -EBUSY)
		err_set(e, r, "its requests do not come to an end");
	else if (r < 0)
		err_neg(e, r, "exchange the image");
	if (!same)
		image_close(u.image.fd); /* the old one, or the new one after an error */
	return r;
}

int blk_update(struct virtio_dev *dev, const char *path, struct err *e)
{
	return blk_update_image(to_blk(dev), path, e) < 0 ? err_wrap(e, "drive '%s'", dev->id) : 0;
}
