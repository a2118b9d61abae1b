/*
 * `mayfly snapshot`: makes the files of a snapshot, and hands them to the VM, whose filter
 * allows it to write, but neither to open, nor to sync, nor to rename. So the pause of the
 * guest ends before anything is synced.
 */
#include "vmm/cmd/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/fdio.h"
#include "vmm/base/parse.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/cli/cli.h"
#include "vmm/cmd/look.h"
#include "vmm/cmd/snap.h"
#include "vmm/cmd/vms.h"
#include "vmm/config/config.h"
#include "vmm/guest/control.h"
#include "vmm/snapshot/chain.h"
#include "vmm/snapshot/copy.h"
#include "vmm/snapshot/dir.h"

struct snapshot_options {
	const char *target, *dir;
	bool stop, diff, time;
};

static int add_operand(void *target, const char *text, struct err *e)
{
	struct snapshot_options *o = target;

	if (o->dir)
		return err_set(e, -EINVAL, "one VM and one directory are all that it takes");
	*(o->target ? &o->dir : &o->target) = text;
	return 0;
}

static const struct cli_option snapshot_options[] = {
	{ 0, "stop", NULL, "end the VM with the snapshot", .flag = CLI_FLAG(struct snapshot_options, stop) },
	{ 0, "diff", NULL, "write only what differs from the snapshot that it was\nrestored from",
	  .flag = CLI_FLAG(struct snapshot_options, diff) },
	{ 0, "time", NULL, "say how long the guest was paused", .flag = CLI_FLAG(struct snapshot_options, time) },
	{ 'h', "help", NULL, "this text", .set = NULL },
	{ 0 },
};

const struct cli_usage snapshot_usage = {
	.command = "snapshot",
	.synopsis = "[--stop] [--diff] [--time] NAME|PATH DIR",
	.about = "Writes a snapshot of a VM that runs to the new directory DIR; an older snapshot there\n"
		 "is replaced when the new one is complete. The VM goes on. 'mayfly restore DIR' starts\n"
		 "VMs from it. PATH is that of `mayfly run --control PATH`, and has a slash.\n\n",
	.options = snapshot_options,
	.operand = add_operand,
	.list_operands = vms_list,
};

/* What belongs to one run of the VM, and not to those that are restored from it. */
static const char *const own_keys[] = { "name", "control", "log_file", "timeline", "result",
					"time", "timeout", "log_max",  "snapshot", "until" };

static int write_config(const struct snapshot_dir *d, json_t *config, bool sync, struct err *e)
{
	MF_FREE char *text = NULL;
	MF_CLOSE int fd = -1;
	int r;

	for (size_t i = 0; i < MF_ARRAY_SIZE(own_keys); i++)
		(void)json_object_del(config, own_keys[i]); /* it need not have it */
	text = json_dumps(config, JSON_INDENT(2));
	if (!text)
		return err_set(e, -ENOMEM, "out of memory");
	fd = snapshot_dir_create(d, SNAPSHOT_CONFIG, 0, e);
	if (fd < 0)
		return fd;
	r = fdio_write_all(fd, text, strlen(text));
	if (r < 0)
		return err_neg(e, r, "write '%s'", SNAPSHOT_CONFIG);
	return sync ? snapshot_dir_sync(fd, SNAPSHOT_CONFIG, e) : 0;
}

/* How much memory the VM has. */
static int memory_size(const json_t *config, uint64_t *ret, struct err *e)
{
	const char *text = json_string_value(json_object_get(config, "mem"));

	if (!text || parse_size(text, ret) < 0 || *ret > CONFIG_MEM_MAX)
		return err_set(e, -EPROTO, "what answers is not mayfly");
	return 0;
}

static int add_file(struct snapshot_files *f, int fd, const char *name)
{
	if (fd < 0)
		return fd;
	f->fd[f->num] = fd;
	f->name[f->num++] = name;
	return 0;
}

static int make_layer(struct snapshot_files *f, struct snapshot_dir *d, const char *id, struct err *e)
{
	if (!id || f->num == CONTROL_FILES_MAX || !*id || strchr(id, '/') || *id == '.')
		return err_set(e, -EPROTO, "what answers is not mayfly");
	if (d->disks < 0 && snapshot_dir_make_disks(d, e) < 0)
		return e->code;
	return add_file(f, snapshot_dir_create_disk(d, id, e), id) < 0 ? e->code : 0;
}

/*
 * A writable image changes as the VM goes on. The VM shares its blocks while the drive is quiet, if that works where it is, and
 * where the snapshot is. What is not written yet would make that pause long. Returns 1, 0: it does not work, or -errno.
 */
static int make_image(struct snapshot_files *f, struct snapshot_dir *d, const char *id, const char *path, struct err *e)
{
	MF_CLOSE int image = path ? open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) : -1;
	int fd;

	if (make_layer(f, d, id, e) < 0)
		return e->code;
	fd = f->fd[f->num - 1];
	if (image >= 0 && fsync(image) == 0 && copy_share(image, fd) == 0)
		return ftruncate(fd, 0) < 0 ? err_sys(e, "empty '%s'", id) : 1;
	f->num--;
	close(fd);
	return unlinkat(d->disks, id, 0) < 0 ? err_sys(e, "remove '%s'", id) : 0;
}

/* In the drives' order; that of --disk is the last. */
static int make_layers(struct snapshot_files *f, struct snapshot_dir *d, const json_t *config, bool stop, struct err *e)
{
	const json_t *drive;
	size_t i;

	json_array_foreach(json_object_get(config, "drives"), i, drive) {
		const char *id = json_string_value(json_object_get(drive, "id"));
		const char *path = json_string_value(json_object_get(drive, "path"));
		const json_t *overlay = json_object_get(drive, "overlay");
		int r = 0;

		if (overlay && !json_is_false(overlay))
			r = make_layer(f, d, id, e);
		else if (json_is_false(json_object_get(drive, "read_only"))) {
			r = make_image(f, d, id, path, e);
			if (r > 0)
				f->images |= CONTROL_IMAGE(i);
			else if (r == 0 && !stop)
				report_line("drive '%s': its file system cannot share the blocks of '%s', which changes as the "
					    "VM goes on: use --stop, or restore with -d %s=COPY; continuing",
					    id, path, id);
		}
		if (r < 0)
			return r;
	}
	return json_object_get(config, "disk") ? make_layer(f, d, CONFIG_DISK_ID, e) : 0;
}

/* Where the guest's memory goes. */
static int make_memory(const struct snapshot_files *f, struct snapshot_dir *d, uint64_t size, struct err *e)
{
	MF_CLOSE int fd = -1;

	if (!f->fork)
		return snapshot_dir_create(d, SNAPSHOT_MEMORY, size, e);
	fd = memfd_create("guest-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	return fd < 0 || ftruncate(fd, (off_t)size) < 0 ? err_sys(e, "make memory for a fork") : mf_take_fd(&fd);
}

int snapshot_files_make(struct snapshot_files *f, struct snapshot_dir *d, json_t *config, bool stop, struct err *e)
{
	uint64_t size;

	if (memory_size(config, &size, e) < 0 || write_config(d, config, !f->fork, e) < 0 ||
	    add_file(f, snapshot_dir_create(d, SNAPSHOT_STATE, 0, e), SNAPSHOT_STATE) < 0 ||
	    add_file(f, make_memory(f, d, size, e), SNAPSHOT_MEMORY) < 0)
		return e->code;
	return make_layers(f, d, config, stop, e);
}

void snapshot_files_done(struct snapshot_files *f)
{
	while (f->num > 0)
		close(f->fd[--f->num]);
}

/* What is left of a VM that has ended meanwhile is no snapshot of a run that has succeeded. */
static int check_alive(int control, struct err *e)
{
	struct pollfd hung_up = { .fd = control, .events = POLLIN };

	return poll(&hung_up, 1, 0) > 0 ? err_set(e, -EPIPE, "the VM has ended before it was complete") : 0;
}

/* The VM's answer. One without a number is of an older mayfly. */
static uint64_t pause_of(const char *text)
{
	json_t *json = json_loads(text, 0, NULL);
	const json_int_t ns = json_integer_value(json_object_get(json, "pause_ns"));

	json_decref(json);
	return ns > 0 ? (uint64_t)ns : 0;
}

int snapshot_take(struct snapshot_files *f, int control, unsigned flags, struct err *e)
{
	MF_FREE char *text = malloc(CONTROL_INFO_MAX);
	int *memory = f->fork ? f->memory : NULL;
	int r = text ? control_snapshot(control, f->fd, f->num, flags | f->images, text, memory, &f->num_memories, e) :
		       err_set(e, -ENOMEM, "out of memory");

	for (unsigned i = 0; i < f->num && !r && !f->fork; i++)
		r = snapshot_dir_sync(f->fd[i], f->name[i], e);
	if (!r && flags & CONTROL_LATER)
		r = check_alive(control, e);
	f->pause_ns = r < 0 ? 0 : pause_of(text);
	return r;
}

/* By the connection, which the caller closes. */
static int write_snapshot(const struct snapshot_options *o, struct snapshot_dir *d, json_t *config, int *ret_control,
			  struct err *e)
{
	struct snapshot_files f = { 0 };
	int r = snapshot_files_make(&f, d, config, o->stop, e);

	if (!r) {
		*ret_control = control_connect(o->target, 0, e);
		r = *ret_control < 0 ? *ret_control :
				       snapshot_take(&f, *ret_control,
						     (o->stop ? CONTROL_STOP : 0) | (o->diff ? CONTROL_DIFF : 0), e);
	}
	if (!r && o->time)
		report_line("the guest was paused for %.3f ms", (double)f.pause_ns / 1e6);
	snapshot_files_done(&f);
	return r;
}

/* A new diff, which is not to take the place of a snapshot that it needs. */
static int check_diff(const struct snapshot_dir *d, const char *path, struct err *e)
{
	char dir[32];
	struct stat st, old;
	struct chain *c;
	int r = 0;

	snprintf(dir, sizeof(dir), "/proc/self/fd/%d", d->fd);
	if (chain_open_dir(&c, dir, NULL, e) < 0)
		return e->code;
	for (unsigned i = 1; i < c->num && !r; i++)
		if (stat(path, &old) == 0 && stat(c->layer[i].dir, &st) == 0 && st.st_ino == old.st_ino &&
		    st.st_dev == old.st_dev)
			r = err_set(e, -EBUSY, "the new snapshot needs the one that is there");
	chain_free(c);
	return r;
}

static int snapshot(const struct snapshot_options *o, struct err *e)
{
	struct snapshot_dir d = SNAPSHOT_DIR_INIT;
	MF_CLOSE int control = -1;
	struct look l = { 0 };
	int r = look_at(&l, o->target, e);

	if (r < 0)
		return err_wrap(e, "snapshot of '%s'", o->target);
	r = snap_refuse_needed(o->dir, e);
	if (!r)
		r = snapshot_dir_begin(&d, o->dir, e);
	if (!r)
		r = write_snapshot(o, &d, l.config, &control, e);
	if (!r && o->diff)
		r = check_diff(&d, o->dir, e);
	if (!r)
		r = snapshot_dir_commit(&d, e);
	if (!r && o->stop)
		r = control_stop(control, e);
	snapshot_dir_done(&d);
	look_done(&l);
	return r < 0 ? err_wrap(e, "snapshot '%s'", o->dir) : 0;
}

int snapshot_command(int argc, char **argv)
{
	struct snapshot_options o = { 0 };
	struct err e;
	int r = cli_parse(&snapshot_usage, &o, argc, argv, &e);

	if (r > 0)
		return STATUS_OK;
	if (r == 0 && !o.dir)
		r = err_set(&e, -EINVAL, "which VM, and where? mayfly snapshot NAME DIR");
	if (r == 0)
		r = snapshot(&o, &e);
	return r < 0 ? report_err(&e) : STATUS_OK;
}
