/*
 * The state of a vCPU before its first instruction.
 *
 * CPUID is what KVM supports on this host, fetched once, with four changes:
 * - The hypervisor bit and the TSC-deadline timer are set. Without them Linux assumes bare metal, and calibrates its timers
 *   against a PIT that does not exist.
 * - All vCPUs are cores of one package, without hyper-threads. Linux checks the TSC of each further package for 20 ms.
 * - There is no PMU, and no VMX or SVM: a snapshot would have to hold a nested guest's state.
 *
 * References: Intel SDM 2A CPUID, AMD APM 3 appendix E.
 */
#include "vmm/vm/cpu_x86.h"

#include <asm/processor-flags.h>
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

#include "loader/boot_x86.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/core/kvm.h"
#include "vmm/core/state.h"

#define LEAF1_ECX_TSC_DEADLINE (1U << 24)
#define LEAF1_ECX_HYPERVISOR (1U << 31)
#define LEAF1_EDX_HTT (1U << 28)
#define LEAF1_ECX_VMX (1U << 5)
#define LEAF1_ECX_OSXSAVE (1U << 27)
#define LEAF7_ECX_OSPKE (1U << 4)
#define AMD_ECX_SVM (1U << 2)
#define ADDRESS_BITS 0xffU
#define LEAFB_TYPE_SMT (1U << 8)
#define LEAFB_TYPE_CORE (2U << 8)

#define MSR_IA32_MISC_ENABLE 0x1a0
#define MISC_ENABLE_FAST_STRING 1ULL
#define MSR_MTRR_DEF_TYPE 0x2ff
#define MTRR_DEF_TYPE_ENABLE_WRITE_BACK 0x806ULL

#define EFER_LME (1ULL << 8)
#define EFER_LMA (1ULL << 10)

struct cpu_template {
	unsigned num_cpus;
	struct kvm_cpuid2 cpuid; /* last: with room for CPU_CPUID_MAX entries */
};

/* How many bits number n things. */
static unsigned cpu_bits_for(unsigned n)
{
	unsigned bits = 0;

	while ((1U << bits) < n)
		bits++;
	return bits;
}

static void cpu_drop_entry(struct kvm_cpuid2 *c, unsigned at)
{
	c->nent--;
	memmove(&c->entries[at], &c->entries[at + 1], (c->nent - at) * sizeof(c->entries[0]));
}

/* Leaf 0xb: one hyper-thread per core, all cores in one package. Its successor, leaf 0x1f, is removed. */
static void cpu_set_topology(struct cpu_template *t)
{
	struct kvm_cpuid2 *c = &t->cpuid;
	unsigned max_leaf = 0;

	for (unsigned i = 0; i < c->nent;) {
		struct kvm_cpuid_entry2 *entry = &c->entries[i];

		if (entry->function == 0)
			max_leaf = entry->eax;
		if (entry->function == 0xb || entry->function == 0x1f)
			cpu_drop_entry(c, i);
		else
			i++;
	}
	if (max_leaf < 0xb || c->nent + 3 > CPU_CPUID_MAX)
		return;
	for (unsigned level = 0; level < 3; level++) {
		struct kvm_cpuid_entry2 *entry = &c->entries[c->nent++];

		*entry = (struct kvm_cpuid_entry2){
			.function = 0xb,
			.index = level,
			.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
			.ecx = level,
		};
		if (level == 0) {
			entry->ebx = 1;
			entry->ecx |= LEAFB_TYPE_SMT;
		} else if (level == 1) {
			entry->eax = cpu_bits_for(t->num_cpus);
			entry->ebx = t->num_cpus;
			entry->ecx |= LEAFB_TYPE_CORE;
		}
	}
}

/* The leaves that are equal for all vCPUs. */
static void cpu_set_common(struct cpu_template *t)
{
	unsigned id_bits = cpu_bits_for(t->num_cpus);

	for (unsigned i = 0; i < t->cpuid.nent; i++) {
		struct kvm_cpuid_entry2 *entry = &t->cpuid.entries[i];
		unsigned sharing = (entry->eax >> 5 & 7) < 3 ? 0 : (1U << id_bits) - 1; /* L1 and L2 are a core's own */

		switch (entry->function) {
		case 1:
			entry->ecx |= LEAF1_ECX_HYPERVISOR | LEAF1_ECX_TSC_DEADLINE;
			entry->ecx &= ~LEAF1_ECX_VMX;
			entry->ebx = (entry->ebx & 0xffffU) | (1U << id_bits) << 16;
			if (t->num_cpus > 1)
				entry->edx |= LEAF1_EDX_HTT;
			else
				entry->edx &= ~LEAF1_EDX_HTT;
			break;
		case 4: /* Intel: cores in the package - 1 and logical CPUs per cache - 1 */
			if (entry->eax & 0x1f)
				entry->eax = (entry->eax & 0x3fffU) | ((1U << id_bits) - 1) << 26 | sharing << 14;
			break;
		case 0xa: /* no PMU */
			entry->eax = entry->ebx = entry->ecx = entry->edx = 0;
			break;
		case 0x80000001:
			entry->ecx &= ~AMD_ECX_SVM;
			break;
		case 0x8000000a: /* what SVM can do */
			entry->eax = entry->ebx = entry->ecx = entry->edx = 0;
			break;
		case 0x80000008: /* AMD: cores - 1 and bits of the core's number */
			entry->ecx = (entry->ecx & ~0xf0ffU) | id_bits << 12 | (t->num_cpus - 1);
			break;
		case 0x8000001d: /* AMD: logical CPUs per cache - 1 */
			if (entry->eax & 0x1f)
				entry->eax = (entry->eax & 0x3fffU) | sharing << 14;
			break;
		default:
			break;
		}
	}
}

/* The fields that differ between vCPUs: the APIC id. */
static void cpu_set_apic_id(struct cpu_template *t, unsigned id)
{
	for (unsigned i = 0; i < t->cpuid.nent; i++) {
		struct kvm_cpuid_entry2 *entry = &t->cpuid.entries[i];

		switch (entry->function) {
		case 1:
			entry->ebx = (entry->ebx & 0x00ffffffU) | id << 24;
			break;
		case 0xb:
			entry->edx = id;
			break;
		case 0x8000001e:
			entry->eax = id;
			entry->ebx = id; /* core id, one thread each */
			entry->ecx = 0;	 /* node 0 of 1 */
			break;
		default:
			break;
		}
	}
}

static struct cpu_template *cpu_template_alloc(void)
{
	return calloc(1, sizeof(struct cpu_template) + CPU_CPUID_MAX * sizeof(struct kvm_cpuid_entry2));
}

int cpu_template_new(struct cpu_template **ret, const struct kvm *k, unsigned num_cpus, struct err *e)
{
	MF_FREE struct cpu_template *t = cpu_template_alloc();

	if (!t)
		return err_neg(e, -ENOMEM, "fetch CPUID");
	t->num_cpus = num_cpus;
	t->cpuid.nent = CPU_CPUID_MAX;
	if (ioctl(k->fd, KVM_GET_SUPPORTED_CPUID, &t->cpuid) < 0)
		return err_sys(e, "KVM_GET_SUPPORTED_CPUID");
	cpu_template_adapt(t);
	*ret = mf_take_ptr(&t);
	return 0;
}

struct kvm_cpuid2 *cpu_template_cpuid(struct cpu_template *t)
{
	return &t->cpuid;
}

void cpu_template_adapt(struct cpu_template *t)
{
	cpu_set_topology(t);
	cpu_set_common(t);
}

void cpu_template_free(struct cpu_template *t)
{
	free(t);
}

/* Registers of CPUID in which a bit is a feature, apart from those in ignored, which follow the guest's CR4. */
enum cpu_register { EAX, EBX, ECX, EDX };

static const struct cpu_word {
	uint32_t function, index;
	enum cpu_register reg;
	uint32_t ignored;
} cpu_words[] = {
	{ 1, 0, ECX, LEAF1_ECX_OSXSAVE },
	{ 1, 0, EDX, LEAF1_EDX_HTT },
	{ 7, 0, EBX, 0 },
	{ 7, 0, ECX, LEAF7_ECX_OSPKE },
	{ 7, 0, EDX, 0 },
	{ 7, 1, EAX, 0 },
	{ 7, 1, EDX, 0 },
	{ 7, 2, EDX, 0 },
	{ 0xd, 0, EAX, 0 },
	{ 0xd, 0, EDX, 0 },
	{ 0xd, 1, EAX, 0 },
	{ 0x40000001, 0, EAX, 0 }, /* KVM's */
	{ 0x80000001, 0, ECX, 0 },
	{ 0x80000001, 0, EDX, 0 },
	{ 0x80000007, 0, EDX, 0 },
	{ 0x80000008, 0, EBX, 0 },
	{ 0x80000021, 0, EAX, 0 },
};

static uint32_t cpu_register(const struct kvm_cpuid2 *c, uint32_t function, uint32_t index, enum cpu_register reg)
{
	for (unsigned i = 0; i < c->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &c->entries[i];

		if (e->function == function && (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == index))
			return reg == EAX ? e->eax : reg == EBX ? e->ebx : reg == ECX ? e->ecx : e->edx;
	}
	return 0;
}

static int cpu_check(const struct cpu_template *t, const struct kvm_cpuid2 *wanted, struct err *e)
{
	static const char *const names[] = { "eax", "ebx", "ecx", "edx" };
	unsigned have, want;

	for (enum cpu_register reg = EBX; reg <= EDX; reg++) {
		have = cpu_register(&t->cpuid, 0, 0, reg);
		want = cpu_register(wanted, 0, 0, reg);
		if (have != want)
			return err_set(e, -ENOTSUP,
				       "the snapshot is of another vendor's CPU: CPUID 0 %s is 0x%x there, 0x%x here",
				       names[reg], want, have);
	}
	for (size_t i = 0; i < MF_ARRAY_SIZE(cpu_words); i++) {
		const struct cpu_word *w = &cpu_words[i];

		have = cpu_register(&t->cpuid, w->function, w->index, w->reg) | w->ignored;
		want = cpu_register(wanted, w->function, w->index, w->reg);
		if (want & ~have)
			return err_set(e, -ENOTSUP,
				       "the snapshot's CPU has features that this host lacks: CPUID 0x%x.%u %s is 0x%x "
				       "there, 0x%x here, without 0x%x",
				       w->function, w->index, names[w->reg], want, have, want & ~have);
	}
	have = cpu_register(&t->cpuid, 0x80000008, 0, EAX) & ADDRESS_BITS;
	want = cpu_register(wanted, 0x80000008, 0, EAX) & ADDRESS_BITS;
	if (want > have)
		return err_set(e, -ENOTSUP, "the snapshot's CPU has %u address bits, this host's %u", want, have);
	return 0;
}

void cpu_template_save(const struct cpu_template *t, struct state_out *out)
{
	state_begin(out, CPU_CPUID_TAG, 0, CPU_CPUID_VERSION);
	state_put_u32(out, t->cpuid.nent);
	for (unsigned i = 0; i < t->cpuid.nent; i++) {
		const struct kvm_cpuid_entry2 *entry = &t->cpuid.entries[i];

		state_put_u32(out, entry->function);
		state_put_u32(out, entry->index);
		state_put_u32(out, entry->flags);
		state_put_u32(out, entry->eax);
		state_put_u32(out, entry->ebx);
		state_put_u32(out, entry->ecx);
		state_put_u32(out, entry->edx);
	}
	state_end(out);
}

static void cpu_read_cpuid(struct kvm_cpuid2 *c, struct state_in *in)
{
	c->nent = state_get_u32(in);
	if (c->nent > CPU_CPUID_MAX) {
		state_refuse(in, "number of CPUID entries");
		c->nent = 0;
	}
	for (unsigned i = 0; i < c->nent; i++)
		c->entries[i] = (struct kvm_cpuid_entry2){
			.function = state_get_u32(in),
			.index = state_get_u32(in),
			.flags = state_get_u32(in),
			.eax = state_get_u32(in),
			.ebx = state_get_u32(in),
			.ecx = state_get_u32(in),
			.edx = state_get_u32(in),
		};
}

int cpu_template_restore(struct cpu_template *t, struct state_in *in, struct err *e)
{
	MF_FREE struct cpu_template *saved = cpu_template_alloc();

	if (!saved)
		return err_set(e, -ENOMEM, "out of memory");
	if (state_open(in, CPU_CPUID_TAG, 0, CPU_CPUID_VERSION, e) < 0)
		return e->code;
	cpu_read_cpuid(&saved->cpuid, in);
	if (state_close(in, e) < 0 || cpu_check(t, &saved->cpuid, e) < 0)
		return e->code;
	memcpy(&t->cpuid, &saved->cpuid, sizeof(t->cpuid) + CPU_CPUID_MAX * sizeof(t->cpuid.entries[0]));
	return 0;
}

static int cpu_set_msrs(int vcpu_fd, struct err *e)
{
	static const struct kvm_msr_entry wanted[] = {
		{ .index = MSR_IA32_MISC_ENABLE, .data = MISC_ENABLE_FAST_STRING },
		{ .index = MSR_MTRR_DEF_TYPE, .data = MTRR_DEF_TYPE_ENABLE_WRITE_BACK },
	};
	uint64_t buf[(sizeof(struct kvm_msrs) + sizeof(wanted)) / sizeof(uint64_t)] = { 0 };
	struct kvm_msrs *msrs = (struct kvm_msrs *)buf;
	int n;

	msrs->nmsrs = MF_ARRAY_SIZE(wanted);
	memcpy(msrs->entries, wanted, sizeof(wanted));
	n = ioctl(vcpu_fd, KVM_SET_MSRS, msrs);
	if (n < 0)
		return err_sys(e, "KVM_SET_MSRS");
	if (n != (int)MF_ARRAY_SIZE(wanted))
		return err_set(e, -EINVAL, "KVM_SET_MSRS: MSR 0x%x was refused", wanted[n].index);
	return 0;
}

int cpu_setup(struct cpu_template *t, int vcpu_fd, unsigned id, struct err *e)
{
	cpu_set_apic_id(t, id);
	if (ioctl(vcpu_fd, KVM_SET_CPUID2, &t->cpuid) < 0)
		return err_sys(e, "KVM_SET_CPUID2");
	return cpu_set_msrs(vcpu_fd, e);
}

static struct kvm_segment cpu_flat_segment(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.s = 1,
		.g = 1,
	};
}

int cpu_set_boot_regs(int vcpu_fd, const struct boot_regs *boot, struct err *e)
{
	struct kvm_regs regs = {
		.rip = boot->rip,
		.rsp = boot->rsp,
		.rsi = boot->rsi,
		.rbx = boot->rbx,
		.rflags = X86_EFLAGS_FIXED,
	};
	struct kvm_segment code = cpu_flat_segment(boot->cs, 0xb), data = cpu_flat_segment(boot->ds, 0x3);
	struct kvm_sregs sregs;

	/* Everything that is not set here, above all the APIC base, keeps KVM's value. */
	if (ioctl(vcpu_fd, KVM_GET_SREGS, &sregs) < 0)
		return err_sys(e, "KVM_GET_SREGS");
	data.db = 1;
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.tr = (struct kvm_segment){ .limit = 0x67, .type = 0xb, .present = 1 };
	sregs.gdt = (struct kvm_dtable){ .base = boot->gdt_gpa, .limit = boot->gdt_limit };
	sregs.idt = (struct kvm_dtable){ 0 };
	sregs.cr0 = X86_CR0_PE | X86_CR0_ET;
	if (boot->long_mode) {
		sregs.cs.l = 1;
		sregs.cr0 |= X86_CR0_PG;
		sregs.cr3 = boot->cr3;
		sregs.cr4 = X86_CR4_PAE;
		sregs.efer = EFER_LME | EFER_LMA;
	} else {
		sregs.cs.db = 1;
	}
	if (ioctl(vcpu_fd, KVM_SET_SREGS, &sregs) < 0)
		return err_sys(e, "KVM_SET_SREGS");
	if (ioctl(vcpu_fd, KVM_SET_REGS, &regs) < 0)
		return err_sys(e, "KVM_SET_REGS");
	return 0;
}
