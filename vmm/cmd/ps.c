/* `mayfly ps`: lists VMs. */
#include "vmm/cmd/ps.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/parse.h"
#include "vmm/base/printable.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/cli/cli.h"
#include "vmm/records/record.h"

#define COMMAND_SHOWN 60 /* bytes */

struct ps_options {
	bool all, quiet, json;
};

static const struct cli_option ps_options[] = {
	{ 'a', "all", NULL, "also those that have ended, for 24 hours, 100 at most",
	  .flag = CLI_FLAG(struct ps_options, all) },
	{ 'q', "quiet", NULL, "the names alone", .flag = CLI_FLAG(struct ps_options, quiet) },
	{ 0, "json", NULL, "an array of objects; mayfly(1) has their members",
	  .flag = CLI_FLAG(struct ps_options, json) },
	{ 'h', "help", NULL, "this text", .set = NULL },
	{ 0 },
};

const struct cli_usage ps_usage = {
	.command = "ps",
	.synopsis = "[-a] [-q|--json]",
	.about = "Lists the VMs of this user. One without --name is listed while it runs, by 8 digits.\n\n",
	.options = ps_options,
};

static bool is_shown(const struct ps_options *o, const struct record *r)
{
	return o->all || r->state == RECORD_WAITING || r->state == RECORD_STARTING || r->state == RECORD_RUNNING;
}

/* "1d2h": two units at most. */
static void format_time(double s, char text[16])
{
	static const struct {
		char name;
		unsigned s;
	} units[] = { { 'd', 86400 }, { 'h', 3600 }, { 'm', 60 }, { 's', 1 } };
	uint64_t left = s > 0 ? (uint64_t)s : 0;
	size_t i = 0;

	while (i < MF_ARRAY_SIZE(units) - 1 && left < units[i].s)
		i++;
	if (i == MF_ARRAY_SIZE(units) - 1)
		snprintf(text, 16, "%us", (unsigned)left);
	else
		snprintf(text, 16, "%u%c%u%c", (unsigned)(left / units[i].s), units[i].name,
			 (unsigned)(left % units[i].s / units[i + 1].s), units[i + 1].name);
}

/* How long it runs, or ran. */
static double up_time(const struct record *r)
{
	const double from = record_time(r, json_object_get(r->json, "started") ? "started" : "created");

	return (json_object_get(r->json, "ended") ? record_time(r, "ended") : (double)time(NULL)) - from;
}

static void format_command(const struct record *r, char text[COMMAND_SHOWN + 4])
{
	const json_t *args = json_object_get(r->json, "command");
	size_t len = 0, i;
	json_t *arg;

	snprintf(text, COMMAND_SHOWN + 4, "-");
	json_array_foreach(args, i, arg) {
		const char *word = json_is_string(arg) ? json_string_value(arg) : "?";

		len += (size_t)snprintf(text + len, COMMAND_SHOWN - len, "%s%s", i ? " " : "", word);
		if (len >= COMMAND_SHOWN) {
			strcpy(text + COMMAND_SHOWN - 1, "...");
			break;
		}
	}
	printable_line(text);
}

static void print_row(const struct record *r, int width)
{
	char state[32], pid[16] = "-", up[16], mem[PARSE_SIZE_TEXT_MAX], command[COMMAND_SHOWN + 4];

	snprintf(state, sizeof(state), r->state == RECORD_ENDED ? "%s %d" : "%s", record_state_name(r->state),
		 record_status(r));
	if (r->alive)
		snprintf(pid, sizeof(pid), "%d", r->pid);
	parse_format_size((uint64_t)record_number(r, "mem"), mem);
	format_time(up_time(r), up);
	format_command(r, command);
	printf("%-*s  %7s  %-9s  %4u  %5s  %6s  %s\n", width, r->name, pid, state, (unsigned)record_number(r, "cpus"),
	       mem, up, command);
}

static int print_json(const struct ps_options *o, const struct record *list, size_t num, struct err *e)
{
	json_t *all = json_array();
	bool good = all;

	for (size_t i = 0; good && i < num; i++)
		if (is_shown(o, &list[i]))
			good = json_array_append(all, list[i].json) == 0;
	good = good && json_dumpf(all, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) == 0;
	json_decref(all);
	printf("\n");
	return good ? 0 : err_set(e, -EIO, "print the list");
}

static int print(const struct ps_options *o, const struct record *list, size_t num, struct err *e)
{
	int width = (int)sizeof("NAME") - 1;

	if (o->json)
		return print_json(o, list, num, e);
	for (size_t i = 0; i < num; i++)
		if (is_shown(o, &list[i]))
			width = MF_MAX(width, (int)strlen(list[i].name));
	if (!o->quiet)
		printf("%-*s  %7s  %-9s  %4s  %5s  %6s  %s\n", width, "NAME", "PID", "STATE", "CPUS", "MEM", "UP",
		       "COMMAND");
	for (size_t i = 0; i < num; i++) {
		if (!is_shown(o, &list[i]))
			continue;
		if (o->quiet)
			printf("%s\n", list[i].name);
		else
			print_row(&list[i], width);
	}
	return 0;
}

static int ps(const struct ps_options *o, struct err *e)
{
	MF_CLOSE int dir = records_open(false, e);
	struct record *list = NULL;
	size_t num = 0;
	int r;

	if (dir < 0 && dir != -ENOENT)
		return dir;
	if (dir >= 0 && (records_clean(dir, e) < 0 || records_list(dir, &list, &num, e) < 0))
		return e->code;
	r = print(o, list, num, e);
	records_free(list, num);
	return r < 0 ? r : cli_check_stdout(e);
}

int ps_command(int argc, char **argv)
{
	struct ps_options o = { .all = false };
	struct err e;
	int r = cli_parse(&ps_usage, &o, argc, argv, &e);

	if (r > 0)
		return STATUS_OK;
	if (r == 0 && o.quiet && o.json)
		r = err_set(&e, -EINVAL, "--quiet and --json: choose one");
	if (r == 0)
		r = ps(&o, &e);
	if (r < 0) {
		err_wrap(&e, "ps");
		return report_err(&e);
	}
	return STATUS_OK;
}
