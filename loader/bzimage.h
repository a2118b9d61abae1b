/* Loads a bzImage, what distributions ship as vmlinuz. The file is hostile: see bzimage.c for what is checked. */
#ifndef MF_LOADER_BZIMAGE_H
#define MF_LOADER_BZIMAGE_H

#include <stdbool.h>

struct err;
struct kernel_file;
struct kernel_image;
struct mem;

bool bzimage_is_bzimage(const struct kernel_file *f);

/*
 * Loads f, which is a bzImage, into m. Fills of *ret what there is in one: entry, extent, the limit for the initrd, the
 * setup header for boot_params. Returns 0 or -errno with e set; *ret may then be half filled.
 */
int bzimage_load(struct kernel_image *ret, struct mem *m, const struct kernel_file *f, struct err *e);

#endif
