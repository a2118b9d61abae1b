/*
 * The layer of a drive in a snapshot, `disks/ID` (docs/snapshot-format.md):
 *
 *	data	each sector of the layer at its own place, holes for the others
 *	bitmap	a bit for each sector of the drive, the lowest first; from the next page on
 *	trailer	a state (vmm/core/state.h) of one section; from the next page on
 *
 * Data is at its own place so that a drive reads it as it reads an image, without a translation.
 *
 * Only what was written counts: neither side looks at pages of a bitmap that are holes, so the time
 * goes with the data, not with the size of the drive. A sector that is all zeros, for example one that
 * the guest has discarded, is a set bit and a hole.
 *
 * The file is hostile. Its size follows from the size of the drive; nothing in it is used as an
 * offset or a length. The bitmap is copied, so later changes of the file change data only.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "virtio/image.h"
#include "virtio/overlay_priv.h"
#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/core/state.h"

#define DISK_TAG STATE_TAG('d', 'i', 's', 'k')
#define DISK_VERSION 1
#define TRAILER_MAX 256
#define BUF_SIZE (64U << 10)
#define PAGE_WORDS (MF_PAGE_SIZE / sizeof(uint64_t))

struct layout {
	uint64_t bitmap_at, bitmap_pages, trailer_at;
};

static struct layout layout_of(uint64_t sectors)
{
	uint64_t bitmap_at = mf_align_up(sectors * IMAGE_SECTOR_SIZE, MF_PAGE_SIZE);
	uint64_t pages = (sectors + OVERLAY_PAGE_BITS - 1) / OVERLAY_PAGE_BITS;

	return (struct layout){ bitmap_at, pages, bitmap_at + pages * MF_PAGE_SIZE };
}

/* As in state.c: it notices accidents, in any page and in the order of pages. */
static uint64_t sum_page(uint64_t sum, uint64_t index, const uint64_t *words)
{
	sum ^= index;
	for (unsigned i = 0; i < PAGE_WORDS; i++) {
		sum = (sum ^ words[i]) * 0x9e3779b97f4a7c15ULL;
		sum ^= sum >> 32;
	}
	return sum;
}

static size_t write_trailer(uint8_t buf[TRAILER_MAX], uint64_t sectors, uint64_t sum)
{
	struct state_out out;

	state_out_init(&out, buf, TRAILER_MAX);
	state_begin(&out, DISK_TAG, 0, DISK_VERSION);
	state_put_u64(&out, sectors);
	state_put_u64(&out, sum);
	state_end(&out);
	return (size_t)state_out_finish(&out); /* it fits */
}

bool overlay_is_empty(const struct overlay *o)
{
	uint64_t pages = layout_of(o->sectors).bitmap_pages;

	for (uint64_t i = 0; i < pages; i += 64)
		if (o->touched[i / 64])
			return false;
	return true;
}

static bool is_touched(const struct overlay *o, uint64_t page)
{
	return o && o->touched[page / 64] >> page % 64 & 1;
}

static bool is_zero(const uint8_t *p, size_t len)
{
	return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

/* Writing. */

static int write_at(int fd, const void *buf, size_t len, uint64_t offset, struct err *e)
{
	int r = fdio_pwrite_all(fd, buf, len, offset);

	return r < 0 ? err_neg(e, r, "write its layer") : 0;
}

/* Writes what is not zero, in whole sectors. */
static int write_sparse(int fd, const uint8_t *buf, size_t len, uint64_t offset, struct err *e)
{
	size_t at = 0, end;
	int r = 0;

	while (!r && at < len) {
		if (is_zero(buf + at, IMAGE_SECTOR_SIZE)) {
			at += IMAGE_SECTOR_SIZE;
			continue;
		}
		for (end = at + IMAGE_SECTOR_SIZE; end < len && !is_zero(buf + end, IMAGE_SECTOR_SIZE);)
			end += IMAGE_SECTOR_SIZE;
		r = write_at(fd, buf + at, end - at, offset + at, e);
		at = end;
	}
	return r;
}

static int copy_run(int from, int to, uint64_t sector, uint64_t num, struct err *e)
{
	uint64_t offset = sector * IMAGE_SECTOR_SIZE, end = offset + num * IMAGE_SECTOR_SIZE;
	uint8_t buf[BUF_SIZE];
	int r = 0;

	for (size_t len; !r && offset < end; offset += len) {
		len = MF_MIN(end - offset, sizeof(buf));
		r = fdio_pread_all(from, buf, len, offset);
		r = r < 0 ? err_neg(e, r, "read its layer") : write_sparse(to, buf, len, offset, e);
	}
	return r;
}

/* The sectors [sector, end). */
static int copy_sectors(const struct overlay *o, const struct overlay *base, int fd, uint64_t sector, uint64_t end,
			struct err *e)
{
	int r = 0;

	for (uint64_t run; !r && sector < end; sector += run) {
		const struct overlay *from = o;
		bool own;

		run = overlay_run(o, sector, end - sector, &own);
		if (!own && base) {
			from = base;
			run = overlay_run(base, sector, run, &own);
		}
		if (own)
			r = copy_run(overlay_fd(from), fd, sector, run, e);
	}
	return r;
}

int overlay_write(const struct overlay *o, const struct overlay *base, int fd, struct err *e)
{
	const struct layout at = layout_of(o->sectors);
	uint8_t trailer[TRAILER_MAX];
	uint64_t words[PAGE_WORDS], sum = 1;
	int r = 0;

	for (uint64_t page = 0; !r && page < at.bitmap_pages; page++) {
		uint64_t first = page * OVERLAY_PAGE_BITS;

		if (!is_touched(o, page) && !is_touched(base, page))
			continue;
		memcpy(words, o->own + page * PAGE_WORDS, sizeof(words));
		for (unsigned i = 0; base && i < PAGE_WORDS; i++)
			words[i] |= base->own[page * PAGE_WORDS + i];
		sum = sum_page(sum, page, words);
		r = write_at(fd, words, sizeof(words), at.bitmap_at + page * MF_PAGE_SIZE, e);
		if (!r)
			r = copy_sectors(o, base, fd, first, MF_MIN(first + OVERLAY_PAGE_BITS, o->sectors), e);
	}
	return r ? r : write_at(fd, trailer, write_trailer(trailer, o->sectors, sum), at.trailer_at, e);
}

/* Reading. */

static int read_trailer(int fd, uint64_t size, uint64_t sectors, uint64_t *ret_sum, struct err *e)
{
	const struct layout at = layout_of(sectors);
	uint8_t trailer[TRAILER_MAX];
	size_t len = write_trailer(trailer, sectors, 0);
	struct state_in in;
	int r;

	if (size != at.trailer_at + len)
		return err_set(e, -EINVAL,
			       "it has %" PRIu64 " bytes, and the layer of a drive of %" PRIu64 " sectors has %" PRIu64,
			       size, sectors, at.trailer_at + len);
	r = fdio_pread_all(fd, trailer, len, at.trailer_at);
	if (r < 0)
		return err_neg(e, r, "read it");
	r = state_in_init(&in, trailer, len, e);
	if (!r)
		r = state_open(&in, DISK_TAG, 0, DISK_VERSION, e);
	if (r < 0)
		return r;
	if (state_get_u64(&in) != sectors)
		state_refuse(&in, "sectors");
	*ret_sum = state_get_u64(&in);
	return state_close(&in, e);
}

/* How many sectors the drive has, as the trailer at the end of the file says. */
static int read_sectors(int fd, uint64_t size, uint64_t *ret, struct err *e)
{
	uint8_t trailer[TRAILER_MAX];
	size_t len = write_trailer(trailer, 0, 0);
	struct state_in in;
	int r;

	if (size < len)
		return err_set(e, -EBADMSG, "it is cut short");
	r = fdio_pread_all(fd, trailer, len, size - len);
	if (r < 0)
		return err_neg(e, r, "read it");
	if (state_in_init(&in, trailer, len, e) < 0 || state_open(&in, DISK_TAG, 0, DISK_VERSION, e) < 0)
		return e->code;
	*ret = state_get_u64(&in);
	return *ret <= size / IMAGE_SECTOR_SIZE ? 0 : err_set(e, -EBADMSG, "it is cut short");
}

/* The page of the bitmap at or after the given one that is no hole; or the number of pages. */
static uint64_t next_page(int fd, const struct layout *at, uint64_t page)
{
	off_t found = lseek(fd, (off_t)(at->bitmap_at + page * MF_PAGE_SIZE), SEEK_DATA);

	if (found < 0)
		return errno == ENXIO ? at->bitmap_pages : page; /* a file system without holes */
	return MF_MIN(((uint64_t)found - at->bitmap_at) / MF_PAGE_SIZE, at->bitmap_pages);
}

static int read_bitmap(struct overlay *o, uint64_t sum, struct err *e)
{
	const struct layout at = layout_of(o->sectors);
	unsigned rest = (unsigned)(o->sectors % OVERLAY_PAGE_BITS);
	uint64_t words[PAGE_WORDS], seen = 1;

	for (uint64_t page = next_page(o->fd, &at, 0); page < at.bitmap_pages; page = next_page(o->fd, &at, page + 1)) {
		int r = fdio_pread_all(o->fd, words, sizeof(words), at.bitmap_at + page * MF_PAGE_SIZE);

		if (r < 0)
			return err_neg(e, r, "read its bitmap");
		if (is_zero((const uint8_t *)words, sizeof(words)))
			continue;
		for (unsigned i = rest; page + 1 == at.bitmap_pages && rest && i < OVERLAY_PAGE_BITS; i++)
			if (words[i / 64] >> i % 64 & 1)
				return err_set(e, -EINVAL, "its bitmap has sectors beyond the end of the drive");
		memcpy(o->own + page * PAGE_WORDS, words, sizeof(words));
		o->touched[page / 64] |= 1ULL << page % 64;
		seen = sum_page(seen, page, words);
	}
	return seen == sum ? 0 : err_set(e, -EBADMSG, "its bitmap is damaged: its checksum differs");
}

/* sectors: or NULL, as the file says. */
static int read_layer(struct overlay *o, const char *path, const uint64_t *sectors, struct err *e)
{
	uint64_t size, sum;
	int r;

	o->fd = fdio_open_file(path, O_RDONLY, false, &size, e);
	if (o->fd < 0)
		return o->fd;
	if (sectors)
		o->sectors = *sectors;
	r = sectors ? 0 : read_sectors(o->fd, size, &o->sectors, e);
	if (!r)
		r = read_trailer(o->fd, size, o->sectors, &sum, e);
	if (!r)
		r = overlay_map(o, e);
	if (!r)
		r = read_bitmap(o, sum, e);
	return r < 0 ? err_wrap(e, "layer '%s'", path) : 0;
}

static int new_layer(struct overlay **ret, const char *path, const uint64_t *sectors, struct err *e)
{
	struct overlay *o = calloc(1, sizeof(*o));

	if (!o)
		return err_set(e, -ENOMEM, "out of memory");
	*o = (struct overlay){ .fd = -1 };
	if (read_layer(o, path, sectors, e) < 0) {
		overlay_free(o);
		return e->code;
	}
	*ret = o;
	return 0;
}

int overlay_read(struct overlay **ret, const char *path, uint64_t sectors, struct err *e)
{
	return new_layer(ret, path, &sectors, e);
}

int overlay_check(const char *path, struct err *e)
{
	struct overlay *o = NULL;
	int r = new_layer(&o, path, NULL, e);

	overlay_free(o);
	return r;
}
