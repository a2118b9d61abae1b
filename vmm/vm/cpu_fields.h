/*
 * What a vCPU's section of a snapshot has, as KVM has it, and its form in the file; see
 * cpu_state.h, which has the calls of KVM.
 */
#ifndef MF_VM_CPU_FIELDS_H
#define MF_VM_CPU_FIELDS_H

#include <linux/kvm.h>
#include <stdint.h>

struct state_in;
struct state_out;

#define CPU_MSRS_MAX 512
#define CPU_XSAVE_MAX 65536U

struct cpu_state {
	struct kvm_mp_state mp;
	__u32 tsc_khz;
	struct kvm_regs regs;
	struct kvm_sregs2 sregs;
	__u64 interrupts[KVM_NR_INTERRUPTS / 64];
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debug;
	struct kvm_vcpu_events events;
	struct kvm_lapic_state lapic;
	struct kvm_msrs *msrs; /* with room for msrs_max */
	uint8_t *xsave;	       /* of xsave_max bytes, zeroed */
	__u32 xsave_len;
	__u32 msrs_max, xsave_max;
};

/*
 * With room for so many MSRs, and bytes of XSAVE; pages that are not needed would be cleared. Returns NULL if there is no
 * memory. cpu_fields_free accepts NULL.
 */
struct cpu_state *cpu_fields_new(__u32 msrs_max, __u32 xsave_max);
void cpu_fields_free(struct cpu_state *s);

/* Write the payload of a section, and read it. Numbers of things are bounded, and nothing else: KVM checks the rest. */
void cpu_fields_put(struct cpu_state *s, struct state_out *out);
void cpu_fields_get(struct cpu_state *s, struct state_in *in);

#endif
