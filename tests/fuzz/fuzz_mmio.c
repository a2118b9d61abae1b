/*
 * libFuzzer entry of the transport with a drive behind it: register accesses of any width, ring edits, notifications,
 * completions in any order, resets. Afterwards a driver that keeps to the rules must find a drive that works.
 */
#include "tests/fuzz/drive.h"

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>

#include "virtio/mmio.h"

#define ADFO 15U

static struct mmio *m;
static struct virtio_dev *dev;

static void put(uint64_t reg, uint32_t value)
{
	mmio_access(m, reg, true, (uint8_t *)&value, sizeof(value));
}

static uint32_t get(uint64_t reg)
{
	uint32_t value = UINT32_MAX;

	mmio_access(m, reg, false, (uint8_t *)&value, sizeof(value));
	return value;
}

/* To DRIVER_OK, as a driver does it. */
static void bring_up(uint32_t size, uint64_t features)
{
	static const uint32_t gpa[] = { DESC, AVAIL, USED };

	put(VIRTIO_MMIO_STATUS, 0);
	put(VIRTIO_MMIO_STATUS, 1);
	put(VIRTIO_MMIO_STATUS, 3);
	for (uint32_t half = 0; half < 2; half++) {
		put(VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
		put(VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> (32 * half)));
	}
	put(VIRTIO_MMIO_STATUS, 11);
	put(VIRTIO_MMIO_QUEUE_SEL, 0);
	put(VIRTIO_MMIO_QUEUE_NUM, size);
	for (unsigned i = 0; i < 3; i++) {
		put(VIRTIO_MMIO_QUEUE_DESC_LOW + 0x10 * i, gpa[i]);
		put(VIRTIO_MMIO_QUEUE_DESC_HIGH + 0x10 * i, 0);
	}
	put(VIRTIO_MMIO_QUEUE_READY, 1);
	put(VIRTIO_MMIO_STATUS, ADFO);
}

static void access_any(struct input *in)
{
	static const uint32_t edges[] = { 0,	1,   2,	  3,	  11,	  ADFO,	      0x40,
					  0x80, 256, 257, 0x8000, 0xffff, 0x80000000, UINT32_MAX };
	uint8_t reg = input_u8(in), how = input_u8(in), data[8];
	unsigned len = 1U << (how & 3);
	uint64_t value = how & 0x10 ? input_u64(in) : edges[input_u8(in) % MF_ARRAY_SIZE(edges)];

	memcpy(data, &value, sizeof(data));
	if (how & 4)
		mmio_access(m, (uint64_t)input_u16(in) % (MMIO_WINDOW_SIZE - 8), how & 8, data, len);
	else
		mmio_access(m, reg & 0x3fU ? (reg & 0x3fU) * 4 : VIRTIO_MMIO_STATUS, how & 8, data, 4);
}

static void put_any_desc(struct input *in)
{
	static const uint32_t lens[] = { 0, 1, 16, 17, 20, 512, 513, 4096, 65536, MIB, UINT32_MAX };
	uint8_t index = input_u8(in), len = input_u8(in), addr = input_u8(in);
	uint16_t flags = input_u8(in), next = input_u8(in);
	uint64_t gpa = addr < 0xc0 ? (uint64_t)addr << 12 : input_u64(in);

	put_desc((index & 0x80 ? TABLE : DESC) + 16 * (index & 0x7f), gpa, lens[len % MF_ARRAY_SIZE(lens)], flags & 7,
		 next);
}

static void put_request(struct input *in)
{
	unsigned slot = input_u8(in) % 64;
	uint8_t type = input_u8(in), sector = input_u8(in);
	uint16_t flags = (uint16_t)(type % 16 == VIRTIO_BLK_T_OUT ? 0 : VRING_DESC_F_WRITE);

	put_header(slot, type % 16, sector);
	put_desc(DESC + 48 * slot, HEADERS + 16 * slot, 16, VRING_DESC_F_NEXT, (uint16_t)(3 * slot + 1));
	put_desc(DESC + 48 * slot + 16, DATA + 0x1000 * (slot % 16), 512U * (1 + (type >> 4)),
		 VRING_DESC_F_NEXT | flags, (uint16_t)(3 * slot + 2));
	put_desc(DESC + 48 * slot + 32, STATUSES + slot, 1, VRING_DESC_F_WRITE, 0);
	put16(AVAIL + 4 + 2 * (get16(AVAIL + 2) % 256U), (uint16_t)(3 * slot));
	put16(AVAIL + 2, (uint16_t)(get16(AVAIL + 2) + 1));
}

static void step(struct input *in)
{
	uint8_t what = input_u8(in);

	switch (what & 15) {
	case 0:
		memset(mem_at(&mem, AVAIL, 0x2000), 0, 0x2000);
		bring_up(1U << (what >> 4) % 9, 1ULL << VIRTIO_F_VERSION_1 | (uint64_t)input_u8(in) << 28 |
							(what & 0x80 ? 1ULL << VIRTIO_BLK_F_FLUSH : 0));
		break;
	case 1:
	case 2:
		access_any(in);
		break;
	case 3:
	case 4:
		put_request(in);
		break;
	case 5:
		put_any_desc(in);
		break;
	case 6:
		put16(AVAIL + 2 * (input_u8(in) % 8U), input_u16(in));
		break;
	case 7:
	case 8:
		put(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
		mock_poll_watches();
		break;
	case 9:
	case 10:
	case 11:
		if (mock.num > 0)
			fuzz_complete(input_u8(in) % mock.num, what >> 4);
		break;
	case 12:
		mock.room = what >> 4;
		break;
	case 13:
		mock.room = MOCK_IO_MAX;
		mock.cancel_in_vain = what & 0x10;
		break;
	default:
		mock_run_tasks();
		break;
	}
}

static void raise_line(void *ctx, unsigned line)
{
	(void)ctx;
	FUZZ_CHECK(line == 5);
	FUZZ_CHECK(get(VIRTIO_MMIO_INTERRUPT_STATUS) != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mmio_irq irq = { .raise = raise_line, .line = 5 };
	struct input in = { data, size };
	struct err e;

	if (!dev) {
		dev = drive_new(false, false);
		FUZZ_CHECK(mmio_new(&m, dev, NULL, 0xd0000000, irq, &e) == 0);
	}
	memset(mem_at(&mem, 0, DATA), 0, DATA);
	while (in.left > 0)
		step(&in);
	put(VIRTIO_MMIO_STATUS, 0);
	FUZZ_CHECK(mock.num == 0 && get(VIRTIO_MMIO_STATUS) == 0 && get(VIRTIO_MMIO_INTERRUPT_STATUS) == 0);
	mock.room = MOCK_IO_MAX;
	mock_poll_watches();
	mock_run_tasks();
	put_good_request();
	bring_up(256, 1ULL << VIRTIO_F_VERSION_1);
	FUZZ_CHECK(get(VIRTIO_MMIO_STATUS) == ADFO);
	put(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	mock_poll_watches();
	fuzz_settle();
	check_good_request();
	FUZZ_CHECK(get(VIRTIO_MMIO_INTERRUPT_STATUS) == VIRTIO_MMIO_INT_VRING);
	put(VIRTIO_MMIO_STATUS, 0);
	return 0;
}
