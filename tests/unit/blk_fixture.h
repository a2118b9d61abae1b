/*
 * What the tests of blk.c share: a drive on a real file, on a loop whose completions come when, in which order and with
 * what the test wants. Include it once, in the test.
 */
#ifndef MF_TESTS_UNIT_BLK_FIXTURE_H
#define MF_TESTS_UNIT_BLK_FIXTURE_H

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

static unsigned used_calls, broken_calls, config_calls;
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

void mmio_config_changed(struct virtio_dev *dev)
{
	(void)dev;
	config_calls++;
}

static inline void make_image(char *path, off_t size)
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

static inline uint8_t image_byte(const struct fix *f, off_t at)
{
	int fd = open(f->path, O_RDONLY);
	uint8_t byte;

	assert_int_equal(pread(fd, &byte, 1, at), 1);
	close(fd);
	return byte;
}

static inline void activate(struct fix *f, uint64_t features)
{
	const char *why = "";

	f->dev->features = features;
	f->dev->vq[0] = drv_queue(&f->d);
	drv_publish_idx(&f->d, 0);
	memset(drv_at(&f->d, DRV_USED, 0x1000), 0, 0x1000);
	assert_int_equal(virtq_start(&f->dev->vq[0], &f->d.mem, false, true, &why), 0);
	assert_int_equal(f->dev->ops->activate(f->dev), 0);
}

/* A drive as params has it, but for the path, with what the driver accepts of it. */
static inline int setup_params(void **state, struct blk_params params, off_t size, uint64_t accepts)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct err e;

	mock_init();
	used_calls = broken_calls = config_calls = 0;
	log_setup(LOG_LEVEL_ERROR, -1);
	drv_init(&f->d, 256, DRV_MEM);
	make_image(f->path, size);
	params.id = "root";
	params.path = f->path;
	f->read_only = params.read_only;
	if (blk_new(&f->dev, &params, mock.loop, &f->d.mem, &e) < 0)
		fail_msg("%s", e.text);
	mock_take_calls();
	activate(f, accepts & f->dev->offered);
	*state = f;
	return 0;
}

static inline int setup(void **state)
{
	return setup_params(state, (struct blk_params){ 0 }, SECTORS * 512, UINT64_MAX);
}

static inline int setup_ro(void **state)
{
	return setup_params(state, (struct blk_params){ .read_only = true }, SECTORS * 512, UINT64_MAX);
}

static inline int teardown(void **state)
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

static inline void kick(struct fix *f)
{
	f->dev->ops->kick(f->dev);
}

static inline void put_header(struct fix *f, unsigned i, uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr header = { .type = type, .sector = sector };

	memcpy(drv_at(&f->d, HEADER(i), sizeof(header)), &header, sizeof(header));
	*(uint8_t *)drv_at(&f->d, STATUS(i), 1) = NOT_WRITTEN;
}

static inline uint8_t status_of(struct fix *f, unsigned i)
{
	return *(uint8_t *)drv_at(&f->d, STATUS(i), 1);
}

/* Request i, at descriptors 3i to 3i+2: header, len bytes at DATA(i) (none if 0), status. Not kicked. */
static inline void request(struct fix *f, unsigned i, uint32_t type, uint64_t sector, uint32_t len)
{
	unsigned write = type == VIRTIO_BLK_T_OUT ? 0 : WRITE;

	put_header(f, i, type, sector);
	drv_desc(&f->d, 3 * i, HEADER(i), 16, NEXT, len ? 3 * i + 1 : 3 * i + 2);
	drv_desc(&f->d, 3 * i + 1, DATA(i), len, NEXT | write, 3 * i + 2);
	drv_desc(&f->d, 3 * i + 2, STATUS(i), 1, WRITE, 0);
	drv_publish(&f->d, (uint16_t)(3 * i));
}

/* The used element number n is request i with this len, and its status is st. */
static inline void assert_used(struct fix *f, unsigned n, unsigned i, uint32_t len, uint8_t st)
{
	assert_true(drv_used_idx(&f->d) > n);
	assert_int_equal(drv_used_id(&f->d, (uint16_t)n), 3 * i);
	assert_int_equal(drv_used_len(&f->d, (uint16_t)n), len);
	assert_int_equal(status_of(f, i), st);
}

static inline uint8_t *data(struct fix *f, unsigned i)
{
	return drv_at(&f->d, DATA(i), 0x1000);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define T_RO(fn) cmocka_unit_test_setup_teardown(fn, setup_ro, teardown)

#endif
