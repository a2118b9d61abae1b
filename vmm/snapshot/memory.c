/*
 * The `memory` of a snapshot; see memory.h.
 *
 * A page is written if it is not all zeros. Which pages can be: those of a mapped file,
 * whether a guest has touched them or not, and of the rest those that pagemap calls present
 * or swapped. Without pagemap every page is read.
 *
 * Runs of data that are near each other become one, since a mapping costs more than a hole
 * in it. A page that a guest takes in such a hole costs little more than elsewhere. If there
 * are still too many, the two with the smallest hole between them do.
 */
#include "vmm/snapshot/memory.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"
#include "vmm/core/mem.h"
#include "vmm/core/state.h"

#define HOLE_MIN (1 * MIB) /* smaller holes are mapped: no huge page fits in, and a mapping costs 22,000 instructions */
#define PAGE_WORDS (MF_PAGE_SIZE / sizeof(uint64_t))
#define PAGEMAP_PRESENT (1ULL << 63)
#define PAGEMAP_SWAPPED (1ULL << 62)
#define PAGEMAP_FILE (1ULL << 61)

bool memory_is_zero(const uint64_t *page)
{
	uint64_t any = 0;

	for (size_t i = 0; i < PAGE_WORDS && !any; i += 8)
		any = page[i] | page[i + 1] | page[i + 2] | page[i + 3] | page[i + 4] | page[i + 5] | page[i + 6] |
		      page[i + 7];
	return !any;
}

/* A changed word changes it, and so does a page at another place. */
uint64_t memory_sum_page(uint64_t sum, uint64_t offset, const uint64_t *page)
{
	sum = (sum ^ offset) * 0x9e3779b97f4a7c15ULL;
	for (size_t i = 0; i < PAGE_WORDS; i++) {
		sum = (sum ^ le64toh(page[i])) * 0x9e3779b97f4a7c15ULL;
		sum ^= sum >> 32;
	}
	return sum;
}

static uint64_t run_end(const struct memory_run *r)
{
	return r->offset + r->len;
}

/* Makes room for one more. */
static void merge_nearest(struct memory_map *map)
{
	unsigned best = 0;
	uint64_t smallest = UINT64_MAX;

	for (unsigned i = 0; i + 1 < map->num_runs; i++) {
		uint64_t hole = map->run[i + 1].offset - run_end(&map->run[i]);

		if (hole < smallest) {
			smallest = hole;
			best = i;
		}
	}
	map->run[best].len = run_end(&map->run[best + 1]) - map->run[best].offset;
	map->num_runs--;
	memmove(&map->run[best + 1], &map->run[best + 2], (map->num_runs - best - 1) * sizeof(map->run[0]));
}

void memory_add_run(struct memory_map *map, uint64_t offset, uint64_t len)
{
	struct memory_run *last = map->num_runs ? &map->run[map->num_runs - 1] : NULL;

	if (last && offset < run_end(last) + HOLE_MIN) {
		last->len = MF_MAX(offset + len, run_end(last)) - last->offset;
		return;
	}
	if (map->num_runs == MEMORY_RUNS_MAX)
		merge_nearest(map);
	map->run[map->num_runs++] = (struct memory_run){ offset, len };
}

/* Whether the page may have data although pagemap does not know of it. */
static bool is_of_file(const struct mem *m, uint64_t offset)
{
	for (unsigned i = 0; i < m->num_files; i++)
		if (offset >= m->file[i].offset && offset - m->file[i].offset < m->file[i].len)
			return true;
	return false;
}

const uint64_t *memory_read_pagemap(const struct mem *m, int pagemap_fd, uint64_t offset, uint64_t len,
				    uint64_t entries[MEMORY_PIECE_PAGES])
{
	const uint64_t first = (uintptr_t)m->region[0].host / MF_PAGE_SIZE;
	uint64_t bytes = len / MF_PAGE_SIZE * sizeof(entries[0]);
	bool known = pagemap_fd >= 0 &&
		     fdio_pread(pagemap_fd, entries, bytes, (first + offset / MF_PAGE_SIZE) * sizeof(entries[0])) ==
			     (ssize_t)bytes;

	return known ? entries : NULL;
}

bool memory_may_differ(const struct mem *m, uint64_t offset, const uint64_t *entry)
{
	if (!entry)
		return true;
	return *entry & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED) && !(*entry & PAGEMAP_FILE && is_of_file(m, offset));
}

/* The data of one piece: len bytes at offset, of which pagemap has entries, or none are known. */
static int write_piece(const struct mem *m, const uint64_t *entries, int fd, uint64_t offset, uint64_t len,
		       struct memory_map *map)
{
	const uint8_t *ram = m->region[0].host;
	uint64_t start = 0, run = 0; /* of what is to be written */
	int r = 0;

	for (uint64_t at = offset; at < offset + len && !r; at += MF_PAGE_SIZE) {
		const uint64_t *page = (const uint64_t *)(const void *)(ram + at);
		bool known = !entries || entries[(at - offset) / MF_PAGE_SIZE] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED);

		if ((known || is_of_file(m, at)) && !memory_is_zero(page)) {
			map->sum = memory_sum_page(map->sum, at, page);
			map->pages++;
			start = run ? start : at;
			run += MF_PAGE_SIZE;
		} else if (run) {
			memory_add_run(map, start, run);
			r = fdio_pwrite_all(fd, ram + start, run, start);
			run = 0;
		}
	}
	if (run && !r) {
		memory_add_run(map, start, run);
		r = fdio_pwrite_all(fd, ram + start, run, start);
	}
	return r;
}

int memory_write(const struct mem *m, int pagemap_fd, int fd, struct memory_map *ret)
{
	uint64_t entries[MEMORY_PIECE_PAGES];
	int r = 0;

	*ret = (struct memory_map){ .size = m->size };
	for (uint64_t offset = 0; offset < m->size && !r; offset += MEMORY_PIECE_SIZE) {
		uint64_t len = MF_MIN(MEMORY_PIECE_SIZE, m->size - offset);

		r = write_piece(m, memory_read_pagemap(m, pagemap_fd, offset, len, entries), fd, offset, len, ret);
	}
	return r;
}

/* Adds the data of [from, end), in whole pages. */
static int find_data(struct memory_map *map, int fd, uint64_t from, uint64_t end)
{
	while (from < end) {
		off_t start = lseek(fd, (off_t)from, SEEK_DATA), hole;

		if (start < 0)
			return errno == ENXIO ? 0 : -errno; /* ENXIO: there is no more */
		if ((uint64_t)start >= end)
			return 0;
		hole = lseek(fd, start, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		memory_add_run(map, (uint64_t)start, MF_MIN((uint64_t)hole, end) - (uint64_t)start);
		from = (uint64_t)hole;
	}
	return 0;
}

int memory_find(struct memory_map *ret, int fd, uint64_t size)
{
	*ret = (struct memory_map){ .size = size };
	return find_data(ret, fd, 0, size);
}

int memory_find_more(struct memory_map *map, int fd)
{
	const struct memory_map old = *map;
	uint64_t at = 0;
	int r = 0;

	*map = (struct memory_map){ .size = old.size };
	for (unsigned i = 0; i < old.num_runs && !r; i++) {
		r = find_data(map, fd, at, old.run[i].offset);
		memory_add_run(map, old.run[i].offset, old.run[i].len);
		at = run_end(&old.run[i]);
	}
	return r < 0 ? r : find_data(map, fd, at, old.size);
}

void memory_put(const struct memory_map *map, struct state_out *out)
{
	state_begin(out, MEMORY_TAG, 0, MEMORY_VERSION);
	state_put_u64(out, map->size);
	state_put_u64(out, map->pages);
	state_put_u64(out, map->sum);
	state_put_u32(out, MF_PAGE_SIZE);
	state_put_u32(out, map->num_runs);
	for (unsigned i = 0; i < MEMORY_RUNS_MAX; i++) {
		bool used = i < map->num_runs;

		state_put_u64(out, used ? map->run[i].offset : 0);
		state_put_u64(out, used ? map->run[i].len : 0);
	}
	state_end(out);
}

int memory_get(struct memory_map *ret, struct state_in *in, struct err *e)
{
	uint64_t end = 0;

	*ret = (struct memory_map){ 0 };
	if (state_open(in, MEMORY_TAG, 0, MEMORY_VERSION, e) < 0)
		return e->code;
	ret->size = state_get_u64(in);
	ret->pages = state_get_u64(in);
	ret->sum = state_get_u64(in);
	if (state_get_u32(in) != MF_PAGE_SIZE)
		state_refuse(in, "pages of another size than this host's");
	ret->num_runs = state_get_u32(in);
	if (ret->num_runs > MEMORY_RUNS_MAX)
		state_refuse(in, "number of runs");
	if (ret->size % MF_PAGE_SIZE)
		state_refuse(in, "size of memory");
	for (unsigned i = 0; i < MEMORY_RUNS_MAX; i++) {
		struct memory_run run;

		run.offset = state_get_u64(in);
		run.len = state_get_u64(in);
		if (i >= ret->num_runs)
			continue;
		if (run.offset < end || (run.offset | run.len) % MF_PAGE_SIZE || !run.len ||
		    !mf_range_within(run.offset, run.len, ret->size))
			state_refuse(in, "a run of memory");
		end = run.offset + run.len;
		ret->run[i] = run;
	}
	return state_close(in, e);
}

int memory_check_file(const struct memory_map *map, int fd, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(e, "its size");
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "it is not a regular file");
	/* Clients of Firecracker's API look for the words from "file" on. */
	if ((uint64_t)st.st_size < map->size)
		return err_set(e, -EINVAL,
			       "it has %lld bytes, and the snapshot's memory %llu: file offset and length is greater",
			       (long long)st.st_size, (unsigned long long)map->size);
	if ((uint64_t)st.st_size != map->size)
		return err_set(e, -EINVAL, "it has %lld bytes, and the snapshot's memory %llu", (long long)st.st_size,
			       (unsigned long long)map->size);
	return 0;
}

int memory_load(struct mem *m, const struct memory_run *run, unsigned num, uint64_t min, int fd, struct err *e)
{
	int r = 0;

	for (; num && !r; run++, num--) {
		if (!mf_range_within(run->offset, run->len, m->size))
			return err_set(e, -EFAULT, "a run of memory is not RAM");
		if (run->len >= min) {
			r = mem_map_offset(m, run->offset, fd, run->offset, run->len, e);
		} else {
			r = fdio_pread_all(fd, m->region[0].host + run->offset, run->len, run->offset);
			r = r < 0 ? err_neg(e, r, "read it") : 0;
		}
	}
	return r;
}

int memory_check(const struct memory_map *map, int fd, struct err *e)
{
	uint64_t page[PAGE_WORDS], sum = 0, pages = 0;
	int r = memory_check_file(map, fd, e);

	for (unsigned i = 0; i < map->num_runs && !r; i++) {
		for (uint64_t at = map->run[i].offset; at < run_end(&map->run[i]) && !r; at += MF_PAGE_SIZE) {
			r = fdio_pread_all(fd, page, sizeof(page), at);
			if (r < 0)
				return err_neg(e, r, "read it");
			if (memory_is_zero(page))
				continue;
			sum = memory_sum_page(sum, at, page);
			pages++;
		}
	}
	if (!r && (sum != map->sum || pages != map->pages))
		r = err_set(e, -EBADMSG, "it has changed since it was written: its checksum differs");
	return r;
}
