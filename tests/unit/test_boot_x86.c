/*
 * What the kernel finds at its entry point, read back at the offsets that the protocols document (Linux: boot.rst and
 * zero-page.rst; PVH: start_info.h), and the page tables and descriptors as a CPU reads them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "loader/boot_x86.h"
#include "loader/kernel.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/core/mem.h"

static const struct kernel_image linux_kernel = {
	.entry = 0x1000123,
	.has_pvh = true,
	.pvh_entry = 0x1000000,
	.is_linux = true,
	.lowest = 0x1000000,
	.highest = 0x1c16000,
};

static struct mem ram;
static struct err err;
static struct boot_regs regs;
static uint8_t seed[BOOT_SEED_SIZE];
static char long_text[2049];

static int setup_size(uint64_t size)
{
	err = (struct err){ 0 };
	for (unsigned i = 0; i < sizeof(seed); i++)
		seed[i] = (uint8_t)(i + 1);
	return mem_init(&ram, size, &err);
}

static int setup(void **state)
{
	(void)state;
	return setup_size(128 * MIB);
}

static int setup_large(void **state)
{
	(void)state;
	return setup_size(5 * GIB);
}

static int teardown(void **state)
{
	(void)state;
	mem_done(&ram);
	return 0;
}

static uint64_t get(uint64_t gpa, unsigned len)
{
	const uint8_t *p = mem_at(&ram, gpa, len);
	uint64_t v = 0;

	assert_non_null(p);
	for (unsigned i = 0; i < len; i++)
		v |= (uint64_t)p[i] << 8 * i;
	return v;
}

static void boots(const struct boot_in *in)
{
	if (boot_write(&regs, &ram, in, &err) < 0)
		fail_msg("%s", err.text);
}

/* gpa lies in memory that Linux reserves from the start. */
static void assert_low(uint64_t gpa)
{
	assert_in_range(gpa, 0x1000, 0xffff);
}

static void assert_e820(uint64_t zero_page, unsigned i, uint64_t gpa, uint64_t size)
{
	uint64_t at = zero_page + 0x2d0 + 20 * i;

	assert_int_equal(get(at, 8), gpa);
	assert_int_equal(get(at + 8, 8), size);
	assert_int_equal(get(at + 16, 4), 1);
}

static void assert_descriptor(unsigned selector, uint64_t want)
{
	assert_true(selector + 7U <= regs.gdt_limit);
	assert_int_equal(get(regs.gdt_gpa + selector, 8), want);
}

/* The node of docs/guest-interface.md, the last of the list. Its two addresses are in no memory map. */
static void assert_mayfly_node(uint64_t node)
{
	assert_low(node);
	assert_int_equal(get(node, 8), 0);
	assert_int_equal(get(node + 8, 4), 0x796c664d);
	assert_int_equal(get(node + 12, 4), 40);
	assert_in_range(get(node + 16, 8), 0xa0000, 0xfffff - 15);
	assert_in_range(get(node + 24, 8), 0xa0000, 0xfffff - 3 * 4 + 1);
	assert_int_equal(get(node + 32, 8), 0xd0000000);
	assert_int_equal(get(node + 40, 4), 0x1000);
	assert_int_equal(get(node + 44, 4), 3);
	assert_int_equal(get(node + 48, 4), 3); /* RAM is zero, the I/O APIC is reset */
}

static void test_linux64(void **state)
{
	const char *cmdline = "console=ttyS0 panic=-1";
	const struct boot_in in = {
		.kernel = &linux_kernel,
		.cmdline = cmdline,
		.initrd_gpa = 0x7000000,
		.initrd_size = 0x12345,
		.windows_gpa = 0xd0000000,
		.window_size = 0x1000,
		.num_windows = 3,
		.rng_seed = seed,
	};
	uint64_t zp, node;

	(void)state;
	boots(&in);
	assert_true(regs.long_mode);
	assert_int_equal(regs.rip, 0x1000123);
	zp = regs.rsi;
	assert_low(zp);
	assert_int_equal(get(zp + 0x1ef, 1), 0); /* sentinel */
	assert_int_equal(get(zp + 0x1fe, 2), 0xaa55);
	assert_int_equal(get(zp + 0x202, 4), 0x53726448);
	assert_true(get(zp + 0x206, 2) >= 0x020c);
	assert_int_equal(get(zp + 0x210, 1), 0xff);
	assert_int_equal(get(zp + 0x211, 1), 1);
	assert_int_equal(get(zp + 0x218, 4), 0x7000000);
	assert_int_equal(get(zp + 0x21c, 4), 0x12345);
	assert_int_equal(get(zp + 0x70, 8), 0); /* no RSDP */
	assert_int_equal(get(zp + 0xc0, 4), 0); /* the upper halves of both and of the command line */
	assert_int_equal(get(zp + 0xc4, 4), 0);
	assert_int_equal(get(zp + 0xc8, 4), 0);
	assert_low(get(zp + 0x228, 4));
	assert_string_equal(mem_at(&ram, get(zp + 0x228, 4), 64), cmdline);
	assert_int_equal(get(zp + 0x230, 4), 0x1000000);
	assert_int_equal(get(zp + 0x238, 4), 2047);
	assert_int_equal(get(zp + 0x23c, 4), 0);
	assert_int_equal(get(zp + 0x1e8, 1), 2);
	assert_e820(zp, 0, 0, 0xa0000);
	assert_e820(zp, 1, 0x200000, 126 * MIB);
	node = get(zp + 0x250, 8);
	assert_low(node);
	assert_int_equal(get(node + 8, 4), 9);
	assert_int_equal(get(node + 12, 4), 32);
	assert_memory_equal(mem_at(&ram, node + 16, 32), seed, 32);
	assert_mayfly_node(get(node, 8));
}

/* A bzImage's setup header goes to boot_params as it is, but for what the loader says; the ACPI tables are named. */
static void test_linux64_of_a_bzimage(void **state)
{
	struct kernel_image k = {
		.entry = 0x1000200,
		.is_linux = true,
		.lowest = 0x1000000,
		.highest = 0x4378000,
		.has_setup = true,
		.setup = {
			.setup_sects = 39,
			.boot_flag = 0xaa55,
			.header = 0x53726448,
			.version = 0x020c,
			.type_of_loader = 0x12,
			.loadflags = 0xff,
			.ramdisk_size = 77,
			.initrd_addr_max = 0x7fffffff,
			.kernel_alignment = 0x200000,
			.cmdline_size = 10,
			.setup_data = 0x1234,
			.pref_address = 0x1000000,
			.init_size = 0x3378000,
		},
	};
	struct boot_in in = { .kernel = &k, .cmdline = "0123456789", .rsdp_gpa = 0xff000 };
	uint64_t zp;

	(void)state;
	boots(&in);
	assert_int_equal(regs.rip, 0x1000200);
	zp = regs.rsi;
	assert_int_equal(get(zp + 0x070, 8), 0xff000);
	assert_int_equal(get(zp + 0x1f1, 1), 39);
	assert_int_equal(get(zp + 0x202, 4), 0x53726448);
	assert_int_equal(get(zp + 0x206, 2), 0x020c);
	assert_int_equal(get(zp + 0x210, 2), 0x01ff);
	assert_int_equal(get(zp + 0x218, 8), 0);
	assert_string_equal(mem_at(&ram, get(zp + 0x228, 4), 64), "0123456789");
	assert_int_equal(get(zp + 0x230, 4), 0x200000);
	assert_int_equal(get(get(zp + 0x250, 8) + 8, 4), 0x796c664d); /* not the file's list */
	assert_int_equal(get(zp + 0x258, 8), 0x1000000);
	assert_int_equal(get(zp + 0x260, 4), 0x3378000);
	in.cmdline = "01234567890";
	assert_int_equal(boot_write(&regs, &ram, &in, &err), -E2BIG);
	assert_string_equal(err.text, "the kernel command line has 11 bytes; at most 10 are possible");
	/* A kernel may not raise our own limit. */
	k.setup.cmdline_size = UINT32_MAX;
	in.cmdline = memset(long_text, 'a', 2048);
	assert_int_equal(boot_write(&regs, &ram, &in, &err), -E2BIG);
}

static void test_linux64_registers(void **state)
{
	const struct boot_in in = { .kernel = &linux_kernel, .cmdline = "" };

	(void)state;
	boots(&in);
	assert_int_equal(regs.cs, 0x10);
	assert_int_equal(regs.ds, 0x18);
	assert_descriptor(0, 0);
	assert_descriptor(regs.cs, 0x00af9b000000ffff);
	assert_descriptor(regs.ds, 0x00cf93000000ffff);
	assert_int_equal(regs.rsp % 16, 0);
	assert_low(regs.rsp - 8);
	assert_int_equal(get(regs.rsp - 4096, 8), 0);
	assert_int_equal(regs.rbx, 0);
	/* No initrd, no seed, an empty command line. */
	assert_int_equal(get(regs.rsi + 0x218, 8), 0);
	assert_int_equal(get(get(regs.rsi + 0x250, 8) + 8, 4), 0x796c664d);
	assert_int_equal(get(get(regs.rsi + 0x250, 8), 8), 0);
	assert_int_equal(get(get(regs.rsi + 0x228, 4), 1), 0);
}

/* Walks the page tables. Returns false if gva is not mapped writable. */
static bool translate(uint64_t gva, uint64_t *ret)
{
	uint64_t pml4e = get(regs.cr3 + (gva >> 39 & 511) * 8, 8), pdpte, pde;

	if ((pml4e & 0x83) != 3)
		return false;
	pdpte = get((pml4e & ~0xfffULL) + (gva >> 30 & 511) * 8, 8);
	if ((pdpte & 0x83) != 3)
		return false;
	pde = get((pdpte & ~0xfffULL) + (gva >> 21 & 511) * 8, 8);
	if ((pde & 0x83) != 0x83)
		return false;
	assert_int_equal(pde & 0x1fff00, 0);
	*ret = (pde & ~0x1fffffULL) | (gva & 0x1fffff);
	return true;
}

static void assert_identity_up_to(uint64_t end)
{
	uint64_t got;

	for (uint64_t gva = 0; gva < end; gva += 2 * MIB) {
		assert_true(translate(gva, &got));
		assert_int_equal(got, gva);
	}
	assert_true(translate(0x12345, &got));
	assert_int_equal(got, 0x12345);
	assert_false(translate(end, &got));
	assert_false(translate(1ULL << 39, &got));
	assert_false(translate(0xffffffff81000000, &got));
}

static void test_page_tables(void **state)
{
	const struct boot_in in = { .kernel = &linux_kernel, .cmdline = "" };

	(void)state;
	boots(&in);
	assert_identity_up_to(GIB);
}

static void test_page_tables_of_a_high_kernel(void **state)
{
	const struct kernel_image at_1g = { .entry = 0x1000000, .lowest = 0x1000000, .highest = GIB };
	const struct kernel_image over_1g = { .entry = 0x1000000, .lowest = 0x1000000, .highest = GIB + 1 };
	const struct kernel_image to_3g = { .entry = 0xb0000000, .lowest = 0xb0000000, .highest = MEM_GAP_START };

	(void)state;
	boots(&(struct boot_in){ .kernel = &at_1g, .cmdline = "" });
	assert_identity_up_to(GIB);
	boots(&(struct boot_in){ .kernel = &over_1g, .cmdline = "" });
	assert_identity_up_to(2 * GIB);
	boots(&(struct boot_in){ .kernel = &to_3g, .cmdline = "" });
	assert_identity_up_to(3 * GIB);
}

/* A kernel below 2 MiB has the RAM that it lies in. */
static void test_low_kernel(void **state)
{
	const struct kernel_image low = { .entry = MIB, .lowest = MIB, .highest = MIB + 0x1000 };

	(void)state;
	boots(&(struct boot_in){ .kernel = &low, .cmdline = "" });
	assert_int_equal(get(regs.rsi + 0x1e8, 1), 2);
	assert_e820(regs.rsi, 1, 0x100000, 127 * MIB);
}

static void test_memory_above_4g(void **state)
{
	const struct boot_in in = { .kernel = &linux_kernel, .cmdline = "" };

	(void)state;
	boots(&in);
	assert_int_equal(get(regs.rsi + 0x1e8, 1), 3);
	assert_e820(regs.rsi, 0, 0, 0xa0000);
	assert_e820(regs.rsi, 1, 0x200000, 3 * GIB - 2 * MIB);
	assert_e820(regs.rsi, 2, 4 * GIB, 2 * GIB);
	boots(&(struct boot_in){ .entry = BOOT_ENTRY_PVH, .kernel = &linux_kernel, .cmdline = "" });
	assert_int_equal(get(regs.rbx + 48, 4), 3);
	assert_int_equal(get(get(regs.rbx + 40, 8) + 48, 8), 4 * GIB);
	assert_int_equal(get(get(regs.rbx + 40, 8) + 56, 8), 2 * GIB);
}

static void test_pvh(void **state)
{
	const struct boot_in in = {
		.entry = BOOT_ENTRY_PVH,
		.kernel = &linux_kernel,
		.cmdline = "quiet",
		.initrd_gpa = 0x7000000,
		.initrd_size = 0x12345,
		.rsdp_gpa = 0xff000,
		.rng_seed = seed,
	};
	uint64_t info, module, map;

	(void)state;
	boots(&in);
	assert_false(regs.long_mode);
	assert_int_equal(regs.rip, 0x1000000);
	assert_int_equal(regs.cr3, 0);
	assert_descriptor(regs.cs, 0x00cf9b000000ffff);
	assert_descriptor(regs.ds, 0x00cf93000000ffff);
	info = regs.rbx;
	assert_low(info);
	assert_int_equal(get(info, 4), 0x336ec578);
	assert_int_equal(get(info + 4, 4), 1);
	assert_int_equal(get(info + 8, 4), 0);
	assert_int_equal(get(info + 12, 4), 1);
	module = get(info + 16, 8);
	assert_low(module);
	assert_int_equal(get(module, 8), 0x7000000);
	assert_int_equal(get(module + 8, 8), 0x12345);
	assert_int_equal(get(module + 16, 8), 0);
	assert_int_equal(get(module + 24, 8), 0);
	assert_string_equal(mem_at(&ram, get(info + 24, 8), 16), "quiet");
	assert_int_equal(get(info + 32, 8), 0xff000); /* RSDP */
	map = get(info + 40, 8);
	assert_low(map);
	assert_int_equal(get(info + 48, 4), 2);
	assert_int_equal(get(info + 52, 4), 0);
	assert_int_equal(get(map, 8), 0);
	assert_int_equal(get(map + 8, 8), 0xa0000);
	assert_int_equal(get(map + 16, 8), 1);
	assert_int_equal(get(map + 24, 8), 0x200000);
	assert_int_equal(get(map + 32, 8), 126 * MIB);
	assert_int_equal(get(map + 40, 8), 1);
	assert_int_equal(get(map + 48, 8), 0);
}

static void test_pvh_without_initrd(void **state)
{
	const struct boot_in in = { .entry = BOOT_ENTRY_PVH, .kernel = &linux_kernel, .cmdline = "" };

	(void)state;
	boots(&in);
	assert_int_equal(get(regs.rbx + 12, 4), 0);
	assert_int_equal(get(regs.rbx + 16, 8), 0);
}

static void test_choice_of_protocol(void **state)
{
	struct kernel_image k = linux_kernel;
	struct boot_in in = { .kernel = &k, .cmdline = "" };

	(void)state;
	boots(&in);
	assert_true(regs.long_mode);
	k.is_linux = false;
	boots(&in);
	assert_false(regs.long_mode);
	in.entry = BOOT_ENTRY_LINUX64;
	boots(&in);
	assert_true(regs.long_mode);
	k.has_pvh = false;
	in.entry = BOOT_ENTRY_AUTO;
	boots(&in);
	assert_true(regs.long_mode);
	in.entry = BOOT_ENTRY_PVH;
	assert_int_equal(boot_write(&regs, &ram, &in, &err), -EINVAL);
	assert_string_equal(err.text, "the kernel has no PVH entry point (Linux: CONFIG_PVH)");
}

/* A kernel is started by a protocol that it has: one with only PVH's entry by that, whatever else it is. */
static void test_choice_without_a_64_bit_entry(void **state)
{
	struct kernel_image k = linux_kernel;
	struct boot_in in = { .kernel = &k, .cmdline = "" };

	(void)state;
	k.entry = 0;
	boots(&in);
	assert_false(regs.long_mode);
	assert_int_equal(regs.rip, k.pvh_entry);
	assert_int_not_equal(regs.rbx, 0);
	in.entry = BOOT_ENTRY_LINUX64;
	assert_int_equal(boot_write(&regs, &ram, &in, &err), -EINVAL);
	k.entry = linux_kernel.entry;
	k.entry_is_32bit = true;
	assert_int_equal(boot_write(&regs, &ram, &in, &err), -EINVAL);
}

static void test_linux32(void **state)
{
	struct kernel_image k = linux_kernel;
	const struct boot_in in = { .kernel = &k, .cmdline = "abc" };

	(void)state;
	k.has_pvh = false;
	k.entry_is_32bit = true;
	boots(&in);
	assert_false(regs.long_mode);
	assert_int_equal(regs.rip, k.entry);
	assert_int_equal(regs.rbx, 0);
	assert_int_equal(get(regs.rsi + 0x202, 4), 0x53726448);
	assert_string_equal(mem_at(&ram, get(regs.rsi + 0x228, 4), 4), "abc");
	assert_int_equal(regs.cs, 0x10);
	assert_int_equal(regs.ds, 0x18);
	assert_descriptor(0x10, 0x00cf9b000000ffff);
	assert_descriptor(0x18, 0x00cf93000000ffff);
}

static void test_cmdline_limit(void **state)
{
	char *text = long_text;
	const struct boot_in in = { .kernel = &linux_kernel, .cmdline = text };

	(void)state;
	memset(text, 0, sizeof(long_text));
	memset(text, 'a', 2047);
	boots(&in);
	assert_int_equal(strlen(mem_at(&ram, get(regs.rsi + 0x228, 4), 2048)), 2047);
	/* It does not run into boot_params. */
	assert_int_equal(get(regs.rsi + 0x202, 4), 0x53726448);
	assert_int_equal(get(regs.rsi, 8), 0);
	text[2047] = 'a';
	assert_int_equal(boot_write(&regs, &ram, &in, &err), -E2BIG);
	assert_string_equal(err.text, "the kernel command line has 2048 bytes; at most 2047 are possible");
}

/* Nothing is written from 64 KiB up, and page 0 is left to the MP table. */
static void test_writes_only_where_the_layout_says(void **state)
{
	const struct boot_in in = { .kernel = &linux_kernel, .cmdline = "x", .rng_seed = seed };
	const uint8_t *p = mem_at(&ram, 0, 4 * MIB);

	(void)state;
	boots(&in);
	for (uint64_t i = 0; i < 4 * MIB; i++)
		if (p[i] != 0 && (i < 0x1000 || i >= 0x9000))
			fail_msg("byte 0x%llx was written", (unsigned long long)i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_linux64, setup, teardown),
		cmocka_unit_test_setup_teardown(test_linux64_of_a_bzimage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_linux64_registers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_page_tables, setup, teardown),
		cmocka_unit_test_setup_teardown(test_page_tables_of_a_high_kernel, setup_large, teardown),
		cmocka_unit_test_setup_teardown(test_low_kernel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_memory_above_4g, setup_large, teardown),
		cmocka_unit_test_setup_teardown(test_pvh, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pvh_without_initrd, setup, teardown),
		cmocka_unit_test_setup_teardown(test_choice_of_protocol, setup, teardown),
		cmocka_unit_test_setup_teardown(test_choice_without_a_64_bit_entry, setup, teardown),
		cmocka_unit_test_setup_teardown(test_linux32, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cmdline_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_writes_only_where_the_layout_says, setup, teardown),
	};

	return cmocka_run_group_tests_name("boot_x86", tests, NULL, NULL);
}
