/* The default gateway in the kernel's table of routes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vmm/oci/net_join.h"

#define HEAD "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"

static void expect(const char *routes, const char *interface, const char *gateway)
{
	char found[INET_ADDRSTRLEN] = "x";

	net_join_gateway(found, routes, interface);
	assert_string_equal(found, gateway);
}

static void test_gateway(void **state)
{
	static const char two[] = HEAD "eth0\t0000580A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
				       "eth1\t00000000\t0102000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
				       "eth0\t00000000\t0100580A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";

	(void)state;
	expect(two, "eth0", "10.88.0.1");
	expect(two, "eth1", "10.0.2.1");
	expect(two, "eth", "");
	expect(HEAD, "eth0", "");
	expect("", "eth0", "");
	/* A route to a network, and one without a gateway, are none. */
	expect("eth0\t0000580A\t0100580A\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0\n", "eth0", "");
	expect("eth0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0", "eth0", "");
	expect("eth0\t00000000\t0100", "eth0", "");
}

#define ZEROS "00000000000000000000000000000000"

static void expect6(const char *routes, const char *interface, const char *gateway)
{
	char found[INET6_ADDRSTRLEN] = "x";

	net_join_gateway6(found, routes, interface);
	assert_string_equal(found, gateway);
}

static void test_gateway6(void **state)
{
	static const char two[] =
		"fd000000000000000000000000000000 40 " ZEROS " 00 fd000000000000000000000000000009 "
		"00000100 00000001 00000000 00000001     eth0\n" ZEROS " 00 " ZEROS " 00 "
		"fd000000000000000000000000000001 00000400 00000001 00000000 00000003     eth1\n" ZEROS " 00 " ZEROS
		" 00 fe8000000000000000000000000000ab 00000400 00000001 00000000 00000003 "
		"    eth0\n" ZEROS " 00 " ZEROS " 00 " ZEROS " ffffffff 00000001 00000000 00200200       lo\n";

	(void)state;
	expect6(two, "eth0", "fe80::ab");
	expect6(two, "eth1", "fd00::1");
	expect6(two, "lo", "");
	expect6(two, "eth", "");
	expect6("", "eth0", "");
	expect6(ZEROS " 00 " ZEROS " 00 fd00 0 0 0 0 eth0", "eth0", "");
	expect6(ZEROS ZEROS " 00", "eth0", "");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_gateway), cmocka_unit_test(test_gateway6) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
