/*
 * The command line; see cli.h.
 *
 * getopt_long parses in the mode that never reorders argv (a leading '-'). So
 * argv[optind] before a call is the element that the call examines, and messages can
 * quote it. getopt_long accepts abbreviated long options. mayfly refuses them, because a
 * new option could change what an old script means.
 *
 * argv is walked twice: for the options that come first (--config), then for the rest,
 * which override them.
 */
#include "vmm/cli/cli.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/printable.h"
#include "vmm/base/report.h"
#include "vmm/base/suggest.h"
#include "vmm/base/util.h"

#define LONG_BASE 256  /* getopt's value for the option i, as cli_next_option counts, is LONG_BASE + i */
#define VALUE_SHOWN 60 /* bytes of a value in a message, so that the reason behind it is not cut */

/* A command's options in the form that getopt_long takes. */
struct getopt_tables {
	char shorts[3 + 2 * CLI_OPTIONS_MAX];
	struct option longs[CLI_OPTIONS_MAX + 1];
};

int cli_check_stdout(struct err *e)
{
	if (fflush(stdout) == EOF || ferror(stdout))
		return err_sys(e, "write to stdout");
	return 0;
}

/* Whether one of the command's own options has that name. */
static bool is_own(const struct cli_usage *u, const char *name)
{
	for (const struct cli_option *o = u->options; o->help; o++)
		if (o->long_name && !strcmp(o->long_name, name))
			return true;
	return false;
}

/* Whether o is in a table, the end of which counts. */
static bool is_in(const struct cli_option *table, const struct cli_option *o)
{
	while (table->help && table != o)
		table++;
	return table == o;
}

const struct cli_option *cli_next_option(const struct cli_usage *u, const struct cli_option *o)
{
	bool own = !o || !u->passes || is_in(u->options, o);

	o = o ? o + 1 : u->options;
	for (;; o++) {
		if (!o->help && own && u->passes) {
			own = false;
			o = u->passes->options;
		}
		if (!o->help)
			return NULL;
		if (o->long_name && (own || !is_own(u, o->long_name)))
			return o;
	}
}

static void fill_tables(const struct cli_usage *u, struct getopt_tables *t)
{
	char *s = t->shorts;
	int num = 0;

	*s++ = '-';
	*s++ = ':'; /* tell a missing value from an unknown option, and print nothing */
	for (const struct cli_option *o = NULL; (o = cli_next_option(u, o));) {
		assert(num < CLI_OPTIONS_MAX);
		t->longs[num] = (struct option){
			.name = o->long_name,
			.has_arg = !o->value_name ? no_argument :
				   o->fixed	  ? optional_argument :
						    required_argument,
			.val = LONG_BASE + num,
		};
		num++;
		if (o->short_name) /* of two, getopt takes the first */
			*s++ = o->short_name;
		if (o->short_name && o->value_name)
			*s++ = ':';
	}
	*s = '\0';
	t->longs[num] = (struct option){ 0 };
}

/* The option of a value that getopt_long returned or left in optopt. */
static const struct cli_option *find_option(const struct cli_usage *u, int val)
{
	const struct cli_option *o = NULL;
	int i = LONG_BASE;

	while ((o = cli_next_option(u, o)) && (val >= LONG_BASE ? i++ != val : o->short_name != val))
		;
	return o;
}

/* What to type in place of an option of another program, or NULL. */
static const char *find_foreign(const struct cli_foreign *f, const char *name, size_t len)
{
	for (; f && f->name; f++)
		if (strlen(f->name) == len && strncmp(f->name, name, len) == 0)
			return f->hint;
	return NULL;
}

static int unknown_option(const struct cli_usage *u, const char *given, struct err *e)
{
	struct suggest n = { .word = given + 2, .len = strcspn(given + 2, "=") };
	int shown = (int)MF_MIN(n.len + 2, (size_t)VALUE_SHOWN);
	const char *hint = find_foreign(u->foreign, n.word, n.len);

	if (hint)
		return err_set(e, -EINVAL, "unknown option '%.*s': %s", shown, given, hint);
	for (const struct cli_option *o = NULL; (o = cli_next_option(u, o));)
		suggest_try(&n, o->long_name);
	if (n.best)
		return err_set(e, -EINVAL, "unknown option '%.*s'; did you mean '--%s'? try 'mayfly %s --help'", shown,
			       given, n.best, u->command);
	return err_set(e, -EINVAL, "unknown option '%.*s'; try 'mayfly %s --help'", shown, given, u->command);
}

/*
 * Reports an option that getopt_long refused: c is '?' or ':', given the element of argv.
 */
static int refuse(const struct cli_usage *u, int c, const char *given, struct err *e)
{
	const struct cli_option *o = find_option(u, optopt);
	const char *hint = find_foreign(u->foreign, (const char[]){ (char)optopt }, 1);

	if (c == '?' && optopt && optopt < LONG_BASE && hint)
		return err_set(e, -EINVAL, "unknown option '-%c': %s", optopt, hint);
	if (c == ':' && o)
		return err_set(e, -EINVAL, "option '--%s' needs a value (%s); try 'mayfly %s --help'", o->long_name,
			       o->value_name, u->command);
	if (optopt >= LONG_BASE)
		return err_set(e, -EINVAL, "option '--%s' takes no value; try 'mayfly %s --help'", o->long_name,
			       u->command);
	if (optopt)
		return err_set(e, -EINVAL, "unknown option '-%c'; try 'mayfly %s --help'", optopt, u->command);
	return unknown_option(u, given, e);
}

/*
 * Reports a long option that was given with one dash: "-kernel" would be -k with the value "ernel", and docker's "-it" an
 * initrd. Returns 0 if it is none.
 */
static int refuse_one_dash(const struct cli_usage *u, const char *given, struct err *e)
{
	size_t len = strcspn(given, "=");
	const char *hint;

	if (given[0] != '-' || given[1] == '-' || len < 3)
		return 0;
	hint = find_foreign(u->foreign, given + 1, len - 1);
	if (hint)
		return err_set(e, -EINVAL, "unknown option '%.*s': %s", (int)len, given, hint);
	for (const struct cli_option *o = NULL; (o = cli_next_option(u, o));)
		if (strlen(o->long_name) == len - 1 && !strncmp(o->long_name, given + 1, len - 1))
			return err_set(e, -EINVAL, "unknown option '%.*s': a long option has two dashes, --%s",
				       (int)len, given, o->long_name);
	return 0;
}

static int apply(const struct cli_usage *u, const struct cli_option *o, void *target, const char *value, struct err *e)
{
	if (!is_in(u->options, o))
		return u->pass(target, o, value, e) == 0 ? 0 : err_wrap(e, "option '--%s'", o->long_name);
	if (o->flag) {
		*(bool *)((char *)target + o->flag - 1) = true;
		return 0;
	}
	if (!o->value_name || (o->fixed && !value))
		value = o->fixed;
	if ((o->set ? o->set(target, value, e) : u->set_key(target, o->key, value, e)) == 0)
		return 0;
	if (o->first)
		return e->code; /* the message starts with the file's name */
	if (!o->value_name)
		return err_wrap(e, "option '--%s'", o->long_name);
	return err_wrap(e, "option '--%s %.*s%s'", o->long_name, VALUE_SHOWN, value,
			strlen(value) > VALUE_SHOWN ? "..." : "");
}

/* An argument that is no option, in front of "--". */
static int take_operand(const struct cli_usage *u, bool first, void *target, const char *text, struct err *e)
{
	if (first)
		return 0; /* an option before it may be wrong */
	if (u->operand)
		return u->operand(target, text, e);
	return err_set(e, -EINVAL, "unexpected argument '%.*s'%s; try 'mayfly %s --help'", VALUE_SHOWN, text,
		       u->argument ? " (put '--' before a command)" : "", u->command);
}

/* Sets the options whose first is as given. Returns 0, 1 when an option asks for the help, or a negative errno. */
static int walk(const struct cli_usage *u, bool first, void *target, int argc, char **argv, struct err *e)
{
	struct getopt_tables tables;
	const struct cli_option *o;
	unsigned operands = 0;
	int at, val, r;

	fill_tables(u, &tables);
	optind = 0; /* GNU: restarts the scan */
	for (;;) {
		at = optind ? optind : 1;
		if (at < argc && refuse_one_dash(u, argv[at], e) < 0)
			return e->code;
		val = getopt_long(argc, argv, tables.shorts, tables.longs, NULL);
		if (val == -1)
			break;
		if (val == 1 && u->operand && u->argument && operands++ == 1) {
			optind--; /* the command begins here, without "--" */
			break;
		}
		if (val == 1) {
			r = take_operand(u, first, target, optarg, e);
			if (r < 0)
				return r;
			operands -= r > 0;
			if (!u->operand_ends)
				continue;
			optind += optind < argc && !strcmp(argv[optind], "--");
			break;
		}
		if (val == '?' || val == ':')
			return refuse(u, val, argv[at], e);
		o = find_option(u, val);
		if (val >= LONG_BASE && strcspn(argv[at] + 2, "=") != strlen(o->long_name))
			return unknown_option(u, argv[at], e);
		if (!o->set && !o->key && !o->flag)
			return 1;
		if ((o->first && is_in(u->options, o)) == first && apply(u, o, target, optarg, e) < 0)
			return e->code;
	}
	for (; !first && optind < argc; optind++) {
		if (!u->argument)
			return err_set(e, -EINVAL, "unexpected argument '%.*s'; try 'mayfly %s --help'", VALUE_SHOWN,
				       argv[optind], u->command);
		if (u->argument(target, argv[optind], e) < 0)
			return err_wrap(e, "command");
	}
	return 0;
}

/* Sets the options that are early. What is wrong with them, or with others, is found by the walks. */
static void set_early(const struct cli_usage *u, void *target, int argc, char **argv)
{
	struct getopt_tables tables;
	struct err e;
	int val;

	fill_tables(u, &tables);
	optind = 0;
	while ((val = getopt_long(argc, argv, tables.shorts, tables.longs, NULL)) != -1) {
		const struct cli_option *o;

		if (val == 1 && u->operand_ends)
			return;
		o = val > 1 && val != '?' && val != ':' ? find_option(u, val) : NULL;

		if (o && o->early && is_in(u->options, o))
			(void)apply(u, o, target, optarg, &e);
	}
}

int cli_parse(const struct cli_usage *usage, void *target, int argc, char **argv, struct err *e)
{
	int r;

	set_early(usage, target, argc, argv);
	r = walk(usage, true, target, argc, argv, e);

	if (r == 0)
		return walk(usage, false, target, argc, argv, e);
	if (r < 0)
		return r;
	cli_print_help(usage, stdout);
	return cli_check_stdout(e) < 0 ? e->code : 1;
}

int cli_parse_operand(const struct cli_usage *usage, int argc, char **argv, const char **ret, struct err *e)
{
	if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		cli_print_help(usage, stdout);
		return cli_check_stdout(e) < 0 ? e->code : 1;
	}
	if (argc > 1 && argv[1][0] == '-')
		return argv[1][1] == '-' ? unknown_option(usage, argv[1], e) :
					   err_set(e, -EINVAL, "unknown option '%.*s'; try 'mayfly %s --help'",
						   VALUE_SHOWN, argv[1], usage->command);
	if (argc > 2)
		return err_set(e, -EINVAL, "unexpected argument '%.*s'; try 'mayfly %s --help'", VALUE_SHOWN, argv[2],
			       usage->command);
	*ret = argc == 2 ? argv[1] : NULL;
	return 0;
}

/* "  -k, --kernel FILE"; returns its length as snprintf does. */
static int option_column(const struct cli_option *o, char *text, size_t size)
{
	char short_name[] = { '-', o->short_name, ',', '\0' };

	return snprintf(text, size, "  %3s --%s%s%s%s", o->short_name ? short_name : "", o->long_name,
			!o->value_name ? "" :
			o->fixed       ? "[=" :
					 " ",
			o->value_name ? o->value_name : "", o->value_name && o->fixed ? "]" : "");
}

void cli_print_help(const struct cli_usage *usage, FILE *out)
{
	char column[64];
	int width = 0;

	for (const struct cli_option *o = usage->options; o->help; o++) {
		if (o->long_name)
			width = MF_MAX(width, option_column(o, column, sizeof(column)));
	}
	fprintf(out, "Usage: mayfly %s %s\n\n%s", usage->command, usage->synopsis, usage->about);
	for (const struct cli_option *o = usage->options; o->help; o++) {
		const char *line = o->help;

		if (!o->long_name) {
			fprintf(out, "\n%s:\n", o->help);
			continue;
		}
		option_column(o, column, sizeof(column));
		for (;;) {
			int len = (int)strcspn(line, "\n");

			fprintf(out, "%-*s  %.*s\n", width, column, len, line);
			if (!line[len])
				break;
			line += len + 1;
			column[0] = '\0';
		}
	}
}

static int print_commands(const struct cli_command *commands)
{
	struct err e;

	printf("Usage: mayfly COMMAND [options]\n\nA microVM monitor: boots a Linux guest over /dev/kvm in "
	       "milliseconds.\n\nCommands:\n");
	for (const struct cli_command *c = commands; c->name; c++)
		printf("  %-10s  %s\n", c->name, c->summary);
	printf("\nOptions:\n  -h, --help  this text, or with a command, its options\n  --version   the version\n");
	return cli_check_stdout(&e) < 0 ? report_err(&e) : STATUS_OK;
}

static int print_version(void)
{
	struct err e;

	printf("mayfly %s\n", MF_VERSION);
	return cli_check_stdout(&e) < 0 ? report_err(&e) : STATUS_OK;
}

/* What docker and others call it. */
static const struct cli_foreign foreign_commands[] = {
	{ "ls", "'mayfly ps' lists VMs" },
	{ "list", "'mayfly ps' lists VMs" },
	{ "start", "'mayfly run' boots a VM" },
	{ "create", "'mayfly run' boots a VM" },
	{ "attach", "'mayfly exec NAME -- sh' runs a shell in a VM" },
	{ "ssh", "'mayfly exec NAME -- sh' runs a shell in a VM" },
	{ "shell", "'mayfly exec NAME -- sh' runs a shell in a VM" },
	{ "console", "'mayfly exec NAME -- sh' runs a shell in a VM" },
	{ "pull", "'mayfly images pull IMAGE' fetches an image" },
	{ "rmi", "'mayfly images rm IMAGE' removes an image" },
	{ "build", "a root is a directory, image or tar archive: 'mayfly run -r ROOT'" },
	{ "prune", "'mayfly images prune' removes images, 'mayfly cache prune' those of directories, too" },
	{ "man", "'mayfly manual' prints the manual page" },
	{ NULL, NULL },
};

static int unknown_command(const struct cli_command *commands, const char *given)
{
	const char *hint = find_foreign(foreign_commands, given, strlen(given));
	struct suggest n = { .word = given, .len = strlen(given) };
	const char *what = given[0] == '-' ? "option" : "command";
	struct err e;

	for (const struct cli_command *c = commands; c->name; c++)
		suggest_try(&n, c->name);
	suggest_try(&n, "--help");
	suggest_try(&n, "--version");
	if (hint)
		err_set(&e, -EINVAL, "unknown command '%s'; %s", given, hint);
	else if (n.best)
		err_set(&e, -EINVAL, "unknown %s '%.*s'; did you mean '%s'? try 'mayfly --help'", what, VALUE_SHOWN,
			given, n.best);
	else
		err_set(&e, -EINVAL, "unknown %s '%.*s'; try 'mayfly --help'", what, VALUE_SHOWN, given);
	return report_err(&e);
}

int cli_main(int argc, char **argv, const struct cli_command *commands)
{
	static char help_option[] = "--help";
	char *help[] = { argv[0], NULL, help_option, NULL };
	struct err e;

	if (argc < 2) {
		err_set(&e, -EINVAL, "no command given; try 'mayfly run -r DIR -- COMMAND', or 'mayfly --help'");
		return report_err(&e);
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
		return print_commands(commands);
	if (!strcmp(argv[1], "--version") || (!strcmp(argv[1], "version") && argc == 2))
		return print_version();
	if (!strcmp(argv[1], "help") && argc == 2)
		return print_commands(commands);
	if (!strcmp(argv[1], "help") && argc == 3) {
		help[1] = argv[2];
		argv = help;
	}
	for (const struct cli_command *c = commands; c->name; c++) {
		if (!strcmp(argv[1], c->name))
			return c->run(argc - 1, argv + 1);
	}
	return unknown_command(commands, argv[1]);
}
