/* vmm/snapshot/workingset.c: the file, what is refused, what it does to memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"
#include "vmm/core/mem.h"
#include "vmm/snapshot/chain.h"
#include "vmm/snapshot/dir.h"
#include "vmm/snapshot/workingset.h"

#define RAM (16 * MIB)
#define PAGE ((uint64_t)MF_PAGE_SIZE)

static char dir[] = "/tmp/workingset-XXXXXX";
static const struct memory_map map = { .size = RAM, .sum = 7 };
static struct workingset good, *found;
static struct mem mem;
static int file;
static struct err e;

static void path_of(char path[64], const char *name)
{
	snprintf(path, 64, "%s/%s", dir, name);
}

static int setup(void **state)
{
	(void)state;
	found = NULL;
	memset(&good, 0, sizeof(good));
	good.size = RAM;
	good.sum = 7;
	good.read.num = good.written.num = 2;
	good.read.run[0] = (struct memory_run){ 0, 2 * MIB };
	good.read.run[1] = (struct memory_run){ 8 * MIB, MIB };
	good.written.run[0] = (struct memory_run){ PAGE, 2 * PAGE };
	good.written.run[1] = (struct memory_run){ 8 * MIB, PAGE };
	file = memfd_create("memory", MFD_CLOEXEC);
	assert_int_equal(ftruncate(file, RAM), 0);
	assert_int_equal(mem_init(&mem, RAM, &e), 0);
	assert_int_equal(mem_map_offset(&mem, 0, file, 0, RAM, &e), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(found);
	mem_done(&mem);
	close(file);
	return 0;
}

/* Pages of RAM that are this process's own. */
static unsigned own_pages(void)
{
	MF_CLOSE int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	unsigned num = 0;

	for (uint64_t at = 0; at < RAM; at += PAGE) {
		uint64_t entry, host = (uintptr_t)mem.region[0].host + at;

		assert_int_equal(fdio_pread_all(fd, &entry, sizeof(entry), host / PAGE * sizeof(entry)), 0);
		num += entry >> 63 && !(entry >> 61 & 1);
	}
	return num;
}

static void test_file(void **state)
{
	char path[64];
	struct stat st;

	(void)state;
	assert_int_equal(workingset_read(&found, dir, &map, &e), 0);
	assert_null(found); /* there is none */
	assert_int_equal(workingset_write(&good, dir, &e), 0);
	assert_int_equal(workingset_write(&good, dir, &e), 0); /* another time */
	path_of(path, SNAPSHOT_WORKINGSET);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0400);
	path_of(path, SNAPSHOT_WORKINGSET_NEW);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(workingset_read(&found, dir, &map, &e), 0);
	assert_int_equal(found->read.num, 2);
	assert_memory_equal(found->read.run, good.read.run, 2 * sizeof(struct memory_run));
	assert_int_equal(found->written.num, 2);
	assert_memory_equal(found->written.run, good.written.run, 2 * sizeof(struct memory_run));
	free(found);
	/* Of a memory that has been replaced since. */
	assert_int_equal(workingset_read(&found, dir, &(struct memory_map){ .size = RAM, .sum = 8 }, &e), 0);
	assert_null(found);
	assert_int_equal(workingset_read(&found, dir, &(struct memory_map){ .size = 2 * RAM, .sum = 7 }, &e), 0);
	assert_null(found);
}

static void test_refused(void **state)
{
	const struct memory_run bad[] = {
		{ RAM - PAGE, 2 * PAGE },	 { RAM, PAGE },	 { UINT64_MAX - PAGE + 1, PAGE },
		{ PAGE, UINT64_MAX - PAGE + 1 }, { 8 * MIB, 0 }, { 8 * MIB + 1, PAGE },
		{ 8 * MIB, PAGE + 1 },		 { PAGE, PAGE },
	};
	struct stat st;
	char path[64];

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(bad); i++) {
		good.written.run[1] = bad[i];
		assert_int_equal(workingset_write(&good, dir, &e), 0);
		assert_int_equal(workingset_read(&found, dir, &map, &e), -EINVAL);
		assert_null(found);
	}
	good.written.run[1] = (struct memory_run){ 8 * MIB, PAGE };
	path_of(path, SNAPSHOT_WORKINGSET);
	assert_int_equal(workingset_write(&good, dir, &e), 0);
	assert_int_equal(stat(path, &st), 0);
	for (off_t len = 0; len < st.st_size; len++) { /* cut short */
		assert_int_equal(workingset_write(&good, dir, &e), 0);
		assert_int_equal(chmod(path, 0600), 0);
		assert_int_equal(truncate(path, len), 0);
		assert_true(workingset_read(&found, dir, &map, &e) < 0);
		assert_null(found);
	}
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0); /* another kind */
	assert_true(workingset_read(&found, dir, &map, &e) < 0);
	assert_int_equal(rmdir(path), 0);
}

static void test_use(void **state)
{
	(void)state;
	assert_int_equal(pwrite(file, "x", 1, (off_t)(2 * PAGE)), 1);
	workingset_use(&good, &mem, false);
	assert_int_equal(own_pages(), 0);
	workingset_use(&good, &mem, true);
	if (own_pages() == 0)
		skip(); /* Linux before 5.14 has no MADV_POPULATE_WRITE */
	assert_int_equal(own_pages(), 3);
	assert_int_equal(mem.region[0].host[2 * PAGE], 'x'); /* copied, not cleared */
	/* Of other memory, nothing. */
	good.size = 2 * RAM;
	good.written.run[1].offset = RAM;
	workingset_use(&good, &mem, true);
	assert_int_equal(own_pages(), 3);
}

static void test_copies_are_bounded(void **state)
{
	(void)state;
	good.written.num = 2;
	good.written.run[0] = (struct memory_run){ 0, PAGE };
	good.written.run[1] = (struct memory_run){ PAGE, WORKINGSET_COPY_MAX };
	good.size = mem.size; /* a run that is too long is as wrong as it can be here */
	workingset_use(&good, &mem, true);
	assert_true(own_pages() <= 1);
}

static void test_collect(void **state)
{
	struct chain c = { .num = 1, .layer = { { .fd = file, .map = map } } };

	(void)state;
	assert_int_equal(workingset_collect(&found, getpid(), &c, &e), -ENODATA); /* no page is there */
	assert_null(found);
	assert_int_equal(madvise(mem.region[0].host, RAM, MADV_RANDOM), 0);
	mem.region[0].host[5 * PAGE] = 1;
	mem.region[0].host[6 * PAGE] = 1;
	mem.region[0].host[4 * MIB] = 1;
	(void)*(volatile uint8_t *)&mem.region[0].host[12 * MIB];
	assert_int_equal(workingset_collect(&found, getpid(), &c, &e), 0);
	assert_int_equal(found->size, RAM);
	assert_int_equal(found->sum, 7);
	assert_int_equal(found->written.num, 2);
	assert_int_equal(found->written.run[0].offset, 5 * PAGE);
	assert_int_equal(found->written.run[0].len, 2 * PAGE);
	assert_int_equal(found->written.run[1].offset, 4 * MIB);
	assert_int_equal(found->written.run[1].len, PAGE);
	assert_int_equal(found->read.num, 3);
	assert_true(found->read.run[2].offset <= 12 * MIB && found->read.run[2].offset > 11 * MIB);
}

int main(void)
{
#define ONE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		ONE(test_file), ONE(test_refused), ONE(test_use), ONE(test_copies_are_bounded), ONE(test_collect),
	};
	int failed;

	if (!mkdtemp(dir))
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	(void)rmdir(dir);
	return failed;
}
