/* Copies of files; see copy.h. */
#include "vmm/snapshot/copy.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"

#define COPY_BYTES MIB

int copy_share(int from, int to)
{
	int r;

	do {
		r = ioctl(to, FICLONE, from);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

static int copy_range(int from, int to, off_t at, off_t end, uint8_t *buf)
{
	int r = 0;

	while (!r && at < end) {
		size_t len = MF_MIN((size_t)(end - at), COPY_BYTES);

		r = fdio_pread_all(from, buf, len, (uint64_t)at);
		if (!r)
			r = fdio_pwrite_all(to, buf, len, (uint64_t)at);
		at += (off_t)len;
	}
	return r;
}

int copy_file(int from, int to, struct err *e)
{
	MF_FREE uint8_t *buf = NULL;
	struct stat st;
	off_t at = 0, end;
	int r = 0;

	if (copy_share(from, to) == 0)
		return 0;
	buf = malloc(COPY_BYTES);
	if (!buf)
		return err_set(e, -ENOMEM, "out of memory");
	if (fstat(from, &st) < 0 || ftruncate(to, st.st_size) < 0)
		return err_sys(e, "copy it");
	while (!r && (at = lseek(from, at, SEEK_DATA)) >= 0) {
		end = lseek(from, at, SEEK_HOLE);
		r = end < 0 ? -errno : copy_range(from, to, at, end, buf);
		at = end;
	}
	if (!r && errno != ENXIO)
		r = -errno;
	return r < 0 ? err_neg(e, r, "copy it") : 0;
}
