/*
 * A vCPU: KVM_RUN and the exit switch.
 *
 * Every exit that the guest can cause is either answered (ports and MMIO, by the buses) or ends the VM with a reason
 * (vm_end); none ends the process. Exit reasons that later kernels may add end the VM, which reports their number.
 *
 * Leaving KVM_RUN from outside: immediate_exit is set first, then the signal is sent. A signal that arrives just before
 * KVM_RUN would be lost alone; with the flag KVM_RUN returns -EINTR at once (KVM API, "immediate_exit").
 */
#include "vmm/vm/vcpu.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/bus.h"
#include "vmm/core/kvm.h"
#include "vmm/core/mem.h"
#include "vmm/process/confine.h"
#include "vmm/process/crash.h"
#include "vmm/process/ending.h"
#include "vmm/process/log_relay.h"
#include "vmm/vm/gate.h"
#include "vmm/vm/halt.h"
#include "vmm/vm/timeline.h"
#include "vmm/vm/vm_end.h"

#define VCPU_SIGNAL SIGRTMIN /* not one that a user may send to the command (vm_stop.c) */
#define VCPU_STACK_SIZE (128 * KIB)
#define VCPU_REFUSALS_MAX 1000 /* in a row */

/* KVM exits with IO_IN and IO_OUT of a string instruction carry many items at once. */
static void vcpu_exit_io(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size)
		bus_access(v->env->ports, run->io.port, run->io.direction == KVM_EXIT_IO_OUT, data, run->io.size);
}

static void vcpu_exit_mmio(struct vcpu *v)
{
	struct kvm_run *run = v->run;

	/* The kernel handles RAM, unless a file that backs it was truncated: zeros would corrupt the guest. */
	if (mem_at(v->env->mem, run->mmio.phys_addr, 1)) {
		vm_end(v->env->end, VM_END_KVM,
		       "vCPU %u: the memory behind guest address 0x%llx is lost (kernel file truncated?)", v->id,
		       (unsigned long long)run->mmio.phys_addr);
		return;
	}
	bus_access(v->env->mmio, run->mmio.phys_addr, run->mmio.is_write, run->mmio.data, run->mmio.len);
}

static void vcpu_handle_exit(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	struct vm_end *end = v->env->end;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		vcpu_exit_io(v);
		break;
	case KVM_EXIT_MMIO:
		vcpu_exit_mmio(v);
		break;
	case KVM_EXIT_SHUTDOWN:
		vm_end(end, VM_END_TRIPLE_FAULT, "vCPU %u: triple fault", v->id);
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		vm_end(end, VM_END_RESET, "vCPU %u: KVM_EXIT_SYSTEM_EVENT %u", v->id, run->system_event.type);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		vm_end(end, VM_END_KVM, "vCPU %u: KVM_EXIT_FAIL_ENTRY, hardware reason 0x%llx", v->id,
		       (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		vm_end(end, VM_END_KVM,
		       "vCPU %u: KVM_EXIT_INTERNAL_ERROR, suberror %u: an instruction that KVM cannot emulate; "
		       "'mayfly doctor' says whether this host can run guests",
		       v->id, run->internal.suberror);
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_SET_TPR:
	case KVM_EXIT_IOAPIC_EOI: /* only level-triggered lines need it, and there are none */
		break;
	default:
		vm_end(end, VM_END_KVM, "vCPU %u: unexpected KVM exit %u", v->id, run->exit_reason);
		break;
	}
}

static void vcpu_run(struct vcpu *v)
{
	const struct vcpu_env *env = v->env;
	unsigned refusals = 0;

	while (vm_end_reason(env->end) == VM_RUNNING) {
		if (ioctl(v->fd, KVM_RUN, 0) == 0) {
			refusals = 0;
			if (halt_active(env->halt))
				vm_end_wake(env->end);
			vcpu_handle_exit(v);
		} else if (errno == EINTR) {
			/* Clear the flag before checking why: a later kick sets it again and is not lost. */
			__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
			gate_park(env->gate);
		} else if (errno != EAGAIN || ++refusals > VCPU_REFUSALS_MAX) {
			/* One EAGAIN means that another vCPU has started this one; more, that KVM cannot make a thread. */
			vm_end(env->end, VM_END_KVM, "vCPU %u: KVM_RUN: %s", v->id, strerror(errno));
		}
	}
}

static void *__attribute__((noreturn)) vcpu_thread(void *arg)
{
	struct vcpu *v = arg;
	const struct vcpu_env *env = v->env;
	struct confine_own own = CONFINE_OWN_NONE;
	char name[16]; /* the thread does not return: it may be kept */
	sigset_t kick;
	struct err e;

	snprintf(name, sizeof(name), "vcpu%u", v->id);
	(void)pthread_setname_np(pthread_self(), name); /* for ps; the name is short enough */
	log_set_thread(name);
	log_relay_use();
	crash_thread();
	sigemptyset(&kick);
	sigaddset(&kick, VCPU_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
	atomic_store(&v->tid, gettid());
	if (env->steal)
		atomic_store(&v->steal_fd, open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC));
	own.own = v->fd;
	if (confine_thread(env->confine, THREAD_VCPU, &own, &e) < 0)
		vm_end(env->end, VM_END_KVM, "%s", e.text);
	gate_park(env->gate); /* until the main thread is confined, too */
	if (v->id == 0)
		timeline_mark(env->timeline, TIMELINE_RUN);
	vcpu_run(v);
	gate_leave(env->gate);
}

int vcpu_init(struct vcpu *v, const struct vcpu_env *env, unsigned id, struct err *e)
{
	*v = (struct vcpu){ .env = env, .id = id, .fd = -1, .steal_fd = -1 };
	v->fd = ioctl(env->kvm->vm_fd, KVM_CREATE_VCPU, (unsigned long)id);
	if (v->fd < 0)
		return err_sys(e, "KVM_CREATE_VCPU %u", id);
	v->run = mem_map_guarded(v->fd, env->kvm->run_size);
	return v->run ? 0 : err_sys(e, "map kvm_run of vCPU %u", id);
}

int vcpu_start(struct vcpu *v, struct err *e)
{
	pthread_attr_t attr;
	pthread_t thread;
	int r;

	(void)pthread_attr_init(&attr); /* cannot fail on Linux, nor can a valid size */
	(void)pthread_attr_setstacksize(&attr, VCPU_STACK_SIZE);
	ending_block_all(&attr);
	r = pthread_create(&thread, &attr, vcpu_thread, v);
	pthread_attr_destroy(&attr);
	if (r)
		return err_neg(e, -r, "start the thread of vCPU %u", v->id);
	gate_enter(v->env->gate);
	return 0;
}

void vcpu_kick(struct vcpu *v)
{
	int tid;

	if (!v->run)
		return; /* half built */
	__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	tid = atomic_load(&v->tid);
	/* Not pthread_kill(3), which makes other calls, too. A thread that has no number yet will look at the flag. */
	if (tid)
		(void)syscall(SYS_tgkill, v->env->confine->value[SLOT_PID], tid, VCPU_SIGNAL);
}

bool vcpu_is_dead(const struct vcpu *v)
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

static void vcpu_on_kick(int sig)
{
	(void)sig;
}

int vcpu_signal_setup(struct err *e)
{
	struct sigaction sa = { .sa_handler = vcpu_on_kick };

	return sigaction(VCPU_SIGNAL, &sa, NULL) < 0 ? err_sys(e, "install the vCPU signal") : 0;
}
