/*
 * A drive on a real loop comes to rest in the middle of a flood of requests, with both engines: nothing of the guest
 * changes from then on, and afterwards every request is answered once.
 */
#include "tests/unit/mock_driver.h"
#include "tests/unit/real_loop.h"

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "virtio/blk.h"
#include "virtio/device.h"
#include "virtio/mmio.h"
#include "vmm/core/state.h"

#define ROUNDS 60
#define REQUESTS 80U /* of three descriptors each, in a ring of 256 */
#define SECTORS 4096U
#define HEADER(i) (DRV_DATA + 16U * (i))
#define STATUS(i) (DRV_DATA + 0x1000U + (i))
#define DATA(i) (0x80000U + LEN * ((i) % 8))
#define LEN 0x10000U /* more than a turn of the loop begins, in all */

static struct {
	struct drv d;
	struct virtio_dev *dev;
	struct mmio *m;
	char path[64];
	_Atomic unsigned irqs;
} t;

static void raise_line(void *ctx, unsigned line)
{
	(void)ctx;
	(void)line;
	t.irqs++;
}

static void put(uint64_t reg, uint32_t value)
{
	mmio_access(t.m, reg, true, (uint8_t *)&value, sizeof(value));
}

static void bring_up(void)
{
	static const uint32_t gpa[] = { DRV_DESC, DRV_AVAIL, DRV_USED };

	put(VIRTIO_MMIO_STATUS, 1);
	put(VIRTIO_MMIO_STATUS, 3);
	put(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	put(VIRTIO_MMIO_DRIVER_FEATURES, 1);
	put(VIRTIO_MMIO_STATUS, 11);
	put(VIRTIO_MMIO_QUEUE_NUM, 256);
	for (unsigned i = 0; i < 3; i++)
		put(VIRTIO_MMIO_QUEUE_DESC_LOW + 0x10 * i, gpa[i]);
	put(VIRTIO_MMIO_QUEUE_READY, 1);
	put(VIRTIO_MMIO_STATUS, 15);
}

static int setup(enum loop_engine engine, bool overlay)
{
	struct blk_params params = { .id = "root", .path = t.path, .overlay = overlay };
	struct mmio_irq irq = { .raise = raise_line, .line = 5 };
	struct loop *loop;
	struct err e;
	int fd;

	fixture_engine = engine;
	fixture_kind = LOOP_FIXED;
	loop = fixture_loop_new();
	drv_init(&t.d, 256, DRV_MEM);
	strcpy(t.path, "/tmp/mayfly-test-quiet-XXXXXX");
	fd = mkstemp(t.path);
	assert_int_equal(ftruncate(fd, SECTORS * 512), 0);
	close(fd);
	if (blk_new(&t.dev, &params, loop, &t.d.mem, &e) < 0 || mmio_new(&t.m, t.dev, NULL, 0xd0000000, irq, &e) < 0)
		fail_msg("%s", e.text);
	fixture_loop_start(loop);
	bring_up();
	return 0;
}

static int setup_ring(void **state)
{
	(void)state;
	return setup(LOOP_ENGINE_RING, false);
}

static int setup_sync(void **state)
{
	(void)state;
	return setup(LOOP_ENGINE_SYNC, false);
}

static int setup_layer(void **state)
{
	(void)state;
	return setup(LOOP_ENGINE_AUTO, true);
}

static int teardown(void **state)
{
	(void)state;
	mmio_reset(t.m);
	fixture_loop_done(real_loop);
	t.dev->ops->free(t.dev);
	mmio_free(t.m);
	drv_done(&t.d);
	return unlink(t.path);
}

/* Writes, reads and flushes, which share some buffers. */
static void post(unsigned round)
{
	for (unsigned i = 0; i < REQUESTS; i++) {
		uint32_t type = i % 8 == 7 ? VIRTIO_BLK_T_FLUSH : i % 2 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT;
		struct virtio_blk_outhdr header = { .type = type, .sector = LEN / 512 * ((i + round) % 32) };
		unsigned write = type == VIRTIO_BLK_T_OUT ? 0 : WRITE;

		memcpy(drv_at(&t.d, HEADER(i), sizeof(header)), &header, sizeof(header));
		*(uint8_t *)drv_at(&t.d, STATUS(i), 1) = 0xee;
		drv_desc(&t.d, 3 * i, HEADER(i), 16, NEXT, type == VIRTIO_BLK_T_FLUSH ? 3 * i + 2 : 3 * i + 1);
		drv_desc(&t.d, 3 * i + 1, DATA(i), LEN, NEXT | write, 3 * i + 2);
		drv_desc(&t.d, 3 * i + 2, STATUS(i), 1, WRITE, 0);
		drv_publish(&t.d, (uint16_t)(3 * i));
	}
}

static void assert_unchanged_for_a_while(void)
{
	static uint8_t before[DRV_MEM];

	memcpy(before, drv_at(&t.d, 0, DRV_MEM), DRV_MEM);
	(void)poll(NULL, 0, 3);
	assert_memory_equal(before, drv_at(&t.d, 0, DRV_MEM), DRV_MEM);
}

static void test_flood(void **state)
{
	static uint8_t buf[4096];

	(void)state;
	for (unsigned round = 0; round < ROUNDS; round++) {
		uint16_t target = (uint16_t)(t.d.avail_idx + REQUESTS);
		struct state_out out;
		struct err e;

		post(round);
		put(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
		if (round % 3)
			(void)poll(NULL, 0, round % 3);
		if (mmio_quiet(t.m, 10000, &e) < 0)
			fail_msg("%s", e.text);
		assert_unchanged_for_a_while();
		assert_int_equal(t.dev->vq[0].next_avail, t.dev->vq[0].next_used);
		state_out_init(&out, buf, sizeof(buf));
		mmio_save(t.m, &out);
		assert_true(state_out_finish(&out) > 0);
		assert_unchanged_for_a_while();
		mmio_resume(t.m);
		for (unsigned i = 0; drv_used_idx(&t.d) != target && i < 10000; i++)
			(void)poll(NULL, 0, 1);
		assert_int_equal(drv_used_idx(&t.d), target);
		for (unsigned i = 0; i < REQUESTS; i++)
			assert_int_equal(*(uint8_t *)drv_at(&t.d, STATUS(i), 1), VIRTIO_BLK_S_OK);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		{ "test_flood with io_uring", test_flood, setup_ring, teardown, NULL },
		{ "test_flood with system calls", test_flood, setup_sync, teardown, NULL },
		{ "test_flood of an overlay", test_flood, setup_layer, teardown, NULL },
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
