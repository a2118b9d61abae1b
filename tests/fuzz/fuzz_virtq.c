/*
 * libFuzzer entry of the split ring: an image of the rings, then takes, returns and edits in any order. Whatever they
 * hold, a chain has only buffers in RAM, as long as it says, and no head is in flight twice; a broken queue stays broken.
 */
#include <errno.h>
#include <stdlib.h>

#include "tests/fuzz/input.h"
#include "virtio/virtq.h"
#include "vmm/base/err.h"
#include "vmm/core/mem.h"

#define DESC 0x0U
#define AVAIL 0x1000U
#define USED 0x2000U
#define TABLE 0x3000U
#define IMAGE_MAX 0x4000U
#define STEPS_MAX 2000

#define CHECK(condition)                                                                                               \
	do {                                                                                                           \
		if (!(condition))                                                                                      \
			abort();                                                                                       \
	} while (0)

static struct mem mem;

static void check_chain(const struct virtq *q, const struct virtq_chain *c)
{
	const struct mem_region *r = &mem.region[0];
	uint64_t out = 0, in = 0;

	CHECK(c->head < q->size && c->num_out + c->num_in <= VIRTQ_CHAIN_MAX);
	for (unsigned i = 0; i < c->num_out + c->num_in; i++) {
		const uint8_t *at = c->iov[i].iov_base;
		uint64_t len = c->iov[i].iov_len;

		CHECK(len > 0 && at >= r->host && len <= r->size && (uint64_t)(at - r->host) <= r->size - len);
		*(i < c->num_out ? &out : &in) += len;
	}
	CHECK(out == c->out_len && in == c->in_len && out + in <= 1ULL << 32);
}

/* Writes somewhere in the rings: a word of any width, or a whole descriptor with an address that may be good. */
static void edit(struct input *in)
{
	uint16_t where = input_u16(in);
	uint64_t value = input_u64(in);
	uint8_t len = where & 1 ? 2 : 8;

	memcpy(mem_at(&mem, where % (IMAGE_MAX - 8), 8), &value, len);
}

static void step(struct virtq *q, struct input *in, bool *inflight)
{
	static struct virtq_chain chain;
	uint8_t what = input_u8(in), head = input_u8(in), data[64];
	bool was_broken = q->broken;
	const char *why = NULL;
	int got;

	switch (what % 8) {
	case 0:
	case 1:
		got = virtq_pop(q, &chain, &why);
		CHECK(!was_broken || got == -EPROTO);
		CHECK(got == 0 || got == 1 || (got == -EPROTO && why && q->broken));
		if (got != 1)
			break;
		check_chain(q, &chain);
		CHECK(!inflight[chain.head]);
		virtq_copy_out(&chain, head, data, sizeof(data));
		virtq_copy_in(&chain, head, data, sizeof(data));
		if (what & 8)
			virtq_unpop(q, &chain);
		else
			inflight[chain.head] = true;
		break;
	case 2:
	case 3:
		if (head < q->size && inflight[head])
			virtq_push(q, head, what);
		if (head < q->size)
			inflight[head] = false;
		break;
	case 4:
		(void)virtq_needs_interrupt(q);
		break;
	case 5:
		virtq_disable_notify(q);
		CHECK(!virtq_enable_notify(q) || !was_broken);
		break;
	default:
		edit(in);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint8_t shape = input_u8(&in);
	struct virtq q = { .size = (uint16_t)(1U << (shape & 15) % 9),
			   .ready = true,
			   .desc_gpa = DESC,
			   .avail_gpa = AVAIL,
			   .used_gpa = shape & 64 ? DESC + 4 : USED };
	bool inflight[VIRTQ_SIZE_MAX] = { false };
	uint16_t image = input_u16(&in);
	const char *why;
	struct err e;

	if (!mem.map && mem_init(&mem, MIB, &e) < 0)
		abort();
	memset(mem_at(&mem, 0, IMAGE_MAX), 0, IMAGE_MAX);
	CHECK(virtq_start(&q, &mem, shape & 16, shape & 32, &why) == 0);
	/* First the descriptors, a word of the available ring for each byte that is given, and its index. */
	input_bytes(&in, mem_at(&mem, DESC, IMAGE_MAX), MF_MIN((size_t)(image % 512), in.left));
	for (unsigned i = 0, n = input_u8(&in); i < n; i++)
		*(uint16_t *)mem_at(&mem, AVAIL + 4 + 2 * (i % q.size), 2) = input_u8(&in);
	*(uint16_t *)mem_at(&mem, AVAIL + 2, 2) = input_u16(&in);
	for (unsigned steps = 0; in.left > 0 && steps < STEPS_MAX; steps++)
		step(&q, &in, inflight);
	virtq_stop(&q);
	return 0;
}
