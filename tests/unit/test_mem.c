/* Guest RAM: what mem_at gives and refuses, the gap, mapped files. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
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

/* The kernel reads it for us: a process that touches a guard dies. */
static bool can_read(const void *at)
{
	int pipes[2];
	ssize_t n;

	assert_int_equal(pipe(pipes), 0);
	n = write(pipes[1], at, 1);
	close(pipes[0]);
	close(pipes[1]);
	return n == 1;
}

/* Whether /proc/self/smaps has that flag for the mapping of at. */
static bool has_flag(const void *at, const char *flag)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	unsigned long start, end;
	bool here = false, has = false;
	char line[512];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = (uintptr_t)at >= start && (uintptr_t)at < end;
		else if (here && !strncmp(line, "VmFlags:", 8))
			has = strstr(line, flag) != NULL;
	}
	fclose(f);
	return has;
}

static void test_guards_around_ram(void **state)
{
	struct mem m;
	struct err e;
	uint8_t *first;

	(void)state;
	assert_int_equal(mem_init(&m, 16 * MIB, &e), 0);
	first = mem_at(&m, 0, 1);
	assert_true(can_read(first));
	assert_true(can_read(first + 16 * MIB - 1));
	assert_false(can_read(first - 1));
	assert_false(can_read(first - 2 * MIB));
	assert_false(can_read(first + 16 * MIB));
	assert_false(can_read(first + 18 * MIB - 1));
	mem_done(&m);
}

static void test_no_guest_memory_in_core_files(void **state)
{
	int fd = memfd_create("file", MFD_CLOEXEC);
	struct mem m;
	struct err e;

	(void)state;
	assert_int_equal(ftruncate(fd, 8192), 0);
	assert_int_equal(mem_init(&m, 16 * MIB, &e), 0);
	assert_int_equal(mem_map_file(&m, 4 * MIB, fd, 0, 8192, &e), 0);
	for (uint64_t gpa = 0; gpa < 16 * MIB; gpa += MIB) {
		assert_true(has_flag(mem_at(&m, gpa, 1), " dd"));
		assert_false(has_flag(mem_at(&m, gpa, 1), " mg"));
		assert_false(has_flag(mem_at(&m, gpa, 1), " ex"));
	}
	/* A file that cannot be mapped: what is put back is as it was. */
	assert_true(mem_map_file(&m, 8 * MIB, -1, 0, 4096, &e) < 0);
	assert_true(has_flag(mem_at(&m, 8 * MIB, 1), " dd"));
	mem_done(&m);
	close(fd);
}

#ifndef MF_SANITIZED /* they have an mmap of their own, and map 20 TiB, which the kernel would walk through for minutes */
static bool mmap_fails;

/* The kernel may have unmapped what was there when it finds that it cannot map a file. */
void *mmap(void *at, size_t len, int prot, int flags, int fd, off_t offset)
{
	if (mmap_fails && fd >= 0) {
		assert_int_equal(munmap(at, len), 0);
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return (void *)syscall(SYS_mmap, at, len, prot, flags, fd, offset);
}

static void test_what_failed_leaves_memory(void **state)
{
	int fd = memfd_create("file", MFD_CLOEXEC);
	struct mem m;
	struct err e;

	(void)state;
	assert_int_equal(ftruncate(fd, 8192), 0);
	assert_int_equal(mem_init(&m, 16 * MIB, &e), 0);
	mmap_fails = true;
	assert_int_equal(mem_map_file(&m, 4 * MIB, fd, 0, 8192, &e), -ENOMEM);
	mmap_fails = false;
	assert_true(can_read(mem_at(&m, 4 * MIB, 1)));
	assert_true(can_read(mem_at(&m, 4 * MIB + 8191, 1)));
	assert_true(has_flag(mem_at(&m, 4 * MIB, 1), " dd"));
	mem_done(&m);
	close(fd);
}

/* Our parent may have enabled KSM for all our mappings (Linux 6.4). */
static void test_no_merging(void **state)
{
	struct mem m;
	struct err e;

	(void)state;
	if (prctl(67 /* PR_SET_MEMORY_MERGE */, 1, 0, 0, 0) < 0)
		skip();
	assert_int_equal(mem_init(&m, 16 * MIB, &e), 0);
	assert_false(has_flag(mem_at(&m, 0, 1), " mg"));
	assert_false(has_flag(mem_at(&m, 15 * MIB, 1), " mg"));
	assert_int_equal(prctl(68 /* PR_GET_MEMORY_MERGE */, 0, 0, 0, 0), 0);
	mem_done(&m);
}

#endif

static void test_guarded_file(void **state)
{
	int fd = memfd_create("file", MFD_CLOEXEC);
	uint8_t *at;

	(void)state;
	assert_int_equal(ftruncate(fd, 12288), 0);
	at = mem_map_guarded(fd, 12288);
	assert_non_null(at);
	memset(at, 1, 12288);
	assert_true(can_read(at + 12287));
	assert_false(can_read(at - 1));
	assert_false(can_read(at + 12288));
	assert_int_equal(munmap((uint8_t *)at - MF_PAGE_SIZE, 12288 + 2 * MF_PAGE_SIZE), 0);
	assert_false(can_read(at));
	close(fd);
	errno = 0;
	assert_null(mem_map_guarded(-1, 4096));
	assert_int_equal(errno, EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_small_memory),
		cmocka_unit_test(test_gap),
		cmocka_unit_test(test_exactly_up_to_the_gap),
		cmocka_unit_test(test_more_than_any_host_has),
		cmocka_unit_test(test_mapped_file_is_private),
		cmocka_unit_test(test_guards_around_ram),
		cmocka_unit_test(test_guarded_file),
		cmocka_unit_test(test_no_guest_memory_in_core_files),
#ifndef MF_SANITIZED
		cmocka_unit_test(test_what_failed_leaves_memory),
		cmocka_unit_test(test_no_merging),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
