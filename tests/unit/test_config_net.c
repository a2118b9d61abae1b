/* Network interfaces in the configuration: what is taken, what is refused with which words, and the way through JSON. */
#include "tests/unit/config_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/util.h"

static const struct config_net *add(const char *spec)
{
	if (config_set(&conf, "nets", spec, &err) < 0)
		fail_msg("'%s': %s", spec, err.text);
	return conf.num_nets ? &conf.net[conf.num_nets - 1] : NULL;
}

static void test_specs(void **state)
{
	const struct config_net *n;

	(void)state;
	n = add("tap=tap0");
	assert_int_equal(n->kind, CONFIG_NET_TAP);
	assert_string_equal(n->tap, "tap0");
	assert_string_equal(n->id, "net0");
	assert_false(n->has_mac);
	assert_int_equal(n->mtu, 0);
	n = add("mac=02:aB:00:00:00:01,fd=3,mtu=68,id=lan");
	assert_int_equal(n->kind, CONFIG_NET_FD);
	assert_int_equal(n->fd, 3);
	assert_string_equal(n->id, "lan");
	assert_true(n->has_mac);
	assert_int_equal(n->mac[1], 0xab);
	assert_int_equal(n->mac[5], 1);
	assert_int_equal(n->mtu, 68);
	n = add("user,tcp=2222:22,udp=53,tcp=127.0.0.1/80:8080,tcp=::1/1:65535");
	assert_int_equal(n->kind, CONFIG_NET_USER);
	assert_string_equal(n->id, "net2");
	assert_int_equal(n->num_forwards, 4);
	assert_string_equal(n->forward[0].text, "2222:22");
	assert_int_equal(n->forward[1].guest, 53);
	assert_true(n->forward[1].udp);
	assert_string_equal(n->forward[3].address, "::1");
	n = add("tap=x,rx_bandwidth=1M+512K/1000,rx_ops=5/1,tx_bandwidth=7/18446744073709551615,tx_ops=8+9/10");
	assert_int_equal(n->limit[NET_RX].bytes.size, MIB);
	assert_int_equal(n->limit[NET_RX].bytes.one_time_burst, 512 * KIB);
	assert_int_equal(n->limit[NET_RX].bytes.refill_ms, 1000);
	assert_int_equal(n->limit[NET_RX].ops.size, 5);
	assert_int_equal(n->limit[NET_TX].bytes.refill_ms, UINT64_MAX);
	assert_int_equal(n->limit[NET_TX].ops.one_time_burst, 9);
	assert_int_equal(config_num_devices(&conf), 4);
	add("none");
	assert_int_equal(conf.num_nets, 0);
	n = add("tap=y");
	assert_string_equal(n->id, "net0");
	assert_int_equal(n->num_forwards, 0);
}

static void test_refused(void **state)
{
	static const struct {
		const char *spec, *says;
	} bad[] = {
		{ "", "unknown ''; use none, id=" },
		{ "tap", "'tap' needs a value" },
		{ "tap=", "must be the name of a tap" },
		{ "tap=0123456789abcdef", "must be the name of a tap" },
		{ "tap=a/b", "must be the name of a tap" },
		{ "tap=tap%d", "must be the name of a tap" },
		{ "tap=..", "must be the name of a tap" },
		{ "tap=a,tap=b", "'tap=b' conflicts with an earlier option" },
		{ "tap=a,fd=3", "an interface is one of tap, fd and user" },
		{ "user,fd=3", "an interface is one of tap, fd and user" },
		{ "user=yes", "'user' takes no value" },
		{ "mtu=1500", "needs one of tap, fd and user" },
		{ "none,user", "'none'" },
		{ "fd=2", "must be the number of an inherited file descriptor" },
		{ "fd=-1", "must be the number of an inherited file descriptor" },
		{ "fd=2147483648", "must be the number of an inherited file descriptor" },
		{ "user,mtu=67", "must be 68 to 65535" },
		{ "user,mtu=65536", "must be 68 to 65535" },
		{ "user,mac=01:00:00:00:00:00", "must be the address of one station" },
		{ "user,mac=00:00:00:00:00:00", "must be the address of one station" },
		{ "user,mac=2:0:0:0:0:1", "must be six bytes" },
		{ "user,mac=02:00:00:00:00:1", "must be six bytes" },
		{ "user,mac=02-00-00-00-00-01", "must be six bytes" },
		{ "user,mac=02:00:00:00:00:011", "must be six bytes" },
		{ "user,tcp=", "must be HOST_PORT:GUEST_PORT" },
		{ "user,tcp=0:1", "must be HOST_PORT:GUEST_PORT" },
		{ "user,tcp=1:0", "must be HOST_PORT:GUEST_PORT" },
		{ "user,tcp=65536", "must be HOST_PORT:GUEST_PORT" },
		{ "user,tcp=1:2:3", "must be HOST_PORT:GUEST_PORT" },
		{ "user,tcp=host/1:2", "must be HOST_PORT:GUEST_PORT" },
		{ "user,tcp=all", "must be HOST_PORT:GUEST_PORT" },
		{ "user,tcp=9-1", "must be HOST_PORT:GUEST_PORT" },
		{ "user,tcp=1-9:1-8", "must be HOST_PORT:GUEST_PORT" },
		{ "user,tcp=1:2/tcp", "must be HOST_PORT:GUEST_PORT" },
		{ "user,tcp=127.0.0.1::2", "must be HOST_PORT:GUEST_PORT" },
		{ "tap=a,gw=10.0.0.1", "gw needs an ip" },
		{ "tap=a,gw6=fd00::1,ip=10.0.0.2/24", "gw6 an ip6" },
		{ "tap=a,ip6=fd00::1", "must be an IPv6 address with its prefix" },
		{ "tap=a,ip6=10.0.0.2/24", "must be an IPv6 address with its prefix" },
		{ "tap=a,ip6=fd00::1/129", "must be an IPv6 address with its prefix" },
		{ "tap=a,ip6=fd00::1/0", "must be an IPv6 address with its prefix" },
		{ "tap=a,ip6=fd00::2/64,gw6=10.0.0.1", "must be an IPv6 address" },
		{ "tap=a,dns=resolver", "must be an IPv4 or IPv6 address" },
		{ "tap=a,tcp=1:2", "only user networks forward ports" },
		{ "user,rx_ops=5", "must be SIZE/MILLISECONDS" },
		{ "user,rx_ops=0/5", "must be SIZE/MILLISECONDS" },
		{ "user,rx_ops=5/0", "must be SIZE/MILLISECONDS" },
		{ "user,rx_ops=5K/1", "such as 5000/1000" },
		{ "user,tx_bandwidth=1M+/1", "such as 10M/1000" },
		{ "user,tx_bandwidth=1M/1s", "such as 10M/1000" },
		{ "user,speed=5", "'speed=5'" },
	};

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(bad); i++) {
		if (config_set(&conf, "nets", bad[i].spec, &err) == 0)
			fail_msg("'%s' was accepted", bad[i].spec);
		if (!strstr(err.text, bad[i].says))
			fail_msg("'%s': %s", bad[i].spec, err.text);
		assert_int_equal(conf.num_nets, 0);
	}
}

static void test_bounds(void **state)
{
	char spec[1024] = "user";

	(void)state;
	for (unsigned i = 0; i <= CONFIG_FORWARDS_MAX; i++)
		strcat(spec, ",tcp=1");
	assert_int_equal(config_set(&conf, "nets", spec, &err), -EINVAL);
	assert_non_null(strstr(err.text, "at most 32 ports"));
	for (unsigned i = 0; i < CONFIG_NETS_MAX; i++)
		add("user");
	assert_int_equal(config_set(&conf, "nets", "user", &err), -EINVAL);
	assert_string_equal(err.text, "there can be at most 8 network interfaces");
}

static void test_check(void **state)
{
	static const struct {
		const char *a, *b, *says;
	} bad[] = {
		{ "user,id=x", "user,id=x", "the same id 'x'" },
		{ "fd=5", "fd=5", "the same fd 5" },
		{ "user,mac=02:00:00:00:00:01", "fd=5,mac=02:00:00:00:00:01", "the same mac" },
	};

	(void)state;
	assert_int_equal(config_set(&conf, "kernel", "k", &err), 0);
	for (size_t i = 0; i < MF_ARRAY_SIZE(bad); i++) {
		add("none");
		add(bad[i].a);
		assert_int_equal(config_check(&conf, &err), 0);
		add(bad[i].b);
		assert_int_equal(config_check(&conf, &err), -EINVAL);
		assert_non_null(strstr(err.text, bad[i].says));
	}
}

static void test_json(void **state)
{
	static const char text[] =
		"{\"nets\": [{\"tap\": \"t0\", \"mac\": \"02:00:00:00:00:0a\", \"rx_bandwidth\": \"1M/5\"},"
		"{\"fd\": 9, \"mtu\": 9000, \"tx_ops\": \"5+6/7\"},"
		"{\"user\": true, \"tcp\": [\"1:2\", \"3\"], \"udp\": [\"4:5\"], \"id\": \"u\", \"ip6\": \"fd00::2/64\","
		"\"gw6\": \"fd00::1\"}]}";
	struct config again;
	char *printed = NULL, *printed_again = NULL;
	size_t len;
	FILE *out;

	(void)state;
	config_init(&again);
	if (config_read_text(&conf, text, strlen(text), "f", &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(conf.num_nets, 3);
	assert_int_equal(conf.net[2].num_forwards, 3);
	out = open_memstream(&printed, &len);
	assert_int_equal(config_print(&conf, out, &err), 0);
	fclose(out);
	assert_int_equal(config_read_text(&again, printed, len, "printed", &err), 0);
	out = open_memstream(&printed_again, &len);
	assert_int_equal(config_print(&again, out, &err), 0);
	fclose(out);
	assert_string_equal(printed, printed_again);
	assert_non_null(strstr(printed, "\"rx_bandwidth\": \"1048576+0/5\""));
	free(printed);
	free(printed_again);
	config_done(&again);
}

static void test_json_refused(void **state)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{ "{\"nets\": [{\"user\": true, \"tcp\": [22]}]}",
		  "config 'f': key 'nets[0].tcp': must hold strings, not an integer" },
		{ "{\"nets\": [{\"user\": true, \"tcp\": [\"x\"]}]}",
		  "config 'f': key 'nets[0].tcp': must be HOST_PORT:GUEST_PORT" },
		{ "{\"nets\": [{\"user\": false}]}", "config 'f': key 'nets[0]': needs one of tap, fd and user" },
		{ "{\"nets\": [7]}", "config 'f': key 'nets[0]': must be an object" },
		{ "{\"nets\": [{\"tip\": \"a\"}]}", "unknown key 'nets[0].tip'; did you mean 'tap'?" },
		{ "{\"nets\": [{\"fd\": 1}]}", "key 'nets[0].fd': must be the number" },
	};

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(bad); i++) {
		assert_int_equal(config_read_text(&conf, bad[i].text, strlen(bad[i].text), "f", &err), -EINVAL);
		if (!strstr(err.text, bad[i].says))
			fail_msg("'%s': %s", bad[i].text, err.text);
	}
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_specs), T(test_refused), T(test_bounds), T(test_check), T(test_json), T(test_json_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
