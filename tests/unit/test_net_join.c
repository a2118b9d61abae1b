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

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_gateway) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
