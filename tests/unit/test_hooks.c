/* Hooks of a container: what is refused, and what programs get, in their order and in their time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/oci/hooks.h"
#include "vmm/oci/json_at.h"

static json_t *parse(const char *text)
{
	json_t *json;
	struct err e;

	assert_int_equal(json_at_parse(&json, text, strlen(text), "config.json", &e), 0);
	return json;
}

/* A document with a hook that runs a line of sh. */
static json_t *script(const char *kind, const char *line, const char *more)
{
	char text[1024];

	snprintf(text, sizeof(text),
		 "{\"hooks\": {\"%s\": [{\"path\": \"/bin/sh\", \"args\": [\"sh\", \"-c\", \"%s\"]%s}]}}", kind, line,
		 more);
	return parse(text);
}

static int run(json_t *doc, const char *kind, struct err *e)
{
	const struct json_at top = { .json = doc };
	json_t *state = json_pack("{s:s, s:i, s:s}", "id", "c", "pid", 42, "bundle", "/usr");
	const json_t *hooks = NULL;
	int r;

	*e = (struct err){ .code = 0 };
	assert_int_equal(hooks_read(&top, &hooks, e), 0);
	r = hooks_run(hooks, kind, state, -1, e);
	json_decref(state);
	json_decref(doc);
	return r;
}

static void expect_refused(const char *text, const char *field)
{
	json_t *doc = parse(text);
	const struct json_at top = { .json = doc };
	const json_t *hooks = NULL;
	struct err e = { .code = 0 };

	if (hooks_read(&top, &hooks, &e) == 0 || strncmp(e.text, field, strlen(field)) != 0)
		fail_msg("'%s', and not about '%s'", e.text, field);
	assert_null(hooks);
	json_decref(doc);
}

static void test_refused(void **state)
{
	(void)state;
	expect_refused("{\"hooks\": []}", "hooks: ");
	expect_refused("{\"hooks\": {\"poststop\": {}}}", "hooks.poststop: ");
	expect_refused("{\"hooks\": {\"prestart\": [1]}}", "hooks.prestart[0]: ");
	expect_refused("{\"hooks\": {\"createRuntime\": [{}]}}", "hooks.createRuntime[0].path: ");
	expect_refused("{\"hooks\": {\"createContainer\": [{\"path\": \"sh\"}]}}", "hooks.createContainer[0].path: ");
	expect_refused("{\"hooks\": {\"poststart\": [{\"path\": \"/a\"}, {\"path\": \"/a\", \"args\": [1]}]}}",
		       "hooks.poststart[1].args[0]: ");
	expect_refused("{\"hooks\": {\"poststop\": [{\"path\": \"/a\", \"env\": \"\"}]}}", "hooks.poststop[0].env: ");
	expect_refused("{\"hooks\": {\"poststop\": [{\"path\": \"/a\", \"timeout\": 0}]}}",
		       "hooks.poststop[0].timeout: ");
	expect_refused("{\"hooks\": {\"poststop\": [{\"path\": \"/a\", \"timeout\": 3601}]}}",
		       "hooks.poststop[0].timeout: ");
	expect_refused("{\"hooks\": {\"startContainer\": [{\"path\": \"/a\"}]}}", "hooks.startContainer: ");
}

static void test_none(void **state)
{
	struct err e;

	(void)state;
	assert_int_equal(run(parse("{}"), "poststop", &e), 0);
	assert_int_equal(run(parse("{\"hooks\": {\"startContainer\": []}}"), "poststop", &e), 0);
	assert_int_equal(run(script("poststart", "exit 1", ""), "poststop", &e), 0);
}

/* The state on its input, its own environment, the bundle as its directory, no descriptor of ours. */
static void test_surroundings(void **state)
{
	struct err e;
	int open_one = open("/dev/null", O_RDONLY); /* without O_CLOEXEC */

	(void)state;
	assert_true(open_one > 2);
	assert_int_equal(setenv("OURS", "1", 1), 0);
	assert_int_equal(run(script("createRuntime",
				    "read x; case $x in *pid*42*) ;; *) exit 2;; esac;"
				    "[ \\\"$A$OURS\\\" = b ] && [ $PWD = /usr ] || exit 3; set /proc/self/fd/*; shift 3;"
				    "[ ! -e $1 ] || exit 4",
				    ", \"env\": [\"A=b\"], \"timeout\": 60"),
			     "createRuntime", &e),
			 0);
	close(open_one);
}

static void test_failure(void **state)
{
	struct err e;

	(void)state;
	assert_int_not_equal(run(script("poststop", "echo 'no\\u0007 bridge' >&2; echo more; exit 3", ""), "poststop",
				 &e),
			     0);
	assert_string_equal(e.text, "hooks.poststop[0]: '/bin/sh' has failed with status 3: no. bridge");
	assert_int_not_equal(run(script("poststop", "kill -9 $$", ""), "poststop", &e), 0);
	assert_non_null(strstr(e.text, "signal 9"));
	assert_int_not_equal(run(parse("{\"hooks\": {\"poststop\": [{\"path\": \"/none\"}]}}"), "poststop", &e), 0);
	assert_non_null(strstr(e.text, "No such file"));
}

/* More than a pipe holds, and a process that keeps it open. */
static void test_output(void **state)
{
	struct err e;
	const uint64_t begin = clock_now_ms();

	(void)state;
	assert_int_equal(run(script("poststop", "sleep 30 & head -c 300000 /dev/zero", ""), "poststop", &e), 0);
	assert_true(clock_now_ms() - begin < 20000);
}

static void test_timeout(void **state)
{
	const uint64_t begin = clock_now_ms();
	struct err e;

	(void)state;
	assert_int_equal(run(script("poststop", "sleep 30", ", \"timeout\": 1"), "poststop", &e), -ETIMEDOUT);
	assert_non_null(strstr(e.text, "hooks.poststop[0]: '/bin/sh'"));
	assert_true(clock_now_ms() - begin < 20000);
}

/* Each gets the state from its beginning, and those behind one that fails do not run. */
static void test_order(void **state)
{
	json_t *doc = parse("{\"hooks\": {\"prestart\": ["
			    "{\"path\": \"/bin/sh\", \"args\": [\"sh\", \"-c\", \"cat | grep -q '^{.*}$'\"]},"
			    "{\"path\": \"/bin/sh\", \"args\": [\"sh\", \"-c\", \"cat | grep -q '^{.*}$' && exit 5\"]},"
			    "{\"path\": \"/bin/sh\", \"args\": [\"sh\", \"-c\", \"exit 6\"]}]}}");
	struct err e;

	(void)state;
	json_object_set_new(json_array_get(json_object_get(json_object_get(doc, "hooks"), "prestart"), 0), "env",
			    json_pack("[s]", "PATH=/usr/bin:/bin"));
	assert_int_not_equal(run(doc, "prestart", &e), 0);
	assert_non_null(strstr(e.text, "hooks.prestart[1]: "));
	assert_non_null(strstr(e.text, "status 5"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused), cmocka_unit_test(test_none),   cmocka_unit_test(test_surroundings),
		cmocka_unit_test(test_failure), cmocka_unit_test(test_output), cmocka_unit_test(test_timeout),
		cmocka_unit_test(test_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
