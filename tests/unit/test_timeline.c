/* Time marks: set once, in order, and read back from the file that they are written to. */
#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/vm/timeline.h"

static struct timeline timeline;
static int file;

static int setup(void **state)
{
	(void)state;
	timeline_init(&timeline);
	file = memfd_create("timeline", MFD_CLOEXEC);
	return file < 0;
}

static int teardown(void **state)
{
	(void)state;
	close(file);
	return 0;
}

static void test_marks(void **state)
{
	uint64_t main_ns = timeline.mark[TIMELINE_MAIN].ns, run_ns;

	(void)state;
	assert_true(timeline.mark[TIMELINE_MAIN].set);
	assert_in_range(main_ns, 0, 60000000000ULL); /* since exec, by the CPU time until then */
	assert_false(timeline.mark[TIMELINE_RUN].set);
	timeline_mark(&timeline, TIMELINE_RUN);
	run_ns = timeline.mark[TIMELINE_RUN].ns;
	assert_true(timeline.mark[TIMELINE_RUN].set && run_ns >= main_ns);
	usleep(1000);
	timeline_mark(&timeline, TIMELINE_RUN);
	assert_int_equal(timeline.mark[TIMELINE_RUN].ns, run_ns);
	timeline_mark(&timeline, TIMELINE_END);
	assert_true(timeline.mark[TIMELINE_END].ns >= run_ns + 1000000);
	assert_int_equal(timeline.mark[TIMELINE_END].instructions, 0); /* nobody counts */
}

/* The counter is whatever can be read; one that gives less than a number counts nothing. */
static void test_instructions(void **state)
{
	const uint64_t count[] = { 7, 1000 };
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(write(fds[1], count, sizeof(count)), sizeof(count));
	assert_int_equal(write(fds[1], "half", 4), 4);
	timeline.counter_fd = fds[0];
	timeline_mark(&timeline, TIMELINE_KVM);
	timeline_mark(&timeline, TIMELINE_RUN);
	timeline_mark(&timeline, TIMELINE_END);
	assert_int_equal(timeline.mark[TIMELINE_KVM].instructions, 7);
	assert_int_equal(timeline.mark[TIMELINE_RUN].instructions, 1000);
	assert_int_equal(timeline.mark[TIMELINE_END].instructions, 0);
	close(fds[0]);
	close(fds[1]);
}

static json_t *read_file(void)
{
	json_error_t e;
	json_t *root;

	assert_int_equal(timeline_write(&timeline, file), 0);
	assert_int_equal(lseek(file, 0, SEEK_SET), 0);
	root = json_loadfd(file, 0, &e);
	assert_non_null(root);
	return root;
}

static const char *name_of(const json_t *steps, unsigned i)
{
	const char *name = json_string_value(json_object_get(json_array_get(steps, i), "step"));

	assert_non_null(name);
	return name;
}

static void test_names(void **state)
{
	json_t *root, *steps;

	(void)state;
	for (unsigned i = 0; i < TIMELINE_NUM_STEPS; i++)
		timeline_mark(&timeline, (enum timeline_step)i);
	root = read_file();
	steps = json_object_get(root, "steps");
	assert_int_equal(json_array_size(steps), TIMELINE_NUM_STEPS);
	for (unsigned i = 0; i < TIMELINE_NUM_STEPS; i++) {
		for (unsigned k = 0; k < i; k++)
			assert_string_not_equal(name_of(steps, i), name_of(steps, k));
	}
	json_decref(root);
}

/* Steps that were reached, in their order, whatever the order in which they were. */
static void test_file(void **state)
{
	static const enum timeline_step want[] = { TIMELINE_MAIN, TIMELINE_KVM, TIMELINE_RUN, TIMELINE_GONE };
	static const char *const names[] = { "exec", "KVM objects", "first KVM_RUN", "all put away" };
	json_t *root, *steps;
	char last;

	(void)state;
	for (unsigned i = 3; i > 0; i--)
		timeline_mark(&timeline, want[i]);
	timeline.mark[TIMELINE_RUN].instructions = 1ULL << 40;
	root = read_file();
	assert_int_equal(json_integer_value(json_object_get(root, "version")), 1);
	steps = json_object_get(root, "steps");
	assert_int_equal(json_array_size(steps), 4);
	for (unsigned i = 0; i < 4; i++) {
		const json_t *step = json_array_get(steps, i);

		assert_string_equal(name_of(steps, i), names[i]);
		assert_int_equal(json_integer_value(json_object_get(step, "at_ns")), timeline.mark[want[i]].ns);
		/* What was not counted is not there. */
		assert_true((json_object_get(step, "instructions") != NULL) == (want[i] == TIMELINE_RUN));
		assert_int_equal(json_integer_value(json_object_get(step, "instructions")),
				 timeline.mark[want[i]].instructions);
	}
	assert_string_equal(json_string_value(json_object_get(root, "mayfly")), MF_VERSION);
	assert_int_equal(json_integer_value(json_object_get(root, "start_ns")), timeline.start_ns);
	assert_null(json_object_get(root, "kvm"));
	json_decref(root);
	assert_int_equal(pread(file, &last, 1, lseek(file, 0, SEEK_END) - 1), 1);
	assert_int_equal(last, '\n');
	assert_int_equal(timeline_write(&timeline, -1), -EBADF);
}

static void test_about(void **state)
{
	static struct timeline_about about;
	json_t *root, *kvm;

	(void)state;
	timeline.about = &about;
	snprintf(about.host.release, sizeof(about.host.release), "6.1-test");
	about.kernel = "/a/vmlinux";
	root = read_file();
	assert_string_equal(json_string_value(json_object_get(root, "kernel")), "/a/vmlinux");
	assert_true(strlen(json_string_value(json_object_get(root, "cpu"))) > 0);
	assert_int_not_equal(json_string_value(json_object_get(root, "cpu"))[0], ' ');
	assert_string_equal(json_string_value(json_object_get(root, "host_kernel")), "6.1-test");
	assert_null(json_object_get(root, "kvm")); /* a kernel without counters is not one with none of them */
	json_decref(root);
	about.kvm = (struct kvm_stats){ .num = 2, .stat = { { .name = "exits", .value = 5 }, { .name = "io_exits" } } };
	assert_int_equal(ftruncate(file, 0), 0);
	assert_int_equal(lseek(file, 0, SEEK_SET), 0);
	root = read_file();
	kvm = json_object_get(root, "kvm");
	assert_int_equal(json_object_size(kvm), 2);
	assert_int_equal(json_integer_value(json_object_get(kvm, "exits")), 5);
	assert_int_equal(json_integer_value(json_object_get(kvm, "io_exits")), 0);
	json_decref(root);
}

/* What --time prints: a line for each step that was reached, with the time and instructions since the last one. */
static void test_print(void **state)
{
	int saved = dup(STDERR_FILENO);
	char text[4096] = "";

	(void)state;
	for (unsigned i = 0; i < TIMELINE_NUM_STEPS; i++)
		timeline.mark[i].set = i == TIMELINE_KVM || i == TIMELINE_RUN || i == TIMELINE_PID1 ||
				       i == TIMELINE_END;
	timeline.mark[TIMELINE_KVM].ns = 1500000;
	timeline.mark[TIMELINE_KVM].instructions = 100;
	timeline.mark[TIMELINE_RUN].ns = 3250000;
	timeline.mark[TIMELINE_RUN].instructions = 350;
	timeline.mark[TIMELINE_PID1].ns = 9000000;
	timeline.mark[TIMELINE_END].ns = 12000000;
	assert_true(dup2(file, STDERR_FILENO) >= 0);
	timeline_print(&timeline);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	close(saved);
	assert_true(pread(file, text, sizeof(text) - 1, 0) > 0);
	assert_non_null(strstr(text, "3.25 ms"));
	assert_non_null(strstr(text, "9.00 ms"));
	assert_non_null(strstr(text, "12.00 ms"));
	assert_non_null(strstr(text, "     1.750      3.250            250\n"));
	assert_null(strstr(text, "devices"));
}

int main(void)
{
#define ONE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		ONE(test_marks), ONE(test_instructions), ONE(test_names),
		ONE(test_file),	 ONE(test_about),	 ONE(test_print),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
