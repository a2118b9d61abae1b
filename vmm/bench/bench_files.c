/* The files of `mayfly bench`: CSV, a row a run, and JSON, as perf/README.md describes it. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vmm/base/exit_status.h"
#include "vmm/base/util.h"
#include "vmm/bench/bench_report.h"

int bench_print_csv(const struct bench_report *r, FILE *out)
{
	const struct bench *b = r->b;
	uint64_t ns;

	fputs("run,kind,tier,status,outlier,total_ns", out);
	for (unsigned i = 0; i < r->num_phases; i++)
		fprintf(out, ",%s_ns", r->phase[i].name);
	for (unsigned i = 0; i < b->num_counters; i++)
		fprintf(out, ",%s", r->counter[i].name);
	fputc('\n', out);
	for (unsigned i = 0; i < b->num; i++) {
		const struct bench_run *run = &b->run[i];

		fprintf(out, "%u,%s,%s,%d,%d,%" PRIu64, i + 1, b->kind->name, r->tier, run->status, run->outlier,
			bench_total_ns(run));
		for (unsigned k = 0; k < r->num_phases; k++) {
			fputc(',', out);
			if (bench_phase_ns(r, run, k, &ns))
				fprintf(out, "%" PRIu64, ns);
		}
		for (unsigned k = 0; k < b->num_counters; k++) {
			fputc(',', out);
			if (run->has_counter[k])
				fprintf(out, "%" PRIu64, run->counter[k]);
		}
		fputc('\n', out);
	}
	return 0;
}

/*
 * Below, a failure of jansson leaves a member out. Then there is no memory for the last print, either,
 * which reports it.
 */

static json_t *number(uint64_t n)
{
	return json_integer((json_int_t)n);
}

static void put_number(json_t *to, const char *name, uint64_t n)
{
	(void)json_object_set_new(to, name, number(n));
}

/* Adds a series, if there are values: perf/README.md has its members; percentiles are beside them. */
static void put_series(json_t *to, const struct bench_report *r, const struct bench_row *row, const char *unit,
		       bench_value *value, unsigned number_of_row)
{
	MF_FREE uint64_t *values = calloc((size_t)r->b->num + 1, sizeof(*values));
	json_t *json, *list = json_array();
	unsigned n = values ? bench_collect(r, value, number_of_row, values) : 0;

	for (unsigned i = 0; i < n; i++)
		(void)json_array_append_new(list, number(values[i]));
	json = json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:o,s:f}", "host", "here", "case", r->b->kind->name, "label",
			 row->label, "monitor", "mayfly", "metric", row->name, "unit", unit, "values", list, "median",
			 row->sum.median);
	put_number(json, "min", row->sum.min);
	put_number(json, "p50", row->sum.p50);
	put_number(json, "p90", row->sum.p90);
	put_number(json, "p99", row->sum.p99);
	put_number(json, "max", row->sum.max);
	if (n)
		(void)json_array_append_new(to, json);
	else
		json_decref(json);
}

static void put_mitigation(void *ctx, const char *name, const char *state)
{
	(void)json_object_set_new(ctx, name, json_string(state));
}

/* A fact that is not known is absent. */
static void put_text(json_t *to, const char *name, const char *text)
{
	if (*text)
		(void)json_object_set_new(to, name, json_string(text));
}

static json_t *host_json(const struct bench_report *r)
{
	const struct bench_host *h = &r->host;
	json_t *json = json_object(), *mitigations = json_object();

	put_text(json, "cpu", h->cpu);
	put_text(json, "kernel", h->kernel);
	put_text(json, "kvm", h->kvm);
	put_text(json, "thp", h->thp);
	(void)json_object_set_new(json, "nested", json_boolean(h->nested));
	(void)json_object_set_new(json, "machine", json_string("this host"));
	put_number(json, "cpus", h->cpus);
	put_number(json, "hz", h->hz);
	bench_host_mitigations("", put_mitigation, mitigations);
	(void)json_object_set_new(json, "mitigations", mitigations);
	return json;
}

static json_t *command_json(const struct bench *b)
{
	json_t *list = json_array();

	for (char *const *word = b->argv; *word; word++)
		(void)json_array_append_new(list, json_string(*word));
	return list;
}

static json_t *series_json(const struct bench_report *r)
{
	json_t *series = json_array();

	for (unsigned i = 0; i < r->num_phases; i++)
		put_series(series, r, &r->phase[i], "ns", bench_phase_ns, i);
	put_series(series, r, &r->total, "ns", bench_total_value, 0);
	for (unsigned i = 0; i < r->b->num_counters; i++)
		put_series(series, r, &r->counter[i], "count", bench_counter_value, i);
	return series;
}

/* What is not in the series: runs that failed, and outliers, which are in it. */
static json_t *notes_json(const struct bench_report *r)
{
	json_t *notes = json_array();

	if (r->b->failed)
		(void)json_array_append_new(notes, json_sprintf("%u of %u runs failed", r->b->failed, r->b->num));
	for (unsigned i = 0; i < r->b->num; i++) {
		const struct bench_run *run = &r->b->run[i];

		if (run->failed)
			(void)json_array_append_new(notes, json_sprintf("run %u: status %d", i + 1, run->status));
		else if (run->outlier)
			(void)json_array_append_new(notes, json_sprintf("run %u: an outlier", i + 1));
	}
	return notes;
}

int bench_print_json(const struct bench_report *r, FILE *out)
{
	const struct bench *b = r->b;
	const time_t now = time(NULL);
	char taken[sizeof("2026-01-01T00:00:00Z")] = "";
	struct tm tm;
	json_t *root, *kernel = json_object();
	bool failed;

	if (gmtime_r(&now, &tm))
		strftime(taken, sizeof(taken), "%Y-%m-%dT%H:%M:%SZ", &tm);
	(void)json_object_set_new(kernel, "version", json_string(*r->guest_kernel ? r->guest_kernel : "unknown"));
	root = json_pack(
		"{s:s,s:i,s:s,s:s,s:s,s:i,s:{s:s,s:s,s:i,s:i,s:i,s:I},s:{s:o},s:{s:{s:s}},s:o,s:o,s:[{s:s,s:s,s:o}],s:o}",
		"format", "mayfly-perf", "version", 1, "tool", "bench", "taken", taken, "clock", "ns", "runs",
		(int)b->num, "options", "kind", b->kind->name, "tier", r->tier, "failed", (int)b->failed, "warm",
		(int)b->warm, "jobs", (int)b->jobs, "wall_ns", (json_int_t)(b->ended_ns - b->began_ns), "hosts", "here",
		host_json(r), "programs", "mayfly", "version", MF_VERSION, "guest_kernel", kernel, "series",
		series_json(r), "commands", "case", b->kind->name, "monitor", "mayfly", "argv", command_json(b),
		"notes", notes_json(r));
	failed = !root || json_dumpf(root, out, JSON_INDENT(1)) < 0;
	fputc('\n', out);
	json_decref(root);
	return failed ? -ENOMEM : 0;
}
