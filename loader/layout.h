/*
 * The layout of guest memory before the kernel runs. Everything that the loader writes
 * below 64 KiB lies in RAM that Linux reserves at start (its first 64 KiB), in as few
 * pages as possible. Only a guest that uses the stack page touches it.
 *
 *	0x00000 .. 0x00fff  MP table; the words at 0x40e and 0x413 (EBDA, size of low memory) stay zero. Linux never
 *	                    uses this page as RAM, and looks for an MP table below 0x400 first
 *	0x01000 .. 0x01fff  GDT, PVH start info with its lists, setup_data, command line
 *	0x02000 .. 0x02fff  Linux boot_params ("zero page")
 *	0x03000 .. 0x08fff  page tables: PML4, PDPT, up to four page directories
 *	0x09000 .. 0x09fff  stack of the entry point
 *	0x10000 .. 0x4ffff  an initrd of up to 256 KiB
 *	0xa0000 .. 0xfffff  RAM that is in no memory map. The last page has ACPI tables, the VM's id, the attention
 *	                    words (docs/guest-interface.md) and a BIOS's entry point
 *	1 MiB .. 2 MiB      in no memory map either, unless the kernel is loaded here
 *	2 MiB ..            RAM: the kernel where its file says, a larger initrd as high as possible below 3 GiB
 *
 * The first 2 MiB are the only RAM in small pages (mem.c): mayfly writes to a few of
 * them, and a guest needs few more. With the second MiB as RAM, Linux would use it first
 * of all, and each page would cost it a nested fault: 0.3 million instructions of a boot.
 * With one huge page, it would be 0.75 million before Linux starts. The price is 1 MiB of
 * RAM.
 */
#ifndef MF_LOADER_LAYOUT_H
#define MF_LOADER_LAYOUT_H

#define LAYOUT_GDT 0x1000ULL
#define LAYOUT_PVH_INFO 0x1040ULL
#define LAYOUT_PVH_MODULE 0x1080ULL
#define LAYOUT_PVH_MEMMAP 0x10c0ULL
#define LAYOUT_SETUP_DATA 0x1200ULL   /* the seed */
#define LAYOUT_SETUP_MAYFLY 0x1240ULL /* where the two below are */
#define LAYOUT_CMDLINE 0x1800ULL
#define LAYOUT_CMDLINE_SIZE 0x800U /* with its NUL; Linux on x86 takes no more (COMMAND_LINE_SIZE) */
#define LAYOUT_ZERO_PAGE 0x2000ULL
#define LAYOUT_PML4 0x3000ULL
#define LAYOUT_PDPT 0x4000ULL
#define LAYOUT_PD 0x5000ULL /* one page per GiB mapped */
#define LAYOUT_PD_MAX 4U
#define LAYOUT_STACK_TOP 0xa000ULL

#define LAYOUT_MPTABLE_POINTER 0x10ULL /* not 0, which older kernels take for "none found" */
#define LAYOUT_MPTABLE 0x500ULL
#define LAYOUT_MPTABLE_SIZE 0xb00U
#define LAYOUT_LOW_RAM_END 0xa0000ULL
#define LAYOUT_ACPI 0xff000ULL /* between 0xe0000 and 0xfffff, where a kernel looks for the RSDP */
#define LAYOUT_ACPI_END 0xffe00ULL
#define LAYOUT_VM_ID 0xffe00ULL /* LAYOUT_VM_ID_SIZE bytes, other ones after each restore */
#define LAYOUT_VM_ID_SIZE 16U
#define LAYOUT_ATTENTION 0xffe40ULL /* a 32-bit word for each virtio-mmio window */
#define LAYOUT_ATTENTION_WORDS 32U
#define LAYOUT_BIOS_ENTRY 0xffff0ULL /* in the same page */
#define LAYOUT_SMALL_INITRD 0x10000ULL
#define LAYOUT_SMALL_INITRD_MAX 0x40000ULL
#define LAYOUT_KERNEL_MIN 0x100000ULL /* the lowest address for a kernel */
#define LAYOUT_HIGH_RAM 0x200000ULL   /* where RAM continues in the memory map for a kernel above it */

#define LAYOUT_IOAPIC 0xfec00000ULL
#define LAYOUT_LAPIC 0xfee00000ULL

#endif
