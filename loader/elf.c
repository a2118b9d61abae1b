/*
 * Loads an ELF kernel; see elf.h.
 *
 * Theory of operation. The file is hostile. Its header, the program headers and the notes are read once, each bounded,
 * and everything is checked on the copies before guest memory is touched: each PT_LOAD lies within the file and, by its
 * physical address, in RAM between 1 MiB (below it are our own structures) and 3 GiB; no two overlap; the entry points
 * lie in what is loaded. Sections and symbols are not looked at. mayfly checks nothing else of a kernel.
 *
 * A PVH note (XEN_ELFNOTE_PHYS32_ENTRY) makes a kernel of any ELF file, since nothing else is needed to start it:
 * FreeBSD's has an interpreter and a virtual e_entry, and a file of class 32 has no 64-bit entry point. Without the note
 * e_entry is where the 64-bit Linux protocol starts. The headers of class 32 are widened as they are read.
 *
 * Guest RAM is one anonymous mapping in huge pages, zeroed. segment_policy() says how a segment becomes part of it:
 * mapped, without a copy, so that many VMs share the page cache, at the price of a fault for each 4 KiB page touched;
 * or copied, which keeps RAM in huge pages. A bss needs nothing: RAM is zero, a mapping takes only pages that lie
 * within its segment as a whole, and segments do not overlap.
 *
 * The file must not be truncated while the VM lives; see filemem.h.
 */
#include "loader/elf.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#include "loader/filemem.h"
#include "loader/kernel.h"
#include "loader/layout.h"
#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"
#include "vmm/core/mem.h"

#define NOTES_SIZE_MAX (64 * KIB) /* of one PT_NOTE; vmlinux has 136 bytes */
#define NOTE_PVH_ENTRY 18	  /* XEN_ELFNOTE_PHYS32_ENTRY, of the owner "Xen" */

typedef unsigned long long ull;

/* A file being loaded. */
struct elf_file {
	int fd;
	uint64_t size;
	unsigned num_segments;
	Elf64_Ehdr header;
	Elf64_Phdr segment[ELF_SEGMENTS_MAX];
};

static const char *machine_name(unsigned machine)
{
	switch (machine) {
	case EM_386:
		return "32-bit x86";
	case EM_ARM:
		return "32-bit ARM";
	case EM_AARCH64:
		return "ARM64";
	case EM_RISCV:
		return "RISC-V";
	case EM_PPC64:
		return "POWER";
	case EM_S390:
		return "s390";
	case EM_MIPS:
		return "MIPS";
	case 258: /* EM_LOONGARCH */
		return "LoongArch";
	default:
		return "another machine";
	}
}

static bool is_class32(const struct elf_file *f)
{
	return f->header.e_ident[EI_CLASS] == ELFCLASS32;
}

/* Those fields that are looked at. */
static void widen_header(Elf64_Ehdr *ret, const Elf32_Ehdr *h)
{
	*ret = (Elf64_Ehdr){
		.e_type = h->e_type,
		.e_machine = h->e_machine,
		.e_entry = h->e_entry,
		.e_phoff = h->e_phoff,
		.e_phentsize = h->e_phentsize,
		.e_phnum = h->e_phnum,
	};
	memcpy(ret->e_ident, h->e_ident, sizeof(ret->e_ident));
}

static void widen_segment(Elf64_Phdr *ret, const Elf32_Phdr *s)
{
	*ret = (Elf64_Phdr){
		.p_type = s->p_type,
		.p_flags = s->p_flags,
		.p_offset = s->p_offset,
		.p_paddr = s->p_paddr,
		.p_filesz = s->p_filesz,
		.p_memsz = s->p_memsz,
		.p_align = s->p_align,
	};
}

static int read_header(const struct kernel_file *k, Elf64_Ehdr *h, struct err *e)
{
	unsigned class = k->head_len > EI_CLASS ? k->head[EI_CLASS] : ELFCLASS64;
	Elf32_Ehdr narrow;

	if (class != ELFCLASS32 && class != ELFCLASS64)
		return err_set(e, -ENOEXEC, "has the unknown ELF class %u", class);
	if (k->head_len < (class == ELFCLASS32 ? sizeof(narrow) : sizeof(*h)))
		return err_set(e, -ENOEXEC, "is truncated: %llu bytes are less than an ELF header", (ull)k->head_len);
	if (class == ELFCLASS32) {
		memcpy(&narrow, k->head, sizeof(narrow));
		widen_header(h, &narrow);
	} else {
		memcpy(h, k->head, sizeof(*h));
	}
	if (h->e_ident[EI_DATA] != ELFDATA2LSB)
		return err_set(e, -ENOEXEC, "is not little-endian; a kernel for x86-64 is needed");
	if (h->e_machine != EM_X86_64 && !(class == ELFCLASS32 && h->e_machine == EM_386))
		return err_set(e, -ENOEXEC, "is for %s (ELF machine %u); a kernel for x86-64 is needed",
			       machine_name(h->e_machine), h->e_machine);
	if (h->e_type != ET_EXEC && h->e_type != ET_DYN)
		return err_set(e, -ENOEXEC, "has the ELF type %u; an executable (type 2) is needed", h->e_type);
	return 0;
}

static int read_program_headers(struct elf_file *f, struct err *e)
{
	const Elf64_Ehdr *h = &f->header;
	size_t entry_size = is_class32(f) ? sizeof(Elf32_Phdr) : sizeof(Elf64_Phdr);
	uint64_t len = h->e_phnum * entry_size;
	Elf32_Phdr narrow[ELF_SEGMENTS_MAX];
	int rc;

	if (h->e_phnum == 0)
		return err_set(e, -ENOEXEC, "has no program headers, so nothing to load");
	if (h->e_phnum > ELF_SEGMENTS_MAX)
		return err_set(e, -ENOEXEC, "has %u program headers; at most %d are supported", h->e_phnum,
			       ELF_SEGMENTS_MAX);
	if (h->e_phentsize != entry_size)
		return err_set(e, -ENOEXEC, "has program headers of %u bytes instead of %zu", h->e_phentsize,
			       entry_size);
	if (!mf_range_within(h->e_phoff, len, f->size))
		return err_set(e, -ENOEXEC, "is truncated: its program headers are at byte 0x%llx of 0x%llx",
			       (ull)h->e_phoff, (ull)f->size);
	rc = fdio_pread_all(f->fd, is_class32(f) ? (void *)narrow : f->segment, len, h->e_phoff);
	if (rc < 0)
		return err_neg(e, rc, "read its program headers");
	f->num_segments = h->e_phnum;
	for (unsigned i = 0; is_class32(f) && i < f->num_segments; i++)
		widen_segment(&f->segment[i], &narrow[i]);
	return 0;
}

static int check_segment(const struct elf_file *f, unsigned i, const struct mem *m, struct err *e)
{
	const Elf64_Phdr *s = &f->segment[i];
	uint64_t ram_end = m->region[0].size;

	if (s->p_type != PT_LOAD && s->p_type != PT_NOTE)
		return 0;
	/* Of a segment without bytes in the file, the offset means nothing: linkers let it point past the end. */
	if (s->p_filesz > 0 && !mf_range_within(s->p_offset, s->p_filesz, f->size))
		return err_set(e, -ENOEXEC,
			       "segment %u has 0x%llx bytes at byte 0x%llx of a file of 0x%llx: truncated?", i,
			       (ull)s->p_filesz, (ull)s->p_offset, (ull)f->size);
	if (s->p_type == PT_NOTE)
		return 0;
	if (s->p_filesz > s->p_memsz)
		return err_set(e, -ENOEXEC, "segment %u has more bytes in the file (0x%llx) than in memory (0x%llx)", i,
			       (ull)s->p_filesz, (ull)s->p_memsz);
	if (s->p_memsz == 0)
		return 0;
	if (s->p_paddr < LAYOUT_KERNEL_MIN)
		return err_set(e, -ENOEXEC, "segment %u is at 0x%llx, below 1 MiB, where boot data is", i,
			       (ull)s->p_paddr);
	if (!mf_range_within(s->p_paddr, s->p_memsz, MEM_GAP_START))
		return err_set(e, -ENOEXEC, "segment %u has 0x%llx bytes at 0x%llx, beyond 3 GiB, where devices are", i,
			       (ull)s->p_memsz, (ull)s->p_paddr);
	if (!mf_range_within(s->p_paddr, s->p_memsz, ram_end))
		return err_set(e, -ENOSPC,
			       "segment %u is at 0x%llx to 0x%llx, but guest memory ends at 0x%llx (%llu MiB)", i,
			       (ull)s->p_paddr, (ull)(s->p_paddr + s->p_memsz), (ull)ram_end, (ull)(m->size / MIB));
	for (unsigned j = 0; j < i; j++) {
		const Elf64_Phdr *t = &f->segment[j];

		/* t has passed these checks: its sum does not wrap. */
		if (t->p_type == PT_LOAD && t->p_memsz > 0 && s->p_paddr < t->p_paddr + t->p_memsz &&
		    t->p_paddr < s->p_paddr + s->p_memsz)
			return err_set(e, -ENOEXEC, "segments %u (0x%llx to 0x%llx) and %u (0x%llx to 0x%llx) overlap",
				       j, (ull)t->p_paddr, (ull)(t->p_paddr + t->p_memsz), i, (ull)s->p_paddr,
				       (ull)(s->p_paddr + s->p_memsz));
	}
	return 0;
}

/* gpa lies in what the file brings of a segment (not in a bss, where no code is). */
static bool is_loaded(const struct elf_file *f, uint64_t gpa)
{
	for (unsigned i = 0; i < f->num_segments; i++) {
		const Elf64_Phdr *s = &f->segment[i];

		if (s->p_type == PT_LOAD && gpa >= s->p_paddr && gpa - s->p_paddr < s->p_filesz)
			return true;
	}
	return false;
}

static int take_pvh_entry(struct kernel_image *image, const struct elf_file *f, const uint8_t *desc, uint32_t len,
			  struct err *e)
{
	uint64_t entry = 0;

	if (len != 4 && len != 8)
		return err_set(e, -ENOEXEC, "its PVH note has %u bytes instead of 4 or 8", len);
	memcpy(&entry, desc, len);
	if (!is_loaded(f, entry)) /* loaded segments are below 3 GiB */
		return err_set(e, -ENOEXEC, "its PVH entry point 0x%llx is in no segment", (ull)entry);
	image->has_pvh = true;
	image->pvh_entry = (uint32_t)entry;
	return 0;
}

/* The notes of segment i, len bytes at data: header, owner's name, contents, each padded to align. */
static int parse_notes(struct kernel_image *image, const struct elf_file *f, unsigned i, const uint8_t *data,
		       uint64_t len, uint64_t align, struct err *e)
{
	uint64_t pos = 0, desc;
	Elf64_Nhdr note;
	int rc;

	/* All sums are of 32-bit numbers, in 64 bits. Each turn takes at least a header. */
	while (pos < len && len - pos >= sizeof(note)) {
		const uint8_t *name = data + pos + sizeof(note);

		memcpy(&note, data + pos, sizeof(note));
		desc = mf_align_up(pos + sizeof(note) + note.n_namesz, align);
		if (pos + sizeof(note) + note.n_namesz > len || (note.n_descsz > 0 && desc + note.n_descsz > len))
			return err_set(e, -ENOEXEC,
				       "the note at byte 0x%llx of segment %u (name of %u bytes, contents of %u) is "
				       "longer than the segment",
				       (ull)pos, i, note.n_namesz, note.n_descsz);
		pos = mf_align_up(desc + note.n_descsz, align);
		if (note.n_namesz == sizeof("Linux") && memcmp(name, "Linux", sizeof("Linux")) == 0)
			image->is_linux = true;
		if (note.n_type != NOTE_PVH_ENTRY || note.n_namesz != sizeof("Xen") ||
		    memcmp(name, "Xen", sizeof("Xen")) != 0)
			continue;
		rc = take_pvh_entry(image, f, data + desc, note.n_descsz, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/*
 * The notes of a segment are padded to 8 bytes if its alignment is 8, else to 4. But a linker that joins notes of both
 * kinds states 8 for them all: these are read either way, and refused if neither works.
 */
static int read_notes(struct kernel_image *image, const struct elf_file *f, unsigned i, struct err *e)
{
	const Elf64_Phdr *s = &f->segment[i];
	MF_FREE uint8_t *data = NULL;
	int rc, rc8 = -ENOEXEC;

	if (s->p_filesz > NOTES_SIZE_MAX)
		return err_set(e, -ENOEXEC, "segment %u has notes of 0x%llx bytes; at most 0x%llx are supported", i,
			       (ull)s->p_filesz, (ull)NOTES_SIZE_MAX);
	if (s->p_filesz == 0)
		return 0;
	data = malloc(s->p_filesz);
	if (!data)
		return err_set(e, -ENOMEM, "out of memory for the notes of segment %u", i);
	rc = fdio_pread_all(f->fd, data, s->p_filesz, s->p_offset);
	if (rc < 0)
		return err_neg(e, rc, "read the notes of segment %u", i);
	if (s->p_align == 8)
		rc8 = parse_notes(image, f, i, data, s->p_filesz, 8, e);
	rc = parse_notes(image, f, i, data, s->p_filesz, 4, e);
	return rc8 == 0 ? 0 : rc;
}

/* A kernel without a PVH note: it must look like one, since it is started at e_entry. */
static int check_without_pvh(const struct kernel_image *image, const struct elf_file *f, struct err *e)
{
	for (unsigned i = 0; i < f->num_segments; i++)
		if (f->segment[i].p_type == PT_INTERP)
			return err_set(e, -ENOEXEC, "is a program with an interpreter (segment %u), not a kernel", i);
	if (is_class32(f))
		return err_set(e, -ENOEXEC,
			       "is a 32-bit ELF file without a PVH note; such a note or a kernel for x86-64 is needed");
	if (!image->entry)
		return err_set(e, -ENOEXEC, "its entry point 0x%llx is in no segment", (ull)f->header.e_entry);
	return 0;
}

/* Checks everything, and fills image but for the counts. */
static int inspect(struct kernel_image *image, struct elf_file *f, const struct mem *m, struct err *e)
{
	int rc = read_program_headers(f, e);

	if (rc < 0)
		return rc;
	image->lowest = UINT64_MAX;
	for (unsigned i = 0; i < f->num_segments; i++) {
		const Elf64_Phdr *s = &f->segment[i];

		rc = check_segment(f, i, m, e);
		if (rc < 0)
			return rc;
		if (s->p_type != PT_LOAD || s->p_memsz == 0)
			continue;
		image->lowest = MF_MIN(image->lowest, s->p_paddr);
		image->highest = MF_MAX(image->highest, s->p_paddr + s->p_memsz);
	}
	if (image->highest == 0)
		return err_set(e, -ENOEXEC, "has no segment to load");
	for (unsigned i = 0; i < f->num_segments; i++) {
		rc = f->segment[i].p_type == PT_NOTE ? read_notes(image, f, i, e) : 0;
		if (rc < 0)
			return rc;
	}
	if (!is_class32(f) && is_loaded(f, f->header.e_entry))
		image->entry = f->header.e_entry;
	return image->has_pvh ? 0 : check_without_pvh(image, f, e);
}

enum segment_policy { SEGMENT_MAP, SEGMENT_COPY };

/*
 * Text and read-only data are mapped: most of their pages are never touched, or only
 * read. Writable segments are copied, because a written page of a mapping costs two
 * faults and a copy of its own.
 */
static enum segment_policy segment_policy(const Elf64_Phdr *s)
{
	bool aligned = s->p_paddr % MF_PAGE_SIZE == 0 && s->p_offset % MF_PAGE_SIZE == 0;

	return aligned && !(s->p_flags & PF_W) ? SEGMENT_MAP : SEGMENT_COPY;
}

static int place(const struct elf_file *f, unsigned i, struct mem *m, struct filemem_count *count, struct err *e)
{
	const Elf64_Phdr *s = &f->segment[i];
	int rc = 0;

	if (s->p_type != PT_LOAD || s->p_filesz == 0)
		return 0;
	switch (segment_policy(s)) {
	case SEGMENT_MAP:
		rc = filemem_map(m, s->p_paddr, f->fd, s->p_offset, s->p_filesz, count, e);
		break;
	case SEGMENT_COPY:
		rc = filemem_copy(m, s->p_paddr, f->fd, s->p_offset, s->p_filesz, count, e);
		break;
	}
	return rc < 0 ? err_wrap(e, "segment %u", i) : 0;
}

/*
 * A kernel's bss may end in the first pages of a huge page of which Linux uses no more. If these are few, small pages are
 * cheaper (perf/boot: 22 pages, 0.58 million instructions).
 */
#define TAIL_SMALL_MAX (512 * KIB)

static void keep_tail_small(struct mem *m, uint64_t kernel_end)
{
	uint64_t tail = kernel_end % (2 * MIB);

	if (tail && tail < TAIL_SMALL_MAX)
		mem_keep_small(m, kernel_end);
}

bool elf_is_elf(const struct kernel_file *f)
{
	return f->head_len >= SELFMAG && memcmp(f->head, ELFMAG, SELFMAG) == 0;
}

int elf_load(struct kernel_image *ret, struct mem *m, const struct kernel_file *file, struct err *e)
{
	struct elf_file f = { .fd = file->fd, .size = file->size };
	struct filemem_count count = { 0 };
	int rc = read_header(file, &f.header, e);

	if (rc == 0)
		rc = inspect(ret, &f, m, e);
	for (unsigned i = 0; rc == 0 && i < f.num_segments; i++)
		rc = place(&f, i, m, &count, e);
	if (rc < 0)
		return rc;
	keep_tail_small(m, ret->highest);
	ret->bytes_mapped = count.mapped;
	ret->bytes_copied = count.copied;
	return 0;
}
