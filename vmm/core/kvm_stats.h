/*
 * The counters that KVM keeps of each vCPU (KVM_GET_STATS_FD, Linux 5.14), such as "exits" and
 * "io_exits". They are added up over all vCPUs.
 *
 * A reference to such a descriptor did not keep the VM alive in the first kernels that had it, so
 * the process that runs the VM reads it, before the VM is freed.
 */
#ifndef MF_CORE_KVM_STATS_H
#define MF_CORE_KVM_STATS_H

#include <stddef.h>
#include <stdint.h>

#define KVM_STATS_MAX 96      /* counters that are kept; KVM has about 40 of a vCPU */
#define KVM_STATS_NAME_MAX 48 /* bytes of a name, with its NUL */
#define KVM_STATS_FDS_MAX 32

struct kvm_stats {
	unsigned num; /* 0: this kernel has none */
	struct kvm_stat {
		char name[KVM_STATS_NAME_MAX]; /* lower-case letters, digits and '_' */
		uint64_t value;
		size_t offset; /* in what read(2) returns */
	} stat[KVM_STATS_MAX];
	size_t data_size; /* bytes that hold all of them, */
	size_t data_at;	  /* and where they begin */
	int fd[KVM_STATS_FDS_MAX];
	unsigned num_fds;
};

/*
 * Adds a vCPU, by its KVM descriptor. A kernel without counters, or with ones that are not
 * understood, leaves s without any; that is no error. Before the calling thread is confined.
 */
void kvm_stats_add(struct kvm_stats *s, int vcpu_fd);

/*
 * Adds a descriptor of counters, which s owns from now on. The first one decides which counters
 * there are; another one with other counters is refused. Returns 0 or -errno.
 */
int kvm_stats_add_fd(struct kvm_stats *s, int fd);

/* Sets the values, by one pread(2) for each vCPU. A failure leaves none. */
void kvm_stats_look(struct kvm_stats *s);

/* The same, and closes the descriptors. */
void kvm_stats_read(struct kvm_stats *s);

/* The value of a counter by its name, or NULL. */
const uint64_t *kvm_stats_find(const struct kvm_stats *s, const char *name);

#endif
