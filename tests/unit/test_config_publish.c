/* Published ports: each form of docker's and passt's, what is refused, what follows for the interfaces, and JSON. */
#include "tests/unit/config_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/util.h"
#include "vmm/config/config_publish.h"

static void test_forms(void **state)
{
	static const struct {
		const char *text, *address;
		unsigned host, guest, num;
		bool udp;
	} good[] = {
		{ "8080:80", "127.0.0.1", 8080, 80, 1, false },
		{ "8080:80/tcp", "127.0.0.1", 8080, 80, 1, false },
		{ "53:5353/UDP", "127.0.0.1", 53, 5353, 1, true },
		{ "0.0.0.0:8080:80", "0.0.0.0", 8080, 80, 1, false },
		{ "192.0.2.1:8080:80/udp", "192.0.2.1", 8080, 80, 1, true },
		{ "[::1]:8080:80", "::1", 8080, 80, 1, false },
		{ "[::]:8080:80/udp", "::", 8080, 80, 1, true },
		{ "8000-8010:9000-9010", "127.0.0.1", 8000, 9000, 11, false },
		{ "127.0.0.2:1-65535:1-65535", "127.0.0.2", 1, 1, 65535, false },
		{ "7-7:8", "127.0.0.1", 7, 8, 1, false },
		/* any port of the host */
		{ "80", "127.0.0.1", 0, 80, 1, false },
		{ "80/udp", "127.0.0.1", 0, 80, 1, true },
		{ ":80", "127.0.0.1", 0, 80, 1, false },
		{ "0:80", "127.0.0.1", 0, 80, 1, false },
		{ "127.0.0.3::80", "127.0.0.3", 0, 80, 1, false },
		{ "[::1]::80", "::1", 0, 80, 1, false },
		/* passt's */
		{ "127.0.0.1/8080:80", "127.0.0.1", 8080, 80, 1, false },
		{ "::1/8080:80/udp", "::1", 8080, 80, 1, true },
		{ "127.0.0.1/8080", "127.0.0.1", 8080, 8080, 1, false },
		{ "0.0.0.0/80-90:180-190", "0.0.0.0", 80, 180, 11, false },
	};
	struct config_forward f;

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(good); i++) {
		if (config_publish_parse(&f, good[i].text, &err) < 0)
			fail_msg("'%s': %s", good[i].text, err.text);
		assert_string_equal(f.address, good[i].address);
		assert_int_equal(f.host, good[i].host);
		assert_int_equal(f.guest, good[i].guest);
		assert_int_equal(f.num, good[i].num);
		assert_int_equal(f.udp, good[i].udp);
		assert_true(f.published);
	}
}

static void test_refused(void **state)
{
	static const char *const bad[] = {
		"",
		":",
		"::",
		"a",
		"80:a",
		"80:0",
		"0",
		"0:0",
		"80:",
		"65536:1",
		"1:65536",
		"-1:80",
		"+1:80",
		"080:80",
		" 80:80",
		"80:80/",
		"80:80/sctp",
		"80:80/icmp",
		"80:80/tcp/udp",
		"8010-8000:80-90",
		"8000-8010:80",
		"8000:80-90",
		"8000-8010:80-89",
		"8000-8010",
		"8000-:80",
		"-8000:80",
		":80-90",
		"0:80-90",
		"::1:8080:80",
		"[::1]:80",
		"[::1]8080:80",
		"[127.0.0.1]:8080:80",
		"[::1:8080:80",
		"[]:8080:80",
		":8080:80",
		"localhost:8080:80",
		"256.0.0.1:8080:80",
		"127.0.0.1:8080:80:80",
		"127.0.0.1/127.0.0.1:8080:80",
		"/8080:80",
		"*:8080:80",
		"fe80::1%eth0/80:80",
		"published=8080,target=80",
	};
	struct config_forward f = { .num = 77 };
	char text[CONFIG_FORWARD_TEXT_MAX + 2];

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(bad); i++) {
		if (config_publish_parse(&f, bad[i], &err) == 0)
			fail_msg("'%s' was accepted", bad[i]);
		assert_int_equal(err.code, -EINVAL);
		assert_int_equal(config_set(&conf, "publish", bad[i], &err), -EINVAL);
	}
	memset(text, '1', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(config_publish_parse(&f, text, &err), -EINVAL);
	assert_int_equal(f.num, 77); /* left alone */
}

static void set(const char *key, const char *text)
{
	if (config_set(&conf, key, text, &err) < 0)
		fail_msg("%s '%s': %s", key, text, err.text);
}

/* Without an interface it gets one; checking twice publishes once. */
static void test_implies_user(void **state)
{
	(void)state;
	set("kernel", "k");
	set("publish", "8080:80");
	set("publish", "53/udp");
	for (unsigned i = 0; i < 2; i++) {
		if (config_check(&conf, &err) < 0)
			fail_msg("%s", err.text);
		assert_int_equal(conf.num_nets, 1);
		assert_int_equal(conf.net[0].kind, CONFIG_NET_USER);
		assert_int_equal(conf.net[0].num_forwards, 2);
	}
	assert_string_equal(conf.net[0].forward[1].text, "53/udp");
}

/* The first user interface gets them, beside its own. */
static void test_first_user(void **state)
{
	(void)state;
	set("kernel", "k");
	set("publish", "8080:80");
	set("nets", "tap=t");
	set("nets", "user,tcp=2222:22");
	set("nets", "user");
	assert_int_equal(config_check(&conf, &err), 0);
	assert_int_equal(conf.net[0].num_forwards, 0);
	assert_int_equal(conf.net[1].num_forwards, 2);
	assert_int_equal(conf.net[2].num_forwards, 0);
}

static void test_conflicts(void **state)
{
	static const struct {
		const char *net, *a, *b, *says;
	} bad[] = {
		{ "tap=t", "8080:80", NULL, "needs -n user" },
		{ "none", "8080:80", NULL, "none" },
		{ "user", "8080:80", "127.0.0.2:8080:81", "same TCP port" },
		{ "user", "53:53/udp", "50-60:50-60/udp", "same UDP port" },
		{ "user,tcp=8080:80", "8080:81", NULL, "same TCP port" },
		{ "user", "8080:80", "8080:80/udp", NULL },
		{ "user", "8000-8009:80-89", "8010:80", NULL },
		{ "user", "80", "80", NULL },
	};

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(bad); i++) {
		int r;

		teardown(state);
		setup(state);
		set("kernel", "k");
		set("nets", bad[i].net);
		set("publish", bad[i].a);
		if (bad[i].b)
			set("publish", bad[i].b);
		r = config_check(&conf, &err);
		if (r != (bad[i].says ? -EINVAL : 0) || (bad[i].says && !strstr(err.text, bad[i].says)))
			fail_msg("case %zu: %d, %s", i, r, r ? err.text : "");
	}
}

static char *print(struct config *c)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_int_equal(config_print(c, out, &err), 0);
	fclose(out);
	return text;
}

/* What --dry-run prints is read as the same: a port is not there twice. */
static void test_json(void **state)
{
	static const char text[] =
		"{\"kernel\": \"k\", \"command\": [\"true\"], \"publish\": [\"8080:80\", \"80/udp\"],"
		"\"dns\": [\"192.0.2.1\", \"fd00::1\"], \"dns_search\": [\"example.com\"],"
		"\"add_host\": [\"db:192.0.2.2\", \"gw:host-gateway\"],"
		"\"nets\": [{\"user\": true, \"tcp\": [\"127.0.0.1:1:2\"]}]}";
	struct config again;
	char *first, *second;

	(void)state;
	config_init(&again);
	if (config_read_text(&conf, text, strlen(text), "f", &err) < 0 || config_check(&conf, &err) < 0)
		fail_msg("%s", err.text);
	first = print(&conf);
	if (config_read_text(&again, first, strlen(first), "printed", &err) < 0 || config_check(&again, &err) < 0)
		fail_msg("%s", err.text);
	second = print(&again);
	assert_string_equal(first, second);
	assert_int_equal(again.net[0].num_forwards, 3);
	free(first);
	free(second);
	config_done(&again);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_forms),	    T(test_refused),   T(test_implies_user),
		T(test_first_user), T(test_conflicts), T(test_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
