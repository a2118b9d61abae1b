/* The sums of a measurement, and their table; see bench_report.h. */
#include "vmm/bench/bench_report.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "vmm/base/util.h"

#define OUTLIERS_SHOWN 20
#define PROCESS_END "process end"

/* "first KVM_RUN" becomes "first_kvm_run". */
static void make_name(char name[BENCH_NAME_MAX], const char *label)
{
	size_t n = 0;

	for (; *label && n < BENCH_NAME_MAX - 1; label++)
		if (*label != '\'')
			name[n++] = (char)(isalnum((unsigned char)*label) ? tolower((unsigned char)*label) : '_');
	name[n] = '\0';
}

static void name_row(struct bench_row *row, const char *label)
{
	row->label = label;
	make_name(row->name, label);
}

/* The step that a phase ends with; not of the last phase. */
static enum timeline_step step_of(const struct bench_kind *k, unsigned phase)
{
	return k->steps ? k->steps[phase] : (enum timeline_step)phase;
}

static unsigned num_steps(const struct bench *b)
{
	const struct bench_kind *k = b->kind;

	return k->in_one_vm || b->of_pool ? 0 : k->steps ? k->num_steps : TIMELINE_NUM_STEPS;
}

uint64_t bench_total_ns(const struct bench_run *run)
{
	return run->end_ns > run->exec_ns ? run->end_ns - run->exec_ns : 0;
}

bool bench_phase_ns(const struct bench_report *r, const struct bench_run *run, unsigned phase, uint64_t *ret)
{
	const struct bench_kind *k = r->b->kind;
	const unsigned steps = num_steps(r->b);
	uint64_t begin = 0, end;

	for (unsigned i = 0; i < phase && i < steps; i++)
		begin = MF_MAX(begin, run->at_ns[step_of(k, i)]);
	end = phase == steps ? bench_total_ns(run) : run->at_ns[step_of(k, phase)];
	if (!end)
		return false;
	*ret = end > begin ? end - begin : 0; /* threads mark for themselves: one may be a little before the last */
	return true;
}

bool bench_total_value(const struct bench_report *r, const struct bench_run *run, unsigned row, uint64_t *ret)
{
	(void)r;
	(void)row;
	*ret = bench_total_ns(run);
	return true;
}

bool bench_counter_value(const struct bench_report *r, const struct bench_run *run, unsigned row, uint64_t *ret)
{
	(void)r;
	*ret = run->counter[row];
	return run->has_counter[row];
}

unsigned bench_collect(const struct bench_report *r, bench_value *value, unsigned row, uint64_t *values)
{
	unsigned n = 0;

	for (unsigned i = 0; i < r->b->num; i++)
		if (!r->b->run[i].failed && value(r, &r->b->run[i], row, &values[n]))
			n++;
	return n;
}

/* values: the totals, sorted. */
static void mark_outliers(struct bench_report *ret, struct bench *b, const uint64_t *values)
{
	uint64_t low, high;

	if (!bench_fences(values, ret->total.sum.n, &low, &high))
		return;
	for (unsigned i = 0; i < b->num; i++) {
		uint64_t total = bench_total_ns(&b->run[i]);

		b->run[i].outlier = !b->run[i].failed && (total < low || total > high);
		ret->outliers += b->run[i].outlier;
	}
}

int bench_report_make(struct bench_report *ret, struct bench *b)
{
	MF_FREE uint64_t *values = calloc((size_t)b->num + 1, sizeof(*values));
	const struct bench_kind *k = b->kind;

	*ret = (struct bench_report){ .b = b, .tier = b->jobs > 1 ? "burst" : b->of_pool ? "warm" : k->tier };
	if (!values)
		return -ENOMEM;
	bench_host_read(&ret->host, "");
	/* With one phase, the total is all that there is. */
	ret->num_phases = num_steps(b) ? num_steps(b) + 1 : 0;
	for (unsigned i = 0; i < ret->num_phases; i++) {
		name_row(&ret->phase[i], i == num_steps(b) ? PROCESS_END : timeline_step_name(step_of(k, i)));
		ret->phase[i].sum = bench_summarize(values, bench_collect(ret, bench_phase_ns, i, values));
	}
	for (unsigned i = 0; i < b->num_counters; i++) {
		name_row(&ret->counter[i], b->counter[i]);
		ret->counter[i].sum = bench_summarize(values, bench_collect(ret, bench_counter_value, i, values));
	}
	name_row(&ret->total, "total");
	ret->total.sum = bench_summarize(values, bench_collect(ret, bench_total_value, 0, values));
	mark_outliers(ret, b, values);
	return 0;
}

static void print_times(const struct bench_row *row, FILE *out)
{
	const struct bench_summary *s = &row->sum;

	if (s->n)
		fprintf(out, "  %-18s %7u %11.3f %11.3f %11.3f %11.3f %11.3f\n", row->label, s->n, (double)s->min / 1e6,
			(double)s->p50 / 1e6, (double)s->p90 / 1e6, (double)s->p99 / 1e6, (double)s->max / 1e6);
}

static void print_counts(const struct bench_row *row, FILE *out)
{
	const struct bench_summary *s = &row->sum;

	fprintf(out, "  %-18s %7u %11" PRIu64 " %11" PRIu64 " %11" PRIu64 " %11" PRIu64 " %11" PRIu64 "\n", row->label,
		s->n, s->min, s->p50, s->p90, s->p99, s->max);
}

/* Exits by reason, and what the process itself has used. The other counters are in the files. */
static bool is_shown(const struct bench_row *row)
{
	const char *end = strrchr(row->name, '_');

	return row->sum.n && row->sum.max &&
	       (!strcmp(row->name, "exits") || (end && (!strcmp(end, "_exits") || !strcmp(end, "_faults"))) ||
		!strcmp(row->name, "cpu_us") || !strcmp(row->name, BENCH_PLAIN));
}

static void count_mitigation(void *ctx, const char *name, const char *state)
{
	unsigned *count = ctx;

	(void)name;
	count[0] += !strncmp(state, "Mitigation", 10);
	count[1] += !strncmp(state, "Vulnerable", 10);
}

static const char *or_unknown(const char *text)
{
	return *text ? text : "unknown";
}

static void print_head(const struct bench_report *r, FILE *out)
{
	const struct bench *b = r->b;
	const struct bench_host *h = &r->host;
	unsigned mitigations[2] = { 0 };

	bench_host_mitigations("", count_mitigation, mitigations);
	fprintf(out, "bench %s (tier %s): %u of %u runs, %u at a time, after %u that warmed up\n", b->kind->name,
		r->tier, b->num, b->runs, b->jobs, b->warm);
	fprintf(out, "mayfly %s, guest kernel %s\n", MF_VERSION, or_unknown(r->guest_kernel));
	fprintf(out, "%s, %u CPUs, Linux %s, HZ=%u, KVM %s%s, huge pages %s, mitigations: %u on, %u missing\n",
		or_unknown(h->cpu), h->cpus, or_unknown(h->kernel), h->hz, or_unknown(h->kvm),
		h->nested ? " (nested)" : "", or_unknown(h->thp), mitigations[0], mitigations[1]);
}

static void print_outliers(const struct bench_report *r, FILE *out)
{
	unsigned shown = 0;

	if (!r->outliers)
		return;
	fprintf(out,
		"\noutliers: %u, farther from the quartiles of the total than %d times their distance: ", r->outliers,
		BENCH_FENCE);
	for (unsigned i = 0; i < r->b->num && shown <= OUTLIERS_SHOWN; i++) {
		const struct bench_run *run = &r->b->run[i];

		if (!run->outlier)
			continue;
		if (shown++ == OUTLIERS_SHOWN)
			fputs(", ...", out);
		else
			fprintf(out, "%srun %u (%.3f ms)", shown > 1 ? ", " : "", i + 1,
				(double)bench_total_ns(run) / 1e6);
	}
	fputc('\n', out);
}

int bench_print(const struct bench_report *r, FILE *out)
{
	const struct bench *b = r->b;
	const unsigned good = b->num - b->failed;
	double wall_s = (double)(b->ended_ns - b->began_ns) / 1e9;
	bool head = false;

	print_head(r, out);
	if (good)
		fprintf(out, "\n  %-18s %7s %11s %11s %11s %11s %11s\n", "ms", "runs", "min", "p50", "p90", "p99",
			"max");
	for (unsigned i = 0; i < r->num_phases; i++)
		print_times(&r->phase[i], out);
	print_times(&r->total, out);
	for (unsigned i = 0; i < b->num_counters; i++) {
		if (!is_shown(&r->counter[i]))
			continue;
		if (!head)
			fprintf(out, "\n  a run\n");
		head = true;
		print_counts(&r->counter[i], out);
	}
	print_outliers(r, out);
	if (b->jobs > 1 && good)
		fprintf(out, "\n%u runs in %.3f s: %.1f a second\n", good, wall_s, wall_s > 0 ? good / wall_s : 0);
	if (b->failed)
		fprintf(out, "\nfailed: %u of %u runs; they are in no figure\n", b->failed, b->num);
	return 0;
}
