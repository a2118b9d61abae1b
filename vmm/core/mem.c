/*
 * Guest RAM; see mem.h.
 *
 * The mapping is aligned to 2 MiB and asks for transparent huge pages. Page faults are
 * most of what a short boot costs the host, and one fault of 2 MiB replaces up to 512 of
 * 4 KiB (perf/boot: 2,756 nested faults become about 600). But to clear 2 MiB costs as
 * much as 50 to 100 faults, so the first 2 MiB, of which a boot touches 60 pages, stay
 * small. MAP_NORESERVE: RAM that the guest never touches costs nothing. MADV_DONTDUMP
 * keeps guest secrets out of core files.
 */
#include "vmm/core/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"

#define HUGE_SIZE (2 * MIB)

#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67 /* Linux 6.4 */
#endif

int mem_init(struct mem *m, uint64_t size, struct err *e)
{
	uint64_t low = MF_MIN(size, MEM_GAP_START), map_size;
	uint8_t *host;
	void *map;

	if (__builtin_add_overflow(size, 4 * HUGE_SIZE, &map_size) || map_size > SIZE_MAX)
		return err_set(e, -ENOMEM, "map %llu MiB of guest memory: larger than any address space",
			       (unsigned long long)(size / MIB));
	map_size = mf_align_up(map_size, HUGE_SIZE);
	map = mmap(NULL, map_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED)
		return err_sys(e, "map %llu MiB of guest memory", (unsigned long long)(size / MIB));
	*m = (struct mem){ .size = size, .map = map, .map_size = map_size };
	host = (uint8_t *)(uintptr_t)mf_align_up((uint64_t)(uintptr_t)map + HUGE_SIZE, HUGE_SIZE);
	if (mprotect(host, size, PROT_READ | PROT_WRITE) < 0) {
		err_sys(e, "map %llu MiB of guest memory", (unsigned long long)(size / MIB));
		mem_done(m);
		return e->code;
	}
	/*
	 * Hints: without them the guest runs as well, only slower or with larger core
	 * files.
	 */
	(void)madvise(host, size, MADV_HUGEPAGE);
	(void)madvise(host, size, MADV_DONTDUMP);
	/*
	 * Our parent may have enabled KSM for us. Merged pages leak their contents
	 * through write timing.
	 */
	(void)prctl(PR_SET_MEMORY_MERGE, 0, 0, 0, 0);

	m->region[m->num_regions++] = (struct mem_region){ .gpa = 0, .size = low, .host = host };
	if (size > low)
		m->region[m->num_regions++] =
			(struct mem_region){ .gpa = MEM_GAP_END, .size = size - low, .host = host + low };
	mem_keep_small(m, 0);
	return 0;
}

int mem_share(struct mem *m, struct err *e)
{
	MF_CLOSE int fd = memfd_create("guest-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, (off_t)m->size) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK) < 0)
		return err_sys(e, "make guest memory of %llu MiB that can be shared",
			       (unsigned long long)(m->size / MIB));
	if (mmap(m->region[0].host, m->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0) ==
	    MAP_FAILED)
		return err_sys(e, "map guest memory that can be shared");
	m->shared = true;
	m->shared_fd = mf_take_fd(&fd);
	mem_set_huge(m, true);
	(void)madvise(m->region[0].host, m->size, MADV_DONTDUMP);
	return 0;
}

void mem_drain(const struct mem *m)
{
	if (m->shared)
		(void)madvise(m->region[0].host, m->size, MADV_DONTNEED); /* they stay in the memfd */
}

int mem_unshare(struct mem *m)
{
	m->shared = false;
	return mf_take_fd(&m->shared_fd);
}

int mem_map_empty(struct mem *m, uint64_t at, uint64_t len, struct err *e)
{
	uint8_t *host = m->region[0].host + at;

	if (mmap(host, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) ==
	    MAP_FAILED)
		return err_sys(e, "map empty guest memory at offset 0x%llx", (unsigned long long)at);
	(void)madvise(host, len, MADV_DONTDUMP);
	return 0;
}

void mem_keep_small(struct mem *m, uint64_t gpa)
{
	uint64_t start = mf_align_down(gpa, HUGE_SIZE);
	void *at = mem_at(m, start, HUGE_SIZE);

	if (at)
		(void)madvise(at, HUGE_SIZE, MADV_NOHUGEPAGE);
}

void mem_set_huge(struct mem *m, bool huge)
{
	(void)madvise(m->region[0].host, m->size, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	if (huge)
		mem_keep_small(m, 0);
}

void mem_done(struct mem *m)
{
	if (m->map)
		munmap(m->map, m->map_size);
	if (m->shared)
		close(m->shared_fd);
	*m = (struct mem){ 0 };
}

void *mem_at(const struct mem *m, uint64_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < m->num_regions; i++) {
		const struct mem_region *r = &m->region[i];

		if (gpa >= r->gpa && gpa - r->gpa < r->size && len <= r->size - (gpa - r->gpa))
			return r->host + (gpa - r->gpa);
	}
	return NULL;
}

static void note_file(struct mem *m, uint64_t offset, uint64_t len)
{
	struct mem_file *last = m->num_files ? &m->file[m->num_files - 1] : NULL;
	uint64_t start, end;

	if (m->num_files < MEM_FILES_MAX) {
		m->file[m->num_files++] = (struct mem_file){ offset, len };
		return;
	}
	start = MF_MIN(last->offset, offset);
	end = MF_MAX(last->offset + last->len, offset + len);
	*last = (struct mem_file){ start, end - start };
}

int mem_map_offset(struct mem *m, uint64_t at, int fd, uint64_t offset, uint64_t len, struct err *e)
{
	uint8_t *host = m->region[0].host + at;
	struct err late;

	if (!mf_range_within(at, len, m->size))
		return err_set(e, -EFAULT, "map a file at offset 0x%llx of guest memory: not RAM",
			       (unsigned long long)at);
	if (m->shared)
		return err_set(e, -EOPNOTSUPP, "map a file into guest memory that is shared");
	if (mmap(host, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, (off_t)offset) != MAP_FAILED) {
		(void)madvise(host, len, MADV_DONTDUMP); /* a hint; a new mapping starts without */
		note_file(m, at, len);
		return 0;
	}
	err_sys(e, "map a file at offset 0x%llx of guest memory", (unsigned long long)at);
	/*
	 * A failed MAP_FIXED may have removed the old mapping: map RAM again, so that the
	 * caller can copy instead.
	 */
	return mem_map_empty(m, at, len, &late) < 0 ? err_set(e, late.code, "%s", late.text) : e->code;
}

int mem_map_file(struct mem *m, uint64_t gpa, int fd, uint64_t offset, uint64_t len, struct err *e)
{
	const uint8_t *at = mem_at(m, gpa, len);

	if (!at)
		return err_set(e, -EFAULT, "map a file at guest address 0x%llx: not RAM", (unsigned long long)gpa);
	return mem_map_offset(m, (uint64_t)(at - m->region[0].host), fd, offset, len, e);
}

void *mem_map_guarded(int fd, size_t size)
{
	uint8_t *map = mmap(NULL, size + 2 * MF_PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		return NULL;
	if (mmap(map + MF_PAGE_SIZE, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
		int error = errno;

		munmap(map, size + 2 * MF_PAGE_SIZE);
		errno = error;
		return NULL;
	}
	return map + MF_PAGE_SIZE;
}
