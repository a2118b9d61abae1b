/* The file or block device behind a drive: raw, of whole sectors, and locked against a second writer. */
#ifndef MF_VIRTIO_IMAGE_H
#define MF_VIRTIO_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

struct err;

#define IMAGE_SECTOR_SIZE 512U
#define IMAGE_DIO_MAX 4096U /* the largest unit of direct I/O, in bytes */

/*
 * Which file it is, and in which state: a snapshot goes with that alone. Not st_dev, which btrfs and overlayfs change
 * from mount to mount. Of a block device: its number and size.
 */
struct image_identity {
	uint64_t inode, size, mtime_ns, ctime_ns;
};

struct image {
	int fd; /* -1: not open */
	uint64_t sectors;
	struct image_identity identity; /* when it was opened */
	uint32_t dio_offset;		/* unit of offsets and lengths; 0: no direct I/O */
	uint32_t dio_mem;		/* unit of addresses */
	bool cut;			/* of a size that is no multiple of a sector, the rest is left out */
};

/*
 * Opens path. cut is kept, for image_measure. Returns 0 and *ret, whose fd is the caller's (for image_close) and whose size may be
 * 0. Or -errno with e set: -EBUSY if another process, or another drive of this one, has the image,
 * and either side writes; -EINVAL if the size is not a multiple of a sector (or of direct I/O's
 * unit) and not cut, or the file system has no direct I/O.
 */
int image_open(struct image *ret, const char *path, bool read_only, bool direct, bool cut, struct err *e);

/* Opens it for image_open of another process (fdstore.h). Returns 0 or -errno with e set. */
int image_provide_open(const char *path, bool direct, int fd, struct err *e);
int image_provide(const char *path, bool read_only, bool direct, struct err *e);

/* Updates image->sectors of an open image. Returns 0, or -errno with e set. */
int image_measure(struct image *image, struct err *e);

/* Looks which file fd is now, of so many bytes. Returns 0 or -errno. */
int image_identify(struct image_identity *ret, int fd, uint64_t size);

/*
 * The same of an open image that nobody writes, and whose times say when it was used last, as those in mayfly's cache: its
 * time of birth takes their place, where the file system has one. Before the filters. Returns 0 or -errno with e set.
 */
int image_identify_kept(struct image *image, struct err *e);
bool image_is_same(const struct image_identity *a, const struct image_identity *b);

/* Unlocks and closes fd; a negative one is fine. */
void image_close(int fd);

#endif
