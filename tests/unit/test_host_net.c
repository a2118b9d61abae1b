/* The host's resolver and routes, by files of the test; and which addresses are the host's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/host_net.h"
#include "vmm/base/util.h"

static char path[] = "/tmp/mayfly-test-host-net-XXXXXX";

static void put(const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void test_resolver(void **state)
{
	static const struct {
		const char *text, *search;
		bool ipv4, ipv6;
	} cases[] = {
		{ "", "", false, false },
		{ "# nameserver 192.0.2.1\nnameserver\n", "", false, false },
		{ "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n", "lan", true, false },
		{ "search a.example\tb.example \nnameserver\tfd00::1\n", "a.example b.example", false, true },
		{ "nameserver fe80::1%eth0\nnameserver 192.0.2.1\ndomain x\n", "x", true, true },
		{ "search a\nsearch b\n", "b", false, false },
		{ "nameserver example.com\nsearch", "", false, false },
	};
	struct host_net_resolver r;

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(cases); i++) {
		put(cases[i].text);
		host_net_read_resolver(path, &r);
		assert_int_equal(r.ipv4, cases[i].ipv4);
		assert_int_equal(r.ipv6, cases[i].ipv6);
		assert_string_equal(r.search, cases[i].search);
	}
	host_net_read_resolver("/nonexistent", &r);
	assert_false(r.ipv4 || r.ipv6 || r.search[0]);
}

/* A list that is too long is cut between two domains. */
static void test_long_search(void **state)
{
	struct host_net_resolver r;
	char text[2000] = "search";

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		strcat(text, " domain.name");
	put(text);
	host_net_read_resolver(path, &r);
	assert_true(strlen(r.search) > 480);
	assert_string_equal(r.search + strlen(r.search) - 12, " domain.name");
}

#define ZERO "00000000000000000000000000000000"
#define NEXT "fd000000000000000000000000000001"

static void test_ipv6(void **state)
{
	static const struct {
		const char *text;
		bool has;
	} cases[] = {
		{ "", false },
		{ NEXT " 40 " ZERO " 00 " ZERO " 00000100 00000001 00000000 00000001 eth0\n", false },
		{ ZERO " 00 " ZERO " 00 " NEXT " 00000400 00000001 00000000 00000003 eth0\n", true },
		{ ZERO " 00 " ZERO " 00 " ZERO " ffffffff 00000001 00000000 00200200 lo\n", false },
		{ ZERO " 00 " ZERO " 00 " ZERO " ffffffff 00000001 00000000 00200200 eth0\n", false },
		{ "nonsense\n\n", false },
	};

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(cases); i++) {
		put(cases[i].text);
		assert_int_equal(host_net_has_ipv6(path), cases[i].has);
	}
	assert_false(host_net_has_ipv6("/nonexistent"));
}

static void test_own(void **state)
{
	(void)state;
	assert_true(host_net_is_own("127.0.0.1"));
	assert_false(host_net_is_own("203.0.113.77"));
	assert_false(host_net_is_own("2001:db8::77"));
	assert_false(host_net_is_own("localhost"));
	assert_false(host_net_is_own(""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_resolver),
		cmocka_unit_test(test_long_search),
		cmocka_unit_test(test_ipv6),
		cmocka_unit_test(test_own),
	};
	int fd = mkstemp(path), r;

	if (fd < 0)
		return 1;
	close(fd);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	return r;
}
