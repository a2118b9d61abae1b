/*
 * The KVM objects of one VM, and the calls on them that more than one file needs. Calls
 * return 0 or -errno.
 */
#ifndef MF_CORE_KVM_H
#define MF_CORE_KVM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct mem;

#define KVM_PATH "/dev/kvm"

struct kvm {
	int fd;		 /* /dev/kvm */
	int vm_fd;	 /* the VM */
	size_t run_size; /* size of a vCPU's struct kvm_run mapping */
};

/* Opens /dev/kvm. Returns the fd, or -errno; e then says what to do about it. */
int kvm_open(struct err *e);

/*
 * kvm_probe, for KVM_INIT: opens /dev/kvm or takes it from the store (fdstore.h), checks its
 * API version and the capabilities that mayfly needs. kvm_init: the same, if that was not
 * done, and creates an empty VM, if there is none. It belongs to this process: a fork
 * cannot use it. Both return 0 or -errno with e set. kvm_done accepts KVM_INIT and a struct
 * for which they failed.
 */
int kvm_probe(struct kvm *k, struct err *e);
int kvm_init(struct kvm *k, struct err *e);
void kvm_done(struct kvm *k);

#define KVM_INIT ((struct kvm){ .fd = -1, .vm_fd = -1 })

/*
 * Gives the VM its memory. Before any interrupt controller or ioeventfd: vm.c explains
 * the order.
 */
int kvm_set_memory(struct kvm *k, const struct mem *m, struct err *e);

/*
 * Creates local APICs in the kernel, with the IOAPIC in user space and num_pins interrupt
 * routes reserved for it. Before vCPUs.
 */
int kvm_set_split_irqchip(struct kvm *k, unsigned num_pins, struct err *e);

/* Sends an MSI to the local APICs (Intel SDM 3A 11.11: address and data). Any thread. */
int kvm_signal_msi(const struct kvm *k, uint32_t address, uint32_t data);

/*
 * Makes a guest write to gpa, of any value and length, signal eventfd instead of ending
 * KVM_RUN. Any thread. Returns 0 or -errno.
 */
int kvm_ioeventfd_add(const struct kvm *k, uint64_t gpa, int eventfd);

#endif
