/*
 * Sharing the memory of a VM that runs; see vm_fork.h.
 *
 * What is shared is a chain of layers that nobody writes to any more (vmm/snapshot/fork.h), newest first. RAM is a private mapping
 * of them, here and in each VM that is made from it: a page is copied when one of them writes to it.
 *
 *	the first time		RAM is a shared mapping of one memfd, and becomes a private one: only page tables are lost, and most of
 *				them before the guest is paused. That memfd is the layer. Of a restored VM, the memories of its snapshot are the first layers
 *	each further time	the pages that differ from the layers are copied into a new one, while the VM is paused. Then
 *				RAM maps that in their place, so that the next time they need not be compared
 *	too many layers		all of RAM is copied into a new one, which replaces them
 *
 * Mappings are few whatever the guest does: of each layer the largest runs are mapped, MEMORY_RUNS_MAX at most. Pages of the others
 * stay copies of this VM.
 *
 * The client of the control socket brings the file of a new layer, and seals all of them before it starts a VM.
 */
#include "vmm/vm/vm_fork.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/state.h"
#include "vmm/guest/guest_client.h"
#include "vmm/snapshot/diff.h"
#include "vmm/snapshot/fork.h"
#include "vmm/snapshot/memory.h"
#include "vmm/vm/vm.h"
#include "vmm/vm/vm_state.h"

static struct memory_map vm_fork_map; /* what memory that is shared had before the pause */

/* RAM is not what the guest has written any more, or nobody knows it. */
static int vm_lose(struct vm *vm, const struct err *why)
{
	vm_end(&vm->end, VM_END_KVM, "%s", why->text);
	return why->code;
}

/* RAM maps these runs of fd, which have what it has there. At most MEMORY_RUNS_MAX of them. */
static int vm_map_runs(struct vm *vm, int fd, const struct memory_run *run, unsigned num, struct err *e)
{
	uint64_t min = MF_PAGE_SIZE / 2;
	unsigned large = num;
	int r = 0;

	do {
		min *= 2;
		large = 0;
		for (unsigned i = 0; i < num; i++)
			large += run[i].len >= min;
	} while (large > MEMORY_RUNS_MAX);
	for (unsigned i = 0; i < num && !r; i++)
		if (run[i].len >= min)
			r = mem_map_offset(&vm->mem, run[i].offset, fd, run[i].offset, run[i].len, e);
	return r;
}

int vm_fork_prepare(struct vm *vm, struct err *e)
{
	int r = vm->mem.shared ? memory_find(&vm_fork_map, vm->mem.shared_fd, vm->mem.size) : 0;

	mem_drain(&vm->mem);
	return r < 0 ? err_neg(e, r, "look for the data of guest memory") : 0;
}

/* RAM is a private mapping of what fd has at these runs, and else empty. */
static int vm_map_all(struct vm *vm, int fd, const struct memory_map *map, struct err *e)
{
	uint64_t at = 0;
	int r = 0;

	for (unsigned i = 0; i < map->num_runs && !r; i++) {
		const struct memory_run *run = &map->run[i];

		if (run->offset > at)
			r = mem_map_empty(&vm->mem, at, run->offset - at, e);
		if (!r)
			r = mem_map_offset(&vm->mem, run->offset, fd, run->offset, run->len, e);
		at = run->offset + run->len;
	}
	if (!r && at < map->size)
		r = mem_map_empty(&vm->mem, at, map->size - at, e);
	mem_set_huge(&vm->mem, true);
	return r;
}

int vm_fork_freeze(struct vm *vm, struct err *e)
{
	const struct memory_map *map = &vm_fork_map;
	int r = memory_find_more(&vm_fork_map, vm->mem.shared_fd), fd;

	if (r < 0)
		return err_neg(e, r, "look for the data of guest memory");
	fd = mem_unshare(&vm->mem);
	if (vm_map_all(vm, fd, map, e) < 0 || fork_add(&vm->chain, fd, map->size, map->run, map->num_runs, e) < 0)
		return vm_lose(vm, e);
	return 0;
}

/* Copies what differs from the layers into *fd, which becomes one, unless nothing does. */
static int vm_add_layer(struct vm *vm, int *fd, struct err *e)
{
	struct diff *diff = vm_diff_scratch();
	const struct memory_run *run = diff->run;
	unsigned num;
	int r = diff_find(&vm->mem, vm->pagemap_fd, vm->chain, true, diff);

	num = diff->num_runs;
	for (unsigned i = 0; i < num && !r; i++)
		r = fdio_pwrite_all(*fd, vm->mem.region[0].host + run[i].offset, run[i].len, run[i].offset);
	if (r < 0)
		return err_neg(e, r, "copy the pages that have changed");
	if (!num)
		return 0;
	r = fork_add(&vm->chain, *fd, vm->mem.size, run, num, e);
	if (r < 0)
		return r;
	r = vm_map_runs(vm, mf_take_fd(fd), run, num, e);
	return r < 0 ? vm_lose(vm, e) : 0;
}

/* Copies all into *fd, which becomes the only layer. The old ones stay the memory of the VMs that have them. */
static int vm_merge_layers(struct vm *vm, int *fd, struct err *e)
{
	struct memory_map map;
	int r = memory_write(&vm->mem, vm->pagemap_fd, *fd, &map);

	if (r < 0)
		return err_neg(e, r, "copy guest memory");
	r = fork_replace(vm->chain, *fd, vm->mem.size, map.run, map.num_runs, e);
	if (r < 0)
		return r;
	r = vm_map_runs(vm, mf_take_fd(fd), map.run, map.num_runs, e);
	return r < 0 ? vm_lose(vm, e) : 0;
}

static int vm_share(struct vm *vm, int *fd, struct err *e)
{
	_Static_assert(CONTROL_LAYERS_MAX >= CHAIN_MAX, "room for all layers in an answer");

	if (vm->mem.shared)
		return vm_fork_freeze(vm, e);
	if (vm->chain->num < CHAIN_MAX && fork_count_runs(vm->chain) + DIFF_RUNS_MAX <= FORK_RUNS_MAX)
		return vm_add_layer(vm, fd, e);
	return vm_merge_layers(vm, fd, e);
}

/* The state is complete with the layers. Returns 0 or -errno. */
static int vm_finish_state(const struct vm *vm, struct state_out *out)
{
	const struct memory_map map = { .size = vm->mem.size }; /* what has data is in the layers */
	const size_t len = out->len;

	state_out_init(out, out->data, out->size);
	vm_put_head(vm, &map, out);
	out->len = len;
	fork_put(vm->chain, out);
	return (int)MF_MIN(state_out_finish(out), 0);
}

static int vm_check_forkable(const struct vm *vm, struct err *e)
{
	if (!vm->mem.shared && (!vm->chain || vm->uffd >= 0 || !vm->config->forkable))
		return err_set(e, -ENOTSUP, "its memory cannot be shared: it was not started with --forkable");
	if (vm->snapshot.pid || vm->snapshot.stop)
		return err_set(e, -EBUSY, "a snapshot is being written");
	return 0;
}

int vm_on_fork(void *ctx, int *files, unsigned num, unsigned flags, struct guest_fork *ret, struct err *e)
{
	struct vm *vm = ctx;
	const struct vm_snapshot_files f = { .file = files, .num = num, .images = flags };
	struct state_out out;
	uint64_t began;
	int r = vm_check_forkable(vm, e);

	if (!r)
		r = vm_check_files(vm, &f, e);
	if (r < 0)
		return r;
	if (vm_fork_prepare(vm, e) < 0)
		return e->code;
	began = clock_now_ns();
	r = vm_collect(vm, &f, &out, e);
	if (!r)
		r = vm_share(vm, &files[VM_FILE_MEMORY], e);
	ret->pause_ns = clock_now_ns() - began; /* it goes on before vm_resume returns */
	if (!vm->paused)
		vm_resume(vm);
	if (r < 0)
		return r;
	r = vm_finish_state(vm, &out);
	if (!r)
		r = fdio_write_all(files[VM_FILE_STATE], out.data, out.len);
	if (r < 0)
		return err_neg(e, r, "write the state");
	log_info("memory is shared: %u layers; the guest was paused for %.3f ms", vm->chain->num,
		 (double)ret->pause_ns / 1e6);
	ret->num = vm->chain->num;
	for (unsigned i = 0; i < ret->num; i++)
		ret->memory[i] = vm->chain->layer[i].fd;
	return 0;
}
