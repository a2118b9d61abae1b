/*
 * `mayfly timeline`: draws what `mayfly run --timeline` has written, a bar for each file and a piece of it for each step,
 * as SVG on stdout. The files may be of anybody: what they hold is checked, and escaped for XML.
 */
#include "vmm/timeline_svg.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/cli.h"
#include "vmm/status.h"

#define FILES_MAX 64
#define STEPS_MAX 64
#define WIDTH 960
#define LEFT 170 /* of the bars */
#define TOP 40
#define ROW 34
#define BAR 20
#define LEGEND 18 /* the height of a line */
#define LEGEND_COLUMNS 4

struct step {
	const char *name;
	double at_ms;
};

struct file {
	const char *path;
	json_t *root;
	struct step step[STEPS_MAX];
	unsigned num;
};

static struct {
	struct file file[FILES_MAX];
	unsigned num;
	const char *name[STEPS_MAX * 2]; /* of all files' steps, in the order of the first that has it; for the colours */
	unsigned num_names;
	double longest_ms;
} chart;

static const char *const colours[] = { "#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#edc948",
				       "#b07aa1", "#ff9da7", "#9c755f", "#bab0ac", "#1b6ca8", "#8cd17d",
				       "#d37295", "#499894", "#b6992d", "#86bcb6", "#fabfd2", "#79706e" };

static int add_operand(void *target, const char *text, struct err *e)
{
	(void)target; /* the chart, of which there is one */
	if (chart.num == FILES_MAX)
		return err_set(e, -E2BIG, "at most %d files", FILES_MAX);
	chart.file[chart.num++] = (struct file){ .path = text };
	return 0;
}

static const struct cli_option timeline_options[] = {
	{ 'h', "help", NULL, "this text", .set = NULL },
	{ 0 },
};

const struct cli_usage timeline_usage = {
	.command = "timeline",
	.synopsis = "FILE...",
	.about = "Draws files of `mayfly run --timeline FILE` as SVG, one bar below the other. As PNG:\n"
		 "mayfly timeline a.json b.json | rsvg-convert > times.png\n\n",
	.options = timeline_options,
	.operand = add_operand,
	.operands = CLI_FILES,
};

/* The number of a step's name, which is remembered if it is new; -1: there are too many. */
static int name_index(const char *name)
{
	for (unsigned i = 0; i < chart.num_names; i++)
		if (!strcmp(chart.name[i], name))
			return (int)i;
	if (chart.num_names == MF_ARRAY_SIZE(chart.name))
		return -1;
	chart.name[chart.num_names] = name;
	return (int)chart.num_names++;
}

static int read_step(struct file *f, json_t *value, struct err *e)
{
	const char *name;
	json_int_t at_ns, instructions;
	json_error_t je;
	double last = f->num ? f->step[f->num - 1].at_ms : 0;

	if (f->num == STEPS_MAX)
		return err_set(e, -E2BIG, "more than %d steps", STEPS_MAX);
	if (json_unpack_ex(value, &je, 0, "{s:s,s:I,s?I}", "step", &name, "at_ns", &at_ns, "instructions",
			   &instructions) < 0)
		return err_set(e, -EINVAL, "steps[%u]: %s", f->num, je.text);
	if (at_ns < 0 || name_index(name) < 0)
		return err_set(e, -EINVAL, "steps[%u]: is none of mayfly's", f->num);
	/* Threads mark for themselves: one may be a little before the last. */
	f->step[f->num++] = (struct step){ .name = name, .at_ms = MF_MAX((double)at_ns / 1e6, last) };
	chart.longest_ms = MF_MAX(chart.longest_ms, f->step[f->num - 1].at_ms);
	return 0;
}

static int read_file(struct file *f, struct err *e)
{
	json_error_t je;
	json_t *steps, *value;
	size_t i;

	f->root = json_load_file(f->path, JSON_REJECT_DUPLICATES, &je);
	if (!f->root)
		return err_set(e, -EINVAL, "line %d, column %d: %s", je.line, je.column, je.text);
	steps = json_object_get(f->root, "steps");
	if (!json_is_array(steps) || json_array_size(steps) == 0)
		return err_set(e, -EINVAL, "key 'steps': must be an array with something in it");
	json_array_foreach(steps, i, value) {
		if (read_step(f, value, e) < 0)
			return e->code;
	}
	return 0;
}

/* Text between tags; what a file name of another character set has is replaced. */
static void put_text(const char *text)
{
	for (; *text; text++) {
		if (strchr("<>&\"'", *text))
			printf("&#%d;", *text);
		else
			putchar((unsigned char)*text < ' ' ? '?' : *text);
	}
}

static double x_of(double ms)
{
	return LEFT + (chart.longest_ms > 0 ? ms / chart.longest_ms : 0) * (WIDTH - LEFT - 90);
}

static void draw_bar(const struct file *f, unsigned row)
{
	unsigned y = TOP + row * ROW;
	double from = 0;

	printf("<text x=\"%d\" y=\"%u\" text-anchor=\"end\">", LEFT - 8, y + 15);
	put_text(strrchr(f->path, '/') ? strrchr(f->path, '/') + 1 : f->path);
	printf("</text>\n");
	for (unsigned i = 0; i < f->num; i++) {
		const struct step *s = &f->step[i];

		printf("<rect x=\"%.2f\" y=\"%u\" width=\"%.2f\" height=\"%d\" fill=\"%s\"><title>", x_of(from), y,
		       x_of(s->at_ms) - x_of(from), BAR,
		       colours[(unsigned)name_index(s->name) % MF_ARRAY_SIZE(colours)]);
		put_text(s->name);
		printf(": %.3f ms</title></rect>\n", s->at_ms - from);
		from = s->at_ms;
	}
	printf("<text x=\"%.2f\" y=\"%u\">%.2f ms</text>\n", x_of(from) + 6, y + 15, from);
}

static void draw(void)
{
	unsigned lines = (chart.num_names + LEGEND_COLUMNS - 1) / LEGEND_COLUMNS, y = TOP + chart.num * ROW + 20;

	printf("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%u\" font-family=\"sans-serif\" "
	       "font-size=\"12\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
	       WIDTH, y + lines * LEGEND + 12);
	printf("<text x=\"%d\" y=\"22\" font-size=\"14\">mayfly: from exec to the end</text>\n", LEFT);
	for (unsigned i = 0; i < chart.num; i++)
		draw_bar(&chart.file[i], i);
	for (unsigned i = 0; i < chart.num_names; i++) {
		unsigned x = 20 + i % LEGEND_COLUMNS * (WIDTH - 40) / LEGEND_COLUMNS,
			 line = y + i / LEGEND_COLUMNS * LEGEND;

		printf("<rect x=\"%u\" y=\"%u\" width=\"12\" height=\"12\" fill=\"%s\"/><text x=\"%u\" y=\"%u\">", x,
		       line, colours[i % MF_ARRAY_SIZE(colours)], x + 18, line + 11);
		put_text(chart.name[i]);
		printf("</text>\n");
	}
	printf("</svg>\n");
}

int timeline_command(int argc, char **argv)
{
	struct err e;
	int r;

	chart.num = chart.num_names = 0;
	chart.longest_ms = 0;
	r = cli_parse(&timeline_usage, NULL, argc, argv, &e);
	if (r > 0)
		return STATUS_OK;
	if (r == 0 && !chart.num)
		r = err_set(&e, -EINVAL, "timeline: no file given; try 'mayfly timeline --help'");
	for (unsigned i = 0; r == 0 && i < chart.num; i++) {
		r = read_file(&chart.file[i], &e);
		if (r < 0)
			err_wrap(&e, "timeline '%s'", chart.file[i].path);
	}
	if (r == 0)
		draw();
	for (unsigned i = 0; i < chart.num; i++)
		json_decref(chart.file[i].root);
	if (r == 0)
		r = cli_check_stdout(&e);
	return r < 0 ? cli_fail(&e) : STATUS_OK;
}
