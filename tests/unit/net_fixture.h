/*
 * What the tests of net.c share: an interface on a backend that only notes what it is asked for, with a driver for each
 * of its queues, each in a memory of its own. Include it once, in the test.
 */
#ifndef MF_TESTS_UNIT_NET_FIXTURE_H
#define MF_TESTS_UNIT_NET_FIXTURE_H

#include "tests/unit/mock_driver.h"
#include "tests/unit/mock_loop.h"

#include <stdlib.h>

#include "virtio/device.h"
#include "virtio/iov.h"
#include "virtio/mmio.h"
#include "virtio/net.h"
#include "virtio/net_backend.h"
#include "virtio/net_priv.h"
#include "vmm/base/log.h"

#define F(name) (1ULL << VIRTIO_NET_F_##name)
#define HDR 12U
#ifndef TX_MAX
#define TX_MAX 4U
#endif
#define BUF(i) (DRV_DATA + 0x2000U * (i))

struct fake {
	struct net_backend b;
	const struct iovec *iov; /* of the frame that is waited for, or NULL */
	unsigned num;
	uint32_t room;
	struct net_tx *sent[TX_MAX];
	unsigned num_sent;
	bool full; /* the ring is */
	unsigned starts, stops, frees, receives;
	unsigned refuse; /* frames that may not leave: the next so many */
	uint64_t features;
};

struct fix {
	struct drv q[2];
	struct fake fake;
	struct virtio_dev *dev;
	struct net_params params;
};

static unsigned used_calls[2], broken_calls, config_calls;
static const char *broken_why;
static struct fix *fix;

void mmio_used(struct virtio_dev *dev, unsigned index)
{
	(void)dev;
	used_calls[index]++;
}

void mmio_broken(struct virtio_dev *dev, const char *why)
{
	dev->vq[0].broken = dev->vq[1].broken = true;
	broken_calls++;
	broken_why = why;
}

void mmio_config_changed(struct virtio_dev *dev)
{
	(void)dev;
	config_calls++;
}

static void fake_start(struct net_backend *b, uint64_t features)
{
	(void)b;
	fix->fake.features = features;
	fix->fake.starts++;
}

static bool fake_admit(struct net_backend *b, struct net_tx *tx)
{
	(void)b;
	assert_true(tx->len >= NET_FRAME_MIN);
	if (fix->fake.refuse == 0)
		return true;
	fix->fake.refuse--;
	return false;
}

static bool fake_send(struct net_backend *b, struct net_tx *tx)
{
	(void)b;
	if (fix->fake.full)
		return false;
	assert_true(fix->fake.num_sent < TX_MAX);
	fix->fake.sent[fix->fake.num_sent++] = tx;
	return true;
}

static bool fake_receive(struct net_backend *b, const struct iovec *iov, unsigned num, uint32_t room)
{
	(void)b;
	assert_null(fix->fake.iov);
	if (fix->fake.full)
		return false;
	fix->fake.iov = iov;
	fix->fake.num = num;
	fix->fake.room = room;
	fix->fake.receives++;
	return true;
}

static void fake_stop(struct net_backend *b)
{
	fix->fake.stops++;
	/* What a real one does: the operations end, in some order. */
	while (fix->fake.num_sent > 0)
		net_sent(b, fix->fake.sent[--fix->fake.num_sent], -ECANCELED);
	if (fix->fake.iov) {
		fix->fake.iov = NULL;
		net_received(b, -ECANCELED);
	}
}

static void fake_free(struct net_backend *b)
{
	(void)b;
	fix->fake.frees++;
}

static const struct net_backend_ops fake_ops = {
	.tx_max = TX_MAX,
	.start = fake_start,
	.admit = fake_admit,
	.send = fake_send,
	.receive = fake_receive,
	.stop = fake_stop,
	.free = fake_free,
};

static inline void activate_sized(struct fix *f, uint64_t features, uint16_t rx_size)
{
	const char *why = "";

	f->dev->features = features;
	f->q[NET_RX].size = rx_size;
	for (unsigned i = 0; i < 2; i++) {
		f->dev->vq[i] = drv_queue(&f->q[i]);
		drv_publish_idx(&f->q[i], 0);
		memset(drv_at(&f->q[i], DRV_USED, 0x1000), 0, 0x1000);
		assert_int_equal(virtq_start(&f->dev->vq[i], &f->q[i].mem, false, true, &why), 0);
	}
	assert_int_equal(f->dev->ops->activate(f->dev), 0);
}

static inline void activate(struct fix *f, uint64_t features)
{
	activate_sized(f, features, 256);
}

static inline void make(struct fix *f)
{
	struct err e;

	f->fake = (struct fake){ .b.ops = &fake_ops, .b.offered = F(CSUM) | F(HOST_TSO4) };
	assert_int_equal(net_new(&f->dev, &f->params, &f->fake.b, mock.loop, NULL, &e), 0);
}

static inline int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));

	mock_init();
	fix = f;
	used_calls[0] = used_calls[1] = broken_calls = config_calls = 0;
	log_setup(LOG_LEVEL_ERROR, -1);
	drv_init(&f->q[0], 256, DRV_MEM);
	drv_init(&f->q[1], 256, DRV_MEM);
	f->params = (struct net_params){ .id = "net0", .mac = { 2, 3, 4, 5, 6, 7 }, .mtu = 1400 };
	make(f);
	*state = f;
	return 0;
}

static inline int teardown(void **state)
{
	struct fix *f = *state;

	f->dev->ops->reset(f->dev);
	assert_null(mock.loop->timers.first);
	f->dev->ops->free(f->dev);
	assert_int_equal(f->fake.frees, 1);
	drv_done(&f->q[0]);
	drv_done(&f->q[1]);
	free(f);
	return 0;
}

static inline void kick(struct fix *f)
{
	f->dev->ops->kick(f->dev);
}

/* Buffer i of the receive queue, len bytes at BUF(i). */
static inline void post(struct fix *f, unsigned i, uint32_t len)
{
	drv_desc(&f->q[NET_RX], i, BUF(i), len, WRITE, 0);
	drv_publish(&f->q[NET_RX], (uint16_t)i);
}

/* Frame i to be sent: a header and len bytes at BUF(i), in one descriptor. Not kicked. */
static inline void transmit(struct fix *f, unsigned i, const struct virtio_net_hdr_v1 *h, uint32_t len)
{
	memcpy(drv_at(&f->q[NET_TX], BUF(i), HDR), h, HDR);
	drv_desc(&f->q[NET_TX], i, BUF(i), HDR + len, 0, 0);
	drv_publish(&f->q[NET_TX], (uint16_t)i);
}

/* The backend has a frame of that many bytes, all of them fill. */
static inline void arrive(struct fix *f, uint32_t len, uint8_t fill)
{
	uint8_t *frame = malloc(HDR + len);
	struct fake *k = &f->fake;
	const struct iovec *iov = k->iov;

	assert_non_null(iov);
	memset(frame, 0, HDR);
	memset(frame + HDR, fill, len);
	(void)iov_put(iov, k->num, 0, frame, HDR + len);
	free(frame);
	k->iov = NULL;
	net_received(&k->b, (int)MF_MIN(HDR + len, k->room + 1));
}

struct fix_stats {
	uint64_t frames, bytes, dropped;
};

static inline struct fix_stats stats(struct fix *f, enum net_queue queue)
{
	const struct dev_counts *c = &f->dev->counts[queue == NET_RX ? DEV_TO_GUEST : DEV_FROM_GUEST];

	return (struct fix_stats){ c->requests, c->bytes, MF_CONTAINER_OF(f->dev, struct net, dev)->dropped[queue] };
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

#endif
