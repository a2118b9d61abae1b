/*
 * The state of a vCPU in a snapshot: registers, MSRs, local APIC, pending events.
 * cpu_x86.h has its CPUID, and the state of one that boots.
 */
#ifndef MF_VM_CPU_STATE_H
#define MF_VM_CPU_STATE_H

#include <stdbool.h>
#include <stdint.h>

struct err;
struct kvm;
struct state_in;
struct state_out;

#define CPU_STATE_TAG STATE_TAG('v', 'c', 'p', 'u')
#define CPU_STATE_VERSION 1
#define CPU_CLOCK_TAG STATE_TAG('c', 'l', 'c', 'k')
#define CPU_CLOCK_VERSION 1

/*
 * Writes the section of vCPU id. Its thread is parked: it has left KVM_RUN with -EINTR, so
 * no exit waits for an answer. Main thread. Returns 0 or -errno with e set.
 */
int cpu_state_save(const struct kvm *k, int vcpu_fd, unsigned id, struct state_out *out, struct err *e);

/*
 * Sets a new vCPU, which has its CPUID (cpu_setup), to what its section says. Refuses a
 * CPU that this host does not have: its MSRs, its XSAVE, and the frequency of its TSC.
 * Returns 0 or -errno with e set.
 */
int cpu_state_restore(const struct kvm *k, int vcpu_fd, unsigned id, struct state_in *in, struct err *e);

/*
 * Refuses, before there is a vCPU, the section of vCPU id of a CPU that this host does not have, as above. k need have no VM
 * yet; without TSC scaling it gets one. Returns 0 or -errno with e set.
 */
int cpu_state_check(struct kvm *k, unsigned id, struct state_in *in, struct err *e);

/*
 * kvm-clock. Restoring: after all vCPUs. catch_up: it goes on from the present time
 * instead of the snapshot's, so that a guest whose clock it is learns how late it is.
 */
int cpu_clock_save(const struct kvm *k, struct state_out *out, struct err *e);
int cpu_clock_restore(const struct kvm *k, bool catch_up, struct state_in *in, struct err *e);

/* The guest was paused, its clock was not: its watchdogs must not notice. */
void cpu_clock_paused(int vcpu_fd);

#endif
