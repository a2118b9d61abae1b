/* The bookkeeping of an overlay: which sectors are whose, and what it may hold. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "virtio/overlay.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"

#define SECTORS 1000U

static int tmpfile_errno; /* if not 0, what open(2) says to O_TMPFILE */

/* Instead of libc's. */
int open(const char *path, int flags, ...)
{
	mode_t mode;
	va_list ap;

	va_start(ap, flags);
	mode = va_arg(ap, mode_t);
	va_end(ap);
	if (tmpfile_errno && (flags & O_TMPFILE) == O_TMPFILE) {
		errno = tmpfile_errno;
		return -1;
	}
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

static struct overlay *make(uint64_t sectors, uint64_t max_bytes)
{
	struct overlay *o = NULL;
	struct err e;

	if (overlay_new(&o, sectors, max_bytes, NULL, &e) < 0)
		fail_msg("%s", e.text);
	return o;
}

/* Against a byte per sector. */
static void test_runs_against_a_model(void **state)
{
	static uint8_t model[SECTORS];
	struct overlay *o = make(SECTORS, 0);

	(void)state;
	srandom(7);
	memset(model, 0, sizeof(model));
	for (unsigned i = 0; i < 300; i++) {
		uint64_t from = (uint64_t)random() % SECTORS;
		uint64_t num = 1 + (uint64_t)random() % MF_MIN(SECTORS - from, i % 2 ? 5U : 200U);
		uint64_t max = 1 + (uint64_t)random() % (SECTORS - from), run = 0, got;
		bool own;

		if (i < 40) {
			overlay_written(o, from * 512, num * 512);
			memset(model + from, 1, num);
		}
		while (run < max && model[from + run] == model[from])
			run++;
		got = overlay_run(o, from, max, &own);
		assert_int_equal(got, run);
		assert_int_equal(own, model[from]);
	}
	overlay_free(o);
}

/* A write that ends or begins inside of a sector: the sector is own when its last byte is there. */
static void test_parts_of_sectors(void **state)
{
	struct overlay *o = make(SECTORS, 0);
	bool own;

	(void)state;
	overlay_written(o, 512, 100);
	overlay_run(o, 1, 1, &own);
	assert_false(own);
	overlay_written(o, 612, 411);
	overlay_run(o, 1, 1, &own);
	assert_false(own);
	overlay_written(o, 1023, 514);
	assert_int_equal(overlay_run(o, 1, 10, &own), 2);
	assert_true(own);
	overlay_free(o);
}

static void test_room(void **state)
{
	struct overlay *o = make(SECTORS, 3 * 4096 + 100); /* 3 pages */

	(void)state;
	assert_int_equal(overlay_reserve(o, 0, 512), 0);
	assert_int_equal(overlay_reserve(o, 512, 3584), 0); /* the same page */
	assert_int_equal(overlay_reserve(o, 4096 * 10 - 512, 1024), 0);
	assert_int_equal(overlay_reserve(o, 4096 * 10, 4096), 0);
	assert_int_equal(overlay_reserve(o, 4096 * 20, 512), -ENOSPC);
	assert_int_equal(overlay_reserve(o, 4096 * 9, 4096 * 3), -ENOSPC); /* one page of three more */
	overlay_release(o, 512, 4095);					   /* no whole page */
	assert_int_equal(overlay_reserve(o, 4096 * 20, 512), -ENOSPC);
	overlay_release(o, 0, 4096);
	overlay_release(o, 0, 4096);
	assert_int_equal(overlay_reserve(o, 4096 * 20, 512), 0);
	assert_int_equal(overlay_reserve(o, 0, 512), -ENOSPC);
	overlay_free(o);
}

/* A release gives back the pages of its range that were counted: of all others nothing, nor a second time. */
static void test_release_gives_what_was_taken(void **state)
{
	struct overlay *o = make(SECTORS, 2 * 4096);
	unsigned fit = 0;

	(void)state;
	assert_int_equal(overlay_reserve(o, 4096 * 7, 4096), 0);
	overlay_release(o, 0, 4096 * 7);
	assert_int_equal(overlay_reserve(o, 4096 * 9, 8192), -ENOSPC);
	for (unsigned i = 0; i < 2; i++)
		overlay_release(o, 0, SECTORS * 512);
	for (unsigned page = 0; page < SECTORS / 8; page++)
		fit += overlay_reserve(o, page * 4096, 4096) == 0;
	assert_int_equal(fit, 2);
	overlay_free(o);
}

static void test_the_whole_drive_fits_without_a_limit(void **state)
{
	static const uint64_t sectors[] = { 1, 7, 8, 9, 63, 64, 65, SECTORS };

	(void)state;
	for (unsigned i = 0; i < MF_ARRAY_SIZE(sectors); i++) {
		struct overlay *o = make(sectors[i], 0);
		bool own;

		assert_int_equal(overlay_reserve(o, 0, sectors[i] * 512), 0);
		overlay_written(o, 0, sectors[i] * 512);
		assert_int_equal(overlay_run(o, 0, sectors[i], &own), sectors[i]);
		assert_true(own);
		overlay_free(o);
	}
	overlay_free(make(0, 0));
}

static void test_its_file(void **state)
{
	struct overlay *o = NULL;
	struct stat st;
	struct err e;

	(void)state;
	assert_int_equal(overlay_new(&o, SECTORS, 0, "/tmp", &e), 0);
	assert_int_equal(fstat(overlay_fd(o), &st), 0);
	assert_int_equal(st.st_nlink, 0);
	assert_int_equal(st.st_size, SECTORS * 512);
	assert_int_equal(st.st_blocks, 0);
	assert_int_equal(fcntl(overlay_fd(o), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	overlay_free(o);
	overlay_free(NULL);
	assert_int_equal(overlay_new(&o, SECTORS, 0, "/nonexistent", &e), -ENOENT);
	assert_string_equal(e.text, "make its overlay in '/nonexistent': No such file or directory");
}

/* The file systems that cannot make a file without a name say so in one of two ways. */
static void test_without_tmpfile(void **state)
{
	static const int errnos[] = { EOPNOTSUPP, EISDIR };
	char dir[] = "/tmp/mayfly-test-overlay-XXXXXX";
	struct overlay *o = NULL;
	struct stat st;
	struct err e;

	(void)state;
	assert_non_null(mkdtemp(dir));
	for (size_t i = 0; i < MF_ARRAY_SIZE(errnos); i++) {
		tmpfile_errno = errnos[i];
		assert_int_equal(overlay_new(&o, SECTORS, 0, dir, &e), 0);
		assert_int_equal(fstat(overlay_fd(o), &st), 0);
		assert_int_equal(st.st_nlink, 0);
		assert_int_equal(st.st_size, SECTORS * 512);
		assert_int_equal(fcntl(overlay_fd(o), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
		overlay_free(o);
	}
	tmpfile_errno = EACCES; /* an error like any other */
	assert_int_equal(overlay_new(&o, SECTORS, 0, dir, &e), -EACCES);
	tmpfile_errno = 0;
	assert_int_equal(rmdir(dir), 0); /* nothing is left in it */
}

/* The next descriptor that would be used. */
static int next_fd(void)
{
	int fd = dup(STDERR_FILENO);

	close(fd);
	return fd;
}

static void test_descriptors(void **state)
{
	int fd = next_fd();
	struct overlay *o = make(SECTORS, 0);
	struct err e;

	(void)state;
	assert_int_equal(overlay_fd(o), fd);
	overlay_free(o);
	assert_int_equal(next_fd(), fd);
	assert_true(overlay_new(&o, UINT64_MAX / 512, 0, NULL, &e) < 0); /* no file may be as large */
	assert_int_equal(next_fd(), fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_runs_against_a_model),
		cmocka_unit_test(test_parts_of_sectors),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_release_gives_what_was_taken),
		cmocka_unit_test(test_the_whole_drive_fits_without_a_limit),
		cmocka_unit_test(test_its_file),
		cmocka_unit_test(test_without_tmpfile),
		cmocka_unit_test(test_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
