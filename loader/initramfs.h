/*
 * Makes the archive that mayfly adds to the guest's initramfs: a cpio of the "newc" kind (Linux,
 * Documentation/driver-api/early-userspace/buffer-format.rst), uncompressed.
 */
#ifndef MF_LOADER_INITRAMFS_H
#define MF_LOADER_INITRAMFS_H

#include <stddef.h>
#include <stdint.h>

struct err;

struct initramfs_file {
	const char *path; /* without a leading slash; parents precede their children */
	uint32_t mode;	  /* with its type: S_IFDIR or S_IFREG */
	const void *data;
	size_t len;
};

/*
 * Returns 0 and sets *ret to an archive of these files, of *ret_len bytes, which the
 * caller frees; or -ENOMEM with e set.
 */
int initramfs_make(uint8_t **ret, size_t *ret_len, const struct initramfs_file *files, size_t num, struct err *e);

#endif
