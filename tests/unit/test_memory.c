/* The memory of a snapshot: what is written, what is mapped, and files that are not what they should be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/core/mem.h"
#include "vmm/core/state.h"
#include "vmm/snapshot/memory.h"

#define RAM (256 * MIB)
#define PAGE ((uint64_t)MF_PAGE_SIZE)

static struct mem source, copy;
static struct memory_map map;
static int file, pagemap;
static struct err e;

static int setup(void **state)
{
	(void)state;
	assert_int_equal(mem_init(&source, RAM, &e), 0);
	assert_int_equal(mem_init(&copy, RAM, &e), 0);
	file = memfd_create("memory", MFD_CLOEXEC);
	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	assert_true(file >= 0 && pagemap >= 0);
	assert_int_equal(ftruncate(file, RAM), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	mem_done(&source);
	mem_done(&copy);
	close(file);
	close(pagemap);
	return 0;
}

static uint8_t *at(struct mem *m, uint64_t offset)
{
	return m->region[0].host + offset;
}

/* The runs of the map, as a restore takes them. */
static int load(struct mem *m, int fd)
{
	int r = memory_check_file(&map, fd, &e);

	return r ? r : memory_load(m, map.run, map.num_runs, 0, fd, &e);
}

static void expect_same(void)
{
	assert_int_equal(load(&copy, file), 0);
	assert_memory_equal(at(&copy, 0), at(&source, 0), RAM);
}

static uint64_t blocks(void)
{
	struct stat st;

	assert_int_equal(fstat(file, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* How many pages of the source this process has. */
static unsigned resident(void)
{
	unsigned char *pages = malloc(RAM / PAGE);
	unsigned num = 0;

	assert_int_equal(mincore(at(&source, 0), RAM, pages), 0);
	for (size_t i = 0; i < RAM / PAGE; i++)
		num += pages[i] & 1;
	free(pages);
	return num;
}

static void test_data_and_holes(void **state)
{
	(void)state;
	memset(at(&source, 0), 1, 10);
	memset(at(&source, MIB + PAGE - 1), 2, 1); /* the last byte of a page */
	memset(at(&source, 33 * MIB), 3, 7 * PAGE);
	memset(at(&source, RAM - PAGE), 4, PAGE); /* the last page */
	memset(at(&source, 20 * MIB), 0, MIB);	  /* present, and zero */
	assert_int_equal(memory_write(&source, pagemap, file, &map), 0);
	assert_int_equal(map.pages, 10);
	assert_int_equal(map.num_runs, 3);
	assert_int_equal(map.run[0].offset, 0);
	assert_int_equal(map.run[0].len, MIB + PAGE); /* with the small hole */
	assert_int_equal(map.run[1].offset, 33 * MIB);
	assert_int_equal(map.run[2].offset + map.run[2].len, RAM);
	assert_true(blocks() <= 10 * PAGE);
	assert_int_equal(memory_check(&map, file, &e), 0);
	expect_same();
	/* Without pagemap it is the same. */
	assert_int_equal(ftruncate(file, 0), 0);
	assert_int_equal(ftruncate(file, RAM), 0);
	uint64_t sum = map.sum;
	assert_int_equal(memory_write(&source, -1, file, &map), 0);
	assert_int_equal(map.sum, sum);
	assert_int_equal(map.pages, 10);
}

static void test_what_is_untouched_stays_so(void **state)
{
	unsigned before;

	(void)state;
	memset(at(&source, 40 * MIB), 1, PAGE);
	before = resident();
	assert_int_equal(memory_write(&source, pagemap, file, &map), 0);
	assert_int_equal(resident(), before);
	assert_true(before < RAM / PAGE / 2);
}

/* A page of a file that nobody has touched is not in pagemap, and has data. */
static void test_mapped_files(void **state)
{
	int kernel = memfd_create("kernel", MFD_CLOEXEC);
	uint8_t page[PAGE];

	(void)state;
	memset(page, 7, sizeof(page));
	assert_int_equal(ftruncate(kernel, 0x20 * PAGE), 0);
	for (unsigned i = 8; i < 16; i++)
		assert_int_equal(pwrite(kernel, page, PAGE, (off_t)(i * PAGE)), PAGE);
	assert_int_equal(mem_map_file(&source, 16 * MIB, kernel, 0, 0x20 * PAGE, &e), 0);
	assert_int_equal(memory_write(&source, pagemap, file, &map), 0);
	assert_int_equal(map.pages, 8);
	assert_int_equal(map.run[0].offset, 16 * MIB + 8 * PAGE);
	expect_same();
	close(kernel);
}

/* More runs than there may be mappings: those with the smallest holes become one. */
static void test_many_runs(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 200; i++)
		memset(at(&source, i * 1280 * KIB), (int)i + 1, PAGE);
	memset(at(&source, 199 * 1280 * KIB + 1100 * KIB), 5, PAGE); /* the smallest hole */
	memset(at(&source, RAM - PAGE), 6, PAGE);
	assert_int_equal(memory_write(&source, pagemap, file, &map), 0);
	assert_int_equal(map.pages, 202);
	assert_int_equal(map.num_runs, MEMORY_RUNS_MAX);
	assert_int_equal(map.run[MEMORY_RUNS_MAX - 2].offset, 199 * 1280 * KIB);
	assert_int_equal(map.run[MEMORY_RUNS_MAX - 2].len, 1100 * KIB + PAGE);
	for (unsigned i = 1; i < map.num_runs; i++)
		assert_true(map.run[i].offset > map.run[i - 1].offset + map.run[i - 1].len);
	assert_int_equal(memory_check(&map, file, &e), 0);
	expect_same();
}

/* A snapshot of what was restored from a snapshot. */
static void test_second_generation(void **state)
{
	int second = memfd_create("second", MFD_CLOEXEC);

	(void)state;
	memset(at(&source, 4 * MIB), 1, 3 * PAGE);
	memset(at(&source, 12 * MIB), 2, 3 * PAGE);
	assert_int_equal(memory_write(&source, pagemap, file, &map), 0);
	assert_int_equal(load(&copy, file), 0);
	memset(at(&copy, 12 * MIB), 0, 3 * PAGE); /* what had data has none */
	memset(at(&copy, 50 * MIB), 3, PAGE);
	assert_int_equal(ftruncate(second, RAM), 0);
	assert_int_equal(memory_write(&copy, pagemap, second, &map), 0);
	assert_int_equal(map.pages, 4);
	mem_done(&source);
	assert_int_equal(mem_init(&source, RAM, &e), 0);
	assert_int_equal(load(&source, second), 0);
	assert_memory_equal(at(&copy, 0), at(&source, 0), RAM);
	close(second);
}

static void test_other_files(void **state)
{
	int pipes[2];

	(void)state;
	memset(at(&source, 4 * MIB), 1, PAGE);
	assert_int_equal(memory_write(&source, pagemap, file, &map), 0);
	for (unsigned i = 0; i < 6; i++) {
		static const int64_t sizes[] = { 0, 1, RAM - 1, RAM + 1, RAM - PAGE, RAM + PAGE };

		assert_int_equal(ftruncate(file, sizes[i]), 0);
		assert_int_equal(load(&copy, file), -EINVAL);
		assert_int_equal(memory_check(&map, file, &e), -EINVAL);
	}
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_int_equal(load(&copy, pipes[0]), -EINVAL);
	close(pipes[0]);
	close(pipes[1]);
}

static void test_changed_file(void **state)
{
	(void)state;
	memset(at(&source, 4 * MIB), 1, PAGE);
	assert_int_equal(memory_write(&source, pagemap, file, &map), 0);
	assert_int_equal(memory_check(&map, file, &e), 0);
	assert_int_equal(pwrite(file, "\2", 1, 4 * MIB + 77), 1);
	assert_int_equal(memory_check(&map, file, &e), -EBADMSG);
	assert_int_equal(pwrite(file, "\1", 1, 4 * MIB + 77), 1);
	assert_int_equal(memory_check(&map, file, &e), 0);
}

static void test_errors_of_writing(void **state)
{
	(void)state;
	memset(at(&source, 4 * MIB), 1, PAGE);
	assert_int_equal(memory_write(&source, pagemap, -1, &map), -EBADF);
}

static uint8_t buf[8192];

static int read_back(const struct memory_map *m, struct memory_map *ret)
{
	struct state_out out;
	struct state_in in;
	int64_t len;

	state_out_init(&out, buf, sizeof(buf));
	memory_put(m, &out);
	len = state_out_finish(&out);
	assert_true(len > 0);
	assert_int_equal(state_in_init(&in, buf, (size_t)len, &e), 0);
	return memory_get(ret, &in, &e);
}

static void test_section(void **state)
{
	static const struct memory_map good = {
		.size = RAM, .pages = 3, .sum = 77, .num_runs = 2, .run = { { 0, PAGE }, { 8 * PAGE, RAM - 8 * PAGE } }
	};
	static const struct memory_run bad[] = {
		{ 0, PAGE },			 /* over the first one */
		{ 8 * PAGE, RAM },		 /* beyond the end */
		{ RAM, PAGE },			 /* the same */
		{ 8 * PAGE + 1, PAGE },		 /* not whole pages */
		{ 8 * PAGE, PAGE - 1 },		 /* the same */
		{ 8 * PAGE, 0 },		 /* empty */
		{ UINT64_MAX - PAGE + 1, PAGE }, /* wraps */
		{ 8 * PAGE, UINT64_MAX - PAGE + 1 },
	};
	struct memory_map got, changed;

	(void)state;
	assert_int_equal(read_back(&good, &got), 0);
	assert_int_equal(got.size, RAM);
	assert_int_equal(got.sum, 77);
	assert_int_equal(got.num_runs, 2);
	assert_memory_equal(got.run, good.run, sizeof(good.run));
	for (size_t i = 0; i < MF_ARRAY_SIZE(bad); i++) {
		changed = good;
		changed.run[1] = bad[i];
		assert_int_equal(read_back(&changed, &got), -EINVAL);
	}
	changed = good;
	changed.size = RAM + 1;
	assert_int_equal(read_back(&changed, &got), -EINVAL);
}

/* Each page of the file, one byte less and one more, and beyond the end. */
static void test_every_length(void **state)
{
	(void)state;
	assert_int_equal(memory_write(&source, pagemap, file, &map), 0);
	for (uint64_t page = 0; page <= RAM + PAGE; page += PAGE)
		for (int more = -1; more <= 1; more++) {
			int64_t len = (int64_t)page + more;

			if (len < 0)
				continue;
			assert_int_equal(ftruncate(file, len), 0);
			assert_int_equal(memory_check_file(&map, file, &e), len == RAM ? 0 : -EINVAL);
		}
}

int main(void)
{
#define ONE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		ONE(test_data_and_holes), ONE(test_what_is_untouched_stays_so), ONE(test_mapped_files),
		ONE(test_many_runs),	  ONE(test_second_generation),		ONE(test_other_files),
		ONE(test_changed_file),	  ONE(test_errors_of_writing),		ONE(test_section),
		ONE(test_every_length),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
