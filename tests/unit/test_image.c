/* The file behind a drive: its size, what direct I/O needs of it, and its lock. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "virtio/image.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"

static char path[64];
static struct err e;
static unsigned dio_offset, dio_mem; /* what statx(2) says of direct I/O */
static bool dio_known;

/* Instead of libc's. */
int statx(int fd, const char *restrict name, int flags, unsigned mask, struct statx *restrict st)
{
	(void)fd;
	(void)name;
	(void)flags;
	assert_int_equal(mask, STATX_DIOALIGN);
	*st = (struct statx){ .stx_dio_offset_align = dio_offset, .stx_dio_mem_align = dio_mem };
	st->stx_mask = dio_known ? STATX_DIOALIGN : 0;
	return 0;
}

static int setup(void **state)
{
	int fd;

	(void)state;
	log_setup(LOG_LEVEL_ERROR, -1);
	dio_known = true;
	dio_offset = dio_mem = 512;
	strcpy(path, "/tmp/mayfly-test-image-XXXXXX");
	fd = mkstemp(path);
	if (fd < 0)
		return -1;
	close(fd);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return unlink(path);
}

/* Opens it at that size. */
static int image(struct image *ret, off_t size, bool direct)
{
	assert_int_equal(truncate(path, size), 0);
	return image_open(ret, path, false, direct, false, &e);
}

static void refuses(off_t size, bool direct)
{
	struct image i = { .fd = -7 };

	assert_int_equal(image(&i, size, direct), -EINVAL);
	assert_int_equal(i.fd, -7);
}

static void takes(off_t size, bool direct, unsigned offset, unsigned mem)
{
	struct image i;

	assert_int_equal(image(&i, size, direct), 0);
	assert_int_equal(i.sectors, size / 512);
	assert_int_equal(i.dio_offset, offset);
	assert_int_equal(i.dio_mem, mem);
	assert_int_equal(fcntl(i.fd, F_GETFL) & O_DIRECT, direct ? O_DIRECT : 0);
	image_close(i.fd);
}

static void test_size(void **state)
{
	(void)state;
	takes(0, false, 0, 0);
	takes(512, false, 0, 0);
	takes(4096 + 512, false, 0, 0);
	refuses(511, false);
	refuses(513, false);
}

static void test_cut(void **state)
{
	struct image i;

	(void)state;
	assert_int_equal(truncate(path, 1023), 0);
	assert_int_equal(image_open(&i, path, false, false, true, &e), 0);
	assert_int_equal(i.sectors, 1);
	assert_int_equal(truncate(path, 511), 0);
	assert_int_equal(image_measure(&i, &e), 0);
	assert_int_equal(i.sectors, 0);
	image_close(i.fd);
}

static void test_direct(void **state)
{
	(void)state;
	takes(4096 + 512, true, 512, 512);
	dio_offset = 4096; /* the units of direct I/O are larger than a sector */
	dio_mem = 4;
	takes(8192, true, 4096, 4);
	refuses(4096 + 512, true);
	assert_non_null(strstr(e.text, "4096"));
	takes(4096 + 512, false, 0, 0);
	dio_offset = 1; /* or smaller, */
	takes(512, true, 512, 4);
	refuses(1, true);
	dio_offset = 512; /* or any address is good, */
	dio_mem = 0;
	takes(512, true, 512, 1);
	dio_offset = 8192; /* or more than we have buffers for */
	refuses(8192, true);
	dio_offset = 512;
	dio_mem = 8192;
	refuses(8192, true);
}

/* Linux before 6.1 cannot say, some file systems do not: a page is always enough. */
static void test_direct_is_not_known(void **state)
{
	(void)state;
	dio_known = false;
	takes(8192, true, 4096, 4096);
	refuses(512, true);
	dio_known = true;
	dio_offset = 0;
	takes(8192, true, 4096, 4096);
}

static void test_lock(void **state)
{
	struct image one, two;

	(void)state;
	assert_int_equal(image(&one, 512, false), 0);
	assert_int_equal(image_open(&two, path, false, false, false, &e), -EBUSY);
	assert_int_equal(image_open(&two, path, true, false, false, &e), -EBUSY);
	image_close(one.fd);
	assert_int_equal(image_open(&one, path, true, false, false, &e), 0);
	assert_int_equal(image_open(&two, path, true, false, false, &e), 0);
	image_close(one.fd);
	assert_int_equal(image_open(&one, path, false, false, false, &e), -EBUSY);
	image_close(two.fd);
	image_close(-1);
}

/* The lock is given up even if another descriptor of the open file is left, as a ring's is. */
static void test_close_unlocks(void **state)
{
	struct image one, two;
	int copy;

	(void)state;
	assert_int_equal(image(&one, 512, false), 0);
	copy = dup(one.fd);
	image_close(one.fd);
	assert_int_equal(fcntl(one.fd, F_GETFD), -1);
	assert_int_equal(image_open(&two, path, false, false, false, &e), 0);
	image_close(two.fd);
	close(copy);
}

static void test_measure(void **state)
{
	struct image i;

	(void)state;
	assert_int_equal(image(&i, 8192, true), 0);
	assert_int_equal(truncate(path, 16384), 0);
	assert_int_equal(image_measure(&i, &e), 0);
	assert_int_equal(i.sectors, 32);
	assert_int_equal(truncate(path, 16384 + 100), 0);
	assert_int_equal(image_measure(&i, &e), -EINVAL);
	assert_int_equal(truncate(path, 16384 + 512), 0);
	i.dio_offset = 4096;
	assert_int_equal(image_measure(&i, &e), -EINVAL);
	assert_int_equal(i.sectors, 32);
	image_close(i.fd);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_size), T(test_cut),	     T(test_direct),  T(test_direct_is_not_known),
		T(test_lock), T(test_close_unlocks), T(test_measure),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
