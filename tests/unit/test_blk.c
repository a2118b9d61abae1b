/* The block device on a real file, with a loop whose completions come when, in which order and with what the test wants. */
#include "tests/unit/mock_driver.h"
#include "tests/unit/mock_loop.h"

#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "virtio/blk.h"
#include "virtio/device.h"
#include "virtio/mmio.h"
#include "vmm/base/log.h"

#define SECTORS 64U
#define HEADER(i) (DRV_DATA + 0x20U * (i))
#define STATUS(i) (DRV_DATA + 0x20U * (i) + 0x10U)
#define DATA(i) (0x20000U + 0x1000U * (i))
#define NOT_WRITTEN 0xee

struct fix {
	struct drv d;
	struct virtio_dev *dev;
	char path[64];
	bool read_only;
};

static unsigned used_calls, broken_calls;
static const char *broken_why;

void mmio_used(struct virtio_dev *dev, unsigned index)
{
	(void)dev;
	assert_int_equal(index, 0);
	used_calls++;
}

void mmio_broken(struct virtio_dev *dev, const char *why)
{
	dev->vq[0].broken = true;
	broken_calls++;
	broken_why = why;
}

static void make_image(char *path, off_t size)
{
	uint8_t sector[512];
	int fd;

	strcpy(path, "/tmp/mayfly-test-blk-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	for (off_t i = 0; i < size / 512; i++) {
		memset(sector, (int)i + 1, sizeof(sector));
		assert_int_equal(pwrite(fd, sector, sizeof(sector), i * 512), 512);
	}
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

static uint8_t image_byte(const struct fix *f, off_t at)
{
	int fd = open(f->path, O_RDONLY);
	uint8_t byte;

	assert_int_equal(pread(fd, &byte, 1, at), 1);
	close(fd);
	return byte;
}

static void activate(struct fix *f, uint64_t features)
{
	const char *why = "";

	f->dev->features = features;
	f->dev->vq[0] = drv_queue(&f->d);
	drv_publish_idx(&f->d, 0);
	memset(drv_at(&f->d, DRV_USED, 0x1000), 0, 0x1000);
	assert_int_equal(virtq_start(&f->dev->vq[0], &f->d.mem, false, true, &why), 0);
	assert_int_equal(f->dev->ops->activate(f->dev), 0);
}

static int setup_mode(void **state, bool read_only)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct blk_params params = { .id = "root", .path = f->path, .read_only = read_only };
	struct err e;

	mock_init();
	used_calls = broken_calls = 0;
	log_setup(LOG_LEVEL_ERROR, -1);
	drv_init(&f->d, 256, DRV_MEM);
	make_image(f->path, SECTORS * 512);
	f->read_only = read_only;
	assert_int_equal(blk_new(&f->dev, &params, NULL, &f->d.mem, &e), 0);
	activate(f, 1ULL << VIRTIO_BLK_F_FLUSH);
	*state = f;
	return 0;
}

static int setup(void **state)
{
	return setup_mode(state, false);
}

static int setup_ro(void **state)
{
	return setup_mode(state, true);
}

static int teardown(void **state)
{
	struct fix *f = *state;

	f->dev->ops->reset(f->dev);
	assert_int_equal(mock.num, 0);
	f->dev->ops->free(f->dev);
	unlink(f->path);
	drv_done(&f->d);
	free(f);
	return 0;
}

static void kick(struct fix *f)
{
	f->dev->ops->kick(f->dev, 0);
}

static void put_header(struct fix *f, unsigned i, uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr header = { .type = type, .sector = sector };

	memcpy(drv_at(&f->d, HEADER(i), sizeof(header)), &header, sizeof(header));
	*(uint8_t *)drv_at(&f->d, STATUS(i), 1) = NOT_WRITTEN;
}

static uint8_t status_of(struct fix *f, unsigned i)
{
	return *(uint8_t *)drv_at(&f->d, STATUS(i), 1);
}

/* Request i, at descriptors 3i to 3i+2: header, len bytes at DATA(i) (none if 0), status. Not kicked. */
static void request(struct fix *f, unsigned i, uint32_t type, uint64_t sector, uint32_t len)
{
	unsigned write = type == VIRTIO_BLK_T_OUT ? 0 : WRITE;

	put_header(f, i, type, sector);
	drv_desc(&f->d, 3 * i, HEADER(i), 16, NEXT, len ? 3 * i + 1 : 3 * i + 2);
	drv_desc(&f->d, 3 * i + 1, DATA(i), len, NEXT | write, 3 * i + 2);
	drv_desc(&f->d, 3 * i + 2, STATUS(i), 1, WRITE, 0);
	drv_publish(&f->d, (uint16_t)(3 * i));
}

/* The used element number n is request i with this len, and its status is st. */
static void assert_used(struct fix *f, unsigned n, unsigned i, uint32_t len, uint8_t st)
{
	assert_true(drv_used_idx(&f->d) > n);
	assert_int_equal(drv_used_id(&f->d, (uint16_t)n), 3 * i);
	assert_int_equal(drv_used_len(&f->d, (uint16_t)n), len);
	assert_int_equal(status_of(f, i), st);
}

static uint8_t *data(struct fix *f, unsigned i)
{
	return drv_at(&f->d, DATA(i), 0x1000);
}

static void test_read(void **state)
{
	struct fix *f = *state;

	request(f, 0, VIRTIO_BLK_T_IN, 5, 1024);
	kick(f);
	assert_int_equal(drv_used_idx(&f->d), 0);
	assert_int_equal(status_of(f, 0), NOT_WRITTEN);
	mock_do_all();
	assert_used(f, 0, 0, 1025, VIRTIO_BLK_S_OK);
	assert_int_equal(data(f, 0)[0], 6);
	assert_int_equal(data(f, 0)[511], 6);
	assert_int_equal(data(f, 0)[512], 7);
	assert_int_equal(data(f, 0)[1023], 7);
	assert_int_equal(data(f, 0)[1024], 0);
	assert_int_equal(used_calls, 1);
}

static void test_write(void **state)
{
	struct fix *f = *state;

	memset(data(f, 0), 0xab, 1024);
	request(f, 0, VIRTIO_BLK_T_OUT, 62, 1024);
	kick(f);
	mock_do_all();
	assert_used(f, 0, 0, 1, VIRTIO_BLK_S_OK);
	assert_int_equal(image_byte(f, 62 * 512 - 1), 62);
	assert_int_equal(image_byte(f, 62 * 512), 0xab);
	assert_int_equal(image_byte(f, 64 * 512 - 1), 0xab);
}

static void test_flush(void **state)
{
	struct fix *f = *state;

	request(f, 0, VIRTIO_BLK_T_FLUSH, 0, 0);
	request(f, 1, VIRTIO_BLK_T_FLUSH, 99999, 512); /* sector and data mean nothing */
	kick(f);
	assert_int_equal(mock.num, 2);
	assert_int_equal(mock.io[0].kind, MOCK_FSYNC);
	mock_complete(0, 0);
	mock_complete(0, -EIO);
	assert_used(f, 0, 0, 1, VIRTIO_BLK_S_OK);
	assert_used(f, 1, 1, 0, VIRTIO_BLK_S_IOERR);
}

/* §5.2.6.2: a driver without FLUSH is owed stable writes. */
static void test_write_without_flush_feature(void **state)
{
	struct fix *f = *state;

	f->dev->ops->reset(f->dev);
	activate(f, 0);
	request(f, 0, VIRTIO_BLK_T_OUT, 0, 512);
	request(f, 1, VIRTIO_BLK_T_IN, 0, 512);
	kick(f);
	mock_do(0);
	assert_int_equal(mock.num, 2);
	assert_int_equal(mock.io[1].kind, MOCK_FSYNC);
	assert_int_equal(drv_used_idx(&f->d), 0);
	mock_do_all();
	assert_used(f, 0, 1, 513, VIRTIO_BLK_S_OK);
	assert_used(f, 1, 0, 1, VIRTIO_BLK_S_OK);
}

static void test_get_id(void **state)
{
	static const uint32_t lens[] = { 0, 1, 19, 20, 21, 512 };
	struct fix *f = *state;

	for (unsigned i = 0; i < MF_ARRAY_SIZE(lens); i++) {
		memset(data(f, i), NOT_WRITTEN, 600);
		request(f, i, VIRTIO_BLK_T_GET_ID, 0, lens[i]);
	}
	kick(f);
	for (unsigned i = 0; i < MF_ARRAY_SIZE(lens); i++) {
		uint32_t n = MF_MIN(lens[i], 20);

		assert_used(f, i, i, lens[i] > 20 ? 20 : n + 1, VIRTIO_BLK_S_OK);
		assert_memory_equal(data(f, i), "root\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", n);
		assert_int_equal(data(f, i)[n], NOT_WRITTEN);
	}
	assert_int_equal(mock.num, 0);
}

static void test_serial(void **state)
{
	struct fix *f = *state;
	struct blk_params params = { .id = "d1", .path = f->path, .serial = "01234567890123456789", .read_only = true };
	struct virtio_dev *dev;
	struct err e;

	assert_int_equal(blk_new(&dev, &params, NULL, &f->d.mem, &e), 0);
	dev->ops->free(dev);
	params.serial = "012345678901234567890";
	assert_int_equal(blk_new(&dev, &params, NULL, &f->d.mem, &e), -EINVAL);
	assert_string_equal(e.text, "drive 'd1': the serial has more than 20 bytes");
}

static void test_unsupported(void **state)
{
	static const uint32_t types[] = { 2, 3, 5, 6, 9, 11, 13, 14, 15, 16, 255, 0x80000000, 0xffffffff };
	struct fix *f = *state;

	for (unsigned i = 0; i < MF_ARRAY_SIZE(types); i++)
		request(f, i, types[i], 0, 512);
	kick(f);
	for (unsigned i = 0; i < MF_ARRAY_SIZE(types); i++)
		assert_used(f, i, i, 0, VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(mock.num, 0);
}

static void test_bounds(void **state)
{
	static const struct {
		uint64_t sector;
		uint32_t len;
		bool ok;
	} at[] = {
		{ 0, 4096, true },
		{ 63, 512, true },
		{ 64, 0, true },
		{ 56, 4096, true },
		{ 57, 4096, false },
		{ 63, 1024, false },
		{ 64, 512, false },
		{ 65, 0, false },
		{ 0, 511, false },
		{ 0, 513, false },
		{ 0, 1, false },
		{ UINT64_MAX, 512, false },
		{ UINT64_MAX, 0, false },
		{ UINT64_MAX / 512, 512, false },
		{ UINT64_MAX / 512 + 1, 512, false }, /* 0 when multiplied in 64 bits */
		{ 1ULL << 55, 512, false },
		{ (1ULL << 55) + 1, 4096, false },
	};
	struct fix *f = *state;

	for (unsigned type = VIRTIO_BLK_T_IN; type <= VIRTIO_BLK_T_OUT; type++) {
		f->dev->ops->reset(f->dev);
		activate(f, 1ULL << VIRTIO_BLK_F_FLUSH);
		for (unsigned i = 0; i < MF_ARRAY_SIZE(at); i++) {
			request(f, i, type, at[i].sector, at[i].len);
			kick(f);
			assert_int_equal(mock.num, at[i].ok && at[i].len ? 1 : 0);
			mock_do_all();
			assert_int_equal(status_of(f, i), at[i].ok ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR);
		}
	}
}

static void test_read_only(void **state)
{
	struct fix *f = *state;

	assert_true(f->dev->offered & 1ULL << VIRTIO_BLK_F_RO);
	request(f, 0, VIRTIO_BLK_T_OUT, 0, 512);
	request(f, 1, VIRTIO_BLK_T_OUT, 0, 0);
	request(f, 2, VIRTIO_BLK_T_IN, 0, 512);
	request(f, 3, VIRTIO_BLK_T_FLUSH, 0, 0);
	kick(f);
	assert_int_equal(mock.num, 2);
	mock_do_all();
	assert_used(f, 0, 0, 1, VIRTIO_BLK_S_IOERR);
	assert_used(f, 1, 1, 1, VIRTIO_BLK_S_IOERR);
	assert_used(f, 2, 2, 513, VIRTIO_BLK_S_OK);
	assert_used(f, 3, 3, 1, VIRTIO_BLK_S_OK);
	assert_int_equal(image_byte(f, 0), 1);
}

/* §2.7.4.3: no assumption on framing. Header and data in single bytes, the status byte merged with the data. */
static void test_framing_read(void **state)
{
	struct fix *f = *state;
	unsigned n = 0;

	put_header(f, 0, VIRTIO_BLK_T_IN, 9);
	for (; n < 16; n++)
		drv_desc(&f->d, n, HEADER(0) + n, 1, NEXT, n + 1);
	drv_desc(&f->d, n, DATA(0), 1, NEXT | WRITE, n + 1);
	n++;
	drv_desc(&f->d, n, DATA(1), 511 + 512 + 1, WRITE, 0);
	drv_publish(&f->d, 0);
	data(f, 1)[1023] = data(f, 1)[1024] = NOT_WRITTEN;
	kick(f);
	mock_do_all();
	assert_int_equal(drv_used_len(&f->d, 0), 1025);
	assert_int_equal(data(f, 0)[0], 10);
	assert_int_equal(data(f, 1)[0], 10);
	assert_int_equal(data(f, 1)[510], 10);
	assert_int_equal(data(f, 1)[511], 11);
	assert_int_equal(data(f, 1)[1022], 11);
	assert_int_equal(data(f, 1)[1023], VIRTIO_BLK_S_OK);
	assert_int_equal(data(f, 1)[1024], NOT_WRITTEN);
}

static void test_framing_write(void **state)
{
	struct fix *f = *state;
	struct virtio_blk_outhdr header = { .type = VIRTIO_BLK_T_OUT, .sector = 3 };

	/* Header and data are one buffer; there is more room for the answer than the status needs. */
	memcpy(data(f, 0), &header, sizeof(header));
	memset(data(f, 0) + 16, 0x5a, 512);
	memset(data(f, 1), NOT_WRITTEN, 16);
	drv_desc(&f->d, 0, DATA(0), 528, NEXT, 1);
	drv_desc(&f->d, 1, DATA(1), 8, WRITE, 0);
	drv_publish(&f->d, 0);
	kick(f);
	mock_do_all();
	assert_int_equal(drv_used_len(&f->d, 0), 0); /* no byte from the start of the in part was written */
	assert_int_equal(data(f, 1)[6], NOT_WRITTEN);
	assert_int_equal(data(f, 1)[7], VIRTIO_BLK_S_OK);
	assert_int_equal(image_byte(f, 3 * 512 - 1), 3);
	assert_int_equal(image_byte(f, 3 * 512), 0x5a);
	assert_int_equal(image_byte(f, 4 * 512 - 1), 0x5a);
	assert_int_equal(image_byte(f, 4 * 512), 5);
}

static void test_short_header(void **state)
{
	struct fix *f = *state;

	put_header(f, 0, VIRTIO_BLK_T_IN, 0);
	drv_desc(&f->d, 0, HEADER(0), 15, NEXT, 1);
	drv_desc(&f->d, 1, STATUS(0), 1, WRITE, 0);
	drv_publish(&f->d, 0);
	put_header(f, 1, VIRTIO_BLK_T_IN, 0);
	drv_desc(&f->d, 3, STATUS(1), 1, WRITE, 0); /* none at all */
	drv_publish(&f->d, 3);
	kick(f);
	assert_used(f, 0, 0, 1, VIRTIO_BLK_S_IOERR);
	assert_used(f, 1, 1, 1, VIRTIO_BLK_S_IOERR);
	assert_int_equal(broken_calls, 0);
}

static void test_no_status_byte(void **state)
{
	struct fix *f = *state;

	for (unsigned writable = 0; writable < 2; writable++) {
		broken_calls = 0;
		put_header(f, 0, VIRTIO_BLK_T_IN, 0);
		drv_desc(&f->d, 0, HEADER(0), 16, NEXT, 1);
		drv_desc(&f->d, 1, STATUS(0), writable ? 0 : 1, writable ? WRITE : 0, 0);
		drv_publish(&f->d, 0);
		kick(f);
		assert_int_equal(broken_calls, 1);
		assert_string_equal(broken_why, "request without room for a status byte");
		assert_int_equal(drv_used_idx(&f->d), 0);
		f->dev->ops->reset(f->dev);
		activate(f, 1ULL << VIRTIO_BLK_F_FLUSH);
		request(f, 0, VIRTIO_BLK_T_IN, 0, 512);
		kick(f);
		mock_do_all();
		assert_used(f, 0, 0, 513, VIRTIO_BLK_S_OK);
		f->dev->ops->reset(f->dev);
		activate(f, 1ULL << VIRTIO_BLK_F_FLUSH);
	}
}

static void test_broken_ring(void **state)
{
	struct fix *f = *state;

	request(f, 0, VIRTIO_BLK_T_IN, 0, 512);
	drv_publish(&f->d, 0);
	kick(f);
	assert_int_equal(broken_calls, 1);
	mock_do_all(); /* what was in flight is answered, once */
	assert_used(f, 0, 0, 513, VIRTIO_BLK_S_OK);
	assert_int_equal(drv_used_idx(&f->d), 1);
	mock_run_tasks();
	assert_int_equal(mock.num, 0);
}

/* A transfer that goes on byte by byte, over descriptors of odd sizes. */
static void test_short_transfers(void **state)
{
	static const size_t steps[] = { 1, 7, 100, 511, 512, 1000, 4096 };
	struct fix *f = *state;

	for (unsigned s = 0; s < MF_ARRAY_SIZE(steps); s++) {
		for (unsigned out = 0; out < 2; out++) {
			f->dev->ops->reset(f->dev);
			activate(f, 1ULL << VIRTIO_BLK_F_FLUSH);
			mock.bytes_max = steps[s];
			put_header(f, 0, out ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, 20);
			drv_desc(&f->d, 0, HEADER(0), 16, NEXT, 1);
			drv_desc(&f->d, 1, DATA(0), 3, NEXT | (out ? 0 : WRITE), 2);
			drv_desc(&f->d, 2, DATA(1), 1021, NEXT | (out ? 0 : WRITE), 3);
			drv_desc(&f->d, 3, DATA(2), 512, NEXT | (out ? 0 : WRITE), 4);
			drv_desc(&f->d, 4, STATUS(0), 1, WRITE, 0);
			if (out) {
				memset(data(f, 0), 0x10, 3);
				memset(data(f, 1), 0x20 + (int)s, 1021);
				memset(data(f, 2), 0x40, 512);
			}
			drv_publish(&f->d, 0);
			kick(f);
			mock_do_all();
			assert_used(f, 0, 0, out ? 1 : 1537, VIRTIO_BLK_S_OK);
			if (out) {
				assert_int_equal(image_byte(f, 20 * 512 + 2), 0x10);
				assert_int_equal(image_byte(f, 20 * 512 + 3), 0x20 + s);
				assert_int_equal(image_byte(f, 22 * 512 - 1), 0x20 + s);
				assert_int_equal(image_byte(f, 22 * 512), 0x40);
				assert_int_equal(image_byte(f, 23 * 512 - 1), 0x40);
				assert_int_equal(image_byte(f, 23 * 512), 24);
			} else {
				assert_int_equal(data(f, 2)[511], s ? 0x40 : 23);
			}
		}
	}
	mock.bytes_max = 0;
}

static void test_truncated_file(void **state)
{
	struct fix *f = *state;

	assert_int_equal(truncate(f->path, 512 + 100), 0);
	request(f, 0, VIRTIO_BLK_T_IN, 1, 1024); /* 100 bytes, then the end */
	request(f, 1, VIRTIO_BLK_T_IN, 10, 512);
	request(f, 2, VIRTIO_BLK_T_IN, 0, 512);
	kick(f);
	mock_do_all();
	/* 0 is the first to finish short: its rest is queued behind the others. */
	assert_used(f, 0, 1, 0, VIRTIO_BLK_S_IOERR);
	assert_used(f, 1, 2, 513, VIRTIO_BLK_S_OK);
	assert_used(f, 2, 0, 100, VIRTIO_BLK_S_IOERR);
}

static void test_host_errors(void **state)
{
	static const int errors[] = { -EIO, -ENOSPC, -EFBIG, -EBADF, -ENOMEM, -EFAULT, -ECANCELED };
	struct fix *f = *state;

	for (unsigned i = 0; i < MF_ARRAY_SIZE(errors); i++) {
		request(f, 2 * i, VIRTIO_BLK_T_OUT, 0, 512);
		request(f, 2 * i + 1, VIRTIO_BLK_T_IN, 0, 512);
		kick(f);
		mock_complete(0, errors[i]);
		mock_complete(0, errors[i]);
		assert_used(f, 2 * i, 2 * i, 1, VIRTIO_BLK_S_IOERR);
		assert_used(f, 2 * i + 1, 2 * i + 1, 0, VIRTIO_BLK_S_IOERR);
	}
	/* More than was asked for, and nothing written at all. */
	request(f, 20, VIRTIO_BLK_T_IN, 0, 512);
	request(f, 21, VIRTIO_BLK_T_OUT, 0, 512);
	kick(f);
	mock_complete(0, 513);
	mock_complete(0, 0);
	assert_int_equal(status_of(f, 20), VIRTIO_BLK_S_IOERR);
	assert_int_equal(status_of(f, 21), VIRTIO_BLK_S_IOERR);
}

static void test_again(void **state)
{
	struct fix *f = *state;

	request(f, 0, VIRTIO_BLK_T_IN, 0, 512);
	kick(f);
	for (unsigned i = 0; i < 20; i++) {
		mock_complete(0, i % 2 ? -EAGAIN : -EINTR);
		assert_int_equal(mock.num, 1);
		assert_int_equal(drv_used_idx(&f->d), 0);
	}
	mock_do_all();
	assert_used(f, 0, 0, 513, VIRTIO_BLK_S_OK);

	/* Not for ever. */
	request(f, 1, VIRTIO_BLK_T_IN, 0, 512);
	kick(f);
	for (unsigned i = 0; i < 1000 && mock.num; i++)
		mock_complete(0, -EAGAIN);
	assert_used(f, 1, 1, 0, VIRTIO_BLK_S_IOERR);
}

static void test_reordered(void **state)
{
	struct fix *f = *state;
	bool seen[64] = { false };

	for (unsigned i = 0; i < 64; i++)
		request(f, i, VIRTIO_BLK_T_IN, i, 512);
	kick(f);
	assert_int_equal(mock.num, 64);
	srandom(4);
	while (mock.num)
		mock_do((unsigned)random() % mock.num);
	assert_int_equal(drv_used_idx(&f->d), 64);
	for (unsigned n = 0; n < 64; n++) {
		unsigned i = drv_used_id(&f->d, (uint16_t)n) / 3;

		assert_false(seen[i]);
		seen[i] = true;
		assert_used(f, n, i, 513, VIRTIO_BLK_S_OK);
		assert_int_equal(data(f, i)[0], i + 1);
	}
}

static void test_ring_full(void **state)
{
	struct fix *f = *state;
	unsigned turns = 0;

	mock.room = 3;
	for (unsigned i = 0; i < 20; i++)
		request(f, i, i % 5 == 4 ? VIRTIO_BLK_T_FLUSH : VIRTIO_BLK_T_IN, i, i % 5 == 4 ? 0 : 512);
	kick(f);
	assert_int_equal(mock.num, 3);
	while (drv_used_idx(&f->d) < 20 && turns++ < 100) {
		if (mock.num)
			mock_do(0);
		mock_run_tasks();
		assert_true(mock.num <= 3);
	}
	for (unsigned i = 0; i < 20; i++)
		assert_used(f, i, i, i % 5 == 4 ? 1 : 513, VIRTIO_BLK_S_OK);
	assert_int_equal(broken_calls, 0);
}

/* The rest of a short transfer, and a sync after a write, find the ring full. */
static void test_ring_full_under_way(void **state)
{
	struct fix *f = *state;

	f->dev->ops->reset(f->dev);
	activate(f, 0);
	request(f, 0, VIRTIO_BLK_T_OUT, 0, 512);
	request(f, 1, VIRTIO_BLK_T_IN, 1, 512);
	kick(f);
	mock.room = 0;
	mock.bytes_max = 100;
	mock_do(0);
	mock_do(0);
	for (unsigned i = 0; i < 5; i++)
		mock_run_tasks();
	assert_int_equal(mock.num, 0);
	assert_int_equal(drv_used_idx(&f->d), 0);
	mock.room = 1;
	mock.bytes_max = 0;
	for (unsigned i = 0; i < 10; i++) {
		mock_run_tasks();
		mock_do_all();
	}
	assert_int_equal(drv_used_idx(&f->d), 2);
	assert_int_equal(status_of(f, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(status_of(f, 1), VIRTIO_BLK_S_OK);
	assert_int_equal(data(f, 1)[511], 2);
}

/* Reset with operations in flight: cancelled or not, none is left, none is answered, and the device works again. */
static void test_reset_in_flight(void **state)
{
	struct fix *f = *state;

	for (unsigned vain = 0; vain < 2; vain++) {
		mock.cancel_in_vain = vain;
		mock.drained = 0;
		for (unsigned i = 0; i < 80; i++)
			request(f, i, VIRTIO_BLK_T_IN, i % SECTORS, 512);
		used_calls = 0;
		kick(f);
		mock_do(5);
		assert_int_equal(used_calls, 1);
		for (unsigned i = 0; i < mock.num; i++)
			assert_false(mock.io[i].cancelled);
		f->dev->ops->reset(f->dev);
		assert_int_equal(mock.num, 0);
		assert_int_equal(mock.drained, 79);
		assert_int_equal(used_calls, 1);
		assert_int_equal(drv_used_idx(&f->d), 1);
		virtq_stop(&f->dev->vq[0]);

		activate(f, 1ULL << VIRTIO_BLK_F_FLUSH);
		for (unsigned i = 0; i < 85; i++)
			request(f, i, VIRTIO_BLK_T_IN, i % SECTORS, 512);
		kick(f);
		mock_do_all();
		assert_int_equal(drv_used_idx(&f->d), 85);
		f->dev->ops->reset(f->dev);
		activate(f, 1ULL << VIRTIO_BLK_F_FLUSH);
	}
}

/* Requests that wait for the ring die in a reset, and the task that is still queued does nothing afterwards. */
static void test_reset_while_waiting(void **state)
{
	struct fix *f = *state;

	request(f, 0, VIRTIO_BLK_T_IN, 0, 512);
	request(f, 1, VIRTIO_BLK_T_IN, 1, 512);
	kick(f);
	mock.room = 0;
	mock.bytes_max = 100;
	mock_do(0);
	mock_do(0);
	f->dev->ops->reset(f->dev);
	virtq_stop(&f->dev->vq[0]);
	mock.room = MOCK_IO_MAX;
	mock_run_tasks();
	assert_int_equal(mock.num, 0);
	assert_int_equal(drv_used_idx(&f->d), 0);
}

/* All heads in flight at once, many times over in another order: every slot comes back. */
static void test_all_slots(void **state)
{
	struct fix *f = *state;
	uint16_t total = 0;

	srandom(5);
	put_header(f, 0, VIRTIO_BLK_T_IN, 0);
	for (unsigned round = 0; round < 20; round++) {
		/* One indirect table for all: the heads differ, the buffers need not. */
		drv_desc_at(&f->d, DRV_TABLE, 0, HEADER(0), 16, NEXT, 1);
		drv_desc_at(&f->d, DRV_TABLE, 1, DATA(0), 512, NEXT | WRITE, 2);
		drv_desc_at(&f->d, DRV_TABLE, 2, STATUS(0), 1, WRITE, 0);
		for (unsigned i = 0; i < 256; i++) {
			drv_desc(&f->d, i, DRV_TABLE, 48, INDIRECT, 0);
			drv_add(&f->d, (uint16_t)((i * 7 + round) % 256));
		}
		drv_publish_idx(&f->d, f->d.avail_idx);
		kick(f);
		mock_run_tasks();
		assert_int_equal(mock.num, 256);
		while (mock.num)
			mock_do((unsigned)random() % mock.num);
		total += 256;
		assert_int_equal(drv_used_idx(&f->d), total);
	}
}

/* Ten queues full of bad chains, each answered or followed by a reset: no slot is lost. */
static void test_malformed_leaks_no_slot(void **state)
{
	struct fix *f = *state;

	for (unsigned i = 0; i < 2560; i++) {
		put_header(f, 0, VIRTIO_BLK_T_IN, 0);
		drv_desc(&f->d, 0, HEADER(0), i % 3 ? 16 : 15, i % 3 == 1 ? 0 : NEXT, 1);
		drv_desc(&f->d, 1, STATUS(0), 1, i % 2 ? WRITE : 0, 0);
		drv_publish(&f->d, 0);
		kick(f);
		mock_do_all();
		if (broken_calls) {
			f->dev->ops->reset(f->dev);
			activate(f, 1ULL << VIRTIO_BLK_F_FLUSH);
			broken_calls = 0;
		}
	}
	f->dev->ops->reset(f->dev);
	activate(f, 1ULL << VIRTIO_BLK_F_FLUSH);
	request(f, 1, VIRTIO_BLK_T_IN, 0, 512);
	kick(f);
	mock_do_all();
	assert_used(f, 0, 1, 513, VIRTIO_BLK_S_OK);
}

static void test_config(void **state)
{
	struct fix *f = *state;
	struct virtio_blk_config config = { 0 };
	uint32_t word;

	f->dev->ops->config_read(f->dev, 0, &config, f->dev->ops->config_len);
	assert_int_equal(config.capacity, SECTORS);
	assert_int_equal(config.seg_max, VIRTQ_CHAIN_MAX - 2);
	assert_int_equal(config.blk_size, 512);
	f->dev->ops->config_read(f->dev, offsetof(struct virtio_blk_config, blk_size), &word, 4);
	assert_int_equal(word, 512);
	assert_int_equal(f->dev->offered, 1ULL << VIRTIO_BLK_F_SEG_MAX | 1ULL << VIRTIO_BLK_F_BLK_SIZE |
						  1ULL << VIRTIO_BLK_F_FLUSH);
	assert_null(f->dev->ops->config_write);
}

static int new_error(struct fix *f, const char *path, bool read_only, struct err *e)
{
	struct blk_params params = { .id = "data", .path = path, .read_only = read_only };
	struct virtio_dev *dev = NULL;
	int err = blk_new(&dev, &params, NULL, &f->d.mem, e);

	if (dev)
		dev->ops->free(dev);
	return err;
}

static void test_new_errors(void **state)
{
	struct fix *f = *state;
	char path[64], expect[256];
	struct err e;

	assert_int_equal(new_error(f, "/nonexistent/img", false, &e), -ENOENT);
	assert_string_equal(e.text, "drive 'data': open '/nonexistent/img': No such file or directory");
	assert_int_equal(new_error(f, "/tmp", true, &e), -EINVAL);
	assert_string_equal(e.text, "drive 'data': open '/tmp': it is a directory, not a file or block device");
	assert_int_equal(new_error(f, "/dev/null", true, &e), -EINVAL);

	make_image(path, 1000);
	assert_int_equal(new_error(f, path, false, &e), -EINVAL);
	snprintf(expect, sizeof(expect),
		 "drive 'data': the size of '%s', 1000 bytes, is not a multiple of 512: not a raw image, or one cut "
		 "short ('truncate -s %%512' pads it)",
		 path);
	assert_string_equal(e.text, expect);
	assert_int_equal(truncate(path, 512), 0);
	mock.files_max = mock.num_fds;
	assert_int_equal(new_error(f, path, false, &e), -EMFILE);
	assert_string_equal(e.text, "drive 'data': its loop has too many files");
	unlink(path);
}

static void test_empty_image(void **state)
{
	struct fix *f = *state;
	struct blk_params params = { .id = "empty" };
	struct virtio_dev *dev;
	char path[64];
	uint64_t capacity = 1;
	struct err e;

	make_image(path, 0);
	params.path = path;
	assert_int_equal(blk_new(&dev, &params, NULL, &f->d.mem, &e), 0);
	dev->ops->config_read(dev, 0, &capacity, 8);
	assert_int_equal(capacity, 0);
	dev->ops->free(dev);
	unlink(path);
}

static void test_lock(void **state)
{
	struct fix *f = *state;
	char expect[256];
	struct err e;

	assert_int_equal(new_error(f, f->path, false, &e), -EBUSY);
	snprintf(expect, sizeof(expect),
		 "drive 'data': '%s' is in use by another VM or drive; give each its own copy, or give it to all as :ro",
		 f->path);
	assert_string_equal(e.text, expect);
	if (f->read_only) {
		assert_int_equal(new_error(f, f->path, true, &e), 0);
	} else {
		assert_int_equal(new_error(f, f->path, true, &e), -EBUSY);
		snprintf(expect, sizeof(expect),
			 "drive 'data': '%s' is in use by another VM or drive, which writes to it", f->path);
		assert_string_equal(e.text, expect);
	}
}

static void test_lock_ends(void **state)
{
	char path[64];
	struct err e;

	make_image(path, 512);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(new_error(*state, path, false, &e), 0);
	unlink(path);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define T_RO(fn) cmocka_unit_test_setup_teardown(fn, setup_ro, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_read),
		T(test_write),
		T(test_flush),
		T(test_write_without_flush_feature),
		T(test_get_id),
		T_RO(test_serial),
		T(test_unsupported),
		T(test_bounds),
		T_RO(test_read_only),
		T(test_framing_read),
		T(test_framing_write),
		T(test_short_header),
		T(test_no_status_byte),
		T(test_broken_ring),
		T(test_short_transfers),
		T(test_truncated_file),
		T(test_host_errors),
		T(test_again),
		T(test_reordered),
		T(test_ring_full),
		T(test_ring_full_under_way),
		T(test_reset_in_flight),
		T(test_reset_while_waiting),
		T(test_all_slots),
		T(test_malformed_leaks_no_slot),
		T(test_config),
		T(test_new_errors),
		T(test_empty_image),
		T(test_lock),
		T_RO(test_lock),
		T(test_lock_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
