/*
 * The file or block device behind a drive; see image.h. The format is always raw and never probed:
 * the contents are the guest's, which could write the header of a format that names other files
 * of the host.
 */
#include "virtio/image.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/fdstore.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

/*
 * One writer, or any number of readers, on this host. An OFD lock belongs to the open file, so it
 * also tells two drives of one VM apart. It ends with the process, but after SIGKILL not at once.
 */
static int image_lock(int fd, const char *path, bool read_only, struct err *e)
{
	struct flock lock = { .l_type = read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };
	unsigned tries = 0;

	do {
		if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
			return 0;
	} while ((errno == EAGAIN || errno == EACCES) && fdio_linger(&tries));
	if (errno == EAGAIN || errno == EACCES)
		return err_set(e, -EBUSY, "'%s' is in use by another VM or drive%s", path,
			       read_only ? ", which writes to it" :
					   "; give each its own copy, or give it to all as :ro");
	/* Some FUSE and network file systems have no locks. The lock is a help, not a promise. */
	log_warn("lock '%s': %s; continuing without the lock", path, strerror(errno));
	return 0;
}

static uint64_t time_ns(const struct timespec *t)
{
	return (uint64_t)t->tv_sec * 1000000000U + (uint64_t)t->tv_nsec;
}

int image_identify(struct image_identity *ret, int fd, uint64_t size)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	*ret = (struct image_identity){ .inode = st.st_rdev, .size = size };
	if (S_ISREG(st.st_mode))
		*ret = (struct image_identity){ st.st_ino, size, time_ns(&st.st_mtim), time_ns(&st.st_ctim) };
	return 0;
}

int image_identify_kept(struct image *image, struct err *e)
{
	struct statx st;

	if (statx(image->fd, "", AT_EMPTY_PATH, STATX_BTIME, &st) < 0)
		return err_sys(e, "look at its image");
	image->identity.mtime_ns = image->identity.ctime_ns = 0;
	if (st.stx_mask & STATX_BTIME)
		image->identity.mtime_ns = (uint64_t)st.stx_btime.tv_sec * 1000000000U + st.stx_btime.tv_nsec;
	return 0;
}

bool image_is_same(const struct image_identity *a, const struct image_identity *b)
{
	return a->inode == b->inode && a->size == b->size && a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns;
}

/* The units of direct I/O on fd, powers of two. Before Linux 6.1, statx(2) has none: a page is enough. */
static int image_ask_dio(struct image *image, int fd, const char *path, struct err *e)
{
	struct statx st;

	image->dio_offset = image->dio_mem = IMAGE_DIO_MAX;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) == 0 && st.stx_mask & STATX_DIOALIGN &&
	    st.stx_dio_offset_align) {
		image->dio_offset = MF_MAX(st.stx_dio_offset_align, IMAGE_SECTOR_SIZE);
		image->dio_mem = MF_MAX(st.stx_dio_mem_align, 1U);
	}
	if (image->dio_offset > IMAGE_DIO_MAX || image->dio_mem > IMAGE_DIO_MAX)
		return err_set(e, -EINVAL, "direct I/O on '%s' wants blocks of %u bytes, more than %u", path,
			       MF_MAX(image->dio_offset, image->dio_mem), IMAGE_DIO_MAX);
	return 0;
}

static int open_flags(bool read_only, bool direct)
{
	return (read_only ? O_RDONLY : O_RDWR) | (direct ? O_DIRECT : 0);
}

static int open_file(const char *path, bool read_only, bool direct, uint64_t *ret_size, struct err *e)
{
	int fd = fdio_open_file(path, open_flags(read_only, direct), true, ret_size, e);

	int device_ro = 0;

	if (fd == -EINVAL && direct)
		return err_wrap(e, "direct I/O (not every file system has it)");
	/* Some kernels open a read-only block device for writing, and fail each write. Other files have no such ioctl. */
	if (fd >= 0 && !read_only && ioctl(fd, BLKROGET, &device_ro) == 0 && device_ro) {
		close(fd);
		return err_set(e, -EROFS, "'%s' is a read-only device: use '%s:ro'", path, path);
	}
	return fd;
}

int image_provide(const char *path, bool read_only, bool direct, struct err *e)
{
	uint64_t size;
	int fd = open_file(path, read_only, direct, &size, e);

	return fd < 0 ? fd : fdstore_provide(path, open_flags(read_only, direct), fd, e);
}

int image_provide_open(const char *path, bool direct, int fd, struct err *e)
{
	if (direct && fcntl(fd, F_SETFL, O_DIRECT) < 0) {
		err_sys(e, "'%s': direct I/O", path);
		close(fd);
		return e->code;
	}
	return fdstore_provide(path, open_flags(false, direct), fd, e);
}

int image_open(struct image *ret, const char *path, bool read_only, bool direct, bool cut, struct err *e)
{
	struct image image = { .cut = cut };
	MF_CLOSE int fd = -1;
	unsigned unit;
	uint64_t size;
	int err;

	fd = open_file(path, read_only, direct, &size, e);
	if (fd < 0)
		return fd;
	if (direct && image_ask_dio(&image, fd, path, e) < 0)
		return e->code;
	unit = MF_MAX(image.dio_offset, IMAGE_SECTOR_SIZE);
	if (size % unit && !cut)
		return err_set(e, -EINVAL,
			       "the size of '%s', %" PRIu64
			       " bytes, is not a multiple of %u%s ('truncate -s %%%u' pads it)",
			       path, size, unit,
			       direct ? ", as direct I/O wants it" : ": not a raw image, or one cut short", unit);
	err = image_lock(fd, path, read_only, e);
	if (err < 0)
		return err;
	err = image_identify(&image.identity, fd, size);
	if (err < 0)
		return err_neg(e, err, "stat '%s'", path);
	image.fd = mf_take_fd(&fd);
	image.sectors = size / IMAGE_SECTOR_SIZE;
	*ret = image;
	return 0;
}

int image_measure(struct image *image, struct err *e)
{
	off_t size = lseek(image->fd, 0, SEEK_END); /* of block devices too; the position is unused */

	if (size < 0)
		return err_sys(e, "find its size");
	if (!image->cut && size % MF_MAX(image->dio_offset, IMAGE_SECTOR_SIZE))
		return err_set(e, -EINVAL, "its size, %lld bytes, is not a multiple of %u", (long long)size,
			       MF_MAX(image->dio_offset, IMAGE_SECTOR_SIZE));
	image->sectors = (uint64_t)size / IMAGE_SECTOR_SIZE;
	return 0;
}

void image_close(int fd)
{
	struct flock unlock = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

	if (fd < 0)
		return;
	/* The lock is the open file's, which a ring that is torn down holds a little longer. */
	(void)fcntl(fd, F_OFD_SETLK, &unlock); /* fails only if there was no lock */
	close(fd);
}
