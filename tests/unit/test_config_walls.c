/*
 * The walls of user networks in the configuration: what allow, deny and host= take and refuse, and what the rules that
 * follow from them say about frames. They are tried with the filter that uses them.
 */
#include "tests/unit/config_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/net_frames.h"
#include "virtio/net_filter.h"
#include "vmm/base/host_net.h"
#include "vmm/base/util.h"
#include "vmm/config/config_field.h"
#include "vmm/config/config_walls.h"

static void set(const char *key, const char *text)
{
	if (config_set(&conf, key, text, &err) < 0)
		fail_msg("%s '%s': %s", key, text, err.text);
}

/* The configuration of a guest with a command, which has a fixed resolver. */
static void complete(const char *net)
{
	set("kernel", "/dev/null");
	set("command", "true");
	set("nets", net);
	if (config_check(&conf, &err) < 0)
		fail_msg("%s", err.text);
}

static struct net_filter *filter_of(const struct config_net *n)
{
	static struct config_walls walls;
	struct net_filter_params params = { .id = "net0", .rules = walls.rule };
	struct net_filter *f;

	memset(&walls, 0xff, sizeof(walls));
	config_walls_collect(&walls, &conf, n);
	assert_true(walls.num <= CONFIG_WALLS_MAX);
	params.num_rules = walls.num;
	assert_int_equal(net_filter_new(&f, &params, &err), 0);
	return f;
}

static enum net_verdict verdict(const struct frame *f)
{
	struct net_filter *filter = filter_of(&conf.net[0]);
	enum net_verdict v = net_filter_check(filter, f->bytes, f->len);

	net_filter_free(filter);
	return v;
}

static bool tcp(const char *to, unsigned port)
{
	struct frame f = frame_tcp(strchr(to, ':') ? "fd00::15" : "10.0.2.15", to, 40000, port, FRAME_SYN);

	return verdict(&f) == NET_PASS;
}

static bool udp(const char *to, unsigned port)
{
	struct frame f = frame_udp(strchr(to, ':') ? "fd00::15" : "10.0.2.15", to, 40000, port);

	return verdict(&f) == NET_PASS;
}

static bool ping(const char *to)
{
	struct frame f = frame_ping(strchr(to, ':') ? "fd00::15" : "10.0.2.15", to);

	return verdict(&f) == NET_PASS;
}

static const char *const always_closed[] = { "127.0.0.1",
					     "127.255.255.255",
					     "0.0.0.0",
					     "0.1.2.3",
					     "169.254.169.254",
					     "169.254.0.1",
					     "224.0.0.251",
					     "239.255.255.250",
					     "255.255.255.255",
					     "10.0.2.2",
					     "100.100.100.200",
					     "168.63.129.16",
					     "::1",
					     "::",
					     "::7f00:1",
					     "::ffff:127.0.0.1",
					     "64:ff9b::7f00:1",
					     "fe80::1",
					     "febf::1",
					     "ff02::1",
					     "ff05::2",
					     "fd00:ec2::254",
					     "fd6d:6179:666c::2" };

static void test_closed_by_default(void **state)
{
	(void)state;
	complete("user,ip6=fd6d:6179:666c::15/64");
	for (size_t i = 0; i < MF_ARRAY_SIZE(always_closed); i++) {
		if (tcp(always_closed[i], 80) || udp(always_closed[i], 80) || ping(always_closed[i]))
			fail_msg("%s is open", always_closed[i]);
	}
	assert_true(tcp("192.0.2.1", 443));
	assert_true(tcp("10.1.2.3", 443));
	assert_true(tcp("192.168.1.1", 443));
	assert_true(tcp("fd00::1", 443));
	assert_true(tcp("2001:db8::1", 443));
	assert_true(ping("192.0.2.1"));
	/* Services of passt. */
	assert_true(udp("10.0.2.3", 53));
	assert_true(udp("255.255.255.255", 67));
	assert_true(udp("10.0.2.2", 67));
	assert_true(udp("ff02::1:2", 547));
	assert_false(udp("255.255.255.255", 68));
	assert_false(tcp("10.0.2.2", 67));
	assert_false(config_walls_map_gateway(&conf.net[0]));
}

/* No rule for a larger net opens what is closed; one for it alone does, but for the host's loopback. */
static void test_allow(void **state)
{
	(void)state;
	set("allow", "all");
	set("allow", "private");
	set("allow", "0.0.0.0/0");
	set("allow", "10.0.2.0/24");
	set("allow", "[::]/0");
	complete("user,ip6=fd6d:6179:666c::15/64");
	for (size_t i = 0; i < MF_ARRAY_SIZE(always_closed); i++) {
		if (tcp(always_closed[i], 80) || udp(always_closed[i], 80) || ping(always_closed[i]))
			fail_msg("%s is open", always_closed[i]);
	}
	set("allow", "169.254.169.254:80");
	set("allow", "fe80::/10");
	assert_true(tcp("169.254.169.254", 80));
	assert_false(tcp("169.254.169.254", 81));
	assert_false(ping("169.254.169.254"));
	assert_true(tcp("fe80::1", 80));
	assert_true(ping("fe80::1"));
}

static void test_deny(void **state)
{
	(void)state;
	set("deny", "private");
	set("allow", "10.1.2.3:443");
	set("allow", "[fd00::/16]:80-90");
	complete("user,dns=192.168.1.1");
	assert_true(tcp("192.0.2.1", 443));
	assert_true(tcp("2001:db8::1", 443));
	assert_false(tcp("10.0.0.0", 443));
	assert_false(tcp("172.16.0.1", 443));
	assert_true(tcp("172.32.0.1", 443));
	assert_false(tcp("192.168.1.1", 443));
	assert_false(tcp("100.64.0.1", 443));
	assert_true(tcp("100.128.0.1", 443));
	assert_false(tcp("fd01::1", 443));
	assert_false(ping("10.1.2.3"));
	assert_true(tcp("10.1.2.3", 443));
	assert_false(tcp("10.1.2.3", 444));
	assert_true(udp("fd00::5", 80));
	assert_true(udp("fd00::5", 90));
	assert_false(udp("fd00::5", 91));
	/* The resolver passes. */
	assert_true(udp("192.168.1.1", 53));
	assert_true(tcp("192.168.1.1", 53));
	set("deny", "all");
	set("dns", "192.168.7.7");
	assert_false(tcp("192.0.2.1", 443));
	assert_false(ping("2001:db8::1"));
	assert_true(tcp("10.1.2.3", 443));
	assert_true(udp("192.168.1.1", 53));
	assert_true(udp("192.168.7.7", 53));
	assert_true(udp("255.255.255.255", 67));
	/* Unless it is denied itself, and a denial of the same net wins. */
	set("deny", "192.168.7.7:53");
	set("deny", "10.1.2.3:443");
	assert_false(udp("192.168.7.7", 53));
	assert_false(tcp("10.1.2.3", 443));
	set("deny", "all:25");
	set("allow", "198.51.100.0/24");
	assert_true(tcp("198.51.100.1", 25));
}

static void test_host_ports(void **state)
{
	const struct config_net *n = &conf.net[0];

	(void)state;
	set("deny", "all");
	complete("user,host=5432,6379,53/udp,ip6=fd6d:6179:666c::15/64,host=99/tcp");
	assert_int_equal(n->host.num, 4);
	assert_string_equal(n->host.text[1], "6379");
	assert_true(tcp("10.0.2.2", 5432));
	assert_true(tcp("10.0.2.2", 6379));
	assert_true(tcp("10.0.2.2", 99));
	assert_true(tcp("fd6d:6179:666c::2", 5432));
	assert_false(udp("10.0.2.2", 5432));
	assert_true(udp("10.0.2.2", 53));
	assert_true(udp("fd6d:6179:666c::2", 53));
	assert_false(tcp("10.0.2.2", 53));
	assert_false(tcp("10.0.2.2", 5433));
	assert_false(tcp("127.0.0.1", 5432));
	assert_false(ping("10.0.2.2"));
	assert_true(config_walls_map_gateway(n));
}

/* passt leads from the gateway to the host only where that is needed. */
static void test_map_gateway(void **state)
{
	static const struct {
		const char *net;
		bool map;
	} cases[] = {
		{ "user", false },
		{ "user,tcp=80:80", false },
		{ "user,udp=53:53", true },
		{ "user,host=80", true },
		{ "user,dns=192.0.2.1", false },
		{ "user,dns=10.0.2.2", true },
		{ "user,gw=10.0.2.9,dns=10.0.2.9", true },
	};

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(cases); i++) {
		complete(cases[i].net);
		assert_int_equal(config_walls_map_gateway(&conf.net[0]), cases[i].map);
		assert_int_equal(udp(conf.net[0].dns, 53), true);
		config_done(&conf);
		config_init(&conf);
	}
}

/* Without a command, passt gives the guest the host's name servers, or the gateway for one on the loopback. */
static void test_resolver_by_dhcp(void **state)
{
	struct host_net_resolver host;

	(void)state;
	set("deny", "all");
	set("kernel", "/dev/null");
	set("nets", "user");
	assert_int_equal(config_check(&conf, &err), 0);
	assert_true(config_walls_map_gateway(&conf.net[0]));
	assert_true(udp("10.0.2.2", 53));
	assert_false(udp("10.0.2.2", 54));
	host_net_read_resolver(HOST_NET_RESOLV, &host);
	for (unsigned i = 0; i < host.num_servers; i++) {
		const uint8_t *a = host.server[i].s6_addr;
		char text[INET6_ADDRSTRLEN];
		bool v4 = IN6_IS_ADDR_V4MAPPED(&host.server[i]);

		assert_non_null(inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? a + 12 : a, text, sizeof(text)));
		assert_int_equal(udp(text, 53), v4 ? a[12] != 127 : !IN6_IS_ADDR_LOOPBACK(&host.server[i]));
	}
}

/* As many as can be given fit. */
static void test_many(void **state)
{
	char text[64];

	(void)state;
	for (unsigned i = 0; i < CONFIG_TEXTS_MAX; i++) {
		set("allow", "private");
		set("deny", "private:1-2");
		snprintf(text, sizeof(text), "192.0.2.%u", i);
		set("dns", text);
	}
	complete("user,ip6=fd6d:6179:666c::15/64");
	for (unsigned i = 0; i < CONFIG_TEXTS_MAX; i++)
		assert_int_equal(config_texts_add(&conf.net[0].host, "80", &err), 0);
	net_filter_free(filter_of(&conf.net[0]));
	assert_int_equal(config_set(&conf, "allow", "all", &err), -EINVAL);
	assert_int_equal(config_set(&conf, "deny", "all", &err), -EINVAL);
}

static void test_texts(void **state)
{
	static const struct {
		const char *text;
		unsigned prefix, first, last;
	} good[] = {
		{ "10.0.0.0/8", 104, 0, 65535 },
		{ "192.0.2.1", 128, 0, 65535 },
		{ "192.0.2.1/32:1", 128, 1, 1 },
		{ "0.0.0.0/0", 96, 0, 65535 },
		{ "all", 0, 0, 65535 },
		{ "all:25", 0, 25, 25 },
		{ "fd00::/8", 8, 0, 65535 },
		{ "[fd00::]/8", 8, 0, 65535 },
		{ "[fd00::/8]:80-65535", 8, 80, 65535 },
		{ "[fd00::]/8:80", 8, 80, 80 },
		{ "[fd00::1]:443", 128, 443, 443 },
		{ "fd00::1", 128, 0, 65535 },
		{ "::/0", 0, 0, 65535 },
		{ "private", 104, 0, 65535 },
	};
	struct net_rule r[CONFIG_RULE_NETS_MAX];

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(good); i++) {
		if (config_rule_parse(r, good[i].text, true, &err) < 1)
			fail_msg("'%s': %s", good[i].text, err.text);
		assert_int_equal(r->prefix, good[i].prefix);
		assert_int_equal(r->first, good[i].first);
		assert_int_equal(r->last, good[i].last);
		assert_int_equal(r->protocols, good[i].first ? NET_RULE_TCP | NET_RULE_UDP : NET_RULE_ALL);
	}
	assert_int_equal(config_rule_parse(r, "private:22", false, &err), 5);
	assert_int_equal(r[4].prefix, 7);
	assert_int_equal(r[4].first, 22);
}

static void test_bad_texts(void **state)
{
	static const char *const bad[] = {
		"",
		"10.0.0.1/8",
		"10.0.0.0/33",
		"10.0.0.0/",
		"10.0.0.0/08",
		"10.0.0.0/-1",
		"10.0.0",
		"10.0.0.1:",
		"10.0.0.1:0",
		"10.0.0.1:1-",
		"10.0.0.1:65536",
		"10.0.0.1:2-1",
		"10.0.0.1:-1",
		"fd00::1/8",
		"[fd00::1",
		"[fd00::1]443",
		"fd00::/129",
		"example.com",
		"privat",
		"private/8",
		"all/0",
		" 10.0.0.1",
		"10.0.0.1 ",
		"10.0.0.1:http",
		"10.0.0.1/8/8",
		"[]",
		"[10.0.0.1]",
		"[10.0.0.1]:80",
		"[fd00::1]/",
		"[fd00::1]/8/8",
		":80",
	};
	struct net_rule r[CONFIG_RULE_NETS_MAX];

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(bad); i++) {
		if (config_rule_parse(r, bad[i], false, &err) != -EINVAL)
			fail_msg("'%s' is taken", bad[i]);
		assert_int_equal(config_set(&conf, "allow", bad[i], &err), -EINVAL);
	}
	assert_int_equal(conf.allow.num, 0);
}

/* The host's loopback is opened by host= alone: allow says so, and deny may name it. */
static void test_loopback(void **state)
{
	static const char *const texts[] = { "127.0.0.1", "127.0.0.0/8", "0.0.0.0", "0.0.0.0/8:80",
					     "::1",	  "[::1]:80",	 "::/96" };

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(texts); i++) {
		assert_int_equal(config_set(&conf, "allow", texts[i], &err), -EINVAL);
		assert_non_null(strstr(err.text, "host="));
		set("deny", texts[i]);
	}
}

static void refused(const char *net, const char *key, const char *text, const char *word)
{
	config_done(&conf);
	config_init(&conf);
	set("kernel", "/dev/null");
	set("command", "true");
	if (net)
		set("nets", net);
	set(key, text);
	if (config_check(&conf, &err) >= 0)
		fail_msg("%s %s with %s is taken", key, text, net ? net : "nothing");
	if (!strstr(err.text, word))
		fail_msg("'%s' does not name %s", err.text, word);
}

static void test_refused(void **state)
{
	static const char *const ports[] = { "", "0", "65536", "80-90", "http", "80/sctp", "80/", "-1", "127.0.0.1:80" };
	char spec[64];

	(void)state;
	refused(NULL, "allow", "192.0.2.1", "-n user");
	refused("tap=tap0", "deny", "192.0.2.1", "-n user");
	refused("user", "allow", "10.0.2.2", "host=");
	refused("user", "allow", "10.0.2.2:80", "host=");
	refused("user,gw=10.0.2.9", "allow", "10.0.2.9", "host=");
	refused("user,ip6=fd6d:6179:666c::15/64", "allow", "fd6d:6179:666c::2", "host=");
	for (size_t i = 0; i < MF_ARRAY_SIZE(ports); i++) {
		snprintf(spec, sizeof(spec), "user,host=%s", ports[i]);
		assert_int_equal(config_set(&conf, "nets", spec, &err), -EINVAL);
		assert_non_null(strstr(err.text, "host="));
	}
	assert_int_equal(config_set(&conf, "nets", "user,host=80,http", &err), -EINVAL);
	assert_int_equal(config_set(&conf, "nets", "user,80", &err), -EINVAL);
	assert_int_equal(config_set(&conf, "nets", "tap=x,host=80", &err), -EINVAL);
	assert_int_equal(config_set(&conf, "nets", "tap=x,mtu=1500,1600", &err), -EINVAL);
}

static void test_json(void **state)
{
	static const char text[] = "{ \"allow\": [ \"10.1.2.3:443\" ], \"deny\": [ \"private\" ], "
				   "\"nets\": [ { \"user\": true, \"host\": [ \"80\", \"53/udp\" ] } ] }";
	FILE *out = tmpfile();
	char printed[8192];
	size_t len;

	(void)state;
	assert_int_equal(config_read_text(&conf, text, strlen(text), "test", &err), 0);
	assert_string_equal(conf.allow.text[0], "10.1.2.3:443");
	assert_string_equal(conf.deny.text[0], "private");
	assert_string_equal(conf.net[0].host.text[1], "53/udp");
	assert_non_null(out);
	assert_int_equal(config_print(&conf, out, &err), 0);
	rewind(out);
	len = fread(printed, 1, sizeof(printed), out);
	assert_int_equal(fclose(out), 0);
	config_done(&conf);
	config_init(&conf);
	assert_int_equal(config_read_text(&conf, printed, len, "again", &err), 0);
	assert_string_equal(conf.allow.text[0], "10.1.2.3:443");
	assert_string_equal(conf.net[0].host.text[0], "80");
	assert_true(config_read_text(&conf, "{ \"allow\": [ \"10.0.0.1/8\" ] }", 29, "bad", &err) < 0);
	assert_non_null(strstr(err.text, "allow"));
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_closed_by_default), T(test_allow), T(test_deny),	 T(test_host_ports), T(test_map_gateway),
		T(test_resolver_by_dhcp),  T(test_many),  T(test_texts), T(test_bad_texts),  T(test_loopback),
		T(test_refused),	   T(test_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
