/* What a drive tells about itself, and drives that cannot be made: bad files, bad sizes, images in use. */
#include "tests/unit/blk_fixture.h"

#define BIT(n) (1ULL << (n))
#define ALWAYS (BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_BLK_SIZE))

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
	assert_int_equal(config.max_discard_seg, 1);
	assert_int_equal(config.max_discard_sectors, 1 << 21);
	assert_int_equal(config.discard_sector_alignment, 8);
	assert_int_equal(config.max_write_zeroes_seg, 1);
	assert_int_equal(config.max_write_zeroes_sectors, 1 << 17);
	assert_int_equal(config.write_zeroes_may_unmap, 1);
	assert_int_equal(f->dev->offered,
			 ALWAYS | BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES));
	assert_null(f->dev->ops->config_write);
}

static int setup_unsafe(void **state)
{
	return setup_params(state, (struct blk_params){ .unsafe = true }, SECTORS * 512, UINT64_MAX);
}

static void test_features(void **state)
{
	struct fix *f = *state;

	if (f->read_only)
		assert_int_equal(f->dev->offered, ALWAYS | BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_RO));
	else /* unsafe */
		assert_int_equal(f->dev->offered, ALWAYS | BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES));
}

static int new_error(struct fix *f, const char *path, bool read_only, struct err *e)
{
	struct blk_params params = { .id = "data", .path = path, .read_only = read_only };
	struct virtio_dev *dev = NULL;
	int err = blk_new(&dev, &params, mock.loop, &f->d.mem, e);

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
	mock_leave_files(0);
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
	assert_int_equal(blk_new(&dev, &params, mock.loop, &f->d.mem, &e), 0);
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

/* A ring that the kernel takes down holds the lock of a process that was killed for a while. */
static void *hold_lock(void *arg)
{
	struct timespec ts = { .tv_nsec = 100000000 };
	const int *fd = arg;

	nanosleep(&ts, NULL);
	close(*fd);
	return NULL;
}

static void test_lock_of_a_killed_process(void **state)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	pthread_t thread;
	char path[64];
	struct err e;
	int fd;

	make_image(path, 512);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	assert_int_equal(pthread_create(&thread, NULL, hold_lock, &fd), 0);
	assert_int_equal(new_error(*state, path, false, &e), 0);
	pthread_join(thread, NULL);
	unlink(path);
}

/* Pages mapped, and the next descriptor that would be used. */
static void measure(long *ret_pages, int *ret_fd)
{
	char text[128] = "";
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);

	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	*ret_pages = strtol(text, NULL, 10);
	*ret_fd = fd;
}

/* A drive of each kind leaves nothing behind. */
static void test_leaves_nothing(void **state)
{
	static const struct blk_params kinds[] = { { 0 }, { .direct = true }, { .overlay = true } };
	struct fix *f = *state;
	long pages[2];
	int fd[2];
	struct err e;

	f->dev->ops->free(f->dev); /* its image is locked */
	for (unsigned i = 0; i < MF_ARRAY_SIZE(kinds); i++) {
		struct blk_params params = kinds[i];

		params.id = "data";
		params.path = f->path;
		for (unsigned k = 0; k < 3; k++) { /* the first fills what the allocator keeps */
			mock_init();
			assert_int_equal(blk_new(&f->dev, &params, mock.loop, &f->d.mem, &e), 0);
			f->dev->ops->free(f->dev);
			if (k > 0)
				measure(&pages[k - 1], &fd[k - 1]);
		}
		assert_int_equal(pages[0], pages[1]);
		assert_int_equal(fd[0], fd[1]);
	}
	mock_init();
	assert_int_equal(blk_new(&f->dev, &(struct blk_params){ .id = "data", .path = f->path }, mock.loop, &f->d.mem,
				 &e),
			 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_leaves_nothing), T(test_config),
		T_RO(test_features),	cmocka_unit_test_setup_teardown(test_features, setup_unsafe, teardown),
		T(test_new_errors),	T(test_empty_image),
		T(test_lock),		T_RO(test_lock),
		T(test_lock_ends),	T(test_lock_of_a_killed_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
