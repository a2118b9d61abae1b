/* The way to the end of a VM when a signal or the time limit asks for it; see vm_stop.c. Main thread. */
#ifndef MF_VM_VM_STOP_H
#define MF_VM_VM_STOP_H

#include <stdint.h>

#include "vmm/vm/vm_end.h"

struct vm;

struct vm_stop {
	enum vm_end_reason asked; /* VM_RUNNING: nobody has asked for the end */
	int signal;		  /* the one that asked, for VM_END_SIGNAL */
	uint64_t grace_ms;	  /* when the guest's time to end by itself is over; 0: it was not asked to */
	uint64_t int_ms;	  /* when the last SIGINT came */
};

/* How long poll(2) may wait, max_ms at most. */
int vm_stop_timeout(const struct vm *vm, int max_ms);

/* Does what is due by now: the time limit, or the end of the guest's grace time. */
void vm_stop_check(struct vm *vm);

/* A signal to mayfly has come: passes it to the command, or ends the VM. */
void vm_stop_signal(struct vm *vm, int signo);

#endif
