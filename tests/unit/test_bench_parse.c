/* What `mayfly bench` reads: times of runs, lists of CPUs, and versions in kernels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/bench/bench.h"

static struct bench b;
static struct bench_run run;
static struct err e;

static int setup(void **state)
{
	(void)state;
	memset(&b, 0, sizeof(b));
	memset(&run, 0, sizeof(run));
	run.exec_ns = 1000;
	return 0;
}

static int take(const char *text)
{
	return bench_take_timeline(&b, &run, text, strlen(text), &e);
}

#define STEPS(list) "{\"version\": 1, \"start_ns\": 1500, \"steps\": [" list "]}"

/* The marks count from the child's own start; here they count from its execve. */
static void test_timeline(void **state)
{
	(void)state;
	assert_int_equal(take(STEPS(
				 "{\"step\": \"exec\", \"at_ns\": 100}, {\"step\": \"first KVM_RUN\", \"at_ns\": 900,"
				 "\"instructions\": 5}")),
			 0);
	assert_int_equal(run.at_ns[TIMELINE_MAIN], 600);
	assert_int_equal(run.at_ns[TIMELINE_RUN], 1400);
	assert_int_equal(run.at_ns[TIMELINE_PID1], 0);
	assert_int_equal(b.num_counters, 0);
	run.exec_ns = 1700; /* a mark is never before the start, and never seems to be absent */
	assert_int_equal(take(STEPS("{\"step\": \"exec\", \"at_ns\": 100}")), 0);
	assert_int_equal(run.at_ns[TIMELINE_MAIN], 1);
}

static void test_counters(void **state)
{
	(void)state;
	bench_count(&b, &run, "minor_faults", 3);
	assert_int_equal(take("{\"start_ns\": 1500, \"steps\": [{\"step\": \"exec\", \"at_ns\": 1}], \"kvm\": {\"exits\": 7,"
			      "\"bad,name\": 1, \"\": 2, \"text\": \"x\", \"io_exits\": 0}}"),
			 0);
	assert_int_equal(b.num_counters, 3);
	assert_string_equal(b.counter[1], "exits");
	assert_int_equal(run.counter[1], 7);
	assert_string_equal(b.counter[2], "io_exits");
	assert_true(run.has_counter[2] && run.counter[2] == 0);
	assert_false(run.has_counter[3]);
}

static void test_too_many_counters(void **state)
{
	char name[BENCH_NAME_MAX + 8];

	(void)state;
	for (unsigned i = 0; i < BENCH_COUNTERS_MAX + 5; i++) {
		snprintf(name, sizeof(name), "counter_%u", i);
		bench_count(&b, &run, name, i);
	}
	assert_int_equal(b.num_counters, BENCH_COUNTERS_MAX);
	setup(NULL);
	memset(name, 'x', BENCH_NAME_MAX);
	name[BENCH_NAME_MAX] = '\0';
	bench_count(&b, &run, name, 1);
	assert_int_equal(b.num_counters, 0);
}

static void test_wrong_timeline(void **state)
{
	static const char *const wrong[] = {
		"",
		"{",
		"[]",
		"{\"steps\": [{\"step\": \"exec\", \"at_ns\": 1}]}",
		"{\"start_ns\": -1, \"steps\": [{\"step\": \"exec\", \"at_ns\": 1}]}",
		"{\"start_ns\": 9223372036854775807, \"steps\": [{\"step\": \"exec\", \"at_ns\": 1}]}",
		STEPS(""),
		STEPS("{\"step\": \"exec\", \"at_ns\": -1}"),
		STEPS("{\"step\": \"exec\", \"at_ns\": \"1\"}"),
		STEPS("{\"step\": \"exec\", \"at_ns\": 9223372036854775807}"),
		STEPS("{\"step\": \"no such step\", \"at_ns\": 1}"),
		STEPS("{\"step\": 7, \"at_ns\": 1}"),
		STEPS("7"),
	};

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(wrong); i++)
		if (take(wrong[i]) != -EPROTO)
			fail_msg("taken: %s", wrong[i]);
}

static void test_cpus(void **state)
{
	static const char *const wrong[] = { "", ",", "0,", "-1", "1-", "3-2", "0-99999", "a", "1 ", "0x1", "1-2-3" };
	cpu_set_t set;

	(void)state;
	CPU_ZERO(&set);
	assert_int_equal(bench_parse_cpus("0,2-4,2", &set, &e), 0);
	assert_int_equal(CPU_COUNT(&set), 4);
	assert_true(CPU_ISSET(0, &set) && CPU_ISSET(2, &set) && CPU_ISSET(4, &set));
	for (size_t i = 0; i < MF_ARRAY_SIZE(wrong); i++) {
		if (bench_parse_cpus(wrong[i], &set, &e) != -EINVAL)
			fail_msg("taken: '%s'", wrong[i]);
		assert_int_equal(CPU_COUNT(&set), 4);
	}
}

/* A file with text at offset, and zeros before it. */
static bool version_of(long offset, const char *text, size_t len, char ret[96])
{
	char path[] = "/tmp/mayfly-bench-test-XXXXXX";
	int fd = mkstemp(path);
	bool found;

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, text, len, offset), len);
	found = bench_kernel_version(path, ret, 96);
	close(fd);
	unlink(path);
	return found;
}

static void test_kernel_version(void **state)
{
	static const char elf[] = "Linux version %s\n\0Linux version 6.12.9-test (gcc) #1\n";
	char header[0x600] = "", text[96];

	(void)state;
	assert_true(version_of(5000, elf, sizeof(elf), text));
	assert_string_equal(text, "6.12.9-test");
	/* Wherever the pieces in which it is read end. */
	for (long at = 256 * 1024 - 120; at < 256 * 1024 + 4; at++) {
		assert_true(version_of(at, elf, sizeof(elf), text));
		assert_string_equal(text, "6.12.9-test");
	}
	memcpy(header + 0x202, "HdrS", 4);
	header[0x20f] = 0x03; /* 0x300 behind 0x200 */
	memcpy(header + 0x500, "6.1.0-amd64 (x@y)", 18);
	assert_true(version_of(0, header, sizeof(header), text));
	assert_string_equal(text, "6.1.0-amd64");
	header[0x20e] = header[0x20f] = (char)0xff; /* behind the end */
	assert_false(version_of(0, header, 0x300, text));
	assert_false(version_of(0, "Linux version ", 14, text));
	assert_string_equal(text, "");
	assert_false(bench_kernel_version("/nonexistent", text, sizeof(text)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_timeline, setup),
		cmocka_unit_test_setup(test_counters, setup),
		cmocka_unit_test_setup(test_too_many_counters, setup),
		cmocka_unit_test_setup(test_wrong_timeline, setup),
		cmocka_unit_test_setup(test_cpus, setup),
		cmocka_unit_test_setup(test_kernel_version, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
