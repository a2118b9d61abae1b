/*
 * Loads a kernel into guest memory, in either format: an ELF vmlinux (elf.c) or a bzImage
 * (bzimage.c).
 */
#ifndef MF_LOADER_KERNEL_H
#define MF_LOADER_KERNEL_H

#include <asm/bootparam.h>
#include <stdbool.h>
#include <stdint.h>

struct err;
struct mem;

#define KERNEL_HEAD_SIZE 1024U /* bytes: an ELF header, or the furthest end of a bzImage's setup header */

/* An open kernel file, and its first bytes, read once. */
struct kernel_file {
	int fd;
	uint64_t size;
	uint8_t head[KERNEL_HEAD_SIZE];
	uint64_t head_len;
};

/* A kernel in guest memory. */
struct kernel_image {
	uint64_t entry;	       /* the Linux protocol's entry point, guest-physical; 0: the kernel has only PVH's */
	bool entry_is_32bit;   /* that is the 32-bit protocol */
	bool has_pvh;	       /* pvh_entry is valid */
	uint32_t pvh_entry;    /* of the note XEN_ELFNOTE_PHYS32_ENTRY */
	bool is_linux;	       /* a bzImage, or there is a note of the owner "Linux" */
	uint64_t lowest;       /* the memory of the kernel, including its bss and the space to unpack itself */
	uint64_t highest;      /* guest-physical [lowest, highest) */
	uint64_t initrd_end;   /* an initrd must end at or below this address */
	bool has_setup;	       /* setup is valid: the setup header of a bzImage, checked, the rest of it zero */
	uint64_t bytes_mapped; /* bytes of the file that became guest memory without a copy */
	uint64_t bytes_copied; /* bytes of the file that were read (holes are not) */
	struct setup_header setup;
};

/*
 * Loads the kernel at path into m, which is still zeroed, before the VM runs. Returns 0, or -errno with e set to
 * "kernel 'PATH': reason" and *ret untouched (guest memory may then hold part of the kernel).
 */
int kernel_load(struct kernel_image *ret, struct mem *m, const char *path, struct err *e);

#endif
