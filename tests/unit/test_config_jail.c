/* The options of the jail, from the command line and from JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/config/config.h"

static void takes(struct config *c, const char *text)
{
	struct err e;

	config_init(c);
	if (config_set(c, "jail", text, &e) < 0)
		fail_msg("'%s': %s", text, e.text);
	assert_true(c->jail.on);
}

static void refuses(const char *text, const char *why)
{
	struct config c;
	struct err e = { 0 };

	config_init(&c);
	assert_true(config_set(&c, "jail", text, &e) < 0);
	if (!strstr(e.text, why))
		fail_msg("'%s': '%s' has no '%s'", text, e.text, why);
	config_done(&c);
}

static void test_spec(void **state)
{
	struct config c;

	(void)state;
	takes(&c, "true");
	assert_false(c.jail.strict);
	config_done(&c);
	takes(&c,
	      "strict,id=a-1,cpu-max=50000 100000,memory-max=1G,pids-max=30,io-max=8:0 rbps=1,io-max=8:16 wiops=max,"
	      "nofile=100,fsize=2M");
	assert_true(c.jail.strict);
	assert_string_equal(c.jail.id, "a-1");
	assert_string_equal(c.jail.cpu_max, "50000 100000");
	assert_string_equal(c.jail.memory_max, "1073741824");
	assert_string_equal(c.jail.pids_max, "30");
	assert_int_equal(c.jail.num_io_max, 2);
	assert_string_equal(c.jail.io_max[1], "8:16 wiops=max");
	assert_int_equal(c.jail.nofile, 100);
	assert_int_equal(c.jail.fsize, 2 << 20);
	config_done(&c);
}

static void test_refused(void **state)
{
	(void)state;
	refuses("", "''; use strict, id=");
	refuses("strict,,id=a", "unknown ''");
	refuses("id=a,strict,id=b", "conflicts with an earlier option");
	refuses("strict=1", "takes no value");
	refuses("id", "needs a value");
	refuses("id=../x", "'id=../x': must be");
	refuses("cpu-max=50%", "QUOTA PERIOD");
	refuses("memory-max=0", "a size such as 512M");
	refuses("pids-max=-1", "must be a number");
	refuses("io-max=/dev/sda", "MAJOR:MINOR");
	refuses("nofile=63", "64 to 1048576");
	refuses("fsize=x", "10G");
	refuses("uid=0", "1 or more");
	refuses("uid=9-8", "a range");
	refuses("uid=4294967294", "a range");
	refuses("uid=1-", "a range");
	refuses("memory=1", "unknown 'memory=1'");
}

static void test_ids(void **state)
{
	struct config c;

	(void)state;
	if (geteuid() != 0) {
		refuses("uid=5", "only root can choose");
		return;
	}
	takes(&c, "uid=5,gid=100-199");
	assert_int_equal(c.jail.uid.first, 5);
	assert_int_equal(c.jail.uid.num, 1);
	assert_int_equal(c.jail.gid.first, 100);
	assert_int_equal(c.jail.gid.num, 100);
	config_done(&c);
}

static void read_json(struct config *c, const char *text)
{
	struct err e;

	config_init(c);
	if (config_read_text(c, text, strlen(text), "test", &e) < 0)
		fail_msg("%s", e.text);
}

/* What is printed is what was read. */
static void test_json(void **state)
{
	struct config c, again;
	char *text = NULL;
	size_t len = 0;
	FILE *out;
	struct err e;

	(void)state;
	read_json(&c, "{ \"kernel\": \"k\", \"jail\": false }");
	assert_false(c.jail.on);
	config_done(&c);
	read_json(&c, "{ \"kernel\": \"k\", \"jail\": { \"strict\": true, \"id\": \"x\", \"memory_max\": \"64M\","
		      " \"pids_max\": 9, \"io_max\": [ \"8:0 rbps=1\" ], \"nofile\": 99, \"fsize\": 5 } }");
	assert_true(c.jail.on);
	out = open_memstream(&text, &len);
	assert_int_equal(config_print(&c, out, &e), 0);
	fclose(out);
	read_json(&again, text);
	assert_true(again.jail.on && again.jail.strict);
	assert_string_equal(again.jail.id, "x");
	assert_string_equal(again.jail.memory_max, "67108864");
	assert_string_equal(again.jail.pids_max, "9");
	assert_string_equal(again.jail.io_max[0], "8:0 rbps=1");
	assert_int_equal(again.jail.nofile, 99);
	assert_int_equal(again.jail.fsize, 5);
	free(text);
	config_done(&c);
	config_done(&again);
	config_init(&c);
	assert_true(config_read_text(&c, "{\"jail\":1}", 10, "test", &e) < 0);
	assert_non_null(strstr(e.text, "key 'jail': must be a boolean or an object"));
	config_done(&c);
	config_init(&c);
	assert_true(config_read_text(&c, "{\"jail\":{\"ids\":1}}", 18, "test", &e) < 0);
	assert_non_null(strstr(e.text, "unknown key 'jail.ids'; did you mean 'id'?"));
	config_done(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_spec),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
