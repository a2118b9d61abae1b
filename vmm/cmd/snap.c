/* `mayfly snap`: what snapshots have, whether they are as they were written, and their removal. */
#include "vmm/cmd/snap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/fdio.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/cli/cli.h"
#include "vmm/core/state.h"
#include "vmm/snapshot/dir.h"
#include "vmm/snapshot/memory.h"
#include "vmm/vm/vm_state.h"

#define SNAP_DIRS_MAX 256

enum snap_verb { SNAP_CHECK, SNAP_INFO, SNAP_RM, SNAP_LS };

static const char *const verbs[] = { "check", "info", "rm", "ls" };

struct snap_options {
	enum snap_verb verb;
	bool has_verb;
	const char *dir[SNAP_DIRS_MAX];
	unsigned num;
};

static int add_operand(void *target, const char *text, struct err *e)
{
	struct snap_options *o = target;

	for (unsigned i = 0; !o->has_verb && i < MF_ARRAY_SIZE(verbs); i++) {
		if (strcmp(text, verbs[i]) != 0)
			continue;
		o->verb = i;
		o->has_verb = true;
		return 0;
	}
	if (!o->has_verb)
		return err_set(e, -EINVAL, "must be check, info, ls or rm");
	if (o->num == SNAP_DIRS_MAX)
		return err_set(e, -EINVAL, "there can be at most %d", SNAP_DIRS_MAX);
	o->dir[o->num++] = text;
	return 0;
}

static const struct cli_option snap_options[] = {
	{ 'h', "help", NULL, "this text", .set = NULL },
	{ 0 },
};

const struct cli_usage snap_usage = {
	.command = "snap",
	.synopsis = "check|info|rm DIR..., or ls [DIR...]",
	.about = "check: reads all of a snapshot's state and memory, and compares the checksums.\n"
		 "info: prints what it has. ls: the same of all snapshots in DIR; default: the\n"
		 "working directory. rm: removes it; VMs that were started from it go on.\n\n",
	.options = snap_options,
	.operand = add_operand,
	.operands = "check info ls rm",
};

/* Opens a file of the snapshot. Returns the descriptor, or -errno with e set. */
static int open_file(const char *dir, const char *name, uint64_t *ret_size, struct err *e)
{
	MF_FREE char *path = NULL;

	if (asprintf(&path, "%s/%s", dir, name) < 0) {
		path = NULL;
		return err_set(e, -ENOMEM, "out of memory");
	}
	return fdio_open_file(path, O_RDONLY, false, ret_size, e);
}

/* The state, which the caller frees. Returns 0 or -errno with e set. */
static int read_state(const char *dir, uint8_t **ret, struct state_in *in, struct err *e)
{
	MF_CLOSE int fd = -1;
	MF_FREE uint8_t *data = NULL;
	uint64_t size;
	int r;

	fd = open_file(dir, SNAPSHOT_STATE, &size, e);
	if (fd < 0)
		return fd;
	if (size > STATE_MAX)
		return err_set(e, -EFBIG, "it has %" PRIu64 " bytes, more than %u", size, STATE_MAX);
	data = malloc(size + 1);
	r = data ? fdio_pread_all(fd, data, size, 0) : -ENOMEM;
	if (r < 0)
		return err_neg(e, r, "read it");
	r = state_in_init(in, data, size, e);
	if (r == 0)
		*ret = mf_take_ptr(&data);
	return r;
}

static int check_memory(const char *dir, const struct memory_map *map, struct err *e)
{
	MF_CLOSE int fd = -1;
	uint64_t size;

	fd = open_file(dir, SNAPSHOT_MEMORY, &size, e);
	return fd < 0 ? fd : memory_check(map, fd, e);
}

static int snap_one(const struct snap_options *o, const char *dir, struct err *e)
{
	MF_FREE uint8_t *data = NULL;
	struct memory_map map;
	uint32_t cpus, devices;
	struct state_in in;

	if (o->verb == SNAP_RM)
		return snapshot_dir_remove(dir, e);
	if (read_state(dir, &data, &in, e) < 0 || state_open(&in, VM_TAG, 0, VM_VERSION, e) < 0)
		return err_wrap(e, "state");
	cpus = state_get_u32(&in);
	devices = state_get_u32(&in);
	if (memory_get(&map, &in, e) < 0)
		return err_wrap(e, "state");
	if (o->verb == SNAP_CHECK)
		return check_memory(dir, &map, e) < 0 ? err_wrap(e, "memory") : 0;
	printf("%s: %u vCPUs, %u devices, %" PRIu64 " MiB of memory, %" PRIu64 " KiB of it with data in %u runs\n", dir,
	       cpus, devices, map.size / (uint64_t)MIB, map.pages * MF_PAGE_SIZE / 1024, map.num_runs);
	return 0;
}

/* All snapshots in a directory, in the order of their names. What is none is passed over. */
static int snap_list(const struct snap_options *o, const char *dir, struct err *e)
{
	struct dirent **entries;
	int num = scandir(dir, &entries, NULL, alphasort), r = 0;

	if (num < 0)
		return err_sys(e, "list it");
	for (int i = 0; i < num; i++) {
		MF_FREE char *path = NULL, *state = NULL;

		if (entries[i]->d_name[0] != '.' && asprintf(&path, "%s/%s", dir, entries[i]->d_name) >= 0 &&
		    asprintf(&state, "%s/" SNAPSHOT_STATE, path) >= 0 && access(state, R_OK) == 0 &&
		    snap_one(o, path, e) < 0)
			r = err_wrap(e, "'%s'", entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
	return r;
}

int snap_command(int argc, char **argv)
{
	struct snap_options o = { 0 };
	int status = STATUS_OK;
	struct err e;
	int r = cli_parse(&snap_usage, &o, argc, argv, &e);

	if (r > 0)
		return STATUS_OK;
	if (r == 0 && o.verb == SNAP_LS && !o.num)
		o.dir[o.num++] = ".";
	if (r == 0 && !o.num)
		r = err_set(&e, -EINVAL, "which snapshot? mayfly snap check DIR");
	if (r < 0)
		return report_err(&e);
	for (unsigned i = 0; i < o.num; i++) {
		if ((o.verb == SNAP_LS ? snap_list : snap_one)(&o, o.dir[i], &e) == 0)
			continue;
		err_wrap(&e, o.verb == SNAP_LS ? "directory '%s'" : "snapshot '%s'", o.dir[i]);
		status = report_err(&e);
	}
	return cli_check_stdout(&e) < 0 ? report_err(&e) : status;
}
