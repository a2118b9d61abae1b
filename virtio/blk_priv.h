/*
 * What the files of the block device share, and nobody else includes: blk.c (the device and its
 * queue), blk_request.c (the life of a request), the backends (blk_backend.h), and blk_update.c.
 */
#ifndef MF_VIRTIO_BLK_PRIV_H
#define MF_VIRTIO_BLK_PRIV_H

#include <linux/virtio_blk.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "virtio/blk.h"
#include "virtio/blk_backend.h"
#include "virtio/device.h"
#include "virtio/image.h"
#include "virtio/throttle.h"
#include "vmm/base/util.h"
#include "vmm/core/loop.h"

struct blk;

/* Header and status byte take two of a chain's descriptors. */
#define BLK_SEG_MAX (VIRTQ_CHAIN_MAX - 2)

/*
 * A trim is one operation of the host, and a reset waits for it: so it is bounded. On a device that
 * cannot zero a range, the kernel writes zeros.
 */
#define BLK_DISCARD_SECTORS_MAX (1U << 21)
#define BLK_ZEROES_SECTORS_MAX (1U << 17)

/*
 * A chain may name the same guest memory again and again, up to 4 GiB. If the host has the data in
 * its page cache, it copies on the loop's thread when an operation starts. So an operation is
 * bounded, and so are the bytes in a turn of the loop, for its other devices, timers and calls.
 */
#define BLK_STEP_BYTES (1U << 20)
#define BLK_TURN_BYTES (2U << 20)

#define BLK_SLOTS (VIRTQ_SIZE_MAX + 1)

/* Errors of the host, for the log: one warning of each in BLK_QUIET_NS. */
enum blk_fault { FAULT_READ, FAULT_WRITE, FAULT_TRIM, FAULT_SYNC, FAULT_NO_SYNC, BLK_FAULTS };
#define BLK_QUIET_NS 60000000000ULL

enum blk_stage { STAGE_IO, STAGE_SYNC };

struct blk_slot {
	struct op op;
	struct blk *blk;
	STAILQ_ENTRY(blk_slot) next_waiting;
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

STAILQ_HEAD(blk_slots, blk_slot);

struct blk {
	struct virtio_dev dev;
	struct image image; /* its size is read on vCPU threads, atomically */
	int file;	    /* the image, by its index in the loop */
	const struct blk_backend *backend;
	void *store; /* backend's */
	bool read_only, sync, active, paused;
	bool has_base;			     /* it was made with the layer of a snapshot */
	bool lenient;			     /* a restore takes one of the same size */
	bool any_image;			     /* a restore does not ask whether it is the image of the snapshot */
	atomic_bool lost;		     /* a write has failed, to a layer that nobody checks */
	bool sync_failed;		     /* data of the guest is lost: every FLUSH fails until a reset */
	uint64_t turn;			     /* of the loop, */
	uint32_t turn_left;		     /* in which so many bytes may still be started */
	unsigned num_trims;		     /* in flight */
	uint64_t quiet_until_ns[BLK_FAULTS]; /* no warning of this fault until then */
	char serial[VIRTIO_BLK_ID_BYTES];
	struct task retry;
	struct throttle throttle;
	struct blk_slots waiting; /* requests under way, for room or for another one */
	unsigned in_flight;	  /* slots whose op is in the ring */
	unsigned num_free, num_touched;
	uint16_t free[BLK_SLOTS]; /* a stack of slots that were used before */
	struct blk_slot *slots;	  /* BLK_SLOTS, mapped; untouched from num_touched on */
};

static inline struct blk *to_blk(struct virtio_dev *dev)
{
	return MF_CONTAINER_OF(dev, struct blk, dev);
}

static inline bool blk_is_trim(const struct blk_slot *slot)
{
	return slot->type == VIRTIO_BLK_T_DISCARD || slot->type == VIRTIO_BLK_T_WRITE_ZEROES;
}

static inline void blk_turn_take(struct blk *b, uint32_t len)
{
	b->turn_left -= MF_MIN(len, b->turn_left);
}

/* blk_request.c. A free slot, to pop a request into; and back, when it was not begun. */
struct blk_slot *blk_slot_take(struct blk *b);
void blk_slot_give(struct blk *b, const struct blk_slot *slot);

/*
 * Answers or starts the request in slot->chain, which was just popped and has a status byte.
 * False: not now, it goes back to the queue. The retry, or the throttle's timer, is set then.
 */
bool blk_begin(struct blk_slot *slot);

/* Starts the requests that wait, in their order, as far as there is room; else retry is due. */
void blk_resume(struct blk *b);

/* blk_save.c: see device.h. */
int blk_quiet(struct virtio_dev *dev);
void blk_save(struct virtio_dev *dev, struct state_out *out);
void blk_restore(struct virtio_dev *dev, struct state_in *in);

/* A sync has ended with res < 0: warns, and if data may be lost, every later one fails. */
void blk_sync_failed(struct blk *b, int res);

#endif
