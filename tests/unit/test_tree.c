/* The walk through a directory that is to be packed: what changes its key, and what is left out or named. */
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
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/helper/tree.h"

static char dir[] = "/tmp/mayfly-tree.XXXXXX";
static struct tree tree;
static struct image_key key;
static struct err e;

static int setup(void **state)
{
	(void)state;
	strcpy(dir + sizeof(dir) - 7, "XXXXXX");
	return mkdtemp(dir) && chdir(dir) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
	char command[64];

	(void)state;
	tree_done(&tree);
	tree = (struct tree){ 0 };
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return chdir("/") == 0 ? system(command) : -1;
}

static int scan(int cache_fd)
{
	tree_done(&tree);
	tree = (struct tree){ .dir = dir, .cache_fd = cache_fd, .key = &key };
	image_key_begin(&key, dir, "");
	return tree_scan(&tree, &e);
}

static uint64_t key_now(void)
{
	assert_int_equal(scan(-1), 0);
	return key.state[0];
}

static void write_file(const char *name, const char *text)
{
	MF_CLOSE int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static void test_key(void **state)
{
	uint64_t before;

	(void)state;
	assert_int_equal(mkdir("sub", 0755), 0);
	write_file("sub/file", "one");
	before = key_now();
	assert_int_equal(key_now(), before);
	assert_int_equal(tree.files, 2);
	assert_int_equal(tree.bytes, 3);
	assert_int_equal(chmod("sub/file", 0640), 0);
	assert_int_not_equal(key_now(), before);
	before = key_now();
	assert_int_equal(rename("sub/file", "sub/other"), 0);
	assert_int_not_equal(key_now(), before);
}

static void test_cache(void **state)
{
	MF_CLOSE int cache = -1;
	uint64_t before;

	(void)state;
	assert_int_equal(mkdir("sub", 0755), 0);
	assert_int_equal(mkdir("sub/cache", 0755), 0);
	cache = open("sub/cache", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(scan(cache), 0);
	assert_string_equal(tree.cache, "sub/cache");
	before = key.state[0];
	write_file("sub/cache/image", "one");
	assert_int_equal(scan(cache), 0);
	assert_int_equal(key.state[0], before);
	close(mf_take_fd(&cache));
	cache = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(scan(cache), -EINVAL);
}

static void test_holes(void **state)
{
	(void)state;
	write_file("sparse", "one");
	assert_int_equal(truncate("sparse", 64 * MIB), 0);
	assert_int_equal(scan(-1), 0);
	assert_true(tree.holes >= 63 * MIB && tree.holes < 64 * MIB);
	assert_int_equal(truncate("sparse", 100 * (off_t)GIB), 0);
	assert_int_equal(scan(-1), 0);
	assert_true(tree.holes > 99 * (uint64_t)GIB);
}

static void test_long(void **state)
{
	char name[NAME_MAX + 1] = "";

	(void)state;
	memset(name, 'n', NAME_MAX);
	write_file(name, "");
	assert_int_equal(scan(-1), 0);
	assert_string_equal(tree.long_name, name);
	for (unsigned i = 0; i < PATH_MAX / NAME_MAX + 1; i++) {
		name[0] = 'd';
		assert_int_equal(mkdir(name, 0755), 0);
		assert_int_equal(chdir(name), 0);
	}
	assert_int_equal(scan(-1), -ENAMETOOLONG);
	assert_non_null(strstr(e.text, "'dnnn"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_key, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cache, setup, teardown),
		cmocka_unit_test_setup_teardown(test_holes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
