/* The output of `mayfly bench`: a table, and files of CSV, JSON and SVG. */
#ifndef MF_BENCH_BENCH_REPORT_H
#define MF_BENCH_BENCH_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "vmm/bench/bench.h"
#include "vmm/bench/bench_host.h"
#include "vmm/bench/bench_stats.h"

struct bench_row {
	char name[BENCH_NAME_MAX]; /* snake_case, for files, without a unit */
	const char *label;	   /* for people */
	struct bench_summary sum;
};

/* All that is known of a measurement. Runs that failed are in no sum. */
struct bench_report {
	const struct bench *b;
	struct bench_host host;
	char guest_kernel[BENCH_HOST_TEXT]; /* or "" */
	const char *tier;
	struct bench_row phase[BENCH_PHASES_MAX], total;
	unsigned num_phases;
	struct bench_row counter[BENCH_COUNTERS_MAX]; /* as bench.counter has them */
	unsigned outliers;
};

/* Sums up the runs of b, and marks those that are outliers by their total. Returns 0 or -ENOMEM. */
int bench_report_make(struct bench_report *ret, struct bench *b);

/*
 * How long a phase of a run took: from the end of the one before that this run had. Returns false if the run did not have
 * it. The last phase ends with the process.
 */
bool bench_phase_ns(const struct bench_report *r, const struct bench_run *run, unsigned phase, uint64_t *ret);

/* From the execve(2) of a run to the end of its process. */
uint64_t bench_total_ns(const struct bench_run *run);

/* The value of a run in a row. Returns false if the run does not have it. */
typedef bool bench_value(const struct bench_report *r, const struct bench_run *run, unsigned row, uint64_t *ret);
bool bench_total_value(const struct bench_report *r, const struct bench_run *run, unsigned row, uint64_t *ret);
bool bench_counter_value(const struct bench_report *r, const struct bench_run *run, unsigned row, uint64_t *ret);

/* The values of the runs that did not fail, in their order; values has room for all runs. Returns how many. */
unsigned bench_collect(const struct bench_report *r, bench_value *value, unsigned row, uint64_t *values);

/* Each prints it, and returns 0 or -ENOMEM. Whether the writes worked, ferror(out) says. */
int bench_print(const struct bench_report *r, FILE *out);
int bench_print_csv(const struct bench_report *r, FILE *out);
int bench_print_json(const struct bench_report *r, FILE *out);
int bench_print_svg(const struct bench_report *r, FILE *out);

#endif
