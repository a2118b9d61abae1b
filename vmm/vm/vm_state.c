/*
 * The order of a VM's life, in one place:
 *
 *	construction	vm_build.c: RAM, KVM's objects, devices and their loops, vCPUs
 *	restore		the same with the RAM of a snapshot; then, in the order of `state`, what each object has saved:
 *			vCPUs, the clock, IOAPIC, serial port, devices; last, the devices resume
 *	pause		vCPUs park at the gate, interrupts wait in the IOAPIC, then devices become quiet. This order,
 *			because a vCPU may wait for a loop
 *	snapshot	`state` is collected; a child process gets a copy of the memory by fork, and writes the files. Or
 *			memory is frozen, and shared with other VMs: vm_fork.c
 *	resume		devices, then the gate opens: a guest that runs finds its devices at work
 *	end		vm.c: vCPUs leave, devices are reset, loops stop
 *
 * A parked vCPU has left KVM_RUN with -EINTR, and so has no exit that waits for an answer: KVM completes the last one
 * before it looks at immediate_exit.
 *
 * The fork is why a pause is short: it copies page tables, and pages are copied as the guest or the child writes to
 * them. The child inherits the filter of the main thread, closes all files but three, and ends when they are written. Its
 * pidfd reports the end, also of one that is killed: in a jail, the VM's process gets no SIGCHLD.
 */
#include "vmm/vm/vm_state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "virtio/blk.h"
#include "virtio/device.h"
#include "virtio/mmio.h"
#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/state.h"
#include "vmm/guest/control.h"
#include "vmm/platform/ioapic.h"
#include "vmm/platform/serial.h"
#include "vmm/snapshot/chain.h"
#include "vmm/snapshot/copy.h"
#include "vmm/snapshot/diff.h"
#include "vmm/snapshot/memory.h"
#include "vmm/snapshot/page_server.h"
#include "vmm/vm/cpu_state.h"
#include "vmm/vm/cpu_x86.h"
#include "vmm/vm/vm.h"
#include "vmm/vm/vm_fork.h"

#define PARK_MS 1000  /* a vCPU may be inside loop_call, on a slow drive */
#define QUIET_MS 2000 /* for requests in flight, of each device */
#define STATE_SIZE (2U << 20)

/* Not on the heap: only what is written takes memory, and the child finds it here. */
static uint8_t vm_state_data[STATE_SIZE];
static struct diff vm_diff;

void vm_put_shape(const struct vm *vm, struct state_out *out)
{
	state_begin(out, VM_TAG, 0, VM_VERSION);
	state_put_u32(out, vm->config->cpus);
	state_put_u32(out, vm->num_devs);
	for (unsigned i = 0; i < vm->num_devs; i++) {
		const char *id = vm->dev[i]->id;

		state_put_u32(out, vm->dev[i]->ops->device_id);
		state_put_u8(out, (uint8_t)strlen(id));
		state_put_bytes(out, id, strlen(id));
	}
	state_end(out);
}

void vm_put_head(const struct vm *vm, const struct memory_map *map, struct state_out *out)
{
	vm_put_shape(vm, out);
	memory_put(map, out);
}

static int vm_save(struct vm *vm, const char *config, struct state_out *out, struct err *e)
{
	static const struct memory_map unknown;
	int r = 0;

	vm_put_head(vm, &unknown, out);
	cpu_template_save(vm->cpu, out);
	for (unsigned i = 0; i < vm->num_vcpus && !r; i++)
		r = cpu_state_save(&vm->kvm, vm->vcpu[i].fd, i, out, e);
	if (!r)
		r = cpu_clock_save(&vm->kvm, out, e);
	if (r < 0)
		return r;
	ioapic_save(vm->ioapic, out);
	serial_save(vm->serial, out);
	i8042_save(&vm->i8042, out);
	for (unsigned i = 0; i < vm->num_devs; i++)
		mmio_save(vm->transport[i], out);
	if (config) {
		state_begin(out, VM_CONFIG_TAG, 0, VM_CONFIG_VERSION);
		state_put_bytes(out, config, strlen(config));
		state_end(out);
	}
	return 0;
}

/* Parks the vCPUs, then makes the devices quiet. vm_resume must follow in any case. */
static int vm_pause(struct vm *vm, struct err *e)
{
	int r = 0;

	gate_close(&vm->gate);
	for (unsigned i = 0; i < vm->num_vcpus; i++)
		vcpu_kick(&vm->vcpu[i]);
	if (!gate_await_parked(&vm->gate, PARK_MS))
		return err_set(e, -ETIMEDOUT, "a vCPU does not pause: it waits for a device");
	ioapic_quiet(vm->ioapic);
	for (unsigned i = 0; i < vm->num_devs && !r; i++)
		r = mmio_quiet(vm->transport[i], QUIET_MS, e);
	return r;
}

void vm_resume(struct vm *vm)
{
	for (unsigned i = 0; i < vm->num_vcpus; i++)
		cpu_clock_paused(vm->vcpu[i].fd);
	for (unsigned i = 0; i < vm->num_devs; i++)
		mmio_resume(vm->transport[i]);
	ioapic_resume(vm->ioapic);
	gate_open(&vm->gate);
}

int vm_set_paused(struct vm *vm, bool paused, struct err *e)
{
	if (paused == vm->paused)
		return 0;
	if (!paused || vm_pause(vm, e) < 0) {
		vm_resume(vm);
		if (paused)
			return e->code;
	}
	vm->paused = paused;
	return 0;
}

static int compare(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

#define KEPT_MAX (3 + CHAIN_MAX + CONFIG_DRIVES_MAX)

static void close_others(const int *keep, unsigned num)
{
	int sorted[KEPT_MAX];
	unsigned from = 0;

	memcpy(sorted, keep, num * sizeof(*keep));
	qsort(sorted, num, sizeof(*sorted), compare);
	for (unsigned i = 0; i < num; i++) {
		if (sorted[i] < 0)
			continue;
		(void)close_range(from, (unsigned)sorted[i] - 1,
				  0); /* an empty range fails, and that does not matter */
		from = (unsigned)sorted[i] + 1;
	}
	(void)close_range(from, UINT_MAX, 0);
}

/* The descriptors that the child needs. Returns how many. */
static unsigned vm_list_kept(const struct vm *vm, const struct vm_snapshot_files *f, int keep[KEPT_MAX])
{
	unsigned num = 0;

	while (num < f->num) {
		keep[num] = f->file[num];
		num++;
	}
	keep[num++] = vm->pagemap_fd;
	for (unsigned i = 0; f->diff && i < vm->chain->num; i++)
		keep[num++] = vm->chain->layer[i].fd;
	return num;
}

/* The memory, and the sections of state that describe it: the first ones again, and one of pages at the end. */
static int vm_write_memory(const struct vm *vm, const struct vm_snapshot_files *f, struct state_out *out)
{
	const int fd = f->file[VM_FILE_MEMORY];
	const size_t len = out->len;
	struct memory_map map;
	int r = f->diff ? diff_write(&vm->mem, vm->pagemap_fd, vm->chain, fd, &map, &vm_diff) :
			  memory_write(&vm->mem, vm->pagemap_fd, fd, &map);

	if (r < 0)
		return r;
	state_out_init(out, out->data, out->size);
	vm_put_head(vm, &map, out);
	out->len = len;
	if (f->diff) {
		vm_diff.parent = vm->chain->layer[0].identity;
		strcpy(vm_diff.path, vm->chain->layer[0].dir);
		diff_put(&vm_diff, out);
	}
	return (int)MF_MIN(state_out_finish(out), 0);
}

/* In the child, which has one thread and must not wait for a lock: system calls and memory only. */
static void __attribute__((noreturn))
vm_write_files(const struct vm *vm, const struct vm_snapshot_files *f, struct state_out *out)
{
	static const int crashes[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
	int keep[KEPT_MAX], r;

	/* The handlers would report a crash of the VM. */
	for (size_t i = 0; i < MF_ARRAY_SIZE(crashes); i++)
		(void)signal(crashes[i], SIG_DFL);
	/* Without mayfly, nobody gives the files their names. */
	if (f->sync)
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* cannot fail */
	close_others(keep, vm_list_kept(vm, f, keep));
	r = vm_write_memory(vm, f, out);
	if (!r)
		r = fdio_write_all(f->file[VM_FILE_STATE], out->data, out->len);
	for (unsigned i = 0; f->sync && i < f->num && !r; i++)
		r = fsync(f->file[i]) < 0 ? -errno : 0;
	_exit(-r);
}

/* Whether the image of a drive is to be shared with the snapshot: an overlay has a layer in its place. */
static bool vm_shares_image(const struct vm *vm, const struct vm_snapshot_files *f, unsigned drive)
{
	const struct config_drive *d = &vm->config->drive[drive];

	return f->images & CONTROL_IMAGE(drive) && !d->overlay && !d->read_only;
}

int vm_check_files(const struct vm *vm, const struct vm_snapshot_files *f, struct err *e)
{
	unsigned num = VM_FILE_LAYERS;
	struct stat st;

	for (unsigned i = 0; i < vm->config->num_drives; i++)
		num += vm->config->drive[i].overlay || vm_shares_image(vm, f, i);
	if (f->num != num)
		return err_set(e, -EINVAL, "a snapshot of this VM has %u files, not %u", num, f->num);
	for (unsigned i = 0; i < num; i++) {
		if (fstatat(f->file[i], "", &st, AT_EMPTY_PATH) < 0)
			return err_sys(e, "look at the snapshot's files");
		if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != (i == VM_FILE_MEMORY ? vm->mem.size : 0))
			return err_set(e, -EINVAL, "a file of the snapshot is not regular, or has not its first size");
	}
	return 0;
}

/* What the guest has written to its drives, as far as a file of the snapshot has it. */
static int vm_save_drives(const struct vm *vm, const struct vm_snapshot_files *f, struct err *e)
{
	unsigned file = VM_FILE_LAYERS;
	int r = 0;

	for (unsigned i = 0; i < vm->config->num_drives && !r; i++) {
		const struct config_drive *d = &vm->config->drive[i];

		if (d->overlay)
			r = blk_write_layer(vm->dev[i], f->file[file++], e);
		else if (!d->read_only && blk_identify(vm->dev[i]) < 0)
			r = err_set(e, -EIO, "drive '%s': look at its image", d->id);
		if (!r && vm_shares_image(vm, f, i)) {
			r = copy_share(blk_image_fd(vm->dev[i]), f->file[file++]);
			r = r < 0 ? err_neg(e, r, "drive '%s': share the blocks of its image", d->id) : 0;
		}
	}
	return r;
}

struct diff *vm_diff_scratch(void)
{
	return &vm_diff;
}

int vm_collect(struct vm *vm, const struct vm_snapshot_files *f, struct state_out *out, struct err *e)
{
	int r = 0;

	state_out_init(out, vm_state_data, sizeof(vm_state_data));
	if (!vm->paused)
		r = vm_pause(vm, e);
	if (!r)
		r = vm_save_drives(vm, f, e);
	if (!r)
		r = vm_save(vm, f->config, out, e);
	if (!r && out->error)
		r = err_neg(e, out->error, "collect the state");
	if (!r && vm->uffd >= 0)
		page_server_finish(&vm->mem);
	return r;
}

int vm_snapshot_begin(struct vm *vm, const struct vm_snapshot_files *f, struct err *e)
{
	struct state_out out;
	uint64_t began;
	pid_t pid = -1;
	int r = vm_check_files(vm, f, e);

	if (r < 0)
		return r;
	if (f->diff && vm->chain->num == CHAIN_MAX)
		return err_set(e, -E2BIG,
			       "the VM's snapshot '%s' is the last of a chain of %d, the most there can be: "
			       "take a complete one, or merge that",
			       vm->chain->layer[0].dir, CHAIN_MAX);
	if (vm->snapshot.pid || vm->snapshot.stop)
		return err_set(e, -EBUSY, "another snapshot is being written");
	if (vm_fork_prepare(vm, e) < 0)
		return e->code;
	began = clock_now_ns();
	r = vm_collect(vm, f, &out, e);
	if (!r && vm->mem.shared)
		r = vm_fork_freeze(vm, e); /* the child is to have a copy */
	if (!r) {
		/* Not fork(3), which takes locks that other threads may hold. */
		pid = (pid_t)syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, NULL, &vm->snapshot.pidfd, NULL, NULL);
		if (pid == 0)
			vm_write_files(vm, f, &out);
		r = pid < 0 ? err_sys(e, "start the process that writes the files") : 0;
	}
	if (!vm->paused && (r < 0 || !f->stop))
		vm_resume(vm);
	vm->snapshot.pause_ns = clock_now_ns() - began;
	if (r < 0)
		return r;
	vm->snapshot.pid = pid;
	vm->snapshot.stop = f->stop;
	return 0;
}

int vm_on_snapshot(void *ctx, const int *files, unsigned num, unsigned flags, struct err *e)
{
	struct vm *vm = ctx;
	const struct vm_snapshot_files f = {
		.file = files,
		.num = num,
		.images = flags,
		.stop = flags & CONTROL_STOP,
		/* A VM that was booted has no older one, and a template may be gone at any time. */
		.diff = flags & CONTROL_DIFF && vm->chain && !vm->chain->live && !vm->config->template.used,
	};

	return vm_snapshot_begin(vm, &f, e);
}

void vm_on_snapper_left(void *ctx)
{
	struct vm *vm = ctx;

	vm_end(&vm->end, VM_END_SNAPSHOT, "without one");
}

/* Files that are not synced, or have no name yet, can still be lost: the VM is what is left then. */
void vm_on_snapshot_over(void *ctx, bool in_place)
{
	struct vm *vm = ctx;

	vm->snapshot.stop = false;
	if (in_place)
		vm_end(&vm->end, VM_END_SNAPSHOT, "the snapshot is in its place");
	else
		vm_resume(vm);
}

void vm_become_template(struct vm *vm)
{
	const int files[] = { vm->config->template.state_fd, vm->config->template.memory_fd };
	const struct vm_snapshot_files f = { .file = files, .num = MF_ARRAY_SIZE(files), .stop = true };
	struct err e;

	if (!vm->config->template.made)
		return;
	atomic_store(&vm->config->template.link->waits, true);
	if (vm_snapshot_begin(vm, &f, &e) < 0)
		vm_end(&vm->end, VM_END_KVM, "%s", e.text);
}

int vm_snapshot_check(struct vm *vm, struct err *e)
{
	int status = 0, r;

	(void)waitpid(vm->snapshot.pid, &status, 0); /* it is our child, and has ended */
	close(vm->snapshot.pidfd);
	vm->snapshot.pidfd = -1;
	vm->snapshot.pid = 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	r = WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
	return WIFEXITED(status) ?
		       err_neg(e, r, "write the snapshot") :
		       err_set(e, r, "the process that writes the snapshot has died of signal %d", WTERMSIG(status));
}
