/*
 * The command line: commands, and the options of a command. Both are tables, from which come the parser, the help and
 * the suggestions in messages.
 */
#ifndef MF_VMM_CLI_H
#define MF_VMM_CLI_H

#include <stdbool.h>
#include <stdio.h>

#include "vmm/config.h"

struct err;

#define CLI_OPTIONS_MAX 64 /* of one command */

struct cli_command {
	const char *name; /* NULL ends the table */
	const char *summary;
	int (*run)(int argc, char **argv); /* argv[0] is the name; returns mayfly's exit status */
	const struct cli_usage *usage;	   /* for the manual and completion */
};

/*
 * One option, a line of the help. A line with help alone is the heading of those that follow; one without help ends the
 * table. help may hold line breaks.
 */
struct cli_option {
	char short_name;       /* or 0 */
	const char *long_name; /* without the dashes; NULL: a heading */
	/* NULL: it takes no value, and set gets fixed; else, with fixed, it may: --NAME[=VALUE]. */
	const char *value_name;
	const char *help;
	config_setter *set; /* NULL: it prints the help */
	const char *fixed;
	bool first; /* set before all others, wherever it stands: a file, which they override */
	/* For completion: the words that the value is, or begins with ("tap="). Without it, files if it is a FILE. */
	const char *words;
	bool repeatable; /* for cli_parse_strict */
};

#define CLI_FILES ":files" /* in place of words */

/* How a command runs in a guest: the same for `run` and `exec`. */
/* clang-format off */
#define CLI_COMMAND_OPTIONS                                                                                            \
	{ 't', "tty", NULL, "give it a terminal; default: if stdin and stdout are", .set = config_set_tty,             \
	  .fixed = "true" },                                                                                           \
	{ 0, "no-tty", NULL, "give it none", .set = config_set_tty, .fixed = "false" },                                \
	{ 'e', "env", "VAR", "NAME=VALUE for it, or NAME: as it is here; repeatable", .set = config_add_env },         \
	{ 'w', "workdir", "DIR", "run it in DIR", .set = config_set_workdir },                                         \
	{ 'u', "user", "USER", "run it as USER[:GROUP], names or numbers; default: root", .set = config_set_user }
/* clang-format on */

/* What the help of a command says, and what its parser knows. */
struct cli_usage {
	const char *command;
	const char *synopsis; /* what comes after the name */
	const char *about;    /* whole lines */
	const struct cli_option *options;
	config_setter *argument; /* of what stands behind "--", one by one; or NULL: nothing may */
	config_setter *operand;	 /* of what else is no option, one by one; or NULL: nothing may be */
	const char *operands;	 /* for completion: the words that may stand by themselves, or NULL */
};

/* The commands of mayfly, in main.c. */
extern const struct cli_command cli_commands[];

/* Runs the command that argv names. Returns mayfly's exit status. */
int cli_main(int argc, char **argv, const struct cli_command *commands);

/*
 * Parses a command's options into c. Returns 0, 1 if the help was asked for and is printed, or a negative errno with e
 * set. Not reentrant (getopt).
 */
int cli_parse(const struct cli_usage *usage, struct config *c, int argc, char **argv, struct err *e);

/*
 * Parses a command's options as Firecracker's programs do: only "--name" or "--name" "value", none twice that is not
 * repeatable. Returns as cli_parse, with the index of what is behind "--", or argc, in *ret_rest.
 */
int cli_parse_strict(const struct cli_usage *usage, struct config *c, int argc, char **argv, int *ret_rest,
		     struct err *e);

/*
 * Parses what has no option but the help, and one operand. Returns as cli_parse, with the operand in *ret, NULL if
 * there is none.
 */
int cli_parse_operand(const struct cli_usage *usage, int argc, char **argv, const char **ret, struct err *e);

/* The help of a command. The parser prints it. */
void cli_print_help(const struct cli_usage *usage, FILE *out);

/* cli_parse for `mayfly run`, then config_check. argv[0] is "run". */
int cli_parse_run(struct config *c, int argc, char **argv, struct err *e);
extern const struct cli_usage cli_run_usage;

/* Prints "mayfly: " and e as one line on stderr. Returns STATUS_FAILED. */
int cli_fail(const struct err *e);

/* Flushes stdout. Returns 0, or -errno with e set if not all of it could be written. */
int cli_check_stdout(struct err *e);

#endif
