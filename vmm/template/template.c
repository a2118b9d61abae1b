/* `mayfly run` from a template; see template.h. */
#include "vmm/template/template.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/snapshot/chain.h"
#include "vmm/snapshot/dir.h"
#include "vmm/template/maker.h"
#include "vmm/template/recorder.h"
#include "vmm/vm/net_build.h"
#include "vmm/vm/vm_state.h"

#define FAILS_S 3600 /* until a guest that could not become a template is tried again */

static bool is_private(const struct stat *st)
{
	return st->st_uid == geteuid() && !(st->st_mode & 077);
}

/* A file of the template. Returns its descriptor, or -1. */
static int open_part(int dir, const char *name, struct stat *ret_st)
{
	MF_CLOSE int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, ret_st) < 0 || !S_ISREG(ret_st->st_mode) || !is_private(ret_st))
		return -1;
	return mf_take_fd(&fd);
}

/* Whether the file has len bytes of text, and whether nothing follows. */
static bool begins_with(int fd, const char *text, size_t len, bool *ret_ends)
{
	MF_FREE char *own = malloc(len + 1);
	ssize_t n = own ? fdio_pread(fd, own, len + 1, 0) : -1;

	*ret_ends = n == (ssize_t)len;
	return n >= (ssize_t)len && !memcmp(own, text, len);
}

static enum template_found look_into(int dir, const struct shape *s, ino_t ret_inode[2])
{
	MF_CLOSE int shape = -1;
	MF_CLOSE int state = -1;
	MF_CLOSE int memory = -1;
	MF_FREE char *text = NULL;
	struct stat st, state_st, memory_st;
	bool ends = false;
	size_t len = 0;

	shape = open_part(dir, SNAPSHOT_SHAPE, &st);
	if (shape < 0 || !begins_with(shape, s->text, s->len, &ends))
		return TEMPLATE_STALE;
	if (ends)
		return st.st_mtim.tv_sec + FAILS_S > time(NULL) ? TEMPLATE_FAILS : TEMPLATE_STALE;
	state = open_part(dir, SNAPSHOT_STATE, &state_st);
	memory = open_part(dir, SNAPSHOT_MEMORY, &memory_st);
	if (state < 0 || memory < 0)
		return TEMPLATE_STALE;
	text = shape_file_text(s, &state_st, &memory_st, &len);
	if (!text || !begins_with(shape, text, len, &ends) || !ends)
		return TEMPLATE_STALE;
	if (ret_inode) {
		ret_inode[0] = state_st.st_ino;
		ret_inode[1] = memory_st.st_ino;
		(void)futimens(dir, NULL); /* it was used now; otherwise it goes earlier */
	}
	return TEMPLATE_COMPLETE;
}

enum template_found template_look(const struct image_cache *cache, const struct shape *s, ino_t ret_inode[2])
{
	MF_CLOSE int dir = openat(cache->fd, s->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (dir < 0)
		return errno == ENOENT ? TEMPLATE_MISSING : TEMPLATE_FOREIGN;
	if (fstat(dir, &st) < 0 || !is_private(&st))
		return TEMPLATE_FOREIGN;
	return look_into(dir, s, ret_inode);
}

static int out_of_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

static void forget(struct config *c)
{
	chain_free(c->restore_chain);
	free(c->restore_state);
	free(c->restore_memory);
	c->restore_state = c->restore_memory = NULL;
	c->restore_chain = NULL;
	c->template.used = false;
}

/* Opens the files by their names, and compares them with those that were looked at. */
static int open_files(struct config *c, const struct image_cache *cache, const struct shape *s, const ino_t inode[2],
		      struct err *e)
{
	struct stat st;

	if (asprintf(&c->restore_state, "%s/%s/" SNAPSHOT_STATE, cache->path, s->name) < 0) {
		c->restore_state = NULL;
		return out_of_memory(e);
	}
	if (asprintf(&c->restore_memory, "%s/%s/" SNAPSHOT_MEMORY, cache->path, s->name) < 0) {
		c->restore_memory = NULL;
		return out_of_memory(e);
	}
	if (vm_restore_check(c, e) < 0)
		return e->code;
	if (c->restore_chain->layer[0].inode != inode[0] || fstat(c->restore_chain->layer[0].fd, &st) < 0 ||
	    st.st_ino != inode[1])
		return err_set(e, -ESTALE, "the template was replaced just now");
	return 0;
}

static void record(struct config *c, const struct image_cache *cache, const struct shape *s)
{
	MF_FREE char *dir = NULL;

	if (asprintf(&dir, "%s/%s", cache->path, s->name) >= 0)
		recorder_begin(c, dir);
	else
		dir = NULL; /* asprintf leaves it undefined */
}

/* Makes c a VM from that template. */
static int use(struct config *c, const struct image_cache *cache, const struct shape *s, const ino_t inode[2],
	       struct err *e)
{
	c->template.used = true;
	if (open_files(c, cache, s, inode, e) < 0) {
		forget(c);
		return e->code;
	}
	for (unsigned i = 0; i < c->num_nets; i++) {
		if (!c->net[i].has_mac)
			net_build_mac(c->net[i].mac, &c->net[i]);
		c->net[i].has_mac = true;
	}
	/* In a jail the VM is another process than this one. */
	if (!c->restore_workingset && !c->jail.on && !c->dry_run)
		record(c, cache, s);
	return 0;
}

static int find(struct config *c, struct err *e)
{
	struct image_cache cache = { .fd = -1 };
	struct shape s = { 0 };
	enum template_found found;
	ino_t inode[2];
	int r = -ENOENT;

	if (shape_of(&s, c, e) < 0 || image_cache_find(&cache, e) < 0) {
		shape_done(&s);
		return e->code;
	}
	found = template_look(&cache, &s, inode);
	switch (found) {
	case TEMPLATE_COMPLETE:
		r = use(c, &cache, &s, inode, e);
		if (r < 0)
			(void)image_cache_remove(&cache, s.name); /* the next run tries again */
		break;
	case TEMPLATE_FOREIGN:
		r = err_set(e, -EPERM, "'%s/%s' is not a directory of this user alone", cache.path, s.name);
		break;
	case TEMPLATE_FAILS:
		r = err_set(e, -ENOTSUP, "a guest of this shape does not get to where it could be saved");
		break;
	case TEMPLATE_STALE:
		(void)image_cache_remove(&cache, s.name); /* its maker does, if this is not possible */
		__attribute__((fallthrough));
	case TEMPLATE_MISSING:
		r = err_set(e, -ENOENT, "the cache has none for this shape of VM: a run with --boot=auto leaves one");
		/* A VM in the background is in its jail's control group by now, and so would be the maker. */
		if (c->boot == CONFIG_BOOT_AUTO && !(c->detach && c->jail.on))
			maker_begin(c, &s);
		break;
	}
	image_cache_close(&cache);
	shape_done(&s);
	return r;
}

int template_begin(struct config *c, struct err *e)
{
	const char *unfit;
	int r;

	if (c->boot == CONFIG_BOOT_COLD)
		return 0;
	unfit = c->forkable ? "with --forkable it has memory of its own" : shape_unfit(c);
	r = unfit ? err_set(e, -ENOTSUP, "%s", unfit) : find(c, e);
	if (r == 0)
		return 0;
	if (c->boot == CONFIG_BOOT_TEMPLATE)
		return err_wrap(e, "no template");
	c->template.cold = strdup(e->text);
	return 0;
}
