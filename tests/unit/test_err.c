/* Errors: the sentence that is built on the way up, and what happens when it gets too long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "vmm/base/err.h"

static void test_wrap(void **state)
{
	struct err e;

	(void)state;
	assert_int_equal(err_set(&e, -EINVAL, "value %d", 7), -EINVAL);
	assert_string_equal(e.text, "value 7");
	assert_int_equal(err_wrap(&e, "drive '%s'", "root"), -EINVAL);
	assert_string_equal(e.text, "drive 'root': value 7");
	assert_int_equal(err_wrap(&e, "vm"), -EINVAL);
	assert_string_equal(e.text, "vm: drive 'root': value 7");
	assert_int_equal(e.code, -EINVAL);
}

static void test_reason(void **state)
{
	struct err e;

	(void)state;
	errno = ENOENT;
	assert_int_equal(err_sys(&e, "open '%s'", "/img"), -ENOENT);
	assert_string_equal(e.text, "open '/img': No such file or directory");
	assert_int_equal(err_neg(&e, -EACCES, "read it"), -EACCES);
	assert_string_equal(e.text, "read it: Permission denied");
}

static void test_too_long(void **state)
{
	char text[2 * ERR_TEXT_MAX];
	struct err e;

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	err_set(&e, -EINVAL, "%s", text);
	assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
	err_wrap(&e, "context");
	assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
	assert_memory_equal(e.text, "context: xxx", 12);
	err_neg(&e, -EIO, "%s", text);
	assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
	err_wrap(&e, "%s", text);
	assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
	assert_int_equal(e.code, -EIO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wrap),
		cmocka_unit_test(test_reason),
		cmocka_unit_test(test_too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
