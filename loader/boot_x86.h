/*
 * Prepares memory and registers for an x86 kernel's entry point, by one of three
 * protocols: Linux's in 64-bit or 32-bit mode, or PVH.
 */
#ifndef MF_LOADER_BOOT_X86_H
#define MF_LOADER_BOOT_X86_H

#include <stdbool.h>
#include <stdint.h>

struct kernel_image;
struct err;
struct mem;

#define BOOT_SEED_SIZE 32U

enum boot_entry {
	BOOT_ENTRY_AUTO, /* Linux, except for a PVH kernel that is not Linux or has only PVH */
	BOOT_ENTRY_LINUX64,
	BOOT_ENTRY_PVH,
};

struct boot_in {
	enum boot_entry entry;
	const struct kernel_image *kernel;
	const char *cmdline;
	uint64_t initrd_gpa;
	uint64_t initrd_size; /* bytes; 0: no initrd */
	uint64_t rsdp_gpa;    /* where the ACPI tables start (acpi.h), or 0 */
	uint64_t windows_gpa; /* the virtio-mmio windows, one behind the other */
	uint32_t window_size;
	uint32_t num_windows;	 /* up to LAYOUT_ATTENTION_WORDS */
	const uint8_t *rng_seed; /* BOOT_SEED_SIZE bytes for the guest's random number generator, or NULL; PVH has no
				     place for it */
};

/*
 * The registers of the boot CPU. All else is as after reset, with these:
 *
 *	long_mode	CR0.PE, CR0.PG, CR4.PAE, EFER.LME, EFER.LMA set; CR3 = cr3. Else CR0.PE set, no paging.
 *	cs		selector cs, base 0, limit 0xffffffff, type 0xb, S, P, G; L in long mode, else D
 *	ds es fs gs ss	selector ds, base 0, limit 0xffffffff, type 3, S, P, G, D
 *	tr		base 0, limit 0x67, type 0xb, P, not S
 *	gdt		base gdt_gpa, limit gdt_limit; idt: limit 0; rflags 2 (interrupts off)
 */
struct boot_regs {
	bool long_mode;
	uint64_t rip;
	uint64_t rsp;
	uint64_t rsi; /* Linux: the address of boot_params */
	uint64_t rbx; /* PVH: the address of the start info */
	uint64_t cr3;
	uint64_t gdt_gpa;
	uint16_t gdt_limit;
	uint16_t cs;
	uint16_t ds;
};

/*
 * Writes command line, memory map, page tables, GDT and the protocol's structures into
 * guest memory, after kernel and initrd. Returns 0 or -errno with e set. Before the VM
 * runs.
 */
int boot_write(struct boot_regs *ret, struct mem *m, const struct boot_in *in, struct err *e);

#endif
