/*
 * The device's side of a split virtqueue; see virtq.h.
 *
 * Theory of operation. A queue is three arrays in guest memory (virtio 1.2 §2.7). The driver fills descriptors (§2.7.5:
 * address, length, flags, next), puts the index of a chain's first one, its head, into the available ring (§2.7.6) and
 * raises avail->idx. virtq_pop takes one head and turns its chain into an iovec; when the device has done the request,
 * virtq_push puts the head into the used ring (§2.7.8) and raises used->idx. Both indices run freely from 0 to 65535 and
 * wrap there, not at the queue size.
 *
 * States: stopped (all zero) -> virtq_start -> working -> broken, on a protocol error -> virtq_stop ->
 * stopped. virtq_pop fails on a broken queue, but requests in flight may still be pushed.
 *
 * The driver runs at the same time, on a vCPU, and may be hostile:
 *  - Each ring word is one __atomic access of its natural size. Each descriptor is copied once and
 *    only the copy is checked, so another vCPU cannot change it after the check.
 *  - A chain has three bounds: the steps through a table are at most its entries (a loop), descriptors
 *    at most VIRTQ_CHAIN_MAX (the iovec), bytes at most 4 GiB (§2.7.4.1). Indirect tables (§2.7.5.3)
 *    neither nest nor chain on.
 *  - A head in flight cannot be taken again. So at most size requests exist, and each completes once.
 *
 * Each side can suppress the other's notifications, by a flag (§2.7.7, §2.7.10) or, with EVENT_IDX, by
 * an index in the last word of the other ring. Both need a full barrier: each side publishes its own
 * word, then reads the other's, so at least one of the two sees the other's new value.
 */
#include "virtio/virtq.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "virtio/iov.h"
#include "vmm/core/mem.h"

#define VIRTQ_BYTES_MAX ((uint64_t)1 << 32) /* of one chain, §2.7.4.1 */

struct virtq_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};
_Static_assert(sizeof(struct virtq_desc) == 16, "virtio 1.2 §2.7.5");

struct virtq_avail {
	uint16_t flags;
	uint16_t idx;
	uint16_t ring[]; /* size of them, then used_event */
};

struct virtq_used_elem {
	uint32_t id;
	uint32_t len;
};
_Static_assert(sizeof(struct virtq_used_elem) == 8, "virtio 1.2 §2.7.8");

struct virtq_used {
	uint16_t flags;
	uint16_t idx;
	struct virtq_used_elem ring[]; /* size of them, then avail_event */
};

static uint64_t avail_bytes(uint16_t size)
{
	return sizeof(struct virtq_avail) + sizeof(uint16_t) * (size + 1ULL);
}

static uint64_t used_bytes(uint16_t size)
{
	return sizeof(struct virtq_used) + sizeof(struct virtq_used_elem) * size + sizeof(uint16_t);
}

/* The used index that the driver wants an interrupt for. */
static const uint16_t *used_event(const struct virtq *q)
{
	return &q->avail->ring[q->size];
}

/* The available index that the device wants a notification for. */
static uint16_t *avail_event(struct virtq *q)
{
	return (uint16_t *)&q->used->ring[q->size];
}

int virtq_check(const struct virtq *q, const struct mem *mem, const char **ret_why)
{
	const char *why = NULL;

	if (q->size == 0 || q->size > VIRTQ_SIZE_MAX || (q->size & (q->size - 1)))
		why = "queue size is not a power of two within the limit";
	else if (q->desc_gpa % 16 || q->avail_gpa % 2 || q->used_gpa % 4)
		why = "ring address is not aligned";
	else if (!mem_at(mem, q->desc_gpa, sizeof(struct virtq_desc) * q->size))
		why = "descriptor table is not in RAM";
	else if (!mem_at(mem, q->avail_gpa, avail_bytes(q->size)))
		why = "available ring is not in RAM";
	else if (!mem_at(mem, q->used_gpa, used_bytes(q->size)))
		why = "used ring is not in RAM";
	if (!why)
		return 0;
	*ret_why = why;
	return -EINVAL;
}

int virtq_start(struct virtq *q, const struct mem *mem, bool event_idx, bool indirect, const char **ret_why)
{
	int err = virtq_check(q, mem, ret_why);

	if (err < 0)
		return err;
	*q = (struct virtq){
		.size = q->size,
		.ready = q->ready,
		.desc_gpa = q->desc_gpa,
		.avail_gpa = q->avail_gpa,
		.used_gpa = q->used_gpa,
		.mem = mem,
		.desc = mem_at(mem, q->desc_gpa, sizeof(struct virtq_desc) * q->size),
		.avail = mem_at(mem, q->avail_gpa, avail_bytes(q->size)),
		.used = mem_at(mem, q->used_gpa, used_bytes(q->size)),
		.event_idx = event_idx,
		.indirect = indirect,
	};
	return 0;
}

void virtq_stop(struct virtq *q)
{
	*q = (struct virtq){ 0 };
}

static bool inflight_test(const struct virtq *q, uint16_t head)
{
	return q->inflight[head / 64] >> (head % 64) & 1;
}

static uint32_t tick_now(void)
{
	return (uint32_t)(__builtin_ia32_rdtsc() / VIRTQ_TICK_CYCLES);
}

/* Two words of one writer: no atomic addition is needed. */
static void count_latency(struct virtq *q, uint32_t ticks)
{
	const unsigned bits = ticks ? 32U - (unsigned)__builtin_clz(ticks) : 0;
	uint64_t *count = &q->latency[bits < VIRTQ_LATENCIES ? bits : VIRTQ_LATENCIES - 1];
	uint64_t *sum = &q->latency[VIRTQ_LATENCIES];

	__atomic_store_n(count, *count + 1, __ATOMIC_RELAXED);
	__atomic_store_n(sum, *sum + ticks, __ATOMIC_RELAXED);
}

static void inflight_flip(struct virtq *q, uint16_t head)
{
	q->inflight[head / 64] ^= 1ULL << (head % 64);
}

/*
 * Copies descriptor index of a table in guest memory, which for an indirect table may have any alignment. The empty asm
 * makes the compiler believe that the copy has changed: without it, it may read guest memory again instead of the copy.
 */
static void desc_copy(struct virtq_desc *to, const uint8_t *table, unsigned index)
{
	memcpy(to, table + sizeof(*to) * index, sizeof(*to));
	__asm__ volatile("" : "+m"(*to));
}

/* Adds one buffer to the chain. Returns NULL, or what is wrong with it. */
static const char *chain_add(const struct virtq *q, struct virtq_chain *chain, const struct virtq_desc *desc)
{
	void *host;

	if (desc->len == 0)
		return NULL;
	if (chain->out_len + chain->in_len + desc->len > VIRTQ_BYTES_MAX)
		return "chain of more than 4 GiB";
	host = mem_at(q->mem, desc->addr, desc->len);
	if (!host)
		return "buffer is not in RAM";
	chain->iov[chain->num_out + chain->num_in] = (struct iovec){ .iov_base = host, .iov_len = desc->len };
	if (desc->flags & VRING_DESC_F_WRITE) {
		chain->num_in++;
		chain->in_len += desc->len;
	} else {
		chain->num_out++;
		chain->out_len += desc->len;
	}
	return NULL;
}

/* Finds the table of an indirect descriptor: *ret_table and *ret_entries. Returns NULL, or what is wrong. */
static const char *indirect_open(const struct virtq *q, const struct virtq_desc *desc, const uint8_t **ret_table,
				 unsigned *ret_entries)
{
	const uint8_t *table;

	if (!q->indirect)
		return "indirect descriptor, which was not negotiated";
	if (desc->flags & VRING_DESC_F_NEXT)
		return "indirect descriptor that chains on";
	if (desc->len == 0 || desc->len % sizeof(*desc) || desc->len / sizeof(*desc) > VIRTQ_CHAIN_MAX)
		return "indirect table of a bad length";
	table = mem_at(q->mem, desc->addr, desc->len);
	if (!table)
		return "indirect table is not in RAM";
	*ret_table = table;
	*ret_entries = desc->len / sizeof(*desc);
	return NULL;
}

/* Follows the chain from head through the ring's table and at most one indirect one. Returns NULL or what is wrong. */
static const char *chain_read(const struct virtq *q, struct virtq_chain *chain, uint16_t head)
{
	const uint8_t *table = (const uint8_t *)q->desc;
	unsigned entries = q->size, index = head, steps = 0, total = 0;
	bool in_indirect = false, in_writable = false;
	struct virtq_desc desc;
	const char *why;

	chain->head = head;
	chain->num_out = chain->num_in = 0;
	chain->out_len = chain->in_len = 0;
	for (;;) {
		if (index >= entries)
			return "descriptor index out of range";
		if (steps++ == entries)
			return "descriptor loop";
		desc_copy(&desc, table, index);
		if (desc.flags & VRING_DESC_F_INDIRECT) {
			if (in_indirect)
				return "indirect descriptor in an indirect table";
			why = indirect_open(q, &desc, &table, &entries);
			if (why)
				return why;
			in_indirect = true;
			index = steps = 0;
			continue;
		}
		if (total++ == VIRTQ_CHAIN_MAX)
			return "chain of too many descriptors";
		/* §2.7.4.2: buffers to write come after those to read, also with a length of 0. */
		if (in_writable && !(desc.flags & VRING_DESC_F_WRITE))
			return "readable descriptor after a writable one";
		in_writable = desc.flags & VRING_DESC_F_WRITE;
		why = chain_add(q, chain, &desc);
		if (why || !(desc.flags & VRING_DESC_F_NEXT))
			return why;
		index = desc.next;
	}
}

static int virtq_fail(struct virtq *q, const char *why, const char **ret_why)
{
	q->broken = true;
	*ret_why = why;
	return -EPROTO;
}

int virtq_pop(struct virtq *q, struct virtq_chain *chain, const char **ret_why)
{
	uint16_t idx, pending, head;
	const char *why;

	if (!q->avail || q->paused)
		return 0;
	if (q->broken)
		return virtq_fail(q, "the queue is broken", ret_why);
	/* Acquire: descriptors and ring are read after idx. Pairs with the driver's write barrier before it (§2.7.13.3). */
	idx = __atomic_load_n(&q->avail->idx, __ATOMIC_ACQUIRE);
	pending = idx - q->next_avail;
	if (pending == 0)
		return 0;
	if (pending > q->size)
		return virtq_fail(q, "available index is ahead by more than the queue's size", ret_why);
	/* Relaxed: ordered by the acquire above. */
	head = __atomic_load_n(&q->avail->ring[q->next_avail & (q->size - 1)], __ATOMIC_RELAXED);
	if (head >= q->size)
		return virtq_fail(q, "available head out of range", ret_why);
	if (inflight_test(q, head))
		return virtq_fail(q, "available head is in flight", ret_why);
	why = chain_read(q, chain, head);
	if (why)
		return virtq_fail(q, why, ret_why);
	inflight_flip(q, head);
	q->popped[head] = tick_now();
	q->next_avail++;
	return 1;
}

void virtq_unpop_head(struct virtq *q, uint16_t head)
{
	assert(inflight_test(q, head));
	inflight_flip(q, head);
	q->next_avail--;
}

void virtq_unpop(struct virtq *q, const struct virtq_chain *chain)
{
	virtq_unpop_head(q, chain->head);
}

void virtq_fill(struct virtq *q, uint16_t head, uint32_t len)
{
	struct virtq_used_elem *elem = &q->used->ring[q->next_used & (q->size - 1)];

	assert(head < q->size);
	assert(inflight_test(q, head));
	inflight_flip(q, head);
	count_latency(q, tick_now() - q->popped[head]);
	/* Relaxed: the driver reads them only after idx. */
	__atomic_store_n(&elem->id, head, __ATOMIC_RELAXED);
	__atomic_store_n(&elem->len, len, __ATOMIC_RELAXED);
	q->next_used++;
}

void virtq_flush(struct virtq *q)
{
	/*
	 * Release: the elements, and the buffers' contents, are visible before idx is. Pairs with the driver's read barrier
	 * after it has read idx (§2.7.14).
	 */
	__atomic_store_n(&q->used->idx, q->next_used, __ATOMIC_RELEASE);
}

void virtq_push(struct virtq *q, uint16_t head, uint32_t len)
{
	virtq_fill(q, head, len);
	virtq_flush(q);
}

bool virtq_needs_interrupt(struct virtq *q)
{
	uint16_t old = q->signalled_used, new = q->next_used;

	if (!q->avail || old == new)
		return false;
	q->signalled_used = new;
	/*
	 * used->idx is visible before the driver's wish is read. Pairs with the driver's full barrier between its wish
	 * (used_event or flags) and its last look at used->idx.
	 */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!q->event_idx)
		return !(__atomic_load_n(&q->avail->flags, __ATOMIC_RELAXED) & VRING_AVAIL_F_NO_INTERRUPT);
	return vring_need_event(__atomic_load_n(used_event(q), __ATOMIC_RELAXED), new, old);
}

/* Asks for a notification of the available buffer with that index. Returns how many are available. */
static unsigned virtq_notify_at(struct virtq *q, uint16_t index)
{
	if (q->event_idx)
		__atomic_store_n(avail_event(q), index, __ATOMIC_RELAXED);
	else
		__atomic_store_n(&q->used->flags, 0, __ATOMIC_RELAXED);
	/*
	 * Our wish is visible before avail->idx is read. Pairs with the driver's full barrier between avail->idx and its
	 * look at avail_event or used->flags (§2.7.13.4.1).
	 */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return (uint16_t)(__atomic_load_n(&q->avail->idx, __ATOMIC_RELAXED) - q->next_avail);
}

static bool virtq_is_idle(const struct virtq *q)
{
	return !q->avail || q->broken || q->paused;
}

bool virtq_enable_notify(struct virtq *q)
{
	return !virtq_is_idle(q) && virtq_notify_at(q, q->next_avail) > 0;
}

unsigned virtq_await_more(struct virtq *q)
{
	return virtq_is_idle(q) ? 0 : virtq_notify_at(q, __atomic_load_n(&q->avail->idx, __ATOMIC_RELAXED));
}

void virtq_disable_notify(struct virtq *q)
{
	/* With EVENT_IDX, avail_event stays behind, and the driver notifies when idx passes it. */
	if (q->avail && !q->paused && !q->event_idx)
		__atomic_store_n(&q->used->flags, VRING_USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
}

uint64_t virtq_copy_out(const struct virtq_chain *chain, uint64_t skip, void *to, uint64_t len)
{
	return iov_get(chain->iov, chain->num_out, skip, to, len);
}

uint64_t virtq_copy_in(const struct virtq_chain *chain, uint64_t skip, const void *from, uint64_t len)
{
	return iov_put(chain->iov + chain->num_out, chain->num_in, skip, from, len);
}
