/*
 * The end of a VM: why it has ended, set once, by any thread. vm_stop.c has the way there when somebody asks for it.
 */
#ifndef MF_VM_VM_END_H
#define MF_VM_VM_END_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct err;
struct timeline;

/* The first reason stands. */
enum vm_end_reason {
	VM_RUNNING,
	VM_END_RESET,	     /* the guest asked for a reset (i8042, ACPI or a system event) */
	VM_END_POWEROFF,     /* the guest switched itself off (ACPI) */
	VM_END_TRIPLE_FAULT, /* how Linux reboots with reboot=t, and what a kernel's last crash looks like */
	VM_END_HALT,	     /* every vCPU waits in HLT with interrupts off */
	VM_END_KVM,	     /* KVM gave up, or an exit that we do not know */
	VM_END_QUIT,	     /* the user typed Ctrl-A x, or left the command */
	VM_END_SIGNAL,	     /* SIGTERM and its kind */
	VM_END_TIMEOUT,	     /* the time limit has passed */
	VM_END_COMMAND,	     /* the command has ended */
	VM_END_INIT,	     /* init in the guest could not do its work */
	VM_END_BOOT,	     /* the command did not start in time */
	VM_END_SNAPSHOT,     /* a snapshot is written, with which it was to end */
};

struct vm_end {
	pthread_mutex_t lock;
	atomic_int reason; /* enum vm_end_reason */
	char text[512];	   /* a phrase for the user; constant once there is a reason */
	int wake_fd;	   /* eventfd, or -1: wakes the main thread */
	struct timeline *timeline;
};

/* A VM that runs; its eventfd stays open until the process ends. Returns 0 or -errno with e set. */
int vm_end_init(struct vm_end *end, struct timeline *timeline, struct err *e);

/* Ends the VM with a reason and a phrase for the user, and wakes the main thread; the first call counts. Any thread. */
void vm_end(struct vm_end *end, enum vm_end_reason reason, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* VM_RUNNING until vm_end was called. Any thread; vCPU threads leave the guest when it is something else. */
enum vm_end_reason vm_end_reason(const struct vm_end *end);

/* Wakes the main thread, which looks at all that it may have to do. Any thread. */
void vm_end_wake(const struct vm_end *end);

#endif
