/* The ELF loader: the kinds of good kernels that there are. The hostile ones are in test_elf.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/elf_fixture.h"

static void test_kernel_without_notes(void **state)
{
	static struct image im;
	struct kernel_image k;

	(void)state;
	good_image(&im);
	im.h.e_phnum = 2;
	write_image(&im);
	assert_int_equal(kernel_load(&k, &ram, path, &err), 0);
	assert_false(k.has_pvh);
	assert_false(k.is_linux);
}

static void test_class_32(void **state)
{
	static const uint16_t machines[] = { EM_386, EM_X86_64 };
	static struct image im;
	struct kernel_image k;

	(void)state;
	for (unsigned i = 0; i < MF_ARRAY_SIZE(machines); i++) {
		good_image(&im);
		make_class_32(&im);
		im.h.e_machine = machines[i];
		write_image(&im);
		assert_int_equal(kernel_load(&k, &ram, path, &err), 0);
		assert_true(k.has_pvh && k.is_linux);
		assert_int_equal(k.pvh_entry, TEXT + 0x40);
		assert_int_equal(k.entry, 0); /* that is not of the 64-bit protocol */
		assert_int_equal(k.lowest, TEXT);
		assert_int_equal(k.highest, DATA + 0x3000);
		assert_memory_equal(mem_at(&ram, TEXT, 0x2345), im.bytes + TEXT_AT, 0x2345);
		assert_memory_equal(mem_at(&ram, DATA, 0x1000), im.bytes + DATA_AT, 0x1000);
		close(file);
	}
}

/* FreeBSD's kernel is such a file: nothing but the note says how it is started. */
static void test_pvh_without_another_entry(void **state)
{
	static const uint64_t entries[] = { 0, 0xffffffff81000000, TEXT + 0x2345, DATA + 0x1000 };
	static struct image im;
	struct kernel_image k;

	(void)state;
	for (unsigned i = 0; i < MF_ARRAY_SIZE(entries); i++) {
		good_image(&im);
		im.h.e_entry = entries[i];
		im.p[SEG_DATA].p_type = PT_INTERP;
		write_image(&im);
		assert_int_equal(kernel_load(&k, &ram, path, &err), 0);
		assert_true(k.has_pvh);
		assert_int_equal(k.pvh_entry, TEXT + 0x40);
		assert_int_equal(k.entry, 0);
		close(file);
	}
}

/* A linker may give a bss of its own, or an empty note, any offset. */
static void test_offset_of_nothing(void **state)
{
	static struct image im;
	struct kernel_image k;

	(void)state;
	good_image(&im);
	im.p[SEG_DATA].p_filesz = 0;
	im.p[SEG_DATA].p_offset = IMAGE_SIZE + 0x1000;
	im.p[SEG_NOTE].p_filesz = 0;
	im.p[SEG_NOTE].p_offset = UINT64_MAX;
	write_image(&im);
	assert_int_equal(kernel_load(&k, &ram, path, &err), 0);
	assert_int_equal(k.highest, DATA + 0x3000);
}

static void test_adjacent_segments(void **state)
{
	static struct image im;
	struct kernel_image k;

	(void)state;
	good_image(&im);
	im.p[SEG_TEXT].p_memsz = DATA - TEXT;
	write_image(&im);
	assert_int_equal(kernel_load(&k, &ram, path, &err), 0);
	close(file);
	/* In the other order. */
	im.p[SEG_DATA].p_paddr = TEXT - im.p[SEG_DATA].p_memsz;
	write_image(&im);
	assert_int_equal(kernel_load(&k, &ram, path, &err), 0);
}

/* One note that needs an alignment of 8, and two that have one of 4: the linker says 8 for all of them. */
static void test_notes_of_both_alignments(void **state)
{
	const uint64_t property[] = { 0x4c0000002, 0 }, pvh = TEXT + 0x48;
	static struct image im;
	struct kernel_image k;
	uint32_t n;

	(void)state;
	good_image(&im);
	n = add_note(im.bytes + NOTES_AT, "GNU", 5, property, sizeof(property));
	n += add_note(im.bytes + NOTES_AT + n, "Linux", 257, "\0\0\0\0", 4);
	n += add_note(im.bytes + NOTES_AT + n, "Xen", 18, &pvh, sizeof(pvh));
	im.p[SEG_NOTE].p_filesz = im.p[SEG_NOTE].p_memsz = n;
	im.p[SEG_NOTE].p_align = 8;
	write_image(&im);
	assert_int_equal(kernel_load(&k, &ram, path, &err), 0);
	assert_true(k.has_pvh && k.is_linux);
	assert_int_equal(k.pvh_entry, TEXT + 0x48);
}

static void test_notes_of_align_8_and_4_byte_entry(void **state)
{
	/* "Xen", 18, 4 bytes: with an alignment of 8 the next note starts at 24, and the contents at 16 either way. */
	const struct {
		Elf64_Nhdr n;
		char name[4];
		uint32_t entry;
		uint32_t pad;
		Elf64_Nhdr n2;
		char name2[8];
	} notes = { { 4, 4, 18 }, "Xen", TEXT + 0x44, 0, { 6, 0, 1 }, "Linux" };
	static struct image im;
	struct kernel_image k;

	(void)state;
	good_image(&im);
	memcpy(im.bytes + NOTES_AT, &notes, sizeof(notes));
	im.p[SEG_NOTE].p_filesz = sizeof(notes);
	im.p[SEG_NOTE].p_align = 8;
	write_image(&im);
	assert_int_equal(kernel_load(&k, &ram, path, &err), 0);
	assert_int_equal(k.pvh_entry, TEXT + 0x44);
	assert_true(k.is_linux);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_kernel_without_notes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_class_32, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pvh_without_another_entry, setup, teardown),
		cmocka_unit_test_setup_teardown(test_offset_of_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_adjacent_segments, setup, teardown),
		cmocka_unit_test_setup_teardown(test_notes_of_both_alignments, setup, teardown),
		cmocka_unit_test_setup_teardown(test_notes_of_align_8_and_4_byte_entry, setup, teardown),
	};

	return cmocka_run_group_tests_name("elf_kinds", tests, NULL, NULL);
}
