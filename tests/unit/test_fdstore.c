/* Files that another process has opened. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/fdstore.h"

static void test_files(void **state)
{
	int fds[FILES_MAX], a = open("/dev/null", O_RDONLY), b = open("/dev/null", O_RDONLY),
			    tap = open("/dev/null", O_RDONLY);
	uint64_t size;
	struct err e;

	(void)state;
	assert_int_equal(fdstore_provide("/same", O_RDONLY, a, &e), 0);
	assert_int_equal(fdstore_provide("/same", O_RDONLY, b, &e), 0);
	assert_int_equal(fdstore_provide("/same", FILES_TAP, tap, &e), 0);
	/* The provider does not take, even where it opens the same. */
	assert_int_equal(fdstore_take("/same", O_RDONLY), -1);
	assert_int_equal(fdio_open_file("/same", O_RDONLY, false, &size, &e), -ENOENT);
	fdstore_use();
	assert_int_equal(fdstore_list(fds), 3);
	assert_int_equal(fdstore_take("/same", O_RDWR), -1);
	assert_int_equal(fdstore_take("/other", O_RDONLY), -1);
	assert_int_equal(fdstore_take("/same", FILES_TAP), tap);
	assert_int_equal(fdstore_take("/same", O_RDONLY), a);
	/* What is provided is looked at as what is opened is. */
	assert_int_equal(fdio_open_file("/same", O_RDONLY, false, &size, &e), -EINVAL);
	assert_int_equal(fdstore_take("/same", O_RDONLY), -1);
	assert_int_equal(fdstore_list(fds), 0);
	close(a);
	close(tap);
	for (int i = 0; i < FILES_MAX - 3; i++)
		assert_int_equal(fdstore_provide("/more", O_RDONLY, dup(0), &e), 0);
	a = dup(0);
	assert_int_equal(fdstore_provide("/more", O_RDONLY, a, &e), -EMFILE);
	assert_int_equal(fcntl(a, F_GETFD), -1);
	assert_int_equal(fdstore_list(fds), FILES_MAX - 3);
	fdstore_close();
	assert_int_equal(fdstore_list(fds), 0);
	assert_int_equal(fcntl(fds[0], F_GETFD), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
