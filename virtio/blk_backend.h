/*
 * What stores the data of a drive: a file or block device (blk_file.c), one that is only read
 * below a layer of writes (blk_overlay.c), or one past the host's page cache (blk_direct.c).
 *
 * A request moves in steps of one operation of the loop, each for a part from its beginning.
 * The caller, blk_request.c, starts a step, and reports its end; a backend calls nothing of it.
 * All calls are on the loop's thread, but for open and close.
 */
#ifndef MF_VIRTIO_BLK_BACKEND_H
#define MF_VIRTIO_BLK_BACKEND_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/loop.h"

struct blk;
struct blk_params;
struct blk_slot;
struct err;

/* Results of start, which are not errors. */
enum {
	BLK_NO_ROOM = false, /* nothing was started, the ring is full: try again */
	BLK_STARTED = true,  /* slot->op is in the ring */
	BLK_WAITS,	     /* for another step of this drive: try again when one has ended */
};

struct blk_backend {
	bool keeps_image; /* blk_update is not possible */

	/* Optional: makes b->store, with b->image open. Returns 0 or -errno with e set. */
	int (*open)(struct blk *b, const struct blk_params *params, struct err *e);

	/* Frees b->store, if there is one. With open. */
	void (*close)(struct blk *b);

	/* Starts the next step of slot's request. Returns one of the above, or -errno: it fails. */
	int (*start)(struct blk_slot *slot);

	/*
	 * The step has ended with res. Returns 0 and in *ret_moved how many bytes of the request
	 * are done, which is 0 if the next step only comes closer to it; or -errno: it fails.
	 * After EAGAIN or EINTR, the caller may start again instead. Syncs do not come here.
	 *
	 * The caller gives up a request, in whatever state, by an end with -EIO or -ECANCELED,
	 * which end returns.
	 */
	int (*end)(struct blk_slot *slot, int res, uint64_t *ret_moved);
};

extern const struct blk_backend blk_file, blk_overlay, blk_direct;

/* blk_file.c. How the loop is to use fd, which is open for direct I/O or not. */
enum loop_access blk_file_access(int fd, bool direct);

/* Adds fd (not owned) to the drive's loop, with that access. Returns its index, or -errno with e set. */
int blk_file_add(const struct blk *b, int fd, bool direct, struct err *e);

/* For the other kinds: a plain file's operations, */
int blk_file_start(struct blk_slot *slot);
int blk_file_end(struct blk_slot *slot, int res, uint64_t *ret_moved);

/* the same on a file of the loop: a read or write of at most so many bytes, and a trim, */
int blk_file_move(struct blk_slot *slot, int file, uint64_t most);
int blk_file_trim(struct blk_slot *slot, int file, int mode);

/* and whether the rest of slot's request touches [offset, offset + len). */
bool blk_touches(const struct blk_slot *slot, uint64_t offset, uint64_t len);

/* Whether another step in flight writes there: a write, or also a trim. */
bool blk_overlaps(const struct blk_slot *slot, uint64_t offset, uint64_t len, bool trims);

#endif
