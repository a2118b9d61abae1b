/* A snapshot with those that it was saved against; see chain.h. */
#include "vmm/snapshot/chain.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
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
#include "vmm/snapshot/chain_parts.h"
#include "vmm/snapshot/dir.h"

/* Where a layer is looked for. */
struct place {
	const char *state, *memory;
	int flags; /* of open(2) */
};

static int make_path(char **ret, const char *dir, const char *name, struct err *e)
{
	*ret = NULL;
	if (asprintf(ret, "%s/%s", dir, name) < 0) {
		*ret = NULL; /* asprintf leaves it undefined */
		return err_set(e, -ENOMEM, "out of memory");
	}
	return 0;
}

/* The directory that a file is in, absolute. */
static int find_dir(char **ret, const char *path, struct err *e)
{
	MF_FREE char *copy = strdup(path);

	if (!copy)
		return err_set(e, -ENOMEM, "out of memory");
	*ret = realpath(dirname(copy), NULL);
	return *ret ? 0 : err_sys(e, "find the directory of '%s'", path);
}

/* Its state has a number of eight bytes near the beginning, the lowest two of which are a version in older ones. */
static bool is_firecrackers(const uint8_t *data, size_t size)
{
	static const uint8_t x86[] = { 0x64, 0x86, 0x84, 0x19, 0x10, 0x07 };

	return memmem(data, MF_MIN(size, 16U), x86, sizeof(x86));
}

int chain_read_state(struct chain_layer *l, const char *path, int flags, uint8_t **ret, struct state_in *in,
		     struct err *e)
{
	MF_CLOSE int fd = -1;
	MF_FREE uint8_t *data = NULL;
	struct stat st;
	uint64_t size;
	int r;

	fd = fdio_open_file(path, flags, false, &size, e);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return err_sys(e, "look at it");
	if (size > STATE_MAX)
		return err_set(e, -EFBIG, "it has %" PRIu64 " bytes, more than %u", size, STATE_MAX);
	data = malloc(size + 1);
	r = data ? fdio_pread_all(fd, data, size, 0) : -ENOMEM;
	if (r < 0)
		return err_neg(e, r, "read it");
	if (is_firecrackers(data, size))
		return err_set(e, -ENOTSUP, "it is a snapshot of Firecracker, which mayfly does not read");
	r = state_in_init(in, data, size, e);
	if (r < 0)
		return r;
	l->dev = st.st_dev;
	l->inode = st.st_ino;
	l->identity = diff_identify(in);
	*ret = mf_take_ptr(&data);
	return find_dir(&l->dir, path, e);
}

bool chain_seek(struct state_in *in, uint32_t tag)
{
	struct state_raw raw;

	for (struct state_in at = *in; state_next(&at, &raw); *in = at)
		if (raw.tag == tag)
			return true;
	return false;
}

int chain_copy_runs(struct chain_layer *l, const struct memory_run *run, unsigned num, struct err *e)
{
	l->run = malloc((num + 1) * sizeof(*run));
	if (!l->run)
		return err_set(e, -ENOMEM, "out of memory");
	memcpy(l->run, run, num * sizeof(*run));
	l->num_runs = num;
	return 0;
}

/*
 * What state says of its memory. ret: which parent it has; with an empty path, none. merged: its
 * memory is complete. The section of that is taken from ret_in.
 */
static int read_map(struct chain_layer *l, struct state_in *ret_in, bool merged, struct diff *ret, struct err *e)
{
	struct state_in in = *ret_in;
	int r;

	ret->path[0] = '\0';
	if (!chain_seek(&in, MEMORY_TAG))
		return err_set(e, -EINVAL, "it has no section of memory");
	if (memory_get(&l->map, &in, e) < 0)
		return e->code;
	if (!chain_seek(&in, DIFF_TAG))
		return chain_copy_runs(l, l->map.run, l->map.num_runs, e);
	ret_in->end = in.at;
	if (diff_get(ret, &l->map, &in, e) < 0)
		return e->code;
	if (in.at != in.end)
		return err_set(e, -EINVAL, "sections follow the last one");
	r = merged ? chain_copy_runs(l, l->map.run, l->map.num_runs, e) :
		     chain_copy_runs(l, ret->run, ret->num_runs, e);
	if (merged)
		ret->path[0] = '\0';
	return r;
}

static int open_memory(struct chain_layer *l, const struct place *p, struct err *e)
{
	uint64_t size;

	if (!p->memory)
		return 0;
	l->fd = fdio_open_file(p->memory, p->flags, false, &size, e);
	return l->fd < 0 ? l->fd : memory_check_file(&l->map, l->fd, e);
}

void chain_close_layer(struct chain_layer *l)
{
	if (l->fd >= 0)
		close(l->fd);
	free(l->state);
	free(l->memory);
	free(l->dir);
	free(l->run);
	*l = (struct chain_layer){ .fd = -1 };
}

/* Opens the next one. ret_data: its state, which in reads. diff: as read_map has it. */
static int open_layer(struct chain *c, const struct place *p, bool merged, uint8_t **ret_data, struct state_in *in,
		      struct diff *diff, struct err *e)
{
	struct chain_layer *l = &c->layer[c->num++];

	l->state = strdup(p->state);
	l->memory = strdup(p->memory ? p->memory : "");
	if (!l->state || !l->memory)
		return err_set(e, -ENOMEM, "out of memory");
	if (chain_read_state(l, p->state, p->flags, ret_data, in, e) < 0 || read_map(l, in, merged, diff, e) < 0)
		return err_wrap(e, "state '%s'", p->state);
	for (struct chain_layer *other = c->layer; other < l; other++)
		if (other->dev == l->dev && other->inode == l->inode)
			return err_set(e, -ELOOP, "state '%s': it is a parent of itself", p->state);
	if (open_memory(l, p, e) < 0)
		return err_wrap(e, "memory '%s'", p->memory);
	if (l->map.size != c->layer[0].map.size)
		return err_set(e, -EINVAL, "state '%s': it is of %" PRIu64 " bytes of memory, and '%s' of %" PRIu64,
			       p->state, l->map.size, c->layer[0].state, c->layer[0].map.size);
	return 0;
}

/* Opens the parent of the last one in dir, and replaces diff by what that says. */
static int open_parent(struct chain *c, const char *dir, struct diff *diff, struct err *e)
{
	const struct chain_layer *child = &c->layer[c->num - 1], *l = &c->layer[c->num];
	const struct diff_identity wanted = diff->parent;
	MF_FREE char *state = NULL, *memory = NULL;
	MF_FREE uint8_t *data = NULL;
	struct state_in in;
	struct stat st;

	if (make_path(&state, dir, SNAPSHOT_STATE, e) < 0 || make_path(&memory, dir, SNAPSHOT_MEMORY, e) < 0)
		return e->code;
	if (lstat(dir, &st) < 0)
		return err_sys(e, "the parent of '%s', '%s'", child->state, dir);
	if (!S_ISDIR(st.st_mode))
		return err_set(e, -ENOTDIR, "the parent of '%s', '%s': it is no directory", child->state, dir);
	if (open_layer(c, &(struct place){ state, memory, O_RDONLY | O_NOFOLLOW }, false, &data, &in, diff, e) < 0)
		return e->code;
	if (l->identity.len != wanted.len || l->identity.sum != wanted.sum)
		return err_set(e, -ESTALE, "state '%s': it has changed, or is not what '%s' was saved against", state,
			       child->state);
	return 0;
}

/* A snapshot that has moved together with its parent: where that is then. */
static int beside(char **ret, const struct chain_layer *child, const char *path, struct err *e)
{
	MF_FREE char *dir = strdup(child->dir);
	const char *name = strrchr(path, '/') + 1;

	if (!dir)
		return err_set(e, -ENOMEM, "out of memory");
	return make_path(ret, strcmp(dirname(dir), "/") != 0 ? dir : "", name, e);
}

static int find_parent(struct chain *c, struct diff *diff, struct err *e)
{
	MF_FREE char *path = strdup(diff->path);
	MF_FREE char *near = NULL;
	const unsigned num = c->num;
	const struct diff_identity wanted = diff->parent;
	struct stat st;

	if (!path)
		return err_set(e, -ENOMEM, "out of memory");
	if (beside(&near, &c->layer[num - 1], path, e) < 0)
		return e->code;
	if (!strcmp(near, path) || lstat(near, &st) < 0)
		return open_parent(c, path, diff, e);
	if (open_parent(c, near, diff, e) == 0)
		return 0;
	if (lstat(path, &st) < 0)
		return e->code; /* the one that is there is the one to report */
	while (c->num > num)
		chain_close_layer(&c->layer[--c->num]);
	diff->parent = wanted;
	return open_parent(c, path, diff, e);
}

static int open_all(struct chain *c, const struct chain_params *p, struct diff *diff, struct err *e)
{
	const struct place first = { p->state, p->memory, O_RDONLY };
	int r = open_layer(c, &first, p->merged, &c->data, &c->in, diff, e);

	if (!r && p->parent && !diff->path[0])
		return err_set(e, -EINVAL, "state '%s': it is complete, and has no parent", p->state);
	while (!r && diff->path[0]) {
		if (c->num == CHAIN_MAX)
			return err_set(e, -E2BIG, "state '%s': it has a parent, and a chain has %d snapshots at most",
				       c->layer[c->num - 1].state, CHAIN_MAX);
		r = c->num == 1 && p->parent ? open_parent(c, p->parent, diff, e) : find_parent(c, diff, e);
	}
	return r;
}

struct chain *chain_new(void)
{
	struct chain *c = calloc(1, sizeof(*c));

	for (unsigned i = 0; c && i < CHAIN_MAX; i++)
		c->layer[i].fd = -1;
	return c;
}

int chain_open(struct chain **ret, const struct chain_params *p, struct err *e)
{
	struct chain *c = chain_new();
	MF_FREE struct diff *diff = malloc(sizeof(*diff));

	if (!c || !diff)
		err_set(e, -ENOMEM, "out of memory");
	else if (open_all(c, p, diff, e) == 0) {
		*ret = c;
		return 0;
	}
	chain_free(c);
	return e->code;
}

/* The state in dir alone. diff: as read_map has it. */
static int peek(struct chain_layer *l, const char *dir, struct diff *diff, struct err *e)
{
	MF_FREE char *path = NULL;
	MF_FREE uint8_t *data = NULL;
	struct state_in in;

	*l = (struct chain_layer){ .fd = -1 };
	if (make_path(&path, dir, SNAPSHOT_STATE, e) < 0)
		return e->code;
	if (chain_read_state(l, path, O_RDONLY | O_NOFOLLOW, &data, &in, e) < 0 || read_map(l, &in, false, diff, e) < 0)
		return err_wrap(e, "state '%s'", path);
	return 0;
}

/* Whether path is a snapshot against the one with that identity. What cannot be read is none. */
static bool is_child(const char *path, const struct diff_identity *parent, struct diff *diff)
{
	struct chain_layer l;
	struct err e;
	bool is = peek(&l, path, diff, &e) == 0 && diff->path[0] && diff->parent.len == parent->len &&
		  diff->parent.sum == parent->sum;

	chain_close_layer(&l);
	return is;
}

static int find_child(char **ret, struct chain_layer *l, struct diff *diff, struct err *e)
{
	MF_FREE char *own = strdup(l->dir);
	const char *top = own ? dirname(own) : NULL;
	const struct dirent *entry;
	DIR *list = top ? opendir(top) : NULL;
	int r = 0;

	if (!list)
		return err_sys(e, "list '%s'", top ? top : l->dir);
	while (r == 0 && (entry = readdir(list))) {
		char *path;

		if (entry->d_name[0] == '.')
			continue; /* one that is being written, or removed */
		if (make_path(&path, top, entry->d_name, e) < 0) {
			r = e->code;
		} else if (is_child(path, &l->identity, diff)) {
			*ret = path;
			r = 1;
		} else {
			free(path);
		}
	}
	closedir(list);
	return r;
}

int chain_find_child(char **ret, const char *dir, struct err *e)
{
	MF_FREE struct diff *diff = malloc(sizeof(*diff));
	struct chain_layer l;
	int r;

	if (!diff)
		return err_set(e, -ENOMEM, "out of memory");
	r = peek(&l, dir, diff, e);
	r = r < 0 ? 0 : find_child(ret, &l, diff, e); /* nothing can be restored from one that cannot be read */
	chain_close_layer(&l);
	return r;
}

int chain_open_dir(struct chain **ret, const char *dir, const char *parent, struct err *e)
{
	MF_FREE char *state = NULL, *memory = NULL;

	if (make_path(&state, dir, SNAPSHOT_STATE, e) < 0 || make_path(&memory, dir, SNAPSHOT_MEMORY, e) < 0)
		return e->code;
	return chain_open(ret, &(struct chain_params){ .state = state, .memory = memory, .parent = parent }, e);
}

void chain_free(struct chain *c)
{
	if (!c)
		return;
	for (unsigned i = 0; i < CHAIN_MAX; i++)
		chain_close_layer(&c->layer[i]);
	free(c->data);
	free(c);
}

/* The length from which on a run is mapped. */
static uint64_t mapped_from(const struct chain *c)
{
	uint64_t min = MF_PAGE_SIZE;
	unsigned num;

	do {
		num = 0;
		for (unsigned i = 0; i < c->num; i++)
			for (unsigned j = 0; j < c->layer[i].num_runs; j++)
				num += c->layer[i].run[j].len >= min;
		min *= 2;
	} while (num > MEMORY_RUNS_MAX);
	return min / 2;
}

int chain_load(const struct chain *c, struct mem *m, struct err *e)
{
	const uint64_t min = mapped_from(c);
	int r = 0;

	if (c->layer[0].map.size != m->size)
		return err_set(e, -EINVAL, "memory '%s': it has %" PRIu64 " MiB, and the VM %" PRIu64,
			       c->layer[0].memory, c->layer[0].map.size / MIB, m->size / MIB);
	if (min > MF_PAGE_SIZE)
		mem_set_huge(m, false); /* a page that is copied would take 2 MiB */
	for (unsigned i = c->num; i > 0 && !r; i--) {
		const struct chain_layer *l = &c->layer[i - 1];

		r = memory_load(m, l->run, l->num_runs, min, l->fd, e);
		if (r < 0)
			r = err_wrap(e, "memory '%s'", l->memory);
	}
	if (min > MF_PAGE_SIZE)
		mem_set_huge(m, true);
	return r;
}

/* Whether a run has the page. */
static bool has(const struct chain_layer *l, uint64_t offset)
{
	unsigned from = 0, to = l->num_runs;

	while (from < to) {
		unsigned i = from + (to - from) / 2;

		if (l->run[i].offset > offset)
			to = i;
		else if (offset - l->run[i].offset < l->run[i].len)
			return true;
		else
			from = i + 1;
	}
	return false;
}

int chain_read(const struct chain *c, uint64_t offset, void *page)
{
	for (unsigned i = 0; i < c->num; i++)
		if (has(&c->layer[i], offset))
			return fdio_pread_all(c->layer[i].fd, page, MF_PAGE_SIZE, offset);
	memset(page, 0, MF_PAGE_SIZE);
	return 0;
}

/* The last one is complete: zeros do not count there. */
static int check_diff(const struct chain_layer *l, struct err *e)
{
	uint64_t page[MF_PAGE_SIZE / sizeof(uint64_t)], sum = 0;

	for (unsigned i = 0; i < l->num_runs; i++) {
		const struct memory_run *run = &l->run[i];

		for (uint64_t at = run->offset; at < run->offset + run->len; at += MF_PAGE_SIZE) {
			int r = fdio_pread_all(l->fd, page, sizeof(page), at);

			if (r < 0)
				return err_neg(e, r, "read it");
			sum = memory_sum_page(sum, at, page);
		}
	}
	if (sum != l->map.sum)
		return err_set(e, -EBADMSG, "it has changed since it was written: its checksum differs");
	return 0;
}

bool chain_is_whole(const struct chain *c)
{
	struct stat st;

	for (unsigned i = 0; i < c->num; i++)
		if (fstatat(c->layer[i].fd, "", &st, AT_EMPTY_PATH) == 0 && (uint64_t)st.st_size < c->layer[i].map.size)
			return false;
	return true;
}

int chain_check(const struct chain *c, struct err *e)
{
	int r = 0;

	for (unsigned i = 0; i < c->num && !r; i++) {
		const struct chain_layer *l = &c->layer[i];

		r = i + 1 < c->num ? check_diff(l, e) : memory_check(&l->map, l->fd, e);
		if (r < 0)
			r = err_wrap(e, "memory '%s'", l->memory);
	}
	return r;
}
