/* Copies of `mayfly cp`: artifacts under another name, and in directories that are there. */
#include "tests/unit/artifact_fixture.h"

/* As `mayfly cp` has it: under another name, and merged with what is there, where links are never followed. */
static void test_merge(void **state)
{
	struct config_artifact config = { .guest = (char[]){ "/result" }, .host = out, .merge = true, .as = "new" };

	(void)state;
	tar_dir(&tar, "result/", 0755);
	tar_dir(&tar, "result/d/", 0755);
	tar_file(&tar, "result/d/one", 0644, "one");
	tar_file(&tar, "result/two", 0644, "two");
	tar_end(&tar);
	assert_true(arrives_from(&config));
	assert_true(has(in(out, "new/d/one"), "one"));
	/* Once more: files are replaced, others stay. */
	put(in(out, "new/d/one"), "mine");
	put(in(out, "new/d/other"), "mine");
	assert_true(arrives_from(&config));
	assert_true(has(in(out, "new/d/one"), "one"));
	assert_true(has(in(out, "new/d/other"), "mine"));
	assert_int_equal(count(out), 1);
	/* A link in the place of a directory, and a directory in the place of a file. */
	assert_int_equal(unlink(in(out, "new/d/one")), 0);
	assert_int_equal(unlink(in(out, "new/d/other")), 0);
	assert_int_equal(rmdir(in(out, "new/d")), 0);
	assert_int_equal(symlink(home, in(out, "new/d")), 0);
	assert_false(arrives_from(&config));
	assert_false(is_there(in(home, "one")));
	assert_int_equal(unlink(in(out, "new/d")), 0);
	assert_int_equal(unlink(in(out, "new/two")), 0);
	assert_int_equal(mkdir(in(out, "new/two"), 0755), 0);
	assert_false(arrives_from(&config));
	assert_non_null(strstr(err.text, "two"));
	assert_int_equal(count(out), 1);
}

/* A part of a copy is an error; of an artifact it is a warning. */
static void test_merge_of_a_part(void **state)
{
	struct config_artifact config = { .guest = (char[]){ "/result" }, .host = out, .merge = true };

	(void)state;
	tar_dir(&tar, "result/", 0755);
	tar_file(&tar, "result/one", 0644, "one");
	tar_header(&tar, '3', "result/null", "", 0644, 0);
	tar_end(&tar);
	assert_false(arrives_from(&config));
	assert_non_null(strstr(err.text, "result/null"));
	assert_true(has(in(out, "result/one"), "one"));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_merge),
		T(test_merge_of_a_part),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
