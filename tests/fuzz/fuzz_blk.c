/*
 * libFuzzer entry of the drive's requests: chains of any framing with any header, completed in any order and with any
 * result, on a loop that may be full. Every request that was begun is answered once, and after a reset the drive works.
 */
#include "tests/fuzz/drive.h"

#include "virtio/mmio.h"

#define REQUESTS_MAX 64

static unsigned used, broken;

void mmio_used(struct virtio_dev *dev, unsigned index)
{
	(void)dev;
	FUZZ_CHECK(index == 0);
	used++;
}

void mmio_broken(struct virtio_dev *dev, const char *why)
{
	FUZZ_CHECK(why && why[0]);
	dev->vq[0].broken = true;
	broken++;
}

void mmio_config_changed(struct virtio_dev *dev)
{
	(void)dev; /* its size does not change here */
}

static void activate(struct virtio_dev *dev, uint16_t size, uint64_t features, bool event_idx)
{
	const char *why;

	dev->features = features;
	dev->vq[0] =
		(struct virtq){ .size = size, .ready = true, .desc_gpa = DESC, .avail_gpa = AVAIL, .used_gpa = USED };
	FUZZ_CHECK(virtq_start(&dev->vq[0], dev->mem, event_idx, true, &why) == 0);
	FUZZ_CHECK(dev->ops->activate(dev) == 0);
}

static void reset(struct virtio_dev *dev)
{
	dev->ops->reset(dev);
	FUZZ_CHECK(mock.num == 0);
	virtq_stop(&dev->vq[0]);
}

/* The range of a discard or a writing of zeroes, wherever its data may begin. */
static void put_ranges(struct input *in)
{
	struct virtio_blk_discard_write_zeroes range = { 0 };

	range.sector = input_u8(in);
	range.num_sectors = input_u8(in);
	range.flags = input_u8(in) & 3;
	for (unsigned i = 0; i < 16; i++)
		memcpy(mem_at(&mem, DATA + 0x1000U * i, sizeof(range)), &range, sizeof(range));
}

/* An indirect table of up to 32 descriptors of lengths that the input gives, and its head. */
static void put_request(struct input *in, unsigned slot)
{
	static const uint32_t lens[] = {
		0, 1, 15, 16, 17, 511, 512, 513, 1024, 4096, 8, 20, 65536, 1U << 20, UINT32_MAX
	};
	unsigned n = 1 + input_u8(in) % 32, outs = input_u8(in) % 8;
	uint32_t table = TABLE + 0x200U * (slot % 8);

	uint8_t type = input_u8(in) & 15;

	put_header(slot, type, input_u8(in) & 0x80 ? input_u64(in) : input_u8(in));
	if (type == VIRTIO_BLK_T_DISCARD || type == VIRTIO_BLK_T_WRITE_ZEROES)
		put_ranges(in);
	for (unsigned i = 0; i < n; i++) {
		uint8_t len = input_u8(in);
		uint16_t flags = (uint16_t)((i + 1 < n ? VRING_DESC_F_NEXT : 0) | (i < outs ? 0 : VRING_DESC_F_WRITE));
		uint32_t gpa = i == 0 ? HEADERS + 16 * slot : DATA + 0x1000U * (len >> 4);

		put_desc(table + 16 * i, gpa, lens[(len & 15) % MF_ARRAY_SIZE(lens)], flags, (uint16_t)(i + 1));
	}
	put_desc(DESC + 16 * slot, table, 16 * n, VRING_DESC_F_INDIRECT, 0);
	put16(AVAIL + 4 + 2 * (get16(AVAIL + 2) % REQUESTS_MAX), (uint16_t)slot);
	put16(AVAIL + 2, (uint16_t)(get16(AVAIL + 2) + 1));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct virtio_dev *drive[3];
	struct input in = { data, size };
	uint8_t shape = input_u8(&in);
	struct virtio_dev *dev;

	if (!drive[0]) {
		drive[0] = drive_new(false, false);
		drive[1] = drive_new(true, false);
		drive[2] = drive_new(false, true);
	}
	dev = drive[shape & 16 ? 2 : shape & 1];
	memset(mem_at(&mem, 0, DATA), 0, DATA);
	used = broken = 0;
	mock.cancel_in_vain = shape & 32;
	activate(dev, REQUESTS_MAX, shape & 2 ? 1ULL << VIRTIO_BLK_F_FLUSH : 0, shape & 4);
	while (in.left > 0) {
		uint8_t what = input_u8(&in);

		mock.room = what & 0x80 ? 2 : MOCK_IO_MAX;
		if (what % 4 < 2)
			put_request(&in, input_u8(&in) % REQUESTS_MAX);
		else if (what % 4 == 2 && mock.num > 0)
			fuzz_complete(input_u8(&in) % mock.num, what >> 2 & 15);
		else
			dev->ops->kick(dev);
		mock_run_tasks();
		FUZZ_CHECK(used == dev->vq[0].next_used);
	}
	mock.room = MOCK_IO_MAX;
	if (shape & 8)
		fuzz_settle();
	reset(dev);
	mock_run_tasks();
	put_good_request();
	activate(dev, REQUESTS_MAX, 0, false);
	dev->ops->kick(dev);
	fuzz_settle();
	check_good_request();
	reset(dev);
	return 0;
}
