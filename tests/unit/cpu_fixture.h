/* A host for the state of a vCPU: KVM's ioctl(2). */
#ifndef MF_TESTS_UNIT_CPU_FIXTURE_H
#define MF_TESTS_UNIT_CPU_FIXTURE_H

#include <errno.h>
#include <linux/kvm.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/core/kvm.h"
#include "vmm/core/state.h"
#include "vmm/vm/cpu_fields.h"
#include "vmm/vm/cpu_state.h"

#define KVM_FD 100
#define VM_FD 101
#define VCPU_FD 102
#define DEADLINE 0x6e0
#define MSRS 5
#define CALLS_MAX 64

/* One side: a host and its vCPU. */
static struct host {
	struct cpu_state s;
	struct kvm_msr_entry msr[MSRS];
	bool unreadable[MSRS]; /* KVM lists it, and cannot read it */
	uint32_t refuses;      /* this MSR cannot be set */
	unsigned xsave_size;   /* 0: there is no KVM_CAP_XSAVE2 */
	bool sregs2, tsc_control;
	int khz;
	unsigned long scaled;
	uint8_t xsave[CPU_XSAVE_MAX];
	struct kvm_clock_data clock;
	unsigned long order[CALLS_MAX], fails;
	unsigned calls, vms;
	uint32_t set[MSRS]; /* MSRs in the order in which they were set */
	unsigned num_set;
} host;

static uint8_t file[1 << 18];
static size_t file_len;
static struct err err;
static const struct kvm kvm = { .fd = KVM_FD, .vm_fd = VM_FD };

static int check_extension(unsigned long cap)
{
	switch (cap) {
	case KVM_CAP_XSAVE2:
		return (int)host.xsave_size;
	case KVM_CAP_SREGS2:
		return host.sregs2;
	case KVM_CAP_TSC_CONTROL:
		return host.tsc_control;
	default:
		return 0;
	}
}

static int list_msrs(struct kvm_msr_list *list)
{
	list->nmsrs = MSRS;
	for (unsigned i = 0; i < MSRS; i++)
		list->indices[i] = host.msr[i].index;
	return 0;
}

static int get_msrs(struct kvm_msrs *m)
{
	for (unsigned i = 0; i < m->nmsrs; i++) {
		for (unsigned j = 0; j < MSRS; j++) {
			if (host.msr[j].index != m->entries[i].index)
				continue;
			if (host.unreadable[j])
				return (int)i;
			m->entries[i].data = host.msr[j].data;
		}
	}
	return (int)m->nmsrs;
}

static int set_msrs(const struct kvm_msrs *m)
{
	for (unsigned i = 0; i < m->nmsrs; i++) {
		if (m->entries[i].index == host.refuses)
			return (int)i;
		assert_true(host.num_set < MSRS);
		host.set[host.num_set++] = m->entries[i].index;
		for (unsigned j = 0; j < MSRS; j++)
			if (host.msr[j].index == m->entries[i].index)
				host.msr[j].data = m->entries[i].data;
	}
	return (int)m->nmsrs;
}

static void copy_sregs(struct kvm_sregs *old, struct kvm_sregs2 *new, bool get)
{
#define ONE(field)                                                                                                     \
	if (get)                                                                                                       \
		old->field = new->field;                                                                               \
	else                                                                                                           \
		new->field = old->field
	ONE(cs);
	ONE(ds);
	ONE(es);
	ONE(fs);
	ONE(gs);
	ONE(ss);
	ONE(tr);
	ONE(ldt);
	ONE(gdt);
	ONE(idt);
	ONE(cr0);
	ONE(cr2);
	ONE(cr3);
	ONE(cr4);
	ONE(cr8);
	ONE(efer);
	ONE(apic_base);
#undef ONE
}

#define GET(request, field)                                                                                            \
	case request:                                                                                                  \
		memcpy(arg, &host.s.field, sizeof(host.s.field));                                                      \
		return 0;
#define SET(request, field)                                                                                            \
	case request:                                                                                                  \
		memcpy(&host.s.field, arg, sizeof(host.s.field));                                                      \
		return 0;

static int on_vcpu(unsigned long request, void *arg)
{
	struct kvm_sregs *old = arg;

	switch (request) {
		GET(KVM_GET_MP_STATE, mp)
		SET(KVM_SET_MP_STATE, mp)
		GET(KVM_GET_REGS, regs)
		SET(KVM_SET_REGS, regs)
		GET(KVM_GET_SREGS2, sregs)
		SET(KVM_SET_SREGS2, sregs)
		GET(KVM_GET_XCRS, xcrs)
		SET(KVM_SET_XCRS, xcrs)
		GET(KVM_GET_DEBUGREGS, debug)
		SET(KVM_SET_DEBUGREGS, debug)
		GET(KVM_GET_LAPIC, lapic)
		SET(KVM_SET_LAPIC, lapic)
		GET(KVM_GET_VCPU_EVENTS, events)
		SET(KVM_SET_VCPU_EVENTS, events)
	case KVM_GET_SREGS:
		copy_sregs(old, &host.s.sregs, true);
		memcpy(old->interrupt_bitmap, host.s.interrupts, sizeof(host.s.interrupts));
		return 0;
	case KVM_SET_SREGS:
		copy_sregs(old, &host.s.sregs, false);
		memcpy(host.s.interrupts, old->interrupt_bitmap, sizeof(host.s.interrupts));
		return 0;
	case KVM_GET_XSAVE:
	case KVM_GET_XSAVE2:
		assert_int_equal(request == KVM_GET_XSAVE2, host.xsave_size > 0);
		memcpy(arg, host.xsave, host.xsave_size ? host.xsave_size : sizeof(struct kvm_xsave));
		return 0;
	case KVM_SET_XSAVE: /* reads all of KVM_CAP_XSAVE2 */
		memcpy(host.xsave, arg, host.xsave_size ? host.xsave_size : sizeof(struct kvm_xsave));
		return 0;
	case KVM_GET_MSRS:
		return get_msrs(arg);
	case KVM_SET_MSRS:
		return set_msrs(arg);
	case KVM_GET_TSC_KHZ:
		return host.khz;
	case KVM_SET_TSC_KHZ:
		host.scaled = (unsigned long)arg;
		return 0;
	case KVM_KVMCLOCK_CTRL:
		return 0;
	default:
		fail_msg("unexpected request 0x%lx", request);
		return -1;
	}
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (request == KVM_CHECK_EXTENSION)
		return check_extension((unsigned long)arg);
	assert_true(host.calls < CALLS_MAX);
	host.order[host.calls++] = request;
	if (request == host.fails) {
		errno = EIO;
		return -1;
	}
	if (request == KVM_GET_MSR_INDEX_LIST) {
		assert_int_equal(fd, KVM_FD);
		return list_msrs(arg);
	}
	if (request == KVM_CREATE_VM) {
		assert_int_equal(fd, KVM_FD);
		host.vms++;
		return VM_FD;
	}
	if (fd == VM_FD && request == KVM_SET_TSS_ADDR)
		return 0;
	if (fd == VM_FD && request == KVM_GET_TSC_KHZ)
		return host.khz;
	if (fd == VM_FD) {
		if (request == KVM_GET_CLOCK)
			*(struct kvm_clock_data *)arg = host.clock;
		else
			host.clock = *(struct kvm_clock_data *)arg;
		return 0;
	}
	assert_int_equal(fd, VCPU_FD);
	return on_vcpu(request, arg);
}

static int setup(void **state)
{
	static const uint32_t indices[MSRS] = { 0x10, DEADLINE, 0x174, 0xc0000080, 0x4b564d01 };

	(void)state;
	host = (struct host){ .sregs2 = true, .khz = 2000000, .refuses = 1 };
	for (unsigned i = 0; i < MSRS; i++)
		host.msr[i] = (struct kvm_msr_entry){ .index = indices[i], .data = 0x1000 + i };
	return 0;
}

static void save(void)
{
	struct state_out out;
	int64_t len;

	host.calls = 0;
	state_out_init(&out, file, sizeof(file));
	assert_int_equal(cpu_state_save(&kvm, VCPU_FD, 3, &out, &err), 0);
	len = state_out_finish(&out);
	assert_true(len > 0);
	file_len = (size_t)len;
}

static int restore(void)
{
	struct state_in in;
	int r;

	host.calls = host.num_set = 0;
	assert_int_equal(state_in_init(&in, file, file_len, &err), 0);
	r = cpu_state_restore(&kvm, VCPU_FD, 3, &in, &err);
	return r ? r : state_in_finish(&in, &err);
}

#endif
