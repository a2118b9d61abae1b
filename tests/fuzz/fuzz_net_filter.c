/*
 * Fuzzes the walls of a user network with a frame, and with a datagram before it. Beside memory errors, what passes must
 * hold what it claims when it is looked at in another way: a frame that opens a way to a closed address never passes.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/input.h"
#include "virtio/net_filter.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* 10.0.0.0/8 but for TCP port 80, and fe80::/10; the host is 192.0.2.1. */
static const struct net_rule rules[] = {
	{ .net.s6_addr = { [10] = 0xff, [11] = 0xff, [12] = 10 },
	  .prefix = 104,
	  .protocols = NET_RULE_ALL,
	  .last = UINT16_MAX },
	{ .net.s6_addr = { [10] = 0xff, [11] = 0xff, [12] = 10 },
	  .prefix = 104,
	  .protocols = NET_RULE_TCP,
	  .allow = true,
	  .first = 80,
	  .last = 80 },
	{ .net.s6_addr = { 0xfe, 0x80 }, .prefix = 10, .protocols = NET_RULE_ALL, .last = UINT16_MAX },
};
static const struct in6_addr own = { .s6_addr = { [10] = 0xff, [11] = 0xff, [12] = 192, [14] = 2, [15] = 1 } };

/* Looks for the packet from its end: whether it opens a way to an address that is closed. */
static bool opens_closed(const uint8_t *f, size_t len)
{
	const bool v6 = f[12] == 0x86;
	const uint8_t *ip = f + 14, *to, *l4;
	uint8_t protocol;

	if (f[12] == 0x08 && f[13] == 0x06)
		return false;
	to = ip + (v6 ? 24 : 16);
	l4 = ip + (v6 ? 40 : (ip[0] & 15) * 4);
	protocol = ip[v6 ? 6 : 9];
	assert((v6 && f[13] == 0xdd) || (f[12] == 0x08 && f[13] == 0x00));
	assert(l4 + 8 <= f + len);
	assert(protocol == 6 || protocol == 17 || protocol == (v6 ? 58 : 1));
	assert(v6 || (!(ip[6] & 0x3f) && !ip[7]));
	if (protocol == 6) {
		assert(l4 + 20 <= f + len);
		if ((l4[13] & 0x12) != 2)
			return false;
	}
	if (v6 && protocol == 58 && l4[0] >= 133 && l4[0] <= 136)
		return false;
	if (v6)
		return to[0] == 0xfe && to[1] >> 6 == 2;
	if (to[0] == 10)
		return protocol != 6 || l4[2] != 0 || l4[3] != 80;
	return to[0] == 192 && to[1] == 0 && to[2] == 2 && to[3] == 1;
}

static uint8_t *take(struct input *in, uint32_t *ret_len)
{
	const uint16_t len = input_u16(in);
	uint8_t *head;

	/* The filter gets so many bytes, in a buffer of that size; a frame may be longer. */
	*ret_len = len;
	head = malloc(len ? MF_MIN(len, NET_FILTER_HEAD) : 1);
	assert(head);
	input_bytes(in, head, MF_MIN(len, NET_FILTER_HEAD));
	return head;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct net_filter_params params = { .id = "fuzz",
						  .rules = rules,
						  .num_rules = MF_ARRAY_SIZE(rules),
						  .own = &own,
						  .num_own = 1,
						  .answers = true };
	struct input in = { .at = data, .left = size };
	uint8_t answer[NET_FILTER_ANSWER], *head;
	struct net_filter *f;
	bool noted;
	uint32_t len;
	struct err e;

	log_setup(LOG_LEVEL_ERROR, -1);
	if (net_filter_new(&f, &params, &e) < 0)
		return 0;
	noted = input_u8(&in) & 1;
	if (noted) {
		head = take(&in, &len);
		net_filter_note(f, head, len);
		free(head);
	}
	head = take(&in, &len);
	switch (net_filter_check(f, head, len)) {
	case NET_PASS:
		assert(noted || !opens_closed(head, len));
		break;
	case NET_REFUSE:
		assert(opens_closed(head, len) || head[12] == 0x86); /* or NAT64 */
		assert(net_filter_answer(answer, head) <= sizeof(answer));
		break;
	case NET_DROP:
		break;
	}
	free(head);
	net_filter_free(f);
	return 0;
}
