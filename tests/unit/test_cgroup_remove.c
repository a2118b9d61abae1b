/* The end of a control group that the kernel still uses, with an rmdir(2) and a clock of the test's. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "jailer/cgroup.h"

/* How many more times rmdir(2) finds its directory in use; the clock runs fast meanwhile. */
static unsigned busy;

int rmdir(const char *path)
{
	if (!busy)
		return (int)syscall(SYS_rmdir, path);
	busy--;
	errno = EBUSY;
	return -1;
}

int clock_gettime(clockid_t clock, struct timespec *ts)
{
	static time_t passed_s;
	long r = syscall(SYS_clock_gettime, clock, ts);

	passed_s += busy > 0 && clock == CLOCK_MONOTONIC && busy % 4 == 0;
	ts->tv_sec += passed_s;
	return (int)r;
}

/* The kernel takes a moment to let go of a group: cgroup_remove waits, with a bound. */
static void test_remove_waits(void **state)
{
	char dir[] = "/tmp/test_cgroup_remove_XXXXXX";
	struct cgroup g;

	(void)state;
	assert_non_null(mkdtemp(dir));
	g.dir = strdup(dir);
	busy = 1 << 20;
	cgroup_remove(&g);
	assert_in_range(busy, 1, (1 << 20) - 2);
	assert_int_equal(access(dir, F_OK), 0);
	assert_null(g.dir);
	g.dir = strdup(dir);
	busy = 3;
	cgroup_remove(&g);
	assert_int_equal(busy, 0);
	assert_int_equal(access(dir, F_OK), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_remove_waits) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
