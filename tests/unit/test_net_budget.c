/* A turn of the loop begins to send a bounded number of bytes, however many frames the guest has ready. */
#define TX_MAX 64U
#include "tests/unit/net_fixture.h"

#define FRAME 60000U
#define FRAMES 60U

static void test_large_frames(void **state)
{
	const struct virtio_net_hdr_v1 h = { .gso_type = VIRTIO_NET_HDR_GSO_NONE };
	struct fix *f = *state;
	unsigned before = 0;

	activate(f, 0);
	for (unsigned i = 0; i < FRAMES; i++) { /* all have the same bytes */
		memcpy(drv_at(&f->q[NET_TX], BUF(0), HDR), &h, HDR);
		drv_desc(&f->q[NET_TX], i, BUF(0), HDR + FRAME, 0, 0);
		drv_publish(&f->q[NET_TX], (uint16_t)i);
	}
	kick(f);
	for (; f->fake.num_sent < FRAMES; mock_run_tasks()) {
		assert_in_range(f->fake.num_sent - before, 1, MIB / FRAME + 1);
		before = f->fake.num_sent;
	}
	assert_true(before > 0);
}

/* Frames that are dropped are looked at, too. */
static void test_frames_that_are_dropped(void **state)
{
	struct fix *f = *state;
	unsigned before = 0, turns = 0;

	activate(f, 0);
	for (unsigned i = 0; i < FRAMES; i++) {
		drv_desc(&f->q[NET_TX], i, BUF(0), 0x40000, 0, 0);
		drv_publish(&f->q[NET_TX], (uint16_t)i);
	}
	kick(f);
	for (; drv_used_idx(&f->q[NET_TX]) < FRAMES; mock_run_tasks(), turns++) {
		assert_in_range(drv_used_idx(&f->q[NET_TX]) - before, 1, MIB / FRAME + 1);
		before = drv_used_idx(&f->q[NET_TX]);
	}
	assert_true(turns > 1);
	assert_int_equal(f->fake.num_sent, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_large_frames),
		T(test_frames_that_are_dropped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
