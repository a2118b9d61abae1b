/* The manual pages; see manual.h. */
#include "vmm/cli/manual.h"

#include <errno.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/cli/embedded.h"
#include "vmm/config/config_field.h"

#define OBJECT_MAX 32 /* bytes of an object's name */

static const struct cli_option manual_options[] = {
	{ 'h', "help", NULL, "this text", .set = NULL },
	{ 0 },
};

const struct cli_usage manual_usage = {
	.command = "manual",
	.synopsis = "[1|5|jailer]",
	.about = "Prints a manual page: mayfly(1), mayfly(5), which is about the configuration file,\n"
		 "or mayfly-jailer(1). To read it: mayfly manual | man -l -\n\n",
	.options = manual_options,
	.operands = "1 5 jailer",
};

static const struct {
	const char *name, *text;
} pages[] = {
	{ "1", embedded_manual_1 },
	{ "5", embedded_manual_5 },
	{ "jailer", embedded_manual_jailer },
};

/* Text as roff wants it, on one line: hyphens that can be copied, and no requests. */
static void put_escaped(const char *text, FILE *out)
{
	size_t len = strlen(text);

	while (len > 0 && text[len - 1] == '\n')
		len--;
	if (*text == '.' || *text == '\'')
		fputs("\\&", out);
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '-')
			fputs("\\-", out);
		else if (text[i] == '\\')
			fputs("\\e", out);
		else
			putc(text[i] == '\n' ? ' ' : text[i], out);
	}
}

static void put_paragraph(const char *text, FILE *out)
{
	put_escaped(text, out);
	putc('\n', out);
}

static void put_option(const struct cli_option *o, FILE *out)
{
	fputs(".TP\n", out);
	if (o->short_name)
		fprintf(out, "\\fB\\-%c\\fR, ", o->short_name);
	fputs("\\fB\\-\\-", out);
	put_escaped(o->long_name, out);
	fputs("\\fR", out);
	if (o->value_name) {
		fputs(o->fixed ? "[=\\fI" : " \\fI", out);
		put_escaped(o->value_name, out);
		fputs(o->fixed ? "\\fR]" : "\\fR", out);
	}
	putc('\n', out);
	put_paragraph(o->help, out);
}

static void put_options(const struct cli_usage *u, FILE *out)
{
	for (const struct cli_option *o = u->options; o->help; o++) {
		if (o->long_name) {
			put_option(o, out);
			continue;
		}
		fputs(".PP\n", out);
		put_escaped(o->help, out);
		fputs(":\n", out);
	}
}

static void put_command(const struct cli_command *c, FILE *out)
{
	const struct cli_usage *u = c->usage;

	fputs(".SS mayfly ", out);
	put_escaped(c->name, out);
	putc(u ? ' ' : '\n', out);
	if (!u) {
		put_paragraph(c->summary, out);
		return;
	}
	put_paragraph(u->synopsis, out);
	put_paragraph(u->about, out);
	put_options(u, out);
}

/* The help of the option with that key. */
static const char *option_help(const char *key, const struct cli_command *commands)
{
	for (const struct cli_command *c = commands; c->name; c++) {
		for (const struct cli_option *o = c->usage ? c->usage->options : NULL; o && o->help; o++) {
			if (o->key && !strcmp(o->key, key))
				return o->help;
		}
	}
	return "";
}

static void put_keys(const char *object, const struct cli_command *commands, FILE *out)
{
	const struct config_object *o = config_objects;

	while (o->name && strcmp(o->name, object) != 0)
		o++;
	for (const struct config_field *f = o->fields; f && f->key; f++) {
		if (f->flags & CONFIG_NOT_JSON)
			continue;
		fputs(".TP\n\\fB", out);
		put_escaped(f->key, out);
		fprintf(out, "\\fR (%s)\n", config_json_types(f));
		put_paragraph(f->help ? f->help : option_help(f->key, commands), out);
	}
}

/* A line with the version in place of its name. */
static void put_line(const char *line, int len, FILE *out)
{
	static const char name[] = "@version@";
	const char *at = memmem(line, (size_t)len, name, sizeof(name) - 1);

	if (at) {
		fprintf(out, "%.*s%s", (int)(at - line), line, MF_VERSION);
		len -= (int)(at - line) + (int)sizeof(name) - 1;
		line = at + sizeof(name) - 1;
	}
	fprintf(out, "%.*s\n", len, line);
}

void manual_print(const char *page, const struct cli_command *commands, FILE *out)
{
	char object[OBJECT_MAX];

	for (int len; *page; page += len + (page[len] == '\n')) {
		len = (int)strcspn(page, "\n");
		if (!strncmp(page, "@commands@", 10)) {
			for (const struct cli_command *c = commands; c->name; c++)
				put_command(c, out);
		} else if (sscanf(page, "@options %31[a-z]@", object) == 1) {
			for (const struct cli_command *c = commands; c->name; c++) {
				if (!strcmp(c->name, object))
					put_options(c->usage, out);
			}
		} else if (!strncmp(page, "@keys@", 6)) {
			put_keys("", commands, out);
		} else if (sscanf(page, "@keys %31[a-z]@", object) == 1) {
			put_keys(object, commands, out);
		} else {
			put_line(page, len, out);
		}
	}
}

int manual_command(int argc, char **argv)
{
	const char *name = NULL;
	struct err e;
	int r = cli_parse_operand(&manual_usage, argc, argv, &name, &e);

	if (r > 0)
		return STATUS_OK;
	if (r < 0)
		return report_err(&e);
	for (size_t i = 0; i < MF_ARRAY_SIZE(pages); i++) {
		if (!strcmp(name ? name : "1", pages[i].name)) {
			manual_print(pages[i].text, cli_commands, stdout);
			return cli_check_stdout(&e) < 0 ? report_err(&e) : STATUS_OK;
		}
	}
	err_set(&e, -EINVAL, "manual page '%.60s': must be 1, 5 or jailer", name);
	return report_err(&e);
}
