/* The configuration as JSON: what is read, where and why text is refused, and the round trip through config_print. */
#include "tests/unit/config_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/util.h"

static void check_full(const struct config *c)
{
	assert_string_equal(c->kernel, "/k");
	assert_string_equal(c->initrd, "/i");
	assert_string_equal(c->append, "a \"b\"\n\xc3\xa9");
	assert_null(c->cmdline);
	assert_int_equal(c->entry, CONFIG_ENTRY_LINUX64);
	assert_int_equal(c->cpus, 4);
	assert_int_equal(c->mem, 2 * GIB);
	assert_int_equal(c->num_drives, 2);
	assert_string_equal(c->drive[0].path, "/d:ro");
	assert_null(c->drive[0].serial);
	assert_false(c->drive[0].read_only);
	assert_string_equal(c->drive[1].path, "/e");
	assert_string_equal(c->drive[1].id, "second");
	assert_string_equal(c->drive[1].serial, "S1");
	assert_true(c->drive[1].read_only);
	assert_string_equal(c->vsock.path, "/v,cid=9");
	assert_int_equal(c->vsock.cid, 4294967294);
	assert_int_equal(config_num_devices(c), 3);
	assert_int_equal(c->drive[0].cache, CONFIG_CACHE_WRITEBACK);
	assert_int_equal(c->drive[1].cache, CONFIG_CACHE_UNSAFE);
	assert_true(c->drive[0].overlay);
	assert_int_equal(c->drive[0].overlay_size, 8 * MIB);
	assert_string_equal(c->drive[0].overlay_dir, "/t");
	assert_false(c->drive[1].overlay);
	assert_int_equal(c->drive[0].bandwidth.size, 10);
	assert_int_equal(c->drive[0].bandwidth.refill_ms, 20);
	assert_int_equal(c->drive[0].ops.size, 1);
	assert_int_equal(c->drive[0].ops.one_time_burst, 2);
	assert_int_equal(c->drive[0].ops.refill_ms, 3);
	assert_int_equal(c->drive[1].ops.size, 0);
	assert_false(c->drive[0].direct);
	assert_true(c->drive[1].direct);
	assert_int_equal(c->log_level, LOG_LEVEL_INFO);
	assert_string_equal(c->log_file, "/l");
	assert_true(c->time);
	assert_int_equal(c->io_engine, LOOP_ENGINE_SYNC);
}

static void test_round_trip(void **state)
{
	static const char json[] =
		"{\"kernel\": \"/k\", \"initrd\": \"/i\", \"append\": \"a \\\"b\\\"\\n\\u00e9\", \"entry\": \"linux64\","
		"\"cpus\": 4, \"mem\": \"2G\", \"vsock\": {\"cid\": 4294967294, \"path\": \"/v,cid=9\"}, \"drives\": [{\"path\": \"/d:ro\", \"overlay\": \"8M\", \"overlay_dir\": \"/t\", \"rate_limiter\": {\"bandwidth\": {\"size\": 10, \"refill_time\": 20}, \"ops\": {\"size\": 1, \"one_time_burst\": 2, \"refill_time\": 3}}}, {\"path\": \"/e\", \"id\": \"second\","
		"\"serial\": \"S1\", \"read_only\": true, \"cache\": \"unsafe\", \"direct\": true}], \"io_engine\": \"sync\", \"log_level\": \"info\", \"log_file\": \"/l\", \"time\": true}";
	char *printed = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&printed, &len);

	(void)state;
	assert_int_equal(config_read_text(&conf, json, strlen(json), "f", &err), 0);
	check_full(&conf);
	assert_int_equal(config_print(&conf, out, &err), 0);
	fclose(out);
	teardown(NULL);
	setup(NULL);
	assert_int_equal(config_read_text(&conf, printed, len, "f", &err), 0);
	check_full(&conf);
	free(printed);
}

static void test_values(void **state)
{
	static const char json[] = "{\"mem\": 16777216, \"cmdline\": \"\", \"drives\": [], \"time\": false}";
	static const char more[] = "{\"mem\": \"32M\", \"drives\": [{\"path\": \"x\"}]}";

	(void)state;
	assert_int_equal(config_read_text(&conf, json, strlen(json), "f", &err), 0);
	assert_int_equal(conf.mem, 16 * MIB);
	assert_string_equal(conf.cmdline, "");
	assert_int_equal(config_read_text(&conf, "{}", 2, "f", &err), 0);
	/* A second file replaces values and adds drives. */
	assert_int_equal(config_read_text(&conf, more, strlen(more), "f", &err), 0);
	assert_int_equal(config_read_text(&conf, more, strlen(more), "f", &err), 0);
	assert_int_equal(conf.mem, 32 * MIB);
	assert_int_equal(conf.num_drives, 2);
	assert_string_equal(conf.drive[1].path, "x");
}

static const struct {
	const char *json;
	const char *message; /* after "config 'f': " */
} bad[] = {
	/* syntax */
	{ "", "line 1, column 0: unexpected token near end of file" },
	{ " \n", "line 2, column 0: unexpected token near end of file" },
	{ "{", "line 1, column 1: string or '}' expected near end of file" },
	{ "}", "line 1, column 1: unexpected token near '}'" },
	{ "{\"cpus\"", "line 1, column 7: ':' expected near end of file" },
	{ "{\"cpus\": 1", "line 1, column 10: '}' expected near end of file" },
	{ "{\"cpus\": 1,}", "line 1, column 12: string or '}' expected near '}'" },
	{ "{\"cpus\": 1} x", "line 1, column 13: end of file expected near 'x'" },
	{ "{\"cpus\": 1}{}", "line 1, column 12: end of file expected near '{'" },
	{ "{\n\"cpus\": 1,\n\"cpus\": 2}", "line 3, column 6: duplicate object key near '\"cpus\"'" },
	{ "{\n  \"cpus\": 01\n}", "line 2, column 11: invalid token near '0'" },
	{ "{\"cpus\": 99999999999999999999}", "line 1, column 29: too big integer near '99999999999999999999'" },
	{ "{\"mem\": 9223372036854775808}", "line 1, column 27: too big integer near '9223372036854775808'" },
	{ "{\"cpus\": 1e400}", "line 1, column 14: real number overflow near '1e400'" },
	{ "{\"cpus\": NaN}", "line 1, column 12: invalid token near 'NaN'" },
	{ "{\"cpus\": 0x1}", "line 1, column 11: '}' expected near 'x'" },
	{ "{'cpus': 1}", "line 1, column 2: string or '}' expected near '''" },
	{ "{\n \"kernel\": \"a\nb\"}", "line 2, column 13: unexpected newline near '\"a'" },
	{ "{\"kernel\": \"a", "line 1, column 13: premature end of input near '\"a'" },
	{ "{\"kernel\": \"\\u0000\"}", "line 1, column 19: a string must not hold \\u0000" },
	{ "{\"kernel\": \"\xff\"}", "line 1, column 12: unable to decode byte 0xff near '\"'" },
	{ "{\"kernel\": \"\\ud800\"}", "line 1, column 19: invalid Unicode '\\uD800' near '\"\\ud800\"'" },
	{ "{\"kernel\": \"\\q\"}", "line 1, column 14: invalid escape near '\"\\q'" },
	{ "\xef\xbb\xbf{}", "line 1, column 1: invalid token near '\xef\xbb\xbf'" },
	{ "/* c */ {}", "line 1, column 1: invalid token near '/'" },
	/* types and keys */
	{ "[]", "must be an object, not an array" },
	{ "null", "must be an object, not null" },
	{ "\"x\"", "must be an object, not a string" },
	{ "{\"net\": 1}", "unknown key 'net'; did you mean 'nets'?" },
	{ "{\"\": 1}", "unknown key ''" },
	{ "{\"dry_run\": true}", "unknown key 'dry_run'" },
	{ "{\"drive\": []}", "unknown key 'drive'; did you mean 'drives'?" },
	{ "{\"cpus\": \"1\"}", "key 'cpus': must be an integer, not a string" },
	{ "{\"cpus\": 1.0}", "key 'cpus': must be an integer, not a number with a fraction or exponent" },
	{ "{\"cpus\": null}", "key 'cpus': must be an integer, not null" },
	{ "{\"mem\": true}", "key 'mem': must be a string or an integer, not a boolean" },
	{ "{\"kernel\": {}}", "key 'kernel': must be a string, not an object" },
	{ "{\"drives\": {}}", "key 'drives': must be an array, not an object" },
	{ "{\"drives\": [{\"path\": \"a\"}, 1]}", "key 'drives[1]': must be an object, not an integer" },
	{ "{\"drives\": [{\"path\": \"a\", \"rate_limiter\": []}]}",
	  "key 'drives[0].rate_limiter': must be an object, not an array" },
	{ "{\"drives\": [{\"path\": \"a\", \"rate_limiter\": {\"x\": {}}}]}",
	  "key 'drives[0].rate_limiter': 1 object item(s) left unpacked: x" },
	{ "{\"drives\": [{\"path\": \"a\", \"rate_limiter\": {\"ops\": {\"size\": 1}}}]}",
	  "key 'drives[0].rate_limiter': ops: Object item not found: refill_time" },
	{ "{\"drives\": [{\"path\": \"a\", \"rate_limiter\": {\"ops\": {\"size\": -1, \"refill_time\": 1}}}]}",
	  "key 'drives[0].rate_limiter': ops: must not be negative" },
	{ "{\"drives\": [{\"path\": \"a\", \"rate_limiter\": {\"bandwidth\": {\"size\": \"1M\", \"refill_time\": 1}}}]}",
	  "key 'drives[0].rate_limiter': bandwidth: Expected integer, got string" },
	{ "{\"drives\": [{\"path\": \"a\"}, {\"path\": \"a\", \"read_only\": \"x\"}]}",
	  "key 'drives[1].read_only': must be a boolean, not a string" },
	{ "{\"drives\": [{\"path\": \"a\", \"readonly\": true}]}",
	  "unknown key 'drives[0].readonly'; did you mean 'read_only'?" },
	/* values */
	{ "{\"cpus\": 0}", "key 'cpus': must be 1 to 32" },
	{ "{\"cpus\": 33}", "key 'cpus': must be 1 to 32" },
	{ "{\"cpus\": -1}", "key 'cpus': must be 1 to 32" },
	{ "{\"mem\": 0}", "key 'mem': must be 16M to 1T (a number alone is bytes)" },
	{ "{\"mem\": -1}", "key 'mem': must be a size such as 128M or 2G" },
	{ "{\"mem\": \"128MM\"}", "key 'mem': must be a size such as 128M or 2G" },
	{ "{\"io_engine\": \"uring\"}", "key 'io_engine': must be auto, ring or sync" },
	{ "{\"entry\": \"\"}", "key 'entry': must be auto, linux64 or pvh" },
	{ "{\"kernel\": \"\"}", "key 'kernel': must not be empty" },
	{ "{\"vsock\": []}", "key 'vsock': must be an object, not an array" },
	{ "{\"vsock\": \"v\"}", "key 'vsock': must be an object, not a string" },
	{ "{\"vsock\": {\"pat\": \"v\"}}", "unknown key 'vsock.pat'; did you mean 'path'?" },
	{ "{\"vsock\": {\"path\": 5}}", "key 'vsock.path': must be a string, not an integer" },
	{ "{\"vsock\": {\"path\": \"v\", \"cid\": 2}}", "key 'vsock.cid': must be 3 to 4294967294" },
	{ "{\"drives\": [{}]}", "key 'drives[0]': needs a path" },
	{ "{\"drives\": [{\"path\": \"\"}]}", "key 'drives[0].path': must not be empty" },
	{ "{\"drives\": [{\"path\": \"a\", \"id\": \"/\"}]}",
	  "key 'drives[0].id': must be 1 to 63 letters, digits, '_' or '-'" },
};

static void test_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(bad); i++) {
		setup(NULL);
		if (config_read_text(&conf, bad[i].json, strlen(bad[i].json), "f", &err) != -EINVAL)
			fail_msg("%s was accepted", bad[i].json);
		assert_memory_equal(err.text, "config 'f': ", 12);
		assert_string_equal(err.text + 12, bad[i].message);
		teardown(NULL);
	}
}

/* As in Firecracker, a bucket of size or refill time 0 is no limit. */
static void test_bucket_without_a_limit(void **state)
{
	static const char json[] = "{\"drives\": [{\"path\": \"a\", \"rate_limiter\": {"
				   "\"bandwidth\": {\"size\": 0, \"one_time_burst\": 9, \"refill_time\": 20},"
				   "\"ops\": {\"size\": 5, \"refill_time\": 0}}}]}";

	(void)state;
	assert_int_equal(config_read_text(&conf, json, sizeof(json) - 1, "f", &err), 0);
	assert_int_equal(conf.drive[0].bandwidth.size, 0);
	assert_int_equal(conf.drive[0].ops.size, 0);
}

static void test_hostile(void **state)
{
	char *deep = malloc(MIB);

	(void)state;
	memset(deep, '[', MIB);
	assert_int_equal(config_read_text(&conf, deep, MIB, "f", &err), -EINVAL);
	assert_non_null(strstr(err.text, "maximum parsing depth reached"));
	assert_int_equal(config_read_text(&conf, "{}\0", 3, "f", &err), -EINVAL);
	assert_int_equal(config_read_text(&conf, "\0{}", 3, "f", &err), -EINVAL);
	assert_int_equal(config_read_text(&conf, "{\"kernel\": \"a\0b\"}", 17, "f", &err), -EINVAL);
	/* A key of any length leaves the sentence whole. */
	memset(deep, 'x', MIB);
	memcpy(deep, "{\"", 2);
	memcpy(deep + MIB - 5, "\": 1}", 5);
	assert_int_equal(config_read_text(&conf, deep, MIB, "f", &err), -EINVAL);
	assert_memory_equal(err.text, "config 'f': unknown key 'xxx", 28);
	assert_in_range(strlen(err.text), 100, 200);
	free(deep);
}

static void test_files(void **state)
{
	char dir[] = "/tmp/mayfly-test-XXXXXX", path[64], message[128];
	int fd;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/c.json", dir);
	assert_int_equal(config_read_file(&conf, path, &err), -ENOENT);
	snprintf(message, sizeof(message), "config: open '%s': No such file or directory", path);
	assert_string_equal(err.text, message);

	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "{\"cpus\": 3}\n", 12), 12);
	assert_int_equal(config_read_file(&conf, path, &err), 0);
	assert_int_equal(conf.cpus, 3);
	assert_int_equal(ftruncate(fd, CONFIG_FILE_MAX), 0); /* NUL bytes after the object */
	assert_int_equal(config_read_file(&conf, path, &err), -EINVAL);
	assert_int_equal(ftruncate(fd, CONFIG_FILE_MAX + 1), 0);
	assert_int_equal(config_read_file(&conf, path, &err), -EFBIG);
	close(fd);
	unlink(path);

	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(config_read_file(&conf, path, &err), -EINVAL);
	assert_non_null(strstr(err.text, "a FIFO"));
	unlink(path);
	assert_int_equal(config_read_file(&conf, dir, &err), -EINVAL);
	assert_non_null(strstr(err.text, "a directory"));
	assert_int_equal(config_read_file(&conf, "/dev/zero", &err), -EINVAL);
	rmdir(dir);
}

static void test_print_failures(void **state)
{
	FILE *full = fopen("/dev/full", "we");

	(void)state;
	assert_non_null(full);
	assert_int_equal(config_print(&conf, full, &err), -ENOSPC);
	fclose(full);
	assert_int_equal(config_set(&conf, "kernel", "\xff", &err), 0);
	assert_int_equal(config_print(&conf, stdout, &err), -EILSEQ);
	assert_string_equal(err.text, "print the configuration: a path or text in it is not UTF-8");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
		cmocka_unit_test_setup_teardown(test_values, setup, teardown),
		cmocka_unit_test(test_refused),
		cmocka_unit_test_setup_teardown(test_bucket_without_a_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hostile, setup, teardown),
		cmocka_unit_test_setup_teardown(test_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_print_failures, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
