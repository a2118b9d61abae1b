/* The bzImage loader: a good kernel, and every way in which a hostile one can be wrong (one row per case). */
#define RAM (64 * MIB)
#include "tests/unit/loader_fixture.h"

#include "loader/kernel.h"

#define PREFERRED 0x1000000ULL
#define SETUP_SECTS 3U
#define PROGRAM_AT ((SETUP_SECTS + 1) * 512)
#define PROGRAM_SIZE 0x1230U
#define INIT_SIZE 0x800000U
#define SIGNATURE_SIZE 0x100U /* what follows the program in the file */
#define FILE_SIZE (PROGRAM_AT + PROGRAM_SIZE + SIGNATURE_SIZE)

static uint8_t image[FILE_SIZE];
static size_t image_size;

/* The fields of the setup header, at their documented offsets (Linux: boot.rst). */
static void put(unsigned offset, uint64_t value, unsigned len)
{
	for (unsigned i = 0; i < len; i++)
		image[offset + i] = (uint8_t)(value >> 8 * i);
}

static void good_image(void)
{
	for (unsigned i = 0; i < FILE_SIZE; i++)
		image[i] = i < PROGRAM_AT ? 0 : (uint8_t)(i * 7 + i / 256 + 1);
	memcpy(image, "MZ", 2);
	put(0x1f1, SETUP_SECTS, 1);
	put(0x1f4, PROGRAM_SIZE / 16, 4);
	put(0x1fe, 0xaa55, 2);
	put(0x200, 0x6aeb, 2);
	memcpy(image + 0x202, "HdrS", 4);
	put(0x206, 0x020f, 2);
	put(0x211, 1, 1);
	put(0x22c, 0x7fffffff, 4);
	put(0x230, 0x200000, 4);
	put(0x234, 1, 1);
	put(0x236, 0x7f, 2);
	put(0x238, 2047, 4);
	put(0x248, 0x10, 4);
	put(0x24c, PROGRAM_SIZE - 0x10, 4);
	put(0x258, PREFERRED, 8);
	put(0x260, INIT_SIZE, 4);
	image_size = FILE_SIZE;
}

static int setup_good(void **state)
{
	good_image();
	return setup(state);
}

static void write_image(void)
{
	make_file_of(image, image_size);
}

static void loads_at(uint64_t address)
{
	struct kernel_image k = { 0 };
	const uint8_t *p;

	write_image();
	if (kernel_load(&k, &ram, path, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(k.entry, address + 0x200);
	assert_int_equal(k.lowest, address);
	assert_int_equal(k.highest, address + INIT_SIZE);
	assert_true(k.is_linux && k.has_setup && !k.has_pvh);
	assert_int_equal(k.bytes_copied, PROGRAM_SIZE);
	p = mem_at(&ram, address, PROGRAM_SIZE + SIGNATURE_SIZE);
	assert_memory_equal(p, image + PROGRAM_AT, PROGRAM_SIZE);
	for (unsigned i = 0; i < SIGNATURE_SIZE; i++)
		assert_int_equal(p[PROGRAM_SIZE + i], 0);
	memset(mem_at(&ram, address, PROGRAM_SIZE), 0, PROGRAM_SIZE);
}

static void test_good(void **state)
{
	struct kernel_image k;

	(void)state;
	loads_at(PREFERRED);
	assert_int_equal(kernel_load(&k, &ram, path, &err), 0);
	assert_int_equal(k.initrd_end, 0x80000000);
	assert_int_equal(k.setup.version, 0x020f);
	assert_int_equal(k.setup.init_size, INIT_SIZE);
	assert_int_equal(k.setup.header, 0x53726448);
}

static void test_setup_sects_zero_is_four(void **state)
{
	(void)state;
	put(0x1f1, 0, 1);
	put(0x1f4, (PROGRAM_SIZE - 512) / 16, 4);
	put(0x24c, 0, 4);
	write_image();
	assert_int_equal(kernel_load(&(struct kernel_image){ 0 }, &ram, path, &err), 0);
	assert_memory_equal(mem_at(&ram, PREFERRED, 512), image + 5 * 512, 512);
}

static void test_addresses(void **state)
{
	static const struct {
		uint64_t preferred;
		uint32_t alignment;
		bool relocatable;
		uint64_t want;
	} cases[] = {
		{ 0x1000000, 0, false, 0x1000000 },	{ 0x100000, 0, false, 0x100000 },
		{ 0x1234000, 0x1000, true, 0x1234000 }, { 0x1234000, 0x200000, true, 0x1400000 },
		{ 0x100000, 0x1000, true, 0x200000 }, /* what is movable makes room for the first 2 MiB */
		{ 0, 0x1000000, true, 0x1000000 },
	};

	(void)state;
	for (unsigned i = 0; i < MF_ARRAY_SIZE(cases); i++) {
		good_image();
		put(0x258, cases[i].preferred, 8);
		put(0x230, cases[i].alignment, 4);
		put(0x234, cases[i].relocatable, 1);
		loads_at(cases[i].want);
	}
}

/* The file may end within the last paragraph, as memtest86+ does; one byte less, and a paragraph is missing. */
static void test_last_paragraph_is_not_padded(void **state)
{
	struct kernel_image k;

	(void)state;
	put(0x24c, 0, 4);
	for (unsigned missing = 0; missing <= 16; missing++) {
		image_size = PROGRAM_AT + PROGRAM_SIZE - missing;
		write_image();
		if (missing == 16) {
			assert_int_equal(kernel_load(&k, &ram, path, &err), -ENOEXEC);
			break;
		}
		assert_int_equal(kernel_load(&k, &ram, path, &err), 0);
		assert_int_equal(k.bytes_copied, PROGRAM_SIZE - missing);
	}
	/* What is missing is no part of the payload. */
	put(0x24c, PROGRAM_SIZE - 0x10, 4);
	image_size = PROGRAM_AT + PROGRAM_SIZE - 1;
	write_image();
	assert_int_equal(kernel_load(&k, &ram, path, &err), -ENOEXEC);
}

/* Without a 64-bit entry point there is the 32-bit one, at the start of the program. */
static void test_32_bit(void **state)
{
	struct kernel_image k;

	(void)state;
	put(0x236, 0x7e, 2);
	write_image();
	assert_int_equal(kernel_load(&k, &ram, path, &err), 0);
	assert_true(k.entry_is_32bit);
	assert_int_equal(k.entry, PREFERRED);
	put(0x1f4, 1, 4);
	put(0x24c, 0, 4);
	write_image();
	assert_int_equal(kernel_load(&k, &ram, path, &err), 0);
	put(0x1f4, 0, 4);
	write_image();
	assert_int_equal(kernel_load(&k, &ram, path, &err), -ENOEXEC);
	good_image();
	put(0x236, 0x7f, 2);
	write_image();
	assert_int_equal(kernel_load(&k, &ram, path, &err), 0);
	assert_false(k.entry_is_32bit);
}

/* The setup header ends where it says; what follows is not taken for a part of it. */
static void test_short_header(void **state)
{
	struct kernel_image k;

	(void)state;
	put(0x201, 0x62, 1); /* up to handover_offset, as in protocol 2.12 */
	memset(image + 0x264, 0xff, 64);
	write_image();
	assert_int_equal(kernel_load(&k, &ram, path, &err), 0);
	assert_int_equal(k.setup.init_size, INIT_SIZE);
	assert_int_equal(k.setup.handover_offset, 0);
	assert_int_equal(k.setup.kernel_info_offset, 0);
}

static const struct bad {
	unsigned offset;
	uint64_t value;
	unsigned len;
	size_t size; /* of the file, if not 0 */
	const char *message;
} bad[] = {
	{ 0x1fe, 0, 2, 0, "is no bzImage: its boot flag is 0x0 instead of 0xaa55" },
	{ 0x206, 0x020b, 2, 0, "has boot protocol 2.11; 2.12 is needed (Linux 3.8)" },
	{ 0x206, 0, 2, 0, "has boot protocol 0.00; 2.12 is needed (Linux 3.8)" },
	{ 0x201, 0x61, 1, 0, "has a setup header of 114 bytes, too short for its boot protocol" },
	{ 0x201, 0, 1, 0, "has boot protocol 0.00; 2.12 is needed (Linux 3.8)" },
	{ 0x211, 0, 1, 0, "is a zImage, which is loaded below 1 MiB; a bzImage is needed" },
	{ 0x1f1, 0xff, 1, 0, "has 0x1230 bytes at byte 0x20000 of a file of 0x1b30: truncated?" },
	{ 0x1f4, 0xffffffff, 4, 0, "has 0xffffffff0 bytes at byte 0x800 of a file of 0x1b30: truncated?" },
	{ 0x1f4, 0, 4, 0, "has 0 bytes to load, too few for a kernel" },
	{ 0x1f4, 0x20, 4, 0, "has 512 bytes to load, too few for a kernel" },
	{ 0x1f4, (PROGRAM_SIZE + SIGNATURE_SIZE) / 16 + 1, 4, 0,
	  "has 0x1340 bytes at byte 0x800 of a file of 0x1b30: truncated?" },
	{ 0x248, PROGRAM_SIZE, 4, 0, "has a payload of 0x1220 bytes at 0x1230 of 0x1230" },
	{ 0x248, 0xffffffff, 4, 0, "has a payload of 0x1220 bytes at 0xffffffff of 0x1230" },
	{ 0x24c, 0xffffffff, 4, 0, "has a payload of 0xffffffff bytes at 0x10 of 0x1230" },
	{ 0x260, 0, 4, 0, "has 0x1230 bytes to load, but says that it needs 0x0" },
	{ 0x260, 0xffffffff, 4, 0, "needs 0xffffffff bytes at 0x1000000, beyond 3 GiB, where devices are" },
	{ 0x260, 0x3000001, 4, 0,
	  "needs guest memory up to 0x4000001 to unpack itself, but it ends at 0x4000000 (64 MiB)" },
	{ 0x258, 0x4000000, 8, 0,
	  "needs guest memory up to 0x4800000 to unpack itself, but it ends at 0x4000000 (64 MiB)" },
	{ 0x258, UINT64_MAX, 8, 0, "needs 0x800000 bytes at 0xc0000000, beyond 3 GiB, where devices are" },
	{ 0x230, 0, 4, 0, "has the alignment 0x0; a power of two is needed, 4 KiB to 1 GiB" },
	{ 0x230, 0x300000, 4, 0, "has the alignment 0x300000; a power of two is needed, 4 KiB to 1 GiB" },
	{ 0x230, 0x80000000, 4, 0, "has the alignment 0x80000000; a power of two is needed, 4 KiB to 1 GiB" },
	{ 0x230, 0x800, 4, 0, "has the alignment 0x800; a power of two is needed, 4 KiB to 1 GiB" },
	{ 0, 'M', 1, 0x206, "is truncated: 518 bytes are less than its setup header" },
	{ 0, 'M', 1, 0x26b, "is truncated: 619 bytes are less than its setup header" },
	{ 0, 'M', 1, 0x205, "is an EFI program without a Linux setup header; use a bzImage or the ELF vmlinux" },
	{ 0, 'M', 1, PROGRAM_AT + PROGRAM_SIZE - 16, "has 0x1230 bytes at byte 0x800 of a file of 0x1a20: truncated?" },
	{ 0, 'M', 1, PROGRAM_AT - 1, "has 0x1230 bytes at byte 0x800 of a file of 0x7ff: truncated?" },
};

static void refused(const char *message)
{
	struct kernel_image k = { .entry = 42 };

	write_image();
	assert_true(kernel_load(&k, &ram, path, &err) < 0);
	assert_non_null(strstr(err.text, path));
	if (!strstr(err.text, message))
		fail_msg("'%s' has no '%s'", err.text, message);
	assert_true(err.code < 0);
	assert_int_equal(k.entry, 42);
}

static void test_bad(void **state)
{
	(void)state;
	for (unsigned i = 0; i < MF_ARRAY_SIZE(bad); i++) {
		good_image();
		put(bad[i].offset, bad[i].value, bad[i].len);
		if (bad[i].size)
			image_size = bad[i].size;
		refused(bad[i].message);
	}
}

static void test_bad_when_not_relocatable(void **state)
{
	(void)state;
	put(0x234, 0, 1);
	put(0x258, 0xff000, 8);
	refused("0xff000, below 1 MiB");
	put(0x258, UINT64_MAX, 8);
	refused("needs 0x800000 bytes at 0xffffffffffffffff, beyond 3 GiB, where devices are");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_good, setup_good, teardown),
		cmocka_unit_test_setup_teardown(test_setup_sects_zero_is_four, setup_good, teardown),
		cmocka_unit_test_setup_teardown(test_addresses, setup_good, teardown),
		cmocka_unit_test_setup_teardown(test_last_paragraph_is_not_padded, setup_good, teardown),
		cmocka_unit_test_setup_teardown(test_32_bit, setup_good, teardown),
		cmocka_unit_test_setup_teardown(test_short_header, setup_good, teardown),
		cmocka_unit_test_setup_teardown(test_bad, setup_good, teardown),
		cmocka_unit_test_setup_teardown(test_bad_when_not_relocatable, setup_good, teardown),
	};

	return cmocka_run_group_tests_name("bzimage", tests, NULL, NULL);
}
