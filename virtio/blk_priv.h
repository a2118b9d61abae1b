/*
 * What the files of the block device share, and nobody else includes: blk.c (the queue), blk_request.c (the life of a
 * request), blk_file.c (the operations that a request consists of), blk_direct.c, and blk.c (what a drive is).
 */
#ifndef MF_VIRTIO_BLK_PRIV_H
#define MF_VIRTIO_BLK_PRIV_H

#include <linux/virtio_blk.h>
#include <stdbool.h>
#include <stdint.h>

#include "virtio/blk.h"
#include "virtio/device.h"
#include "virtio/image.h"
#include "virtio/throttle.h"
#include "vmm/base/util.h"
#include "vmm/core/loop.h"

struct blk;
struct overlay;

/* Header and status byte take two of a chain's descriptors. */
#define BLK_SEG_MAX (VIRTQ_CHAIN_MAX - 2)

/*
 * A trim is one operation of the host, which a reset has to wait for: so not too long. Zeroing is written where a device
 * cannot do it.
 */
#define BLK_DISCARD_SECTORS_MAX (1U << 21)
#define BLK_ZEROES_SECTORS_MAX (1U << 17)

/*
 * A chain may name the same guest memory again and again, up to 4 GiB, and what the host has in its page cache is copied
 * when the operation is begun, on the loop's thread. So an operation is of so many bytes at most, and when so many are
 * begun the loop's other devices, timers and calls have their turn.
 */
#define BLK_STEP_BYTES (1U << 20)
#define BLK_TURN_BYTES (2U << 20)

#define BLK_BOUNCE_SIZE (64U << 10)

#define BLK_CONFIG_LEN sizeof(struct virtio_blk_config)

#define BLK_SLOTS (VIRTQ_SIZE_MAX + 1)

/* What the host may refuse, for the log: a warning of each, and the next after so long. */
enum blk_fault { FAULT_READ, FAULT_WRITE, FAULT_TRIM, FAULT_SYNC, FAULT_NO_SYNC, BLK_FAULTS };
#define BLK_QUIET_NS 60000000000ULL

enum blk_stage { STAGE_IO, STAGE_SYNC };

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
	unsigned cut;		  /* blk_file.c's: the iov that is shortened for this step, */
	size_t cut_len;		  /* and its length; 0: none is */
	bool bounce;		  /* direct I/O has refused it as it is */
	bool zero_range;	  /* of a trim: not by punching a hole */
	bool crossed;		  /* of a trim: a write to its range was in flight at the same time */
	struct virtq_chain chain; /* last: a short chain touches only its beginning */
};

/* blk_direct.c's: the buffer of a drive with direct I/O, and what it is in use for. */
struct blk_bounce {
	uint8_t *buf; /* BLK_BOUNCE_SIZE, mapped; or NULL */
	struct blk_slot *owner;
	struct blk_slot *line;	     /* who waits for it */
	uint64_t start;		     /* in the drive, */
	uint32_t len, have, skip, n; /* of which have bytes are read; n of them, after skip, are the request's */
	bool writing;
	bool merges; /* the owner writes a part of these units: nobody else may meanwhile */
};

struct blk {
	struct virtio_dev dev;
	struct image image;	 /* its size is read on vCPU threads, atomically */
	int file;		 /* image.fd's index in the loop */
	struct overlay *overlay; /* or NULL; the image is only read then */
	int overlay_file;
	struct blk_bounce bounce;
	bool read_only, sync, active, paused;
	bool sync_failed;   /* data that the guest has written is lost: no FLUSH may say otherwise until a reset */
	uint64_t turn_ns;   /* the present turn of the loop, by its time, */
	uint32_t turn_left; /* and the bytes that may be begun before the others' turn */
	bool turn_over;	    /* the next turn has its own, even at the same time */
	unsigned num_trims; /* in flight */
	uint64_t quiet_until_ns[BLK_FAULTS]; /* there has just been a warning of this fault */
	char serial[VIRTIO_BLK_ID_BYTES];
	struct task retry;
	struct throttle throttle;
	struct blk_slot *waiting; /* under way, but the ring was full */
	unsigned in_flight;	  /* slots whose op is in the ring */
	unsigned num_free, num_touched;
	uint16_t free[BLK_SLOTS]; /* slots that have been used before and are free now, a stack */
	struct blk_slot *slots;	  /* BLK_SLOTS of them, mapped; untouched from num_touched on */
};

static inline struct blk *to_blk(struct virtio_dev *dev)
{
	return MF_CONTAINER_OF(dev, struct blk, dev);
}

static inline bool blk_writes(const struct blk_slot *slot)
{
	return slot->type == VIRTIO_BLK_T_OUT || slot->type == VIRTIO_BLK_T_DISCARD ||
	       slot->type == VIRTIO_BLK_T_WRITE_ZEROES;
}

static inline bool blk_is_trim(const struct blk_slot *slot)
{
	return slot->type == VIRTIO_BLK_T_DISCARD || slot->type == VIRTIO_BLK_T_WRITE_ZEROES;
}

/* blk.c. */
/* Whether more bytes may be begun in this turn of the loop; if not, blk_retry is due in the next. */
bool blk_turn_has_room(struct blk *b);

/* Goes on with requests that wait for room. False: there was none. */
bool blk_resume(struct blk *b);

/* blk_request.c. A free slot, to pop a request into; and back, when it is answered or could not be begun. */
struct blk_slot *blk_slot_take(struct blk *b);
void blk_slot_give(struct blk *b, const struct blk_slot *slot);

/* Decides about the request in slot->chain, which was just popped, and answers or starts it. */
enum blk_begun { BEGUN, BEGUN_NOT_ROOM, BEGUN_NOT_BROKEN, BEGUN_NOT_TOKENS };
enum blk_begun blk_begin(struct blk *b, struct blk_slot *slot);

/* Starts the slot's next operation, or fails the request. False: there is no room for it now. */
bool blk_submit(struct blk_slot *slot);

/* A sync has ended with res < 0: warns, and if data may be lost, every later one fails. */
void blk_sync_failed(struct blk *b, int res);

/* As blk_submit, for a request under way, which then waits for room. */
void blk_submit_or_wait(struct blk_slot *slot);

/*
 * blk_file.c. A request moves in steps of one ring operation, each for a part from its beginning. start: what became of
 * it, or -errno: the request cannot go on. end: what the operation gave, res: *ret_moved bytes of the request are done,
 * which may be 0 where the step is to be followed by another; or -errno. After EAGAIN or EINTR start may be called
 * instead of end.
 */
enum blk_step_started {
	BLK_STEP_NO_ROOM, /* nothing; to be tried again: the ring is full, or the turn's bytes are used up */
	BLK_STEP_STARTED, /* slot->op is in the ring */
	BLK_STEP_WAITS,	  /* for another request; it will start by itself */
};
int blk_step_start(struct blk_slot *slot);
int blk_step_end(struct blk_slot *slot, int res, uint64_t *ret_moved);

/* The request ends where it is, after an end that would have it go on. */
void blk_step_abandon(struct blk_slot *slot);

/* The same for what has to go through the bounce buffer, blk_direct.c. */
bool blk_bounce_needed(const struct blk_slot *slot);
int blk_bounce_start(struct blk_slot *slot);
int blk_bounce_end(struct blk_slot *slot, int res, uint64_t *ret_moved);
void blk_bounce_release(struct blk *b);

/* Whether a request that writes has to wait for the owner of the buffer; then it does, and will start by itself. */
bool blk_bounce_waits(struct blk_slot *slot);

/* An operation that writes has ended: who waits for that goes on. */
void blk_bounce_wake(struct blk *b);

/* Whether another operation in flight writes to [offset, offset + len): a write, or a trim if those are asked for. */
bool blk_overlaps(const struct blk_slot *slot, uint64_t offset, uint64_t len, bool trims);

/* Drops the first n bytes of what is still to move from the slot's iov. */
void blk_slot_advance(struct blk_slot *slot, uint64_t n);

#endif
