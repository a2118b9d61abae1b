/* Loads an initrd (or initramfs) into guest memory. */
#ifndef MF_LOADER_INITRD_H
#define MF_LOADER_INITRD_H

#include <stddef.h>
#include <stdint.h>

struct err;
struct kernel_image;
struct mem;

/*
 * Loads the file at path, which may be NULL, followed by the archive of extra_len bytes,
 * which may be 0. A small one goes into low memory (layout.h). Otherwise it goes as high
 * as possible into the RAM below 3 GiB and below kernel->initrd_end, page aligned, above
 * the kernel. Linux unpacks both, the archive over the file. Returns 0 with their address
 * and size in bytes, or -errno with e set to "initrd 'PATH': reason". Before the VM runs.
 */
int initrd_load(struct mem *m, const char *path, const void *extra, size_t extra_len, const struct kernel_image *kernel,
		uint64_t *ret_gpa, uint64_t *ret_size, struct err *e);

#endif
