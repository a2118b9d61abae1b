/* The split ring: set-up, the two rings and their indices, copies; and what a lying available ring does. */
#include "tests/unit/virtq_fixture.h"

static void test_start_checks(void **state)
{
	static const struct {
		uint16_t size;
		uint64_t desc, avail, used;
		const char *why;
	} bad[] = {
		{ 0, DRV_DESC, DRV_AVAIL, DRV_USED, "queue size is not a power of two within the limit" },
		{ 3, DRV_DESC, DRV_AVAIL, DRV_USED, "queue size is not a power of two within the limit" },
		{ 512, DRV_DESC, DRV_AVAIL, DRV_USED, "queue size is not a power of two within the limit" },
		{ 0x8000, DRV_DESC, DRV_AVAIL, DRV_USED, "queue size is not a power of two within the limit" },
		{ 65535, DRV_DESC, DRV_AVAIL, DRV_USED, "queue size is not a power of two within the limit" },
		{ 8, DRV_DESC + 8, DRV_AVAIL, DRV_USED, "ring address is not aligned" },
		{ 8, DRV_DESC, DRV_AVAIL + 1, DRV_USED, "ring address is not aligned" },
		{ 8, DRV_DESC, DRV_AVAIL, DRV_USED + 2, "ring address is not aligned" },
		{ 8, DRV_MEM - 127, DRV_AVAIL, DRV_USED, "ring address is not aligned" },
		{ 8, DRV_MEM - 112, DRV_AVAIL, DRV_USED, "descriptor table is not in RAM" },
		{ 8, DRV_DESC, DRV_MEM - 20, DRV_USED, "available ring is not in RAM" },
		{ 8, DRV_DESC, DRV_AVAIL, DRV_MEM - 68, "used ring is not in RAM" },
		{ 8, UINT64_MAX - 15, DRV_AVAIL, DRV_USED, "descriptor table is not in RAM" },
		{ 8, DRV_DESC, UINT64_MAX - 1, DRV_USED, "available ring is not in RAM" },
		{ 8, DRV_DESC, DRV_AVAIL, UINT64_MAX - 3, "used ring is not in RAM" },
		{ 8, MEM_GAP_START, DRV_AVAIL, DRV_USED, "descriptor table is not in RAM" },
	};
	struct fix *f = *state;
	struct virtq q;

	for (size_t i = 0; i < MF_ARRAY_SIZE(bad); i++) {
		q = (struct virtq){
			.size = bad[i].size, .desc_gpa = bad[i].desc, .avail_gpa = bad[i].avail, .used_gpa = bad[i].used
		};
		assert_int_equal(virtq_check(&q, &f->d.mem, &f->why), -EINVAL);
		assert_int_equal(virtq_start(&q, &f->d.mem, false, false, &f->why), -EINVAL);
		assert_string_equal(f->why, bad[i].why);
		assert_int_equal(virtq_pop(&q, &f->c, &f->why), 0);
	}
	/* The last places that fit. */
	q = (struct virtq){ .size = 8, .desc_gpa = DRV_MEM - 128, .avail_gpa = DRV_MEM - 22, .used_gpa = DRV_MEM - 72 };
	assert_int_equal(virtq_start(&q, &f->d.mem, true, false, &f->why), 0);
}

static void test_size_max(void **state)
{
	struct fix *f = *state;

	for (unsigned i = 0; i < 256; i++) {
		drv_desc(&f->d, i, DRV_DATA + i, 1, 0, 0);
		drv_add(&f->d, (uint16_t)i);
	}
	drv_publish_idx(&f->d, 256);
	for (unsigned i = 0; i < 256; i++) {
		assert_int_equal(pop(f), 1);
		assert_int_equal(f->c.head, i);
		assert_ptr_equal(f->c.iov[0].iov_base, drv_at(&f->d, DRV_DATA + i, 1));
	}
	assert_int_equal(pop(f), 0);
}

static void test_not_started(void **state)
{
	struct fix *f = *state;

	drv_publish(&f->d, 0);
	virtq_stop(&f->q);
	assert_int_equal(pop(f), 0);
	assert_false(virtq_enable_notify(&f->q));
	assert_false(virtq_needs_interrupt(&f->q));
	virtq_disable_notify(&f->q);
	assert_false(f->q.ready);
	assert_int_equal(f->q.size, 0);
}

static void test_chain(void **state)
{
	struct fix *f = *state;

	assert_int_equal(pop(f), 0);
	drv_desc(&f->d, 5, DRV_DATA, 16, NEXT, 2);
	drv_desc(&f->d, 2, DRV_DATA + 0x1000, 512, NEXT | WRITE, 7);
	drv_desc(&f->d, 7, DRV_DATA + 0x2000, 1, WRITE, 1);
	drv_publish(&f->d, 5);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->c.head, 5);
	assert_int_equal(f->c.num_out, 1);
	assert_int_equal(f->c.num_in, 2);
	assert_int_equal(f->c.out_len, 16);
	assert_int_equal(f->c.in_len, 513);
	assert_ptr_equal(f->c.iov[0].iov_base, drv_at(&f->d, DRV_DATA, 16));
	assert_ptr_equal(f->c.iov[1].iov_base, drv_at(&f->d, DRV_DATA + 0x1000, 1));
	assert_ptr_equal(f->c.iov[2].iov_base, drv_at(&f->d, DRV_DATA + 0x2000, 1));
	assert_int_equal(f->c.iov[2].iov_len, 1);
	assert_int_equal(pop(f), 0);
	virtq_push(&f->q, 5, 513);
	assert_int_equal(drv_used_idx(&f->d), 1);
	assert_int_equal(drv_used_id(&f->d, 0), 5);
	assert_int_equal(drv_used_len(&f->d, 0), 513);
}

static void test_unpop(void **state)
{
	struct fix *f = *state;

	drv_desc(&f->d, 1, DRV_DATA, 16, 0, 0);
	drv_publish(&f->d, 1);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(pop(f), 1);
		assert_int_equal(f->c.head, 1);
		virtq_unpop(&f->q, &f->c);
	}
	assert_int_equal(pop(f), 1);
	virtq_push(&f->q, 1, 0);
	assert_int_equal(pop(f), 0);
	assert_int_equal(drv_used_idx(&f->d), 1);
}

static void test_copy(void **state)
{
	struct fix *f = *state;
	char *guest = drv_at(&f->d, DRV_DATA, 0x100);
	char buf[32] = { 0 };

	memcpy(guest, "abcdefghij", 10);
	drv_desc(&f->d, 0, DRV_DATA, 3, NEXT, 1);
	drv_desc(&f->d, 1, DRV_DATA + 3, 0, NEXT, 2);
	drv_desc(&f->d, 2, DRV_DATA + 3, 4, NEXT, 3);
	drv_desc(&f->d, 3, DRV_DATA + 0x20, 2, NEXT | WRITE, 4);
	drv_desc(&f->d, 4, DRV_DATA + 0x30, 3, WRITE, 0);
	drv_publish(&f->d, 0);
	assert_int_equal(pop(f), 1);
	assert_int_equal(virtq_copy_out(&f->c, 0, buf, 32), 7);
	assert_memory_equal(buf, "abcdefg\0", 8);
	assert_int_equal(virtq_copy_out(&f->c, 2, buf, 3), 3);
	assert_memory_equal(buf, "cdedefg", 7);
	assert_int_equal(virtq_copy_out(&f->c, 3, buf, 1), 1);
	assert_int_equal(buf[0], 'd');
	assert_int_equal(virtq_copy_out(&f->c, 7, buf, 1), 0);
	assert_int_equal(virtq_copy_out(&f->c, UINT64_MAX, buf, 1), 0);
	assert_int_equal(virtq_copy_in(&f->c, 1, "123456", 6), 4);
	assert_memory_equal(guest + 0x20, "\0001\0", 3);
	assert_memory_equal(guest + 0x30, "234\0", 4);
	assert_memory_equal(guest, "abcdefghij", 10);
	assert_int_equal(virtq_copy_in(&f->c, 5, "x", 1), 0);
	assert_int_equal(virtq_copy_in(&f->c, 0, "x", 0), 0);
}

/* Indices wrap at 65536, in both rings, several times. */
static void test_index_wrap(void **state)
{
	struct fix *f = *state;

	for (unsigned i = 0; i < 8; i++)
		drv_desc(&f->d, i, DRV_DATA + i, 1, WRITE, 0);
	for (unsigned i = 0; i < 3 * 65536; i++) {
		drv_publish(&f->d, (uint16_t)(i * 3 % 8));
		assert_int_equal(pop(f), 1);
		assert_int_equal(f->c.head, i * 3 % 8);
		virtq_push(&f->q, f->c.head, i);
		assert_int_equal(drv_used_idx(&f->d), (uint16_t)(i + 1));
		assert_int_equal(drv_used_id(&f->d, (uint16_t)i), i * 3 % 8);
		assert_int_equal(drv_used_len(&f->d, (uint16_t)i), i);
	}
	assert_int_equal(pop(f), 0);
}

static void test_full_batch_across_wrap(void **state)
{
	struct fix *f = *state;

	for (unsigned i = 0; i < 8; i++)
		drv_desc(&f->d, i, DRV_DATA + i, 1, WRITE, 0);
	f->q.next_avail = f->q.next_used = 65532;
	f->d.avail_idx = 65532;
	for (unsigned i = 0; i < 8; i++)
		drv_add(&f->d, (uint16_t)(7 - i));
	drv_publish_idx(&f->d, f->d.avail_idx);
	assert_int_equal(f->d.avail_idx, 4);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(pop(f), 1);
	assert_int_equal(pop(f), 0);
	for (unsigned i = 0; i < 8; i++)
		virtq_push(&f->q, (uint16_t)i, i);
	assert_int_equal(drv_used_idx(&f->d), 4);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(drv_used_id(&f->d, (uint16_t)(65532 + i)), i);
}

static void test_avail_jump(void **state)
{
	struct fix *f = *state;

	drv_publish_idx(&f->d, 9);
	assert_broken(f, "available index is ahead by more than the queue's size");
}

static void test_avail_backwards(void **state)
{
	struct fix *f = *state;

	drv_desc(&f->d, 0, DRV_DATA, 1, 0, 0);
	drv_publish(&f->d, 0);
	assert_int_equal(pop(f), 1);
	drv_publish_idx(&f->d, 0);
	assert_broken(f, "available index is ahead by more than the queue's size");
}

static void test_head_out_of_range(void **state)
{
	static const uint16_t bad[] = { 8, 9, 255, 0x7fff, 0x8000, 65535 };
	struct fix *f = *state;

	for (size_t i = 0; i < MF_ARRAY_SIZE(bad); i++) {
		drv_publish_idx(&f->d, 0);
		start(f, false, true);
		drv_publish(&f->d, bad[i]);
		assert_broken(f, "available head out of range");
	}
}

static void test_head_in_flight(void **state)
{
	struct fix *f = *state;

	drv_desc(&f->d, 2, DRV_DATA, 1, 0, 0);
	drv_publish(&f->d, 2);
	assert_int_equal(pop(f), 1);
	drv_publish(&f->d, 2);
	assert_broken(f, "available head is in flight");
}

static void test_head_twice_in_batch(void **state)
{
	struct fix *f = *state;

	drv_desc(&f->d, 2, DRV_DATA, 1, 0, 0);
	drv_desc(&f->d, 4, DRV_DATA, 1, 0, 0);
	drv_add(&f->d, 2);
	drv_add(&f->d, 4);
	drv_publish(&f->d, 2);
	assert_int_equal(pop(f), 1);
	assert_int_equal(pop(f), 1);
	assert_broken(f, "available head is in flight");
}

static void test_head_again_after_push(void **state)
{
	struct fix *f = *state;

	drv_desc(&f->d, 2, DRV_DATA, 1, 0, 0);
	for (unsigned i = 0; i < 20; i++) {
		drv_publish(&f->d, 2);
		assert_int_equal(pop(f), 1);
		virtq_push(&f->q, 2, 0);
	}
}

static void test_push_while_broken(void **state)
{
	struct fix *f = *state;

	drv_desc(&f->d, 2, DRV_DATA, 1, 0, 0);
	drv_publish(&f->d, 2);
	assert_int_equal(pop(f), 1);
	drv_publish(&f->d, 99);
	assert_int_equal(pop(f), -EPROTO);
	virtq_push(&f->q, 2, 0);
	assert_int_equal(drv_used_idx(&f->d), 1);
	assert_int_equal(pop(f), -EPROTO);
}

/* Of several heads that are filled the driver sees none before the flush, and then all. */
static void test_fill_and_flush(void **state)
{
	struct fix *f = *state;

	for (uint16_t i = 0; i < 3; i++) {
		drv_desc(&f->d, i, DRV_DATA, 64, WRITE, 0);
		drv_publish(&f->d, i);
		assert_int_equal(pop(f), 1);
	}
	for (uint16_t i = 0; i < 3; i++) {
		virtq_fill(&f->q, i, 10U + i);
		assert_int_equal(drv_used_idx(&f->d), 0);
	}
	virtq_flush(&f->q);
	assert_int_equal(drv_used_idx(&f->d), 3);
	assert_int_equal(drv_used_id(&f->d, 2), 2);
	assert_int_equal(drv_used_len(&f->d, 2), 12);
	assert_true(virtq_needs_interrupt(&f->q));
}

/* Each request counts once, when it is returned, with the time that it was in flight. */
static void test_latency(void **state)
{
	struct fix *f = *state;
	uint64_t num = 0;

	for (uint16_t i = 0; i < 3; i++) {
		drv_desc(&f->d, i, DRV_DATA, 64, WRITE, 0);
		drv_publish(&f->d, i);
		assert_int_equal(pop(f), 1);
	}
	f->q.popped[0] -= 1000; /* ticks ago: less than 1 << 10, or a little more if this was slow */
	f->q.popped[1] -= 1U << 31;
	for (unsigned k = 0; k <= VIRTQ_LATENCIES; k++)
		assert_int_equal(f->q.latency[k], 0);
	virtq_fill(&f->q, 0, 0);
	assert_int_equal(f->q.latency[9], 0);
	assert_true(f->q.latency[VIRTQ_LATENCIES] >= 1000);
	virtq_fill(&f->q, 1, 0);
	virtq_unpop_head(&f->q, 2);
	for (unsigned k = 0; k < VIRTQ_LATENCIES; k++)
		num += f->q.latency[k];
	assert_int_equal(num, 2);
	assert_int_equal(f->q.latency[VIRTQ_LATENCIES - 1], 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_start_checks),
		T256(test_size_max),
		T(test_not_started),
		T(test_chain),
		T(test_unpop),
		T(test_copy),
		T(test_index_wrap),
		T(test_full_batch_across_wrap),
		T(test_avail_jump),
		T(test_avail_backwards),
		T(test_head_out_of_range),
		T(test_head_in_flight),
		T(test_head_twice_in_batch),
		T(test_head_again_after_push),
		T(test_push_while_broken),
		T(test_fill_and_flush),
		T(test_latency),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
