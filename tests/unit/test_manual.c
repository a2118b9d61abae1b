/* The manual pages have all that is in the tables, and the statuses. That they are good roff is for tests/boot/cli.bats. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/exit_status.h"
#include "vmm/base/util.h"
#include "vmm/cli/cli.h"
#include "vmm/cli/embedded.h"
#include "vmm/cli/manual.h"
#include "vmm/config/config_field.h"

static int fake_command(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

static const struct cli_option fake_options[] = {
	{ 'x', "ex-y", "A-B", ".starts with\na dot\\", .set = NULL },
	{ 0 },
};

static const struct cli_usage fake_usage = {
	.command = "fake",
	.synopsis = "[-x]",
	.about = "'Tis a\ntest.\n\n",
	.options = fake_options,
};

const struct cli_command cli_commands[] = {
	{ "run", "boot a VM", fake_command, &cli_run_usage },
	{ "fake", "a fake", fake_command, &fake_usage },
	{ "bare", "one with-out a usage", fake_command, NULL },
	{ 0 },
};

/* The page, with the hyphens of roff as those of the tables. */
static char *print(const char *page)
{
	char *text = NULL, *to;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	manual_print(page, cli_commands, out);
	fclose(out);
	to = text;
	for (const char *from = text; *from; from++) {
		if (from[0] != '\\' || from[1] != '-')
			*to++ = *from;
	}
	*to = '\0';
	return text;
}

#define assert_has(text, ...)                                                                                          \
	do {                                                                                                           \
		char needle_[512];                                                                                     \
		snprintf(needle_, sizeof(needle_), __VA_ARGS__);                                                       \
		if (!strstr(text, needle_))                                                                            \
			fail_msg("there is no '%s' in: %s", needle_, text);                                            \
	} while (0)

static unsigned count(const char *text, const char *part)
{
	unsigned num = 0;

	for (const char *p = text; (p = strstr(p, part)); p++)
		num++;
	return num;
}

static void test_templates(void **state)
{
	char *text = print("a\n@commands@\n.v @version@ \"x\"\nlast");
	char *again;

	(void)state;
	assert_has(text,
		   "a\n.SS mayfly run [options] [IMAGE | ROOT] [[--] COMMAND [ARG...]]\nBoots a VM. With COMMAND");
	assert_has(text, ".SS mayfly fake [-x]\n\\&'Tis a test.\n.TP\n\\fB-x\\fR, \\fB--ex-y\\fR \\fIA-B\\fR\n");
	assert_has(text, "\n\\&.starts with a dot\\e\n.SS mayfly bare\none with-out a usage\n.v " MF_VERSION
			 " \"x\"\nlast\n");
	free(text);
	text = print("@keys@\n@keys vsock@\n");
	assert_has(text, ".TP\n\\fBkernel\\fR (a string)\nmicrovm, minimal, or");
	assert_has(text, ".TP\n\\fBcid\\fR (an integer)\nthe guest's address");
	again = print("@keys nothing@\n");
	assert_string_equal(again, "");
	free(again);
	free(text);
}

static void test_page_1(void **state)
{
	static const int statuses[] = {
		STATUS_OK,	 STATUS_UNUSABLE,   STATUS_GUEST_PANIC, STATUS_GUEST_CRASH,
		STATUS_KVM_EXIT, STATUS_GUEST_HALT, STATUS_TIMEOUT,	STATUS_FAILED,
	};
	char *text = print(embedded_manual_1), *drives = strstr(text, "\n.SH DRIVES\n"),
	     *nets = strstr(text, "\n.SH NETWORK\n");

	(void)state;
	assert_int_equal(strncmp(text, ".TH MAYFLY 1 ", 13), 0);
	assert_non_null(drives);
	assert_non_null(nets);
	for (const struct cli_option *o = cli_run_usage.options; o->help; o++) {
		if (o->long_name && o->short_name)
			assert_has(text, "\n.TP\n\\fB-%c\\fR, \\fB--%s\\fR", o->short_name, o->long_name);
		else if (o->long_name)
			assert_has(text, "\n.TP\n\\fB--%s\\fR", o->long_name);
	}
	for (size_t i = 0; i < MF_ARRAY_SIZE(statuses); i++)
		assert_has(text, "\n.TP\n.B %d\n", statuses[i]);
	for (const struct config_field *f = config_net_fields; f->key; f++)
		assert_has(nets, "\n.B%s %s%s", f->type->value == CONFIG_FLAG ? "" : "I", f->spec,
			   f->type->value == CONFIG_FLAG ? "\n" : "= ");
	for (const struct config_field *f = config_jail_fields; f->key; f++)
		assert_has(strstr(text, ".SH JAIL\n"), f->type->value == CONFIG_FLAG ? ".B %s\n" : ".BI %s=", f->spec);
	*nets = '\0';
	for (const struct config_field *f = config_drive_fields; f->key; f++) {
		if (f->spec)
			assert_has(drives, " :%s%s", f->spec, f->type->value == CONFIG_VALUE ? "=" : "");
		if (f->spec_off)
			assert_has(drives, " :%s", f->spec_off);
	}
	assert_int_equal(count(text, "@"), 0);
	free(text);
}

/* Looks for a key of an object in the page, from at on; returns where it is. */
static char *find_key(char *at, const char *object, const struct config_field *f)
{
	char heading[64];

	snprintf(heading, sizeof(heading), "\n.TP\n\\fB%s\\fR (%s)\n", f->key, config_json_types(f));
	at = strstr(at, heading);
	if (!at)
		fail_msg("%s.%s is not there, or not in its order", object, f->key);
	at += strlen(heading) - 1;
	if (at[1] == '\n' || at[1] == '.')
		fail_msg("%s.%s has no help", object, f->key);
	return at;
}

static void test_page_5(void **state)
{
	char *text = print(embedded_manual_5), *at = text;
	unsigned num = 0;

	(void)state;
	assert_int_equal(strncmp(text, ".TH MAYFLY 5 ", 13), 0);
	for (const struct config_object *o = config_objects; o->name; o++) {
		for (const struct config_field *f = o->fields; f->key; f++) {
			if (f->flags & CONFIG_NOT_JSON)
				continue;
			at = find_key(at, o->name, f);
			num++;
		}
	}
	assert_true(num > 30);
	assert_int_equal(count(text, ".TP\n"), num);
	assert_int_equal(count(text, "@"), 0);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_templates),
		cmocka_unit_test(test_page_1),
		cmocka_unit_test(test_page_5),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
