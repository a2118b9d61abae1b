/*
 * The command line: commands, and the options of a command. Both are tables. The parser,
 * the help and the suggestions in messages come from them.
 */
#ifndef MF_CLI_CLI_H
#define MF_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct config;
struct err;

#define CLI_OPTIONS_MAX 96 /* of one command, with those that it passes on */

struct cli_command {
	const char *name; /* NULL ends the table */
	const char *summary;
	int (*run)(int argc, char **argv); /* argv[0] is the name; returns mayfly's exit status */
	const struct cli_usage *usage;	   /* for the manual and completion */
};

/*
 * Sets the value of an option, operand or argument in target, whose type the parser's
 * caller knows. Returns 0, or -errno with e set to the accepted values; the parser puts
 * the option in front.
 */
typedef int cli_setter(void *target, const char *text, struct err *e);

/*
 * One option, a line of the help. A line with help alone is the heading of those that follow; one without help ends the
 * table. help may hold line breaks.
 */
struct cli_option {
	char short_name;       /* or 0 */
	const char *long_name; /* without the dashes; NULL: a heading */
	/*
	 * NULL: the option takes no value, and set gets fixed. Otherwise, with fixed, the
	 * value is optional: --NAME[=VALUE].
	 */
	const char *value_name;
	const char *help;
	/*
	 * What it sets: a bool of target, to true; a key, by the usage's set_key; or what its
	 * own function sets. With none of them, it prints the help.
	 */
	const char *key;
	cli_setter *set;
	const char *fixed;
	/*
	 * For completion: the beginning of a value ("tap="). Without it: files if it is a
	 * FILE, else the key's words.
	 */
	const char *words;
	unsigned flag;	 /* the bool: CLI_FLAG(its type, member); 0: none */
	bool first;	 /* processed before all others, wherever it is: a file, which they override */
	bool early;	 /* also set before anything is refused, so that the caller knows it when the rest is wrong */
	bool repeatable; /* for cli_parse_strict */
};

#define CLI_FLAG(type, member) (offsetof(type, member) + 1)

#define CLI_FILES ":files" /* in place of words: files, */
#define CLI_SPEC ":spec"   /* and what the key's SPEC may begin with */

/* How a command runs in a guest: the same for `run` and `exec`. */
/* clang-format off */
#define CLI_COMMAND_OPTIONS                                                                                            \
	{ 't', "tty", NULL, "give it a terminal; default: if stdin and stdout are", .key = "tty",             \
	  .fixed = "true" },                                                                                           \
	{ 0, "no-tty", NULL, "give it none", .key = "tty", .fixed = "false" },                                \
	{ 'e', "env", "VAR", "NAME=VALUE for it, or NAME: as it is here; repeatable", .key = "env" },         \
	{ 'w', "workdir", "DIR", "run it in DIR", .key = "workdir" },                                         \
	{ 'u', "user", "USER", "run it as USER[:GROUP], names or numbers;\ndefault: root", .key = "user" }
/* clang-format on */

/* What is said of a VM when it has ended, and of mayfly: the same for `run` and `restore`. */
/* clang-format off */
#define CLI_REPORT_OPTIONS                                                                                             \
	{ 0, "time", NULL, "print the time line at exit", .key = "time", .fixed = "true" },                  \
	{ 0, "timeline", "FILE", "write the times as JSON, for perf/timeline", .key = "timeline",             \
	  .words = CLI_FILES },                                                                                        \
	{ 0, "result", "FILE", "write why and how it ended to FILE, as JSON", .key = "result", .early = true, \
	  .words = CLI_FILES },                                                                                        \
	{ 'h', "help", NULL, "this text", .set = NULL }

#define CLI_MESSAGE_OPTIONS                                                                                            \
	{ .help = "Messages" },                                                                               \
	{ 0, "log-level", "LEVEL", "error, warn, info or debug; default: warn", .key = "log_level" },         \
	{ 0, "log", "FILE", "append the log to FILE; default: stderr", .key = "log_file" },                   \
	{ 0, "quiet", NULL, "the same as --log-level error", .key = "log_level", .fixed = "error" }
/* clang-format on */

/* clang-format off */
#define CLI_SAFETY_OPTIONS                                                                                             \
	{ .help = "Safety" },                                                                                 \
	{ 0, "seccomp", "POLICY", "kill, or for debugging: log (in the kernel's log),\noff; default: kill",   \
	  .key = "seccomp" },                                                                                          \
	{ 0, "no-seccomp", NULL, "the same as --seccomp off", .key = "seccomp", .fixed = "off" }
/* clang-format on */

/* An option of other programs that fingers type, and what to type here. One without name ends the table. */
struct cli_foreign {
	const char *name; /* without the dashes */
	const char *hint;
};

/* The help of a command, and what its parser accepts. */
struct cli_usage {
	const char *command;
	const char *synopsis; /* the text after the name */
	const char *about;    /* whole lines */
	const struct cli_option *options;
	cli_setter *argument; /* called for each argument after "--"; NULL: none may follow */
	/*
	 * Called for each other operand; NULL: none is accepted. With argument, there is one, and the next begins the
	 * arguments; but if it returns 1, another operand may follow.
	 */
	cli_setter *operand;
	bool operand_ends; /* after the operand, all words are arguments, also those that look like options */
	int (*set_key)(void *target, const char *key, const char *text, struct err *e); /* of options with a key */
	const struct cli_foreign *foreign;						/* or NULL */
	/*
	 * The command whose options are accepted, too, and passed on; or NULL. An option of the same name hides one of
	 * those. pass gets each with its value as it was given, or NULL, and returns as a setter.
	 */
	const struct cli_usage *passes;
	int (*pass)(void *target, const struct cli_option *o, const char *value, struct err *e);
	const char *operands; /* for completion: the words that are accepted as operands, or NULL */
	/* The same for words that come from elsewhere, or NULL: calls each with every one of them. */
	void (*list_operands)(void (*each)(void *ctx, const char *word), void *ctx);
};

/* The commands of mayfly, in main.c. */
extern const struct cli_command cli_commands[];

/* Runs the command that argv names. Returns mayfly's exit status. */
int cli_main(int argc, char **argv, const struct cli_command *commands);

/*
 * Parses a command's options into target. Returns 0, 1 if the help was requested and is
 * printed, or a negative errno with e set. Not reentrant (getopt).
 */
int cli_parse(const struct cli_usage *usage, void *target, int argc, char **argv, struct err *e);

/*
 * Parses a command's options into target as Firecracker's programs do: only "--name" or "--name" "value", none twice that is not
 * repeatable; each but the help has a key. Returns as cli_parse, with the index of what is behind "--", or argc, in *ret_rest.
 */
int cli_parse_strict(const struct cli_usage *usage, void *target, int argc, char **argv, int *ret_rest, struct err *e);

/*
 * Parses a command line with no option but the help, and one operand. Returns as
 * cli_parse, with the operand in *ret, or NULL if there is none.
 */
int cli_parse_operand(const struct cli_usage *usage, int argc, char **argv, const char **ret, struct err *e);

/*
 * Walks through the options that a command accepts, with those that it passes on and without headings. o is the one before,
 * or NULL. Returns NULL at the end.
 */
const struct cli_option *cli_next_option(const struct cli_usage *u, const struct cli_option *o);

/* Prints the help of a command; the parser calls it. */
void cli_print_help(const struct cli_usage *usage, FILE *out);

/*
 * For usages whose target is a struct config: sets its keys, and the command from the
 * words after "--".
 */
int cli_set_config_key(void *target, const char *key, const char *text, struct err *e);
int cli_add_command_argument(void *target, const char *text, struct err *e);

/* cli_parse for `mayfly run`, then config_check. argv[0] is "run". */
int cli_parse_run(struct config *c, int argc, char **argv, struct err *e);
extern const struct cli_usage cli_run_usage;

/* Flushes stdout. Returns 0, or -errno with e set if not all of it could be written. */
int cli_check_stdout(struct err *e);

#endif
