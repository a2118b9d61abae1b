/* Building a VM from a snapshot; see vm_state.h, and vm_state.c for the order. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "virtio/device.h"
#include "virtio/image.h"
#include "virtio/mmio.h"
#include "virtio/overlay.h"
#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"
#include "vmm/core/state.h"
#include "vmm/platform/ioapic.h"
#include "vmm/platform/serial.h"
#include "vmm/snapshot/chain.h"
#include "vmm/snapshot/copy.h"
#include "vmm/snapshot/dir.h"
#include "vmm/snapshot/memory.h"
#include "vmm/snapshot/page_server.h"
#include "vmm/snapshot/workingset.h"
#include "vmm/vm/boot.h"
#include "vmm/vm/cpu_state.h"
#include "vmm/vm/cpu_x86.h"
#include "vmm/vm/timeline.h"
#include "vmm/vm/vm.h"
#include "vmm/vm/vm_state.h"

/* Device i as the configuration has it: its kind, and its id, or NULL if it has none. */
static uint32_t vm_device_of(const struct config *c, unsigned i, const char **ret_id)
{
	*ret_id = NULL;
	if (i < c->num_drives) {
		*ret_id = c->drive[i].id;
		return VIRTIO_ID_BLOCK;
	}
	i -= c->num_drives;
	if (i < c->num_nets) {
		*ret_id = c->net[i].id;
		return VIRTIO_ID_NET;
	}
	return VIRTIO_ID_VSOCK;
}

static const char *vm_kind_name(uint32_t device_id)
{
	return device_id == VIRTIO_ID_BLOCK ? "drive" : device_id == VIRTIO_ID_NET ? "net" : "vsock";
}

/* The configuration has the devices of the snapshot, and no others, in their order. */
static int vm_check_devices(const struct config *c, struct state_in *in, unsigned num, struct err *e)
{
	unsigned have = config_num_devices(c);

	for (unsigned i = 0; i < num; i++) {
		uint32_t kind = state_get_u32(in), own;
		uint8_t len = state_get_u8(in);
		const char *text = (const char *)state_get_ptr(in, len), *id;

		if (!text || len > CONFIG_ID_MAX) {
			state_refuse(in, "a device's id");
			return state_close(in, e);
		}
		if (i >= have)
			return err_set(e, -EINVAL,
				       "the snapshot's device %u is %s '%.*s', the configuration's is missing", i,
				       vm_kind_name(kind), (int)len, text);
		own = vm_device_of(c, i, &id);
		/* A template's ids are of no account. */
		if (own != kind || (id && !c->template.used && (strlen(id) != len || memcmp(id, text, len) != 0)))
			return err_set(e, -EINVAL, "the snapshot's device %u is %s '%.*s', the configuration's %s '%s'",
				       i, vm_kind_name(kind), (int)len, text, vm_kind_name(own), id ? id : "");
	}
	if (have > num)
		return err_set(e, -EINVAL, "the snapshot has %u devices, and the configuration %u", num, have);
	return 0;
}

static int vm_check_shape(const struct config *c, struct state_in *in, struct err *e)
{
	uint32_t cpus, num;

	if (state_open(in, VM_TAG, 0, VM_VERSION, e) < 0)
		return e->code;
	cpus = state_get_u32(in);
	num = state_get_u32(in);
	if (!cpus || cpus > CONFIG_CPUS_MAX) {
		state_refuse(in, "number of vCPUs");
		return state_close(in, e);
	}
	if (cpus != c->cpus)
		return err_set(e, -EINVAL, "the snapshot has %u vCPUs, and the configuration %u", cpus, c->cpus);
	return vm_check_devices(c, in, num, e) < 0 ? e->code : state_close(in, e);
}

static int vm_check_sections(const struct state_in *in, struct err *e)
{
	const struct state_section known[] = {
		{ VM_TAG, VM_VERSION },
		{ MEMORY_TAG, MEMORY_VERSION },
		{ CPU_CPUID_TAG, CPU_CPUID_VERSION },
		{ CPU_STATE_TAG, CPU_STATE_VERSION },
		{ CPU_CLOCK_TAG, CPU_CLOCK_VERSION },
		ioapic_section,
		serial_section,
		i8042_section,
		mmio_section,
		{ VM_CONFIG_TAG, VM_CONFIG_VERSION },
	};

	return state_check_sections(in, known, MF_ARRAY_SIZE(known), e);
}

/* The sections of the CPUs, before there is a VM. in is then behind CPUID, whose readers are not vCPUs. */
static int vm_check_cpus(struct restore_host *host, const struct config *c, struct state_in *in, struct err *e)
{
	struct state_in vcpus;
	int r = cpu_template_new(&host->cpu, &host->kvm, c->cpus, e);

	if (!r)
		r = cpu_template_restore(host->cpu, in, e);
	vcpus = *in;
	for (unsigned i = 0; i < c->cpus && !r; i++)
		r = cpu_state_check(&host->kvm, i, &vcpus, e);
	return r;
}

int vm_check_own(const struct config *c, struct state_in *in, struct err *e)
{
	struct memory_map map; /* the chain has it already */

	if (vm_check_sections(in, e) < 0 || vm_check_shape(c, in, e) < 0 || memory_get(&map, in, e) < 0)
		return e->code;
	if (map.size != c->mem)
		return err_set(e, -EINVAL, "the snapshot has %llu MiB of memory, and the configuration %llu",
			       (unsigned long long)(map.size / MIB), (unsigned long long)(c->mem / MIB));
	return 0;
}

static int vm_check_state(struct restore_host *host, const struct config *c, struct chain *chain, struct err *e)
{
	struct state_in *in = &chain->in;

	return vm_check_own(c, in, e) < 0 ? e->code : vm_check_cpus(host, c, in, e);
}

/* The drive writes to it, and the snapshot's stays as it is: it has no name, and ends with the VM. */
static int vm_copy_image(struct config_drive *d, struct err *e)
{
	MF_FREE char *copy = strdup(d->image);
	MF_CLOSE int from = -1;
	MF_CLOSE int to = -1;
	uint64_t size;

	if (!copy)
		return err_set(e, -ENOMEM, "out of memory");
	from = fdio_open_file(d->image, O_RDONLY | O_NOFOLLOW, false, &size, e);
	if (from < 0)
		return from;
	to = overlay_open(dirname(copy), e);
	if (to < 0 || copy_file(from, to, e) < 0)
		return e->code;
	return image_provide_open(d->path, d->direct, mf_take_fd(&to), e);
}

static int vm_copy_images(struct config *c, struct err *e)
{
	for (unsigned i = 0; i < c->num_drives; i++)
		if (c->drive[i].image && vm_copy_image(&c->drive[i], e) < 0)
			return err_wrap(e, "drive '%s'", c->drive[i].id);
	return 0;
}

/* c->restore_chain. */
static int vm_open_chain(struct config *c, struct err *e)
{
	const struct chain_params files = {
		.state = c->restore_state,
		.memory = c->restore_served ? NULL : c->restore_memory,
		.parent = c->restore_parent,
		.merged = c->restore_merged,
	};

	return c->restore_chain ? 0 : chain_open(&c->restore_chain, &files, e);
}

int vm_restore_check(struct config *c, struct err *e)
{
	struct restore_host *host;
	int r = vm_open_chain(c, e);

	if (r < 0)
		return r;
	host = calloc(1, sizeof(*host));
	if (host)
		*host = (struct restore_host){ .pid = getpid(), .kvm = KVM_INIT };
	else
		r = err_set(e, -ENOMEM, "out of memory");
	if (!r && !c->restore_served)
		r = workingset_read(&c->restore_workingset, c->restore_chain->layer[0].dir,
				    &c->restore_chain->layer[0].map, e);
	if (!r)
		r = kvm_probe(&host->kvm, e);
	if (!r) {
		r = vm_check_state(host, c, c->restore_chain, e);
		if (r < 0)
			err_wrap(e, "state '%s'", c->restore_state);
	}
	if (!r)
		r = vm_copy_images(c, e);
	if (r < 0) {
		chain_free(c->restore_chain);
		c->restore_chain = NULL;
		if (host) {
			kvm_done(&host->kvm);
			cpu_template_free(host->cpu);
		}
		free(host);
		return r;
	}
	c->restore_host = host;
	return 0;
}

int vm_check_layer(const char *path, struct err *e)
{
	return overlay_check(path, e);
}

/* The text, which is not terminated, stays where it is. */
static int vm_get_config(struct state_in *in, const char **ret, size_t *ret_len, struct err *e)
{
	if (state_open(in, VM_CONFIG_TAG, 0, VM_CONFIG_VERSION, e) < 0)
		return e->code;
	*ret_len = state_left(in);
	*ret = (const char *)state_get_ptr(in, *ret_len);
	return state_close(in, e);
}

int vm_read_config(struct config *c, char **ret, struct err *e)
{
	struct state_in in, next;
	struct state_raw raw;
	const char *text;
	size_t len;

	if (vm_open_chain(c, e) < 0)
		return e->code;
	next = c->restore_chain->in;
	do {
		in = next;
		if (!state_next(&next, &raw)) {
			*ret = NULL;
			return 0;
		}
	} while (raw.tag != VM_CONFIG_TAG);
	if (vm_get_config(&in, &text, &len, e) < 0)
		return err_wrap(e, "state '%s'", c->restore_state);
	*ret = strndup(text, len);
	return *ret ? 0 : err_set(e, -ENOMEM, "out of memory");
}

/* An image that was not shared with the snapshot is that of the VM, if it is as it was. */
static int vm_find_layer(struct config_drive *d, const char *state, const char *dir, struct err *e)
{
	char **ret = d->overlay ? &d->base : &d->image;
	int len = dir ? asprintf(ret, "%s/" SNAPSHOT_DISKS "/%s", dir, d->id) : asprintf(ret, "%s.%s", state, d->id);

	if (len < 0) {
		*ret = NULL;
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (!d->overlay && (!dir || faccessat(AT_FDCWD, d->image, F_OK, AT_SYMLINK_NOFOLLOW) < 0))
		free(mf_take_ptr(&d->image));
	return 0;
}

int vm_find_layers(struct config *c, const char *dir, struct err *e)
{
	int r = 0;

	for (unsigned i = 0; i < c->num_drives && !r; i++) {
		struct config_drive *d = &c->drive[i];

		/* Another image brings all of its contents. */
		if (!d->replaced && !d->read_only)
			r = vm_find_layer(d, c->restore_state, dir, e);
	}
	return r;
}

static int vm_load_memory(struct vm *vm, struct err *e)
{
	if (!vm->config->restore_served)
		return chain_load(vm->chain, &vm->mem, e);
	vm->uffd = page_server_use(&vm->mem, vm->config->restore_memory, e);
	return vm->uffd < 0 ? err_wrap(e, "mem_backend '%s'", vm->config->restore_memory) : 0;
}

int vm_restore_open(struct vm *vm, struct err *e)
{
	struct chain *chain = vm->config->restore_chain;
	struct restore_host *host = vm->config->restore_host;

	assert(chain && host); /* vm_restore_check was called */
	if (host->pid == getpid()) {
		vm->kvm = host->kvm;
		host->kvm = KVM_INIT;
	}
	vm->cpu = mf_take_ptr(&host->cpu);
	vm->chain = chain;
	vm->restore.data = mf_take_ptr(&chain->data);
	vm->restore.in = chain->in;
	if (mem_init(&vm->mem, vm->config->mem, e) < 0 || vm_load_memory(vm, e) < 0)
		return e->code;
	if (vm->config->restore_workingset)
		workingset_use(vm->config->restore_workingset, &vm->mem,
			       vm->config->restore_command || vm->config->template.used);
	timeline_mark(vm->timeline, TIMELINE_MEMORY);
	return 0;
}

/* A clock that no init of ours corrects catches up with the time that has passed. */
static bool vm_catches_up(const struct vm *vm)
{
	if (vm->config->restore_clock != CONFIG_CLOCK_AUTO)
		return vm->config->restore_clock == CONFIG_CLOCK_CATCHES_UP;
	return !vm->config->command.args.num;
}

int vm_restore_rest(struct vm *vm, struct err *e)
{
	struct state_in *in = &vm->restore.in, next;
	struct state_raw raw;
	const char *text;
	size_t len;
	int r = cpu_clock_restore(&vm->kvm, vm_catches_up(vm), in, e);

	if (!r)
		r = boot_write_vm_id(&vm->mem, e);
	if (!r)
		r = ioapic_restore(vm->ioapic, in, e);
	if (!r)
		ioapic_raise(vm->ioapic, BOOT_GENERATION_LINE); /* which waits until vm_resume */
	if (!r)
		r = serial_restore(vm->serial, in, e);
	if (!r)
		r = i8042_restore(&vm->i8042, in, e);
	for (unsigned i = 0; i < vm->num_devs && !r; i++)
		r = mmio_restore(vm->transport[i], in, e);
	next = *in;
	if (!r && state_next(&next, &raw) && raw.tag == VM_CONFIG_TAG) /* vm_read_config has read it */
		r = vm_get_config(in, &text, &len, e);
	if (!r)
		r = state_in_finish(in, e);
	if (r < 0)
		return err_wrap(e, "state '%s'", vm->config->restore_state);
	serial_resume(vm->serial);
	if (!vm->paused)
		vm_resume(vm);
	free(vm->restore.data);
	vm->restore.data = NULL;
	return 0;
}
