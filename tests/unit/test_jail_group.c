/* What memory.events of a jail's control group says about the death of its VM. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/config/config.h"
#include "vmm/jail/jail_group.h"

static bool had_oom(const char *events)
{
	struct jail_group g = { .made = true, .events_fd = memfd_create("events", MFD_CLOEXEC) };
	bool had;

	assert_true(g.events_fd >= 0);
	assert_int_equal(write(g.events_fd, events, strlen(events)), strlen(events));
	had = jail_group_had_oom(&g);
	assert_int_equal(jail_group_had_oom(&g), had); /* wherever the file's position is */
	close(g.events_fd);
	return had;
}

static void test_events(void **state)
{
	(void)state;
	assert_false(had_oom("low 0\nhigh 0\nmax 3\noom 2\noom_kill 0\noom_group_kill 0\n"));
	assert_true(had_oom("low 0\nhigh 0\nmax 3\noom 0\noom_kill 1\noom_group_kill 0\n"));
	assert_true(had_oom("low 0\nhigh 0\nmax 0\noom 0\noom_kill 10\n"));
	assert_false(had_oom("low 0\nhigh 0\nmax 0\noom 7\n"));
	assert_false(had_oom(""));
}

static void test_without_group(void **state)
{
	struct jail_group none = { .made = false }, other = { .made = true, .events_fd = -1 };

	(void)state;
	assert_false(jail_group_had_oom(&none));
	assert_false(jail_group_had_oom(&other)); /* its memory is not limited */
	jail_group_remove(&none);
	assert_false(none.made);
}

/* Without limits none is made. */
static void test_no_limits(void **state)
{
	const struct config_jail j = { .on = true, .strict = true };
	struct jail_group g = { .made = false };

	(void)state;
	assert_int_equal(jail_group_make(&g, &j, NULL), 0);
	assert_false(g.made);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_events),
		cmocka_unit_test(test_without_group),
		cmocka_unit_test(test_no_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
