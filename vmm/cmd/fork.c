/* A fork of a VM that runs; see fork.h, and vmm/vm/vm_fork.c for what the VM does. */
#include "vmm/cmd/fork.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/parse.h"
#include "vmm/base/util.h"
#include "vmm/cmd/clone_dir.h"
#include "vmm/cmd/restore.h"
#include "vmm/cmd/run.h"
#include "vmm/cmd/snapshot.h"
#include "vmm/config/config.h"
#include "vmm/snapshot/fork.h"

#define SEALS (F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

/* A memory of a snapshot's file has no seals: it was opened for reading. */
static int seal(int fd, struct err *e)
{
	const int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0) {
		if ((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY)
			return 0;
		return err_set(e, -EPROTO, "what answers is not mayfly");
	}
	if ((seals & SEALS) == SEALS)
		return 0;
	return fcntl(fd, F_ADD_SEALS, SEALS) < 0 ? err_sys(e, "seal the memory that VMs share") : 0;
}

/* The processes of VMs inherit them. */
static int take_memories(struct fork *f, const struct snapshot_files *files, struct err *e)
{
	size_t len = 0;

	for (; f->num < files->num_memories; f->num++)
		f->fd[f->num] = files->memory[f->num];
	for (unsigned i = 0; i < f->num; i++) {
		if (seal(f->fd[i], e) < 0)
			return e->code;
		if (fcntl(f->fd[i], F_SETFD, 0) < 0)
			return err_sys(e, "hand over memory");
		len += (size_t)snprintf(f->memories + len, sizeof(f->memories) - len, "%s%d", i ? "," : "", f->fd[i]);
		if (len >= sizeof(f->memories))
			return err_set(e, -EMFILE, "too many files are open");
	}
	return f->num ? 0 : err_set(e, -EPROTO, "what answers is not mayfly");
}

int fork_take(struct fork *f, const char *target, struct json_t *config, const char *dir, struct err *e)
{
	struct snapshot_files files = { .fork = true };
	MF_CLOSE int control = -1;
	MF_FREE char *path = NULL;
	int r;

	if (asprintf(&path, "%s/" CLONE_DIR_FORK, dir) < 0) {
		path = NULL; /* asprintf leaves it undefined */
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = snapshot_dir_begin(&f->dir, path, e);
	if (!r && asprintf(&f->path, "%s/%s", dir, f->dir.temporary) < 0) {
		f->path = NULL;
		r = err_set(e, -ENOMEM, "out of memory");
	}
	if (!r)
		r = snapshot_files_make(&files, &f->dir, config, false, e);
	if (!r)
		r = control = control_connect(target, 0, e);
	if (r >= 0)
		r = snapshot_take(&files, control, CONTROL_FORK, e);
	if (!r)
		r = take_memories(f, &files, e);
	snapshot_files_done(&files);
	return r;
}

void fork_done(struct fork *f)
{
	while (f->num > 0)
		close(f->fd[--f->num]);
	snapshot_dir_done(&f->dir);
	free(f->path);
	f->path = NULL;
}

/* "5,6". Returns how many, or -EINVAL. */
static int read_memories(const char *text, int memory[CONTROL_LAYERS_MAX])
{
	MF_FREE char *copy = strdup(text);
	char *rest = copy, *word;
	int num = 0;

	while (copy && (word = strsep(&rest, ","))) {
		uint64_t fd;

		if (num == CONTROL_LAYERS_MAX || parse_u64(word, &fd) < 0 || fd <= STDERR_FILENO || fd > INT16_MAX ||
		    fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0)
			return -EINVAL;
		memory[num++] = (int)fd;
	}
	return num ? num : -EINVAL;
}

static int parse(struct config *c, int argc, char **argv, struct err *e)
{
	int memory[CONTROL_LAYERS_MAX];
	int num = argc > 2 ? read_memories(argv[1], memory) : -EINVAL, r;

	if (num < 0)
		return err_set(e, -EINVAL, "only `mayfly clone` starts a fork");
	r = restore_parse(c, argc - 1, argv + 1, e);
	return r ? r : fork_open(&c->restore_chain, c->restore_state, memory, (unsigned)num, e);
}

int fork_command(int argc, char **argv)
{
	return run_vm(parse, argc, argv);
}
