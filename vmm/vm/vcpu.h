/*
 * A vCPU: a KVM fd and the thread that runs it. The thread does KVM_RUN and the exit switch, and nothing else: what an
 * exit needs beyond that is done on a loop or by the main thread.
 */
#ifndef MF_VM_VCPU_H
#define MF_VM_VCPU_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct err;
struct kvm_run;
struct vm;

struct vcpu {
	struct vm *vm;
	unsigned id;
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	bool started;
	atomic_int tid; /* of the thread, once it can be kicked */
	/* Under vm->park.lock. */
	bool parked; /* out of KVM_RUN until vm_resume */
	bool gone;   /* out of it for ever */
};

/* Creates vCPU id of vm in KVM. vcpu_done accepts the result of a failure. 0 or -errno with e set. */
int vcpu_init(struct vcpu *v, struct vm *vm, unsigned id, struct err *e);

/*
 * Waits until the thread, if one was started, has nothing more to do with the VM. The VM has ended and the vCPU was kicked.
 * The thread itself stays until the process ends, so its filter has to allow nothing of how threads end.
 */
void vcpu_join(struct vcpu *v);

/* After vcpu_join. */
void vcpu_done(struct vcpu *v);

/* Starts the thread; the guest runs from here on. */
int vcpu_start(struct vcpu *v, struct err *e);

/* Makes KVM_RUN return soon. Any thread. */
void vcpu_kick(struct vcpu *v);

/* Once per process, before vCPUs start: the signal that ends KVM_RUN gets a handler that does nothing. */
int vcpu_signal_setup(struct err *e);

#endif
