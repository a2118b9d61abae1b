/* The cache of images: what is in use, what is removed first, and what dead processes leave. */
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
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/helper/image_cache.h"

#define IMAGE_BYTES 65536

static char dir[] = "/tmp/mayfly-cache.XXXXXX";
static struct image_cache cache = { .fd = -1 };
static struct err e;

static int setup(void **state)
{
	(void)state;
	strcpy(dir + sizeof(dir) - 7, "XXXXXX");
	if (!mkdtemp(dir) || setenv("XDG_CACHE_HOME", dir, 1) < 0)
		return -1;
	unsetenv(IMAGE_CACHE_MAX_ENV);
	return image_cache_open(&cache, &e);
}

static int teardown(void **state)
{
	char command[64];

	(void)state;
	image_cache_close(&cache);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

/* Makes an image of a source in a state. */
static void make(const char *source, const char *of_state, char name[IMAGE_KEY_TEXT_MAX])
{
	static const char bytes[IMAGE_BYTES] = "image";
	struct image_cache_part part;
	struct image_key key;

	image_key_begin(&key, source, "");
	image_key_add(&key, of_state, strlen(of_state));
	image_key_name(&key, ".erofs", name);
	assert_int_equal(image_cache_begin(&cache, name, &part, &e), 0);
	assert_int_equal(write(part.fd, bytes, sizeof(bytes)), (ssize_t)sizeof(bytes));
	assert_int_equal(image_cache_end(&cache, &part, source, &e), 0);
}

static bool is_there(const char *name)
{
	return faccessat(cache.fd, name, F_OK, 0) == 0;
}

static void test_source(void **state)
{
	char one[IMAGE_KEY_TEXT_MAX], two[IMAGE_KEY_TEXT_MAX], other[IMAGE_KEY_TEXT_MAX];
	int fd;

	(void)state;
	make("/other", "1", other);
	make("/dir", "1", one);
	make("/dir", "2", two);
	assert_false(is_there(one));
	assert_true(is_there(two) && is_there(other));
	assert_int_equal(image_cache_take(&cache, one, O_RDONLY, &e), -ENOENT);
	/* In use, it stays. */
	fd = image_cache_take(&cache, two, O_RDONLY, &e);
	assert_true(fd >= 0);
	make("/dir", "1", one);
	assert_true(is_there(one) && is_there(two));
	close(fd);
	make("/dir", "3", one);
	assert_false(is_there(two));
}

static void test_size(void **state)
{
	char name[4][IMAGE_KEY_TEXT_MAX];
	uint64_t removed, left;
	int fd;

	(void)state;
	make("/a", "", name[0]);
	make("/b", "", name[1]);
	make("/c", "", name[2]);
	fd = image_cache_take(&cache, name[0], O_RDONLY, &e); /* it was used last, and is in use no more */
	close(fd);
	assert_int_equal(image_cache_prune(&cache, 2 * IMAGE_BYTES, &removed, &left, &e), 0);
	assert_true(removed == IMAGE_BYTES && left == 2 * IMAGE_BYTES);
	assert_true(is_there(name[0]) && !is_there(name[1]) && is_there(name[2]));
	/* What was just made stays, whatever its size. */
	cache.max_bytes = 0;
	make("/d", "", name[3]);
	assert_true(!is_there(name[0]) && !is_there(name[2]) && is_there(name[3]));
}

static void test_list(void **state)
{
	struct image_cache_entry *list;
	char name[IMAGE_KEY_TEXT_MAX];
	size_t num;
	int fd;

	(void)state;
	make("/dir", "", name);
	fd = image_cache_take(&cache, name, O_RDONLY, &e);
	assert_int_equal(image_cache_list(&cache, &list, &num, &e), 0);
	assert_int_equal(num, 1);
	assert_string_equal(list[0].name, name);
	assert_string_equal(list[0].source, "/dir");
	assert_true(list[0].in_use && list[0].bytes == IMAGE_BYTES);
	image_cache_free_list(list, num);
	close(fd);
}

/* Parts of the dead go when the cache is opened; those that are locked, and what is not of the cache, stay. */
static void test_parts(void **state)
{
	static const char dead[] = "0123456789abcdef-00.erofs.1234", foreign[] = "notes.txt";
	struct image_cache_part part;
	struct image_cache again = { .fd = -1 };
	char *part_path;

	(void)state;
	close(openat(cache.fd, dead, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	close(openat(cache.fd, foreign, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	assert_int_equal(image_cache_begin(&cache, "0123456789abcdef-01.erofs", &part, &e), 0);
	part_path = strdup(part.path);
	assert_int_equal(image_cache_open(&again, &e), 0);
	image_cache_close(&again);
	assert_true(!is_there(dead) && is_there(foreign));
	assert_int_equal(access(part_path, F_OK), 0);
	assert_int_equal(image_cache_end(&cache, &part, NULL, &e), 0);
	assert_int_equal(access(part_path, F_OK), -1);
	free(part_path);
}

/* A template is a directory, which has its bytes in it. */
static void test_template_directory(void **state)
{
	char old[IMAGE_KEY_TEXT_MAX], new[IMAGE_KEY_TEXT_MAX], path[128];
	struct image_cache_entry *list;
	size_t num;
	int fd;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		char *name = i == 0 ? old : new;
		struct image_key key;

		image_key_begin(&key, "settings", "");
		image_key_add(&key, &i, sizeof(i));
		image_key_name(&key, IMAGE_CACHE_TEMPLATE, name);
		assert_int_equal(mkdirat(cache.fd, name, 0700), 0);
		snprintf(path, sizeof(path), "%s/memory", name);
		fd = openat(cache.fd, path, O_WRONLY | O_CREAT, 0400);
		assert_int_equal(write(fd, path, 100), 100);
		close(fd);
	}
	assert_int_equal(image_cache_list(&cache, &list, &num, &e), 0);
	assert_int_equal(num, 2);
	assert_true(list[0].bytes >= 100);
	assert_false(list[0].in_use);
	image_cache_free_list(list, num);
	/* A complete one removes the older one of its settings, but not itself. */
	fd = openat(cache.fd, new, O_RDONLY);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(image_cache_keep(&cache, new, "/the/kernel", &e), 0);
	assert_false(is_there(old));
	assert_true(is_there(new));
	close(fd);
	assert_true(image_cache_remove(&cache, new));
	assert_false(is_there(new));
	/* What a maker leaves that was killed. */
	snprintf(path, sizeof(path), ".%s.new", new);
	assert_int_equal(mkdirat(cache.fd, path, 0700), 0);
	snprintf(path, sizeof(path), ".%s.new/memory", new);
	close(openat(cache.fd, path, O_WRONLY | O_CREAT, 0400));
	image_cache_close(&cache);
	assert_int_equal(image_cache_open(&cache, &e), 0);
	assert_false(is_there(path));
	*strrchr(path, '/') = '\0';
	assert_false(is_there(path));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_source, setup, teardown),
		cmocka_unit_test_setup_teardown(test_size, setup, teardown),
		cmocka_unit_test_setup_teardown(test_list, setup, teardown),
		cmocka_unit_test_setup_teardown(test_parts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_template_directory, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
