/* The sums and files of `mayfly bench`, of runs that never were. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/util.h"
#include "vmm/bench/bench_report.h"

#define RUNS 12

static struct bench b;
static struct bench_run runs[RUNS];
static struct bench_report report;
static char *const argv[] = { NULL };

/* Boots that took 100 us to the guest, 200 more to its end, and 10 to the process's; each one us longer than the last. */
static int setup(void **state)
{
	(void)state;
	b = (struct bench){ .kind = &bench_kinds[0], .runs = RUNS, .warm = 1, .jobs = 1, .argv = argv, .run = runs };
	memset(runs, 0, sizeof(runs));
	b.num = RUNS;
	for (unsigned i = 0; i < RUNS; i++) {
		runs[i].ended = true;
		runs[i].exec_ns = 5000000;
		runs[i].at_ns[TIMELINE_MAIN] = 50000;
		runs[i].at_ns[TIMELINE_RUN] = 100000 + i * 1000;
		runs[i].at_ns[TIMELINE_END] = 300000 + i * 1000;
		runs[i].end_ns = runs[i].exec_ns + 310000 + i * 1000;
		bench_count(&b, &runs[i], "exits", 7);
	}
	return 0;
}

static uint64_t phase_ns(unsigned run, unsigned phase)
{
	uint64_t ns = 0;

	assert_true(bench_phase_ns(&report, &runs[run], phase, &ns));
	return ns;
}

static void test_phases(void **state)
{
	uint64_t ns = 1;

	(void)state;
	assert_int_equal(bench_report_make(&report, &b), 0);
	assert_string_equal(report.tier, "cold");
	assert_int_equal(report.num_phases, 5);
	assert_int_equal(phase_ns(1, 0), 101000);
	assert_false(bench_phase_ns(&report, &runs[1], 1, &ns)); /* no PID 1 */
	assert_int_equal(ns, 1);
	assert_int_equal(report.phase[1].sum.n, 0);
	assert_int_equal(phase_ns(1, 3), 200000); /* since the one before that it had */
	assert_int_equal(phase_ns(1, 4), 10000);
	runs[1].at_ns[TIMELINE_END] = 90000; /* threads note the time for themselves */
	assert_int_equal(phase_ns(1, 3), 0);
	assert_int_equal(phase_ns(1, 4), 311000 - 101000);
	assert_int_equal(report.total.sum.min, 310000);
	assert_int_equal(report.total.sum.p50, 315000);
	assert_string_equal(report.phase[0].name, "first_kvm_run");
	assert_string_equal(report.tier, "cold");
}

static void test_failures_and_outliers(void **state)
{
	(void)state;
	runs[3].failed = true;
	runs[3].end_ns += 1000000000;
	runs[5].end_ns += 1000000;
	b.failed = 1;
	b.jobs = 2;
	assert_int_equal(bench_report_make(&report, &b), 0);
	assert_int_equal(report.total.sum.n, RUNS - 1);
	assert_int_equal(report.phase[0].sum.n, RUNS - 1);
	assert_int_equal(report.counter[0].sum.n, RUNS - 1);
	assert_int_equal(report.outliers, 1);
	assert_true(runs[5].outlier);
	assert_false(runs[3].outlier);
	assert_string_equal(report.tier, "burst");
}

static void test_every_kind(void **state)
{
	(void)state;
	for (const struct bench_kind *k = bench_kinds; k->name; k++) {
		b.kind = k;
		assert_int_equal(bench_report_make(&report, &b), 0);
		assert_int_equal(report.total.sum.n, RUNS);
		if (k->in_one_vm)
			assert_int_equal(report.num_phases, 0);
		for (unsigned i = 0; i < report.num_phases; i++) {
			assert_true(*report.phase[i].name);
			for (unsigned j = 0; j < i; j++)
				assert_string_not_equal(report.phase[i].name, report.phase[j].name);
		}
	}
}

static char *print(int (*printer)(const struct bench_report *r, FILE *out))
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_int_equal(printer(&report, out), 0);
	assert_int_equal(fclose(out), 0);
	return text;
}

/* The values of a metric, or NULL. */
static json_t *series_of(json_t *root, const char *metric)
{
	json_t *series;
	size_t i;

	json_array_foreach(json_object_get(root, "series"), i, series)
		if (!strcmp(json_string_value(json_object_get(series, "metric")), metric))
			return json_object_get(series, "values");
	return NULL;
}

static void test_files(void **state)
{
	char *text;
	json_t *root;

	(void)state;
	runs[2].has_counter[0] = false;
	assert_int_equal(bench_report_make(&report, &b), 0);
	snprintf(report.host.cpu, sizeof(report.host.cpu), "<A & B>");
	text = print(bench_print_csv);
	assert_non_null(strstr(text, "total_ns,first_kvm_run_ns,"));
	assert_non_null(strstr(text, "\n1,boot,cold,0,0,310000,100000,,,200000,10000,7\n"));
	assert_non_null(strstr(text, "\n3,boot,cold,0,0,312000,102000,,,200000,10000,\n")); /* absent, not 0 */
	free(text);

	text = print(bench_print_json);
	root = json_loads(text, 0, NULL);
	assert_int_equal(json_array_size(series_of(root, "total")), RUNS);
	assert_int_equal(json_integer_value(json_array_get(series_of(root, "total"), 2)), 312000);
	assert_int_equal(json_array_size(series_of(root, "exits")), RUNS - 1);
	assert_null(series_of(root, "kernel_to_pid_1"));
	json_decref(root);
	free(text);

	text = print(bench_print_svg);
	assert_non_null(strstr(text, "&#60;A &#38; B&#62;"));
	assert_null(strstr(text, "<A"));
	free(text);
	free(print(bench_print));
}

static void test_nothing(void **state)
{
	(void)state;
	b.num = 0;
	assert_int_equal(bench_report_make(&report, &b), 0);
	assert_int_equal(report.total.sum.n, 0);
	free(print(bench_print));
	free(print(bench_print_csv));
	free(print(bench_print_json));
	free(print(bench_print_svg));
}

/* Of a VM of a pool, the whole time is all that there is. */
static void test_pool(void **state)
{
	(void)state;
	b.of_pool = true;
	assert_int_equal(bench_report_make(&report, &b), 0);
	assert_string_equal(report.tier, "warm");
	assert_int_equal(report.num_phases, 0);
	assert_int_equal(report.total.sum.n, RUNS);
	b.jobs = 2;
	assert_int_equal(bench_report_make(&report, &b), 0);
	assert_string_equal(report.tier, "burst");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_phases, setup),
		cmocka_unit_test_setup(test_pool, setup),
		cmocka_unit_test_setup(test_failures_and_outliers, setup),
		cmocka_unit_test_setup(test_every_kind, setup),
		cmocka_unit_test_setup(test_files, setup),
		cmocka_unit_test_setup(test_nothing, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
