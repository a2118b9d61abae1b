/*
 * The walls of a user network: each rule, each kind of malformed frame, answers of published ports, and the frame that
 * tells the guest. Frames are built here byte by byte.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/net_frames.h"
#include "virtio/net_filter.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"

static struct net_filter *filter;
static struct net_rule rules[16];
static struct in6_addr own[8];
static struct net_filter_params params = { .id = "net0", .rules = rules, .own = own };

static struct in6_addr address(const char *text)
{
	struct in6_addr a = { .s6_addr = { [10] = 0xff, [11] = 0xff } };

	if (strchr(text, ':'))
		assert_int_equal(inet_pton(AF_INET6, text, &a), 1);
	else
		assert_int_equal(inet_pton(AF_INET, text, a.s6_addr + 12), 1);
	return a;
}

static void add_ports(bool allow, const char *net, unsigned prefix, unsigned first, unsigned last, unsigned protocols)
{
	rules[params.num_rules++] = (struct net_rule){ .net = address(net),
						       .prefix = (uint8_t)(prefix + (strchr(net, ':') ? 0 : 96)),
						       .protocols = (uint8_t)protocols,
						       .allow = allow,
						       .first = (uint16_t)first,
						       .last = (uint16_t)last };
}

static void add(bool allow, const char *net, unsigned prefix)
{
	add_ports(allow, net, prefix, 0, UINT16_MAX, NET_RULE_ALL);
}

static void add_own(const char *text)
{
	own[params.num_own++] = address(text);
}

static void make(void)
{
	struct err e;

	net_filter_free(filter);
	filter = NULL;
	assert_int_equal(net_filter_new(&filter, &params, &e), 0);
}

static int setup(void **state)
{
	(void)state;
	params.num_rules = params.num_own = 0;
	params.answers = false;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	net_filter_free(filter);
	filter = NULL;
	return 0;
}

/* The filter sees exactly the bytes that the backend copies, so that a read beyond them is found (ASan). */
static enum net_verdict check(const struct frame *f)
{
	size_t len = MF_MIN(f->len, NET_FILTER_HEAD);
	uint8_t *head = malloc(len);
	enum net_verdict v;

	assert_non_null(head);
	memcpy(head, f->bytes, len);
	v = net_filter_check(filter, head, f->len);
	free(head);
	return v;
}

static void note(const struct frame *f)
{
	net_filter_note(filter, f->bytes, f->len);
}

#define SYN(to, port) frame_tcp("10.0.2.15", to, 40000, port, FRAME_SYN)
#define SYN6(to, port) frame_tcp("fd00::15", to, 40000, port, FRAME_SYN)

static void assert_verdict(struct frame f, enum net_verdict verdict)
{
	assert_int_equal(check(&f), verdict);
}

static void test_no_rule_passes(void **state)
{
	(void)state;
	make();
	assert_verdict(SYN("192.0.2.1", 80), NET_PASS);
	assert_verdict(SYN6("2001:db8::1", 80), NET_PASS);
	assert_verdict(frame_udp("10.0.2.15", "192.0.2.1", 1, 53), NET_PASS);
	assert_verdict(frame_ping("10.0.2.15", "192.0.2.1"), NET_PASS);
	assert_verdict(frame_ping("fd00::15", "2001:db8::1"), NET_PASS);
	assert_verdict(frame_arp(), NET_PASS);
}

static void test_prefixes(void **state)
{
	(void)state;
	add(false, "10.0.0.0", 8);
	add(false, "169.254.0.0", 15);
	add(false, "192.0.2.1", 32);
	add(false, "fe80::", 10);
	add(false, "2001:db8:0:1::", 64);
	add(false, "2001:db8:0:2:8000::", 65);
	make();
	assert_verdict(SYN("9.255.255.255", 1), NET_PASS);
	assert_verdict(SYN("10.0.0.0", 1), NET_REFUSE);
	assert_verdict(SYN("10.255.255.255", 1), NET_REFUSE);
	assert_verdict(SYN("11.0.0.0", 1), NET_PASS);
	assert_verdict(SYN("169.255.255.255", 1), NET_REFUSE);
	assert_verdict(SYN("169.253.255.255", 1), NET_PASS);
	assert_verdict(SYN("192.0.2.0", 1), NET_PASS);
	assert_verdict(SYN("192.0.2.1", 1), NET_REFUSE);
	assert_verdict(SYN("192.0.2.2", 1), NET_PASS);
	assert_verdict(SYN6("febf:ffff::1", 1), NET_REFUSE);
	assert_verdict(SYN6("fec0::1", 1), NET_PASS);
	assert_verdict(SYN6("2001:db8:0:1:ffff:ffff:ffff:ffff", 1), NET_REFUSE);
	assert_verdict(SYN6("2001:db8::", 1), NET_PASS);
	assert_verdict(SYN6("2001:db8:0:2:7fff::", 1), NET_PASS);
	assert_verdict(SYN6("2001:db8:0:2:8000::1", 1), NET_REFUSE);
	/* 10.0.0.0/8 is no net of IPv6, and the other way round. */
	assert_verdict(SYN6("a00::1", 1), NET_PASS);
}

/* The longest prefix, then the fewest ports, then the caller's order; whatever order they come in. */
static void test_most_specific_decides(void **state)
{
	(void)state;
	for (unsigned turn = 0; turn < 2; turn++) {
		params.num_rules = 0;
		if (turn == 1)
			add_ports(true, "10.1.2.3", 32, 443, 443, NET_RULE_TCP | NET_RULE_UDP);
		add(false, "::", 0);
		add(true, "10.0.0.0", 8);
		add(false, "10.1.0.0", 16);
		add_ports(false, "10.9.9.9", 32, 20, 30, NET_RULE_TCP | NET_RULE_UDP);
		add_ports(true, "10.9.9.9", 32, 22, 22, NET_RULE_TCP | NET_RULE_UDP);
		add(true, "2001:db8::", 32);
		if (turn == 0)
			add_ports(true, "10.1.2.3", 32, 443, 443, NET_RULE_TCP | NET_RULE_UDP);
		make();
		assert_verdict(SYN("192.0.2.1", 443), NET_REFUSE);
		assert_verdict(SYN("10.2.0.1", 443), NET_PASS);
		assert_verdict(SYN("10.1.2.4", 443), NET_REFUSE);
		assert_verdict(SYN("10.1.2.3", 443), NET_PASS);
		assert_verdict(SYN("10.1.2.3", 444), NET_REFUSE);
		assert_verdict(SYN("10.9.9.9", 19), NET_PASS);
		assert_verdict(SYN("10.9.9.9", 20), NET_REFUSE);
		assert_verdict(SYN("10.9.9.9", 22), NET_PASS);
		assert_verdict(SYN("10.9.9.9", 30), NET_REFUSE);
		assert_verdict(SYN("10.9.9.9", 31), NET_PASS);
		assert_verdict(SYN6("2001:db8::5", 1), NET_PASS);
		assert_verdict(SYN6("2001:db9::5", 1), NET_REFUSE);
	}
	params.num_rules = 0;
	add(false, "10.0.0.0", 8);
	add(true, "10.0.0.0", 8);
	make();
	assert_verdict(SYN("10.0.0.1", 1), NET_REFUSE);
}

static void test_protocols_and_ports(void **state)
{
	(void)state;
	add(false, "10.0.0.0", 8);
	add_ports(true, "10.0.2.2", 32, 5432, 5432, NET_RULE_TCP);
	add_ports(true, "10.0.2.3", 32, 53, 53, NET_RULE_TCP | NET_RULE_UDP);
	add_ports(true, "10.0.0.9", 32, 0, UINT16_MAX, NET_RULE_ALL);
	make();
	assert_verdict(SYN("10.0.2.2", 5432), NET_PASS);
	assert_verdict(frame_udp("10.0.2.15", "10.0.2.2", 9, 5432), NET_REFUSE);
	assert_verdict(frame_ping("10.0.2.15", "10.0.2.2"), NET_REFUSE);
	/* The guest's own port is not the one that counts. */
	assert_verdict(frame_tcp("10.0.2.15", "10.0.2.2", 5432, 22, FRAME_SYN), NET_REFUSE);
	assert_verdict(frame_udp("10.0.2.15", "10.0.2.3", 9, 53), NET_PASS);
	assert_verdict(SYN("10.0.2.3", 53), NET_PASS);
	assert_verdict(SYN("10.0.2.3", 54), NET_REFUSE);
	assert_verdict(frame_ping("10.0.2.15", "10.0.0.9"), NET_PASS);
	assert_verdict(SYN("10.0.0.9", 65535), NET_PASS);
}

/* Only what opens a connection is decided about: a published port has peers anywhere. */
static void test_segments_of_connections(void **state)
{
	static const struct {
		uint8_t flags;
		enum net_verdict verdict;
	} cases[] = { { FRAME_SYN, NET_REFUSE },
		      { FRAME_SYN | 0x01, NET_REFUSE },
		      { FRAME_SYN | 0x04, NET_REFUSE },
		      { FRAME_SYN | 0xe8, NET_REFUSE },
		      { FRAME_SYN | FRAME_ACK, NET_PASS },
		      { FRAME_ACK, NET_PASS },
		      { 0x04, NET_PASS },
		      { 0, NET_PASS } };

	(void)state;
	add(false, "::", 0);
	make();
	for (size_t i = 0; i < MF_ARRAY_SIZE(cases); i++) {
		assert_verdict(frame_tcp("10.0.2.15", "192.168.1.1", 80, 40000, cases[i].flags), cases[i].verdict);
		assert_verdict(frame_tcp("fd00::15", "fd01::1", 80, 40000, cases[i].flags), cases[i].verdict);
	}
}

/* The host's own are closed, and no wider rule opens one. */
static void test_own_addresses(void **state)
{
	static const char *const addresses[] = { "192.168.1.5", "2001:db8::5", "10.9.0.1", "192.168.1.4",
						 "172.17.0.1" };

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(addresses); i++)
		add_own(addresses[i]);
	add(true, "192.168.0.0", 16);
	add(true, "10.9.0.1", 32);
	add_ports(true, "192.168.1.4", 32, 22, 22, NET_RULE_TCP);
	make();
	assert_verdict(SYN("192.168.1.5", 22), NET_REFUSE);
	assert_verdict(SYN("172.17.0.1", 22), NET_REFUSE);
	assert_verdict(SYN("192.168.1.6", 22), NET_PASS);
	assert_verdict(SYN6("2001:db8::5", 22), NET_REFUSE);
	assert_verdict(frame_ping("fd00::15", "2001:db8::5"), NET_REFUSE);
	assert_verdict(SYN6("2001:db8::6", 22), NET_PASS);
	assert_verdict(SYN("10.9.0.1", 22), NET_PASS);
	assert_verdict(SYN("192.168.1.4", 22), NET_PASS);
	assert_verdict(SYN("192.168.1.4", 23), NET_REFUSE);
}

/* Ways to an IPv4 address by IPv6. */
static void test_ipv4_in_ipv6(void **state)
{
	(void)state;
	add(false, "10.0.0.0", 8);
	add(false, "64:ff9b::c000:0200", 120);
	make();
	assert_verdict(SYN6("::ffff:192.0.2.1", 80), NET_DROP);
	assert_verdict(SYN6("::ffff:10.0.0.1", 80), NET_DROP);
	assert_verdict(SYN6("64:ff9b::10.0.0.1", 80), NET_REFUSE);
	assert_verdict(SYN6("64:ff9b::192.0.2.1", 80), NET_REFUSE);
	assert_verdict(SYN6("64:ff9b::192.0.3.1", 80), NET_PASS);
	assert_verdict(SYN6("64:ff9b:0:0:0:1:10.0.0.1", 80), NET_PASS);
}

static void test_neighbour_discovery_passes(void **state)
{
	(void)state;
	add(false, "::", 0);
	make();
	for (unsigned type = 0; type < 256; type++) {
		struct frame f = frame_ping("fe80::1", "ff02::2");

		f.bytes[14 + 40] = (uint8_t)type;
		assert_int_equal(check(&f), type >= 133 && type <= 136 ? NET_PASS :
					    type == 128		       ? NET_REFUSE :
									 NET_DROP);
	}
	/* These are types of ICMPv6 only. */
	for (unsigned type = 0; type < 256; type++) {
		struct frame f = frame_ping("10.0.2.15", "10.0.2.2");

		f.bytes[14 + 20] = (uint8_t)type;
		assert_int_equal(check(&f), type == 8 ? NET_REFUSE : NET_DROP);
	}
	assert_verdict(frame_arp(), NET_PASS);
}

static struct frame with(struct frame f, unsigned at, uint8_t value)
{
	f.bytes[at] = value;
	return f;
}

static struct frame cut(struct frame f, uint32_t len)
{
	f.len = len;
	return f;
}

/* What passt may read in another way than we do never reaches it. */
static void test_malformed(void **state)
{
	const struct frame tcp4 = SYN("192.0.2.1", 80), tcp6 = SYN6("2001:db8::1", 80),
			   udp4 = frame_udp("10.0.2.15", "192.0.2.1", 1, 2),
			   udp6 = frame_udp("fd00::15", "2001:db8::1", 1, 2);
	struct frame options = tcp4;

	(void)state;
	make();
	for (unsigned type = 0; type < 65536; type++) {
		struct frame f = with(with(tcp4, 12, (uint8_t)(type >> 8)), 13, (uint8_t)type);
		enum net_verdict v = check(&f);

		assert_int_equal(v, type == 0x0800 || type == 0x0806 ? NET_PASS : NET_DROP); /* no VLAN, no 802.3 */
	}
	for (uint32_t len = 0; len < tcp4.len; len++)
		assert_verdict(cut(tcp4, len), NET_DROP);
	for (uint32_t len = 0; len < tcp6.len; len++)
		assert_verdict(cut(tcp6, len), NET_DROP);
	for (unsigned version = 0; version < 16; version++) {
		assert_verdict(with(tcp4, 14, (uint8_t)(version << 4 | 5)), version == 4 ? NET_PASS : NET_DROP);
		assert_verdict(with(tcp6, 14, (uint8_t)(version << 4)), version == 6 ? NET_PASS : NET_DROP);
	}
	for (unsigned words = 0; words < 16; words++)
		assert_verdict(with(tcp4, 14, (uint8_t)(0x40 | words)), words == 5 ? NET_PASS : NET_DROP);
	for (unsigned len = 0; len < 256; len++) {
		assert_verdict(with(tcp4, 17, (uint8_t)len), len == 40 ? NET_PASS : NET_DROP);
		assert_verdict(with(udp4, 17, (uint8_t)len), len == 28 ? NET_PASS : NET_DROP);
		assert_verdict(with(tcp6, 19, (uint8_t)len), len == 20 ? NET_PASS : NET_DROP);
		assert_verdict(with(udp6, 19, (uint8_t)len), len == 8 ? NET_PASS : NET_DROP);
	}
	/* Fragments: the first, one in the middle, the last; DF is none. */
	assert_verdict(with(tcp4, 20, 0x40), NET_PASS);
	assert_verdict(with(tcp4, 20, 0x20), NET_DROP);
	assert_verdict(with(tcp4, 21, 0x01), NET_DROP);
	assert_verdict(with(tcp4, 20, 0x1f), NET_DROP);
	/* Every other protocol, and with it each extension header. */
	for (unsigned protocol = 0; protocol < 256; protocol++) {
		assert_verdict(with(tcp4, 23, (uint8_t)protocol),
			       protocol == 6 || protocol == 17 ? NET_PASS : NET_DROP);
		assert_verdict(with(tcp6, 20, (uint8_t)protocol),
			       protocol == 6 || protocol == 17 ? NET_PASS : NET_DROP);
	}
	/* Options: the ports are behind them. */
	for (unsigned words = 6; words < 16; words++) {
		unsigned more = (words - 5) * 4;

		options = tcp4;
		memmove(options.bytes + 34 + more, options.bytes + 34, 20);
		memset(options.bytes + 34, 1, more);
		options.bytes[14] = (uint8_t)(0x40 | words);
		options.bytes[17] = (uint8_t)(40 + more);
		options.len += more;
		assert_verdict(options, NET_PASS);
		params.num_rules = 0;
		add_ports(false, "192.0.2.1", 32, 80, 80, NET_RULE_TCP);
		make();
		assert_verdict(options, NET_REFUSE);
		params.num_rules = 0;
		make();
	}
	/* Padding behind the packet is none of its bytes. */
	assert_verdict(cut(tcp4, tcp4.len + 6), NET_PASS);
}

/* A datagram from a denied address opens the way back, for that port and peer alone. */
static void test_answers(void **state)
{
	const struct frame in = frame_udp("192.168.1.7", "10.0.2.15", 5353, 53),
			   in6 = frame_udp("fe80::7", "fd00::15", 5353, 53),
			   none = frame_udp("192.168.1.9", "10.0.2.15", 0, 53);

	(void)state;
	add(false, "::", 0);
	make();
	assert_false(net_filter_notes(filter));
	assert_false(net_filter_notes(NULL));
	params.answers = true;
	make();
	assert_true(net_filter_notes(filter));
	assert_verdict(frame_udp("10.0.2.15", "192.168.1.7", 53, 5353), NET_REFUSE);
	note(&in);
	assert_verdict(frame_udp("10.0.2.15", "192.168.1.7", 53, 5353), NET_PASS);
	assert_verdict(frame_udp("10.0.2.15", "192.168.1.7", 54, 5353), NET_REFUSE);
	assert_verdict(frame_udp("10.0.2.15", "192.168.1.7", 53, 5354), NET_REFUSE);
	assert_verdict(frame_udp("10.0.2.15", "192.168.1.8", 53, 5353), NET_REFUSE);
	assert_verdict(SYN("192.168.1.7", 5353), NET_REFUSE);
	assert_verdict(frame_udp("fd00::15", "fe80::7", 53, 5353), NET_REFUSE);
	note(&in6);
	assert_verdict(frame_udp("fd00::15", "fe80::7", 53, 5353), NET_PASS);
	assert_verdict(frame_udp("10.0.2.15", "192.168.1.7", 53, 5353), NET_PASS);
	note(&none);
	assert_verdict(frame_udp("10.0.2.15", "192.168.1.9", 53, 0), NET_REFUSE);
	/* An empty slot is nobody's. */
	assert_verdict(frame_udp("fd00::15", "::", 0, 0), NET_REFUSE);
	/* What is no datagram has no sender. */
	for (uint32_t len = 0; len < in.len; len++) {
		struct frame f = frame_udp("192.168.1.10", "10.0.2.15", 7, 7);

		f.len = len;
		note(&f);
	}
	assert_verdict(frame_udp("10.0.2.15", "192.168.1.10", 7, 7), NET_REFUSE);
}

/* The answer: from the address that was asked for, with correct sums, quoting the headers. */
static void test_answer_frames(void **state)
{
	uint8_t answer[NET_FILTER_ANSWER];
	struct frame f = SYN("169.254.169.254", 80);
	uint32_t len;

	(void)state;
	len = net_filter_answer(answer, f.bytes);
	assert_int_equal(len, 14 + 20 + 8 + 20 + 8);
	assert_memory_equal(answer, f.bytes + 6, 6);
	assert_memory_equal(answer + 6, f.bytes, 6);
	assert_memory_equal(answer + 12, "\x08\x00\x45", 3);
	assert_int_equal(answer[16] << 8 | answer[17], len - 14);
	assert_memory_equal(answer + 26, f.bytes + 30, 4);
	assert_memory_equal(answer + 30, f.bytes + 26, 4);
	assert_int_equal(answer[23], IPPROTO_ICMP);
	assert_int_equal(frame_sum(0, answer + 14, 20), 0xffff);
	assert_memory_equal(answer + 34, "\x03\x0d", 2);
	assert_int_equal(frame_sum(0, answer + 34, len - 34), 0xffff);
	assert_memory_equal(answer + 42, f.bytes + 14, 28);

	f = frame_udp("fd00::15", "fe80::99", 5, 6);
	len = net_filter_answer(answer, f.bytes);
	assert_int_equal(len, 14 + 40 + 8 + 40 + 8);
	assert_memory_equal(answer + 12, "\x86\xdd\x60", 3);
	assert_int_equal(answer[18] << 8 | answer[19], len - 54);
	assert_memory_equal(answer + 22, f.bytes + 38, 16);
	assert_memory_equal(answer + 38, f.bytes + 22, 16);
	assert_int_equal(answer[20], IPPROTO_ICMPV6);
	assert_memory_equal(answer + 54, "\x01\x01", 2);
	assert_int_equal(frame_sum(len - 54 + IPPROTO_ICMPV6, answer + 22, len - 22), 0xffff);
	assert_memory_equal(answer + 62, f.bytes + 14, 48);

	/* All options are quoted, and fit. */
	f = with(SYN("192.0.2.1", 1), 14, 0x4f);
	assert_int_equal(net_filter_answer(answer, f.bytes), 14 + 20 + 8 + 60 + 8);
	/* Many, or all, are asked: nobody answers. */
	f = frame_udp("10.0.2.15", "224.0.0.251", 5, 6);
	assert_int_equal(net_filter_answer(answer, f.bytes), 0);
	f = frame_udp("10.0.2.15", "255.255.255.255", 5, 6);
	assert_int_equal(net_filter_answer(answer, f.bytes), 0);
	f = frame_udp("fd00::15", "ff02::1", 5, 6);
	assert_int_equal(net_filter_answer(answer, f.bytes), 0);
	f = with(SYN("192.0.2.1", 1), 0, 0xff);
	assert_int_equal(net_filter_answer(answer, f.bytes), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_no_rule_passes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_prefixes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_most_specific_decides, setup, teardown),
		cmocka_unit_test_setup_teardown(test_protocols_and_ports, setup, teardown),
		cmocka_unit_test_setup_teardown(test_segments_of_connections, setup, teardown),
		cmocka_unit_test_setup_teardown(test_own_addresses, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ipv4_in_ipv6, setup, teardown),
		cmocka_unit_test_setup_teardown(test_neighbour_discovery_passes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_malformed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_answers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_answer_frames, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
