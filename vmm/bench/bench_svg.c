/*
 * The chart of `mayfly bench`: how many percent of the runs had come to a point by which time. One line
 * for each of a few points, the last for the end of the process. It needs no other file.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "vmm/base/util.h"
#include "vmm/bench/bench_report.h"

#define WIDTH 800
#define HEIGHT 470
#define LEFT 60
#define RIGHT 30
#define TOP 70
#define BOTTOM 140 /* the axis, and the legend */
#define TICKS_MAX 10

/* The lines of the chart; that of the whole run comes last. */
static const struct {
	enum timeline_step step; /* TIMELINE_NUM_STEPS: the end of the process */
	const char *label, *colour;
} lines[] = {
	{ TIMELINE_RUN, "first guest instruction", "#4e79a7" },
	{ TIMELINE_PID1, "PID 1", "#f28e2b" },
	{ TIMELINE_STARTED, "command started", "#59a14f" },
	{ TIMELINE_NUM_STEPS, "process end", "#e15759" },
};

/* Only the few characters that XML gives a meaning to. */
static void put_escaped(const char *text, FILE *out)
{
	for (; *text; text++)
		if (*text == '<' || *text == '>' || *text == '&')
			fprintf(out, "&#%d;", *text);
		else
			fputc(*text, out);
}

/* The times of one line, sorted. Returns how many there are. */
static unsigned collect(const struct bench *b, enum timeline_step step, uint64_t *values)
{
	unsigned n = 0;

	for (unsigned i = 0; i < b->num; i++) {
		const struct bench_run *run = &b->run[i];
		uint64_t at = step == TIMELINE_NUM_STEPS ? bench_total_ns(run) : run->at_ns[step];

		if (!run->failed && at)
			values[n++] = at;
	}
	(void)bench_summarize(values, n); /* sorts them */
	return n;
}

/* A distance of ticks, 1, 2 or 5 times a power of ten, that gives TICKS_MAX of them at most. */
static double tick_step(double most)
{
	static const double factors[] = { 1, 2, 5 };

	for (double power = 1e-6;; power *= 10)
		for (size_t i = 0; i < MF_ARRAY_SIZE(factors); i++)
			if (most / (factors[i] * power) <= TICKS_MAX)
				return factors[i] * power;
}

static double x_of(double ms, double most_ms)
{
	return LEFT + ms / most_ms * (WIDTH - LEFT - RIGHT);
}

static double y_of(unsigned percent)
{
	return HEIGHT - BOTTOM - percent / 100.0 * (HEIGHT - TOP - BOTTOM);
}

static void put_axes(double most_ms, FILE *out)
{
	static const unsigned percents[] = { 0, 25, 50, 75, 90, 100 };
	const double step = tick_step(most_ms);

	for (size_t i = 0; i < MF_ARRAY_SIZE(percents); i++)
		fprintf(out,
			"<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#ddd\"/>"
			"<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%u %%</text>\n",
			LEFT, y_of(percents[i]), WIDTH - RIGHT, y_of(percents[i]), LEFT - 8, y_of(percents[i]) + 4,
			percents[i]);
	for (unsigned i = 0; i <= TICKS_MAX && i * step <= most_ms; i++)
		fprintf(out,
			"<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" stroke=\"#ddd\"/>"
			"<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g</text>\n",
			x_of(i * step, most_ms), TOP, x_of(i * step, most_ms), HEIGHT - BOTTOM, x_of(i * step, most_ms),
			HEIGHT - BOTTOM + 18, i * step);
	fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">ms from exec</text>\n", (LEFT + WIDTH - RIGHT) / 2,
		HEIGHT - BOTTOM + 36);
}

static void put_line(const uint64_t *values, unsigned n, double most_ms, const char *colour, FILE *out)
{
	fprintf(out, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", colour);
	for (unsigned percent = 0; percent <= 100; percent++) {
		uint64_t ns = bench_percentile(values, n, MF_MAX(percent, 1U));

		fprintf(out, "%.1f,%.1f ", x_of((double)ns / 1e6, most_ms), y_of(percent));
	}
	fputs("\"/>\n", out);
}

static void put_legend(unsigned place, const char *label, const char *colour, const uint64_t *values, unsigned n,
		       FILE *out)
{
	int x = LEFT, y = HEIGHT - BOTTOM + 62 + (int)place * 20;

	fprintf(out,
		"<rect x=\"%d\" y=\"%d\" width=\"11\" height=\"11\" fill=\"%s\"/><text x=\"%d\" y=\"%d\">%s: p50 %.3f, p99 "
		"%.3f, max %.3f ms</text>\n",
		x, y - 10, colour, x + 16, y, label, (double)bench_percentile(values, n, 50) / 1e6,
		(double)bench_percentile(values, n, 99) / 1e6, (double)values[n - 1] / 1e6);
}

int bench_print_svg(const struct bench_report *r, FILE *out)
{
	const struct bench *b = r->b;
	MF_FREE uint64_t *values = calloc((size_t)b->num + 1, sizeof(*values));
	double most_ms = r->total.sum.n && r->total.sum.max ? (double)r->total.sum.max / 1e6 : 1;
	unsigned n, place = 0;

	if (!values)
		return -ENOMEM;
	fprintf(out,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" "
		"font-size=\"12\" fill=\"#222\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n"
		"<text x=\"%d\" y=\"26\" font-size=\"16\">mayfly bench %s (tier %s): %u runs, %u at a time</text>\n"
		"<text x=\"%d\" y=\"46\">mayfly %s, guest kernel ",
		WIDTH, HEIGHT, LEFT, b->kind->name, r->tier, r->total.sum.n, b->jobs, LEFT, MF_VERSION);
	put_escaped(*r->guest_kernel ? r->guest_kernel : "unknown", out);
	fputs("; ", out);
	put_escaped(r->host.cpu, out);
	fputs(", Linux ", out);
	put_escaped(r->host.kernel, out);
	fputs("</text>\n", out);
	put_axes(most_ms, out);
	for (size_t i = 0; i < MF_ARRAY_SIZE(lines); i++) {
		n = collect(b, lines[i].step, values);
		if (!n)
			continue;
		put_line(values, n, most_ms, lines[i].colour, out);
		put_legend(place++, lines[i].label, lines[i].colour, values, n, out);
	}
	fputs("</svg>\n", out);
	return 0;
}
