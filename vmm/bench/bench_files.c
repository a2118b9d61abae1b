/* The files of `mayfly bench`: CSV, a row a run, and JSON. docs/performance.md has the members. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

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

static void put_number(json_t *to, const char *name, const char *unit, uint64_t n)
{
	char key[2 * BENCH_NAME_MAX];

	snprintf(key, sizeof(key), "%s%s", name, unit);
	(void)json_object_set_new(to, key, number(n));
}

/* Its members' names end with the unit. */
static json_t *row_json(const struct bench_row *row, const char *unit)
{
	json_t *json = json_pack("{s:s,s:i}", "name", row->name, "n", (int)row->sum.n);

	put_number(json, "min", unit, row->sum.min);
	put_number(json, "p50", unit, row->sum.p50);
	put_number(json, "p90", unit, row->sum.p90);
	put_number(json, "p99", unit, row->sum.p99);
	put_number(json, "max", unit, row->sum.max);
	return json;
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
	put_number(json, "cpus", "", h->cpus);
	put_number(json, "hz", "", h->hz);
	bench_host_mitigations("", put_mitigation, mitigations);
	(void)json_object_set_new(json, "mitigations", mitigations);
	return json;
}

static json_t *run_json(const struct bench_report *r, unsigned i)
{
	const struct bench_run *run = &r->b->run[i];
	json_t *json = json_pack("{s:i,s:i,s:b}", "run", (int)i + 1, "status", run->status, "outlier", run->outlier);
	uint64_t ns;

	put_number(json, "total", "_ns", bench_total_ns(run));
	for (unsigned k = 0; k < r->num_phases; k++)
		if (bench_phase_ns(r, run, k, &ns))
			put_number(json, r->phase[k].name, "_ns", ns);
	for (unsigned k = 0; k < r->b->num_counters; k++)
		if (run->has_counter[k])
			put_number(json, r->counter[k].name, "", run->counter[k]);
	return json;
}

static json_t *command_json(const struct bench *b)
{
	json_t *list = json_array();

	for (char *const *word = b->argv; *word; word++)
		(void)json_array_append_new(list, json_string(*word));
	return list;
}

int bench_print_json(const struct bench_report *r, FILE *out)
{
	const struct bench *b = r->b;
	json_t *root, *phases = json_array(), *counters = json_array(), *runs = json_array();
	bool failed;

	for (unsigned i = 0; i < r->num_phases; i++)
		if (r->phase[i].sum.n)
			(void)json_array_append_new(phases, row_json(&r->phase[i], "_ns"));
	if (r->total.sum.n)
		(void)json_array_append_new(phases, row_json(&r->total, "_ns"));
	for (unsigned i = 0; i < b->num_counters; i++)
		if (r->counter[i].sum.n)
			(void)json_array_append_new(counters, row_json(&r->counter[i], ""));
	for (unsigned i = 0; i < b->num; i++)
		(void)json_array_append_new(runs, run_json(r, i));
	root = json_pack("{s:i,s:s,s:s,s:s,s:s,s:o,s:o,s:i,s:i,s:i,s:i,s:I,s:o,s:o,s:o}", "version", 1, "tool",
			 "mayfly bench", "kind", b->kind->name, "tier", r->tier, "mayfly", MF_VERSION, "host",
			 host_json(r), "command", command_json(b), "runs", (int)b->num, "failed", (int)b->failed,
			 "warm", (int)b->warm, "jobs", (int)b->jobs, "wall_ns", (json_int_t)(b->ended_ns - b->began_ns),
			 "phases", phases, "counters", counters, "results", runs);
	if (root && *r->guest_kernel)
		(void)json_object_set_new(root, "guest_kernel", json_string(r->guest_kernel));
	failed = !root || json_dumpf(root, out, JSON_INDENT(1)) < 0;
	fputc('\n', out);
	json_decref(root);
	return failed ? -ENOMEM : 0;
}
