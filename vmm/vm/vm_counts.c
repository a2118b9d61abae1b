/* Counters of a VM; see vm_counts.h. */
#include "vmm/vm/vm_counts.h"

#include <inttypes.h>
#include <jansson.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <unistd.h>

#include "virtio/device.h"
#include "vmm/vm/timeline.h"
#include "vmm/vm/vm.h"

bool vm_device_counts(struct vm *vm, unsigned i, const char **ret_id, const char **ret_kind, uint64_t counts[4])
{
	const struct virtio_dev *dev = i < vm->num_devs ? vm->dev[i] : NULL;

	if (!dev)
		return false;
	*ret_id = dev->id;
	*ret_kind = dev->ops->name;
	for (unsigned k = 0; k < 4; k++) {
		const struct dev_counts *c = &dev->counts[k < 2 ? DEV_TO_GUEST : DEV_FROM_GUEST];

		counts[k] = atomic_load_explicit(k % 2 ? &c->bytes : &c->requests, memory_order_relaxed);
	}
	return true;
}

unsigned vm_latency(struct vm *vm, unsigned i, uint64_t *counts, double *ret_unit)
{
	const struct virtio_dev *dev = i < vm->num_devs ? vm->dev[i] : NULL;

	if (!dev || vm->tsc_khz <= 0)
		return 0;
	*ret_unit = VIRTQ_TICK_CYCLES / (vm->tsc_khz * 1e3);
	for (unsigned k = 0; k <= VIRTQ_LATENCIES; k++)
		counts[k] = __atomic_load_n(&dev->vq[dev->ops->device_id == VIRTIO_ID_BLOCK ? 0 : 1].latency[k],
					    __ATOMIC_RELAXED);
	return VIRTQ_LATENCIES;
}

bool vm_steal(struct vm *vm, unsigned i, uint64_t *ret_ns)
{
	const int fd = i < vm->num_vcpus ? atomic_load(&vm->vcpu[i].steal_fd) : -1;
	char text[64] = "";

	return fd >= 0 && pread(fd, text, sizeof(text) - 1, 0) > 0 && sscanf(text, "%*u %" SCNu64, ret_ns) == 1;
}

bool vm_kvm_counter(struct vm *vm, unsigned i, const char **ret_name, uint64_t *ret)
{
	struct kvm_stats *stats = vm->timeline->about ? &vm->timeline->about->kvm : NULL;

	if (stats && i == 0)
		kvm_stats_look(stats);
	if (!stats || i >= stats->num)
		return false;
	*ret_name = stats->stat[i].name;
	*ret = stats->stat[i].value;
	return true;
}

bool vm_phase(struct vm *vm, unsigned i, const char **ret_name, uint64_t *ret_ns)
{
	if (i >= TIMELINE_NUM_STEPS)
		return false;
	*ret_name = timeline_step_name((enum timeline_step)i);
	*ret_ns = atomic_load(&vm->timeline->mark[i].set) ? vm->timeline->mark[i].ns : 0;
	return true;
}

struct json_t *vm_timeline(struct vm *vm)
{
	if (vm->timeline->about)
		kvm_stats_look(&vm->timeline->about->kvm);
	return timeline_json(vm->timeline);
}
