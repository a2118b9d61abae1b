/*
 * Pausing the vCPUs, and what can be seen while they are paused.
 *
 * The main thread sets park.wanted, kicks every vCPU and waits until all have come; a vCPU that leaves KVM_RUN by the kick
 * finds the flag, says once that it has come, and waits for the end of the pause: nothing wakes it before. No loop is
 * involved, so a pause cannot deadlock with a vCPU that is inside loop_call: it parks when the call has returned.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <time.h>

#include "vmm/vm/vm.h"

#define HALT_CHECK_PAUSE_MS 100

static unsigned count_parked(const struct vm *vm)
{
	unsigned n = 0;

	for (unsigned i = 0; i < vm->num_vcpus; i++)
		n += vm->vcpu[i].parked;
	return n;
}

bool vm_pause(struct vm *vm, unsigned timeout_ms)
{
	struct timespec deadline;
	bool all;

	clock_gettime(CLOCK_MONOTONIC, &deadline);
	deadline.tv_sec += timeout_ms / 1000;
	deadline.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	if (deadline.tv_nsec >= 1000000000) {
		deadline.tv_nsec -= 1000000000;
		deadline.tv_sec++;
	}
	pthread_mutex_lock(&vm->park.lock);
	vm->park.wanted = true;
	for (unsigned i = 0; i < vm->num_vcpus; i++)
		vcpu_kick(&vm->vcpu[i]);
	while (!(all = count_parked(vm) == vm->num_vcpus)) {
		if (pthread_cond_clockwait(&vm->park.came, &vm->park.lock, CLOCK_MONOTONIC, &deadline) == ETIMEDOUT)
			break;
	}
	pthread_mutex_unlock(&vm->park.lock);
	return all;
}

void vm_resume(struct vm *vm)
{
	pthread_mutex_lock(&vm->park.lock);
	vm->park.wanted = false;
	pthread_cond_broadcast(&vm->park.resumed);
	pthread_mutex_unlock(&vm->park.lock);
}

void vm_park(struct vm *vm, struct vcpu *v)
{
	pthread_mutex_lock(&vm->park.lock);
	if (vm->park.wanted && vm_may_run(vm)) {
		v->parked = true;
		pthread_cond_signal(&vm->park.came);
		while (vm->park.wanted && vm_may_run(vm))
			pthread_cond_wait(&vm->park.resumed, &vm->park.lock);
		v->parked = false;
	}
	pthread_mutex_unlock(&vm->park.lock);
}

void vm_go(struct vm *vm, struct vcpu *v)
{
	pthread_mutex_lock(&vm->park.lock);
	v->gone = true;
	pthread_cond_signal(&vm->park.came);
	for (;;)
		pthread_cond_wait(&vm->park.resumed, &vm->park.lock);
}

void vm_await_gone(struct vm *vm, const struct vcpu *v)
{
	pthread_mutex_lock(&vm->park.lock);
	while (!v->gone)
		pthread_cond_wait(&vm->park.came, &vm->park.lock);
	pthread_mutex_unlock(&vm->park.lock);
}

/* The vCPU is parked. */
static bool vcpu_is_dead(const struct vcpu *v)
{
	struct kvm_mp_state state;

	if (ioctl(v->fd, KVM_GET_MP_STATE, &state) < 0)
		return false;
	switch (state.mp_state) {
	case KVM_MP_STATE_HALTED:
		return !v->run->if_flag;
	case KVM_MP_STATE_UNINITIALIZED: /* waits for INIT or SIPI, which only another vCPU could send */
	case KVM_MP_STATE_INIT_RECEIVED:
		return true;
	default:
		return false;
	}
}

bool vm_is_halted(struct vm *vm)
{
	bool dead = vm_pause(vm, HALT_CHECK_PAUSE_MS);

	if (!dead)
		vm_active(vm); /* a vCPU waits for a loop, and may halt when that has answered: look again */
	for (unsigned i = 0; dead && i < vm->num_vcpus; i++)
		dead = vcpu_is_dead(&vm->vcpu[i]);
	vm_resume(vm);
	return dead;
}
