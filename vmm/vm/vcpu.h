/*
 * A vCPU: a KVM fd and the thread that runs it. The thread does KVM_RUN and the exit switch, and nothing else: what an
 * exit needs beyond that is done on a loop or by the main thread.
 */
#ifndef MF_VM_VCPU_H
#define MF_VM_VCPU_H

#include <stdatomic.h>
#include <stdbool.h>

struct bus;
struct confine;
struct err;
struct gate;
struct halt;
struct kvm;
struct kvm_run;
struct mem;
struct timeline;
struct vm_end;

/* What a vCPU knows of its VM. Not owned; the same for all vCPUs, and constant once their threads run. */
struct vcpu_env {
	const struct kvm *kvm;
	const struct mem *mem;
	const struct bus *ports, *mmio;
	const struct confine *confine; /* SLOT_PID of it is the process */
	struct gate *gate;
	struct vm_end *end;
	struct halt *halt;
	struct timeline *timeline;
	bool steal; /* vCPUs have steal_fd */
};

struct vcpu {
	const struct vcpu_env *env;
	unsigned id;
	int fd;
	struct kvm_run *run;
	atomic_int tid;	     /* of the thread, once it can be kicked */
	atomic_int steal_fd; /* how long it has waited for a CPU of the host (/proc/PID/schedstat); or -1 */
};

/* Creates vCPU id in KVM, where it stays until the process ends; env is kept. 0 or -errno with e set. */
int vcpu_init(struct vcpu *v, const struct vcpu_env *env, unsigned id, struct err *e);

/* Starts the thread, which enters the gate: the guest runs from here on, if the gate is open. Main thread. */
int vcpu_start(struct vcpu *v, struct err *e);

/* Makes KVM_RUN return soon, and the thread come to the gate. Accepts the result of a failed vcpu_init. Any thread. */
void vcpu_kick(struct vcpu *v);

/* Whether it can never run again by itself: halted with interrupts off, or never started. It is parked. */
bool vcpu_is_dead(const struct vcpu *v);

/* Once per process, before vCPUs start: the signal that ends KVM_RUN gets a handler that does nothing. */
int vcpu_signal_setup(struct err *e);

#endif
