/* CPU templates; see cpu_change.h. */
#include "vmm/vm/cpu_change.h"

#include <errno.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "vmm/base/err.h"
#include "vmm/config/config_cpu.h"
#include "vmm/core/kvm.h"
#include "vmm/vm/cpu_x86.h"

static struct kvm_cpuid_entry2 *find(struct kvm_cpuid2 *cpuid, const struct config_cpuid_change *change)
{
	for (unsigned i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];

		if (entry->function == change->leaf && entry->index == change->subleaf && entry->flags == change->flags)
			return entry;
	}
	return NULL;
}

int cpu_change_cpuid(struct kvm_cpuid2 *cpuid, const struct config_cpu *c, struct err *e)
{
	for (unsigned i = 0; i < c->num_cpuid; i++) {
		const struct config_cpuid_change *change = &c->cpuid[i];
		struct kvm_cpuid_entry2 *entry = find(cpuid, change);
		uint32_t *reg;

		if (!entry)
			return err_set(e, -ENOTSUP,
				       "CPU template: the host has no CPUID leaf 0x%x, subleaf 0x%x, with flags 0x%x",
				       change->leaf, change->subleaf, change->flags);
		reg = change->reg == CONFIG_EAX ? &entry->eax :
		      change->reg == CONFIG_EBX ? &entry->ebx :
		      change->reg == CONFIG_ECX ? &entry->ecx :
						  &entry->edx;
		*reg = (*reg & ~change->mask) | (change->value & change->mask);
	}
	return 0;
}

int cpu_change_template(struct cpu_template *t, const struct kvm *k, const struct config_cpu *c, struct err *e)
{
	for (unsigned i = 0; i < c->num_capabilities; i++)
		if (ioctl(k->vm_fd, KVM_CHECK_EXTENSION, (unsigned long)c->capability[i]) <= 0)
			return err_set(e, -ENOTSUP, "CPU template: KVM lacks capability %u", c->capability[i]);
	if (cpu_change_cpuid(cpu_template_cpuid(t), c, e) < 0)
		return e->code;
	cpu_template_adapt(t);
	return 0;
}

static int change_msr(int vcpu_fd, const struct config_msr_change *change, struct err *e)
{
	uint64_t buf[(sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)) / sizeof(uint64_t)] = { 0 };
	struct kvm_msrs *msrs = (struct kvm_msrs *)buf;
	struct kvm_msr_entry *entry = msrs->entries;

	msrs->nmsrs = 1;
	entry->index = change->msr;
	if (ioctl(vcpu_fd, KVM_GET_MSRS, msrs) != 1)
		return err_set(e, -ENOTSUP, "CPU template: the host has no MSR 0x%x", change->msr);
	entry->data = (entry->data & ~change->mask) | (change->value & change->mask);
	if (ioctl(vcpu_fd, KVM_SET_MSRS, msrs) != 1)
		return err_set(e, -ENOTSUP, "CPU template: MSR 0x%x does not take 0x%llx", change->msr,
			       (unsigned long long)entry->data);
	return 0;
}

int cpu_change_msrs(int vcpu_fd, const struct config_cpu *c, struct err *e)
{
	int r = 0;

	for (unsigned i = 0; i < c->num_msrs && !r; i++)
		r = change_msr(vcpu_fd, &c->msr[i], e);
	return r;
}
