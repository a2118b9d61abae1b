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
#include "vmm/cmd/words.h"
#include "vmm/config/config.h"
#include "vmm/core/state.h"
#include "vmm/helper/image_cache.h"
#include "vmm/snapshot/chain.h"
#include "vmm/snapshot/dir.h"
#include "vmm/snapshot/memory.h"
#include "vmm/vm/vm_state.h"

#define SNAP_DIRS_MAX 256

enum snap_verb { SNAP_CHECK, SNAP_INFO, SNAP_RM, SNAP_LS, SNAP_MERGE, SNAP_RECORD };

static const char *const verbs[] = { "check", "info", "rm", "ls", "merge", "record" };

struct snap_options {
	enum snap_verb verb;
	bool has_verb;
	const char *dir[SNAP_DIRS_MAX];
	unsigned num;
	struct words command; /* to record */
};

static int add_operand(void *target, const char *text, struct err *e)
{
	struct snap_options *o = target;

	for (unsigned i = 0; !o->has_verb && i < MF_ARRAY_SIZE(verbs); i++) {
		if (strcmp(text, verbs[i]) != 0)
			continue;
		o->verb = i;
		o->has_verb = true;
		return 1; /* others follow */
	}
	if (!o->has_verb)
		return err_set(e, -EINVAL, "must be check, info, ls, merge, record or rm");
	if (o->num == SNAP_DIRS_MAX)
		return err_set(e, -EINVAL, "there can be at most %d", SNAP_DIRS_MAX);
	o->dir[o->num++] = text;
	return o->verb != SNAP_RECORD; /* whether others may follow, in place of a command */
}

static int add_argument(void *target, const char *text, struct err *e)
{
	struct snap_options *o = target;

	if (o->verb != SNAP_RECORD)
		return err_set(e, -EINVAL, "'%s' takes none", verbs[o->verb]);
	return words_add(&o->command, text, e);
}

static const struct cli_option snap_options[] = {
	{ 'h', "help", NULL, "this text", .set = NULL },
	{ 0 },
};

const struct cli_usage snap_usage = {
	.command = "snap",
	.synopsis = "check|info|rm DIR..., ls [DIR...], merge DIR [NEWDIR], or record DIR -- COMMAND [ARG...]",
	.about = "check: reads all of a snapshot's state and memory, and of those that it was saved\n"
		 "against by --diff, its configuration and its layers, and compares the checksums.\n"
		 "merge: makes one complete snapshot of them, in NEWDIR, or in the\n"
		 "place of DIR.\n"
		 "info: prints what it has. ls: the same of all snapshots in DIR; default: the\n"
		 "working directory, and the templates in the cache. rm: removes it, unless a\n"
		 "snapshot beside it was saved against it; VMs that were started from it go on.\n"
		 "record: runs COMMAND in a VM from\n"
		 "it, and notes which pages of memory it uses: a restore then reads them ahead.\n\n",
	.options = snap_options,
	.operand = add_operand,
	.argument = add_argument,
	.operands = "check info ls merge record rm",
};

int snap_refuse_needed(const char *dir, struct err *e)
{
	MF_FREE char *child = NULL;
	int r = chain_find_child(&child, dir, e);

	return r <= 0 ? r : err_set(e, -EBUSY, "'%s' was saved against it: remove or merge that first", child);
}

static int snap_remove(const char *dir, struct err *e)
{
	return snap_refuse_needed(dir, e) < 0 ? e->code : snapshot_dir_remove(dir, e);
}

static int snap_info(const char *dir, struct chain *c, struct err *e)
{
	const struct memory_map *map = &c->layer[0].map;
	uint32_t cpus, devices;

	if (state_open(&c->in, VM_TAG, 0, VM_VERSION, e) < 0)
		return err_wrap(e, "state");
	cpus = state_get_u32(&c->in);
	devices = state_get_u32(&c->in);
	printf("%s: %u vCPUs, %u devices, %" PRIu64 " MiB of memory, %" PRIu64 " KiB of it with data in %u runs", dir,
	       cpus, devices, map->size / (uint64_t)MIB, map->pages * MF_PAGE_SIZE / 1024, c->layer[0].num_runs);
	for (unsigned i = 1; i < c->num; i++)
		printf("%s%s", i == 1 ? ", the rest in " : ", ", c->layer[i].dir);
	printf("\n");
	return 0;
}

static char *path_in(const char *dir, const char *name)
{
	char *path;

	return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

static int check_layers(const char *dir, const struct config *c, struct err *e)
{
	MF_FREE char *disks = path_in(dir, SNAPSHOT_DISKS);
	int r = disks ? 0 : err_set(e, -ENOMEM, "out of memory");

	for (unsigned i = 0; i < c->num_drives && !r; i++) {
		MF_FREE char *path = path_in(disks, c->drive[i].id);

		if (c->drive[i].overlay)
			r = path ? vm_check_layer(path, e) : err_set(e, -ENOMEM, "out of memory");
	}
	return r;
}

/* All that a restore looks at before there is a VM, but for the host's CPU; and all of the memory. */
static int check_all(const char *dir, struct config *c, struct chain *chain, struct err *e)
{
	MF_FREE char *config = path_in(dir, SNAPSHOT_CONFIG);

	if (!config)
		return err_set(e, -ENOMEM, "out of memory");
	if (config_read_file(c, config, e) < 0 || chain_check(chain, e) < 0)
		return e->code;
	return vm_check_own(c, &chain->in, e) < 0 ? err_wrap(e, "state") : check_layers(dir, c, e);
}

static int snap_check(const char *dir, struct chain *chain, struct err *e)
{
	struct config *c = malloc(sizeof(*c));
	int r;

	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	config_init(c);
	r = check_all(dir, c, chain, e);
	config_done(c);
	free(c);
	return r;
}

static int snap_one(const struct snap_options *o, const char *dir, struct err *e)
{
	struct chain *c;
	int r;

	if (o->verb == SNAP_RM)
		return snap_remove(dir, e);
	if (chain_open_dir(&c, dir, NULL, e) < 0)
		return e->code;
	r = o->verb == SNAP_CHECK ? snap_check(dir, c, e) : snap_info(dir, c, e);
	chain_free(c);
	return r;
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
	static struct image_cache cache = { .fd = -1 }; /* its path is used below */
	static struct snap_options o;
	int status = STATUS_OK;
	struct err e;
	int r = cli_parse(&snap_usage, &o, argc, argv, &e);

	if (r > 0)
		return STATUS_OK;
	if (r == 0 && o.verb == SNAP_LS && !o.num) {
		o.dir[o.num++] = ".";
		if (image_cache_find(&cache, &e) == 0) /* templates; without a cache there is none */
			o.dir[o.num++] = cache.path;
	}
	if (r == 0 && !o.num)
		r = err_set(&e, -EINVAL, "which snapshot? mayfly snap check DIR");
	if (r < 0)
		return report_err(&e);
	if (o.verb == SNAP_RECORD) {
		r = o.command.num ? snap_record(o.dir[0], &o.command, &e) :
				    err_set(&e, -EINVAL, "which command? mayfly snap record DIR -- COMMAND");
		return r < 0 ? (err_wrap(&e, "record '%s'", o.dir[0]), report_err(&e)) : STATUS_OK;
	}
	if (o.verb == SNAP_MERGE) {
		r = o.num > 2 ? err_set(&e, -EINVAL, "merge takes a snapshot, and where the new one is to be") :
				snap_merge(o.dir[0], o.dir[1], &e);
		return r < 0 ? (err_wrap(&e, "merge '%s'", o.dir[0]), report_err(&e)) : STATUS_OK;
	}
	for (unsigned i = 0; i < o.num; i++) {
		if ((o.verb == SNAP_LS ? snap_list : snap_one)(&o, o.dir[i], &e) == 0)
			continue;
		err_wrap(&e, o.verb == SNAP_LS ? "directory '%s'" : "snapshot '%s'", o.dir[i]);
		status = report_err(&e);
	}
	return cli_check_stdout(&e) < 0 ? report_err(&e) : status;
}
