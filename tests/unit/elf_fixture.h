/* A small ELF kernel, in the making, and guest memory to load it into. */
#ifndef MF_TESTS_UNIT_ELF_FIXTURE_H
#define MF_TESTS_UNIT_ELF_FIXTURE_H

#define RAM (64 * MIB)
#include "tests/unit/loader_fixture.h"

#include <elf.h>

#include "loader/kernel.h"

#define TEXT 0x1000000ULL
#define DATA 0x1003000ULL
#define TEXT_AT 0x1000U /* in the file; 0x2345 bytes */
#define NOTES_AT 0x3100U
#define DATA_AT 0x4000U /* 0x1000 bytes, and 0x2000 of bss */
#define IMAGE_SIZE 0x5000U

enum { SEG_TEXT, SEG_DATA, SEG_NOTE, NUM_SEGS };

/* A file in the making: a good kernel, which a case then spoils. */
struct image {
	Elf64_Ehdr h;
	Elf64_Phdr p[NUM_SEGS];
	size_t size;	    /* of bytes written */
	uint64_t file_size; /* if larger: the rest is a hole */
	uint8_t bytes[IMAGE_SIZE];
};

static uint32_t add_note(uint8_t *at, const char *name, uint32_t type, const void *desc, uint32_t len)
{
	const Elf64_Nhdr n = { .n_namesz = (uint32_t)strlen(name) + 1, .n_descsz = len, .n_type = type };
	uint32_t name_len = (n.n_namesz + 3) & ~3U;

	memcpy(at, &n, sizeof(n));
	memcpy(at + sizeof(n), name, n.n_namesz);
	memcpy(at + sizeof(n) + name_len, desc, len);
	return (uint32_t)sizeof(n) + name_len + ((len + 3) & ~3U);
}

static void good_image(struct image *im)
{
	const uint64_t pvh = TEXT + 0x40;
	uint32_t n;

	memset(im, 0, sizeof(*im));
	im->h = (Elf64_Ehdr){
		.e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_entry = TEXT + 0x123,
		.e_phoff = sizeof(Elf64_Ehdr),
		.e_ehsize = sizeof(Elf64_Ehdr),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = NUM_SEGS,
	};
	im->p[SEG_TEXT] = (Elf64_Phdr){ PT_LOAD, PF_R | PF_X, TEXT_AT, 0, TEXT, 0x2345, 0x2345, 0x1000 };
	im->p[SEG_DATA] = (Elf64_Phdr){ PT_LOAD, PF_R | PF_W, DATA_AT, 0, DATA, 0x1000, 0x3000, 0x1000 };
	for (unsigned i = TEXT_AT; i < IMAGE_SIZE; i++)
		im->bytes[i] = (uint8_t)(i * 7 + i / 256);
	n = add_note(im->bytes + NOTES_AT, "GNU", 3, "0123456789012345678", 20);
	n += add_note(im->bytes + NOTES_AT + n, "Linux", 257, "\0\0\0\0", 4);
	n += add_note(im->bytes + NOTES_AT + n, "Xen", 18, &pvh, sizeof(pvh));
	im->p[SEG_NOTE] = (Elf64_Phdr){ PT_NOTE, PF_R, NOTES_AT, 0, TEXT + NOTES_AT - TEXT_AT, n, n, 4 };
	im->size = IMAGE_SIZE;
}

/* The same headers, as those of a file of class 32 have them. */
static void put_headers_of_class_32(struct image *im)
{
	const Elf64_Ehdr *h = &im->h;
	Elf32_Ehdr h32 = {
		.e_type = h->e_type,
		.e_machine = h->e_machine,
		.e_version = h->e_version,
		.e_entry = (uint32_t)h->e_entry,
		.e_phoff = (uint32_t)h->e_phoff,
		.e_phentsize = h->e_phentsize,
		.e_phnum = h->e_phnum,
	};

	memcpy(h32.e_ident, h->e_ident, sizeof(h32.e_ident));
	memcpy(im->bytes, &h32, sizeof(h32));
	for (unsigned i = 0; i < NUM_SEGS; i++) {
		const Elf64_Phdr *p = &im->p[i];
		const Elf32_Phdr p32 = {
			.p_type = p->p_type,
			.p_offset = (uint32_t)p->p_offset,
			.p_paddr = (uint32_t)p->p_paddr,
			.p_filesz = (uint32_t)p->p_filesz,
			.p_memsz = (uint32_t)p->p_memsz,
			.p_flags = p->p_flags,
			.p_align = (uint32_t)p->p_align,
		};

		memcpy(im->bytes + sizeof(h32) + i * sizeof(p32), &p32, sizeof(p32));
	}
}

static inline void make_class_32(struct image *im)
{
	im->h.e_ident[EI_CLASS] = ELFCLASS32;
	im->h.e_machine = EM_386;
	im->h.e_phoff = sizeof(Elf32_Ehdr);
	im->h.e_phentsize = sizeof(Elf32_Phdr);
}

static void write_image(struct image *im)
{
	if (im->h.e_ident[EI_CLASS] == ELFCLASS32) {
		put_headers_of_class_32(im);
	} else {
		memcpy(im->bytes, &im->h, sizeof(im->h));
		memcpy(im->bytes + sizeof(im->h), im->p, sizeof(im->p));
	}
	make_file_of(im->bytes, im->size);
	if (im->file_size > im->size)
		assert_int_equal(ftruncate(file, (off_t)im->file_size), 0);
}

#endif
