/*
 * A VM that runs, and others that begin as what it is now: `mayfly clone NAME` of a VM with --forkable. Its memory is not copied for
 * them but frozen, and shared by all. All of this is the main thread's.
 */
#ifndef MF_VM_VM_FORK_H
#define MF_VM_VM_FORK_H

struct err;
struct guest_fork;
struct vm;

/*
 * guest_client_ops.fork: pauses the VM, freezes its memory, writes its state, and lets it go on. What it has written since the
 * last time is copied into `memory` of files, which is kept then. A VM whose memory is lost ends.
 */
int vm_on_fork(void *ctx, int *files, unsigned num, unsigned flags, struct guest_fork *ret, struct err *e);

/*
 * Before the pause, while the guest runs: does what makes vm_fork_freeze short, if the VM's memory is shared (mem_share). Returns 0 or
 * -errno with e set.
 */
int vm_fork_prepare(struct vm *vm, struct err *e);

/*
 * The VM, which is paused, has memory that is shared: makes it that of vm->chain, and private. Returns 0 or -errno with e
 * set; if memory is lost, the VM ends.
 */
int vm_fork_freeze(struct vm *vm, struct err *e);

#endif
