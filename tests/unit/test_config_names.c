/* Names and name servers of a guest, and the addresses of a user network: what is refused, and what follows. */
#include "tests/unit/config_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/host_net.h"
#include "vmm/base/util.h"
#include "vmm/config/config_names.h"

static void set(const char *key, const char *text)
{
	if (config_set(&conf, key, text, &err) < 0)
		fail_msg("%s '%s': %s", key, text, err.text);
}

static void test_split_host(void **state)
{
	static const struct {
		const char *text, *name, *address;
		bool gateway;
	} good[] = {
		{ "db:192.0.2.1", "db", "192.0.2.1", false },
		{ "a.b-c_d=192.0.2.1", "a.b-c_d", "192.0.2.1", false },
		{ "six:::1", "six", "::1", false },
		{ "six:[::1]", "six", "::1", false },
		{ "six=[fd00::1]", "six", "fd00::1", false },
		{ "host.docker.internal:host-gateway", "host.docker.internal", "host-gateway", true },
	};
	char address[INET6_ADDRSTRLEN];
	bool gateway;
	size_t len;

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(good); i++) {
		assert_int_equal(config_split_host(good[i].text, &len, address, &gateway), 0);
		assert_int_equal(len, strlen(good[i].name));
		assert_memory_equal(good[i].text, good[i].name, len);
		assert_string_equal(address, good[i].address);
		assert_int_equal(gateway, good[i].gateway);
	}
}

static void test_refused(void **state)
{
	static const struct {
		const char *key, *text;
	} bad[] = {
		{ "add_host", "" },
		{ "add_host", "db" },
		{ "add_host", "db:" },
		{ "add_host", ":192.0.2.1" },
		{ "add_host", "db:other" },
		{ "add_host", "db:[192.0.2.1]" },
		{ "add_host", "db:[::1" },
		{ "add_host", "d b:192.0.2.1" },
		{ "add_host", "d\nb:192.0.2.1" },
		{ "add_host", "db:192.0.2.1\n" },
		{ "add_host", "-db:192.0.2.1" },
		{ "add_host", "db:192.0.2.1 more" },
		{ "add_host", "db:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000" },
		{ "dns", "" },
		{ "dns", "example.com" },
		{ "dns", "8.8.8" },
		{ "dns", "8.8.8.8:53" },
		{ "dns", "8.8.8.8,1.1.1.1" },
		{ "dns", "fe80::1%eth0" },
		{ "dns_search", "" },
		{ "dns_search", "a b" },
		{ "dns_search", "..." },
		{ "dns_search", "a\nnameserver 192.0.2.1" },
	};

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(bad); i++) {
		if (config_set(&conf, bad[i].key, bad[i].text, &err) == 0)
			fail_msg("%s '%s' was accepted", bad[i].key, bad[i].text);
	}
	for (unsigned i = 0; i < CONFIG_TEXTS_MAX; i++)
		set("dns", "192.0.2.1");
	assert_int_equal(config_set(&conf, "dns", "192.0.2.1", &err), -EINVAL);
}

static void test_between_parts(void **state)
{
	static const struct {
		const char *key, *text, *net, *command;
		bool good;
	} cases[] = {
		{ "dns", "192.0.2.1", NULL, "true", true },
		{ "dns", "192.0.2.1", NULL, NULL, false },
		{ "dns_search", "example.com", "user", NULL, false },
		{ "dns_search", "example.com", "user", "true", true },
		{ "dns_search", "example.com", "tap=t,dns=192.0.2.1", "true", true },
		{ "dns_search", "example.com", "tap=t", "true", false },
		{ "add_host", "a:192.0.2.1", NULL, "true", true },
		{ "add_host", "a:192.0.2.1", NULL, NULL, false },
		{ "add_host", "a:host-gateway", NULL, "true", false },
		{ "add_host", "a:host-gateway", "tap=t,ip=10.0.0.2/24", "true", false },
		{ "add_host", "a:host-gateway", "tap=t,ip=10.0.0.2/24,gw=10.0.0.1", "true", true },
		{ "add_host", "a=host-gateway", "user", "true", true },
	};

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(cases); i++) {
		teardown(state);
		setup(state);
		set("kernel", "k");
		set(cases[i].key, cases[i].text);
		if (cases[i].net)
			set("nets", cases[i].net);
		if (cases[i].command)
			set("command", cases[i].command);
		if (config_check(&conf, &err) != (cases[i].good ? 0 : -EINVAL))
			fail_msg("case %zu: %s", i, err.code ? err.text : "");
	}
}

/* Each has its default, whatever else is given; the guest has IPv6 if the host has. */
static void test_user_addresses(void **state)
{
	(void)state;
	set("kernel", "k");
	set("command", "true");
	set("nets", "user,ip=10.9.0.2/24");
	set("nets", "user,dns=192.0.2.1,gw=10.0.2.7");
	set("nets", "user,ip6=fd00:77::2/64");
	if (config_check(&conf, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(conf.net[0].ip, "10.9.0.2/24");
	assert_string_equal(conf.net[0].gateway, CONFIG_USER_GATEWAY);
	assert_true(config_is_host_resolver(conf.net[0].dns));
	assert_non_null(conf.net[1].ip);
	assert_string_equal(conf.net[1].gateway, "10.0.2.7");
	assert_string_equal(conf.net[1].dns, "192.0.2.1");
	assert_string_equal(conf.net[2].gateway6, CONFIG_USER_GATEWAY6);
	assert_false(conf.net[1].no_ra || conf.net[2].no_ra); /* init has the first one only */
	assert_int_equal(conf.net[0].no_ra, conf.net[0].ip6 != NULL);
	assert_int_equal(conf.net[1].ip6 != NULL, host_net_has_ipv6(HOST_NET_ROUTES6));
}

/* With it, the guest could not reach the host. */
static void test_host_address(void **state)
{
	(void)state;
	set("kernel", "k");
	set("nets", "user,ip=127.0.0.1/8");
	assert_int_equal(config_check(&conf, &err), -EADDRINUSE);
	assert_non_null(strstr(err.text, "net 'net0': 127.0.0.1 "));
	set("nets", "none");
	set("nets", "tap=t,ip=127.0.0.1/8");
	set("command", "true");
	assert_int_equal(config_check(&conf, &err), 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_split_host),	T(test_refused),      T(test_between_parts),
		T(test_user_addresses), T(test_host_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
