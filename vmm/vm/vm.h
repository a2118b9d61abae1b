/*
 * The VM: owns everything, in the order in which it is built. vm.c builds and ends it; vcpu.c runs it.
 */
#ifndef MF_VM_VM_H
#define MF_VM_VM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "vmm/config/config.h"
#include "vmm/core/bus.h"
#include "vmm/core/kvm.h"
#include "vmm/core/mem.h"
#include "vmm/guest/console_scan.h"
#include "vmm/platform/acpi_pm.h"
#include "vmm/platform/i8042.h"
#include "vmm/process/confine.h"
#include "vmm/vm/halt.h"
#include "vmm/vm/vcpu.h"

struct guest_client;
struct helpers;
struct console;
struct err;
struct ioapic;
struct loop;
struct mmio;
struct serial;
struct timeline;
struct virtio_dev;

/* Why a VM ended; the first reason stands. */
enum vm_end_reason {
	VM_RUNNING,
	VM_END_RESET,	     /* the guest asked for a reset (i8042, ACPI or a system event) */
	VM_END_POWEROFF,     /* the guest switched itself off (ACPI) */
	VM_END_TRIPLE_FAULT, /* how Linux reboots with reboot=t, and what a kernel's last crash looks like */
	VM_END_HALT,	     /* every vCPU waits in HLT with interrupts off */
	VM_END_KVM,	     /* KVM gave up, or an exit that we do not know */
	VM_END_QUIT,	     /* the user typed Ctrl-A x */
	VM_END_SIGNAL,	     /* SIGTERM and its kind, by number in end.signal */
	VM_END_TIMEOUT,	     /* the time limit has passed */
	VM_END_COMMAND,	     /* the command is over, with end.status */
	VM_END_INIT,	     /* init in the guest could not do its work */
};

struct vm {
	const struct config *config; /* not owned */
	struct timeline *timeline;   /* not owned */
	struct jail_parent *parent;  /* not owned */

	struct confine confine; /* of its threads */
	struct kvm kvm;
	struct mem mem;
	struct bus ports;
	struct bus mmio;
	struct loop *io;	 /* the loop of serial port, drives and networks */
	struct loop *vsock_loop; /* that of the vsock, whose files come and go; or NULL */
	struct ioapic *ioapic;
	struct serial *serial;
	struct console *console;
	struct console_scan scan; /* the io loop's, until output is drained */
	bool console_shown;	  /* the same: the command's output is on the console */
	struct i8042 i8042;
	struct acpi_pm acpi_pm;
	struct guest_client *guest; /* the talk with init, if there is a command; or NULL */
	struct virtio_dev *vsock;   /* one of dev, or NULL */
	unsigned max_conns;	    /* of it */
	struct virtio_dev *dev[CONFIG_DEVICES_MAX];
	struct mmio *transport[CONFIG_DEVICES_MAX];
	unsigned num_devs;
	struct vcpu vcpu[CONFIG_CPUS_MAX];
	unsigned num_vcpus;

	struct {
		pthread_mutex_t lock;
		atomic_int reason; /* enum vm_end_reason */
		int signal;
		unsigned status; /* of the command */
		bool lost;	 /* output, an artifact or what was written to a drive, and that was said */
		bool oom;	 /* something in the guest was killed for want of memory */
		char text[512];
		int fd; /* eventfd: wakes the main thread */
	} end;

	/* The main thread's, of the end that was asked for and has not come yet (vm_stop.c). */
	struct {
		enum vm_end_reason reason; /* VM_RUNNING: none was */
		uint64_t hard_ms;	   /* when a guest that was asked to end is ended; 0: it was not asked */
		uint64_t int_ms;	   /* when the last SIGINT came */
	} stop;

	struct halt halt; /* when to look whether it has, for ever */

	struct {
		pthread_mutex_t lock;
		pthread_cond_t came;	/* a vCPU has parked, or gone: the main thread waits for it */
		pthread_cond_t resumed; /* vCPUs wait for it */
		bool wanted;
	} park;
};

/*
 * Builds a VM from config (checked, kept), runs it until it ends, reports why on stderr, and returns the exit status of
 * mayfly (exit_status.h). Main thread.
 */
int vm_main(const struct config *config, struct timeline *timeline, struct jail_parent *parent);

/* Whether keys go to the guest as they are. */
bool vm_wants_raw(const struct config *config);

/*
 * Builds everything that config asks for (vm_build.c), into a vm that vm_main has initialised. Returns 0 or -errno with e
 * set; what was built until then is vm_main's to free. Main thread, before any vCPU runs.
 */
int vm_build(struct vm *vm, struct err *e);

/* Ends the VM with a reason and a phrase for the user; the first call counts. Any thread. */
void vm_end(struct vm *vm, enum vm_end_reason reason, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* False once the VM has ended: vCPU threads then return. */
bool vm_may_run(struct vm *vm);

/* The guest has done something (an exit to us), or is told something (an interrupt of ours). vCPUs and loops. */
void vm_active(struct vm *vm);

/*
 * Pausing (vm_pause.c). vm_pause kicks all vCPUs out of KVM_RUN and returns true when each has parked, false if one did
 * not within timeout_ms (it may be inside loop_call on a slow drive); vm_resume must follow in both cases. Main thread.
 */
bool vm_pause(struct vm *vm, unsigned timeout_ms);
void vm_resume(struct vm *vm);

/* For a vCPU thread that has left KVM_RUN: returns at once, or when the main thread ends a pause. */
void vm_park(struct vm *vm, struct vcpu *v);

/* vm_go: a vCPU thread has done its last for the VM; it waits for the end of the process. vm_await_gone: for that call. */
void vm_go(struct vm *vm, struct vcpu *v) __attribute__((noreturn));
void vm_await_gone(struct vm *vm, const struct vcpu *v);

/* Whether no vCPU can ever run again: each is halted with interrupts off, or was never started. Main thread. */
bool vm_is_halted(struct vm *vm);

/*
 * How a VM is made to end (vm_stop.c). Main thread.
 *
 * vm_stop_timeout: how long poll(2) may wait, max_ms at most. vm_stop_check: does what is due by now. vm_take_signal: a
 * signal of mayfly's. vm_report: says why the VM has ended, and returns the status.
 */
int vm_stop_timeout(const struct vm *vm, int max_ms);
void vm_stop_check(struct vm *vm);
void vm_take_signal(struct vm *vm, int signo);
int vm_report(const struct vm *vm);

/* What the guest's init reports. */
extern const struct guest_client_ops vm_guest_ops;

#endif
