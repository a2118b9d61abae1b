/* `mayfly snap merge`: one complete snapshot of a chain. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/cmd/snap.h"
#include "vmm/snapshot/chain.h"
#include "vmm/snapshot/copy.h"
#include "vmm/snapshot/dir.h"

/* Closes to. */
static int copy_and_sync(int from_dir, const char *name, int to, struct err *e)
{
	MF_CLOSE int from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	int r;

	if (to < 0)
		return to;
	if (from < 0 || fstat(from, &st) < 0)
		r = err_sys(e, "open it");
	else if (!S_ISREG(st.st_mode))
		r = err_set(e, -EINVAL, "it is not a regular file");
	else
		r = copy_file(from, to, e) < 0 ? e->code : snapshot_dir_sync(to, name, e);
	close(to);
	return r;
}

static int copy_config(int from, const struct snapshot_dir *d, struct err *e)
{
	if (copy_and_sync(from, SNAPSHOT_CONFIG, snapshot_dir_create(d, SNAPSHOT_CONFIG, 0, e), e) < 0)
		return err_wrap(e, "'%s'", SNAPSHOT_CONFIG);
	return 0;
}

static int copy_disks(int from, struct snapshot_dir *d, struct err *e)
{
	MF_CLOSE int fd = openat(from, SNAPSHOT_DISKS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	const struct dirent *entry;
	DIR *list;
	int r;

	if (fd < 0)
		return errno == ENOENT ? 0 : err_sys(e, "open '%s'", SNAPSHOT_DISKS);
	r = snapshot_dir_make_disks(d, e);
	list = r < 0 ? NULL : fdopendir(fd);
	if (!list)
		return r < 0 ? r : err_sys(e, "list '%s'", SNAPSHOT_DISKS);
	while (!r && (entry = readdir(list))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		r = copy_and_sync(fd, entry->d_name, snapshot_dir_create_disk(d, entry->d_name, e), e);
		if (r < 0)
			r = err_wrap(e, SNAPSHOT_DISKS "/%s", entry->d_name);
	}
	fd = -1; /* closedir closes it */
	closedir(list);
	return r;
}

static int write_merged(const struct chain *c, struct snapshot_dir *d, struct err *e)
{
	MF_CLOSE int from = open(c->layer[0].dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	MF_CLOSE int state = -1;
	MF_CLOSE int memory = -1;

	if (from < 0)
		return err_sys(e, "open it");
	state = snapshot_dir_create(d, SNAPSHOT_STATE, 0, e);
	memory = state < 0 ? state : snapshot_dir_create(d, SNAPSHOT_MEMORY, c->layer[0].map.size, e);
	if (memory < 0 || copy_config(from, d, e) < 0 || copy_disks(from, d, e) < 0 ||
	    chain_merge(c, memory, state, e) < 0 || snapshot_dir_sync(memory, SNAPSHOT_MEMORY, e) < 0 ||
	    snapshot_dir_sync(state, SNAPSHOT_STATE, e) < 0)
		return e->code;
	return snapshot_dir_commit(d, e);
}

int snap_merge(const char *dir, const char *to, struct err *e)
{
	struct snapshot_dir d = SNAPSHOT_DIR_INIT;
	struct chain *c = NULL;
	int r = chain_open_dir(&c, dir, NULL, e);

	if (!r)
		r = chain_check(c, e);
	if (!r && to)
		r = snap_refuse_needed(to, e);
	if (!r)
		r = snapshot_dir_begin(&d, to ? to : dir, e);
	if (!r)
		r = write_merged(c, &d, e);
	snapshot_dir_done(&d);
	chain_free(c);
	return r;
}
