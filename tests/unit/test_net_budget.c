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

/* A backend that always has another frame does not keep the loop to itself. */
static void test_frames_to_the_guest(void **state)
{
	static const uint32_t len[] = { 0, 1500, FRAME };
	struct fix *f = *state;

	for (size_t i = 0; i < MF_ARRAY_SIZE(len); i++) {
		unsigned num = 0;

		activate(f, F(MRG_RXBUF) | F(GUEST_TSO4));
		for (unsigned k = 0; k < 256; k++) {
			drv_desc(&f->q[NET_RX], k, BUF(0), 0x2000, WRITE, 0);
			drv_publish(&f->q[NET_RX], (uint16_t)k);
		}
		kick(f);
		for (; f->fake.iov && num < 200; num++)
			arrive(f, len[i], 1);
		assert_in_range((uint64_t)num * (len[i] + HDR), len[i] ? 100000 : 0, 400000);
		assert_in_range(num, 2, 199);
		mock_run_tasks();
		assert_non_null(f->fake.iov);
		f->dev->ops->reset(f->dev);
		mock_run_tasks();
	}
}

/* A sent frame needs another turn only if frames wait for its slot. */
static void test_turns_after_sending(void **state)
{
	const struct virtio_net_hdr_v1 h = { .gso_type = VIRTIO_NET_HDR_GSO_NONE };
	struct fix *f = *state;

	activate(f, 0);
	mock_run_tasks();
	transmit(f, 0, &h, 60);
	kick(f);
	net_sent(&f->fake.b, f->fake.sent[--f->fake.num_sent], 0);
	assert_false(mock_has_tasks());
	for (unsigned i = 1; i <= TX_MAX + 1; i++)
		transmit(f, i, &h, 60);
	kick(f);
	assert_int_equal(f->fake.num_sent, TX_MAX);
	net_sent(&f->fake.b, f->fake.sent[--f->fake.num_sent], 0);
	assert_true(mock_has_tasks());
	mock_run_tasks();
	assert_int_equal(f->fake.num_sent, TX_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_large_frames),
		T(test_frames_that_are_dropped),
		T(test_frames_to_the_guest),
		T(test_turns_after_sending),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
