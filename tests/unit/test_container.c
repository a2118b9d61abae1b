/* The state of containers, and operations on one at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/oci/container.h"

static char root[] = "/tmp/mf-container.XXXXXX";

static int make_root(void **state)
{
	(void)state;
	return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
	(void)state;
	return rmdir(root);
}

static struct container make(const char *id)
{
	struct container c;
	struct err e;

	assert_int_equal(container_make(&c, root, id, &e), 0);
	assert_int_equal(json_object_set_new(c.json, "pid", json_integer(1)), 0);
	assert_int_equal(container_write(&c, &e), 0);
	return c;
}

static void test_one_is_written_read_and_removed(void **state)
{
	struct container c = make("one"), other;
	struct err e;

	(void)state;
	assert_int_equal(container_make(&other, root, "one", &e), -EEXIST);
	container_done(&other);
	assert_int_equal(container_open(&other, root, "one", &e), 0);
	assert_int_equal(container_pid(&other), 1);
	assert_int_equal(container_remove(&other, &e), 0);
	container_done(&other);
	assert_int_equal(container_open(&other, root, "one", &e), -ENOENT);
	container_done(&other);
	container_done(&c);
}

static void test_one_that_was_removed_is_not_written(void **state)
{
	struct container c = make("one"), other;
	struct err e;

	(void)state;
	assert_int_equal(container_open_locked(&other, root, "one", &e), 0);
	assert_int_equal(container_remove(&other, &e), 0);
	assert_int_equal(container_write(&c, &e), -ENOENT);
	assert_non_null(strstr(e.text, "'one' does not exist"));
	assert_int_equal(container_remove(&c, &e), -ENOENT);
	container_done(&other);
	/* Nor is a new one of its id. */
	other = make("one");
	assert_int_equal(container_write(&c, &e), -ENOENT);
	assert_int_equal(container_remove(&c, &e), -ENOENT);
	assert_int_equal(container_write(&other, &e), 0);
	assert_int_equal(container_remove(&other, &e), 0);
	container_done(&other);
	container_done(&c);
}

/* What a deletion has read is what it removes: a write waits for its end, and fails. */
static void test_a_deletion_is_waited_for(void **state)
{
	struct container c = make("one"), other;
	int ready[2], status;
	struct err e;
	char byte;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		if (container_open_locked(&other, root, "one", &e) < 0 || write(ready[1], "", 1) != 1)
			_exit(1);
		usleep(100000); /* the other waits meanwhile */
		_exit(container_pid(&other) == 1 && container_remove(&other, &e) == 0 ? 0 : 2);
	}
	assert_true(pid > 0);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	(void)json_object_set_new(c.json, "pid", json_integer(2));
	assert_int_equal(container_write(&c, &e), -ENOENT);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	container_done(&c);
	close(ready[0]);
	close(ready[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_is_written_read_and_removed),
		cmocka_unit_test(test_one_that_was_removed_is_not_written),
		cmocka_unit_test(test_a_deletion_is_waited_for),
	};

	return cmocka_run_group_tests(tests, make_root, remove_root);
}
