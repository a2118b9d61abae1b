/* Parts of files as guest memory; see filemem.h. */
#include "loader/filemem.h"

#include <errno.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"
#include "vmm/core/mem.h"

/*
 * The first extent of data in [offset, end). Returns 1, 0 if there is none, or -ENODATA if the file ends before `end`.
 * A file system that does not know its holes has one extent; one that answers nonsense is treated the same, so that the
 * caller always gets ahead.
 */
static int next_extent(int fd, uint64_t offset, uint64_t end, uint64_t *ret_start, uint64_t *ret_end)
{
	off_t data = lseek(fd, (off_t)offset, SEEK_DATA), hole;

	if (data < 0 && errno == ENXIO) /* a hole up to the end of the file, or the end */
		return lseek(fd, 0, SEEK_END) < (off_t)end ? -ENODATA : 0;
	if (data < 0 || (uint64_t)data < offset)
		data = (off_t)offset;
	if ((uint64_t)data >= end)
		return 0;
	hole = lseek(fd, data, SEEK_HOLE);
	*ret_start = (uint64_t)data;
	*ret_end = hole <= data || (uint64_t)hole > end ? end : (uint64_t)hole;
	return 1;
}

int filemem_copy(struct mem *m, uint64_t gpa, int fd, uint64_t offset, uint64_t len, struct filemem_count *count,
		 struct err *e)
{
	uint8_t *host = mem_at(m, gpa, len);
	uint64_t end, pos = offset, from, to;
	int rc = 0;

	if (!host || __builtin_add_overflow(offset, len, &end) || end > INT64_MAX)
		return err_set(e, -EFAULT, "read %llu bytes to guest address 0x%llx: not RAM", (unsigned long long)len,
			       (unsigned long long)gpa);
	while (pos < end && (rc = next_extent(fd, pos, end, &from, &to)) > 0) {
		rc = fdio_pread_all(fd, host + (from - offset), to - from, from);
		if (rc < 0)
			break;
		count->copied += to - from;
		pos = to;
	}
	if (rc == -ENODATA)
		return err_set(e, rc, "read bytes %llu to %llu: the file ends before", (unsigned long long)offset,
			       (unsigned long long)end);
	if (rc < 0)
		return err_neg(e, rc, "read bytes %llu to %llu", (unsigned long long)offset, (unsigned long long)end);
	return 0;
}

int filemem_map(struct mem *m, uint64_t gpa, int fd, uint64_t offset, uint64_t len, struct filemem_count *count,
		struct err *e)
{
	uint64_t whole = mf_align_down(len, MF_PAGE_SIZE);

	/*
	 * Some file systems have no mmap. Its error does not matter: the copy reports its
	 * own.
	 */
	if (whole == 0 || mem_map_file(m, gpa, fd, offset, whole, e) < 0)
		return filemem_copy(m, gpa, fd, offset, len, count, e);
	count->mapped += whole;
	if (len == whole)
		return 0;
	return filemem_copy(m, gpa + whole, fd, offset + whole, len - whole, count, e);
}
