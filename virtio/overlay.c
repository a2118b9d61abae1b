/* The books of an ephemeral copy-on-write layer: three bitmaps and a file; see overlay.h. */
#include "virtio/overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "virtio/image.h"
#include "virtio/overlay_priv.h"
#include "vmm/base/err.h"
#include "vmm/base/fdstore.h"
#include "vmm/base/util.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U /* since Linux 6.3 */
#endif

#define PAGE_SECTORS (MF_PAGE_SIZE / IMAGE_SECTOR_SIZE)

/* Bits [from, to) of a map: how many of them are set; with op, sets or clears them. */
enum bits_op { BITS_COUNT, BITS_SET, BITS_CLEAR };

static uint64_t bits_do(uint64_t *bits, uint64_t from, uint64_t to, enum bits_op op)
{
	uint64_t count = 0;

	while (from < to) {
		uint64_t num = MF_MIN(64 - from % 64, to - from);
		uint64_t mask = (num == 64 ? UINT64_MAX : (1ULL << num) - 1) << from % 64;
		uint64_t *word = &bits[from / 64];

		count += (uint64_t)__builtin_popcountll(*word & mask);
		if (op == BITS_SET)
			*word |= mask;
		if (op == BITS_CLEAR && *word & mask)
			*word &= ~mask;
		from += num;
	}
	return count;
}

uint64_t overlay_run(const struct overlay *o, uint64_t sector, uint64_t max, bool *ret_own)
{
	bool own = o->own[sector / 64] >> sector % 64 & 1;
	uint64_t at = sector, end = sector + max;

	while (at < end) {
		uint64_t word = o->own[at / 64];
		uint64_t others = (own ? ~word : word) >> at % 64;

		if (others) {
			at += (uint64_t)__builtin_ctzll(others);
			break;
		}
		at += 64 - at % 64;
	}
	*ret_own = own;
	return MF_MIN(at, end) - sector;
}

static uint64_t page_of(uint64_t offset)
{
	return offset / MF_PAGE_SIZE;
}

static uint64_t page_after(uint64_t offset)
{
	return (offset + MF_PAGE_SIZE - 1) / MF_PAGE_SIZE;
}

int overlay_reserve(struct overlay *o, uint64_t offset, uint64_t len)
{
	uint64_t from = page_of(offset), to = page_after(offset + len);

	if (to - from - bits_do(o->page, from, to, BITS_COUNT) > o->max_pages - MF_MIN(o->num_pages, o->max_pages))
		return -ENOSPC;
	o->num_pages += to - from - bits_do(o->page, from, to, BITS_SET);
	return 0;
}

void overlay_release(struct overlay *o, uint64_t offset, uint64_t len)
{
	uint64_t from = page_after(offset), to = page_of(offset + len);

	if (from < to)
		o->num_pages -= bits_do(o->page, from, to, BITS_CLEAR);
}

void overlay_written(struct overlay *o, uint64_t offset, uint64_t len)
{
	uint64_t from = offset / IMAGE_SECTOR_SIZE, to = (offset + len) / IMAGE_SECTOR_SIZE;

	bits_do(o->own, from, to, BITS_SET);
	if (from < to)
		bits_do(o->touched, from / OVERLAY_PAGE_BITS, (to - 1) / OVERLAY_PAGE_BITS + 1, BITS_SET);
}

int overlay_fd(const struct overlay *o)
{
	return o->fd;
}

static int open_memory(struct err *e)
{
	int fd = memfd_create("mayfly-overlay", MFD_CLOEXEC | MFD_NOEXEC_SEAL);

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create("mayfly-overlay", MFD_CLOEXEC);
	return fd < 0 ? err_sys(e, "make its overlay in memory") : fd;
}

/* Not every file system can make a file without a name. */
int overlay_open(const char *dir, struct err *e)
{
	MF_FREE char *name = NULL;
	int fd = open(dir, OVERLAY_OPEN | O_CLOEXEC, 0600);

	if (fd >= 0)
		return fd;
	if (errno != EOPNOTSUPP && errno != EISDIR)
		return err_sys(e, "make its overlay in '%s'", dir);
	if (asprintf(&name, "%s/mayfly-overlay-XXXXXX", dir) < 0) {
		name = NULL; /* asprintf leaves it undefined */
		return err_set(e, -ENOMEM, "out of memory");
	}
	fd = mkostemp(name, O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, "make its overlay in '%s'", dir);
	if (unlink(name) < 0) {
		err_sys(e, "unlink its overlay '%s'", name);
		close(fd);
		return e->code;
	}
	return fd;
}

int overlay_map(struct overlay *o, struct err *e)
{
	uint64_t pages = (o->sectors + PAGE_SECTORS - 1) / PAGE_SECTORS;
	size_t own_size = mf_align_up(o->sectors / 8 + 8, MF_PAGE_SIZE);
	size_t page_size = mf_align_up(pages / 8 + 8, MF_PAGE_SIZE);
	size_t touched_size = mf_align_up(own_size / MF_PAGE_SIZE / 8 + 8, MF_PAGE_SIZE);
	size_t size = own_size + page_size + touched_size;
	void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (map == MAP_FAILED)
		return err_sys(e, "map the table of its overlay");
	/* A hint: a huge page would make a small layer's table large. A kernel without them refuses. */
	(void)madvise(map, size, MADV_NOHUGEPAGE);
	o->map = map;
	o->map_size = size;
	o->own = map;
	o->page = o->own + own_size / sizeof(*o->own);
	o->touched = o->page + page_size / sizeof(*o->page);
	return 0;
}

static int overlay_build(struct overlay *o, uint64_t max_bytes, const char *dir, struct err *e)
{
	uint64_t pages = (o->sectors + PAGE_SECTORS - 1) / PAGE_SECTORS;

	o->max_pages = max_bytes ? MF_MIN(max_bytes / MF_PAGE_SIZE, pages) : pages;
	o->fd = dir ? fdstore_take(dir, OVERLAY_OPEN) : open_memory(e);
	if (o->fd < 0 && dir)
		o->fd = overlay_open(dir, e);
	if (o->fd < 0)
		return o->fd;
	if (ftruncate(o->fd, (off_t)(o->sectors * IMAGE_SECTOR_SIZE)) < 0)
		return err_sys(e, "make its overlay as large as the image");
	return overlay_map(o, e);
}

int overlay_new(struct overlay **ret, uint64_t sectors, uint64_t max_bytes, const char *dir, struct err *e)
{
	struct overlay *o = calloc(1, sizeof(*o));

	if (!o)
		return err_set(e, -ENOMEM, "out of memory");
	*o = (struct overlay){ .fd = -1, .sectors = sectors };
	if (overlay_build(o, max_bytes, dir, e) < 0) {
		overlay_free(o);
		return e->code;
	}
	*ret = o;
	return 0;
}

void overlay_free(struct overlay *o)
{
	if (!o)
		return;
	if (o->map)
		munmap(o->map, o->map_size);
	if (o->fd >= 0)
		close(o->fd);
	free(o);
}
