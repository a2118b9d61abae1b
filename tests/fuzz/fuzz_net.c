/*
 * Fuzzes a network interface: the input is the rings' memory, the features and what happens, a byte a step. However that
 * is, no buffer outside of guest memory reaches the backend, no head is lost, and a reset ends it all.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "virtio/device.h"
#include "virtio/mmio.h"
#include "virtio/net.h"
#include "virtio/net_backend.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/core/mem.h"
#include "vmm/core/timer.h"

#define RAM (1ULL << 20)
#define RING 0x2000U /* bytes of input for each queue: 16 descriptors, rings, data */
#define TX_MAX 4U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct mem ram;
static struct fake {
	struct net_backend b;
	struct net_tx *sent[TX_MAX];
	unsigned num_sent;
	const struct iovec *iov;
	unsigned num;
	uint32_t room;
} fake;

static void check(const struct iovec *iov, unsigned num)
{
	const uint8_t *start = ram.region[0].host;

	for (unsigned i = 0; i < num; i++) {
		const uint8_t *p = iov[i].iov_base;

		assert(iov[i].iov_len > 0 && p >= start && iov[i].iov_len <= RAM && p + iov[i].iov_len <= start + RAM);
	}
}

static void fake_start(struct net_backend *b, uint64_t features)
{
	(void)b;
	(void)features;
}

static bool fake_send(struct net_backend *b, struct net_tx *tx)
{
	(void)b;
	assert(fake.num_sent < TX_MAX && tx->len >= NET_FRAME_MIN && tx->len <= NET_FRAME_MAX);
	check(tx->iov + 1, tx->num - 1);
	fake.sent[fake.num_sent++] = tx;
	return true;
}

static bool fake_receive(struct net_backend *b, const struct iovec *iov, unsigned num, uint32_t room)
{
	(void)b;
	assert(!fake.iov && num > 0 && num <= NET_RX_IOV_MAX && room >= NET_HEADER_LEN);
	check(iov, num);
	fake.iov = iov;
	fake.num = num;
	fake.room = room;
	return true;
}

static void fake_stop(struct net_backend *b)
{
	(void)b;
	fake.num_sent = 0;
	fake.iov = NULL;
}

static void fake_free(struct net_backend *b)
{
	(void)b;
}

static const struct net_backend_ops fake_ops = {
	.tx_max = TX_MAX,
	.start = fake_start,
	.send = fake_send,
	.receive = fake_receive,
	.stop = fake_stop,
	.free = fake_free,
};

static void step(struct virtio_dev *dev, uint8_t what, uint8_t more)
{
	uint32_t len = (uint32_t)NET_HEADER_LEN + more * 257U;

	if (what % 4 < 2) {
		dev->ops->kick(dev);
	} else if (what % 4 == 2 && fake.num_sent > 0) {
		net_sent(&fake.b, fake.sent[--fake.num_sent], more % 3 ? 0 : -EIO);
	} else if (what % 4 == 3 && fake.iov) {
		fake.iov = NULL;
		net_received(&fake.b, (int)(len > fake.room ? fake.room + 1 : len));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct net_params params = { .id = "fuzz", .mac = { 2 }, .mtu = 1500 };
	struct mmio_irq irq = { 0 };
	struct virtio_dev *dev;
	struct loop *loop;
	struct mmio *mmio;
	const char *why;
	struct err e;
	int r;

	if (size < 16)
		return 0;
	if (!ram.map) {
		log_setup(LOG_LEVEL_ERROR, -1);
		if (mem_init(&ram, RAM, &e) < 0)
			return 0;
	}
	memset(ram.region[0].host, 0, 3 * RING);
	fake = (struct fake){ .b.ops = &fake_ops };
	if (loop_new(&loop, "fuzz", LOOP_ENGINE_RING, LOOP_FIXED, &e) < 0)
		return 0;
	r = net_new(&dev, &params, &fake.b, loop, &ram, &e);
	assert(r == 0);
	r = mmio_new(&mmio, dev, NULL, 0xd0000000, irq, &e);
	assert(r == 0);
	memcpy(&dev->features, data, 8);
	for (unsigned i = 0; i < 2; i++) {
		uint64_t base = RING * (i + 1ULL);

		dev->vq[i] = (struct virtq){
			.size = 16, .ready = true, .desc_gpa = base, .avail_gpa = base + 0x100, .used_gpa = base + 0x200
		};
		if (size > 16 + 0x400 * i)
			memcpy(ram.region[0].host + base, data + 16 + 0x400 * i,
			       size - 16 - 0x400 * i < 0x400 ? size - 16 - 0x400 * i : 0x400);
		r = virtq_start(&dev->vq[i], &ram, data[8] & 1, data[8] & 2, &why);
		assert(r == 0);
	}
	r = dev->ops->activate(dev);
	assert(r == 0);
	for (unsigned i = 9; i < 16; i++)
		step(dev, data[i], data[i] >> 2);
	for (size_t i = 16 + 0x800; i + 1 < size && i < 16 + 0x800 + 256; i += 2)
		step(dev, data[i], data[i + 1]);
	dev->ops->reset(dev);
	mmio_free(mmio);
	dev->ops->free(dev);
	loop_free(loop);
	return 0;
}
