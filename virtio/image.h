/* The file or block device behind a drive: raw, of whole sectors, and locked against a second writer. */
#ifndef MF_VIRTIO_IMAGE_H
#define MF_VIRTIO_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

struct err;

#define IMAGE_SECTOR_SIZE 512U
#define IMAGE_DIO_MAX 4096U /* bytes: what direct I/O may want its requests to be multiples of */

struct image {
	int fd; /* -1: not open */
	uint64_t sectors;
	uint32_t dio_offset; /* of O_DIRECT: what offsets and lengths are multiples of; 0: it is not used */
	uint32_t dio_mem;    /* the same for addresses */
};

/*
 * Opens path. Returns 0 and *ret, whose fd is the caller's (for image_close) and whose size may be 0. Or
 * -errno with e set: -EBUSY when another process, or another drive of this one, has the image and either side writes;
 * -EINVAL when the size is no multiple of a sector (or of what direct I/O wants), or direct I/O is not to be had there.
 */
int image_open(struct image *ret, const char *path, bool read_only, bool direct, struct err *e);

/* Opens it for the image_open of another process (files.h). Returns 0 or -errno with e set. */
int image_provide(const char *path, bool read_only, bool direct, struct err *e);

/* Looks at the size of an open image anew. Returns 0 and image->sectors, or -errno with e set. */
int image_measure(struct image *image, struct err *e);

/* Gives up the lock and closes fd; less than 0 is fine. */
void image_close(int fd);

#endif
