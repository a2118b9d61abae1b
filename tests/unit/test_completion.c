/* What completion answers, and that the words it offers are those that the options take. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/cli/completion.h"
#include "vmm/config/config.h"

#define WORDS_MAX 16

static int fake_command(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

const struct cli_command cli_commands[] = {
	{ "run", "boot a VM", fake_command, &cli_run_usage },
	{ "runs", "no usage", fake_command, NULL },
	{ "completion", "a script", fake_command, &completion_usage },
	{ 0 },
};

static char *text;

static const char *answer_words(const char **words)
{
	char *argv[WORDS_MAX];
	size_t len = 0;
	FILE *out;
	int num = 0;

	free(text);
	out = open_memstream(&text, &len);
	for (; words[num]; num++)
		argv[num] = strdup(words[num]);
	completion_answer(cli_commands, argv, num, out);
	while (num)
		free(argv[--num]);
	fclose(out);
	return text;
}

#define answer(...) answer_words((const char *[]){ __VA_ARGS__, NULL })
#define FILES ":files\n"

static void test_commands(void **state)
{
	(void)state;
	assert_string_equal(answer("r"), "run\tboot a VM\nruns\tno usage\n");
	assert_string_equal(answer(""),
			    "run\tboot a VM\nruns\tno usage\ncompletion\ta script\n--help\t\n--version\t\n");
	assert_string_equal(answer("--v"), "--version\t\n");
	assert_string_equal(answer("nothing"), "");
	assert_string_equal(answer("nothing", "-"), "");
	assert_string_equal(answer("runs", ""), "");
	assert_string_equal(answer_words((const char *[]){ NULL }), "");
}

static void test_options(void **state)
{
	char line[64];

	(void)state;
	/* All of them, for an empty word as for a dash. */
	answer("run", "-k", "x", "");
	for (const struct cli_option *o = cli_run_usage.options; o->help; o++) {
		snprintf(line, sizeof(line), "--%s\t%.*s\n", o->long_name ? o->long_name : "",
			 (int)strcspn(o->help, "\n;"), o->help);
		if (o->long_name && !strstr(text, line))
			fail_msg("there is no '%s' in '%s'", line, text);
	}
	assert_string_equal(answer("run", "--mem"), "--mem\tmemory: 128M, 2G, ...\n");
	assert_string_equal(answer("run", "--log"),
			    "--log-max\thow much of that is kept\n--log-level\terror, warn, info or debug\n"
			    "--log\tappend the log to FILE\n");
	assert_string_equal(answer("run", "x"), "");
	assert_string_equal(answer("run", "--dry-run", "--qu"), "--quiet\tthe same as --log-level error\n");
	assert_string_equal(answer("completion", "f"),
			    "fish\tPrints the script with which that shell completes mayfly's command lines, such as\n");
	assert_string_equal(answer("completion", "-"), "--help\tthis text\n");
}

static void test_values(void **state)
{
	static const char linux64[] = "linux64\tauto, linux64 or pvh\n";

	(void)state;
	assert_string_equal(answer("run", "--entry", "l"), linux64);
	assert_string_equal(answer("run", "--entry", "=", "l"), linux64);
	assert_string_equal(answer("run", "-c", "--x", "--entry", "l"), linux64);
	assert_string_equal(answer("run", "--entry=l"), "--entry=linux64\tauto, linux64 or pvh\n");
	assert_true(strlen(answer("run", "--entry", "=")) > strlen(linux64));
	assert_true(strlen(answer("run", "--entry=")) > strlen(linux64));
	assert_string_equal(answer("run", "--entry", "x"), "");
	assert_string_equal(answer("run", "-n", "t"), "tap=\tnone, tap=NAME, fd=N or user (passt), then\n");
	assert_string_equal(answer("run", "-k", ""), FILES);
	assert_string_equal(answer("run", "-k", "vm"), FILES);
	assert_string_equal(answer("run", "--kernel=vm"), FILES);
	assert_string_equal(answer("run", "--kernel", "=", "vm"), FILES);
	assert_string_equal(answer("run", "-d", "-k"), FILES);
	assert_string_equal(answer("run", "--config", "x", "-i", ""), FILES);
	assert_string_equal(answer("run", "--", ""), FILES);
	assert_string_equal(answer("run", "-c", ""), "");
	assert_string_equal(answer("run", "--mem=1"), "");
	assert_string_equal(answer("run", "--quiet="), "");
	assert_string_equal(answer("run", "--entry", "pvh", "--no-t"), "--no-tty\tgive it none\n");
	assert_string_equal(answer("run", "--entry", "=", "pvh", "--no-t"), "--no-tty\tgive it none\n");
}

static int set_option(struct config *c, const struct cli_option *o, const char *value, struct err *e)
{
	return o->key ? config_set(c, o->key, value, e) : o->set(c, value, e);
}

/* Options whose value is a file have files, and the words of the others are those that their setter takes. */
static void test_words_are_taken(void **state)
{
	(void)state;
	for (const struct cli_option *o = cli_run_usage.options; o->help; o++) {
		char *words = strdup(o->words ? o->words : ""), *rest = words, *word;
		static struct config c;
		char option[64];
		struct err e;

		config_init(&c);
		snprintf(option, sizeof(option), "--%s", o->long_name ? o->long_name : "");
		while (*words && *words != ':' && (word = strsep(&rest, " "))) {
			if (word[strlen(word) - 1] != '=' && set_option(&c, o, word, &e) < 0)
				fail_msg("--%s %s: %s", o->long_name, word, e.text);
		}
		/* "must be error, warn, info or debug": words, and nothing but words */
		if (o->value_name && set_option(&c, o, "?", &e) < 0 && !strncmp(e.text, "must be ", 8) &&
		    strstr(e.text, " or ") && !strstr(e.text, "such as") &&
		    strspn(e.text, "abcdefghijklmnopqrstuvwxyz0123456789, ") == strlen(e.text)) {
			for (word = strtok(e.text + 8, ", "); word; word = strtok(NULL, ", ")) {
				if (strcmp(word, "or") != 0 && !strstr(answer("run", option, ""), word))
					fail_msg("--%s does not offer '%s'", o->long_name, word);
			}
		}
		config_done(&c);
		free(words);
	}
}

static int teardown(void **state)
{
	(void)state;
	free(text);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_words_are_taken),
	};

	return cmocka_run_group_tests(tests, NULL, teardown);
}
