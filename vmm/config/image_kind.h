/* The kind of a file that is used as a root or a volume, by its first bytes. */
#ifndef MF_CONFIG_IMAGE_KIND_H
#define MF_CONFIG_IMAGE_KIND_H

#include <stdbool.h>

struct err;

enum image_use {
	IMAGE_USE_WRITABLE,  /* a file system that mayfly's init mounts, and that can be written to */
	IMAGE_USE_READ_ONLY, /* one that cannot */
	IMAGE_USE_TAR,	     /* an archive that is packed into one */
	IMAGE_USE_FILE,	     /* a file with no file system in it */
	IMAGE_USE_KERNEL,    /* a file system that a kernel may know, but not init */
	IMAGE_USE_NONE,	     /* no disk as a guest reads it */
	IMAGE_USE_UNKNOWN,   /* it may be anything, or cannot be read: whoever opens it will say so */
};

/*
 * Looks at a regular file or block device. With IMAGE_USE_NONE, IMAGE_USE_KERNEL or
 * IMAGE_USE_FILE, e is set to what it is, and how to make of it what can be used ("'disk'
 * is a qcow2 image; ...").
 */
enum image_use image_kind_look(const char *path, struct err *e);

/*
 * The program that decompresses the file at fd by -dc, and the package that has it; NULL:
 * it is not compressed.
 */
const char *image_kind_decompressor(int fd, const char **ret_package);

#endif
