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
#define DISK_VERSION 2 /* 1 had no checksum of the data */
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

struct trailer {
	uint64_t sectors, bitmap_sum, data_sum;
	bool has_data_sum;
};

static size_t write_trailer(uint8_t buf[TRAILER_MAX], uint16_t version, const struct trailer *t)
{
	struct state_out out;

	state_out_init(&out, buf, TRAILER_MAX);
	state_begin(&out, DISK_TAG, 0, version);
	state_put_u64(&out, t->sectors);
	state_put_u64(&out, t->bitmap_sum);
	if (version > 1)
		state_put_u64(&out, t->data_sum);
	state_end(&out);
	return (size_t)state_out_finish(&out); /* it fits */
}

static size_t trailer_len(uint16_t version)
{
	uint8_t buf[TRAILER_MAX];

	return write_trailer(buf, version, &(struct trailer){ 0 });
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

/* Where the data of a layer goes. */
struct sink {
	int fd;	      /* -1: nowhere */
	uint64_t sum; /* of each sector that is not all zeros: its number, then its words */
};

/* Takes what is not zero, in whole sectors. */
static int sink_take(struct sink *sink, const uint8_t *buf, size_t len, uint64_t offset, struct err *e)
{
	size_t at = 0, end;
	int r = 0;

	while (!r && at < len) {
		for (end = at; end < len && !is_zero(buf + end, IMAGE_SECTOR_SIZE); end += IMAGE_SECTOR_SIZE)
			sink->sum = state_sum(sink->sum ^ (offset + end) / IMAGE_SECTOR_SIZE, buf + end,
					      IMAGE_SECTOR_SIZE);
		if (end > at && sink->fd >= 0)
			r = write_at(sink->fd, buf + at, end - at, offset + at, e);
		at = end + IMAGE_SECTOR_SIZE; /* past the one of zeros */
	}
	return r;
}

static int copy_run(int from, struct sink *sink, uint64_t sector, uint64_t num, struct err *e)
{
	uint64_t offset = sector * IMAGE_SECTOR_SIZE, end = offset + num * IMAGE_SECTOR_SIZE;
	uint8_t buf[BUF_SIZE] __attribute__((aligned(8)));
	int r = 0;

	for (size_t len; !r && offset < end; offset += len) {
		len = MF_MIN(end - offset, sizeof(buf));
		r = fdio_pread_all(from, buf, len, offset);
		r = r < 0 ? err_neg(e, r, "read its layer") : sink_take(sink, buf, len, offset, e);
	}
	return r;
}

/* The sectors [sector, end). */
static int copy_sectors(const struct overlay *o, const struct overlay *base, struct sink *sink, uint64_t sector,
			uint64_t end, struct err *e)
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
			r = copy_run(overlay_fd(from), sink, sector, run, e);
	}
	return r;
}

int overlay_write(const struct overlay *o, const struct overlay *base, int fd, struct err *e)
{
	const struct layout at = layout_of(o->sectors);
	struct trailer t = { .sectors = o->sectors, .bitmap_sum = 1 };
	struct sink sink = { .fd = fd, .sum = 1 };
	uint8_t trailer[TRAILER_MAX];
	uint64_t words[PAGE_WORDS];
	int r = 0;

	for (uint64_t page = 0; !r && page < at.bitmap_pages; page++) {
		uint64_t first = page * OVERLAY_PAGE_BITS;

		if (!is_touched(o, page) && !is_touched(base, page))
			continue;
		memcpy(words, o->own + page * PAGE_WORDS, sizeof(words));
		for (unsigned i = 0; base && i < PAGE_WORDS; i++)
			words[i] |= base->own[page * PAGE_WORDS + i];
		t.bitmap_sum = state_sum(t.bitmap_sum ^ page, words, sizeof(words));
		r = write_at(fd, words, sizeof(words), at.bitmap_at + page * MF_PAGE_SIZE, e);
		if (!r)
			r = copy_sectors(o, base, &sink, first, MF_MIN(first + OVERLAY_PAGE_BITS, o->sectors), e);
	}
	t.data_sum = sink.sum;
	return r ? r : write_at(fd, trailer, write_trailer(trailer, DISK_VERSION, &t), at.trailer_at, e);
}

/* Reading. */

/* At the end of a file of so many bytes. */
static int read_version(int fd, uint64_t size, uint16_t version, struct trailer *t, struct err *e)
{
	size_t len = trailer_len(version);
	uint8_t buf[TRAILER_MAX];
	struct state_in in;
	int r;

	if (size < len)
		return err_set(e, -EBADMSG, "it is cut short");
	r = fdio_pread_all(fd, buf, len, size - len);
	if (r < 0)
		return err_neg(e, r, "read it");
	if (state_in_init(&in, buf, len, e) < 0 || state_open(&in, DISK_TAG, 0, version, e) < 0)
		return e->code;
	t->sectors = state_get_u64(&in);
	t->bitmap_sum = state_get_u64(&in);
	t->has_data_sum = in.version > 1;
	t->data_sum = t->has_data_sum ? state_get_u64(&in) : 0;
	if (t->sectors > size / IMAGE_SECTOR_SIZE || size != layout_of(t->sectors).trailer_at + len)
		state_refuse(&in, "sectors");
	return state_close(&in, e);
}

static int read_trailer(int fd, uint64_t size, struct trailer *t, struct err *e)
{
	struct err older;

	if (read_version(fd, size, DISK_VERSION, t, e) == 0 || read_version(fd, size, 1, t, &older) == 0)
		return 0;
	return e->code;
}

static int check_size(uint64_t size, uint64_t sectors, struct err *e)
{
	uint64_t trailer_at = layout_of(sectors).trailer_at;

	if (size == trailer_at + trailer_len(DISK_VERSION) || size == trailer_at + trailer_len(1))
		return 0;
	return err_set(e, -EINVAL,
		       "it has %" PRIu64 " bytes, and the layer of a drive of %" PRIu64 " sectors has %" PRIu64, size,
		       sectors, trailer_at + trailer_len(DISK_VERSION));
}

/* The first page at or after offset that is no hole; or end. All are multiples of MF_PAGE_SIZE. */
static uint64_t next_data(int fd, uint64_t offset, uint64_t end)
{
	off_t found = lseek(fd, (off_t)offset, SEEK_DATA);

	if (found < 0)
		return errno == ENXIO ? end : offset; /* a file system without holes */
	return MF_MIN(mf_align_down((uint64_t)found, MF_PAGE_SIZE), end);
}

/* The page of the bitmap at or after the given one that is no hole; or the number of pages. */
static uint64_t next_page(int fd, const struct layout *at, uint64_t page)
{
	return (next_data(fd, at->bitmap_at + page * MF_PAGE_SIZE, at->trailer_at) - at->bitmap_at) / MF_PAGE_SIZE;
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
		seen = state_sum(seen ^ page, words, sizeof(words));
	}
	return seen == sum ? 0 : err_set(e, -EBADMSG, "its bitmap is damaged: its checksum differs");
}

/* All before the bitmap: this also notices data in a sector that the layer does not have. */
static int check_data(const struct overlay *o, const struct trailer *t, struct err *e)
{
	uint64_t end = t->has_data_sum ? layout_of(o->sectors).bitmap_at : 0;
	struct sink sink = { .fd = -1, .sum = 1 };
	int r = 0;

	for (uint64_t at = 0, len; !r && at < end && (at = next_data(o->fd, at, end)) < end; at += len) {
		len = MF_MIN(end - at, BUF_SIZE);
		r = copy_run(o->fd, &sink, at / IMAGE_SECTOR_SIZE, len / IMAGE_SECTOR_SIZE, e);
	}
	if (r < 0 || !t->has_data_sum || sink.sum == t->data_sum)
		return r;
	return err_set(e, -EBADMSG, "its data is damaged: its checksum differs");
}

/* sectors: or NULL, as the file says. */
static int read_layer(struct overlay *o, const char *path, const uint64_t *sectors, bool all, struct err *e)
{
	struct trailer t;
	uint64_t size;
	int r;

	o->fd = fdio_open_file(path, O_RDONLY, false, &size, e);
	if (o->fd < 0)
		return o->fd;
	r = sectors ? check_size(size, *sectors, e) : 0;
	if (!r)
		r = read_trailer(o->fd, size, &t, e);
	if (!r && sectors && t.sectors != *sectors)
		r = err_set(e, -EINVAL, "it is of a drive of %" PRIu64 " sectors", t.sectors);
	if (r < 0)
		return err_wrap(e, "layer '%s'", path);
	o->sectors = t.sectors;
	r = overlay_map(o, e);
	if (!r)
		r = read_bitmap(o, t.bitmap_sum, e);
	if (!r && all)
		r = check_data(o, &t, e);
	return r < 0 ? err_wrap(e, "layer '%s'", path) : 0;
}

static int new_layer(struct overlay **ret, const char *path, const uint64_t *sectors, bool all, struct err *e)
{
	struct overlay *o = calloc(1, sizeof(*o));

	if (!o)
		return err_set(e, -ENOMEM, "out of memory");
	*o = (struct overlay){ .fd = -1 };
	if (read_layer(o, path, sectors, all, e) < 0) {
		overlay_free(o);
		return e->code;
	}
	*ret = o;
	return 0;
}

int overlay_read(struct overlay **ret, const char *path, uint64_t sectors, struct err *e)
{
	return new_layer(ret, path, &sectors, false, e);
}

int overlay_check(const char *path, struct err *e)
{
	struct overlay *o = NULL;
	int r = new_layer(&o, path, NULL, true, e);

	overlay_free(o);
	return r;
}
