/* The jailer's command line: the strict parser, and each option's values. That the jail is as asked for, bats tests. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/cmd/jailer.h"

#define ARGS_MAX 160

static struct jailer_options options;
static struct err err;
static char *copies[ARGS_MAX]; /* so that the sanitizers know where each ends */
static int num_copies;

static int tear_down(void **state)
{
	(void)state;
	fcjailer_done(&options.params);
	while (num_copies)
		free(copies[--num_copies]);
	return 0;
}

static int set_up(void **state)
{
	(void)state;
	options = (struct jailer_options){ .version = false };
	fcjailer_init(&options.params);
	err = (struct err){ 0 };
	return 0;
}

static int parse_args(const char *const *args)
{
	tear_down(NULL);
	set_up(NULL);
	for (; args[num_copies]; num_copies++)
		copies[num_copies] = strdup(args[num_copies]);
	copies[num_copies] = NULL;
	return jailer_parse(&options, num_copies, copies, &err);
}

#define REQUIRED "--id", "vm-1", "--exec-file", "/bin/x", "--uid", "100", "--gid", "200"
#define parse(...) parse_args((const char *[]){ "jailer", __VA_ARGS__, NULL })
#define takes(...)                                                                                                     \
	do {                                                                                                           \
		if (parse(__VA_ARGS__) != 0)                                                                           \
			fail_msg("%s", err.text);                                                                      \
	} while (0)
#define refuses(message, ...)                                                                                          \
	do {                                                                                                           \
		assert_int_equal(parse(__VA_ARGS__), -EINVAL);                                                         \
		if (!strstr(err.text, message))                                                                        \
			fail_msg("'%s' does not say '%s'", err.text, message);                                         \
	} while (0)

static void test_defaults(void **state)
{
	const struct fcjailer_params *p = &options.params;
	struct timespec now;

	(void)state;
	takes(REQUIRED);
	assert_string_equal(p->id, "vm-1");
	assert_string_equal(p->exec_file, "/bin/x");
	assert_int_equal(p->uid, 100);
	assert_int_equal(p->gid, 200);
	assert_string_equal(p->chroot_base, "/srv/jailer");
	assert_null(p->netns);
	assert_null(p->parent);
	assert_false(p->daemonize);
	assert_false(p->new_pid_ns);
	assert_int_equal(p->num_cgroups, 0);
	assert_int_equal(p->no_file, 2048);
	assert_true(p->fsize == UINT64_MAX);
	assert_int_equal(p->num_extra, 0);
	clock_gettime(CLOCK_MONOTONIC, &now);
	assert_true(p->start_us / 1000000 - (uint64_t)now.tv_sec + 5 <= 5);
	assert_true(p->start_cpu_us > 0);
}

static void test_all_options(void **state)
{
	const struct fcjailer_params *p = &options.params;

	(void)state;
	takes("--daemonize", REQUIRED, "--chroot-base-dir", "/b", "--netns", "/n", "--new-pid-ns", "--cgroup",
	      "cpu.max=1 2", "--cgroup-version", "2", "--cgroup", "io.max=8:0 rbps=1", "--parent-cgroup", "a/b",
	      "--resource-limit", "fsize=0", "--resource-limit", "no-file=7", "--resource-limit", "no-file=8", "--",
	      "--id", "--", "x");
	assert_string_equal(p->chroot_base, "/b");
	assert_string_equal(p->netns, "/n");
	assert_string_equal(p->parent, "a/b");
	assert_true(p->daemonize && p->new_pid_ns);
	assert_int_equal(p->num_cgroups, 2);
	assert_string_equal(p->cgroup[0].file, "cpu.max");
	assert_string_equal(p->cgroup[0].value, "1 2");
	assert_string_equal(p->cgroup[1].value, "8:0 rbps=1");
	assert_int_equal(p->no_file, 8);
	assert_int_equal(p->fsize, 0);
	assert_int_equal(p->num_extra, 3);
	assert_string_equal(p->extra[0], "--id");
	assert_string_equal(p->extra[2], "x");
	takes("--uid", "0", "--gid", "4294967294", "--id", "A0-", "--exec-file", "-", "--");
	assert_int_equal(p->gid, 4294967294);
	assert_int_equal(p->num_extra, 0);
}

static void test_strictness(void **state)
{
	(void)state;
	refuses("'--id' is required", "--uid", "1");
	refuses("'--exec-file' is required", "--id", "a");
	refuses("'--uid' is required", "--id", "a", "--exec-file", "x", "--gid", "0");
	refuses("'--gid' is required", "--id", "a", "--exec-file", "x", "--uid", "0");
	refuses("'--gid' is required", "--id", "a", "--exec-file", "x", "--uid", "0", "--", "--gid", "1");
	refuses("'--uid' was given twice", REQUIRED, "--uid", "1");
	refuses("'--new-pid-ns' was given twice", "--new-pid-ns", "--new-pid-ns");
	refuses("'--netns' needs a value (FILE)", REQUIRED, "--netns");
	refuses("'--netns' needs a value (FILE)", REQUIRED, "--netns", "--daemonize");
	refuses("'--netns' needs a value (FILE)", REQUIRED, "--netns", "--");
	refuses("unknown option '--netns=/x' (a value is", REQUIRED, "--netns=/x");
	refuses("unknown option '--net'; did you mean '--netns'?", "--net", "x");
	refuses("unknown option '-d'", "-d");
	refuses("unknown option '-'", "-");
	refuses("unknown option '---id'", "---id", "x");
	refuses("unexpected argument 'x'", "--daemonize", "x");
	refuses("unexpected argument ''", "");
}

static void test_values(void **state)
{
	char id[FCJAILER_ID_MAX + 2];
	const char *many[2 * CGROUP_SETTINGS_MAX + 4] = { "jailer" };

	(void)state;
	memset(id, 'x', sizeof(id));
	id[FCJAILER_ID_MAX + 1] = '\0';
	refuses("1 to 64 characters, not 65", "--id", id);
	refuses("1 to 64 characters, not 0", "--id", "");
	id[FCJAILER_ID_MAX] = '\0';
	takes("--id", id, "--exec-file", "x", "--uid", "1", "--gid", "1");
	for (int c = 1; c < 256; c++) {
		char text[] = { 'a', (char)c, '\0' };
		bool fits = c == '-' || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');

		if (fits)
			takes("--id", text, "--exec-file", "x", "--uid", "1", "--gid", "1");
		else
			refuses("letters, digits and '-' only", "--id", text);
	}
	refuses("from 0 to 4294967294", "--uid", "4294967295");
	refuses("from 0 to 4294967294", "--gid", "-1");
	refuses("must be 2", "--cgroup-version", "12");
	refuses("cgroup v1 is not supported", "--cgroup-version", "1");
	refuses("must be FILE=VALUE", "--cgroup", "cpu.max");
	refuses("no value given", "--cgroup", "cpu.max=");
	refuses("must be CONTROLLER.NAME", "--cgroup", "cpu=1");
	refuses("must be relative", "--parent-cgroup", "/a");
	refuses("fsize=BYTES or no-file=NUMBER", "--resource-limit", "nofile=1");
	refuses("a number behind '='", "--resource-limit", "fsize=");
	for (unsigned i = 0; i <= CGROUP_SETTINGS_MAX; i++) {
		many[1 + 2 * i] = "--cgroup";
		many[2 + 2 * i] = "cpu.max=1";
	}
	assert_int_equal(parse_args(many), -EINVAL);
	assert_non_null(strstr(err.text, "only 64 are possible"));
}

/* Every option is in the help, and has what the parser needs. */
static void test_help_and_version(void **state)
{
	char text[16384] = "";
	FILE *out = fmemopen(text, sizeof(text), "w");

	(void)state;
	cli_print_help(&jailer_usage, out);
	fclose(out);
	for (const struct cli_option *o = jailer_usage.options; o->help; o++) {
		assert_non_null(strstr(text, o->long_name));
		assert_true(o->key || !strcmp(o->long_name, "help"));
		assert_int_equal(o->short_name, 0);
	}
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		if (strlen(line) > 80)
			fail_msg("longer than 80: %s", line);
	}
	assert_int_equal(parse("--version"), 0);
	assert_true(options.version);
	assert_int_equal(parse("--help"), 1);
}

int main(void)
{
#define ONE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		ONE(test_defaults), ONE(test_all_options),	ONE(test_strictness),
		ONE(test_values),   ONE(test_help_and_version),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
