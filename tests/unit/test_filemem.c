/* Parts of files as guest memory: holes, ends, and what a file is too short for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "loader/filemem.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/core/mem.h"

#define AT (4 * MIB)
#define FILE_SIZE (4 * MF_PAGE_SIZE) /* a page of data, and three of a hole */

static struct mem ram;
static struct err err;
static int file = -1;

static int setup(void **state)
{
	uint8_t page[MF_PAGE_SIZE];

	(void)state;
	memset(page, 0xa5, sizeof(page));
	file = memfd_create("file", MFD_CLOEXEC);
	assert_int_equal(pwrite(file, page, sizeof(page), 0), sizeof(page));
	assert_int_equal(ftruncate(file, FILE_SIZE), 0);
	return mem_init(&ram, 64 * MIB, &err);
}

static int teardown(void **state)
{
	(void)state;
	mem_done(&ram);
	close(file);
	file = -1;
	return 0;
}

static void test_copy_ends(void **state)
{
	static const struct {
		uint64_t offset;
		uint64_t len;
		int want;
	} rows[] = {
		{ 0, FILE_SIZE, 0 },
		{ MF_PAGE_SIZE, 3 * MF_PAGE_SIZE, 0 }, /* nothing but a hole, to the very end */
		{ 3 * MF_PAGE_SIZE, 1, 0 },
		{ 3 * MF_PAGE_SIZE, MF_PAGE_SIZE + 1, -ENODATA },
		{ FILE_SIZE, 1, -ENODATA },
		{ FILE_SIZE + MF_PAGE_SIZE, 1, -ENODATA },
		{ 0, 0, 0 },
	};
	struct filemem_count count = { 0 };

	(void)state;
	for (unsigned i = 0; i < MF_ARRAY_SIZE(rows); i++) {
		if (filemem_copy(&ram, AT, file, rows[i].offset, rows[i].len, &count, &err) != rows[i].want)
			fail_msg("row %u: %s", i, err.text);
	}
	assert_int_equal(*(uint8_t *)mem_at(&ram, AT, 1), 0xa5);
	count.copied = 0;
	/* The hole is not read. (A file system may have larger pages.) */
	assert_int_equal(filemem_copy(&ram, AT, file, 3 * MF_PAGE_SIZE, MF_PAGE_SIZE, &count, &err), 0);
	assert_int_equal(count.copied, 0);
}

static void test_not_ram(void **state)
{
	struct filemem_count count = { 0 };

	(void)state;
	assert_int_equal(filemem_copy(&ram, 64 * MIB - 1, file, 0, 2, &count, &err), -EFAULT);
	assert_int_equal(filemem_copy(&ram, AT, file, UINT64_MAX, 2, &count, &err), -EFAULT);
	assert_int_equal(filemem_copy(&ram, AT, file, INT64_MAX, 1, &count, &err), -EFAULT);
	assert_int_equal(count.copied, 0);
}

static void test_map(void **state)
{
	struct filemem_count count = { 0 };

	(void)state;
	assert_int_equal(filemem_map(&ram, AT, file, 0, MF_PAGE_SIZE + 5, &count, &err), 0);
	assert_int_equal(count.mapped, MF_PAGE_SIZE);
	assert_int_equal(*(uint8_t *)mem_at(&ram, AT + MF_PAGE_SIZE - 1, 1), 0xa5);
	assert_int_equal(*(uint8_t *)mem_at(&ram, AT + MF_PAGE_SIZE, 1), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_copy_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_ram, setup, teardown),
		cmocka_unit_test_setup_teardown(test_map, setup, teardown),
	};

	return cmocka_run_group_tests_name("filemem", tests, NULL, NULL);
}
