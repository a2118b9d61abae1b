/*
 * What an x86 kernel finds at its entry point; see boot_x86.h. Addresses are those of layout.h.
 *
 * Theory of operation. Both protocols hand over a memory map, a command line and an initrd.
 *
 * linux64: the 64-bit boot protocol (Linux, Documentation/arch/x86/boot.rst): 64-bit mode; the kernel, boot_params and
 * the command line mapped where they are; RSI at boot_params. A bzImage brings the setup header for boot_params; for an
 * ELF kernel it is filled with what Linux reads, and a version other than 0 matters, or Linux copies everything twice.
 * The seed is a node of the setup_data list; Linux overwrites it after use. A second node tells the project's kernels
 * what only they know (docs/guest-interface.md); others skip it by its type. Page table entries have their accessed and
 * dirty bits set, which spares the CPU from setting them.
 *
 * linux32: the same by its 32-bit protocol, for a bzImage that has no other: 32-bit mode without paging, ESI at
 * boot_params.
 *
 * pvh: the "x86/HVM direct boot ABI" of Xen (docs/misc/pvh.pandoc; the structures: xen/include/public/arch-x86/hvm/
 * start_info.h): 32-bit mode without paging, EBX at the start info.
 */
#include "loader/boot_x86.h"

#include <asm/bootparam.h>
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "loader/kernel.h"
#include "loader/layout.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/core/mem.h"

#define RAM_RANGES_MAX 3U /* below the legacy hole, up to the gap, from 4 GiB up */
#define MEMORY_TYPE_RAM 1 /* in e820 and in PVH */

#define LINUX_BOOT_FLAG 0xaa55
#define LINUX_HEADER_MAGIC 0x53726448 /* "HdrS" */
#define LINUX_PROTOCOL 0x020f
#define LINUX_LOADER_UNDEFINED 0xff
#define LINUX_KERNEL_ALIGNMENT 0x1000000

#define PTE_TABLE 0x23ULL /* present, writable, accessed */
#define PTE_HUGE 0xe3ULL  /* the same, dirty, 2 MiB */
#define PTES_PER_TABLE 512U

/* Flat segments, marked as accessed. The selectors are those of the Linux protocol: __BOOT_CS, __BOOT_DS. */
#define GDT_CODE64 0x00af9b000000ffffULL
#define GDT_CODE32 0x00cf9b000000ffffULL
#define GDT_DATA 0x00cf93000000ffffULL
#define GDT_ENTRIES 4U
#define SELECTOR_CODE 0x10
#define SELECTOR_DATA 0x18

struct pvh_info {
	uint32_t magic;
	uint32_t version;
	uint32_t flags;
	uint32_t num_modules;
	uint64_t modules;
	uint64_t cmdline;
	uint64_t rsdp;
	uint64_t memmap;
	uint32_t num_memmap;
	uint32_t reserved;
};

struct pvh_module {
	uint64_t gpa;
	uint64_t size;
	uint64_t cmdline;
	uint64_t reserved;
};

struct pvh_memory {
	uint64_t gpa;
	uint64_t size;
	uint32_t type;
	uint32_t reserved;
};

/* The payload of the node for the project's kernels: include/linux/mayfly.h of configs/kernel/fast-boot.patch. */
#define SETUP_MAYFLY 0x796c664d /* "Mfly" */
#define MAYFLY_RAM_IS_ZERO 0x1U
#define MAYFLY_IOAPIC_IS_RESET 0x2U

struct mayfly_data {
	uint64_t vm_id_gpa;
	uint64_t attention_gpa;
	uint64_t windows_gpa;
	uint32_t window_size;
	uint32_t num_windows;
	uint32_t flags;
	uint32_t reserved;
};

#define PVH_MAGIC 0x336ec578
#define PVH_VERSION 1

_Static_assert(sizeof(struct boot_params) == 4096, "one page");
_Static_assert(sizeof(struct mayfly_data) == 40, "docs/guest-interface.md");
_Static_assert(sizeof(struct pvh_info) == 56, "start_info.h, version 1");
_Static_assert(sizeof(struct pvh_module) == 32, "start_info.h");
_Static_assert(sizeof(struct pvh_memory) == 24, "start_info.h");
_Static_assert(LAYOUT_GDT + GDT_ENTRIES * 8 <= LAYOUT_PVH_INFO, "no overlap");
_Static_assert(LAYOUT_PVH_INFO + sizeof(struct pvh_info) <= LAYOUT_PVH_MODULE, "no overlap");
_Static_assert(LAYOUT_PVH_MODULE + sizeof(struct pvh_module) <= LAYOUT_PVH_MEMMAP, "no overlap");
_Static_assert(LAYOUT_PVH_MEMMAP + RAM_RANGES_MAX * sizeof(struct pvh_memory) <= LAYOUT_SETUP_DATA, "no overlap");
_Static_assert(LAYOUT_SETUP_DATA + sizeof(struct setup_data) + BOOT_SEED_SIZE <= LAYOUT_SETUP_MAYFLY, "no overlap");
_Static_assert(LAYOUT_SETUP_MAYFLY + sizeof(struct setup_data) + sizeof(struct mayfly_data) <= LAYOUT_CMDLINE,
	       "no overlap");
_Static_assert(LAYOUT_CMDLINE + LAYOUT_CMDLINE_SIZE <= LAYOUT_ZERO_PAGE, "no overlap");
_Static_assert(MEM_GAP_START <= LAYOUT_PD_MAX * GIB, "page directories for any kernel");

struct range {
	uint64_t gpa;
	uint64_t size;
};

/* The memory map: only RAM, everything else is left out. */
static unsigned ram_ranges(const struct mem *m, const struct kernel_image *kernel, struct range ret[RAM_RANGES_MAX])
{
	uint64_t high = kernel->lowest < LAYOUT_HIGH_RAM ? LAYOUT_KERNEL_MIN : LAYOUT_HIGH_RAM;
	unsigned n = 0;

	ret[n++] = (struct range){ .gpa = 0, .size = LAYOUT_LOW_RAM_END };
	for (unsigned i = 0; i < m->num_regions; i++) {
		uint64_t hole = i == 0 ? high : 0;

		if (m->region[i].size > hole)
			ret[n++] = (struct range){ .gpa = m->region[i].gpa + hole, .size = m->region[i].size - hole };
	}
	return n;
}

/* base is the host address of guest address 0; the first MiB is RAM. */
static void write_gdt(uint8_t *base, uint64_t code)
{
	const uint64_t gdt[GDT_ENTRIES] = { [SELECTOR_CODE / 8] = code, [SELECTOR_DATA / 8] = GDT_DATA };

	memcpy(base + LAYOUT_GDT, gdt, sizeof(gdt));
}

/* Maps whole GiBs where they are: those up to the end of the kernel. All else that Linux needs is in the first. */
static void write_page_tables(uint8_t *base, uint64_t kernel_end)
{
	uint64_t num_gib = MF_MAX(mf_align_up(kernel_end, GIB) / GIB, 1);
	uint64_t *pdpt = (uint64_t *)(void *)(base + LAYOUT_PDPT), *pml4 = (uint64_t *)(void *)(base + LAYOUT_PML4);

	pml4[0] = LAYOUT_PDPT | PTE_TABLE;
	for (uint64_t i = 0; i < num_gib; i++) {
		uint64_t *pd = (uint64_t *)(void *)(base + LAYOUT_PD + i * MF_PAGE_SIZE);

		pdpt[i] = (LAYOUT_PD + i * MF_PAGE_SIZE) | PTE_TABLE;
		for (uint64_t j = 0; j < PTES_PER_TABLE; j++)
			pd[j] = (i * GIB + j * 2 * MIB) | PTE_HUGE;
	}
}

static void write_seed(uint8_t *base, const uint8_t *seed)
{
	const struct setup_data node = { .next = LAYOUT_SETUP_MAYFLY, .type = SETUP_RNG_SEED, .len = BOOT_SEED_SIZE };

	memcpy(base + LAYOUT_SETUP_DATA, &node, sizeof(node));
	memcpy(base + LAYOUT_SETUP_DATA + sizeof(node), seed, BOOT_SEED_SIZE);
}

static void write_mayfly_data(uint8_t *base, const struct boot_in *in)
{
	const struct mayfly_data data = {
		.vm_id_gpa = LAYOUT_VM_ID,
		.attention_gpa = LAYOUT_ATTENTION,
		.windows_gpa = in->windows_gpa,
		.window_size = in->window_size,
		.num_windows = in->num_windows,
		.flags = MAYFLY_RAM_IS_ZERO | MAYFLY_IOAPIC_IS_RESET,
	};
	const struct setup_data node = { .type = SETUP_MAYFLY, .len = sizeof(data) };

	memcpy(base + LAYOUT_SETUP_MAYFLY, &node, sizeof(node));
	memcpy(base + LAYOUT_SETUP_MAYFLY + sizeof(node), &data, sizeof(data));
}

/*
 * A bzImage's own setup header, or a substitute; without the fields that the loader sets.
 */
static struct setup_header setup_header_of(const struct kernel_image *kernel)
{
	if (kernel->has_setup)
		return kernel->setup;
	return (struct setup_header){
		.boot_flag = LINUX_BOOT_FLAG,
		.header = LINUX_HEADER_MAGIC,
		.version = LINUX_PROTOCOL,
		.kernel_alignment = LINUX_KERNEL_ALIGNMENT,
		.cmdline_size = LAYOUT_CMDLINE_SIZE - 1,
	};
}

static void write_boot_params(uint8_t *base, const struct boot_in *in, const struct range *ram, unsigned num_ram)
{
	struct boot_params *bp = (struct boot_params *)(void *)(base + LAYOUT_ZERO_PAGE);

	*bp = (struct boot_params){
		.hdr = setup_header_of(in->kernel),
		.acpi_rsdp_addr = in->rsdp_gpa,
		.e820_entries = (uint8_t)num_ram,
	};
	bp->hdr.type_of_loader = LINUX_LOADER_UNDEFINED;
	bp->hdr.loadflags = LOADED_HIGH;
	bp->hdr.ramdisk_image = (uint32_t)in->initrd_gpa;
	bp->hdr.ramdisk_size = (uint32_t)in->initrd_size;
	bp->hdr.cmd_line_ptr = LAYOUT_CMDLINE;
	bp->hdr.setup_data = in->rng_seed ? LAYOUT_SETUP_DATA : LAYOUT_SETUP_MAYFLY;
	for (unsigned i = 0; i < num_ram; i++)
		bp->e820_table[i] = (struct boot_e820_entry){
			.addr = ram[i].gpa,
			.size = ram[i].size,
			.type = MEMORY_TYPE_RAM,
		};
}

static void enter_linux(struct boot_regs *ret, uint8_t *base, const struct boot_in *in, const struct range *ram,
			unsigned num_ram)
{
	if (in->rng_seed)
		write_seed(base, in->rng_seed);
	write_mayfly_data(base, in);
	write_boot_params(base, in, ram, num_ram);
	*ret = (struct boot_regs){ .rip = in->kernel->entry, .rsi = LAYOUT_ZERO_PAGE };
	if (in->kernel->entry_is_32bit) {
		write_gdt(base, GDT_CODE32);
		return;
	}
	write_gdt(base, GDT_CODE64);
	write_page_tables(base, in->kernel->highest);
	ret->long_mode = true;
	ret->cr3 = LAYOUT_PML4;
}

static void enter_pvh(struct boot_regs *ret, uint8_t *base, const struct boot_in *in, const struct range *ram,
		      unsigned num_ram)
{
	const struct pvh_module initrd = { .gpa = in->initrd_gpa, .size = in->initrd_size };
	const struct pvh_info info = {
		.magic = PVH_MAGIC,
		.version = PVH_VERSION,
		.num_modules = in->initrd_size > 0 ? 1 : 0,
		.modules = in->initrd_size > 0 ? LAYOUT_PVH_MODULE : 0,
		.cmdline = LAYOUT_CMDLINE,
		.rsdp = in->rsdp_gpa,
		.memmap = LAYOUT_PVH_MEMMAP,
		.num_memmap = num_ram,
	};

	write_gdt(base, GDT_CODE32);
	memcpy(base + LAYOUT_PVH_INFO, &info, sizeof(info));
	if (in->initrd_size > 0)
		memcpy(base + LAYOUT_PVH_MODULE, &initrd, sizeof(initrd));
	for (unsigned i = 0; i < num_ram; i++) {
		const struct pvh_memory range = { .gpa = ram[i].gpa, .size = ram[i].size, .type = MEMORY_TYPE_RAM };

		memcpy(base + LAYOUT_PVH_MEMMAP + i * sizeof(range), &range, sizeof(range));
	}
	*ret = (struct boot_regs){ .rip = in->kernel->pvh_entry, .rbx = LAYOUT_PVH_INFO };
}

/* Chooses the protocol: the requested one, if the kernel has it. */
static int choose_pvh(const struct boot_in *in, bool *ret, struct err *e)
{
	const struct kernel_image *k = in->kernel;

	switch (in->entry) {
	case BOOT_ENTRY_AUTO:
		*ret = k->has_pvh && (!k->is_linux || !k->entry);
		return 0;
	case BOOT_ENTRY_LINUX64:
		if (!k->entry || k->entry_is_32bit)
			return err_set(e, -EINVAL, "the kernel has no entry point of the 64-bit Linux protocol");
		*ret = false;
		return 0;
	case BOOT_ENTRY_PVH:
		if (!k->has_pvh)
			return err_set(e, -EINVAL, "the kernel has no PVH entry point (Linux: CONFIG_PVH)");
		*ret = true;
		return 0;
	}
	return err_set(e, -EINVAL, "no such boot protocol: %d", (int)in->entry);
}

int boot_write(struct boot_regs *ret, struct mem *m, const struct boot_in *in, struct err *e)
{
	struct range ram[RAM_RANGES_MAX];
	uint8_t *base = mem_at(m, 0, LAYOUT_KERNEL_MIN);
	size_t cmdline_len = strlen(in->cmdline), cmdline_max = LAYOUT_CMDLINE_SIZE - 1;
	unsigned num_ram;
	bool pvh = false;
	int rc = choose_pvh(in, &pvh, e);

	assert(in->num_windows <= LAYOUT_ATTENTION_WORDS);
	/* The kernel's loader and initrd.c put both into the first region. */
	assert(in->kernel->highest <= MEM_GAP_START);
	assert(mf_range_within(in->initrd_gpa, in->initrd_size, MEM_GAP_START));
	if (rc < 0)
		return rc;
	if (!base)
		return err_set(e, -EINVAL, "guest memory of %llu KiB: at least 1 MiB is needed to boot",
			       (unsigned long long)(m->size / KIB));
	if (in->kernel->has_setup)
		cmdline_max = MF_MIN(cmdline_max, in->kernel->setup.cmdline_size);
	if (cmdline_len > cmdline_max)
		return err_set(e, -E2BIG, "the kernel command line has %zu bytes; at most %zu are possible",
			       cmdline_len, cmdline_max);
	memcpy(base + LAYOUT_CMDLINE, in->cmdline, cmdline_len + 1);
	num_ram = ram_ranges(m, in->kernel, ram);
	if (pvh)
		enter_pvh(ret, base, in, ram, num_ram);
	else
		enter_linux(ret, base, in, ram, num_ram);
	ret->rsp = LAYOUT_STACK_TOP;
	ret->gdt_gpa = LAYOUT_GDT;
	ret->gdt_limit = GDT_ENTRIES * sizeof(uint64_t) - 1;
	ret->cs = SELECTOR_CODE;
	ret->ds = SELECTOR_DATA;
	return 0;
}
