/*
 * The state of a vCPU in a snapshot; see cpu_state.h.
 *
 * The order of restoring matters: CPUID first, since it decides which MSRs exist; the
 * state of an AP that was never started; registers with the APIC base, then the local
 * APIC; MSRs, of which the TSC's deadline is last, since it needs the timer's mode (LVTT)
 * and the TSC; pending events at the end, because KVM_SET_SREGS drops some of them.
 *
 * An MSR that KVM lists but cannot read is none of this vCPU's. One that was 0 and cannot
 * be set was not used.
 */
#include "vmm/vm/cpu_state.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/core/kvm.h"
#include "vmm/core/state.h"
#include "vmm/vm/cpu_fields.h"

#define MSR_IA32_TSC_DEADLINE 0x6e0
#define CPU_MSR_LEN 12 /* in the section */
#define XSAVE_MIN sizeof(struct kvm_xsave)
#define TSC_PPM_MAX 250 /* what Linux takes for the same frequency */

static int call(int fd, unsigned long request, const char *name, void *arg, struct err *e)
{
	return ioctl(fd, request, arg) < 0 ? err_sys(e, "%s", name) : 0;
}

#define CALL(fd, request, arg, e) call(fd, request, #request, arg, e)

/* How many bytes KVM_GET_XSAVE2 fills and KVM_SET_XSAVE reads; 0: there is no such call, and it is struct kvm_xsave. */
static unsigned xsave_size(const struct kvm *k)
{
	int size = ioctl(k->fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);

	return size > 0 ? (unsigned)size : 0;
}

static bool has_sregs2(const struct kvm *k)
{
	return ioctl(k->fd, KVM_CHECK_EXTENSION, KVM_CAP_SREGS2) > 0;
}

/* KVM stops at an MSR that it cannot read: it goes. */
static int get_msrs(const struct kvm *k, int vcpu_fd, struct kvm_msrs *ret, struct err *e)
{
	MF_FREE struct kvm_msr_list *list = calloc(1, sizeof(*list) + CPU_MSRS_MAX * sizeof(list->indices[0]));
	MF_FREE struct kvm_msrs *some = calloc(1, sizeof(*some) + CPU_MSRS_MAX * sizeof(some->entries[0]));
	unsigned at = 0;

	if (!list || !some)
		return err_set(e, -ENOMEM, "out of memory");
	list->nmsrs = CPU_MSRS_MAX;
	if (CALL(k->fd, KVM_GET_MSR_INDEX_LIST, list, e) < 0)
		return e->code;
	while (at < list->nmsrs) {
		int n;

		some->nmsrs = list->nmsrs - at;
		for (unsigned i = 0; i < some->nmsrs; i++)
			some->entries[i] = (struct kvm_msr_entry){ .index = list->indices[at + i] };
		n = ioctl(vcpu_fd, KVM_GET_MSRS, some);
		if (n < 0)
			return err_sys(e, "KVM_GET_MSRS");
		memcpy(&ret->entries[ret->nmsrs], some->entries, (size_t)n * sizeof(some->entries[0]));
		ret->nmsrs += (unsigned)n;
		at += (unsigned)n + 1;
	}
	return 0;
}

static int get_sregs(const struct kvm *k, int vcpu_fd, struct cpu_state *s, struct err *e)
{
	struct kvm_sregs old;

	if (CALL(vcpu_fd, KVM_GET_SREGS, &old, e) < 0)
		return e->code;
	memcpy(s->interrupts, old.interrupt_bitmap, sizeof(s->interrupts));
	if (has_sregs2(k))
		return CALL(vcpu_fd, KVM_GET_SREGS2, &s->sregs, e);
	s->sregs = (struct kvm_sregs2){
		.cs = old.cs,
		.ds = old.ds,
		.es = old.es,
		.fs = old.fs,
		.gs = old.gs,
		.ss = old.ss,
		.tr = old.tr,
		.ldt = old.ldt,
		.gdt = old.gdt,
		.idt = old.idt,
		.cr0 = old.cr0,
		.cr2 = old.cr2,
		.cr3 = old.cr3,
		.cr4 = old.cr4,
		.cr8 = old.cr8,
		.efer = old.efer,
		.apic_base = old.apic_base,
	};
	return 0;
}

static int check_sregs(const struct kvm *k, const struct cpu_state *s, struct err *e)
{
	if (s->sregs.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID && !has_sregs2(k))
		return err_set(e, -ENOTSUP, "the snapshot's guest uses PAE, and this host has no KVM_CAP_SREGS2");
	return 0;
}

/* The bitmap of interrupts exists in the older call alone, which reads the page directory pointers from guest memory. */
static int set_sregs(const struct kvm *k, int vcpu_fd, struct cpu_state *s, struct err *e)
{
	struct kvm_sregs2 *new = &s->sregs;
	struct kvm_sregs old = {
		.cs = new->cs,
		.ds = new->ds,
		.es = new->es,
		.fs = new->fs,
		.gs = new->gs,
		.ss = new->ss,
		.tr = new->tr,
		.ldt = new->ldt,
		.gdt = new->gdt,
		.idt = new->idt,
		.cr0 = new->cr0,
		.cr2 = new->cr2,
		.cr3 = new->cr3,
		.cr4 = new->cr4,
		.cr8 = new->cr8,
		.efer = new->efer,
		.apic_base = new->apic_base,
	};

	memcpy(old.interrupt_bitmap, s->interrupts, sizeof(s->interrupts));
	if (CALL(vcpu_fd, KVM_SET_SREGS, &old, e) < 0)
		return e->code;
	if (!(new->flags &KVM_SREGS2_FLAGS_PDPTRS_VALID))
		return 0;
	return check_sregs(k, s, e) < 0 ? e->code : CALL(vcpu_fd, KVM_SET_SREGS2, new, e);
}

int cpu_state_save(const struct kvm *k, int vcpu_fd, unsigned id, struct state_out *out, struct err *e)
{
	struct cpu_state *s = cpu_fields_new(CPU_MSRS_MAX, CPU_XSAVE_MAX);
	unsigned size = xsave_size(k);
	int khz = ioctl(vcpu_fd, KVM_GET_TSC_KHZ, 0), r;

	if (!s)
		return err_set(e, -ENOMEM, "vCPU %u: out of memory", id);
	s->tsc_khz = khz > 0 ? (__u32)khz : 0;
	s->xsave_len = size ? size : XSAVE_MIN;
	/* First: it delivers what an AP has to accept. */
	r = CALL(vcpu_fd, KVM_GET_MP_STATE, &s->mp, e);
	if (!r)
		r = CALL(vcpu_fd, KVM_GET_REGS, &s->regs, e);
	if (!r)
		r = get_sregs(k, vcpu_fd, s, e);
	if (!r && s->xsave_len > CPU_XSAVE_MAX)
		r = err_set(e, -EFBIG, "XSAVE has %u bytes", s->xsave_len);
	if (!r)
		r = size ? CALL(vcpu_fd, KVM_GET_XSAVE2, s->xsave, e) : CALL(vcpu_fd, KVM_GET_XSAVE, s->xsave, e);
	if (!r)
		r = CALL(vcpu_fd, KVM_GET_XCRS, &s->xcrs, e);
	if (!r)
		r = CALL(vcpu_fd, KVM_GET_DEBUGREGS, &s->debug, e);
	if (!r)
		r = CALL(vcpu_fd, KVM_GET_LAPIC, &s->lapic, e);
	if (!r)
		r = get_msrs(k, vcpu_fd, s->msrs, e);
	if (!r)
		r = CALL(vcpu_fd, KVM_GET_VCPU_EVENTS, &s->events, e);
	if (!r) {
		state_begin(out, CPU_STATE_TAG, id, CPU_STATE_VERSION);
		cpu_fields_put(s, out);
		state_end(out);
	}
	cpu_fields_free(s);
	return r ? err_wrap(e, "vCPU %u", id) : 0;
}

static bool can_scale_tsc(const struct kvm *k)
{
	return ioctl(k->fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_CONTROL) > 0;
}

/* Whether a guest notices that its TSC has not so many kHz, but the host's. */
static bool tsc_differs(uint64_t khz, int host)
{
	uint64_t differs = host > 0 ? (uint64_t)llabs((long long)khz - host) : 0;

	return khz && differs * 1000000 > (uint64_t)(host > 0 ? host : 0) * TSC_PPM_MAX;
}

static int refuse_tsc(uint64_t khz, int host, struct err *e)
{
	return err_set(e, -ENOTSUP, "the snapshot's TSC has %llu kHz, this host's %d kHz, and it cannot scale that",
		       (unsigned long long)khz, host);
}

static int set_tsc_khz(const struct kvm *k, int vcpu_fd, uint64_t khz, struct err *e)
{
	int host = ioctl(vcpu_fd, KVM_GET_TSC_KHZ, 0);

	if (!tsc_differs(khz, host))
		return 0;
	if (!can_scale_tsc(k))
		return refuse_tsc(khz, host, e);
	return ioctl(vcpu_fd, KVM_SET_TSC_KHZ, (unsigned long)khz) < 0 ? err_sys(e, "KVM_SET_TSC_KHZ") : 0;
}

/* size: as xsave_size has it. */
static int check_xsave(unsigned size, const struct cpu_state *s, struct err *e)
{
	if (s->xsave_len > (size ? size : XSAVE_MIN))
		return err_set(e, -ENOTSUP, "the snapshot's CPU has %u bytes of XSAVE, this host's %u", s->xsave_len,
			       size ? size : (unsigned)XSAVE_MIN);
	return 0;
}

static int set_xsave(int vcpu_fd, unsigned size, struct cpu_state *s, struct err *e)
{
	return check_xsave(size, s, e) < 0 ? e->code : CALL(vcpu_fd, KVM_SET_XSAVE, s->xsave, e);
}

/* In their order, which ends with the deadline of the TSC. */
static int set_msrs(int vcpu_fd, struct kvm_msrs *m, struct err *e)
{
	struct kvm_msr_entry last;
	unsigned num = m->nmsrs;

	for (unsigned i = 0; i + 1 < num; i++) {
		if (m->entries[i].index != MSR_IA32_TSC_DEADLINE)
			continue;
		last = m->entries[i];
		memmove(&m->entries[i], &m->entries[i + 1], (num - i - 1) * sizeof(last));
		m->entries[num - 1] = last;
		break;
	}
	while (num > 0) {
		int n = ioctl(vcpu_fd, KVM_SET_MSRS, m);

		if (n < 0)
			return err_sys(e, "KVM_SET_MSRS");
		if ((unsigned)n >= num)
			return 0;
		if (m->entries[n].data)
			return err_set(e, -ENOTSUP, "the snapshot's MSR 0x%x is 0x%llx, and this host refuses that",
				       m->entries[n].index, (unsigned long long)m->entries[n].data);
		num -= (unsigned)n + 1;
		memmove(&m->entries[0], &m->entries[n + 1], num * sizeof(m->entries[0]));
		m->nmsrs = num;
	}
	return 0;
}

static int cpu_state_set(const struct kvm *k, int vcpu_fd, unsigned size, struct cpu_state *s, struct err *e)
{
	int r = set_tsc_khz(k, vcpu_fd, s->tsc_khz, e);

	if (!r)
		r = CALL(vcpu_fd, KVM_SET_MP_STATE, &s->mp, e);
	if (!r)
		r = CALL(vcpu_fd, KVM_SET_REGS, &s->regs, e);
	if (!r)
		r = set_sregs(k, vcpu_fd, s, e);
	if (!r)
		r = set_xsave(vcpu_fd, size, s, e);
	if (!r)
		r = CALL(vcpu_fd, KVM_SET_XCRS, &s->xcrs, e);
	if (!r)
		r = CALL(vcpu_fd, KVM_SET_DEBUGREGS, &s->debug, e);
	if (!r)
		r = CALL(vcpu_fd, KVM_SET_LAPIC, &s->lapic, e);
	if (!r)
		r = set_msrs(vcpu_fd, s->msrs, e);
	if (!r)
		r = CALL(vcpu_fd, KVM_SET_VCPU_EVENTS, &s->events, e);
	return r;
}

/* Reads the section of a vCPU. The caller frees *ret. size: as xsave_size has it. */
static int cpu_state_read(struct cpu_state **ret, unsigned size, unsigned id, struct state_in *in, struct err *e)
{
	size_t left;

	if (state_open(in, CPU_STATE_TAG, id, CPU_STATE_VERSION, e) < 0)
		return e->code;
	/* As much as the section can have, and KVM reads. */
	left = state_left(in);
	*ret = cpu_fields_new((__u32)MF_MIN(left / CPU_MSR_LEN, (size_t)CPU_MSRS_MAX),
			      MF_MAX((__u32)MF_MIN(left, (size_t)CPU_XSAVE_MAX), size ? size : (unsigned)XSAVE_MIN));
	if (!*ret)
		return err_set(e, -ENOMEM, "out of memory");
	cpu_fields_get(*ret, in);
	return state_close(in, e);
}

int cpu_state_restore(const struct kvm *k, int vcpu_fd, unsigned id, struct state_in *in, struct err *e)
{
	unsigned size = xsave_size(k);
	struct cpu_state *s = NULL;
	int r = cpu_state_read(&s, size, id, in, e);

	if (!r)
		r = cpu_state_set(k, vcpu_fd, size, s, e);
	cpu_fields_free(s);
	return r ? err_wrap(e, "vCPU %u", id) : 0;
}

/* The frequency of a VM is that of its host; a kernel before 5.18 says it of a vCPU only, so it is checked then. */
static int check_tsc(struct kvm *k, uint64_t khz, struct err *e)
{
	int host;

	if (!khz || can_scale_tsc(k))
		return 0;
	if (kvm_init(k, e) < 0)
		return e->code;
	host = ioctl(k->vm_fd, KVM_GET_TSC_KHZ, 0);
	return tsc_differs(khz, host) ? refuse_tsc(khz, host, e) : 0;
}

/* An MSR that KVM does not list cannot be saved again. */
static int check_msrs(const struct kvm *k, const struct kvm_msrs *m, struct err *e)
{
	MF_FREE struct kvm_msr_list *list = calloc(1, sizeof(*list) + CPU_MSRS_MAX * sizeof(list->indices[0]));
	unsigned at = 0;

	if (!list)
		return err_set(e, -ENOMEM, "out of memory");
	list->nmsrs = CPU_MSRS_MAX;
	if (CALL(k->fd, KVM_GET_MSR_INDEX_LIST, list, e) < 0)
		return e->code;
	for (unsigned i = 0; i < m->nmsrs; i++) {
		const struct kvm_msr_entry *entry = &m->entries[i];
		unsigned tries = 0;

		/* Both are in KVM's order, so most are found where the last one was. */
		while (tries < list->nmsrs && list->indices[at % list->nmsrs] != entry->index) {
			at++;
			tries++;
		}
		if (tries == list->nmsrs && entry->data)
			return err_set(e, -ENOTSUP, "the snapshot's MSR 0x%x is 0x%llx, and this host has none",
				       entry->index, (unsigned long long)entry->data);
	}
	return 0;
}

int cpu_state_check(struct kvm *k, unsigned id, struct state_in *in, struct err *e)
{
	unsigned size = xsave_size(k);
	struct cpu_state *s = NULL;
	int r = cpu_state_read(&s, size, id, in, e);

	if (!r)
		r = check_xsave(size, s, e);
	if (!r)
		r = check_sregs(k, s, e);
	if (!r)
		r = check_msrs(k, s->msrs, e);
	if (!r)
		r = check_tsc(k, s->tsc_khz, e);
	cpu_fields_free(s);
	return r ? err_wrap(e, "vCPU %u", id) : 0;
}

#ifndef KVM_CLOCK_REALTIME
#define KVM_CLOCK_REALTIME (1 << 2)
#endif

int cpu_clock_save(const struct kvm *k, struct state_out *out, struct err *e)
{
	struct kvm_clock_data clock = { 0 };
	struct timespec now;

	if (CALL(k->vm_fd, KVM_GET_CLOCK, &clock, e) < 0)
		return e->code;
	(void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail */
	if (!(clock.flags & KVM_CLOCK_REALTIME))
		clock.realtime = (__u64)now.tv_sec * 1000000000U + (__u64)now.tv_nsec;
	state_begin(out, CPU_CLOCK_TAG, 0, CPU_CLOCK_VERSION);
	state_put_u64(out, clock.clock);
	state_put_u64(out, clock.realtime);
	state_end(out);
	return 0;
}

int cpu_clock_restore(const struct kvm *k, bool catch_up, struct state_in *in, struct err *e)
{
	struct kvm_clock_data clock = { 0 };
	struct timespec now;
	uint64_t now_ns;

	if (state_open(in, CPU_CLOCK_TAG, 0, CPU_CLOCK_VERSION, e) < 0)
		return e->code;
	clock.clock = state_get_u64(in);
	clock.realtime = state_get_u64(in);
	if (clock.clock >> 63 || clock.realtime >> 63)
		state_refuse(in, "a time after the year 2262");
	if (state_close(in, e) < 0)
		return e->code;
	(void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail */
	now_ns = (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
	if (catch_up && now_ns > clock.realtime && clock.clock + (now_ns - clock.realtime) <= INT64_MAX)
		clock.clock += now_ns - clock.realtime;
	return CALL(k->vm_fd, KVM_SET_CLOCK, &clock, e);
}

void cpu_clock_paused(int vcpu_fd)
{
	/* Fails if the guest does not use kvm-clock: then there is nothing to tell. */
	(void)ioctl(vcpu_fd, KVM_KVMCLOCK_CTRL, 0);
}
