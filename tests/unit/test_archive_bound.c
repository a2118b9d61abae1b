/* What a list of tar(1) counts as: a program that prints it stands in for tar. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/helper/archive_bound.h"

#define ENTRY(mode, size, name) mode " 0/0 " size " 2026-11-29 14:00 " name "\n"

static struct archive_bound bound;
static struct err e;

/* The result for a list. */
static int add(const char *script, const char *list)
{
	const char *const argv[] = { "sh", "-c", script, "sh", list, NULL };

	return archive_bound_add(&bound, argv, NULL, -1, &e);
}

static int add_list(const char *list)
{
	return add("printf %s \"$1\"", list);
}

static int setup(void **state)
{
	(void)state;
	log_setup(LOG_LEVEL_ERROR, -1);
	bound = (struct archive_bound){ .max = 10 * 4096 };
	return 0;
}

static void test_counts(void **state)
{
	(void)state;
	assert_int_equal(add_list(ENTRY("drwxr-xr-x", "0", "d/") ENTRY("-rw-r--r--", "0", "d/none")
					  ENTRY("-rw-r--r--", "1", "d/a b") ENTRY("-rw-r--r--", "4096", "one")
						  ENTRY("crw-r--r--", "1,3", "null")
							  ENTRY("-rw-r--r--", "4097", "two")),
			 0);
	assert_int_equal(bound.bytes, 7 * 4096);
	assert_int_equal(add_list(""), 0);
	assert_int_equal(add_list(ENTRY("-rw-r--r--", "12288", "three")), 0); /* just as much as there may be */
	assert_int_equal(bound.bytes, bound.max);
	assert_int_equal(add_list(ENTRY("lrwxrwxrwx", "0", "l -> \033[2J")), -EFBIG);
	assert_non_null(strstr(e.text, "'l -> .[2J'"));
	assert_non_null(strstr(e.text, "40K bytes"));
	assert_non_null(strstr(e.text, ARCHIVE_BOUND_ENV));
}

/* A program without end is ended at the bound; no size wraps. */
static void test_too_large(void **state)
{
	static const char *const sizes[] = { "40961",
					     "1099511627776",
					     "18446744073709551615",
					     "18446744073709551616",
					     "99999999999999999999999999",
					     "-1",
					     "x" };

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(sizes); i++) {
		char list[200];

		snprintf(list, sizeof(list), ENTRY("-rw-r--r--", "%s", "big"), sizes[i]);
		assert_int_equal(add("printf %s \"$1\"; exec sleep 1000", list), -EFBIG);
		assert_non_null(strstr(e.text, "'big'"));
		assert_int_equal(bound.bytes, 0);
	}
	assert_int_equal(add("while :; do echo \"$1\"; done", "-rw-r--r-- 0/0 0 2026-11-29 14:00 many"), -EFBIG);
}

/* A name that is longer than a line is one entry. */
static void test_long_name(void **state)
{
	(void)state;
	assert_int_equal(add("printf %s \"$1\"; head -c 100000 /dev/zero | tr '\\0' 'x'; echo; printf %s \"$1\"; echo y",
			     "-rw-r--r-- 0/0 4096 2026-11-29 14:00 "),
			 0);
	assert_int_equal(bound.bytes, 2 * 4096);
}

static void test_failure(void **state)
{
	(void)state;
	assert_int_equal(add("echo first >&2; echo last words >&2; exit 2", ""), -ECHILD);
	assert_non_null(strstr(e.text, "last words"));
	assert_int_equal(add("kill -9 $$", ""), -ECHILD);
	assert_non_null(strstr(e.text, "signal"));
}

static void test_environment(void **state)
{
	(void)state;
	unsetenv(ARCHIVE_BOUND_ENV);
	assert_int_equal(archive_bound_init(&bound, &e), 0);
	assert_int_equal(bound.max, ARCHIVE_BOUND_DEFAULT);
	setenv(ARCHIVE_BOUND_ENV, "512M", 1);
	assert_int_equal(archive_bound_init(&bound, &e), 0);
	assert_int_equal(bound.max, 512 * MIB);
	setenv(ARCHIVE_BOUND_ENV, "512MB", 1);
	assert_int_equal(archive_bound_init(&bound, &e), -EINVAL);
	assert_non_null(strstr(e.text, ARCHIVE_BOUND_ENV));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_counts, setup),
		cmocka_unit_test_setup(test_too_large, setup),
		cmocka_unit_test_setup(test_long_name, setup),
		cmocka_unit_test_setup(test_failure, setup),
		cmocka_unit_test(test_environment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
