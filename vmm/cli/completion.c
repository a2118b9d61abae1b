/* Completion of command lines; see completion.h. */
#include "vmm/cli/completion.h"

#include <errno.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/cli/embedded.h"
#include "vmm/config/config_field.h"

#define OFFER_MAX 128

static const struct cli_option completion_options[] = {
	{ 'h', "help", NULL, "this text", .set = NULL },
	{ 0 },
};

const struct cli_usage completion_usage = {
	.command = "completion",
	.synopsis = "bash|zsh|fish",
	.about = "Prints the script with which that shell completes mayfly's command lines, such as\n"
		 "in ~/.bashrc: source <(mayfly completion bash)\n\n",
	.options = completion_options,
	.operands = "bash zsh fish",
};

static const struct {
	const char *shell, *text;
} scripts[] = {
	{ "bash", embedded_completion_bash },
	{ "zsh", embedded_completion_zsh },
	{ "fish", embedded_completion_fish },
};

/*
 * Offers prefix and name if that continues word. Of help, the first line is shown, up to
 * a semicolon.
 */
static void offer(const char *word, const char *prefix, const char *name, int name_len, const char *help, FILE *out)
{
	char whole[OFFER_MAX];

	snprintf(whole, sizeof(whole), "%s%.*s", prefix, name_len, name); /* longer than any in the tables */
	if (!strncmp(word, whole, strlen(word)))
		fprintf(out, "%s\t%.*s\n", whole, (int)strcspn(help, ";\n"), help);
}

/* Offers the words of a list, with prefix in front of each, or says that they are files. */
static void offer_words(const char *word, const char *prefix, const char *words, const char *help, FILE *out)
{
	if (!strcmp(words, CLI_FILES)) {
		fprintf(out, "%s\n", words);
		return;
	}
	while (*words) {
		int len = (int)strcspn(words, " ");

		offer(word, prefix, words, len, help, out);
		words += len + (words[len] == ' ');
	}
}

/* Offers the words that a key's value may be. */
static void offer_key_words(const char *word, const char *prefix, const struct cli_option *o, FILE *out)
{
	const struct config_field *f = config_find_field(config_fields, o->key);

	for (unsigned i = 0; f && f->words && f->words[i]; i++)
		offer(word, prefix, f->words[i], (int)strlen(f->words[i]), o->help, out);
}

/* Offers the names that the SPEC of an option may begin with. */
static void offer_spec(const char *word, const char *prefix, const struct cli_option *o, FILE *out)
{
	const struct config_object *object = config_objects;
	char name[OFFER_MAX];

	while (object->name && strcmp(object->name, o->key) != 0)
		object++;
	for (const struct config_field *f = object->fields; f && f->key; f++) {
		if (!f->spec)
			continue;
		snprintf(name, sizeof(name), "%s%s", f->spec, f->type->value == CONFIG_FLAG ? "" : "=");
		offer(word, prefix, name, (int)strlen(name), o->help, out);
	}
}

/* Offers values of an option. word includes prefix. */
static void offer_value(const struct cli_option *o, const char *word, const char *prefix, FILE *out)
{
	if (o->words && !strcmp(o->words, CLI_SPEC))
		offer_spec(word, prefix, o, out);
	else if (o->words)
		offer_words(word, prefix, o->words, o->help, out);
	else if (!strcmp(o->value_name, "FILE"))
		offer_words(word, prefix, CLI_FILES, o->help, out);
	else if (o->key)
		offer_key_words(word, prefix, o, out);
}

struct word_offer {
	const char *word;
	FILE *out;
};

static void offer_listed(void *ctx, const char *name)
{
	const struct word_offer *o = ctx;

	offer(o->word, "", name, (int)strlen(name), "", o->out);
}

static void offer_options(const struct cli_usage *u, const char *word, FILE *out)
{
	for (const struct cli_option *o = NULL; (o = cli_next_option(u, o));)
		offer(word, "--", o->long_name, (int)strlen(o->long_name), o->help, out);
}

/* The option that a word names: "-k", "--kernel" or "--kernel=...". */
static const struct cli_option *find_option(const struct cli_usage *u, const char *word)
{
	for (const struct cli_option *o = NULL; word[0] == '-' && (o = cli_next_option(u, o));) {
		if (word[1] == '-' && strcspn(word + 2, "=") == strlen(o->long_name) &&
		    !strncmp(word + 2, o->long_name, strlen(o->long_name)))
			return o;
		if (o->short_name && word[1] == o->short_name && !word[2])
			return o;
	}
	return NULL;
}

/* The word to complete is no value. */
static void offer_word(const struct cli_usage *u, const char *word, FILE *out)
{
	const struct cli_option *o = find_option(u, word);
	const char *equals = strchr(word, '=');
	char prefix[OFFER_MAX / 2];

	if (o && equals) {
		if (o->value_name && equals - word + 1 < (int)sizeof(prefix)) {
			snprintf(prefix, sizeof(prefix), "%.*s", (int)(equals - word) + 1, word);
			offer_value(o, word, prefix, out);
		}
		return;
	}
	if (u->operands && word[0] != '-')
		offer_words(word, "", u->operands, u->about, out);
	else if (u->list_operands && word[0] != '-')
		u->list_operands(offer_listed, &(struct word_offer){ word, out });
	else if (word[0] == '-' || !*word)
		offer_options(u, word, out);
}

static void offer_in_command(const struct cli_usage *u, char *const word[], int num, FILE *out)
{
	const int last = num - 1;
	int i = 0;

	while (i < last) {
		const struct cli_option *o = find_option(u, word[i]);

		if (!strcmp(word[i], "--")) {
			fprintf(out, "%s\n", CLI_FILES);
			return;
		}
		i++;
		if (!o || !o->value_name || strchr(word[i - 1], '='))
			continue;
		if (o->fixed && strcmp(word[i], "=") != 0) /* its value is behind a '=', or there is none */
			continue;
		if (!strcmp(word[i], "=") && i < last) /* bash's */
			i++;
		if (i == last) {
			offer_value(o, strcmp(word[i], "=") ? word[i] : "", "", out);
			return;
		}
		i++;
	}
	offer_word(u, word[last], out);
}

void completion_answer(const struct cli_command *commands, char *const word[], int num, FILE *out)
{
	if (num < 1)
		return;
	if (num == 1) {
		for (const struct cli_command *c = commands; c->name; c++)
			offer(word[0], "", c->name, (int)strlen(c->name), c->summary, out);
		offer_words(word[0], "", "--help --version", "", out);
		return;
	}
	for (const struct cli_command *c = commands; c->name; c++) {
		if (!strcmp(c->name, word[0]) && c->usage)
			offer_in_command(c->usage, word + 1, num - 1, out);
	}
}

static int print_script(const char *shell, struct err *e)
{
	if (!shell)
		return err_set(e, -EINVAL, "no shell given; try 'mayfly completion --help'");
	for (size_t i = 0; i < MF_ARRAY_SIZE(scripts); i++) {
		if (!strcmp(shell, scripts[i].shell)) {
			fputs(scripts[i].text, stdout);
			return 0;
		}
	}
	return err_set(e, -EINVAL, "shell '%.60s': must be bash, zsh or fish", shell);
}

int completion_command(int argc, char **argv)
{
	const char *shell;
	struct err e;
	int r = 0;

	if (argc > 1 && !strcmp(argv[1], "--")) {
		completion_answer(cli_commands, argv + 2, argc - 2, stdout);
	} else {
		r = cli_parse_operand(&completion_usage, argc, argv, &shell, &e);
		if (r == 0)
			r = print_script(shell, &e);
	}
	if (r < 0 || cli_check_stdout(&e) < 0)
		return report_err(&e);
	return STATUS_OK;
}
