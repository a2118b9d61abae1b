/* The command line: options of `mayfly run`, their precedence over --config, messages, help, and the commands. */
#include "tests/unit/config_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/exit_status.h"
#include "vmm/base/util.h"
#include "vmm/cli/cli.h"

#define ARGS_MAX 32

/* Parses arguments, which end with NULL, into a fresh conf. */
#define parse(...) parse_args((const char *[]){ "run", __VA_ARGS__, NULL })

static int parse_args(const char **args)
{
	char *argv[ARGS_MAX];
	int argc = 0, r;

	teardown(NULL);
	setup(NULL);
	for (; args[argc]; argc++)
		argv[argc] = strdup(args[argc]);
	argv[argc] = NULL;
	r = cli_parse_run(&conf, argc, argv, &err);
	while (argc)
		free(argv[--argc]);
	return r;
}

#define refuses(message, ...)                                                                                          \
	do {                                                                                                           \
		assert_true(parse(__VA_ARGS__) < 0);                                                                   \
		assert_string_equal(err.text, message);                                                                \
	} while (0)

static void test_all_options(void **state)
{
	(void)state;
	assert_int_equal(parse("-k", "K", "-i", "I", "-aA", "-c", "2", "-m1G", "-d", "D:ro", "--drive=E", "--entry",
			       "pvh", "--log-level=info", "--log", "L", "--dry-run", "--time", "-n", "user",
			       "--net=tap=t"),
			 0);
	assert_int_equal(conf.num_nets, 2);
	assert_string_equal(conf.net[1].tap, "t");
	assert_string_equal(conf.kernel, "K");
	assert_string_equal(conf.initrd, "I");
	assert_string_equal(conf.append, "A");
	assert_int_equal(conf.cpus, 2);
	assert_true(conf.mem == GIB);
	assert_int_equal(conf.num_drives, 2);
	assert_true(conf.drive[0].read_only);
	assert_string_equal(conf.drive[1].path, "E");
	assert_int_equal(conf.entry, CONFIG_ENTRY_PVH);
	assert_int_equal(conf.log_level, LOG_LEVEL_INFO);
	assert_string_equal(conf.log_file, "L");
	assert_true(conf.dry_run);
	assert_true(conf.time);

	assert_int_equal(parse("--kernel", "K", "--initrd=I", "--cmdline", "C", "--cpus", "32", "--mem=16M", "--quiet"),
			 0);
	assert_string_equal(conf.initrd, "I");
	assert_string_equal(conf.cmdline, "C");
	assert_int_equal(conf.cpus, 32);
	assert_int_equal(conf.log_level, LOG_LEVEL_ERROR);
	assert_false(conf.dry_run);

	/* The last of two wins; a value may look like an option or be empty. */
	assert_int_equal(parse("-k", "K", "-c2", "-c3", "-a", "--quiet", "--quiet", "--log-level", "debug"), 0);
	assert_int_equal(conf.cpus, 3);
	assert_string_equal(conf.append, "--quiet");
	assert_int_equal(conf.log_level, LOG_LEVEL_DEBUG);
	assert_int_equal(parse("-k", "K", "-a", "", "--"), 0);
	assert_string_equal(conf.append, "");
}

static void test_values(void **state)
{
	static const char *const cpus[] = { "0", "33", "-1", "", "1x", "99999999999999999999" };
	static const char *const mem[] = { "0", "1K", "9223372036854775808" };
	char message[128], value[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(cpus); i++) {
		snprintf(message, sizeof(message), "option '--cpus %s': must be 1 to 32", cpus[i]);
		refuses(message, "-k", "K", "-c", cpus[i]);
	}
	for (size_t i = 0; i < MF_ARRAY_SIZE(mem); i++) {
		snprintf(message, sizeof(message), "option '--mem %s': must be 16M to 1T (a number alone is bytes)",
			 mem[i]);
		refuses(message, "-k", "K", "--mem", mem[i]);
	}
	refuses("option '--mem -1': must be a size such as 128M or 2G", "-m", "-1");
	refuses("option '--mem 128MM': must be a size such as 128M or 2G", "-m128MM");
	refuses("option '--drive :ro': path: must not be empty", "-d", ":ro");
	refuses("option '--drive a:cache=x': 'cache=x': must be writeback or unsafe", "-d", "a:cache=x");
	refuses("option '--log-level loud': must be error, warn, info or debug", "--log-level", "loud");
	refuses("option '--entry efi': must be auto, linux64 or pvh", "--entry=efi");
	refuses("option '--kernel ': must not be empty", "--kernel=");
	/* A long value does not push out the reason. */
	snprintf(message, sizeof(message), "option '--cpus %.60s...': must be 1 to 32", value);
	refuses(message, "-c", value);
	refuses("append and cmdline are both set, but cmdline replaces what append adds to: choose one", "-k", "K",
		"-a", "a", "--cmdline", "c");
}

static void test_mistakes(void **state)
{
	(void)state;
	refuses("unknown option '--kernl'; did you mean '--kernel'? try 'mayfly run --help'", "--kernl", "K");
	refuses("unknown option '--memoy'; did you mean '--mem'? try 'mayfly run --help'", "--memoy=1G");
	refuses("unknown option '--memory': -m SIZE", "--memory=1G");
	refuses("unknown option '-kernel': a long option has two dashes, --kernel", "-kernel", "K");
	refuses("unknown option '--network': -n user, or -n tap=NAME", "--network");
	refuses("option '--cpus 0.5': must be 1 to 32, in whole numbers; --jail=cpu-max=50000 is half of a CPU's time "
		"for a VM in a jail",
		"-c", "0.5");
	refuses("unknown option '--hugepages'; try 'mayfly run --help'", "--hugepages", "none");
	refuses("unknown option '--'; try 'mayfly run --help'", "--=x");
	refuses("unknown option '-Z'; try 'mayfly run --help'", "-Z");
	refuses("unknown option '-Z'; try 'mayfly run --help'", "-c1", "-kK", "-Z");
	/* Abbreviations, which getopt_long would take, also unique ones. */
	refuses("unknown option '--ker'; did you mean '--kernel'? try 'mayfly run --help'", "--ker", "K");
	refuses("unknown option '--ker'; did you mean '--kernel'? try 'mayfly run --help'", "--ker=K");
	refuses("unknown option '--c'; try 'mayfly run --help'", "--c", "1");
	refuses("option '--kernel' needs a value (FILE); try 'mayfly run --help'", "--kernel");
	refuses("option '--kernel' needs a value (FILE); try 'mayfly run --help'", "-k");
	refuses("option '--quiet' takes no value; try 'mayfly run --help'", "--quiet=yes");
	/* A word in front of "--" is an image, and what follows is its command. */
	refuses("image 'vmlinux' and rootfs are both set: choose one, or put '--' before a command", "-c1", "-r", "/",
		"vmlinux", "-m1G", "--memoy");
	refuses("drive 'alpine' (-d is a drive; --detach runs the VM in the background): No such file or directory",
		"-d", "alpine", "sh");
	refuses("entrypoint and publish-all need an image: mayfly run IMAGE", "-P", "./root", "sh");
	refuses("command: the command must not be empty", "-k", "K", "--", "", "-a");
}

static void test_config_file(void **state)
{
	static const char json[] =
		"{\"kernel\": \"J\", \"cpus\": 4, \"log_level\": \"info\", \"drives\": [{\"path\": \"jd\"}]}";
	char path[] = "/tmp/mayfly-test-XXXXXX", message[128];
	int fd = mkostemp(path, O_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, json, strlen(json)), strlen(json));
	/* What stands on the command line wins, on either side of --config; drives are added to those of the file. */
	for (int i = 0; i < 2; i++) {
		if (i == 0)
			assert_int_equal(parse("--config", path, "-c", "2", "-d", "cd", "--quiet"), 0);
		else
			assert_int_equal(parse("-c", "2", "-d", "cd", "--quiet", "--config", path), 0);
		assert_string_equal(conf.kernel, "J");
		assert_int_equal(conf.cpus, 2);
		assert_int_equal(conf.log_level, LOG_LEVEL_ERROR);
		assert_int_equal(conf.num_drives, 2);
		assert_string_equal(conf.drive[0].path, "jd");
		assert_string_equal(conf.drive[1].path, "cd");
	}
	assert_int_equal(parse("--config", path), 0);
	assert_int_equal(conf.cpus, 4);
	assert_int_equal(ftruncate(fd, 5), 0);
	snprintf(message, sizeof(message), "config '%s': line 1, column 5: premature end of input near '\"ker'", path);
	refuses(message, "-k", "K", "--config", path);
	unlink(path);
	close(fd);
	snprintf(message, sizeof(message), "config: open '%s': No such file or directory", path);
	refuses(message, "-k", "K", "--config", path);
}

/* Every line fits a terminal, every option is there, and no two share a name. */
static void test_help(void **state)
{
	const struct cli_option *options = cli_run_usage.options;
	char *text = NULL, *line, *rest = NULL, needle[64];
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	(void)state;
	cli_print_help(&cli_run_usage, out);
	fclose(out);
	for (const struct cli_option *o = options; o->help; o++) {
		if (!o->long_name)
			continue;
		snprintf(needle, sizeof(needle), " --%s%s", o->long_name, o->value_name && o->fixed ? "[=" : " ");
		assert_non_null(strstr(text, needle));
		assert_true(!o->set || o->value_name || o->fixed);
		for (const struct cli_option *p = options; p != o; p++) {
			assert_true(!p->long_name || strcmp(p->long_name, o->long_name) != 0);
			assert_true(!o->short_name || p->short_name != o->short_name);
		}
	}
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		if (strlen(line) > 80)
			fail_msg("more than 80 columns: %s", line);
	}
	free(text);
}

static int command_argc;

static int fake_command(int argc, char **argv)
{
	assert_string_equal(argv[0], "run");
	command_argc = argc;
	return 42;
}

/* Runs cli_main with stdout and stderr in a file, and puts what it wrote into text. */
static int run_main(const char *first, const char *second, char *text, size_t size)
{
	static const struct cli_command commands[] = { { "run", "boot a VM", fake_command, NULL }, { 0 } };
	char *argv[] = { strdup("mayfly"), first ? strdup(first) : NULL, second ? strdup(second) : NULL, NULL };
	int saved[] = { dup(1), dup(2) }, status;
	FILE *file = tmpfile();
	ssize_t len;

	fflush(stdout);
	dup2(fileno(file), 1);
	dup2(fileno(file), 2);
	status = cli_main(1 + !!first + !!second, argv, commands);
	fflush(stdout);
	dup2(saved[0], 1);
	dup2(saved[1], 2);
	close(saved[0]);
	close(saved[1]);
	len = pread(fileno(file), text, size - 1, 0);
	text[len > 0 ? len : 0] = '\0';
	fclose(file);
	for (int i = 0; i < 3; i++)
		free(argv[i]);
	return status;
}

static void test_commands(void **state)
{
	char text[4096];

	(void)state;
	assert_int_equal(run_main("run", "-x", text, sizeof(text)), 42);
	assert_int_equal(command_argc, 2);
	assert_int_equal(run_main("--version", NULL, text, sizeof(text)), 0);
	assert_string_equal(text, "mayfly " MF_VERSION "\n");
	assert_int_equal(run_main("--help", NULL, text, sizeof(text)), 0);
	assert_non_null(strstr(text, "\n  run         boot a VM\n"));
	assert_int_equal(run_main(NULL, NULL, text, sizeof(text)), STATUS_FAILED);
	assert_string_equal(text, "mayfly: no command given; try 'mayfly run -r DIR -- COMMAND', or 'mayfly --help'\n");
	assert_int_equal(run_main("rum", NULL, text, sizeof(text)), STATUS_FAILED);
	assert_string_equal(text, "mayfly: unknown command 'rum'; did you mean 'run'? try 'mayfly --help'\n");
	assert_int_equal(run_main("--versoin", NULL, text, sizeof(text)), STATUS_FAILED);
	assert_string_equal(text,
			    "mayfly: unknown option '--versoin'; did you mean '--version'? try 'mayfly --help'\n");
	/* One line, whatever the user wrote. */
	assert_int_equal(run_main("a\nb\x1b[31m\xc3\xa9", NULL, text, sizeof(text)), STATUS_FAILED);
	assert_string_equal(text, "mayfly: unknown command 'a?b?[31m\xc3\xa9'; try 'mayfly --help'\n");
}

static void test_help_option(void **state)
{
	char text[64];
	FILE *file = tmpfile();
	int saved = dup(1);

	(void)state;
	fflush(stdout);
	dup2(fileno(file), 1);
	assert_int_equal(parse("-c", "nonsense", "--help"), 1);
	assert_int_equal(parse("-h"), 1);
	dup2(saved, 1);
	close(saved);
	assert_int_equal(pread(fileno(file), text, 18, 0), 18);
	assert_memory_equal(text, "Usage: mayfly run ", 18);
	fclose(file);
}

/* A command with two options of its own, which passes on those of `mayfly run`. */

static char passed[256], runs[16];

static int pass(void *target, const struct cli_option *o, const char *value, struct err *e)
{
	size_t len = strlen(passed);

	(void)target;
	snprintf(passed + len, sizeof(passed) - len, "%s%s%s;", o->long_name, value ? "=" : "", value ? value : "");
	return value && !strcmp(value, "bad") ? err_set(e, -EINVAL, "is bad") : 0;
}

static int set_runs(void *target, const char *text, struct err *e)
{
	(void)target;
	(void)e;
	snprintf(runs, sizeof(runs), "%s", text);
	return 0;
}

static const struct cli_option passing_options[] = {
	{ 'n', "runs", "N", "how many", .set = set_runs },
	{ 0, "time", "WHAT", "another --time than that of run", .set = set_runs },
	{ 'h', "help", NULL, "this text", .set = NULL },
	{ 0 },
};

static const struct cli_usage passing = {
	.command = "outer", .options = passing_options, .passes = &cli_run_usage, .pass = pass
};

#define parse_passing(...) parse_passing_args((const char *[]){ "outer", __VA_ARGS__, NULL })

static int parse_passing_args(const char **args)
{
	char *argv[ARGS_MAX];
	int argc = 0, r;

	*passed = *runs = '\0';
	for (; args[argc]; argc++)
		argv[argc] = strdup(args[argc]);
	argv[argc] = NULL;
	r = cli_parse(&passing, NULL, argc, argv, &err);
	while (argc)
		free(argv[--argc]);
	return r;
}

static void test_passing(void **state)
{
	unsigned num = 0;

	(void)state;
	/* In their order, with the value as it was given, or none; those that come first for run are as any other. */
	assert_int_equal(parse_passing("-k", "x", "--config", "c.json", "-c2", "--jail", "--jail=strict", "--console"),
			 0);
	assert_string_equal(passed, "kernel=x;config=c.json;cpus=2;jail;jail=strict;console;");
	/* One of its own hides another of the same name, or letter. */
	assert_int_equal(parse_passing("-n", "5", "--net", "none"), 0);
	assert_string_equal(passed, "net=none;");
	assert_string_equal(runs, "5");
	assert_int_equal(parse_passing("--time", "7"), 0);
	assert_string_equal(passed, "");
	assert_string_equal(runs, "7");

	assert_int_equal(parse_passing("--mem", "bad"), -EINVAL);
	assert_non_null(strstr(err.text, "--mem"));
	assert_int_equal(parse_passing("--kernl", "x"), -EINVAL);
	assert_non_null(strstr(err.text, "--kernel"));
	assert_int_equal(parse_passing("-kernel", "x"), -EINVAL);
	assert_int_equal(parse_passing("--console=1"), -EINVAL);
	assert_int_equal(parse_passing("--kernel"), -EINVAL);
	assert_non_null(strstr(err.text, "--kernel"));

	for (const struct cli_option *o = NULL; (o = cli_next_option(&passing, o));)
		num += !strcmp(o->long_name, "time") || !strcmp(o->long_name, "help") || !strcmp(o->long_name, "net");
	assert_int_equal(num, 3); /* each once */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_all_options, setup, teardown),
		cmocka_unit_test_setup_teardown(test_values, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mistakes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_config_file, setup, teardown),
		cmocka_unit_test(test_help),
		cmocka_unit_test(test_commands),
		cmocka_unit_test_setup_teardown(test_help_option, setup, teardown),
		cmocka_unit_test(test_passing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
