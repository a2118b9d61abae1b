/* An interface in a snapshot: it comes to rest, gives its buffers back, and another one goes on. */
#include "tests/unit/net_fixture.h"
#include "tests/unit/state_fixture.h"

enum { AT_MAC = 0, AT_MTU = 6, AT_LINK = 8, AT_RX_SIZE = 9, PART_LEN = 9 + 2 * 2 * 48 };

static const struct virtio_net_hdr_v1 plain;

static void pause_queues(struct fix *f, bool paused)
{
	f->dev->vq[0].paused = f->dev->vq[1].paused = paused;
}

static int quiet(struct fix *f)
{
	pause_queues(f, true);
	return f->dev->ops->quiet(f->dev);
}

static void resume(struct fix *f)
{
	pause_queues(f, false);
	f->dev->ops->resume(f->dev);
	kick(f);
}

static void saved(struct fix *f)
{
	f->dev->ops->save(f->dev, state_begin_part());
	state_end_part();
	assert_int_equal(payload_len, PART_LEN);
}

/* A new interface in place of f->dev, with its queues where they were. Returns why it was refused, or NULL. */
static const char *replaced(struct fix *f)
{
	struct virtq was[2] = { f->dev->vq[0], f->dev->vq[1] };
	uint64_t features = f->dev->features;
	struct state_in *in;
	const char *why = "";
	struct err e;

	f->dev->ops->reset(f->dev);
	f->dev->ops->free(f->dev);
	make(f);
	f->dev->features = features;
	for (unsigned i = 0; i < 2; i++) {
		f->dev->vq[i] = drv_queue(&f->q[i]);
		assert_int_equal(virtq_start(&f->dev->vq[i], &f->q[i].mem, false, true, &why), 0);
	}
	assert_int_equal(f->dev->ops->activate(f->dev), 0);
	for (unsigned i = 0; i < 2; i++)
		f->dev->vq[i].next_avail = f->dev->vq[i].next_used = was[i].next_used;
	pause_queues(f, true);
	in = state_open_part();
	f->dev->ops->restore(f->dev, in);
	if (in->why)
		return in->why;
	return state_close(in, &e) < 0 ? "length" : NULL;
}

/* The driver's receive buffers, taken for a frame that has not come, are all back in the ring, in their order. */
static void test_buffers_go_back(void **state)
{
	struct fix *f = *state;

	activate(f, F(MRG_RXBUF) | F(GUEST_TSO4));
	for (unsigned i = 0; i < 5; i++)
		post(f, i, 1500);
	kick(f);
	for (unsigned i = 5; i < 60; i++)
		post(f, i, 1500);
	kick(f);
	arrive(f, 100, 0x11);
	assert_int_equal(drv_used_idx(&f->q[0]), 1);
	assert_int_equal(f->dev->vq[0].next_used, 1);
	assert_true(f->dev->vq[0].next_avail > 1);
	assert_int_equal(quiet(f), 0);
	assert_int_equal(f->dev->vq[0].next_avail, 1);
	assert_null(f->fake.iov);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(f->dev->vq[0].inflight[i], 0);
	resume(f);
	arrive(f, 100, 0x22);
	assert_int_equal(drv_used_idx(&f->q[0]), 2);
	assert_int_equal(drv_used_id(&f->q[0], 1), 1);
	assert_int_equal(broken_calls, 0);
}

/* Frames that are being sent are the driver's again; others stay in the ring. No buffer is lost, no link goes down. */
static void test_frames_being_sent(void **state)
{
	struct fix *f = *state;

	activate(f, 0);
	for (unsigned i = 0; i < 6; i++)
		transmit(f, i, &plain, 60);
	kick(f);
	assert_int_equal(f->fake.num_sent, TX_MAX);
	assert_int_equal(quiet(f), 0);
	assert_int_equal(drv_used_idx(&f->q[1]), TX_MAX);
	assert_int_equal(f->dev->vq[1].next_avail, TX_MAX);
	assert_int_equal(config_calls, 0);
	mock_run_tasks();
	assert_int_equal(f->fake.num_sent, 0);
	resume(f);
	assert_int_equal(f->fake.num_sent, 2);
}

/* While it is quiet, nothing that comes from outside starts anything. */
static void test_quiet(void **state)
{
	struct fix *f = *state;

	activate(f, 0);
	post(f, 0, 1600);
	kick(f);
	assert_int_equal(quiet(f), 0);
	post(f, 1, 1600);
	transmit(f, 0, &plain, 60);
	kick(f);
	mock_run_tasks();
	assert_null(f->fake.iov);
	assert_int_equal(f->fake.num_sent, 0);
	assert_null(mock.loop->timers.first); /* the cancelled read is no error of the host */
	assert_int_equal(drv_used_idx(&f->q[0]), 0);
	assert_int_equal(quiet(f), 0); /* a second time: nothing happens */
	resume(f);
	assert_non_null(f->fake.iov);
	assert_int_equal(f->fake.num_sent, 1);
}

/* The guest keeps its address; the backend gets the features that the driver had. */
static void test_goes_on(void **state)
{
	struct fix *f = *state;
	struct virtio_net_config config;

	activate(f, F(GUEST_TSO4) | F(GUEST_CSUM));
	for (unsigned i = 0; i < 50; i++)
		post(f, i, 1600);
	kick(f);
	assert_int_equal(quiet(f), 0);
	saved(f);
	f->params.mac[5] = 99; /* of another tap */
	f->fake.starts = 0;
	f->fake.frees = 0;
	assert_null(replaced(f));
	assert_int_equal(f->fake.features, F(GUEST_TSO4) | F(GUEST_CSUM));
	f->dev->ops->config_read(f->dev, 0, &config, sizeof(config.mac));
	assert_int_equal(config.mac[5], 7);
	assert_int_equal(config_calls, 0); /* the link stays up */
	assert_null(f->fake.iov);
	resume(f);
	arrive(f, 100, 0x33);
	assert_int_equal(drv_used_idx(&f->q[0]), 1);
}

/* A link that was down is up again: the other end is new. */
static void test_link(void **state)
{
	struct fix *f = *state;

	activate(f, 0);
	post(f, 0, 1600);
	kick(f);
	f->fake.iov = NULL;
	net_received(&f->fake.b, NET_LOST);
	assert_int_equal(config_calls, 1);
	assert_int_equal(quiet(f), 0);
	resume(f); /* it stays down here */
	assert_null(f->fake.iov);
	assert_int_equal(quiet(f), 0);
	saved(f);
	f->fake.frees = 0;
	assert_null(replaced(f));
	assert_int_equal(config_calls, 2);
	resume(f);
	assert_non_null(f->fake.iov);
}

static void test_hostile(void **state)
{
	static const struct {
		unsigned at, value, bytes;
		const char *names;
	} changes[] = {
		{ AT_MAC, 1, 1, "MAC" },
		{ AT_MTU, 1500, 2, "MTU" },
		{ AT_LINK, 2, 1, "link" },
		{ AT_RX_SIZE + 24, 1, 8, "tokens" },
	};
	struct fix *f = *state;

	activate(f, 0);
	assert_int_equal(quiet(f), 0);
	saved(f);
	for (unsigned i = 0; i < MF_ARRAY_SIZE(changes); i++) {
		uint8_t good[PART_LEN];
		const char *why;

		memcpy(good, payload, sizeof(good));
		payload_put(changes[i].at, changes[i].value, changes[i].bytes);
		f->fake.frees = 0;
		why = replaced(f);
		if (!why || !strstr(why, changes[i].names))
			fail_msg("'%s' does not name '%s'", why ? why : "nothing", changes[i].names);
		memcpy(payload, good, sizeof(good));
	}
	f->fake.frees = 0;
	assert_null(replaced(f));
	assert_int_equal(config_calls, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		/* clang-format off */
		T(test_buffers_go_back),
		T(test_frames_being_sent),
		T(test_quiet),
		T(test_goes_on),
		T(test_link),
		T(test_hostile),
		/* clang-format on */
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
