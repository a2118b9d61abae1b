/*
 * An interface with passt: whatever the guest or the other end does not do, the thread sleeps, on both engines. The other end
 * is the test.
 */
#include "tests/unit/mock_driver.h"
#include "tests/unit/real_loop.h"

#include <endian.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "virtio/device.h"
#include "virtio/mmio.h"
#include "virtio/net.h"
#include "virtio/net_backend.h"
#include "vmm/base/log.h"

#define BUF(i) (DRV_DATA + 0x2000U * (i))
#define FRAME 60000U

struct fix {
	struct drv q[2];
	struct virtio_dev *dev;
	struct loop *loop;
	int host;
};

void mmio_used(struct virtio_dev *dev, unsigned index)
{
	(void)dev;
	(void)index;
}

void mmio_broken(struct virtio_dev *dev, const char *why)
{
	(void)dev;
	(void)why;
}

void mmio_config_changed(struct virtio_dev *dev)
{
	(void)dev;
}

static struct fix *fix;

static int on_loop(void *arg)
{
	switch (*(int *)arg) {
	case 'a':
		return fix->dev->ops->activate(fix->dev);
	case 'r':
		fix->dev->ops->reset(fix->dev);
		return 0;
	default:
		fix->dev->ops->kick(fix->dev);
		return 0;
	}
}

static void tell(int what)
{
	assert_int_equal(loop_call(fix->loop, on_loop, &what), 0);
	fixture_loop_turn();
}

static void setup(struct fix *f)
{
	const struct net_params params = { .id = "net0", .mac = { 2, 3, 4, 5, 6, 7 } };
	struct net_backend *b;
	const char *why = "";
	int pair[2];
	struct err e;

	fix = f;
	fixture_kind = LOOP_FIXED;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	f->host = pair[1];
	f->loop = fixture_loop_new();
	assert_int_equal(net_passt_open(&b, pair[0], NULL, f->loop, &e), 0);
	assert_int_equal(net_new(&f->dev, &params, b, f->loop, NULL, &e), 0);
	fixture_loop_start(f->loop);
	for (unsigned i = 0; i < 2; i++) {
		drv_init(&f->q[i], 256, DRV_MEM);
		f->dev->vq[i] = drv_queue(&f->q[i]);
		assert_int_equal(virtq_start(&f->dev->vq[i], &f->q[i].mem, false, true, &why), 0);
	}
	tell('a');
}

static void teardown(struct fix *f)
{
	tell('r');
	fixture_loop_done(f->loop);
	f->dev->ops->free(f->dev);
	close(f->host);
	drv_done(&f->q[0]);
	drv_done(&f->q[1]);
}

static void post(struct fix *f)
{
	drv_desc(&f->q[NET_RX], 0, BUF(0), 2000, WRITE, 0);
	drv_publish(&f->q[NET_RX], 0);
	tell(NET_RX);
}

static void host_sends(struct fix *f, uint32_t len, uint32_t real)
{
	static const char frame[2000];
	uint32_t prefix = htobe32(len);

	assert_int_equal(send(f->host, &prefix, sizeof(prefix), MSG_NOSIGNAL), sizeof(prefix));
	if (real)
		assert_int_equal(send(f->host, frame, real, MSG_NOSIGNAL), real);
}

/* More than the socket takes. */
static void guest_sends(struct fix *f)
{
	const struct virtio_net_hdr_v1 h = { .gso_type = VIRTIO_NET_HDR_GSO_NONE };

	memcpy(drv_at(&f->q[NET_TX], BUF(0), sizeof(h)), &h, sizeof(h));
	for (uint16_t i = 0; i < 32; i++) {
		drv_desc(&f->q[NET_TX], i, BUF(0), sizeof(h) + FRAME, 0, 0);
		drv_publish(&f->q[NET_TX], i);
	}
	tell(NET_TX);
}

static void no_buffer(struct fix *f)
{
	(void)f;
}

static void no_frame(struct fix *f)
{
	post(f);
}

static void frame_without_a_buffer(struct fix *f)
{
	host_sends(f, 100, 100);
}

static void half_a_frame(struct fix *f)
{
	post(f);
	host_sends(f, 100, 50);
}

static void half_a_frame_and_half_close(struct fix *f)
{
	half_a_frame(f);
	shutdown(f->host, SHUT_WR);
}

static void half_close_without_a_buffer(struct fix *f)
{
	shutdown(f->host, SHUT_WR);
}

static void host_does_not_read(struct fix *f)
{
	guest_sends(f);
}

static void host_does_not_read_and_half_closes(struct fix *f)
{
	guest_sends(f);
	shutdown(f->host, SHUT_WR);
}

static void host_has_half_closed_and_does_not_read(struct fix *f)
{
	post(f);
	shutdown(f->host, SHUT_WR);
	guest_sends(f);
}

static void host_takes_no_more(struct fix *f)
{
	shutdown(f->host, SHUT_RD);
	guest_sends(f);
	post(f);
}

static void nonsense(struct fix *f)
{
	post(f);
	host_sends(f, UINT32_MAX, 0);
	guest_sends(f);
}

static const struct {
	const char *name;
	void (*reach)(struct fix *f);
} states[] = {
	{ "no buffer", no_buffer },
	{ "no frame", no_frame },
	{ "a frame without a buffer", frame_without_a_buffer },
	{ "half a frame", half_a_frame },
	{ "half a frame and half-close", half_a_frame_and_half_close },
	{ "half-close without a buffer", half_close_without_a_buffer },
	{ "the host does not read", host_does_not_read },
	{ "the host does not read and half-closes", host_does_not_read_and_half_closes },
	{ "the host has half-closed and does not read", host_has_half_closed_and_does_not_read },
	{ "the host takes no more", host_takes_no_more },
	{ "nonsense", nonsense },
};

static void test_every_state_sleeps(void **state)
{
	unsigned turning = 0;

	(void)state;
	log_setup(LOG_LEVEL_ERROR, -1);
	for (size_t i = 0; i < MF_ARRAY_SIZE(states); i++) {
		struct fix f = { .host = -1 };
		uint64_t turns;

		setup(&f);
		states[i].reach(&f);
		fixture_loop_turn();
		turns = real_turns_in(REAL_QUIET_MS);
		if (turns > REAL_TURNS_MAX) {
			print_error("%s: %llu turns\n", states[i].name, (unsigned long long)turns);
			turning++;
		}
		teardown(&f);
	}
	assert_int_equal(turning, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_every_state_sleeps) };
	int failed;

	signal(SIGPIPE, SIG_IGN);
	failed = cmocka_run_group_tests_name("io_uring", tests, NULL, NULL);
	fixture_engine = LOOP_ENGINE_SYNC;
	return failed + cmocka_run_group_tests_name("sync", tests, NULL, NULL);
}
