/* What an image says of its command: what is taken, what the user's words replace, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/image/image_config.h"

static struct config c;
static struct err e;

/* Of an image for this platform, with that "config". */
static json_t *check(const char *config)
{
	json_t *image = json_pack("{s:s, s:s}", "os", "linux", "architecture", "amd64"), *checked;

	if (config)
		assert_int_equal(json_object_set_new(image, "config", json_loads(config, JSON_DECODE_ANY, NULL)), 0);
	checked = image_config_check(image, &e);
	json_decref(image);
	return checked;
}

static int apply(const char *config)
{
	json_t *checked = check(config);
	int r;

	assert_non_null(checked);
	r = image_config_apply(checked, &c, &e);
	json_decref(checked);
	return r;
}

static void begin(const char *const words[])
{
	config_done(&c);
	config_init(&c);
	for (; *words; words++)
		assert_int_equal(config_set(&c, "command", *words, &e), 0);
}

static void is(const struct config_list *l, const char *expected)
{
	char text[256] = "";

	for (unsigned i = 0; i < l->num; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s|", l->text[i]);
	assert_string_equal(text, expected);
}

#define WORDS(...) ((const char *const[]){ __VA_ARGS__ __VA_OPT__(, ) NULL })

static void test_command(void **state)
{
	static const char both[] = "{\"Entrypoint\": [\"e\", \"1\"], \"Cmd\": [\"c\"]}";

	(void)state;
	begin(WORDS());
	assert_int_equal(apply(both), 0);
	is(&c.command.args, "e|1|c|");
	begin(WORDS("x", "y"));
	assert_int_equal(apply(both), 0);
	is(&c.command.args, "e|1|x|y|");
	begin(WORDS());
	assert_int_equal(config_set(&c, "entrypoint", "other", &e), 0);
	assert_int_equal(apply(both), 0);
	is(&c.command.args, "other|");
	begin(WORDS("x"));
	assert_int_equal(config_set(&c, "entrypoint", "", &e), 0);
	assert_int_equal(apply(both), 0);
	is(&c.command.args, "x|");
	begin(WORDS());
	assert_int_equal(apply("{\"Cmd\": [\"c\"]}"), 0);
	is(&c.command.args, "c|");
	begin(WORDS());
	assert_int_equal(apply("{}"), -EINVAL);
	begin(WORDS());
	assert_int_equal(apply(NULL), -EINVAL);
}

static void test_the_rest(void **state)
{
	static const char all[] =
		"{\"Cmd\": [\"c\"], \"Env\": [\"A=1\", \"B==\"], \"WorkingDir\": \"srv/x\", \"User\": \"u:5\", "
		"\"ExposedPorts\": {\"80/tcp\": {}, \"53/udp\": {}}}";

	(void)state;
	begin(WORDS());
	assert_int_equal(config_set(&c, "env", "A=mine", &e), 0);
	assert_int_equal(apply(all), 0);
	is(&c.command.env, "A=1|B==|A=mine|"); /* the last one counts */
	assert_string_equal(c.command.workdir, "/srv/x");
	assert_string_equal(c.command.user, "u:5");
	assert_int_equal(c.publish.num, 0);
	begin(WORDS());
	assert_int_equal(config_set(&c, "workdir", "/w", &e), 0);
	assert_int_equal(config_set(&c, "user", "7", &e), 0);
	assert_int_equal(config_set(&c, "publish_all", "true", &e), 0);
	assert_int_equal(apply(all), 0);
	assert_string_equal(c.command.workdir, "/w");
	assert_string_equal(c.command.user, "7");
	assert_int_equal(c.publish.num, 2);
	begin(WORDS());
	assert_int_equal(config_set(&c, "publish_all", "true", &e), 0);
	assert_int_equal(apply("{\"Cmd\": [\"c\"], \"ExposedPorts\": {\"80/sctp\": {}}}"), -EINVAL);
	begin(WORDS());
	assert_int_equal(apply("{\"Cmd\": [\"c\"], \"WorkingDir\": \"\", \"User\": \"\", \"Env\": null}"), 0);
	assert_null(c.command.workdir);
	assert_null(c.command.user);
}

static void test_refused(void **state)
{
	static const char *const bad[] = {
		"5",
		"[]",
		"{\"Cmd\": \"c\"}",
		"{\"Cmd\": [\"c\", 5]}",
		"{\"Entrypoint\": {}}",
		"{\"Env\": [\"HOME\"]}", /* it would be this host's */
		"{\"Env\": [\"=x\"]}",
		"{\"Env\": [\"\"]}",
		"{\"User\": 0}",
		"{\"WorkingDir\": []}",
		"{\"ExposedPorts\": [\"80\"]}",
	};
	json_t *image;

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(bad); i++)
		if (check(bad[i]))
			fail_msg("accepted: %s", bad[i]);
	image = json_pack("{s:s, s:s}", "os", "linux", "architecture", "arm64");
	assert_null(image_config_check(image, &e));
	assert_non_null(strstr(e.text, "arm64"));
	json_decref(image);
	image = json_array();
	assert_null(image_config_check(image, &e));
	json_decref(image);
}

static int done(void **state)
{
	(void)state;
	config_done(&c);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_command),
		cmocka_unit_test(test_the_rest),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, done);
}
