/* Applies a CPU template (config_cpu.h) to a VM that is being built. Main thread; 0 or -errno with e set. */
#ifndef MF_VM_CPU_CHANGE_H
#define MF_VM_CPU_CHANGE_H

struct config_cpu;
struct cpu_template;
struct err;
struct kvm;
struct kvm_cpuid2;

/* Changes bits of entries that there are. Another entry: -ENOTSUP. */
int cpu_change_cpuid(struct kvm_cpuid2 *cpuid, const struct config_cpu *c, struct err *e);

/* That, and whether the host has the capabilities. Before cpu_setup. What the APIC ids and the timers need stays. */
int cpu_change_template(struct cpu_template *t, const struct kvm *k, const struct config_cpu *c, struct err *e);

/* The MSRs of a vCPU, after cpu_setup. One that the host lacks, or a value that it refuses: -ENOTSUP. */
int cpu_change_msrs(int vcpu_fd, const struct config_cpu *c, struct err *e);

#endif
