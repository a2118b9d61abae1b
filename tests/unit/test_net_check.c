/* The header before a frame: every kind of offload under every set of features, against a model; every number at its edge. */
#include <linux/virtio_net.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "virtio/net_backend.h"
#include "virtio/net_check.h"
#include "vmm/base/util.h"

#define BIT(name) (1ULL << VIRTIO_NET_F_##name)
#define HDR 12U

static uint8_t bytes[HDR + NET_FRAME_MAX + 1];

/* A chain with a header and len bytes, cut after `cut` bytes, too. */
static struct virtq_chain chain_of(const struct virtio_net_hdr_v1 *h, uint32_t len, uint32_t cut)
{
	struct virtq_chain c = { .out_len = HDR + len };

	memcpy(bytes, h, HDR);
	if (cut > 0 && cut < HDR + len)
		c.iov[c.num_out++] = (struct iovec){ bytes, cut };
	else
		cut = 0;
	c.iov[c.num_out++] = (struct iovec){ bytes + cut, HDR + len - cut };
	return c;
}

static bool check(const struct virtio_net_hdr_v1 *h, uint32_t len, uint64_t features)
{
	struct virtq_chain c = chain_of(h, len, 0);
	struct virtio_net_hdr_v1 out;

	return net_check_tx(&out, &c, features);
}

/* What §5.1.6.2 allows, said another way. */
static bool model(unsigned flags, unsigned gso, uint64_t features)
{
	uint64_t need = flags & 1 ? BIT(CSUM) : 0;

	if (gso == 0)
		return (features & need) == need;
	if (gso & 0x80)
		need |= BIT(HOST_ECN);
	switch (gso & 0x7f) {
	case 1:
		need |= BIT(HOST_TSO4);
		break;
	case 4:
		need |= BIT(HOST_TSO6);
		break;
	case 5:
		need |= 1ULL << 56;
		break;
	default:
		return false;
	}
	return flags & 1 && gso != 0x85 && (features & need) == need;
}

static void test_features_and_kinds(void **state)
{
	static const uint64_t feature[] = { BIT(CSUM),	BIT(HOST_TSO4), BIT(HOST_TSO6), BIT(HOST_ECN),
					    1ULL << 56, BIT(HOST_UFO),	BIT(GUEST_TSO4) };

	(void)state;
	for (unsigned set = 0; set < 1U << MF_ARRAY_SIZE(feature); set++) {
		uint64_t features = 0;

		for (unsigned i = 0; i < MF_ARRAY_SIZE(feature); i++)
			features |= set >> i & 1 ? feature[i] : 0;
		for (unsigned gso = 0; gso < 256; gso++) {
			for (unsigned flags = 0; flags < 8; flags++) {
				struct virtio_net_hdr_v1 h = { .flags = (uint8_t)flags,
							       .gso_type = (uint8_t)gso,
							       .gso_size = 1000,
							       .hdr_len = 54,
							       .csum_start = 34,
							       .csum_offset = 16 };

				assert_int_equal(check(&h, 3000, features), model(flags, gso, features));
			}
		}
	}
}

static void test_numbers(void **state)
{
	const uint64_t all = UINT64_MAX;
	static const struct {
		struct virtio_net_hdr_v1 h;
		uint32_t len;
		bool good;
	} grid[] = {
		{ { .flags = 1, .csum_start = 58, .csum_offset = 0 }, 60, true },
		{ { .flags = 1, .csum_start = 59, .csum_offset = 0 }, 60, false },
		{ { .flags = 1, .csum_start = 0, .csum_offset = 58 }, 60, true },
		{ { .flags = 1, .csum_start = 0, .csum_offset = 59 }, 60, false },
		{ { .flags = 1, .csum_start = 65535, .csum_offset = 65535 }, 65550, false },
		{ { .flags = 1, .csum_start = 65535, .csum_offset = 2 }, 65550, true },
		{ { .flags = 0, .csum_start = 65535, .csum_offset = 65535 }, 60, true }, /* not looked at */
		{ { .flags = 1, .gso_type = 1, .gso_size = 0, .hdr_len = 54 }, 1000, false },
		{ { .flags = 1, .gso_type = 1, .gso_size = 1, .hdr_len = 54 }, 1000, true },
		{ { .flags = 1, .gso_type = 1, .gso_size = 1, .hdr_len = 1000 }, 1000, true },
		{ { .flags = 1, .gso_type = 1, .gso_size = 1, .hdr_len = 1001 }, 1000, false },
		{ { .flags = 1, .gso_type = 1, .gso_size = 65535, .hdr_len = 0 }, 1000, true },
		{ { .num_buffers = 65535 }, 60, true },
		{ { .hdr_len = 65535, .gso_size = 65535 }, 60, true },
	};

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(grid); i++)
		assert_int_equal(check(&grid[i].h, grid[i].len, all), grid[i].good);
}

/* What continues has nothing in it that was not judged. */
static void test_only_checked_fields_pass(void **state)
{
	struct virtio_net_hdr_v1 h = {
		.flags = 6, .hdr_len = 9, .gso_size = 9, .csum_start = 9, .csum_offset = 9, .num_buffers = 9
	};
	struct virtq_chain c = chain_of(&h, 60, 0);
	struct virtio_net_hdr_v1 out, zero = { 0 };

	(void)state;
	memset(&out, 0xff, sizeof(out));
	assert_true(net_check_tx(&out, &c, UINT64_MAX));
	assert_memory_equal(&out, &zero, sizeof(zero));
	h.flags = 7;
	c = chain_of(&h, 60, 0);
	assert_true(net_check_tx(&out, &c, UINT64_MAX));
	assert_int_equal(out.flags, 1);
	assert_int_equal(out.csum_start, 9);
	assert_int_equal(out.csum_offset, 9);
	assert_int_equal(out.hdr_len, 0);
	assert_int_equal(out.num_buffers, 0);
}

/* The framing is the driver's affair: the header may be cut anywhere, and the answer is the same. */
static void test_cuts_and_lengths(void **state)
{
	struct virtio_net_hdr_v1 h = {
		.flags = 1, .gso_type = 1, .gso_size = 500, .hdr_len = 54, .csum_start = 34, .csum_offset = 16
	};
	struct virtio_net_hdr_v1 out;

	(void)state;
	for (uint32_t cut = 0; cut < 20; cut++) {
		struct virtq_chain c = chain_of(&h, 1000, cut);

		assert_true(net_check_tx(&out, &c, UINT64_MAX));
		assert_int_equal(out.gso_size, 500);
		assert_false(net_check_tx(&out, &c, 0));
	}
	h = (struct virtio_net_hdr_v1){ 0 };
	for (uint32_t len = 0; len < 100; len++)
		assert_int_equal(check(&h, len, 0), len >= 14);
	assert_true(check(&h, NET_FRAME_MAX, 0));
	assert_false(check(&h, NET_FRAME_MAX + 1, 0));
	for (uint32_t len = 0; len < HDR; len++) {
		struct virtq_chain c = { .num_out = 1, .out_len = len, .iov[0] = { bytes, len } };

		assert_false(net_check_tx(&out, &c, UINT64_MAX));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_features_and_kinds),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_only_checked_fields_pass),
		cmocka_unit_test(test_cuts_and_lengths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
