/* The state of a vCPU before its first instruction: CPUID, MSRs and registers of an x86-64 CPU. */
#ifndef MF_VM_CPU_X86_H
#define MF_VM_CPU_X86_H

#include <stdint.h>

struct boot_regs;
struct err;
struct kvm;
struct kvm_cpuid2;
struct state_in;
struct state_out;

#define CPU_CPUID_MAX 256 /* entries; KVM's own limit is as large */

/* The CPUID of all vCPUs, in which only the APIC ids differ. */
struct cpu_template;

/* Fetches the CPUID that this host supports, and adapts it to num_cpus vCPUs. 0 or -errno with e set. */
int cpu_template_new(struct cpu_template **ret, const struct kvm *k, unsigned num_cpus, struct err *e);
void cpu_template_free(struct cpu_template *t);

/* For cpu_change.c: its CPUID; and what mayfly needs in it, again, after changes. */
struct kvm_cpuid2 *cpu_template_cpuid(struct cpu_template *t);
void cpu_template_adapt(struct cpu_template *t);

/*
 * In a snapshot. Restoring: t, which is the host's, becomes the snapshot's. Refuses another
 * vendor, and a feature that the host lacks. Needs no VM. Returns 0 or -errno with e set
 * to what the two sides have.
 */
#define CPU_CPUID_TAG STATE_TAG('c', 'p', 'i', 'd')
#define CPU_CPUID_VERSION 1
void cpu_template_save(const struct cpu_template *t, struct state_out *out);
int cpu_template_restore(struct cpu_template *t, struct state_in *in, struct err *e);

/* Sets the CPUID of vCPU id, then its MSRs: some exist only once CPUID says so. 0 or -errno with e set. */
int cpu_setup(struct cpu_template *t, int vcpu_fd, unsigned id, struct err *e);

/* Sets the boot processor's registers to what the loader has prepared. 0 or -errno with e set. */
int cpu_set_boot_regs(int vcpu_fd, const struct boot_regs *boot, struct err *e);

#endif
