/*
 * Loads an ELF kernel (vmlinux) into guest memory. The file is hostile: elf.c says what
 * is checked.
 */
#ifndef MF_LOADER_ELF_H
#define MF_LOADER_ELF_H

#include <stdbool.h>

struct err;
struct kernel_file;
struct kernel_image;
struct mem;

#define ELF_SEGMENTS_MAX 64 /* program headers; vmlinux has 5 */

bool elf_is_elf(const struct kernel_file *f);

/*
 * Loads f, which is ELF, into m. Sets in *ret what an ELF kernel defines. Returns 0 or
 * -errno with e set; *ret may then be partly set.
 */
int elf_load(struct kernel_image *ret, struct mem *m, const struct kernel_file *f, struct err *e);

#endif
