/* Building a VM from a snapshot; see vm_state.h, and vm_state.c for the order. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "virtio/device.h"
#include "virtio/mmio.h"
#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"
#include "vmm/core/state.h"
#include "vmm/platform/ioapic.h"
#include "vmm/platform/serial.h"
#include "vmm/snapshot/chain.h"
#include "vmm/snapshot/memory.h"
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
		if (own != kind || (id && (strlen(id) != len || memcmp(id, text, len) != 0)))
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

static int vm_check_state(struct restore_host *host, const struct config *c, struct chain *chain, struct err *e)
{
	struct memory_map map; /* the chain has it already */
	struct state_in *in = &chain->in;

	if (vm_check_sections(in, e) < 0 || vm_check_shape(c, in, e) < 0 || memory_get(&map, in, e) < 0)
		return e->code;
	if (map.size != c->mem)
		return err_set(e, -EINVAL, "the snapshot has %llu MiB of memory, and the configuration %llu",
			       (unsigned long long)(map.size / MIB), (unsigned long long)(c->mem / MIB));
	return vm_check_cpus(host, c, in, e);
}

int vm_restore_check(struct config *c, struct err *e)
{
	const struct chain_params files = {
		.state = c->restore_state,
		.memory = c->restore_memory,
		.parent = c->restore_parent,
		.merged = c->restore_merged,
	};
	struct restore_host *host = calloc(1, sizeof(*host));
	struct chain *chain = NULL;
	int r = host ? chain_open(&chain, &files, e) : err_set(e, -ENOMEM, "out of memory");

	if (host)
		*host = (struct restore_host){ .pid = getpid(), .kvm = KVM_INIT };
	if (!r)
		r = kvm_probe(&host->kvm, e);
	if (!r) {
		r = vm_check_state(host, c, chain, e);
		if (r < 0)
			err_wrap(e, "state '%s'", c->restore_state);
	}
	if (r < 0) {
		chain_free(chain);
		if (host) {
			kvm_done(&host->kvm);
			cpu_template_free(host->cpu);
		}
		free(host);
		return r;
	}
	c->restore_chain = chain;
	c->restore_host = host;
	return 0;
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
	if (mem_init(&vm->mem, vm->config->mem, e) < 0 || chain_load(chain, &vm->mem, e) < 0)
		return e->code;
	timeline_mark(vm->timeline, TIMELINE_MEMORY);
	return 0;
}

/* A clock that no init of ours corrects catches up with the time that has passed. */
static bool vm_catches_up(const struct vm *vm)
{
	return !vm->config->command.args.num;
}

int vm_restore_rest(struct vm *vm, struct err *e)
{
	struct state_in *in = &vm->restore.in;
	int r = cpu_clock_restore(&vm->kvm, vm_catches_up(vm), in, e);

	if (!r)
		r = boot_write_vm_id(&vm->mem, e);
	if (!r)
		r = ioapic_restore(vm->ioapic, in, e);
	if (!r)
		r = serial_restore(vm->serial, in, e);
	if (!r)
		r = i8042_restore(&vm->i8042, in, e);
	for (unsigned i = 0; i < vm->num_devs && !r; i++)
		r = mmio_restore(vm->transport[i], in, e);
	if (!r)
		r = state_in_finish(in, e);
	if (r < 0)
		return err_wrap(e, "state '%s'", vm->config->restore_state);
	for (unsigned i = 0; i < vm->num_vcpus; i++)
		cpu_clock_paused(vm->vcpu[i].fd);
	ioapic_resume(vm->ioapic);
	serial_resume(vm->serial);
	for (unsigned i = 0; i < vm->num_devs; i++)
		mmio_resume(vm->transport[i]);
	free(vm->restore.data);
	vm->restore.data = NULL;
	return 0;
}
