/* Descriptor chains: every way to break the rules of virtio 1.2 §2.7.4 and §2.7.5, and what is just legal. */
#include "tests/unit/virtq_fixture.h"

#include <pthread.h>

static void test_loops(void **state)
{
	struct fix *f = *state;

	drv_desc(&f->d, 0, DRV_DATA, 1, NEXT, 0); /* itself */
	drv_publish(&f->d, 0);
	assert_broken(f, "descriptor loop");

	drv_publish_idx(&f->d, 0);
	start(f, false, true);
	drv_desc(&f->d, 0, DRV_DATA, 0, NEXT, 1); /* two, of no length */
	drv_desc(&f->d, 1, DRV_DATA, 0, NEXT, 0);
	drv_publish(&f->d, 0);
	assert_broken(f, "descriptor loop");

	drv_publish_idx(&f->d, 0);
	start(f, false, true);
	for (unsigned i = 0; i < 8; i++) /* the whole ring */
		drv_desc(&f->d, i, DRV_DATA, 1, NEXT | WRITE, (i + 1) % 8);
	drv_publish(&f->d, 0);
	assert_broken(f, "descriptor loop");

	drv_publish_idx(&f->d, 0);
	start(f, false, true);
	for (unsigned i = 0; i < 4; i++) /* in an indirect table */
		drv_desc_at(&f->d, DRV_TABLE, i, DRV_DATA, 1, NEXT, (i + 1) % 4);
	drv_desc(&f->d, 0, DRV_TABLE, 64, INDIRECT, 0);
	drv_publish(&f->d, 0);
	assert_broken(f, "descriptor loop");
}

/* A chain of all descriptors of the ring is the longest legal one. */
static void test_chain_of_whole_ring(void **state)
{
	struct fix *f = *state;

	for (unsigned i = 0; i < 8; i++)
		drv_desc(&f->d, i, DRV_DATA, 1, i < 7 ? NEXT : 0, i + 1);
	drv_publish(&f->d, 0);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->c.num_out, 8);
}

static void test_next_out_of_range(void **state)
{
	struct fix *f = *state;

	drv_desc(&f->d, 0, DRV_DATA, 1, NEXT, 8);
	drv_publish(&f->d, 0);
	assert_broken(f, "descriptor index out of range");
	drv_publish_idx(&f->d, 0);
	start(f, false, true);
	drv_desc(&f->d, 0, DRV_DATA, 1, NEXT, 65535);
	drv_publish(&f->d, 0);
	assert_broken(f, "descriptor index out of range");
}

static void test_chain_too_long(void **state)
{
	struct fix *f = *state;

	for (unsigned i = 0; i < VIRTQ_CHAIN_MAX + 1; i++)
		drv_desc(&f->d, i, DRV_DATA, 1, i < VIRTQ_CHAIN_MAX - 1 ? NEXT : 0, i + 1);
	drv_publish(&f->d, 0);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->c.num_out, VIRTQ_CHAIN_MAX);
	virtq_push(&f->q, 0, 0);
	drv_desc(&f->d, VIRTQ_CHAIN_MAX - 1, DRV_DATA, 1, NEXT, VIRTQ_CHAIN_MAX);
	drv_publish(&f->d, 0);
	assert_broken(f, "chain of too many descriptors");
}

/* Direct descriptors count, too, when an indirect table fills the rest. */
static void test_chain_too_long_with_indirect(void **state)
{
	struct fix *f = *state;

	for (unsigned i = 0; i < VIRTQ_CHAIN_MAX; i++)
		drv_desc_at(&f->d, DRV_TABLE, i, DRV_DATA, 0, i < VIRTQ_CHAIN_MAX - 1 ? NEXT : 0, i + 1);
	drv_desc(&f->d, 0, DRV_DATA, 0, NEXT, 1);
	drv_desc(&f->d, 1, DRV_TABLE, 16 * VIRTQ_CHAIN_MAX, INDIRECT, 0);
	drv_publish(&f->d, 1);
	assert_int_equal(pop(f), 1);
	virtq_push(&f->q, 1, 0);
	drv_publish(&f->d, 0);
	assert_broken(f, "chain of too many descriptors");
}

static void test_buffer_addresses(void **state)
{
	static const struct {
		uint64_t addr;
		uint32_t len;
	} bad[] = {
		{ DRV_MEM, 1 },	    { DRV_MEM - 1, 2 },		 { DRV_MEM - 0x10000, 0x10001 }, { UINT64_MAX, 1 },
		{ UINT64_MAX, 2 },  { UINT64_MAX - 4095, 4096 }, { UINT64_MAX - 10, 4096 },	 { MEM_GAP_START, 4 },
		{ MEM_GAP_END, 4 }, { 0, UINT32_MAX },		 { DRV_MEM - 1, UINT32_MAX },	 { 1ULL << 63, 512 },
	};
	struct fix *f = *state;

	for (size_t i = 0; i < MF_ARRAY_SIZE(bad); i++) {
		for (unsigned flags = 0; flags <= WRITE; flags += WRITE) {
			drv_publish_idx(&f->d, 0);
			start(f, false, true);
			drv_desc(&f->d, 1, bad[i].addr, bad[i].len, flags, 0);
			drv_publish(&f->d, 1);
			assert_broken(f, "buffer is not in RAM");
		}
	}
	drv_publish_idx(&f->d, 0);
	start(f, false, true);
	drv_desc(&f->d, 1, DRV_MEM - 1, 1, 0, 0);
	drv_publish(&f->d, 1);
	assert_int_equal(pop(f), 1);
}

/* With RAM on both sides of the gap, nothing may reach into it, nor across. */
static void test_buffer_across_gap(void **state)
{
	static const struct {
		uint64_t addr;
		uint32_t len;
		bool legal;
	} at[] = {
		{ MEM_GAP_START - 4096, 4096, true },	 { MEM_GAP_END, 4096, true },
		{ MEM_GAP_START - 4096, 4097, false },	 { MEM_GAP_START - 1, 0x40000002, false },
		{ MEM_GAP_START + 0x1000, 4, false },	 { MEM_GAP_END - 1, 2, false },
		{ MEM_GAP_END + 2 * MIB - 1, 2, false },
	};
	struct fix *f = calloc(1, sizeof(*f));

	(void)state;
	drv_init(&f->d, 8, MEM_GAP_START + 2 * MIB);
	for (size_t i = 0; i < MF_ARRAY_SIZE(at); i++) {
		drv_publish_idx(&f->d, 0);
		start(f, false, true);
		drv_desc(&f->d, 1, at[i].addr, at[i].len, 0, 0);
		drv_publish(&f->d, 1);
		if (at[i].legal)
			assert_int_equal(pop(f), 1);
		else
			assert_broken(f, "buffer is not in RAM");
	}
	/* Nor may a ring. */
	f->q = drv_queue(&f->d);
	f->q.used_gpa = MEM_GAP_START - 8;
	assert_int_equal(virtq_start(&f->q, &f->d.mem, false, true, &f->why), -EINVAL);
	drv_done(&f->d);
	free(f);
}

static void test_zero_length(void **state)
{
	struct fix *f = *state;

	/* First, in the middle and last, wherever they point; and all. */
	drv_desc(&f->d, 0, UINT64_MAX, 0, NEXT, 1);
	drv_desc(&f->d, 1, DRV_DATA, 5, NEXT, 2);
	drv_desc(&f->d, 2, MEM_GAP_START, 0, NEXT, 3);
	drv_desc(&f->d, 3, DRV_DATA, 7, NEXT | WRITE, 4);
	drv_desc(&f->d, 4, 0, 0, WRITE, 0);
	drv_desc(&f->d, 5, 0, 0, NEXT, 6);
	drv_desc(&f->d, 6, 0, 0, WRITE, 0);
	drv_add(&f->d, 0);
	drv_publish(&f->d, 5);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->c.num_out, 1);
	assert_int_equal(f->c.num_in, 1);
	assert_int_equal(f->c.iov[0].iov_len, 5);
	assert_int_equal(f->c.iov[1].iov_len, 7);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->c.num_out + f->c.num_in, 0);
	assert_int_equal(f->c.out_len + f->c.in_len, 0);
}

static void test_readable_after_writable(void **state)
{
	struct fix *f = *state;

	for (uint32_t len = 0; len < 2; len++) {
		drv_publish_idx(&f->d, 0);
		start(f, false, true);
		drv_desc(&f->d, 0, DRV_DATA, len, NEXT | WRITE, 1);
		drv_desc(&f->d, 1, DRV_DATA, 16, 0, 0);
		drv_publish(&f->d, 0);
		assert_broken(f, "readable descriptor after a writable one");
	}
}

/* 4 GiB in one chain, by way of the same memory again and again, are legal; a byte more is not. */
static void test_chain_bytes(void **state)
{
	const uint32_t big = 64 * MIB;
	struct fix *f = calloc(1, sizeof(*f));

	(void)state;
	drv_init(&f->d, 128, 65 * MIB);
	start(f, false, true);
	for (unsigned i = 0; i < 65; i++)
		drv_desc(&f->d, i, 0, i < 64 ? big : 1, (i < 63 ? NEXT : 0) | (i >= 32 ? WRITE : 0), i + 1);
	drv_publish(&f->d, 0);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->c.out_len, 2 * GIB);
	assert_int_equal(f->c.in_len, 2 * GIB);
	virtq_push(&f->q, 0, 0);
	drv_desc(&f->d, 63, 0, big, NEXT | WRITE, 64);
	drv_publish(&f->d, 0);
	assert_broken(f, "chain of more than 4 GiB");
	drv_done(&f->d);
	free(f);
}

static void test_indirect(void **state)
{
	struct fix *f = *state;

	/* WRITE and next of the referring descriptor mean nothing; its table starts at index 0 and needs no alignment. */
	drv_desc_at(&f->d, DRV_TABLE + 3, 0, DRV_DATA, 16, NEXT, 2);
	drv_desc_at(&f->d, DRV_TABLE + 3, 2, DRV_DATA + 0x1000, 1, WRITE, 0);
	drv_desc(&f->d, 6, DRV_TABLE + 3, 48, INDIRECT | WRITE, 2);
	drv_publish(&f->d, 6);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->c.head, 6);
	assert_int_equal(f->c.num_out, 1);
	assert_int_equal(f->c.num_in, 1);
	assert_int_equal(f->c.out_len, 16);
}

static void test_direct_then_indirect(void **state)
{
	struct fix *f = *state;

	drv_desc(&f->d, 0, DRV_DATA, 16, NEXT, 1);
	drv_desc(&f->d, 1, DRV_TABLE, 32, INDIRECT, 0);
	drv_desc_at(&f->d, DRV_TABLE, 0, DRV_DATA + 0x1000, 512, NEXT, 1);
	drv_desc_at(&f->d, DRV_TABLE, 1, DRV_DATA + 0x2000, 1, WRITE, 0);
	drv_publish(&f->d, 0);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->c.num_out, 2);
	assert_int_equal(f->c.num_in, 1);
	assert_int_equal(f->c.out_len, 528);
	virtq_push(&f->q, 0, 1);
	/* The order of readable and writable holds across the tables. */
	drv_desc(&f->d, 0, DRV_DATA, 16, NEXT | WRITE, 1);
	drv_publish(&f->d, 0);
	assert_broken(f, "readable descriptor after a writable one");
}

static void test_indirect_bad(void **state)
{
	static const struct {
		uint64_t addr;
		uint32_t len;
		unsigned flags;
		const char *why;
	} bad[] = {
		{ DRV_TABLE, 0, INDIRECT, "indirect table of a bad length" },
		{ DRV_TABLE, 1, INDIRECT, "indirect table of a bad length" },
		{ DRV_TABLE, 15, INDIRECT, "indirect table of a bad length" },
		{ DRV_TABLE, 33, INDIRECT, "indirect table of a bad length" },
		{ DRV_TABLE, 16 * (VIRTQ_CHAIN_MAX + 1), INDIRECT, "indirect table of a bad length" },
		{ DRV_TABLE, 0xfffffff0, INDIRECT, "indirect table of a bad length" },
		{ DRV_TABLE, 32, INDIRECT | NEXT, "indirect descriptor that chains on" },
		{ DRV_MEM, 16, INDIRECT, "indirect table is not in RAM" },
		{ DRV_MEM - 16, 32, INDIRECT, "indirect table is not in RAM" },
		{ UINT64_MAX - 15, 32, INDIRECT, "indirect table is not in RAM" },
		{ MEM_GAP_START, 32, INDIRECT, "indirect table is not in RAM" },
	};
	struct fix *f = *state;

	for (size_t i = 0; i < MF_ARRAY_SIZE(bad); i++) {
		drv_publish_idx(&f->d, 0);
		start(f, false, true);
		drv_desc(&f->d, 0, bad[i].addr, bad[i].len, bad[i].flags, 1);
		drv_desc(&f->d, 1, DRV_DATA, 1, 0, 0);
		drv_publish(&f->d, 0);
		assert_broken(f, bad[i].why);
	}
}

static void test_indirect_not_negotiated(void **state)
{
	struct fix *f = *state;

	start(f, false, false);
	drv_desc(&f->d, 0, DRV_TABLE, 16, INDIRECT, 0);
	drv_publish(&f->d, 0);
	assert_broken(f, "indirect descriptor, which was not negotiated");
}

static void test_indirect_nested(void **state)
{
	struct fix *f = *state;

	drv_desc(&f->d, 0, DRV_TABLE, 32, INDIRECT, 0);
	drv_desc_at(&f->d, DRV_TABLE, 0, DRV_TABLE, 32, INDIRECT, 0);
	drv_publish(&f->d, 0);
	assert_broken(f, "indirect descriptor in an indirect table");
}

static void test_indirect_next_out_of_range(void **state)
{
	struct fix *f = *state;

	/* 5 is an index of the ring, but not of this table. */
	drv_desc(&f->d, 0, DRV_TABLE, 32, INDIRECT, 0);
	drv_desc_at(&f->d, DRV_TABLE, 0, DRV_DATA, 1, NEXT, 5);
	drv_publish(&f->d, 0);
	assert_broken(f, "descriptor index out of range");
}

/* A vCPU that rewrites a descriptor all the time: what comes out is one of the two states, whole, never a mixture. */
struct flipper {
	struct drv *d;
	bool stop;
};

static void *flip(void *arg)
{
	struct flipper *fl = arg;
	uint32_t *len = drv_at(fl->d, DRV_DESC + 8, 4);

	while (!__atomic_load_n(&fl->stop, __ATOMIC_RELAXED)) {
		__atomic_store_n(len, 64, __ATOMIC_RELAXED);
		__atomic_store_n(len, 0x7fffffff, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void test_double_fetch(void **state)
{
	struct fix *f = *state;
	struct flipper fl = { .d = &f->d };
	pthread_t thread;
	unsigned good = 0;

	drv_desc(&f->d, 0, DRV_DATA, 64, 0, 0);
	assert_int_equal(pthread_create(&thread, NULL, flip, &fl), 0);
	for (unsigned i = 0; i < 200000; i++) {
		drv_publish(&f->d, 0);
		if (pop(f) == 1) {
			assert_int_equal(f->c.iov[0].iov_len, 64);
			assert_int_equal(f->c.out_len, 64);
			virtq_push(&f->q, 0, 0);
			good++;
			continue;
		}
		assert_string_equal(f->why, "buffer is not in RAM");
		drv_publish_idx(&f->d, 0);
		start(f, false, true);
	}
	__atomic_store_n(&fl.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	(void)good; /* how the two meet is chance */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_loops),
		T(test_chain_of_whole_ring),
		T(test_next_out_of_range),
		T256(test_chain_too_long),
		T256(test_chain_too_long_with_indirect),
		T(test_buffer_addresses),
		cmocka_unit_test(test_buffer_across_gap),
		T(test_zero_length),
		T(test_readable_after_writable),
		cmocka_unit_test(test_chain_bytes),
		T(test_indirect),
		T(test_direct_then_indirect),
		T(test_indirect_bad),
		T(test_indirect_not_negotiated),
		T(test_indirect_nested),
		T(test_indirect_next_out_of_range),
		T(test_double_fetch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
