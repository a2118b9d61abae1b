/*
 * Loads a bzImage; see bzimage.h. The format is that of the Linux x86 boot protocol (Documentation/arch/x86/boot.rst).
 *
 * Theory of operation. A bzImage is real-mode code that we never run (setup_sects + 1 sectors of 512 bytes, of which the
 * first two have the setup header), then a program of syssize paragraphs of 16 bytes that unpacks the kernel. It goes to
 * the preferred address as it is, is entered in 64-bit mode 0x200 bytes after its start, or in 32-bit mode at its start
 * if that is all it has, and uses init_size bytes from there on, its own included: what lies in them must be RAM, and
 * nothing else may be put there. The file may end within the last paragraph (memtest86+ is not padded). What follows the
 * program in the file, such as an EFI signature, is not loaded.
 *
 * Below its preferred address (16 MiB) even a relocatable Linux unpacks itself to that address, so nothing is gained
 * by moving it down for a small guest. Where a randomized kernel goes from there is its own choice, by the memory map.
 *
 * The file is hostile. Of its header only the copy in struct kernel_file is looked at; each number is bounded before it
 * is used, and nothing is written before all are checked. A header is as long as its second byte says, and ends within
 * the copy; fields beyond its end are zero, as if it had them.
 */
#include "loader/bzimage.h"

#include <errno.h>
#include <string.h>

#include "loader/filemem.h"
#include "loader/kernel.h"
#include "loader/layout.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/core/mem.h"

#define SETUP_AT 0x1f1U	       /* where struct setup_header starts in the file, and in boot_params */
#define SETUP_LENGTH_AT 0x201U /* a byte: the header ends so many bytes after 0x202 */
#define SETUP_MAGIC_AT 0x202U  /* "HdrS" */
#define SETUP_SECTS_OLD 4U     /* the meaning of setup_sects 0 */
#define SECTOR_SIZE 512U
#define PARAGRAPH_SIZE 16U
#define BOOT_FLAG 0xaa55
#define PROTOCOL_MIN 0x020c /* 2.12, of Linux 3.8: the first with xloadflags */
#define ENTRY64_OFFSET 0x200U
#define ALIGNMENT_MAX GIB

_Static_assert(SETUP_MAGIC_AT + 0xff <= KERNEL_HEAD_SIZE, "the longest header lies in what was read");

typedef unsigned long long ull;

bool bzimage_is_bzimage(const struct kernel_file *f)
{
	return f->head_len >= SETUP_MAGIC_AT + 4 && memcmp(f->head + SETUP_MAGIC_AT, "HdrS", 4) == 0;
}

/* Copies the header and checks its own fields. */
static int read_setup(struct setup_header *h, const struct kernel_file *f, struct err *e)
{
	uint64_t end = SETUP_MAGIC_AT + f->head[SETUP_LENGTH_AT];

	if (f->head_len < end)
		return err_set(e, -ENOEXEC, "is truncated: %llu bytes are less than its setup header",
			       (ull)f->head_len);
	memset(h, 0, sizeof(*h));
	memcpy(h, f->head + SETUP_AT, MF_MIN(end - SETUP_AT, sizeof(*h)));
	if (h->boot_flag != BOOT_FLAG)
		return err_set(e, -ENOEXEC, "is no bzImage: its boot flag is 0x%x instead of 0xaa55", h->boot_flag);
	if (h->version < PROTOCOL_MIN)
		return err_set(e, -ENOEXEC, "has boot protocol %u.%02u; 2.12 is needed (Linux 3.8)", h->version >> 8,
			       h->version & 0xff);
	if (end < SETUP_AT + offsetof(struct setup_header, handover_offset))
		return err_set(e, -ENOEXEC, "has a setup header of %llu bytes, too short for its boot protocol",
			       (ull)(end - SETUP_AT));
	if (!(h->loadflags & LOADED_HIGH))
		return err_set(e, -ENOEXEC, "is a zImage, which is loaded below 1 MiB; a bzImage is needed");
	return 0;
}

static bool is_32bit(const struct setup_header *h)
{
	return !(h->xloadflags & XLF_KERNEL_64);
}

/* Of the entry point, in the program. */
static uint64_t entry_offset(const struct setup_header *h)
{
	return is_32bit(h) ? 0 : ENTRY64_OFFSET;
}

/* Where in the file the program is, and that it is there. */
static int find_program(const struct setup_header *h, const struct kernel_file *f, uint64_t *ret_offset,
			uint64_t *ret_size, struct err *e)
{
	uint64_t sects = h->setup_sects ? h->setup_sects : SETUP_SECTS_OLD;
	uint64_t offset = (sects + 1) * SECTOR_SIZE, size = (uint64_t)h->syssize * PARAGRAPH_SIZE;
	uint64_t in_file = offset < f->size ? f->size - offset : 0;

	if (size > in_file && size - in_file < PARAGRAPH_SIZE)
		size = in_file;
	if (size <= entry_offset(h))
		return err_set(e, -ENOEXEC, "has %llu bytes to load, too few for a kernel", (ull)size);
	if (!mf_range_within(offset, size, f->size))
		return err_set(e, -ENOEXEC, "has 0x%llx bytes at byte 0x%llx of a file of 0x%llx: truncated?",
			       (ull)size, (ull)offset, (ull)f->size);
	if (!mf_range_within(h->payload_offset, h->payload_length, size))
		return err_set(e, -ENOEXEC, "has a payload of 0x%x bytes at 0x%x of 0x%llx", h->payload_length,
			       h->payload_offset, (ull)size);
	*ret_offset = offset;
	*ret_size = size;
	return 0;
}

/* Where in guest memory it goes: [*ret, *ret + init_size) is RAM in the first region. */
static int choose_address(const struct setup_header *h, uint64_t size, const struct mem *m, uint64_t *ret,
			  struct err *e)
{
	uint64_t address = h->pref_address, align = h->kernel_alignment;

	if (h->init_size < size)
		return err_set(e, -ENOEXEC, "has 0x%llx bytes to load, but says that it needs 0x%x", (ull)size,
			       h->init_size);
	if (h->relocatable_kernel) {
		if (align < MF_PAGE_SIZE || align > ALIGNMENT_MAX || (align & (align - 1)) != 0)
			return err_set(e, -ENOEXEC,
				       "has the alignment 0x%llx; a power of two is needed, 4 KiB to 1 GiB",
				       (ull)align);
		/*
		 * Bounded before it is rounded; an address beyond 3 GiB is refused below.
		 */
		address = mf_align_up(MF_MIN(MF_MAX(address, LAYOUT_HIGH_RAM), MEM_GAP_START), align);
	}
	if (address < LAYOUT_KERNEL_MIN)
		return err_set(e, -ENOEXEC, "must be loaded at 0x%llx, below 1 MiB, where boot data is", (ull)address);
	if (!mf_range_within(address, h->init_size, MEM_GAP_START))
		return err_set(e, -ENOEXEC, "needs 0x%x bytes at 0x%llx, beyond 3 GiB, where devices are", h->init_size,
			       (ull)address);
	if (!mf_range_within(address, h->init_size, m->region[0].size))
		return err_set(e, -ENOSPC,
			       "needs guest memory up to 0x%llx to unpack itself, but it ends at 0x%llx (%llu MiB)",
			       (ull)(address + h->init_size), (ull)m->region[0].size, (ull)(m->size / MIB));
	*ret = address;
	return 0;
}

int bzimage_load(struct kernel_image *ret, struct mem *m, const struct kernel_file *f, struct err *e)
{
	struct setup_header *h = &ret->setup;
	struct filemem_count count = { 0 };
	uint64_t offset = 0, size = 0, address = 0;
	int rc;

	rc = read_setup(h, f, e);
	if (rc == 0)
		rc = find_program(h, f, &offset, &size, e);
	if (rc == 0)
		rc = choose_address(h, size, m, &address, e);
	if (rc == 0)
		rc = filemem_copy(m, address, f->fd, offset, size, &count, e);
	if (rc < 0)
		return rc;
	ret->has_setup = true;
	ret->is_linux = true;
	ret->entry_is_32bit = is_32bit(h);
	ret->entry = address + entry_offset(h);
	ret->lowest = address;
	ret->highest = address + h->init_size;
	ret->initrd_end = (uint64_t)h->initrd_addr_max + 1;
	ret->bytes_copied = count.copied;
	return 0;
}
