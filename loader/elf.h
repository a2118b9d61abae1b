/* Loads an ELF kernel (vmlinux) into guest memory. The file is hostile: see elf.c for what is checked. */
#ifndef MF_LOADER_ELF_H
#define MF_LOADER_ELF_H

#include <stdbool.h>
#include <stdint.h>

struct err;
struct mem;

#define ELF_SEGMENTS_MAX 64 /* program headers; vmlinux has 5 */

struct elf_image {
	uint64_t entry;	       /* e_entry, a guest-physical address: where the 64-bit Linux protocol starts */
	bool has_pvh;	       /* pvh_entry is valid */
	uint32_t pvh_entry;    /* of the note XEN_ELFNOTE_PHYS32_ENTRY */
	bool is_linux;	       /* there is a note of the owner "Linux" */
	uint64_t lowest;       /* the segments, their bss included, lie in */
	uint64_t highest;      /* guest-physical [lowest, highest) */
	uint64_t bytes_mapped; /* of the file, that became guest memory without a copy */
	uint64_t bytes_copied; /* of the file, that were read (holes of the file are not) */
};

/*
 * Loads the kernel at path into m, which is still zeroed, before the VM runs. Returns 0, or -errno with e set to
 * "kernel 'PATH': reason" and *ret untouched (guest memory may then hold part of the kernel).
 */
int elf_load(struct elf_image *ret, struct mem *m, const char *path, struct err *e);

#endif
