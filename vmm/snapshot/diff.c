/*
 * A snapshot against an older one; see diff.h.
 *
 * Which pages can differ: RAM of the parent is a private mapping of files, and a page that the
 * guest, or we, have written to is anonymous since then: pagemap shows it as present or swapped,
 * and not as a file's. The other way round it is wrong at times (a huge page of a file looks
 * anonymous before Linux 6.11, and small runs were copied), so such a page is compared. What is
 * equal stays the parent's. In a jail there is no pagemap: all pages are compared.
 *
 * The process that writes is a fork, and pagemap is that of the process that it comes from, whose
 * guest runs on. A page that was anonymous at the fork is so for good, since nobody gives back RAM.
 * So later writes can make more pages look different, and none equal.
 */
#include "vmm/snapshot/diff.h"

#include <errno.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"
#include "vmm/core/mem.h"
#include "vmm/core/state.h"
#include "vmm/snapshot/chain.h"

#define STATE_END STATE_TAG('E', 'N', 'D', ' ')

struct diff_identity diff_identify(const struct state_in *in)
{
	struct diff_identity id = { .sum = 1 };
	struct state_in at = *in;
	struct state_raw raw;

	while (state_next(&at, &raw)) {
		if (raw.tag == MEMORY_TAG || raw.tag == DIFF_TAG || raw.tag == STATE_END)
			continue;
		id.len += raw.len;
		id.sum = state_sum(id.sum, raw.data, STATE_HEADER_LEN); /* which has the sum of the payload */
	}
	return id;
}

static uint64_t run_end(const struct memory_run *r)
{
	return r->offset + r->len;
}

/* Joins runs with at most gap bytes between them. Returns how many there are then. */
static unsigned join(struct memory_run *run, unsigned num, uint64_t gap)
{
	unsigned last = 0;

	for (unsigned i = 1; i < num; i++) {
		if (run[i].offset - run_end(&run[last]) <= gap)
			run[last].len = run_end(&run[i]) - run[last].offset;
		else
			run[++last] = run[i];
	}
	return last + 1;
}

/* Behind all others. If there are too many, the pages of the smallest gaps are written, too. */
static void add_page(struct diff *d, uint64_t offset, uint64_t *gap)
{
	struct memory_run *last = d->num_runs ? &d->run[d->num_runs - 1] : NULL;

	if (last && offset - run_end(last) <= *gap) {
		last->len = offset + MF_PAGE_SIZE - last->offset;
		return;
	}
	while (d->num_runs == DIFF_RUNS_MAX) {
		*gap = *gap ? *gap * 2 : MF_PAGE_SIZE;
		d->num_runs = join(d->run, d->num_runs, *gap);
	}
	d->run[d->num_runs++] = (struct memory_run){ offset, MF_PAGE_SIZE };
}

/* Returns 1, 0 or -errno. A copy has been written to, unless it came with a huge page: then it is of zeros. */
static int differs(const uint64_t *now, uint64_t offset, const struct chain *parent, bool copy)
{
	uint64_t page[MF_PAGE_SIZE / sizeof(uint64_t)];
	int r;

	if (copy && !memory_is_zero(now))
		return 1;
	r = chain_read(parent, offset, page);
	return r < 0 ? r : memcmp(now, page, sizeof(page)) != 0;
}

int diff_find(const struct mem *m, int pagemap_fd, const struct chain *parent, bool copies, struct diff *d)
{
	uint64_t entries[MEMORY_PIECE_PAGES], gap = 0;
	const uint8_t *ram = m->region[0].host;

	d->num_runs = 0;
	for (uint64_t offset = 0; offset < m->size; offset += MEMORY_PIECE_SIZE) {
		uint64_t len = MF_MIN(MEMORY_PIECE_SIZE, m->size - offset);
		const uint64_t *entry = memory_read_pagemap(m, pagemap_fd, offset, len, entries);

		for (uint64_t at = offset; at < offset + len; at += MF_PAGE_SIZE) {
			int r;

			if (!memory_may_differ(m, at, entry ? &entry[(at - offset) / MF_PAGE_SIZE] : NULL))
				continue;
			r = differs((const uint64_t *)(const void *)(ram + at), at, parent, copies && entry);
			if (r < 0)
				return r;
			if (r)
				add_page(d, at, &gap);
		}
	}
	return 0;
}

/* What a complete memory has: the parent's runs and ours, in their order. */
static void unite_runs(struct memory_map *map, const struct chain *parent, const struct diff *d)
{
	const struct memory_map *old = &parent->layer[0].map;
	unsigned i = 0, j = 0;

	while (i < old->num_runs || j < d->num_runs) {
		bool ours = i == old->num_runs || (j < d->num_runs && d->run[j].offset < old->run[i].offset);
		const struct memory_run *next = ours ? &d->run[j++] : &old->run[i++];

		memory_add_run(map, next->offset, next->len);
	}
}

int diff_write(const struct mem *m, int pagemap_fd, const struct chain *parent, int fd, struct memory_map *map,
	       struct diff *ret)
{
	const uint8_t *ram = m->region[0].host;
	int r = diff_find(m, pagemap_fd, parent, false, ret);

	*map = (struct memory_map){ .size = m->size };
	for (unsigned i = 0; i < ret->num_runs && !r; i++) {
		const struct memory_run *run = &ret->run[i];

		for (uint64_t at = run->offset; at < run_end(run); at += MF_PAGE_SIZE) {
			map->sum = memory_sum_page(map->sum, at, (const uint64_t *)(const void *)(ram + at));
			map->pages++;
		}
		r = fdio_pwrite_all(fd, ram + run->offset, run->len, run->offset);
	}
	unite_runs(map, parent, ret);
	return r;
}

void diff_put(const struct diff *d, struct state_out *out)
{
	size_t len = strlen(d->path);

	state_begin(out, DIFF_TAG, 0, DIFF_VERSION);
	state_put_u64(out, d->parent.len);
	state_put_u64(out, d->parent.sum);
	state_put_u32(out, (uint32_t)len);
	state_put_bytes(out, d->path, len);
	state_put_u32(out, d->num_runs);
	for (unsigned i = 0; i < d->num_runs; i++) {
		state_put_u32(out, (uint32_t)(d->run[i].offset / MF_PAGE_SIZE));
		state_put_u32(out, (uint32_t)(d->run[i].len / MF_PAGE_SIZE));
	}
	state_end(out);
}

static void get_path(struct diff *ret, struct state_in *in)
{
	uint32_t len = state_get_u32(in);

	if (len >= sizeof(ret->path)) {
		state_refuse(in, "length of the parent's path");
		return;
	}
	state_get_bytes(in, ret->path, len);
	ret->path[len] = '\0';
	if (ret->path[0] != '/' || strlen(ret->path) != len)
		state_refuse(in, "the parent's path");
}

int diff_get(struct diff *ret, const struct memory_map *map, struct state_in *in, struct err *e)
{
	uint64_t end = 0, pages = 0;

	if (state_open(in, DIFF_TAG, 0, DIFF_VERSION, e) < 0)
		return e->code;
	ret->parent.len = state_get_u64(in);
	ret->parent.sum = state_get_u64(in);
	get_path(ret, in);
	ret->num_runs = state_get_u32(in);
	if (ret->num_runs > DIFF_RUNS_MAX) {
		state_refuse(in, "number of runs");
		ret->num_runs = 0;
	}
	for (unsigned i = 0; i < ret->num_runs; i++) {
		struct memory_run run;

		run.offset = (uint64_t)state_get_u32(in) * MF_PAGE_SIZE;
		run.len = (uint64_t)state_get_u32(in) * MF_PAGE_SIZE;
		if (run.offset < end || !run.len || !mf_range_within(run.offset, run.len, map->size))
			state_refuse(in, "a run of memory");
		end = run.offset + run.len;
		pages += run.len / MF_PAGE_SIZE;
		ret->run[i] = run;
	}
	if (pages != map->pages)
		state_refuse(in, "number of pages");
	return state_close(in, e);
}
