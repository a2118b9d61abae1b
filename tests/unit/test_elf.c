/* The ELF loader: a good kernel, and every way in which a hostile one can be wrong (one row per case). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/elf_fixture.h"

static void refused(const char *name, const char *message)
{
	struct kernel_image k = { .entry = 42 };
	char want[ERR_TEXT_MAX];

	snprintf(want, sizeof(want), "kernel '%s': %s", path, message);
	err = (struct err){ 0 };
	if (kernel_load(&k, &ram, path, &err) >= 0)
		fail_msg("%s: was loaded", name);
	if (strcmp(err.text, want) != 0)
		fail_msg("%s: '%s' instead of '%s'", name, err.text, want);
	assert_true(err.code < 0);
	assert_int_equal(k.entry, 42);
}

static void assert_zero(uint64_t gpa, uint64_t len)
{
	const uint8_t *p = mem_at(&ram, gpa, len);

	for (uint64_t i = 0; i < len; i++)
		if (p[i] != 0)
			fail_msg("0x%llx is not zero", (unsigned long long)(gpa + i));
}

static void test_good(void **state)
{
	static struct image im;
	struct kernel_image k;

	(void)state;
	good_image(&im);
	write_image(&im);
	assert_int_equal(kernel_load(&k, &ram, path, &err), 0);
	assert_int_equal(k.entry, TEXT + 0x123);
	assert_true(k.has_pvh);
	assert_int_equal(k.pvh_entry, TEXT + 0x40);
	assert_true(k.is_linux);
	assert_int_equal(k.lowest, TEXT);
	assert_int_equal(k.highest, DATA + 0x3000);
	/* Whole pages of text are mapped; its end, and the data, are read. */
	assert_int_equal(k.bytes_mapped, 0x2000);
	assert_int_equal(k.bytes_copied, 0x1345);
	assert_memory_equal(mem_at(&ram, TEXT, 0x2345), im.bytes + TEXT_AT, 0x2345);
	assert_memory_equal(mem_at(&ram, DATA, 0x1000), im.bytes + DATA_AT, 0x1000);
	/* Neither what follows a segment in the file nor anything else shows in memory. */
	assert_zero(TEXT + 0x2345, 0xcbb);
	assert_zero(DATA + 0x1000, 0x2000);
	assert_zero(0, MIB);
}

static void test_guest_writes_do_not_reach_the_file(void **state)
{
	static struct image im;
	struct kernel_image k;
	uint8_t byte;

	(void)state;
	good_image(&im);
	write_image(&im);
	assert_int_equal(kernel_load(&k, &ram, path, &err), 0);
	memset(mem_at(&ram, TEXT, 0x2345), 0xcc, 0x2345);
	assert_int_equal(pread(file, &byte, 1, TEXT_AT), 1);
	assert_int_equal(byte, im.bytes[TEXT_AT]);
}

static void test_unaligned_text_is_copied(void **state)
{
	static struct image im;
	struct kernel_image k;

	(void)state;
	good_image(&im);
	im.p[SEG_TEXT].p_paddr += 0x10;
	write_image(&im);
	assert_int_equal(kernel_load(&k, &ram, path, &err), 0);
	assert_int_equal(k.bytes_mapped, 0);
	assert_memory_equal(mem_at(&ram, TEXT + 0x10, 0x2345), im.bytes + TEXT_AT, 0x2345);
}

static void test_holes_are_not_copied(void **state)
{
	static struct image im;
	struct kernel_image k;

	(void)state;
	good_image(&im);
	im.p[SEG_DATA].p_offset = 0x4000;
	im.p[SEG_DATA].p_filesz = 32 * MIB;
	im.p[SEG_DATA].p_memsz = 40 * MIB;
	im.file_size = 0x4000 + 32 * MIB;
	write_image(&im);
	assert_int_equal(pwrite(file, "end", 3, 0x4000 + 32 * MIB - 3), 3);
	assert_int_equal(kernel_load(&k, &ram, path, &err), 0);
	/* The end of the text, and the first and the last page (or huge page) of the data. */
	assert_true(k.bytes_copied >= 0x345 + 0x2000 && k.bytes_copied < 8 * MIB);
	assert_memory_equal(mem_at(&ram, DATA, 0x1000), im.bytes + 0x4000, 0x1000);
	assert_memory_equal(mem_at(&ram, DATA + 32 * MIB - 3, 3), "end", 3);
	assert_zero(DATA + 0x1000, 0x1000);
}

static void test_segment_that_fills_ram_to_its_end(void **state)
{
	static struct image im;
	struct kernel_image k;

	(void)state;
	good_image(&im);
	im.p[SEG_DATA].p_memsz = RAM - DATA;
	write_image(&im);
	assert_int_equal(kernel_load(&k, &ram, path, &err), 0);
	assert_int_equal(k.highest, RAM);
	im.p[SEG_DATA].p_memsz++;
	close(file);
	write_image(&im);
	refused("one byte more", "segment 1 is at 0x1003000 to 0x4000001, but guest memory ends at 0x4000000 (64 MiB)");
}

/* Cases that are an edit of the good image. */
#define SPOIL(name, statement)                                                                                         \
	static void name(struct image *im)                                                                             \
	{                                                                                                              \
		statement;                                                                                             \
	}

SPOIL(empty_file, im->size = 0)
SPOIL(one_byte, im->size = 1)
SPOIL(half_header, im->size = 40)
SPOIL(no_program_headers_in_file, im->size = 64 + 56)
SPOIL(text_cut, im->size = 0x2000)
SPOIL(random_bytes, memset(&im->h, 0xa5, sizeof(im->h)))
SPOIL(class_32_without_notes, make_class_32(im); im->h.e_phnum = 2)
SPOIL(class_32_cut, make_class_32(im); im->size = 51)
SPOIL(class_32_phentsize, make_class_32(im); im->h.e_phentsize = 56)
SPOIL(class_32_phoff, make_class_32(im); im->h.e_phoff = IMAGE_SIZE - 95)
SPOIL(class_32_phoff_max, make_class_32(im); im->h.e_phoff = UINT32_MAX)
SPOIL(class_32_phnum, make_class_32(im); im->h.e_phnum = 65)
SPOIL(class_32_wraps, make_class_32(im); im->p[SEG_DATA].p_memsz = UINT32_MAX)
SPOIL(class_32_filesz, make_class_32(im); im->p[SEG_DATA].p_filesz = im->p[SEG_DATA].p_memsz = UINT32_MAX)
SPOIL(class_32_low, make_class_32(im); im->p[SEG_DATA].p_paddr = 0x2000)
SPOIL(class_32_arm, make_class_32(im); im->h.e_machine = EM_ARM)
SPOIL(class_32_pvh_outside, make_class_32(im); im->bytes[NOTES_AT + 76 + 3] = 0x30)
SPOIL(class_64_i386, im->h.e_machine = EM_386)
SPOIL(class_7, im->h.e_ident[EI_CLASS] = 7)
SPOIL(big_endian, im->h.e_ident[EI_DATA] = ELFDATA2MSB)
SPOIL(machine_arm64, im->h.e_machine = EM_AARCH64)
SPOIL(machine_riscv, im->h.e_machine = EM_RISCV)
SPOIL(machine_other, im->h.e_machine = 0xbeef)
SPOIL(object_file, im->h.e_type = ET_REL)
SPOIL(phnum_0, im->h.e_phnum = 0)
SPOIL(phnum_65, im->h.e_phnum = 65)
SPOIL(phnum_xnum, im->h.e_phnum = PN_XNUM)
SPOIL(phentsize_0, im->h.e_phentsize = 0)
SPOIL(phentsize_57, im->h.e_phentsize = 57)
SPOIL(phoff_at_end, im->h.e_phoff = IMAGE_SIZE - 56)
SPOIL(phoff_wraps, im->h.e_phoff = UINT64_MAX - 55)
SPOIL(no_load, im->p[SEG_TEXT].p_type = im->p[SEG_DATA].p_type = PT_NULL)
SPOIL(all_empty, im->p[SEG_TEXT].p_filesz = im->p[SEG_TEXT].p_memsz = 0;
      im->p[SEG_DATA].p_filesz = im->p[SEG_DATA].p_memsz = 0)
SPOIL(interpreter, im->p[SEG_NOTE].p_type = PT_INTERP)
SPOIL(file_gt_mem, im->p[SEG_DATA].p_memsz = 0xfff)
SPOIL(mem_0_file_1, im->p[SEG_DATA].p_memsz = 0; im->p[SEG_DATA].p_filesz = 1)
SPOIL(offset_wraps, im->p[SEG_DATA].p_offset = UINT64_MAX - 0xfff)
SPOIL(offset_beyond, im->p[SEG_DATA].p_offset = IMAGE_SIZE)
SPOIL(filesz_huge, im->p[SEG_DATA].p_filesz = im->p[SEG_DATA].p_memsz = UINT64_MAX)
SPOIL(over_zero_page, im->p[SEG_DATA].p_paddr = 0x2000)
SPOIL(below_1m, im->p[SEG_DATA].p_paddr = 0xff000)
SPOIL(address_0, im->p[SEG_DATA].p_paddr = 0)
SPOIL(at_ram_end, im->p[SEG_DATA].p_paddr = RAM)
SPOIL(in_gap, im->p[SEG_DATA].p_paddr = 0xd0000000)
SPOIL(over_4g, im->p[SEG_DATA].p_paddr = 0x100000000)
SPOIL(address_wraps, im->p[SEG_DATA].p_paddr = UINT64_MAX - 0xfff)
SPOIL(memsz_wraps, im->p[SEG_DATA].p_memsz = UINT64_MAX - DATA + 1)
SPOIL(overlap_by_1, im->p[SEG_TEXT].p_memsz = 0x3001)
SPOIL(overlap_inside, im->p[SEG_DATA].p_paddr = TEXT + 0x1000; im->p[SEG_DATA].p_memsz = 0x1000)
SPOIL(overlap_bss, im->p[SEG_TEXT].p_paddr = DATA + 0x1000)
SPOIL(entry_0, im->h.e_phnum = 2; im->h.e_entry = 0)
SPOIL(entry_virtual, im->h.e_phnum = 2; im->h.e_entry = 0xffffffff81000000)
SPOIL(entry_after_text, im->h.e_phnum = 2; im->h.e_entry = TEXT + 0x2345)
SPOIL(entry_in_bss, im->h.e_phnum = 2; im->h.e_entry = DATA + 0x1000)
SPOIL(note_too_big, im->p[SEG_NOTE].p_filesz = 0x10001; im->file_size = 0x20000)
SPOIL(note_beyond, im->p[SEG_NOTE].p_offset = IMAGE_SIZE - 8)
SPOIL(namesz_max, memset(im->bytes + NOTES_AT, 0xff, 4))
SPOIL(descsz_max, memset(im->bytes + NOTES_AT + 4, 0xff, 4))
SPOIL(both_max, memset(im->bytes + NOTES_AT, 0xff, 8))
SPOIL(name_cut, im->bytes[NOTES_AT] = 6; im->bytes[NOTES_AT + 4] = 0; im->p[SEG_NOTE].p_filesz = 14)
SPOIL(namesz_max_alone, memset(im->bytes + NOTES_AT, 0xff, 4); im->bytes[NOTES_AT + 4] = 0)
SPOIL(pvh_cut, im->p[SEG_NOTE].p_filesz -= 1)
SPOIL(pvh_len_0, im->bytes[NOTES_AT + 64] = 0; im->p[SEG_NOTE].p_filesz -= 8)
SPOIL(pvh_len_5, im->bytes[NOTES_AT + 64] = 5)
SPOIL(pvh_outside, im->bytes[NOTES_AT + 76 + 3] = 0x30)
SPOIL(pvh_over_4g, im->bytes[NOTES_AT + 76 + 4] = 1)

static const struct {
	const char *name;
	void (*spoil)(struct image *im);
	const char *message;
} cases[] = {
	{ "empty", empty_file, "is empty" },
	{ "one byte", one_byte, "is neither an ELF file nor a bzImage" },
	{ "half a header", half_header, "is truncated: 40 bytes are less than an ELF header" },
	{ "no program headers in the file", no_program_headers_in_file,
	  "is truncated: its program headers are at byte 0x40 of 0x78" },
	{ "text cut", text_cut, "segment 0 has 0x2345 bytes at byte 0x1000 of a file of 0x2000: truncated?" },
	{ "random", random_bytes, "is neither an ELF file nor a bzImage" },
	{ "32-bit without a PVH note", class_32_without_notes,
	  "is a 32-bit ELF file without a PVH note; such a note or a kernel for x86-64 is needed" },
	{ "32-bit, header cut", class_32_cut, "is truncated: 51 bytes are less than an ELF header" },
	{ "32-bit, e_phentsize 56", class_32_phentsize, "has program headers of 56 bytes instead of 32" },
	{ "32-bit, e_phoff at the end", class_32_phoff,
	  "is truncated: its program headers are at byte 0x4fa1 of 0x5000" },
	{ "32-bit, e_phoff 2^32-1", class_32_phoff_max,
	  "is truncated: its program headers are at byte 0xffffffff of 0x5000" },
	{ "32-bit, e_phnum 65", class_32_phnum, "has 65 program headers; at most 64 are supported" },
	{ "32-bit, p_memsz 2^32-1", class_32_wraps,
	  "segment 1 has 0xffffffff bytes at 0x1003000, beyond 3 GiB, where devices are" },
	{ "32-bit, p_filesz 2^32-1", class_32_filesz,
	  "segment 1 has 0xffffffff bytes at byte 0x4000 of a file of 0x5000: truncated?" },
	{ "32-bit, over the zero page", class_32_low, "segment 1 is at 0x2000, below 1 MiB, where boot data is" },
	{ "32-bit ARM", class_32_arm, "is for 32-bit ARM (ELF machine 40); a kernel for x86-64 is needed" },
	{ "32-bit, PVH entry outside", class_32_pvh_outside, "its PVH entry point 0x30000040 is in no segment" },
	{ "i386 of class 64", class_64_i386, "is for 32-bit x86 (ELF machine 3); a kernel for x86-64 is needed" },
	{ "class 7", class_7, "has the unknown ELF class 7" },
	{ "big-endian", big_endian, "is not little-endian; a kernel for x86-64 is needed" },
	{ "ARM64", machine_arm64, "is for ARM64 (ELF machine 183); a kernel for x86-64 is needed" },
	{ "RISC-V", machine_riscv, "is for RISC-V (ELF machine 243); a kernel for x86-64 is needed" },
	{ "unknown machine", machine_other,
	  "is for another machine (ELF machine 48879); a kernel for x86-64 is needed" },
	{ "object file", object_file, "has the ELF type 1; an executable (type 2) is needed" },
	{ "e_phnum 0", phnum_0, "has no program headers, so nothing to load" },
	{ "e_phnum 65", phnum_65, "has 65 program headers; at most 64 are supported" },
	{ "PN_XNUM", phnum_xnum, "has 65535 program headers; at most 64 are supported" },
	{ "e_phentsize 0", phentsize_0, "has program headers of 0 bytes instead of 56" },
	{ "e_phentsize 57", phentsize_57, "has program headers of 57 bytes instead of 56" },
	{ "e_phoff at the end", phoff_at_end, "is truncated: its program headers are at byte 0x4fc8 of 0x5000" },
	{ "e_phoff wraps", phoff_wraps, "is truncated: its program headers are at byte 0xffffffffffffffc8 of 0x5000" },
	{ "nothing to load", no_load, "has no segment to load" },
	{ "empty segments", all_empty, "has no segment to load" },
	{ "interpreter", interpreter, "is a program with an interpreter (segment 2), not a kernel" },
	{ "p_filesz > p_memsz", file_gt_mem, "segment 1 has more bytes in the file (0x1000) than in memory (0xfff)" },
	{ "p_filesz 1, p_memsz 0", mem_0_file_1, "segment 1 has more bytes in the file (0x1) than in memory (0x0)" },
	{ "p_offset wraps", offset_wraps,
	  "segment 1 has 0x1000 bytes at byte 0xfffffffffffff000 of a file of 0x5000: truncated?" },
	{ "p_offset at the end", offset_beyond,
	  "segment 1 has 0x1000 bytes at byte 0x5000 of a file of 0x5000: truncated?" },
	{ "p_filesz 2^64-1", filesz_huge,
	  "segment 1 has 0xffffffffffffffff bytes at byte 0x4000 of a file of 0x5000: truncated?" },
	{ "over the zero page", over_zero_page, "segment 1 is at 0x2000, below 1 MiB, where boot data is" },
	{ "across 1 MiB", below_1m, "segment 1 is at 0xff000, below 1 MiB, where boot data is" },
	{ "address 0", address_0, "segment 1 is at 0x0, below 1 MiB, where boot data is" },
	{ "at the end of RAM", at_ram_end,
	  "segment 1 is at 0x4000000 to 0x4003000, but guest memory ends at 0x4000000 (64 MiB)" },
	{ "in the gap", in_gap, "segment 1 has 0x3000 bytes at 0xd0000000, beyond 3 GiB, where devices are" },
	{ "at 4 GiB", over_4g, "segment 1 has 0x3000 bytes at 0x100000000, beyond 3 GiB, where devices are" },
	{ "p_paddr wraps", address_wraps,
	  "segment 1 has 0x3000 bytes at 0xfffffffffffff000, beyond 3 GiB, where devices are" },
	{ "p_memsz wraps", memsz_wraps,
	  "segment 1 has 0xfffffffffeffd000 bytes at 0x1003000, beyond 3 GiB, where devices are" },
	{ "overlap by one byte", overlap_by_1,
	  "segments 0 (0x1000000 to 0x1003001) and 1 (0x1003000 to 0x1006000) overlap" },
	{ "one in the other", overlap_inside,
	  "segments 0 (0x1000000 to 0x1002345) and 1 (0x1001000 to 0x1002000) overlap" },
	{ "in a bss", overlap_bss, "segments 0 (0x1004000 to 0x1006345) and 1 (0x1003000 to 0x1006000) overlap" },
	{ "entry 0", entry_0, "its entry point 0x0 is in no segment" },
	{ "virtual entry", entry_virtual, "its entry point 0xffffffff81000000 is in no segment" },
	{ "entry after the text", entry_after_text, "its entry point 0x1002345 is in no segment" },
	{ "entry in the bss", entry_in_bss, "its entry point 0x1004000 is in no segment" },
	{ "notes too big", note_too_big, "segment 2 has notes of 0x10001 bytes; at most 0x10000 are supported" },
	{ "notes beyond the file", note_beyond,
	  "segment 2 has 0x54 bytes at byte 0x4ff8 of a file of 0x5000: truncated?" },
	{ "n_namesz 2^32-1", namesz_max,
	  "the note at byte 0x0 of segment 2 (name of 4294967295 bytes, contents of 20) is longer than the segment" },
	{ "n_descsz 2^32-1", descsz_max,
	  "the note at byte 0x0 of segment 2 (name of 4 bytes, contents of 4294967295) is longer than the segment" },
	{ "both 2^32-1", both_max,
	  "the note at byte 0x0 of segment 2 (name of 4294967295 bytes, contents of 4294967295) is longer than the "
	  "segment" },
	{ "a name that is cut", name_cut,
	  "the note at byte 0x0 of segment 2 (name of 6 bytes, contents of 0) is longer than the segment" },
	{ "n_namesz 2^32-1 alone", namesz_max_alone,
	  "the note at byte 0x0 of segment 2 (name of 4294967295 bytes, contents of 0) is longer than the segment" },
	{ "PVH note cut", pvh_cut,
	  "the note at byte 0x3c of segment 2 (name of 4 bytes, contents of 8) is longer than the segment" },
	{ "PVH note of 0 bytes", pvh_len_0, "its PVH note has 0 bytes instead of 4 or 8" },
	{ "PVH note of 5 bytes", pvh_len_5, "its PVH note has 5 bytes instead of 4 or 8" },
	{ "PVH entry outside", pvh_outside, "its PVH entry point 0x30000040 is in no segment" },
	{ "PVH entry above 4 GiB", pvh_over_4g, "its PVH entry point 0x101000040 is in no segment" },
};

static void test_hostile(void **state)
{
	static struct image im;

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(cases); i++) {
		good_image(&im);
		cases[i].spoil(&im);
		write_image(&im);
		refused(cases[i].name, cases[i].message);
		assert_zero(TEXT, 0x6000);
		close(file);
		file = -1;
	}
}

/* A terabyte that is all hole must cost nothing, wherever its header points. */
static void test_sparse_terabyte(void **state)
{
	static struct image im;
	struct kernel_image k;

	(void)state;
	good_image(&im);
	im.file_size = 1ULL << 40;
	im.p[SEG_DATA].p_offset = (1ULL << 40) - 32 * MIB;
	im.p[SEG_DATA].p_filesz = im.p[SEG_DATA].p_memsz = 32 * MIB;
	write_image(&im);
	assert_int_equal(kernel_load(&k, &ram, path, &err), 0);
	assert_int_equal(k.bytes_copied, 0x345);
	close(file);
	good_image(&im);
	im.file_size = 1ULL << 40;
	im.p[SEG_DATA].p_filesz = im.p[SEG_DATA].p_memsz = 1ULL << 39;
	write_image(&im);
	refused("half a terabyte", "segment 1 has 0x8000000000 bytes at 0x1003000, beyond 3 GiB, where devices are");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_good, setup, teardown),
		cmocka_unit_test_setup_teardown(test_guest_writes_do_not_reach_the_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unaligned_text_is_copied, setup, teardown),
		cmocka_unit_test_setup_teardown(test_holes_are_not_copied, setup, teardown),
		cmocka_unit_test_setup_teardown(test_segment_that_fills_ram_to_its_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hostile, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sparse_terabyte, setup, teardown),
	};

	return cmocka_run_group_tests_name("elf", tests, NULL, NULL);
}
