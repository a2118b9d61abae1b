/* The end of a VM: the first reason stands, whole, and wakes the main thread. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/vm/timeline.h"
#include "vmm/vm/vm_end.h"

#define THREADS 4
#define ROUNDS 200

static struct vm_end end;
static struct timeline timeline;
static struct err err;

static int setup(void **state)
{
	(void)state;
	timeline_init(&timeline);
	return vm_end_init(&end, &timeline, &err);
}

static int teardown(void **state)
{
	(void)state;
	close(end.wake_fd);
	return 0;
}

static bool is_woken(void)
{
	uint64_t count;

	return read(end.wake_fd, &count, sizeof(count)) == sizeof(count);
}

static void test_first_reason_stands(void **state)
{
	uint64_t ns;

	(void)state;
	assert_int_equal(vm_end_reason(&end), VM_RUNNING);
	assert_false(is_woken());
	vm_end(&end, VM_END_RESET, "by %s", "the guest");
	assert_int_equal(vm_end_reason(&end), VM_END_RESET);
	assert_string_equal(end.text, "by the guest");
	assert_true(is_woken());
	assert_true(timeline.mark[TIMELINE_END].set);
	ns = timeline.mark[TIMELINE_END].ns;
	vm_end(&end, VM_END_KVM, "later");
	assert_int_equal(vm_end_reason(&end), VM_END_RESET);
	assert_string_equal(end.text, "by the guest");
	assert_false(is_woken());
	assert_int_equal(timeline.mark[TIMELINE_END].ns, ns);
	vm_end_wake(&end);
	assert_true(is_woken());
}

static void test_long_text_is_cut(void **state)
{
	char text[2 * sizeof(end.text)];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	vm_end(&end, VM_END_COMMAND, "%s", text);
	assert_int_equal(strlen(end.text), sizeof(end.text) - 1);
}

static void *end_it(void *arg)
{
	enum vm_end_reason reason = (enum vm_end_reason)(VM_END_RESET + (uintptr_t)arg);

	vm_end(&end, reason, "%d", (int)reason);
	return NULL;
}

/* Reason and text are those of one thread, also for a thread that sees them at once. */
static void test_threads(void **state)
{
	(void)state;
	for (unsigned round = 0; round < ROUNDS; round++) {
		pthread_t thread[THREADS];
		char want[16];
		enum vm_end_reason reason;

		for (uintptr_t i = 0; i < THREADS; i++)
			assert_int_equal(pthread_create(&thread[i], NULL, end_it, (void *)i), 0);
		while ((reason = vm_end_reason(&end)) == VM_RUNNING)
			;
		snprintf(want, sizeof(want), "%d", (int)reason);
		assert_string_equal(end.text, want);
		for (unsigned i = 0; i < THREADS; i++)
			assert_int_equal(pthread_join(thread[i], NULL), 0);
		assert_int_equal(vm_end_reason(&end), reason);
		assert_string_equal(end.text, want);
		close(end.wake_fd);
		assert_int_equal(setup(NULL), 0);
	}
}

static void test_no_descriptor(void **state)
{
	struct rlimit limit, none;

	(void)state;
	close(end.wake_fd);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = (struct rlimit){ 0, limit.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_true(vm_end_init(&end, &timeline, &err) < 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(vm_end_reason(&end), VM_RUNNING);
	assert_int_equal(end.wake_fd, -1);
}

int main(void)
{
#define ONE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		ONE(test_first_reason_stands),
		ONE(test_long_text_is_cut),
		ONE(test_threads),
		ONE(test_no_descriptor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
