/* A drive that changes while the guest runs: its size, its image, with requests under way, and what may go wrong. */
#include "tests/unit/blk_fixture.h"

static uint64_t capacity(struct fix *f)
{
	uint64_t sectors;

	f->dev->ops->config_read(f->dev, 0, &sectors, 8);
	return sectors;
}

/* Another image, of n sectors of byte. */
static void make_other(char *path, unsigned n, int byte)
{
	uint8_t sector[512];
	int fd;

	strcpy(path, "/tmp/mayfly-test-other-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	memset(sector, byte, sizeof(sector));
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(write(fd, sector, sizeof(sector)), 512);
	close(fd);
}

static void test_size(void **state)
{
	struct fix *f = *state;
	struct err e;

	assert_int_equal(truncate(f->path, 100 * 512), 0);
	assert_int_equal(capacity(f), SECTORS); /* until somebody says so */
	request(f, 0, VIRTIO_BLK_T_IN, 99, 512);
	kick(f);
	assert_used(f, 0, 0, 0, VIRTIO_BLK_S_IOERR);
	assert_int_equal(blk_update(f->dev, NULL, &e), 0);
	assert_int_equal(capacity(f), 100);
	assert_int_equal(config_calls, 1);
	request(f, 1, VIRTIO_BLK_T_IN, 99, 512);
	kick(f);
	mock_do_all();
	assert_used(f, 1, 1, 513, VIRTIO_BLK_S_OK);
	/* By its path, which is no second opening that the lock would refuse. */
	assert_int_equal(truncate(f->path, 10 * 512), 0);
	assert_int_equal(blk_update(f->dev, f->path, &e), 0);
	assert_int_equal(capacity(f), 10);
	request(f, 2, VIRTIO_BLK_T_OUT, 10, 512);
	kick(f);
	assert_used(f, 2, 2, 1, VIRTIO_BLK_S_IOERR);
	assert_int_equal(truncate(f->path, 1000), 0);
	assert_int_equal(blk_update(f->dev, NULL, &e), -EINVAL);
	assert_string_equal(e.text, "drive 'root': its size, 1000 bytes, is not a multiple of 512");
	assert_int_equal(capacity(f), 10);
}

static void test_swap(void **state)
{
	struct fix *f = *state;
	struct blk_params params = { .id = "old", .path = f->path };
	struct virtio_dev *dev;
	char path[64];
	struct err e;

	make_other(path, 200, 0x99);
	/* Under way: they end on the old image, which is then synced. */
	memset(data(f, 0), 0xaa, 512);
	request(f, 0, VIRTIO_BLK_T_OUT, 5, 512);
	request(f, 1, VIRTIO_BLK_T_IN, 6, 512);
	kick(f);
	assert_int_equal(blk_update(f->dev, path, &e), 0);
	assert_int_equal(mock.drained, 3);
	assert_used(f, 0, 0, 1, VIRTIO_BLK_S_OK);
	assert_used(f, 1, 1, 513, VIRTIO_BLK_S_OK);
	assert_int_equal(data(f, 1)[0], 7);
	assert_int_equal(image_byte(f, 5 * 512), 0xaa);
	assert_int_equal(capacity(f), 200);
	assert_int_equal(config_calls, 1);
	request(f, 2, VIRTIO_BLK_T_IN, 150, 512);
	kick(f);
	mock_do_all();
	assert_int_equal(data(f, 2)[511], 0x99);
	/* The old one is free, the new one is locked. */
	assert_int_equal(blk_new(&dev, &params, mock.loop, &f->d.mem, &e), 0);
	dev->ops->free(dev);
	params.path = path;
	assert_int_equal(blk_new(&dev, &params, mock.loop, &f->d.mem, &e), -EBUSY);
	unlink(path);
}

/* A request in parts, with the ring full on the way: no part goes to the new image. */
static void test_swap_waits_for_the_rest(void **state)
{
	struct fix *f = *state;
	char path[64];
	struct err e;

	make_other(path, 2, 0x99);
	memset(data(f, 0), 0xaa, 4096);
	request(f, 0, VIRTIO_BLK_T_OUT, 40, 4096);
	kick(f);
	mock.room = 0;
	mock_complete(0, 512);
	mock.room = 4;
	mock.bytes_max = 1024;
	assert_int_equal(blk_update(f->dev, path, &e), 0);
	mock.bytes_max = 0;
	assert_used(f, 0, 0, 1, VIRTIO_BLK_S_OK);
	for (unsigned i = 41; i < 48; i++)
		assert_int_equal(image_byte(f, i * 512), 0xaa);
	assert_int_equal(capacity(f), 2);
	mock_run_tasks();
	unlink(path);
}

static void test_swap_refused(void **state)
{
	struct fix *f = *state;
	char path[64];
	struct err e;

	make_other(path, 200, 0x99);
	assert_int_equal(blk_update(f->dev, "/nonexistent", &e), -ENOENT);
	assert_string_equal(e.text, "drive 'root': open '/nonexistent': No such file or directory");
	mock.replace_err = -EACCES;
	assert_int_equal(blk_update(f->dev, path, &e), -EACCES);
	assert_string_equal(e.text, "drive 'root': this VM was started without leave to change its drives");
	mock.replace_err = -ENOMEM;
	assert_int_equal(blk_update(f->dev, path, &e), -ENOMEM);
	mock.replace_err = 0;
	assert_int_equal(capacity(f), SECTORS);
	assert_int_equal(config_calls, 0);
	request(f, 0, VIRTIO_BLK_T_IN, 3, 512);
	kick(f);
	mock_do_all();
	assert_used(f, 0, 0, 513, VIRTIO_BLK_S_OK);
	assert_int_equal(data(f, 0)[0], 4);
	assert_int_equal(blk_update(f->dev, path, &e), 0); /* its lock was given up each time */
	unlink(path);
}

/* An image that has lost data is not taken for one that is synced: not by the update, and not by a flush after it. */
static void test_swap_of_what_is_lost(void **state)
{
	struct fix *f = *state;
	char path[64];
	struct err e;

	make_other(path, 200, 0x99);
	mock.fsync_err = EIO;
	assert_int_equal(blk_update(f->dev, path, &e), -EIO);
	mock.fsync_err = 0;
	mock_run_tasks();
	request(f, 0, VIRTIO_BLK_T_FLUSH, 0, 0);
	kick(f);
	mock_do_all();
	assert_used(f, 0, 0, 1, VIRTIO_BLK_S_IOERR);
	assert_int_equal(blk_update(f->dev, path, &e), -EIO);
	f->dev->ops->reset(f->dev);
	activate(f, UINT64_MAX);
	assert_int_equal(blk_update(f->dev, path, &e), 0);
	unlink(path);
}

/* Requests that read 31 MiB each, into the same 256 KiB again and again. */
static void test_swap_of_a_busy_drive(void **state)
{
	enum { PIECES = 124, PIECE = 256 * 1024, REQUESTS = 3 };
	struct fix *f = *state;
	char path[64];
	struct err e;

	assert_int_equal(truncate(f->path, PIECES * PIECE), 0);
	assert_int_equal(blk_update(f->dev, NULL, &e), 0);
	mock_run_tasks();
	make_other(path, 200, 0x99);
	put_header(f, 0, VIRTIO_BLK_T_IN, 0);
	drv_desc(&f->d, 0, HEADER(0), 16, NEXT, 1);
	for (unsigned i = 1; i <= PIECES; i++)
		drv_desc(&f->d, (uint16_t)i, 0x80000, PIECE, NEXT | WRITE, (uint16_t)(i + 1));
	drv_desc(&f->d, PIECES + 1, STATUS(0), 1, WRITE, 0);
	for (uint16_t i = 0; i < REQUESTS; i++) {
		drv_desc(&f->d, 200 + i, HEADER(0), 16, NEXT, 1);
		drv_publish(&f->d, 200 + i);
	}
	kick(f);
	mock.bytes_max = 65536;
	assert_int_equal(blk_update(f->dev, path, &e), -EBUSY);
	mock.bytes_max = 0;
	while (mock.num || mock_has_tasks()) {
		mock_do_all();
		mock_run_tasks();
	}
	assert_int_equal(drv_used_idx(&f->d), REQUESTS);
	assert_int_equal(blk_update(f->dev, path, &e), 0);
	unlink(path);
}

static int setup_overlay(void **state)
{
	return setup_params(state, (struct blk_params){ .overlay = true }, SECTORS * 512, UINT64_MAX);
}

static void test_overlay_refuses(void **state)
{
	struct fix *f = *state;
	struct err e;

	assert_int_equal(blk_update(f->dev, "/tmp/x", &e), -ENOTSUP);
	assert_string_equal(e.text, "drive 'root': it has an overlay, which belongs to the image that it has");
}

static void test_inactive(void **state)
{
	struct fix *f = *state;
	char path[64];
	struct err e;

	make_other(path, 3, 0x99);
	f->dev->ops->reset(f->dev);
	assert_int_equal(blk_update(f->dev, path, &e), 0);
	mock_run_tasks();
	mock_take_calls(); /* the other image is in memory, or its page cache can be asked */
	activate(f, 0);
	request(f, 0, VIRTIO_BLK_T_IN, 2, 512);
	kick(f);
	mock_do_all();
	assert_used(f, 0, 0, 513, VIRTIO_BLK_S_OK);
	assert_int_equal(data(f, 0)[0], 0x99);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_size),
		T(test_swap),
		T(test_swap_waits_for_the_rest),
		T(test_swap_refused),
		T(test_swap_of_what_is_lost),
		T(test_swap_of_a_busy_drive),
		cmocka_unit_test_setup_teardown(test_overlay_refuses, setup_overlay, teardown),
		T(test_inactive),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
