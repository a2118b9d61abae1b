/*
 * The VM: owns everything, in the order in which it is built. vm_build.c builds it, vm.c serves and closes it.
 */
#ifndef MF_VM_VM_H
#define MF_VM_VM_H

#include <stdbool.h>

#include "vmm/config/config.h"
#include "vmm/core/bus.h"
#include "vmm/core/kvm.h"
#include "vmm/core/mem.h"
#include "vmm/guest/console_scan.h"
#include "vmm/platform/acpi_pm.h"
#include "vmm/platform/i8042.h"
#include "vmm/process/confine.h"
#include "vmm/vm/gate.h"
#include "vmm/vm/halt.h"
#include "vmm/vm/vcpu.h"
#include "vmm/vm/vm_end.h"
#include "vmm/vm/vm_report.h"
#include "vmm/vm/vm_stop.h"

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
	struct console_scan scan; /* written by the io loop, until output is drained */
	bool console_shown;	  /* io loop: the command's output is on the console */
	struct i8042 i8042;
	struct acpi_pm acpi_pm;
	struct guest_client *guest; /* the talk with init, if there is a command; or NULL */
	struct virtio_dev *vsock;   /* one of dev, or NULL */
	unsigned max_conns;	    /* of the vsock */
	struct virtio_dev *dev[CONFIG_DEVICES_MAX];
	struct mmio *transport[CONFIG_DEVICES_MAX];
	unsigned num_devs;
	struct vcpu_env vcpu_env; /* of them all */
	struct vcpu vcpu[CONFIG_CPUS_MAX];
	unsigned num_vcpus;

	struct vm_end end;
	struct vm_stop stop;
	struct vm_outcome outcome;
	struct halt halt; /* when to check whether the guest has halted for good */
	struct gate gate;
};

/*
 * Builds a VM from config (checked, kept), runs it until it ends, reports why on stderr, and returns the exit status of
 * mayfly (exit_status.h). Main thread.
 */
int vm_main(const struct config *config, struct timeline *timeline, struct jail_parent *parent);

/*
 * Builds everything that config asks for (vm_build.c), into a vm that vm_main has initialised. Returns 0 or -errno with e
 * set; vm_main frees what was built until then. Main thread, before any vCPU runs.
 */
int vm_build(struct vm *vm, struct err *e);

/* The guest has done something (an exit to us), or gets an interrupt of ours. vCPUs and loops. */
void vm_active(struct vm *vm);

/* Called for what the guest's init reports (vm_stop.c). */
extern const struct guest_client_ops vm_guest_ops;
void vm_on_foreground(void *ctx); /* one of these */

#endif
