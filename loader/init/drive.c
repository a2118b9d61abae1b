/* File systems on drives; see drive.h. */
#include "loader/init/drive.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include "loader/init/fd.h"

#define DEVICE_WAIT_MS 5000
#define DEVICE_TRY_MS 5
#define HEAD_BYTES 2048

/*
 * The kernel finds drives before it starts init, but for those whose driver takes its
 * time.
 */
static int drive_open(const char *device)
{
	for (int waited = 0;; waited += DEVICE_TRY_MS) {
		int fd = open(device, O_RDONLY | O_CLOEXEC);

		if (fd >= 0 || (errno != ENOENT && errno != ENXIO) || waited >= DEVICE_WAIT_MS)
			return fd < 0 ? -errno : fd;
		clock_sleep_ms(DEVICE_TRY_MS);
	}
}

static bool drive_has(const uint8_t *head, size_t at, uint32_t magic, size_t len)
{
	return memcmp(head + at, &magic, len) == 0;
}

/*
 * By the superblock: the kernel logs an error for each kind that is tried and does not
 * match.
 */
static const char *drive_kind(const uint8_t *head)
{
	if (drive_has(head, 0x438, 0xef53, 2))
		return "ext4";
	if (drive_has(head, 0x400, 0xe0f5e1e2, 4))
		return "erofs";
	if (drive_has(head, 0, 0x73717368, 4))
		return "squashfs";
	return NULL;
}

/* The kernel learns a new size by an interrupt, for which a thread of its own works. */
static void drive_await_size(const char *device)
{
	int fd = drive_open(device);
	uint64_t bytes = 0;

	for (int waited = 0; waited < DEVICE_WAIT_MS && ioctl(fd, BLKGETSIZE64, &bytes) == 0 && bytes == 0; waited++)
		clock_sleep_ms(1);
	(void)ioctl(fd, BLKRRPART); /* a kernel that knows no partitions refuses */
	fd_close(&fd);
}

void drive_await_sizes(const char *boot, size_t len)
{
	const char *s;
	size_t at = 0;

	while ((s = text_next(boot, len, &at)) != NULL)
		if (*s == 'c')
			drive_await_size(s + 1);
}

bool drive_mount(const char *device, const char *at, bool writable, const char *options, struct text *why)
{
	static uint8_t head[HEAD_BYTES];
	int fd = drive_open(device), ret = -1;
	const char *kind;
	ssize_t n;

	if (fd < 0) {
		text_add(why, "drive ", device, NULL);
		text_add_error(why, -fd);
		return false;
	}
	n = pread(fd, head, sizeof(head), 0);
	fd_close(&fd);
	kind = n == (ssize_t)sizeof(head) ? drive_kind(head) : NULL;
	if (kind == NULL) {
		text_add(why, "drive ", device, ": has no ext4, erofs or squashfs file system", NULL);
		return false;
	}
	if (writable)
		ret = mount(device, at, kind, 0, options);
	if (ret < 0 && (!writable || errno == EACCES || errno == EROFS))
		ret = mount(device, at, kind, MS_RDONLY, NULL);
	/*
	 * One that was not unmounted, on a drive that cannot be written to: its journal
	 * stays where it is.
	 */
	if (ret < 0 && errno == EROFS)
		ret = mount(device, at, kind, MS_RDONLY, "noload");
	if (ret < 0) {
		int error = errno;

		text_add(why, "drive ", device, ": mounting its ", kind, NULL);
		text_add_error(why, error);
		if (error == ENODEV)
			text_add(why, "; the kernel has no ", kind, NULL);
		return false;
	}
	return true;
}
