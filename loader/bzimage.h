/*
 * Loads a bzImage, the format in which distributions ship vmlinuz. The file is hostile:
 * bzimage.c says what is checked.
 */
#ifndef MF_LOADER_BZIMAGE_H
#define MF_LOADER_BZIMAGE_H

#include <stdbool.h>

struct err;
struct kernel_file;
struct kernel_image;
struct mem;

bool bzimage_is_bzimage(const struct kernel_file *f);

/*
 * Loads f, which is a bzImage, into m. Sets in *ret what a bzImage defines: entry,
 * extent, the limit for the initrd, the setup header for boot_params. Returns 0 or -errno
 * with e set; *ret may then be partly set.
 */
int bzimage_load(struct kernel_image *ret, struct mem *m, const struct kernel_file *f, struct err *e);

#endif
