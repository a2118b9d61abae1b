/* The initrd: where it goes, copied or mapped, and what is refused. And how files become guest memory at all. */
#define RAM (32 * MIB)
#include "tests/unit/loader_fixture.h"

#include <fcntl.h>

#include "loader/filemem.h"
#include "loader/initrd.h"
#include "loader/kernel.h"
#include "loader/layout.h"

#define KERNEL_END 0x1c16000ULL

static uint8_t pattern(uint64_t i)
{
	return (uint8_t)(i * 13 + i / 4096 + 1);
}

static void make_file(uint64_t data, uint64_t size)
{
	uint8_t page[4096];

	file = memfd_create("initrd", MFD_CLOEXEC);
	for (uint64_t i = 0; i < data; i += sizeof(page)) {
		uint64_t n = MF_MIN(sizeof(page), data - i);

		for (uint64_t j = 0; j < n; j++)
			page[j] = pattern(i + j);
		assert_int_equal(pwrite(file, page, n, (off_t)i), n);
	}
	assert_int_equal(ftruncate(file, (off_t)size), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
}

static void loads(uint64_t size, uint64_t kernel_end, uint64_t want_gpa)
{
	const struct kernel_image kernel = { .highest = kernel_end, .initrd_end = UINT64_MAX };
	uint64_t gpa = 0, got = 0, end;
	const uint8_t *p;

	make_file(size, size);
	if (initrd_load(&ram, path, NULL, 0, &kernel, &gpa, &got, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(gpa, want_gpa);
	assert_int_equal(got, size);
	p = mem_at(&ram, gpa, size);
	for (uint64_t i = 0; i < size; i++)
		if (p[i] != pattern(i))
			fail_msg("byte %llu differs", (unsigned long long)i);
	end = mf_align_up(size, 4096);
	for (uint64_t i = size; i < end; i++)
		assert_int_equal(p[i], 0);
}

static void refused(uint64_t kernel_end, const char *message)
{
	const struct kernel_image kernel = { .highest = kernel_end, .initrd_end = UINT64_MAX };
	uint64_t gpa = 7, size = 8;
	char want[ERR_TEXT_MAX];

	snprintf(want, sizeof(want), "initrd '%s': %s", path, message);
	assert_true(initrd_load(&ram, path, NULL, 0, &kernel, &gpa, &size, &err) < 0);
	assert_string_equal(err.text, want);
	assert_int_equal(gpa, 7);
	assert_int_equal(size, 8);
}

static void test_one_byte(void **state)
{
	(void)state;
	loads(1, KERNEL_END, LAYOUT_SMALL_INITRD);
}

static void test_one_page(void **state)
{
	(void)state;
	loads(4096, KERNEL_END, LAYOUT_SMALL_INITRD);
}

static void test_page_and_a_byte(void **state)
{
	(void)state;
	loads(4097, KERNEL_END, LAYOUT_SMALL_INITRD);
}

/* The largest that goes into low memory, and the smallest that does not. */
static void test_small_or_not(void **state)
{
	(void)state;
	loads(LAYOUT_SMALL_INITRD_MAX, KERNEL_END, LAYOUT_SMALL_INITRD);
	close(file);
	loads(LAYOUT_SMALL_INITRD_MAX + 1, KERNEL_END, RAM - LAYOUT_SMALL_INITRD_MAX - 4096);
}

/* Large enough to be mapped, with a tail that is not a whole page. */
static void test_large(void **state)
{
	(void)state;
	loads(5 * MIB + 123, 0x1000000, RAM - 5 * MIB - 4096);
}

static void test_fills_all_the_room(void **state)
{
	(void)state;
	loads(RAM - KERNEL_END, KERNEL_END, KERNEL_END);
}

static void test_page_shared_with_the_kernel(void **state)
{
	(void)state;
	make_file(RAM - KERNEL_END, RAM - KERNEL_END);
	refused(KERNEL_END + 1, "4008 KiB do not fit beside the kernel into 32 MiB of guest memory (the kernel ends at "
				"0x1c16001, RAM at 0x2000000)");
}

static void test_never_below_1_mib(void **state)
{
	(void)state;
	make_file(0, 31 * MIB + 1);
	refused(0, "31745 KiB do not fit beside the kernel into 32 MiB of guest memory (the kernel ends at 0x0, RAM at "
		   "0x2000000)");
}

static void test_larger_than_memory(void **state)
{
	(void)state;
	make_file(0, 1ULL << 40);
	refused(KERNEL_END,
		"1073741824 KiB do not fit beside the kernel into 32 MiB of guest memory (the kernel ends at "
		"0x1c16000, RAM at 0x2000000)");
}

static void test_kernel_end_beyond_memory(void **state)
{
	(void)state;
	make_file(1, 1);
	refused(UINT64_MAX, "1 KiB do not fit beside the kernel into 32 MiB of guest memory (the kernel ends at "
			    "0xffffffffffffffff, RAM at 0x2000000)");
}

static void test_empty(void **state)
{
	(void)state;
	make_file(0, 0);
	refused(KERNEL_END, "the file is empty");
}

static void test_not_a_file(void **state)
{
	(void)state;
	strcpy(path, "/nonexistent");
	refused(KERNEL_END, "open '/nonexistent': No such file or directory");
	strcpy(path, "/dev/null");
	refused(KERNEL_END, "open '/dev/null': it is a character device, not a regular file");
}

/* More than 3 GiB of RAM: the initrd stays below the gap. */
static void test_below_the_gap(void **state)
{
	struct kernel_image kernel = { .highest = KERNEL_END, .initrd_end = UINT64_MAX };
	uint64_t gpa, size;

	(void)state;
	mem_done(&ram);
	assert_int_equal(mem_init(&ram, 5 * GIB, &err), 0);
	make_file(MIB, MIB);
	assert_int_equal(initrd_load(&ram, path, NULL, 0, &kernel, &gpa, &size, &err), 0);
	assert_int_equal(gpa, MEM_GAP_START - MIB);
	kernel.initrd_end = 2 * GIB;
	assert_int_equal(initrd_load(&ram, path, NULL, 0, &kernel, &gpa, &size, &err), 0);
	assert_int_equal(gpa, 2 * GIB - MIB);
}

/* A kernel that wants its initrd low, or where nothing can be. */
static void test_limit_of_the_kernel(void **state)
{
	struct kernel_image kernel = { .highest = 0x800000, .initrd_end = 0xa00800 };
	uint64_t gpa = 7, size;

	(void)state;
	make_file(2 * MIB, 2 * MIB);
	assert_int_equal(initrd_load(&ram, path, NULL, 0, &kernel, &gpa, &size, &err), 0);
	assert_int_equal(gpa, 0x800000);
	gpa = 7;
	kernel.initrd_end = 0x9ff800;
	assert_int_equal(initrd_load(&ram, path, NULL, 0, &kernel, &gpa, &size, &err), -ENOSPC);
	assert_non_null(strstr(err.text, "the kernel ends at 0x800000, its range for an initrd at 0x9ff000"));
	for (kernel.initrd_end = 1; kernel.initrd_end < 0x800000; kernel.initrd_end += 0x1ff)
		assert_int_equal(initrd_load(&ram, path, NULL, 0, &kernel, &gpa, &size, &err), -ENOSPC);
	assert_int_equal(gpa, 7);
}

/* Files that tell of no holes and cannot be mapped (those in /proc) are read. */
static void test_file_without_mmap(void **state)
{
	struct filemem_count count = { 0 };
	const char *text;

	(void)state;
	file = open("/proc/self/smaps", O_RDONLY | O_CLOEXEC);
	assert_true(file >= 0);
	if (filemem_map(&ram, 0x200000, file, 0, 5000, &count, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(count.mapped, 0);
	assert_int_equal(count.copied, 5000);
	text = mem_at(&ram, 0x200000, 5000);
	assert_non_null(memmem(text, 5000, "Rss:", 4));
}

static void test_file_shorter_than_said(void **state)
{
	struct filemem_count count = { 0 };

	(void)state;
	make_file(100, 100);
	assert_int_equal(filemem_copy(&ram, 0x200000, file, 0, 200, &count, &err), -ENODATA);
	assert_string_equal(err.text, "read bytes 0 to 200: the file ends before");
}

static void test_not_ram(void **state)
{
	struct filemem_count count = { 0 };

	(void)state;
	make_file(100, 100);
	assert_int_equal(filemem_copy(&ram, RAM - 50, file, 0, 100, &count, &err), -EFAULT);
	assert_int_equal(filemem_copy(&ram, 0, file, UINT64_MAX - 50, 100, &count, &err), -EFAULT);
	assert_int_equal(count.copied, 0);
}

/* A file of size bytes, 0 for none, and an archive behind it. */
static void loads_both(uint64_t size)
{
	const struct kernel_image kernel = { .highest = 4 * MIB, .initrd_end = UINT64_MAX };
	static const char archive[] = "archive";
	uint64_t gpa = 0, got = 0, at = mf_align_up(size, 4);
	const uint8_t *p;

	if (size)
		make_file(size, size);
	if (initrd_load(&ram, size ? path : NULL, archive, sizeof(archive), &kernel, &gpa, &got, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(got, at + sizeof(archive));
	p = mem_at(&ram, gpa, got);
	for (uint64_t i = 0; i < at; i++)
		assert_int_equal(p[i], i < size ? pattern(i) : 0);
	assert_memory_equal(p + at, archive, sizeof(archive));
	/* RAM as it is before a VM: what lies between file and archive is zero. */
	teardown(NULL);
	assert_int_equal(setup(NULL), 0);
}

static void test_archive_behind_it(void **state)
{
	(void)state;
	loads_both(0);
	loads_both(1);
	loads_both(4096);
	loads_both(4 * MIB - 1);
	loads_both(4 * MIB + 4094); /* mapped, and the archive goes over the end of its last page */
}

static void test_archive_that_does_not_fit(void **state)
{
	const struct kernel_image kernel = { .highest = RAM - 8192, .initrd_end = UINT64_MAX };
	static uint8_t archive[512 * KIB];
	uint64_t gpa = 7, size = 8;

	(void)state;
	assert_int_equal(initrd_load(&ram, NULL, archive, sizeof(archive), &kernel, &gpa, &size, &err), -ENOSPC);
	assert_int_equal(strncmp(err.text, "initramfs: 512 KiB do not fit", 29), 0);
	assert_int_equal(gpa, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_one_byte, setup, teardown),
		cmocka_unit_test_setup_teardown(test_archive_behind_it, setup, teardown),
		cmocka_unit_test_setup_teardown(test_archive_that_does_not_fit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_page, setup, teardown),
		cmocka_unit_test_setup_teardown(test_page_and_a_byte, setup, teardown),
		cmocka_unit_test_setup_teardown(test_small_or_not, setup, teardown),
		cmocka_unit_test_setup_teardown(test_large, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fills_all_the_room, setup, teardown),
		cmocka_unit_test_setup_teardown(test_page_shared_with_the_kernel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_never_below_1_mib, setup, teardown),
		cmocka_unit_test_setup_teardown(test_larger_than_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kernel_end_beyond_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_empty, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_a_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_below_the_gap, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limit_of_the_kernel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_file_without_mmap, setup, teardown),
		cmocka_unit_test_setup_teardown(test_file_shorter_than_said, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_ram, setup, teardown),
	};

	return cmocka_run_group_tests_name("initrd", tests, NULL, NULL);
}
