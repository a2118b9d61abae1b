/* The kernel command line: what is composed, where devices go, and the limit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "loader/cmdline.h"
#include "loader/device.h"
#include "loader/layout.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"

#define BASE "console=ttyS0 quiet reboot=k panic=-1 percpu_alloc=page"
#define DEV0 "virtio_mmio.device=4K@0xd0000000:5"
#define DEV1 "virtio_mmio.device=4K@0xd0001000:6"

static const struct loader_device devices[] = { { 0xd0000000, 4096, 5 }, { 0xd0001000, 4096, 6 } };

static struct err err;
static char buf[LAYOUT_CMDLINE_SIZE];

static void composes(const struct cmdline_in *in, const char *want)
{
	memset(buf, 'x', sizeof(buf));
	if (cmdline_compose(buf, sizeof(buf), in, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(buf, want);
}

static void test_composed(void **state)
{
	(void)state;
	composes(&(struct cmdline_in){ .cpus = 1 }, BASE " noreplace-smp");
	composes(&(struct cmdline_in){ .cpus = 2 }, BASE " tsc=reliable");
	composes(&(struct cmdline_in){ .cpus = 1, .init = "/i", .devices = devices, .num_devices = 1, .append = "a" },
		 BASE " noreplace-smp rdinit=/i " DEV0 " a");
	composes(&(struct cmdline_in){ .cpus = 1, .init = "/i", .replace = "b -- c" }, "b rdinit=/i -- c");
	composes(&(struct cmdline_in){ .cpus = 1, .append = "" }, BASE " noreplace-smp");
	composes(&(struct cmdline_in){ .cpus = 1,
				       .has_root = true,
				       .root_read_only = true,
				       .devices = devices,
				       .num_devices = 1,
				       .append = "debug" },
		 BASE " noreplace-smp root=/dev/vda ro " DEV0 " debug");
	composes(&(struct cmdline_in){ .cpus = 32,
				       .has_root = true,
				       .devices = devices,
				       .num_devices = 2,
				       .append = "x -- a b" },
		 BASE " tsc=reliable root=/dev/vda rw " DEV0 " " DEV1 " x -- a b");
}

static void test_replaced(void **state)
{
	static const struct {
		const char *text;
		const char *want;
	} rows[] = {
		{ "", DEV0 },
		{ "  ", DEV0 },
		{ "a b", "a b " DEV0 },
		{ "a  b ", "a  b " DEV0 },
		{ "a -- b c", "a " DEV0 " -- b c" },
		{ "a\t--\tb", "a " DEV0 " --\tb" },
		{ "-- b", DEV0 " -- b" },
		{ "a --", "a " DEV0 " --" },
		{ "a --b c-- d=-- --- e", "a --b c-- d=-- --- e " DEV0 },
		{ "a=\"x -- y\" b", "a=\"x -- y\" b " DEV0 },
		{ "a=\"x -- y\" -- b", "a=\"x -- y\" " DEV0 " -- b" },
		{ "a \"--\" b", "a " DEV0 " \"--\" b" },
		{ "a -- b -- c", "a " DEV0 " -- b -- c" },
		{ "a\xa0--\xa0x", "a " DEV0 " --\xa0x" }, /* a space too, to the kernel */
		{ "a\x85--\x85x", "a\x85--\x85x " DEV0 },
	};

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(rows); i++)
		composes(&(struct cmdline_in){ .cpus = 1,
					       .has_root = true,
					       .devices = devices,
					       .num_devices = 1,
					       .replace = rows[i].text },
			 rows[i].want);
	composes(&(struct cmdline_in){ .cpus = 1, .replace = "" }, "");
	composes(&(struct cmdline_in){ .cpus = 1, .replace = "a", .append = "b" }, "a b");
}

static void test_limit(void **state)
{
	static char text[LAYOUT_CMDLINE_SIZE * 2];
	struct cmdline_in in = { .cpus = 1, .replace = text };

	(void)state;
	memset(text, 'a', LAYOUT_CMDLINE_SIZE - 1);
	composes(&in, text);
	text[LAYOUT_CMDLINE_SIZE - 1] = 'a';
	assert_int_equal(cmdline_compose(buf, sizeof(buf), &in, &err), -E2BIG);
	assert_string_equal(err.text, "the kernel command line has 2048 bytes; at most 2047 are possible");
	/* The length counts what no longer fits. */
	in.devices = devices;
	in.num_devices = 2;
	in.append = "b";
	assert_int_equal(cmdline_compose(buf, sizeof(buf), &in, &err), -E2BIG);
	assert_string_equal(err.text, "the kernel command line has 2120 bytes; at most 2047 are possible");
}

/* Every size of the buffer that is too small is refused, and nothing is written behind it. */
static void test_small_buffers(void **state)
{
	const struct cmdline_in in = {
		.cpus = 1, .has_root = true, .devices = devices, .num_devices = 2, .append = "x"
	};
	char small[256];
	size_t full;

	(void)state;
	assert_int_equal(cmdline_compose(buf, sizeof(buf), &in, &err), 0);
	full = strlen(buf);
	for (size_t size = 0; size <= full; size++) {
		memset(small, '#', sizeof(small));
		assert_int_equal(cmdline_compose(small, size, &in, &err), -E2BIG);
		for (size_t i = size; i < sizeof(small); i++)
			assert_int_equal(small[i], '#');
	}
	assert_int_equal(cmdline_compose(small, full + 1, &in, &err), 0);
	assert_string_equal(small, buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_composed),
		cmocka_unit_test(test_replaced),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_small_buffers),
	};

	return cmocka_run_group_tests_name("cmdline", tests, NULL, NULL);
}
