/*
 * The working set of a snapshot; see workingset.h.
 *
 * It is collected from outside: the pagemap of a VM that was restored says which pages of
 * the mapped `memory` are present, and which of them are the VM's own by now. The kernel maps
 * 16 pages around a fault, so those that were read are a few too many.
 *
 * A page that a guest reads and then writes costs two faults of KVM, an invalidation and a
 * copy: 12,000 instructions. Copied before KVM knows the memory, it costs 8,000.
 */
#include "vmm/snapshot/workingset.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"
#include "vmm/core/mem.h"
#include "vmm/snapshot/chain.h"
#include "vmm/snapshot/dir.h"

#define NEAR (64 * KIB) /* what is read ahead in one piece */
#define SAMPLES 16U	/* pages that are looked for in the page cache */
#define PIECE_PAGES 512U
#define PAGEMAP_OWN (1ULL << 63 | 1ULL << 62) /* present, or swapped */
#define PAGEMAP_FILE (1ULL << 61)
#define RUN_LEN 16 /* in the file */
#define FILE_MAX (4 * KIB + 2 * WORKINGSET_RUNS_MAX * (uint64_t)RUN_LEN)

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

/* Behind those that are there. What does not fit in is left out. */
static void add(struct workingset_runs *r, uint64_t offset, uint64_t near)
{
	struct memory_run *last = r->num ? &r->run[r->num - 1] : NULL;

	if (last && offset <= last->offset + last->len + near)
		last->len = offset + MF_PAGE_SIZE - last->offset;
	else if (r->num < WORKINGSET_RUNS_MAX)
		r->run[r->num++] = (struct memory_run){ offset, MF_PAGE_SIZE };
}

/* Of a mapping of `memory`: addresses from start to end, and the offset of the first. */
static int collect_mapping(struct workingset *w, int pagemap_fd, uint64_t start, uint64_t end, uint64_t offset)
{
	uint64_t entry[PIECE_PAGES];

	for (uint64_t at = start; at < end; at += PIECE_PAGES * MF_PAGE_SIZE) {
		unsigned num = (unsigned)(MF_MIN(end - at, PIECE_PAGES * (uint64_t)MF_PAGE_SIZE) / MF_PAGE_SIZE);
		int r = fdio_pread_all(pagemap_fd, entry, num * sizeof(entry[0]), at / MF_PAGE_SIZE * sizeof(entry[0]));

		if (r < 0)
			return r;
		for (unsigned i = 0; i < num; i++) {
			uint64_t page = offset + (at - start) + i * (uint64_t)MF_PAGE_SIZE;

			if (!(entry[i] & PAGEMAP_OWN))
				continue;
			add(&w->read, page, NEAR);
			if (!(entry[i] & PAGEMAP_FILE))
				add(&w->written, page, 0);
		}
	}
	return 0;
}

static bool is_of_chain(const struct chain *c, uint64_t inode)
{
	struct stat st;

	for (unsigned i = 0; i < c->num; i++)
		if (fstat(c->layer[i].fd, &st) == 0 && st.st_ino == inode)
			return true;
	return false;
}

/* Each mapping of a file of the chain, which is at its own offset in RAM; they ascend. */
static int collect(struct workingset *w, FILE *maps, int pagemap_fd, const struct chain *c, struct err *e)
{
	MF_FREE char *line = NULL;
	size_t room = 0;

	while (getline(&line, &room, maps) > 0) {
		uint64_t start, end, offset, inode;
		int r;

		/* "START-END rw-p OFFSET MAJOR:MINOR INODE PATH"; the device is not stable on btrfs and overlayfs. */
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " rw-p %" SCNx64 " %*x:%*x %" SCNu64, &start, &end, &offset,
			   &inode) != 4 ||
		    !inode || !is_of_chain(c, inode))
			continue;
		r = collect_mapping(w, pagemap_fd, start, end, offset);
		if (r < 0)
			return err_neg(e, r, "read its pagemap");
	}
	return w->read.num ? 0 : err_set(e, -ENODATA, "no page of the snapshot is in its memory");
}

int workingset_collect(struct workingset **ret, pid_t pid, const struct chain *c, struct err *e)
{
	MF_FREE struct workingset *w = calloc(1, sizeof(*w));
	MF_CLOSE int pagemap_fd = -1;
	char path[48];
	FILE *maps;
	int r;

	if (!w)
		return err_set(e, -ENOMEM, "out of memory");
	w->size = c->layer[0].map.size;
	w->sum = c->layer[0].map.sum;
	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	pagemap_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (pagemap_fd < 0)
		return err_sys(e, "open '%s'", path);
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "re");
	if (!maps)
		return err_sys(e, "open '%s'", path);
	r = collect(w, maps, pagemap_fd, c, e);
	(void)fclose(maps); /* it was only read */
	if (r == 0)
		*ret = mf_take_ptr(&w);
	return r;
}

static void put_runs(struct state_out *out, const struct workingset_runs *r)
{
	for (unsigned i = 0; i < r->num; i++) {
		state_put_u64(out, r->run[i].offset);
		state_put_u64(out, r->run[i].len);
	}
}

static void get_runs(struct state_in *in, struct workingset_runs *r, uint64_t size)
{
	uint64_t end = 0;

	for (unsigned i = 0; i < r->num; i++) {
		struct memory_run run;

		run.offset = state_get_u64(in);
		run.len = state_get_u64(in);
		if (run.offset < end || (run.offset | run.len) % MF_PAGE_SIZE || !run.len ||
		    !mf_range_within(run.offset, run.len, size))
			state_refuse(in, "a run of memory");
		end = run.offset + run.len;
		r->run[i] = run;
	}
}

int workingset_write(const struct workingset *w, const char *dir, struct err *e)
{
	MF_FREE uint8_t *data = malloc(FILE_MAX);
	MF_CLOSE int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -1;
	struct state_out out;
	int64_t len;
	int r;

	if (!data)
		return err_set(e, -ENOMEM, "out of memory");
	if (dir_fd < 0)
		return err_sys(e, "open '%s'", dir);
	state_out_init(&out, data, FILE_MAX);
	state_begin(&out, WORKINGSET_TAG, 0, WORKINGSET_VERSION);
	state_put_u64(&out, w->size);
	state_put_u64(&out, w->sum);
	state_put_u32(&out, w->read.num);
	state_put_u32(&out, w->written.num);
	put_runs(&out, &w->read);
	put_runs(&out, &w->written);
	state_end(&out);
	len = state_out_finish(&out);
	if (len < 0)
		return err_neg(e, (int)len, "make '" SNAPSHOT_WORKINGSET "'");
	(void)unlinkat(dir_fd, SNAPSHOT_WORKINGSET_NEW, 0); /* of a process that was killed */
	fd = openat(dir_fd, SNAPSHOT_WORKINGSET_NEW, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
	if (fd < 0)
		return err_sys(e, "make '%s/%s'", dir, SNAPSHOT_WORKINGSET_NEW);
	r = fdio_write_all(fd, data, (size_t)len);
	if (r == 0 && (fsync(fd) < 0 || renameat(dir_fd, SNAPSHOT_WORKINGSET_NEW, dir_fd, SNAPSHOT_WORKINGSET) < 0 ||
		       fsync(dir_fd) < 0))
		r = -errno;
	if (r < 0)
		(void)unlinkat(dir_fd, SNAPSHOT_WORKINGSET_NEW, 0); /* it may have its name already */
	return r < 0 ? err_neg(e, r, "write '%s/" SNAPSHOT_WORKINGSET "'", dir) : 0;
}

static int parse(struct workingset *w, const uint8_t *data, uint64_t len, struct err *e)
{
	struct state_in in;

	if (state_in_init(&in, data, len, e) < 0 || state_open(&in, WORKINGSET_TAG, 0, WORKINGSET_VERSION, e) < 0)
		return e->code;
	w->size = state_get_u64(&in);
	w->sum = state_get_u64(&in);
	w->read.num = state_get_u32(&in);
	w->written.num = state_get_u32(&in);
	if (w->read.num > WORKINGSET_RUNS_MAX || w->written.num > WORKINGSET_RUNS_MAX) {
		state_refuse(&in, "number of runs");
		return state_close(&in, e);
	}
	get_runs(&in, &w->read, w->size);
	get_runs(&in, &w->written, w->size);
	return state_close(&in, e) < 0 ? e->code : state_in_finish(&in, e);
}

int workingset_read(struct workingset **ret, const char *dir, const struct memory_map *map, struct err *e)
{
	MF_FREE struct workingset *w = NULL;
	MF_FREE uint8_t *data = NULL;
	MF_FREE char *path = NULL;
	MF_CLOSE int fd = -1;
	uint64_t size;
	int r;

	*ret = NULL;
	if (asprintf(&path, "%s/" SNAPSHOT_WORKINGSET, dir) < 0) {
		path = NULL; /* asprintf leaves it undefined */
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (access(path, F_OK) < 0 && errno == ENOENT)
		return 0;
	fd = fdio_open_file(path, O_RDONLY, false, &size, e);
	if (fd < 0)
		return err_wrap(e, "workingset '%s'", path);
	if (size > FILE_MAX)
		return err_set(e, -EFBIG, "workingset '%s': it has %" PRIu64 " bytes, more than %" PRIu64, path, size,
			       FILE_MAX);
	w = malloc(sizeof(*w));
	data = malloc(size + 1);
	r = w && data ? fdio_pread_all(fd, data, size, 0) : -ENOMEM;
	if (r < 0)
		return err_neg(e, r, "workingset '%s'", path);
	if (parse(w, data, size, e) < 0)
		return err_wrap(e, "workingset '%s'", path);
	if (w->size == map->size && w->sum == map->sum)
		*ret = mf_take_ptr(&w);
	return 0;
}

/* Whether the page cache seems to have it all: then to ask for it is work for nothing. */
static bool is_cached(const struct workingset_runs *r, uint8_t *ram)
{
	for (unsigned i = 0; i < SAMPLES; i++) {
		const struct memory_run *run = &r->run[(uint64_t)i * r->num / SAMPLES];
		unsigned char there;

		/* To one who may not write the file, the kernel says that it is. */
		if (mincore(ram + run->offset, MF_PAGE_SIZE, &there) < 0 || !(there & 1))
			return false;
	}
	return true;
}

void workingset_use(const struct workingset *w, const struct mem *m, bool copy)
{
	uint8_t *ram = m->region[0].host;
	uint64_t left = WORKINGSET_COPY_MAX;
	unsigned ahead;

	if (m->size != w->size)
		return;
	/* Hints: without them the guest runs as well. */
	ahead = w->read.num && !is_cached(&w->read, ram) ? w->read.num : 0;
	for (unsigned i = 0; i < ahead; i++)
		(void)madvise(ram + w->read.run[i].offset, w->read.run[i].len, MADV_WILLNEED);
	for (unsigned i = 0; copy && i < w->written.num && w->written.run[i].len <= left; i++) {
		if (madvise(ram + w->written.run[i].offset, w->written.run[i].len, MADV_POPULATE_WRITE) < 0)
			break; /* an older kernel, or no memory */
		left -= w->written.run[i].len;
	}
}
