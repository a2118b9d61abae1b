/*
 * A snapshot into files that are named by path; see vm_write.h.
 *
 * All files are written under temporary names, and synced. Then the old state loses its name, memory and layers
 * get theirs, and the new state comes last. A state belongs to one memory, and nothing in the latter says so: whenever
 * mayfly is killed, the paths have the old snapshot, the new one, or no state.
 */
#include "vmm/vm/vm_write.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/guest/guest_client.h"
#include "vmm/snapshot/file.h"
#include "vmm/vm/vm.h"
#include "vmm/vm/vm_state.h"

struct vm_write {
	struct snapshot_file file[VM_FILE_LAYERS + CONFIG_DRIVES_MAX];
	unsigned num;
};

static void vm_write_free(struct vm *vm)
{
	for (unsigned i = 0; vm->write && i < vm->write->num; i++)
		snapshot_file_done(&vm->write->file[i]);
	free(vm->write);
	vm->write = NULL;
}

static int vm_write_add(struct vm_write *w, const char *path, uint64_t size, struct err *e)
{
	return snapshot_file_begin(&w->file[w->num++], path, size, e);
}

static int vm_write_open(const struct vm *vm, const char *state, const char *memory, struct err *e)
{
	const struct config *c = vm->config;
	struct vm_write *w = vm->write;

	if (vm_write_add(w, state, 0, e) < 0)
		return err_wrap(e, "snapshot_path");
	if (vm_write_add(w, memory, vm->mem.size, e) < 0)
		return err_wrap(e, "mem_file_path");
	for (unsigned i = 0; i < c->num_drives; i++) {
		MF_FREE char *path = NULL;

		if (!c->drive[i].overlay)
			continue;
		if (asprintf(&path, "%s.%s", state, c->drive[i].id) < 0) {
			path = NULL;
			return err_set(e, -ENOMEM, "out of memory");
		}
		if (vm_write_add(w, path, 0, e) < 0)
			return err_wrap(e, "the layer of drive '%s'", c->drive[i].id);
	}
	return 0;
}

int vm_write_begin(struct vm *vm, const char *state, const char *memory, const char *config, bool diff, struct err *e)
{
	int fds[VM_FILE_LAYERS + CONFIG_DRIVES_MAX];
	struct vm_snapshot_files files = { .file = fds, .sync = true, .config = config };
	int r;

	if (vm->guest && guest_client_check_snapshot(vm->guest, e) < 0)
		return e->code;
	vm->write = calloc(1, sizeof(*vm->write));
	if (!vm->write)
		return err_set(e, -ENOMEM, "out of memory");
	r = vm_write_open(vm, state, memory, e);
	if (!r) {
		for (; files.num < vm->write->num; files.num++)
			fds[files.num] = vm->write->file[files.num].fd;
		files.diff = diff && vm->chain && !vm->config->restore_served && !vm->written &&
			     !vm->write->file[VM_FILE_MEMORY].replaces;
		r = vm_snapshot_begin(vm, &files, e);
	}
	if (r < 0)
		vm_write_free(vm);
	return r;
}

static int vm_write_commit(struct vm_write *w, struct err *e)
{
	int r = snapshot_file_remove(&w->file[VM_FILE_STATE], e);

	for (unsigned i = w->num; i-- > 0 && !r;)
		r = snapshot_file_commit(&w->file[i], e);
	return r;
}

void vm_write_end(struct vm *vm, const struct err *why)
{
	struct err e;

	if (!vm->write)
		return;
	if (!why && vm_write_commit(vm->write, &e) < 0)
		why = &e;
	vm->written = vm->written || !why;
	vm_write_free(vm);
	vm->attendant->written(vm->attendant->ctx, why);
}

void vm_write_drop(struct vm *vm)
{
	vm_write_free(vm);
}
