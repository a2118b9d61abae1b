/* Guest RAM: what mem_at gives and refuses, the gap, mapped files. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/core/mem.h"

static void test_small_memory(void **state)
{
	struct mem m;
	struct err e;
	uint8_t *first;

	(void)state;
	assert_int_equal(mem_init(&m, 2 * MIB, &e), 0);
	first = mem_at(&m, 0, 1);
	assert_non_null(first);
	assert_int_equal((uintptr_t)first % (2 * MIB), 0);
	assert_ptr_equal(mem_at(&m, 2 * MIB - 1, 1), first + 2 * MIB - 1);
	assert_ptr_equal(mem_at(&m, 0, 2 * MIB), first);
	assert_ptr_equal(mem_at(&m, 2 * MIB - 1, 0), first + 2 * MIB - 1);
	assert_null(mem_at(&m, 0, 2 * MIB + 1));
	assert_null(mem_at(&m, 1, 2 * MIB));
	assert_null(mem_at(&m, 2 * MIB, 0));
	assert_null(mem_at(&m, 2 * MIB, 1));
	assert_null(mem_at(&m, UINT64_MAX, 1));
	assert_null(mem_at(&m, UINT64_MAX, 2));
	assert_null(mem_at(&m, 1, UINT64_MAX));
	assert_null(mem_at(&m, 4096, UINT64_MAX - 4095));
	memset(first, 0x5a, 2 * MIB);
	mem_done(&m);
	assert_null(mem_at(&m, 0, 1));
}

static void test_gap(void **state)
{
	struct mem m;
	struct err e;

	(void)state;
	assert_int_equal(mem_init(&m, MEM_GAP_START + 8 * MIB, &e), 0);
	assert_int_equal(m.num_regions, 2);
	assert_non_null(mem_at(&m, MEM_GAP_START - 1, 1));
	assert_null(mem_at(&m, MEM_GAP_START - 1, 2));
	assert_null(mem_at(&m, MEM_GAP_START, 1));
	assert_null(mem_at(&m, 0xfee00000, 4));
	assert_null(mem_at(&m, MEM_GAP_END - 1, 1));
	assert_null(mem_at(&m, MEM_GAP_END - 1, 2));
	assert_non_null(mem_at(&m, MEM_GAP_END, 8 * MIB));
	assert_null(mem_at(&m, MEM_GAP_END, 8 * MIB + 1));
	mem_done(&m);
}

static void test_exactly_up_to_the_gap(void **state)
{
	struct mem m;
	struct err e;

	(void)state;
	assert_int_equal(mem_init(&m, MEM_GAP_START, &e), 0);
	assert_int_equal(m.num_regions, 1);
	assert_non_null(mem_at(&m, 0, MEM_GAP_START));
	mem_done(&m);
}

static void test_more_than_any_host_has(void **state)
{
	struct mem m;
	struct err e;

	(void)state;
	assert_int_equal(mem_init(&m, 1ULL << 62, &e), -ENOMEM);
	assert_non_null(strstr(e.text, "MiB of guest memory"));
	assert_int_equal(mem_init(&m, UINT64_MAX - 4095, &e), -ENOMEM);
}

static void test_mapped_file_is_private(void **state)
{
	char page[4096], back[4096];
	struct mem m;
	struct err e;
	char *at;
	int fd = memfd_create("file", MFD_CLOEXEC);

	(void)state;
	memset(page, 'k', sizeof(page));
	assert_int_equal(pwrite(fd, page, sizeof(page), 4096), sizeof(page));
	assert_int_equal(mem_init(&m, 2 * MIB, &e), 0);
	assert_int_equal(mem_map_file(&m, MIB, fd, 4096, 4096, &e), 0);
	at = mem_at(&m, MIB, 4096);
	assert_memory_equal(at, page, sizeof(page));
	memset(at, 'g', 4096);
	assert_int_equal(pread(fd, back, sizeof(back), 4096), sizeof(back));
	assert_memory_equal(back, page, sizeof(page));
	assert_int_equal(mem_map_file(&m, 2 * MIB - 4096, fd, 0, 8192, &e), -EFAULT);
	mem_done(&m);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_small_memory),	       cmocka_unit_test(test_gap),
		cmocka_unit_test(test_exactly_up_to_the_gap),  cmocka_unit_test(test_more_than_any_host_has),
		cmocka_unit_test(test_mapped_file_is_private),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
