/*
 * A file or block device behind a drive; see blk_backend.h. Reads and writes go to it as they
 * are, through the host's page cache, in operations of at most BLK_STEP_BYTES.
 *
 * Discard and write zeroes (virtio 1.2 §5.2.6) are fallocate(2), which works on block devices
 * too. If a file system or device cannot do it (EOPNOTSUPP; EINVAL for a range that is not of
 * whole blocks of a device), the next way is tried:
 *
 *	DISCARD                 punch a hole, or nothing: it is a hint
 *	WRITE_ZEROES, unmap     punch a hole, zero the range, or UNSUPP: the driver writes zeros
 *	WRITE_ZEROES            zero the range, or UNSUPP
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <sys/uio.h>
#include <sys/vfs.h>

#include "virtio/blk_priv.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"

/* No file is as long, and adding to it does not overflow. */
#define BLK_BEHIND_END (INT64_MAX - 4096)

bool blk_touches(const struct blk_slot *slot, uint64_t offset, uint64_t len)
{
	return slot->offset < offset + len && offset < slot->offset + slot->left;
}

bool blk_overlaps(const struct blk_slot *slot, uint64_t offset, uint64_t len, bool trims)
{
	const struct blk *b = slot->blk;

	for (unsigned i = 0; i < b->num_touched; i++) {
		const struct blk_slot *other = &b->slots[i];

		if (other != slot && other->in_flight && other->stage == STAGE_IO && blk_touches(other, offset, len) &&
		    (other->type == VIRTIO_BLK_T_OUT || (trims && blk_is_trim(other))))
			return true;
	}
	return false;
}

/*
 * How a file is used. All figures are thousands of instructions, of host and guest, for 4 KiB.
 *
 * A write may wait: for a file system that is frozen or full of dirty pages, for a page of which
 * the rest must be read, for a server. No other device may wait for that, so whoever writes must
 * either not wait or be another thread. RWF_NOWAIT of pwritev2(2) is neither: it waits for a
 * frozen file system, and ext4 does not have it for buffered writes (EOPNOTSUPP).
 *
 * The ring's thread never waits, not even for a frozen file system. The ring tries the write
 * without waiting, where the file system can, and else hands it to a worker of the kernel's.
 * Linux 6.1.192 needs no worker for
 *
 *	ext4, O_DIRECT		over blocks that were written before
 *	XFS, buffered		except for the first write of a clock tick, which changes the mtime
 *	XFS, O_DIRECT		if both hold
 *	Btrfs, both		in a file without copy-on-write (chattr +C)
 *
 * Buffered writes on ext4 always take one, and 53.3 alone, 13.7 if 32 are under way. By a worker
 * of our own (--io-engine=sync) they take 61.0 and 12.5; by a call of the loop's thread, which may
 * wait, 41.3 and 12.0. A loop for each drive could make that call, but would take 450 at the start
 * of each VM.
 *
 * In tmpfs and memfds nothing is waited for, except memory, and tmpfs cannot be frozen: writes
 * are calls of the loop's thread.
 *
 * A read that the page cache has does not wait; whether the file system can tell is asked by a
 * read behind the end of the file. A network's or user's file system cannot: FUSE, NFS, 9p.
 * There, Linux before 6.5 waits in the ring for the server. An overlayfs asks the file below.
 *
 * Direct reads are the ring's: a call would wait until the disk has answered.
 */
enum loop_access blk_file_access(int fd, bool direct)
{
	char byte;
	struct iovec iov = { &byte, 1 };
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return LOOP_ACCESS_STALLS;
	if (fs.f_type == TMPFS_MAGIC)
		return LOOP_ACCESS_MEMORY;
	if (preadv2(fd, &iov, 1, BLK_BEHIND_END, RWF_NOWAIT) < 0 && errno == EOPNOTSUPP)
		return fs.f_type == OVERLAYFS_SUPER_MAGIC ? LOOP_ACCESS_ENGINE : LOOP_ACCESS_STALLS;
	return direct ? LOOP_ACCESS_ENGINE : LOOP_ACCESS_CACHED;
}

int blk_file_add(const struct blk *b, int fd, bool direct, struct err *e)
{
	int file = loop_add_file(b->dev.loop, fd);

	if (file < 0)
		return err_set(e, file, "its loop has too many files");
	loop_set_access(b->dev.loop, file, blk_file_access(fd, direct));
	return file;
}

int blk_file_trim(struct blk_slot *slot, int file, int mode)
{
	return loop_fallocate(slot->blk->dev.loop, &slot->op, file, mode | FALLOC_FL_KEEP_SIZE, slot->offset,
			      slot->left);
}

/* Cuts what is still to move down to its first n bytes, until slot_uncut. */
static unsigned slot_cut(struct blk_slot *slot, uint64_t n)
{
	struct iovec *iov = &slot->chain.iov[slot->iov_at];
	unsigned num = 0;

	for (; iov[num].iov_len < n; num++)
		n -= iov[num].iov_len;
	slot->cut = slot->iov_at + num;
	slot->cut_len = iov[num].iov_len;
	iov[num].iov_len = n;
	return num + 1;
}

static void slot_uncut(struct blk_slot *slot)
{
	if (slot->cut_len)
		slot->chain.iov[slot->cut].iov_len = slot->cut_len;
	slot->cut_len = 0;
}

int blk_file_move(struct blk_slot *slot, int file, uint64_t most)
{
	struct loop *loop = slot->blk->dev.loop;
	const struct iovec *iov = &slot->chain.iov[slot->iov_at];
	uint32_t len = (uint32_t)MF_MIN(most, BLK_STEP_BYTES);
	unsigned num = slot->iovs;
	bool started;

	slot_uncut(slot); /* the step before may have been interrupted */
	if (len < slot->left)
		num = slot_cut(slot, len);
	started = slot->type == VIRTIO_BLK_T_OUT ? loop_writev(loop, &slot->op, file, iov, num, slot->offset) :
						   loop_readv(loop, &slot->op, file, iov, num, slot->offset);
	if (started)
		blk_turn_take(slot->blk, len);
	return started;
}

int blk_file_start(struct blk_slot *slot)
{
	const struct blk *b = slot->blk;

	if (slot->stage == STAGE_SYNC)
		return loop_fsync(b->dev.loop, &slot->op, b->file, true);
	if (blk_is_trim(slot))
		return blk_file_trim(slot, b->file, slot->zero_range ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE);
	return blk_file_move(slot, b->file, slot->left);
}

static int trim_end(struct blk_slot *slot, int res, uint64_t *ret_moved)
{
	bool unsupported = res == -EOPNOTSUPP || res == -EINVAL;

	if (unsupported && slot->type == VIRTIO_BLK_T_WRITE_ZEROES) {
		if (slot->zero_range)
			return -EOPNOTSUPP;
		slot->zero_range = true;
		*ret_moved = 0;
		return 0;
	}
	if (res < 0 && !unsupported)
		return res;
	*ret_moved = slot->left;
	return 0;
}

int blk_file_end(struct blk_slot *slot, int res, uint64_t *ret_moved)
{
	if (blk_is_trim(slot))
		return trim_end(slot, res, ret_moved);
	slot_uncut(slot);
	if (res < 0)
		return res;
	/* 0 bytes: the file has become shorter. More bytes than asked for do not happen. */
	if (res == 0 || (uint64_t)res > slot->left)
		return -ENODATA;
	*ret_moved = (uint64_t)res;
	return 0;
}

const struct blk_backend blk_file = {
	.start = blk_file_start,
	.end = blk_file_end,
};
