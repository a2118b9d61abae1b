/* The initrd; see initrd.h. */
#include "loader/initrd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "loader/filemem.h"
#include "loader/kernel.h"
#include "loader/layout.h"
#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"
#include "vmm/core/mem.h"

/*
 * From this size on the file is mapped: it shares the host's page cache, and the guest reads an initrd once, so that a
 * page of it costs one fault either way. A smaller one is copied, which leaves the RAM around it in huge pages.
 */
#define INITRD_MAP_MIN (4 * MIB)

#define ARCHIVE_ALIGN 4 /* where Linux looks for another archive behind the first */

/* Where size bytes go, beside the kernel. */
static int place(const struct mem *m, uint64_t size, const struct kernel_image *kernel, uint64_t *ret_gpa,
		 struct err *e)
{
	uint64_t ram_end = m->region[0].size, end = mf_align_down(MF_MIN(ram_end, kernel->initrd_end), MF_PAGE_SIZE);
	uint64_t floor;

	/* A kernel that ends past `end` leaves no room; its end is bounded before it is rounded. */
	floor = mf_align_up(MF_MIN(MF_MAX(kernel->highest, LAYOUT_HIGH_RAM), end), MF_PAGE_SIZE);
	if (size > end - floor)
		return err_set(e, -ENOSPC,
			       "%llu KiB do not fit beside the kernel into %llu MiB of guest memory "
			       "(the kernel ends at 0x%llx, %s at 0x%llx)",
			       (unsigned long long)(size / KIB + (size % KIB != 0)),
			       (unsigned long long)(m->size / MIB), (unsigned long long)kernel->highest,
			       end == ram_end ? "RAM" : "its range for an initrd", (unsigned long long)end);
	*ret_gpa = size <= LAYOUT_SMALL_INITRD_MAX ? LAYOUT_SMALL_INITRD : mf_align_down(end - size, MF_PAGE_SIZE);
	return 0;
}

static int load(struct mem *m, const char *path, const void *extra, size_t extra_len, const struct kernel_image *kernel,
		uint64_t *ret_gpa, uint64_t *ret_size, struct err *e)
{
	struct filemem_count count = { 0 };
	uint64_t size = 0, total, gpa = 0;
	MF_CLOSE int fd = -1;
	int rc = 0;

	if (path) {
		fd = fdio_open_file(path, O_RDONLY, false, &size, e);
		if (fd < 0)
			return e->code;
		if (size == 0)
			return err_set(e, -EINVAL, "the file is empty");
	}
	if (__builtin_add_overflow(mf_align_down(size, ARCHIVE_ALIGN), ARCHIVE_ALIGN + extra_len, &total))
		return err_set(e, -EFBIG, "the file is too large");
	total = extra_len ? mf_align_up(size, ARCHIVE_ALIGN) + extra_len : size;
	rc = place(m, total, kernel, &gpa, e);
	if (rc < 0)
		return rc;
	if (size >= INITRD_MAP_MIN)
		rc = filemem_map(m, gpa, fd, 0, size, &count, e);
	else if (size > 0)
		rc = filemem_copy(m, gpa, fd, 0, size, &count, e);
	if (rc < 0)
		return rc;
	if (extra_len)
		memcpy(mem_at(m, gpa + total - extra_len, extra_len), extra, extra_len);
	*ret_gpa = gpa;
	*ret_size = total;
	return 0;
}

int initrd_load(struct mem *m, const char *path, const void *extra, size_t extra_len, const struct kernel_image *kernel,
		uint64_t *ret_gpa, uint64_t *ret_size, struct err *e)
{
	if (load(m, path, extra, extra_len, kernel, ret_gpa, ret_size, e) < 0)
		return err_wrap(e, path ? "initrd '%s'" : "initramfs%s", path ? path : "");
	return 0;
}
