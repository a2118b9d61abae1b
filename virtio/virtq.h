/*
 * The device's side of a split virtqueue (virtio 1.2 §2.7), with indirect descriptors and EVENT_IDX.
 *
 * Everything in the rings is written by the guest and hostile: each byte is read once, each descriptor copied before it
 * is checked, each chain is bounded, each buffer goes through mem_at(). An error from virtq_pop means that the driver has
 * broken the protocol: the queue gives nothing more until virtq_stop, and the device goes into DEVICE_NEEDS_RESET.
 *
 * All calls on one thread: the loop of the device (virtq_start and virtq_stop by way of loop_call).
 */
#ifndef MF_VIRTIO_VIRTQ_H
#define MF_VIRTIO_VIRTQ_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct mem;
struct virtq_desc;
struct virtq_avail;
struct virtq_used;

#define VIRTQ_SIZE_MAX 256
#define VIRTQ_CHAIN_MAX 128 /* descriptors in a chain; a longer one is a protocol error (devices say so: seg_max) */

#define VIRTQ_TICK_CYCLES 256 /* the low 32 bits of such ticks are minutes */
#define VIRTQ_LATENCIES 26

struct virtq {
	/* Registers, written while the queue is not ready. */
	uint16_t size;
	bool ready;
	uint64_t desc_gpa, avail_gpa, used_gpa;

	/* Valid from virtq_start to virtq_stop. */
	const struct mem *mem;
	struct virtq_desc *desc;
	struct virtq_avail *avail;
	struct virtq_used *used;
	uint16_t next_avail;	 /* index of the next head to take */
	uint16_t next_used;	 /* index of the next used element */
	uint16_t signalled_used; /* next_used when the driver was last interrupted, for EVENT_IDX */
	bool event_idx, indirect;
	bool broken;
	bool paused; /* nothing is popped, and the driver's wish for notifications is left as it is */
	uint64_t inflight[VIRTQ_SIZE_MAX / 64]; /* heads popped and not yet pushed */
	uint32_t popped[VIRTQ_SIZE_MAX];	/* when, by the TSC, in VIRTQ_TICK_CYCLES */
	/*
	 * How long they were in flight: latency[i] heads less than 1 << i ticks, and in the one before the last any longer ones; the last is
	 * the sum of ticks. Relaxed: written by the loop alone, read by any thread.
	 */
	uint64_t latency[VIRTQ_LATENCIES + 1];
};

/* A request: the buffers that the device reads (out), then those that it writes (in). */
struct virtq_chain {
	uint16_t head;
	unsigned num_out, num_in;
	uint64_t out_len, in_len;	   /* bytes, each at most 4 GiB */
	struct iovec iov[VIRTQ_CHAIN_MAX]; /* num_out, then num_in of them; buffers of length 0 are left out */
};

/*
 * Checks the registers: size a power of two up to VIRTQ_SIZE_MAX, addresses aligned (§2.7: 16, 2, 4) and wholly in RAM.
 * Returns 0, or -EINVAL and *ret_why a phrase for the log. Any thread, while nothing else uses q.
 */
int virtq_check(const struct virtq *q, const struct mem *mem, const char **ret_why);

/* Starts the queue, after the same check. Returns 0, or -EINVAL and *ret_why a phrase for the log. */
int virtq_start(struct virtq *q, const struct mem *mem, bool event_idx, bool indirect, const char **ret_why);

/* Clears everything, also the registers: the queue is as after reset. Nothing may be in flight in the backend. */
void virtq_stop(struct virtq *q);

/*
 * Takes the next available chain. 1: *chain is filled. 0: there is none, or the queue is not started or paused.
 * -EPROTO: the driver broke the protocol; *ret_why is a phrase for the log, and the queue is broken.
 */
int virtq_pop(struct virtq *q, struct virtq_chain *chain, const char **ret_why);

/*
 * Undoes the last virtq_pop, and then the one before it, and so on: only those whose heads were not pushed. Nothing may
 * have been popped since.
 */
void virtq_unpop(struct virtq *q, const struct virtq_chain *chain);
void virtq_unpop_head(struct virtq *q, uint16_t head);

/* Returns a popped head to the driver; len is how many bytes of its in buffers were written. */
void virtq_push(struct virtq *q, uint16_t head, uint32_t len);

/* The two halves of virtq_push: virtq_fill for each head, then virtq_flush shows all to the driver at once. */
void virtq_fill(struct virtq *q, uint16_t head, uint32_t len);
void virtq_flush(struct virtq *q);

/* Whether the driver wants an interrupt for what was pushed since the last call (§2.7.7, §2.7.10). */
bool virtq_needs_interrupt(struct virtq *q);

/*
 * Asks the driver to notify on the next available buffer. Call it when virtq_pop has returned 0. True:
 * a buffer has come meanwhile, perhaps without a notification; pop again.
 */
bool virtq_enable_notify(struct virtq *q);

/*
 * Asks the driver to notify on the next buffer that it adds to those that are available already. Returns how many those
 * are. For a device that leaves buffers in the queue until it needs them.
 */
unsigned virtq_await_more(struct virtq *q);

/* Asks the driver not to notify while the device works on the queue; a hint. */
void virtq_disable_notify(struct virtq *q);

/*
 * Copies between a chain's buffers and host memory, starting skip bytes into its out (or in) part. Return the bytes
 * copied: fewer than len where the chain ends.
 */
uint64_t virtq_copy_out(const struct virtq_chain *chain, uint64_t skip, void *to, uint64_t len);
uint64_t virtq_copy_in(const struct virtq_chain *chain, uint64_t skip, const void *from, uint64_t len);

#endif
